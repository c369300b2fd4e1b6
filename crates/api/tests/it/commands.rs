//! Commands, and reading what they did.

use events::fact::user::{UserErased, UserRegistered};
use events::id::{CommandId, StreamKey};
use events::store::{Append, Command, Expected};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::app::{App, SOON, User, assert_problem};

async fn keyed(user: &User<'_>, key: &str, body: &Value) -> reqwest::Response {
    let request = user
        .request(Method::POST, "/v1/posts")
        .header("idempotency-key", key);
    request.json(body).send().await.unwrap()
}

#[tokio::test]
async fn a_repeat_gives_the_same_answer_and_changes_nothing() {
    let app = App::start().await;
    let ana = app.user("ana");
    let body = json!({"text": "Hola"});
    let first = keyed(&ana, "k1", &body).await;
    assert_eq!(first.status(), StatusCode::CREATED);
    let position = first.headers()["cinelog-position"].clone();
    let first: Value = first.json().await.unwrap();
    let head = app.head().await;
    let again = keyed(&ana, "k1", &body).await;
    assert_eq!(again.status(), StatusCode::CREATED);
    assert_eq!(again.headers()["cinelog-position"], position);
    assert_eq!(again.json::<Value>().await.unwrap(), first);
    assert_problem(
        keyed(&ana, "k1", &json!({"text": "Adiós"})).await,
        422,
        "idempotency-key-reused",
    )
    .await;
    assert_eq!(app.head().await, head);
}

#[tokio::test]
async fn a_post_is_found_nearby_and_by_hashtag_passed_on_and_looked_at() {
    let app = App::start().await;
    let (mut ana, mut bo) = (app.user("ana"), app.user("bo"));
    let malaga = json!({"latitude": 36.7213, "longitude": -4.4214});
    let post = ana
        .posts("/v1/posts", json!({"text": "#Feria", "location": malaga}))
        .await;
    let path = format!("/v1/posts/{}", post["id"].as_str().unwrap());
    let found = |page: &Value| page["items"][0]["id"] == post["id"];
    bo.sees("/v1/feed/nearby?lat=36.72&lon=-4.42", "it is near", found)
        .await;
    bo.sees("/v1/feed/hashtag/feria", "it has the hashtag", found)
        .await;
    let first = |page: &Value| page["items"][0]["tag"] == "feria";
    bo.sees("/v1/trending", "it is used", first).await;
    let french = bo.reads("/v1/trending?language=fr").await;
    assert_eq!(french["items"], json!([]));
    let far = bo.reads("/v1/feed/nearby?lat=40.4&lon=-3.7").await;
    assert_eq!(far["items"], json!([]));
    for _ in 0..2 {
        bo.does(Method::POST, &format!("{path}/shares"), None).await;
        bo.does(Method::POST, &format!("{path}/views"), None).await;
    }
    bo.sees(&path, "both are counted, once", |post| {
        post["counts"]["shares"] == 1 && post["counts"]["views"] == 1
    })
    .await;
    let bad = json!({"text": "a", "location": {"latitude": 91, "longitude": 0}});
    let refused = ana.request(Method::POST, "/v1/posts").json(&bad);
    assert_problem(refused.send().await.unwrap(), 422, "invalid-field").await;
}

#[tokio::test]
async fn the_top_of_a_feed_is_what_most_goes_on_under_and_stays_in_its_order() {
    let app = App::start().await;
    let mut ana = app.user("ana");
    let mut posts = vec![];
    for n in 0..5 {
        let text = json!({"text": format!("number {n}")});
        posts.push(ana.posts("/v1/posts", text).await["id"].clone());
    }
    let share = async |ana: &mut User<'_>, post: &Value| {
        let path = format!("/v1/posts/{}/shares", post.as_str().unwrap());
        ana.does(Method::POST, &path, None).await;
    };
    share(&mut ana, &posts[1]).await;
    let first = |post: &Value| {
        let post = post.clone();
        move |page: &Value| page["items"][0]["id"] == post
    };
    let top = "/v1/feed?order=top&limit=2";
    let page = ana.sees(top, "it was shared", first(&posts[1])).await;
    // Of the others nobody took notice: the newest comes first.
    assert_eq!(page["items"][1]["id"], posts[4]);

    share(&mut ana, &posts[0]).await;
    ana.sees(top, "it was shared too", |page| {
        page["items"][1]["id"] == posts[0]
    })
    .await;
    let mut ids = vec![];
    let mut next = page["next"].clone();
    while let Some(path) = next.as_str() {
        let page = ana.reads(path).await;
        let items = page["items"].as_array().unwrap().iter();
        ids.extend(items.map(|post| post["id"].clone()));
        next = page["next"].clone();
    }
    assert_eq!(ids, [&posts[3], &posts[2], &posts[0]].map(Value::clone));

    for _ in 0..4 {
        ana.reads(top).await;
    }
    let old = ana.request(Method::GET, page["next"].as_str().unwrap());
    assert_problem(old.send().await.unwrap(), 410, "cursor-expired").await;
}

#[tokio::test]
async fn a_page_of_the_top_leaves_out_who_was_muted_or_left_since_the_first() {
    let app = App::start().await;
    let mut bo = app.user("bo");
    let mut ids = vec![];
    for name in ["left", "muted", "kept", "first"] {
        let mut author = app.user(name);
        author.posts("/v1/posts", json!({"text": "Hola"})).await;
        bo.puts(&format!("/v1/users/{}/follow", author.id)).await;
        ids.push(author.id.to_string());
    }
    let are = |count: usize| move |page: &Value| page["items"].as_array().unwrap().len() == count;
    bo.sees("/v1/feed", "all are there", are(4)).await;
    let page = bo.reads("/v1/feed?order=top&limit=1").await;
    assert_eq!(page["items"][0]["author"]["id"], *ids[3]);
    let rest = page["next"].as_str().unwrap();
    let rest = rest.replace("limit=1", "limit=9");
    bo.sees(&rest, "the others are there", are(3)).await;
    bo.deletes(&format!("/v1/users/{}/follow", ids[0])).await;
    bo.puts(&format!("/v1/users/{}/mute", ids[1])).await;
    let page = bo.sees(&rest, "two are left out", are(1)).await;
    assert_eq!(page["items"][0]["author"]["id"], *ids[2]);
}

#[tokio::test]
async fn a_post_goes_all_the_way_to_the_feed_and_to_search() {
    let app = App::start().await;
    let (mut ana, mut bo) = (app.user("ana"), app.user("bo"));
    ana.does(Method::PATCH, "/v1/users/me", Some(json!({"name": "Ana"})))
        .await;
    assert_eq!(
        bo.puts(&format!("/v1/users/{}/follow", ana.id)).await["state"],
        "following"
    );
    let post = ana
        .posts(
            "/v1/posts",
            json!({"text": "Un camión rojo #rojo", "language": "es"}),
        )
        .await;
    let path = format!("/v1/posts/{}", post["id"].as_str().unwrap());
    let own = ana.reads(&path).await;
    assert_eq!(
        (own["text"].as_str(), own["author"]["name"].as_str()),
        (Some("Un camión rojo #rojo"), Some("Ana"))
    );
    let feed = bo
        .sees("/v1/feed", "the follower's feed shows the post", |page| {
            page["items"] != json!([])
        })
        .await;
    assert_eq!(feed["items"][0]["id"], post["id"]);
    let found = |page: &Value| page["items"][0]["post"]["id"] == post["id"];
    bo.sees("/v1/search?q=camiones", "search finds the post", found)
        .await;
    let found = bo.reads("/v1/search?q=camiones&facets=true").await;
    assert_eq!(
        found["items"][0]["snippet"],
        "Un <mark>camión</mark> rojo #rojo"
    );
    let counted = json!([{"value": "rojo", "count": 1}]);
    assert_eq!(found["facets"]["hashtag"], counted);
    let misspelt = bo.reads("/v1/search?q=camoin").await;
    assert_eq!(misspelt["did_you_mean"], "camión");
    let completed = bo.reads("/v1/search/complete?q=un+cam").await;
    assert_eq!(completed["words"], json!(["camión"]));
    let tagged = bo.reads("/v1/search/complete?q=%23ro").await;
    assert_eq!(tagged["hashtags"], json!(["rojo"]));

    let comment = bo
        .posts(&format!("{path}/comments"), json!({"text": "¡Qué bonito!"}))
        .await;
    bo.puts(&format!("{path}/reactions/love")).await;
    let seen = bo.reads(&path).await;
    assert_eq!(
        (&seen["counts"]["comments"], &seen["counts"]["mine"]),
        (&json!(1), &json!("love"))
    );
    let comments = bo.reads(&format!("{path}/comments")).await;
    assert_eq!(comments["items"][0]["id"], comment["id"]);
    bo.deletes(&format!("{path}/reactions/love")).await;
    assert_eq!(bo.reads(&path).await["counts"]["mine"], Value::Null);

    ana.deletes(&path).await;
    let gone = ana.request(Method::GET, &path).send().await.unwrap();
    assert_problem(gone, 404, "post-not-found").await;
}

#[tokio::test]
async fn two_likes_make_one_match() {
    let app = App::start().await;
    let (mut ana, mut bo) = (app.user("ana"), app.user("bo"));
    for user in [&mut ana, &mut bo] {
        user.does(Method::PATCH, "/v1/users/me", Some(json!({"bio": "Hola"})))
            .await;
    }
    let (ana_id, bo_id) = (ana.id, bo.id);
    let candidate = |page: &Value| page["items"][0]["id"] == bo_id.to_string();
    ana.sees(
        "/v1/matches/candidates",
        "the other is a candidate",
        candidate,
    )
    .await;
    assert_eq!(
        ana.posts("/v1/matches/likes", json!({"user": bo.id})).await["matched"],
        false
    );
    assert_eq!(
        bo.posts(
            "/v1/matches/likes",
            json!({"user": ana.id, "kind": "super"})
        )
        .await["matched"],
        true
    );
    assert_eq!(
        bo.reads("/v1/matches").await["items"][0]["id"],
        ana.id.to_string()
    );
    // To like again changes nothing, and they are still matched.
    for (user, other) in [(&mut ana, bo_id), (&mut bo, ana_id)] {
        let liked = user
            .posts("/v1/matches/likes", json!({"user": other}))
            .await;
        assert_eq!(liked["matched"], true);
    }
    bo.deletes(&format!("/v1/matches/{}", ana.id)).await;
    assert_eq!(bo.reads("/v1/matches").await["items"], json!([]));
}

#[tokio::test]
async fn a_private_account_lets_followers_in() {
    let app = App::start().await;
    let (mut ana, mut bo) = (app.user("ana"), app.user("bo"));
    ana.does(
        Method::PATCH,
        "/v1/users/me",
        Some(json!({"private": true})),
    )
    .await;
    assert_eq!(
        bo.puts(&format!("/v1/users/{}/follow", ana.id)).await["state"],
        "requested"
    );
    let asked = |page: &Value| page["items"][0]["id"] == bo.id.to_string();
    ana.sees("/v1/follow-requests", "the request is there", asked)
        .await;
    ana.puts(&format!("/v1/follow-requests/{}", bo.id)).await;
    assert_eq!(ana.reads("/v1/users/me").await["followers"], 1);
    assert_eq!(
        bo.puts(&format!("/v1/users/{}/follow", ana.id)).await["state"],
        "following"
    );
}

#[tokio::test]
async fn pages_follow_one_another_to_the_end() {
    let app = App::start().await;
    let mut ana = app.user("ana");
    for n in 0..5 {
        ana.posts("/v1/posts", json!({"text": format!("post {n}")}))
            .await;
    }
    let all = |page: &Value| page["items"].as_array().unwrap().len() == 5;
    ana.sees("/v1/feed", "all five are in the feed", all).await;
    let (mut path, mut texts) = ("/v1/feed?limit=2".to_owned(), vec![]);
    loop {
        let response = ana.request(Method::GET, &path).send().await.unwrap();
        let link = response
            .headers()
            .get("link")
            .map(|link| link.to_str().unwrap().to_owned());
        let page: Value = response.json().await.unwrap();
        texts.extend(
            page["items"]
                .as_array()
                .unwrap()
                .iter()
                .map(|post| post["text"].as_str().unwrap().to_owned()),
        );
        let Some(next) = page["next"].as_str() else {
            break;
        };
        assert_eq!(link, Some(format!("<{next}>; rel=\"next\"")));
        path = next.to_owned();
    }
    assert_eq!(texts, ["post 4", "post 3", "post 2", "post 1", "post 0"]);
    // A cursor is bound to its list and its reader.
    let elsewhere = path.replace("/v1/feed", "/v1/assets");
    assert_problem(
        ana.request(Method::GET, &elsewhere).send().await.unwrap(),
        400,
        "cursor-invalid",
    )
    .await;
    let stranger = app.user("bo");
    assert_problem(
        stranger.request(Method::GET, &path).send().await.unwrap(),
        400,
        "cursor-invalid",
    )
    .await;
}

#[tokio::test]
async fn an_unchanged_answer_is_not_sent_again() {
    let app = App::start().await;
    let mut ana = app.user("ana");
    ana.does(Method::PATCH, "/v1/users/me", Some(json!({"name": "Ana"})))
        .await;
    let first = ana
        .request(Method::GET, "/v1/users/me")
        .send()
        .await
        .unwrap();
    let etag = first.headers()["etag"].clone();
    let again = ana
        .request(Method::GET, "/v1/users/me")
        .header("if-none-match", &etag)
        .send()
        .await
        .unwrap();
    assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
    ana.does(Method::PATCH, "/v1/users/me", Some(json!({"name": "Anna"})))
        .await;
    let changed = ana
        .request(Method::GET, "/v1/users/me")
        .header("if-none-match", &etag)
        .send()
        .await
        .unwrap();
    assert_eq!(changed.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_read_that_cannot_wait_long_enough_says_so() {
    let app = App::start().await;
    let mut ana = app.user("ana");
    let post = ana.posts("/v1/posts", json!({"text": "before"})).await;
    let path = format!("/v1/posts/{}", post["id"].as_str().unwrap());
    testing::wait::until_true(SOON, "it is there, and all of it", async || {
        let read = ana.request(Method::GET, &path).send().await.unwrap();
        read.status() == StatusCode::OK && !read.headers().contains_key("cinelog-stale")
    })
    .await;
    assert!(app.projecting.finish(SOON).await);
    ana.does(Method::PATCH, &path, Some(json!({"text": "after"})))
        .await;
    let stale = ana.request(Method::GET, &path).send().await.unwrap();
    assert_eq!(stale.headers()["cinelog-stale"], "true");
    // How far behind it is, is told once that has been looked at.
    testing::wait::until_true(SOON, "it says how far behind it is", async || {
        let read = ana
            .request(Method::GET, "/v1/search?q=nothing")
            .send()
            .await
            .unwrap();
        let behind = read.headers().get("cinelog-behind");
        behind.is_some_and(|seconds| seconds.to_str().unwrap().parse::<f64>().unwrap() > 0.0)
    })
    .await;
    assert_eq!(stale.json::<Value>().await.unwrap()["text"], "before");
}

#[tokio::test]
async fn a_position_is_one_in_every_lane_that_a_command_wrote_to() {
    let app = App::start().await;
    assert!(app.projecting.finish(SOON).await);
    let all = "SELECT DISTINCT ON (lane) lane, position FROM log.events
        WHERE position > $1 ORDER BY lane, position DESC";
    for name in ["ana", "bo", "cleo", "dan"] {
        let mut user = app.user(name);
        let head = app.head().await;
        user.posts("/v1/posts", json!({"text": "first"})).await;
        let lanes: Vec<(i16, i64)> = sqlx::query_as(all)
            .bind(head)
            .fetch_all(&app.owner)
            .await
            .unwrap();
        // Each time the read model has taken in one lane more.
        for (lane, position) in &lanes {
            let read = user.request(Method::GET, "/v1/feed").send().await.unwrap();
            assert_eq!(read.headers()["cinelog-stale"], "true", "{lanes:?}");
            sqlx::query("UPDATE subscription.checkpoints SET position = $2 WHERE lane = $1")
                .bind(lane)
                .bind(position)
                .execute(&app.owner)
                .await
                .unwrap();
        }
        let read = user.request(Method::GET, "/v1/feed").send().await.unwrap();
        assert_eq!(read.headers().get("cinelog-stale"), None, "{lanes:?}");
    }
}

#[tokio::test]
async fn an_etag_is_of_the_person_and_not_of_the_token() {
    let app = App::start().await;
    let mut ana = app.user("ana");
    ana.posts("/v1/posts", json!({"text": "one"})).await;
    let tag = async |user: &User<'_>| {
        let response = user
            .request(Method::GET, "/v1/search?q=nothing")
            .send()
            .await
            .unwrap();
        response.headers()["etag"].clone()
    };
    let renewed = app.user_for(app.tenant, "ana", std::time::Duration::from_hours(1));
    assert_ne!(renewed.token, ana.token);
    assert_eq!(tag(&ana).await, tag(&renewed).await);
    assert_ne!(tag(&ana).await, tag(&app.user("bo")).await);
}

#[tokio::test]
async fn simultaneous_first_commands_register_once_and_repeats_publish_once() {
    let app = App::start().await;
    let ana = app.user("ana");
    let body = json!({"text": "Hola"});
    let same = futures::future::join_all((0..8).map(|_| keyed(&ana, "same", &body))).await;
    let mut ids = std::collections::BTreeSet::new();
    for response in same {
        assert_eq!(response.status(), StatusCode::CREATED);
        let post: Value = response.json().await.unwrap();
        ids.insert(post["id"].as_str().unwrap().to_owned());
    }
    assert_eq!(ids.len(), 1);
    let types: Vec<String> = sqlx::query_scalar("SELECT type FROM log.events ORDER BY position")
        .fetch_all(&app.owner)
        .await
        .unwrap();
    assert_eq!(types, ["user.registered", "post.published"]);
}

#[tokio::test]
async fn who_was_erased_is_told_so_and_changes_nothing() {
    let app = App::start().await;
    let ana = app.user("ana");
    let stream = StreamKey::user(ana.id);
    let facts = vec![
        UserRegistered {
            user: ana.id,
            issuer: "cinelog".to_owned(),
            account: "ana".into(),
        }
        .into(),
        UserErased { user: ana.id }.into(),
    ];
    let command = Command {
        id: CommandId {
            tenant: app.tenant,
            actor: ana.id,
            route: "test".to_owned(),
            key: "erase".to_owned(),
        },
        body_hash: [0; 32],
        correlation: None,
        cause: None,
    };
    let expected = Expected::NoStream;
    let append = Append {
        stream,
        expected,
        facts,
    };
    app.log.append(&command, vec![append]).await.unwrap();
    let head = app.head().await;
    for _ in 0..2 {
        let refused = keyed(&ana, "k1", &json!({"text": "Hola"})).await;
        assert_problem(refused, 403, "forbidden").await;
    }
    assert_eq!(app.head().await, head);
}
