//! What people are to each other: follows, blocks, mutes, likes.

use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};

use crate::app::{App, User, assert_problem};

async fn asks(user: &User<'_>, method: Method, path: &str, body: Option<Value>) -> Response {
    let request = user.request(method, path);
    let request = match body {
        Some(body) => request.json(&body),
        None => request,
    };
    request.send().await.unwrap()
}

async fn named(user: &mut User<'_>, name: &str) {
    user.does(Method::PATCH, "/v1/users/me", Some(json!({"name": name})))
        .await;
}

fn ids(page: &Value) -> Vec<&str> {
    let items = page["items"].as_array().unwrap().iter();
    items.map(|item| item["id"].as_str().unwrap()).collect()
}

async fn post(user: &mut User<'_>, text: &str) -> String {
    let post = user.posts("/v1/posts", json!({"text": text})).await;
    post["id"].as_str().unwrap().to_owned()
}

async fn comment(user: &mut User<'_>, post: &str) -> String {
    let comment = user
        .posts(&format!("/v1/posts/{post}/comments"), json!({"text": "sí"}))
        .await;
    comment["id"].as_str().unwrap().to_owned()
}

/// What someone who is blocked asks for, each a line: method, path, what is not there. `{u}`, `{p}` and `{c}` stand for who
/// blocks, a post of theirs and a comment of theirs on `{q}`, a post of somebody else's.
const OUT_OF_SIGHT: &str = "
    GET    /v1/users/{u}                     user
    GET    /v1/users/{u}/posts               user
    GET    /v1/users/{u}/followers           user
    GET    /v1/users/{u}/following           user
    PUT    /v1/users/{u}/follow              user
    POST   /v1/matches/likes                 user
    POST   /v1/matches/passes                user
    GET    /v1/posts/{p}                     post
    GET    /v1/posts/{p}/comments            post
    POST   /v1/posts/{p}/comments            post
    GET    /v1/posts/{p}/reactions           post
    PUT    /v1/posts/{p}/reactions/like      post
    DELETE /v1/posts/{p}                     post
    POST   /v1/posts/{q}/comments            comment
    PUT    /v1/comments/{c}/reactions/like   comment
    GET    /v1/comments/{c}/reactions        comment
    PATCH  /v1/comments/{c}                  comment
    DELETE /v1/comments/{c}                  comment
";

#[tokio::test]
async fn to_who_is_blocked_the_other_is_not_there() {
    let app = App::start().await;
    let (mut ana, mut bo, mut cleo) = (app.user("ana"), app.user("bo"), app.user("cleo"));
    named(&mut bo, "Bo").await;
    let of_ana = post(&mut ana, "gato").await;
    let of_cleo = post(&mut cleo, "perro").await;
    let said = comment(&mut ana, &of_cleo).await;
    let answer = |path: &str| match path {
        "/v1/matches/likes" | "/v1/matches/passes" => json!({"user": ana.id}),
        "/v1/posts/{q}/comments" => json!({"text": "no", "parent": said}),
        _ => json!({"text": "no"}),
    };
    let lines: Vec<(Method, &str, String, Value)> = OUT_OF_SIGHT
        .trim()
        .lines()
        .map(|line| {
            let [method, path, thing] = line.split_whitespace().collect::<Vec<_>>()[..] else {
                panic!("{line}")
            };
            let whole = path
                .replace("{u}", &ana.id.to_string())
                .replace("{p}", &of_ana)
                .replace("{q}", &of_cleo)
                .replace("{c}", &said);
            (method.parse().unwrap(), thing, whole, answer(path))
        })
        .collect();
    ana.puts(&format!("/v1/users/{}/block", bo.id)).await;
    // Who blocks reads at once what it did, and the read models are then there for the other too.
    assert_eq!(
        ids(&ana.reads("/v1/users/me/blocks").await),
        [bo.id.to_string()]
    );
    ana.reads(&format!("/v1/posts/{of_cleo}/comments")).await;
    let head = app.head().await;
    for (method, thing, path, body) in &lines {
        println!("{method} {path}");
        let body = matches!(*method, Method::POST | Method::PATCH).then(|| body.clone());
        let answer = asks(&bo, method.clone(), path, body).await;
        assert_problem(answer, 404, &format!("{thing}-not-found")).await;
    }
    for list in ["/v1/feed", "/v1/search?q=gato", "/v1/matches/candidates"] {
        let page = bo.reads(list).await;
        assert!(
            !page.to_string().contains(&ana.id.to_string()),
            "{list}: {page}"
        );
    }
    let comments = bo.reads(&format!("/v1/posts/{of_cleo}/comments")).await;
    assert_eq!(comments["items"], json!([]));
    assert_eq!(app.head().await, head);

    // Who blocks sees whom, and what there is to end.
    let profile = ana.reads(&format!("/v1/users/{}", bo.id)).await;
    assert_eq!(
        (&profile["name"], &profile["blocked"]),
        (&json!("Bo"), &json!(true))
    );
    ana.deletes(&format!("/v1/users/{}/block", bo.id)).await;
    ana.reads(&format!("/v1/posts/{of_cleo}/comments")).await;
    bo.puts(&format!("/v1/users/{}/follow", ana.id)).await;
    let (path, text) = (format!("/v1/posts/{of_cleo}/comments"), "sí");
    bo.posts(&path, json!({"text": text, "parent": said})).await;
    assert_eq!(bo.reads(&path).await["items"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn what_is_taken_back_can_be_taken_back_across_a_block() {
    let app = App::start().await;
    let (mut ana, mut bo) = (app.user("ana"), app.user("bo"));
    let of_ana = post(&mut ana, "gato").await;
    let said = comment(&mut bo, &of_ana).await;
    let love = format!("/v1/posts/{of_ana}/reactions/love");
    bo.puts(&love).await;
    bo.puts(&format!("/v1/users/{}/follow", ana.id)).await;
    bo.posts("/v1/matches/likes", json!({"user": ana.id})).await;
    ana.posts("/v1/matches/likes", json!({"user": bo.id})).await;
    ana.puts(&format!("/v1/users/{}/block", bo.id)).await;
    assert_eq!(ana.reads("/v1/matches").await["items"], json!([]));
    assert_eq!(
        ana.reads("/v1/users/me/followers").await["items"],
        json!([])
    );
    for path in [
        love,
        format!("/v1/users/{}/follow", ana.id),
        format!("/v1/comments/{said}"),
        format!("/v1/matches/{}", ana.id),
    ] {
        bo.deletes(&path).await;
    }
    ana.deletes(&format!("/v1/users/{}/block", bo.id)).await;
    let seen = ana.reads(&format!("/v1/posts/{of_ana}")).await;
    assert_eq!(
        seen["counts"],
        json!({"comments": 0, "shares": 0, "views": 0, "reactions": {}, "mine": null})
    );
}

#[tokio::test]
async fn a_feed_loses_the_posts_of_who_is_blocked_and_gets_them_back() {
    let app = App::start().await;
    let (mut ana, mut bo) = (app.user("ana"), app.user("bo"));
    let (of_ana, of_bo) = (post(&mut ana, "gato").await, post(&mut bo, "perro").await);
    for (user, other) in [(&mut ana, bo.id), (&mut bo, app.user("ana").id)] {
        user.puts(&format!("/v1/users/{other}/follow")).await;
    }
    let both = |page: &Value| ids(page).len() == 2;
    ana.sees("/v1/feed", "the feed shows both posts", both)
        .await;
    bo.sees("/v1/feed", "the feed shows both posts", both).await;
    let head = app.head().await;
    let block = format!("/v1/users/{}/block", bo.id);
    // To ask twice is to ask once.
    for _ in 0..2 {
        ana.puts(&block).await;
        assert_eq!(ids(&ana.reads("/v1/feed").await), [&*of_ana]);
        assert_eq!(app.head().await, head + 1);
    }
    let one = |page: &Value| ids(page) == [&*of_bo];
    bo.sees("/v1/feed", "the other's feed has lost the post", one)
        .await;
    for _ in 0..2 {
        ana.deletes(&block).await;
        assert_eq!(ids(&ana.reads("/v1/feed").await).len(), 2);
        assert_eq!(app.head().await, head + 2);
    }
    bo.sees("/v1/feed", "the other's feed shows it again", both)
        .await;
}

#[tokio::test]
async fn a_mute_concerns_the_feed_alone() {
    let app = App::start().await;
    let (mut ana, mut bo) = (app.user("ana"), app.user("bo"));
    named(&mut bo, "Bo").await;
    let of_bo = post(&mut bo, "perro").await;
    ana.puts(&format!("/v1/users/{}/follow", bo.id)).await;
    let mute = format!("/v1/users/{}/mute", bo.id);
    let shown = |page: &Value| ids(page) == [&*of_bo];
    ana.sees("/v1/feed", "the feed shows the post", shown).await;
    let head = app.head().await;
    for _ in 0..2 {
        ana.puts(&mute).await;
        assert_eq!(ana.reads("/v1/feed").await["items"], json!([]));
        assert_eq!(app.head().await, head + 1);
    }
    assert_eq!(
        ana.reads("/v1/users/me/mutes").await["items"][0]["name"],
        "Bo"
    );
    let profile = ana.reads(&format!("/v1/users/{}", bo.id)).await;
    assert_eq!(
        (&profile["muted"], &profile["relation"]),
        (&json!(true), &json!("following"))
    );
    assert_eq!(
        ids(&ana.reads(&format!("/v1/users/{}/posts", bo.id)).await),
        [&*of_bo]
    );
    ana.posts(
        &format!("/v1/posts/{of_bo}/comments"),
        json!({"text": "sí"}),
    )
    .await;
    let head = app.head().await;
    for _ in 0..2 {
        ana.deletes(&mute).await;
        assert!(shown(&ana.reads("/v1/feed").await));
        assert_eq!(app.head().await, head + 1);
    }
    assert_eq!(ana.reads("/v1/users/me/mutes").await["items"], json!([]));
}

#[tokio::test]
async fn nobody_blocks_or_mutes_themselves_or_a_stranger() {
    let app = App::start().await;
    let ana = app.user("ana");
    for what in ["block", "mute"] {
        let own = format!("/v1/users/{}/{what}", ana.id);
        let problem = assert_problem(
            asks(&ana, Method::PUT, &own, None).await,
            422,
            "invalid-field",
        );
        assert_eq!(problem.await["errors"][0]["pointer"], "/id");
        let stranger = format!("/v1/users/{}/{what}", app.user("nobody").id);
        let answer = asks(&ana, Method::PUT, &stranger, None).await;
        assert_problem(answer, 404, "user-not-found").await;
        let answer = asks(&ana, Method::DELETE, &stranger, None).await;
        assert_eq!(answer.status(), StatusCode::NO_CONTENT);
        let answer = asks(&ana, Method::PUT, &format!("/v1/users/bo/{what}"), None).await;
        assert_problem(answer, 400, "malformed-request").await;
    }
    let unclear = format!("/v1/users/{}/followers?mutual=perhaps", ana.id);
    let answer = asks(&ana, Method::GET, &unclear, None).await;
    assert_problem(answer, 400, "malformed-request").await;
    assert_eq!(app.head().await, 0);
}

#[tokio::test]
async fn a_request_across_a_block_is_not_there() {
    let app = App::start().await;
    let (mut ana, mut bo) = (app.user("ana"), app.user("bo"));
    ana.does(
        Method::PATCH,
        "/v1/users/me",
        Some(json!({"private": true})),
    )
    .await;
    bo.puts(&format!("/v1/users/{}/follow", ana.id)).await;
    ana.puts(&format!("/v1/users/{}/block", bo.id)).await;
    assert_eq!(ana.reads("/v1/follow-requests").await["items"], json!([]));
    let request = format!("/v1/follow-requests/{}", bo.id);
    let answer = asks(&ana, Method::PUT, &request, None).await;
    assert_problem(answer, 404, "follow-request-not-found").await;
    ana.deletes(&format!("/v1/users/{}/block", bo.id)).await;
    assert_eq!(
        ids(&ana.reads("/v1/follow-requests").await),
        [bo.id.to_string()]
    );
    ana.puts(&request).await;
}

#[tokio::test]
async fn friends_of_friends_are_suggested_and_known_followers_named() {
    let app = App::start().await;
    let names = ["ana", "bo", "cleo", "dan", "eva"];
    let mut all = names.map(|name| app.user(name));
    for (user, name) in all.iter_mut().zip(names) {
        named(user, name).await;
    }
    let id = all.each_ref().map(|user| user.id);
    // ana follows bo and cleo; both follow dan, bo follows eva.
    for (follower, followee) in [(0, 1), (0, 2), (1, 3), (1, 4), (2, 3)] {
        all[follower]
            .puts(&format!("/v1/users/{}/follow", id[followee]))
            .await;
    }
    let ana = all[0].clone();
    // Every follow has a lane of its own: one may be seen before another.
    let whole = |page: &Value| ids(page).len() == 2 && page["items"][0]["common"] == 2;
    let first = ana
        .sees("/v1/suggestions", "both are suggested", whole)
        .await;
    let dan = json!({"id": id[3], "name": "dan", "common": 2});
    let eva = json!({"id": id[4], "name": "eva", "common": 1});
    assert_eq!(first["items"], json!([dan, eva]));
    let page = ana.reads("/v1/suggestions?limit=1").await;
    let next = ana.reads(page["next"].as_str().unwrap()).await;
    assert_eq!(
        (&page["items"], &next["items"]),
        (&json!([dan]), &json!([eva]))
    );
    assert_eq!(next["next"], Value::Null);

    let known = format!("/v1/users/{}/followers?mutual=true", id[3]);
    let page = ana.reads(&format!("{known}&limit=1")).await;
    let next = ana.reads(page["next"].as_str().unwrap()).await;
    let both = [ids(&page), ids(&next)].concat();
    assert_eq!(both, [id[2].to_string(), id[1].to_string()]);
    assert_eq!(all[4].reads(&known).await["items"], json!([]));

    let ana = &mut all[0];
    ana.puts(&format!("/v1/users/{}/block", id[3])).await;
    assert_eq!(ana.reads("/v1/suggestions").await["items"], json!([eva]));
}

#[tokio::test]
async fn candidates_have_a_score_and_super_likes_show_to_the_other_side() {
    let app = App::start().await;
    let (mut ana, mut bo, mut cleo) = (app.user("ana"), app.user("bo"), app.user("cleo"));
    for (user, place) in [(&mut ana, "Cádiz"), (&mut bo, "cádiz"), (&mut cleo, "Lima")] {
        let profile = json!({"place": place, "language": "es"});
        user.does(Method::PATCH, "/v1/users/me", Some(profile))
            .await;
        user.posts("/v1/posts", json!({"text": "#gato"})).await;
    }
    // Posts are told of in another lane than profiles: each comes in its own time.
    let whole = |page: &Value| {
        let items = page["items"].as_array().unwrap();
        items.len() == 2 && items.iter().all(|one| one["score"].as_u64() >= Some(60))
    };
    let path = "/v1/matches/candidates";
    let page = ana
        .sees(path, "both are candidates for what they post", whole)
        .await;
    let scores: Vec<(&str, u64)> = page["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (one["id"].as_str().unwrap(), one["score"].as_u64().unwrap()))
        .collect();
    let (of_bo, of_cleo) = (bo.id.to_string(), cleo.id.to_string());
    assert_eq!(scores, [(&*of_bo, 100), (&*of_cleo, 75)]);
    let first = ana.reads(&format!("{path}?limit=1")).await;
    let next = ana.reads(first["next"].as_str().unwrap()).await;
    assert_eq!((ids(&first), ids(&next)), (vec![&*of_bo], vec![&*of_cleo]));

    bo.posts(
        "/v1/matches/likes",
        json!({"user": ana.id, "kind": "super"}),
    )
    .await;
    cleo.posts("/v1/matches/likes", json!({"user": ana.id}))
        .await;
    let told = |page: &Value| ids(page) == [&*of_bo];
    ana.sees("/v1/matches/likes", "of a super-like one is told", told)
        .await;
    let head = app.head().await;
    for _ in 0..2 {
        ana.posts("/v1/matches/passes", json!({"user": bo.id}))
            .await;
        assert_eq!(app.head().await, head + 1);
    }
    assert_eq!(ana.reads("/v1/matches/likes").await["items"], json!([]));
    assert_eq!(ids(&ana.reads(path).await), [&*of_cleo]);
}

#[tokio::test]
async fn likes_at_the_same_moment_make_one_match() {
    let app = App::start().await;
    let (mut ana, mut bo) = (app.user("ana"), app.user("bo"));
    for user in [&mut ana, &mut bo] {
        named(user, "someone").await;
    }
    for round in 1..=5 {
        let like = async |user: &User<'_>, other| {
            let answer = asks(
                user,
                Method::POST,
                "/v1/matches/likes",
                Some(json!({"user": other})),
            )
            .await;
            assert_eq!(answer.status(), StatusCode::CREATED);
            answer.json::<Value>().await.unwrap()["matched"] == true
        };
        let (one, other) = tokio::join!(like(&ana, bo.id), like(&bo, ana.id));
        assert!(one || other, "the later one is told");
        let made: i64 =
            sqlx::query_scalar("SELECT count(*) FROM log.events WHERE type = 'match.made'")
                .fetch_one(&app.owner)
                .await
                .unwrap();
        assert_eq!(made, round);
        // Each takes its like back, so that the next round begins anew.
        let (of_ana, of_bo) = (ana.id, bo.id);
        ana.deletes(&format!("/v1/matches/{of_bo}")).await;
        bo.posts("/v1/matches/passes", json!({"user": of_ana}))
            .await;
    }
}
