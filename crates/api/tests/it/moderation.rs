//! Reports, hiding and suspending.

use std::time::Duration;

use api::auth::Role;
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};
use service::clock::Clock;

use crate::app::{App, User, assert_problem};

const LONG: Duration = Duration::from_mins(10);

fn moderator(app: &App) -> User<'_> {
    app.bearer(app.tenant, "mo", &[Role::Moderator], LONG)
}

async fn post(user: &User<'_>, path: &str, body: Value) -> Response {
    let request = user.request(Method::POST, path).json(&body);
    request.send().await.unwrap()
}

async fn get(user: &User<'_>, path: &str) -> Response {
    user.request(Method::GET, path).send().await.unwrap()
}

/// A post of the user's, by its path and its id.
async fn published(user: &mut User<'_>, text: &str) -> (String, String) {
    let post = user
        .posts("/v1/posts", json!({"text": text, "language": "es"}))
        .await;
    let id = post["id"].as_str().unwrap().to_owned();
    (format!("/v1/posts/{id}"), id)
}

#[tokio::test]
async fn moderating_is_for_the_role_in_its_tenant() {
    let app = App::start().await;
    let mut ana = app.user("ana");
    let (_, id) = published(&mut ana, "Hola").await;
    let second = app.second_tenant().await;
    let elsewhere = app.bearer(second, "mo", &[Role::Moderator], LONG);
    let others = [Role::Member, Role::Operator, Role::Data, Role::DataGlobal];
    let other = app.bearer(app.tenant, "bo", &others, LONG);
    let head = app.head().await;
    for (path, body) in [
        ("hide", json!({"post": id, "reason": "spam"})),
        ("restore", json!({"post": id})),
        ("suspend", json!({"user": ana.id, "reason": "spam"})),
    ] {
        let path = format!("/v1/moderation/{path}");
        for user in [&ana, &other] {
            assert_problem(post(user, &path, body.clone()).await, 403, "forbidden").await;
        }
        let thing = if body["user"].is_null() {
            "post"
        } else {
            "user"
        };
        let slug = format!("{thing}-not-found");
        assert_problem(post(&elsewhere, &path, body).await, 404, &slug).await;
    }
    assert_problem(get(&ana, "/v1/moderation/queue").await, 403, "forbidden").await;
    assert_problem(get(&other, "/v1/moderation/queue").await, 403, "forbidden").await;
    assert_eq!(app.head().await, head);
}

#[tokio::test]
async fn a_hidden_post_is_gone_at_once_and_comes_back() {
    let app = App::start().await;
    let (mut ana, mut bo, mut mo) = (app.user("ana"), app.user("bo"), moderator(&app));
    let (path, id) = published(&mut ana, "Un camión rojo").await;
    bo.puts(&format!("/v1/users/{}/follow", ana.id)).await;
    bo.posts(&format!("{path}/comments"), json!({"text": "¡sí!"}))
        .await;
    let shown = |page: &Value| page["items"] != json!([]);
    bo.sees("/v1/feed", "the feed shows it", shown).await;
    bo.sees("/v1/search?q=camiones", "search finds it", shown)
        .await;

    let hide = json!({"post": id, "reason": "violence"});
    mo.posts("/v1/moderation/hide", hide.clone()).await;
    bo.knows(&mo);
    for gone in [
        &path,
        &format!("{path}/comments"),
        &format!("{path}/reactions"),
    ] {
        assert_problem(get(&bo, gone).await, 404, "post-not-found").await;
    }
    let posts = format!("/v1/users/{}/posts", ana.id);
    for list in ["/v1/feed", "/v1/search?q=camiones", &posts] {
        assert_eq!(bo.reads(list).await["items"], json!([]), "{list}");
    }
    let answer = post(&bo, &format!("{path}/comments"), json!({"text": "?"})).await;
    assert_problem(answer, 404, "post-not-found").await;
    let report = post(&bo, &format!("{path}/reports"), json!({"reason": "spam"})).await;
    assert_problem(report, 404, "post-not-found").await;
    // Its author sees it, sees why others do not, and may change it.
    ana.knows(&mo);
    assert_eq!(ana.reads(&path).await["hidden"], true);
    let change = json!({"text": "Un camión azul"});
    ana.does(Method::PATCH, &path, Some(change)).await;
    let head = app.head().await;
    mo.posts("/v1/moderation/hide", hide).await;
    assert_eq!(app.head().await, head, "hiding twice is hiding");

    mo.posts("/v1/moderation/restore", json!({"post": id}))
        .await;
    bo.knows(&mo);
    let read = bo.reads(&path).await;
    assert_eq!(
        (&read["text"], &read["hidden"]),
        (&json!("Un camión azul"), &json!(false))
    );
    for list in ["/v1/feed", "/v1/search?q=camiones", &posts] {
        assert_eq!(
            bo.reads(list).await["items"].as_array().unwrap().len(),
            1,
            "{list}"
        );
    }
}

#[tokio::test]
async fn a_report_waits_in_the_queue_until_it_is_answered() {
    let app = App::start().await;
    let (mut ana, mut bo, mut mo) = (app.user("ana"), app.user("bo"), moderator(&app));
    bo.does(Method::PATCH, "/v1/users/me", Some(json!({"name": "Bo"})))
        .await;
    let (path, id) = published(&mut ana, "Compra esto").await;
    let comment = ana
        .posts(&format!("{path}/comments"), json!({"text": "y esto"}))
        .await;
    let comment = comment["id"].as_str().unwrap();
    let reports = format!("{path}/reports");
    assert_problem(
        post(&ana, &reports, json!({"reason": "spam"})).await,
        409,
        "wrong-state",
    )
    .await;

    let report = json!({"reason": "spam", "text": "otra vez"});
    bo.posts(&reports, report.clone()).await;
    let head = app.head().await;
    bo.posts(&reports, report).await;
    assert_eq!(app.head().await, head, "once per user");
    let on_comment = format!("/v1/comments/{comment}/reports");
    bo.posts(&on_comment, json!({"reason": "other"})).await;

    mo.knows(&bo);
    let page = mo.reads("/v1/moderation/queue?limit=1").await;
    let first = &page["items"][0];
    assert_eq!(
        (&first["post"], &first["comment"]),
        (&json!(id), &Value::Null)
    );
    assert_eq!(
        (&first["reports"], &first["text"]),
        (&json!(1), &json!("Compra esto"))
    );
    let newest = &first["newest"][0];
    assert_eq!(
        (&newest["by"]["name"], &newest["reason"]),
        (&json!("Bo"), &json!("spam"))
    );
    assert_eq!(newest["text"], "otra vez");
    assert_eq!(first["first"], first["last"]);
    let rest = mo.reads(page["next"].as_str().unwrap()).await;
    assert_eq!(rest["items"][0]["comment"], comment);
    assert_eq!(rest["next"], Value::Null);

    mo.posts(
        "/v1/moderation/hide",
        json!({"comment": comment, "reason": "spam"}),
    )
    .await;
    mo.posts("/v1/moderation/restore", json!({"post": id}))
        .await;
    assert_eq!(mo.reads("/v1/moderation/queue").await["items"], json!([]));
}

#[tokio::test]
async fn a_hidden_comment_is_a_place_without_a_text() {
    let app = App::start().await;
    let (mut ana, mut bo, mut mo) = (app.user("ana"), app.user("bo"), moderator(&app));
    let (path, _) = published(&mut ana, "Hola").await;
    let comments = format!("{path}/comments");
    let comment = bo.posts(&comments, json!({"text": "feo"})).await["id"].clone();
    mo.posts(
        "/v1/moderation/hide",
        json!({"comment": comment, "reason": "hate"}),
    )
    .await;
    ana.knows(&mo);
    bo.knows(&mo);
    let of = async |user: &User<'_>| user.reads(&comments).await["items"][0].clone();
    let (seen, own) = (of(&ana).await, of(&bo).await);
    assert_eq!(
        (&seen["text"], &seen["hidden"]),
        (&Value::Null, &json!(true))
    );
    assert_eq!(
        (&own["text"], &own["hidden"]),
        (&json!("feo"), &json!(true))
    );
    // Others have nothing to do with it: it is neither answered nor reacted to.
    let answer = post(&ana, &comments, json!({"text": "¿qué?", "parent": comment})).await;
    assert_problem(answer, 404, "comment-not-found").await;
    let react = format!("/v1/comments/{}/reactions/angry", comment.as_str().unwrap());
    let reaction = ana.request(Method::PUT, &react).send().await.unwrap();
    assert_problem(reaction, 404, "comment-not-found").await;

    mo.posts("/v1/moderation/restore", json!({"comment": comment}))
        .await;
    ana.knows(&mo);
    assert_eq!(of(&ana).await["text"], "feo");
}

#[tokio::test]
async fn a_suspended_user_changes_nothing_until_it_ends() {
    let app = App::start().await;
    let (mut ana, mut bo, mut mo) = (app.user("ana"), app.user("bo"), moderator(&app));
    let (path, _) = published(&mut ana, "Hola").await;
    bo.puts(&format!("/v1/users/{}/follow", ana.id)).await;
    let answers = format!("{}/comments", published(&mut mo, "Hola").await.0);
    let comment = ana.posts(&answers, json!({"text": "Hola"})).await["id"].take();
    let id = ana.id;
    let suspend =
        |until: Option<String>| json!({"user": id, "reason": "harassment", "until": until});
    mo.posts("/v1/moderation/suspend", suspend(None)).await;
    let head = app.head().await;
    mo.posts("/v1/moderation/suspend", suspend(None)).await;
    for (method, path, body) in [
        (Method::POST, "/v1/posts", json!({"text": "¿y ahora?"})),
        (Method::PATCH, &*path, json!({"text": "¿y ahora?"})),
        (Method::PATCH, "/v1/users/me", json!({"name": "Ana"})),
        (
            Method::PUT,
            &format!("/v1/users/{}/follow", bo.id),
            Value::Null,
        ),
    ] {
        let request = ana.request(method, path).json(&body);
        assert_problem(request.send().await.unwrap(), 403, "account-suspended").await;
    }
    let read = post(&ana, "/v1/notifications/read", json!({"position": 1})).await;
    assert_problem(read, 403, "account-suspended").await;
    assert_eq!(app.head().await, head);
    // Others see nothing of it, and the user reads on.
    bo.knows(&mo);
    assert_problem(get(&bo, &path).await, 404, "post-not-found").await;
    assert_eq!(bo.reads("/v1/feed").await["items"], json!([]));
    let answer = post(&bo, &format!("{path}/comments"), json!({"text": "?"})).await;
    assert_problem(answer, 404, "post-not-found").await;
    let like = post(&bo, "/v1/matches/likes", json!({"user": id})).await;
    assert_problem(like, 404, "user-not-found").await;
    let answer = post(&bo, &answers, json!({"text": "?", "parent": comment})).await;
    assert_problem(answer, 404, "comment-not-found").await;
    ana.knows(&mo);
    assert_eq!(ana.reads(&path).await["text"], "Hola");

    let soon = Clock::System.now() + Duration::from_secs(2);
    mo.posts("/v1/moderation/suspend", suspend(Some(soon.to_rfc3339())))
        .await;
    let refused = post(&ana, "/v1/posts", json!({"text": "¿y ahora?"})).await;
    let problem = assert_problem(refused, 403, "account-suspended").await;
    assert!(
        problem["detail"].as_str().unwrap().starts_with("until "),
        "{problem}"
    );
    testing::wait::until_true(LONG, "time ends the suspension", async || {
        get(&bo, &path).await.status() == StatusCode::OK
    })
    .await;
    ana.posts("/v1/posts", json!({"text": "ya"})).await;

    mo.posts("/v1/moderation/suspend", suspend(None)).await;
    mo.posts("/v1/moderation/restore", json!({"user": ana.id}))
        .await;
    ana.posts("/v1/posts", json!({"text": "otra vez"})).await;
    bo.knows(&mo);
    bo.reads(&path).await;
}

#[tokio::test]
async fn a_moderator_is_not_above_the_rules() {
    let app = App::start().await;
    let (mut ana, mo) = (app.user("ana"), moderator(&app));
    let (_, id) = published(&mut ana, "Hola").await;
    let own = json!({"user": mo.id, "reason": "other"});
    assert_problem(
        post(&mo, "/v1/moderation/suspend", own).await,
        403,
        "forbidden",
    )
    .await;
    let long_ago = json!({"user": ana.id, "reason": "other", "until": "2020-01-01T00:00:00Z"});
    for (path, body, pointer) in [
        ("suspend", long_ago, "/until"),
        (
            "suspend",
            json!({"user": ana.id, "reason": "ugly"}),
            "/reason",
        ),
        ("hide", json!({"reason": "spam"}), "/post"),
        (
            "hide",
            json!({"post": id, "comment": id, "reason": "spam"}),
            "/post",
        ),
        ("restore", json!({}), "/post"),
        ("restore", json!({"post": id, "user": ana.id}), "/user"),
    ] {
        let refused = post(&mo, &format!("/v1/moderation/{path}"), body.clone()).await;
        let problem = assert_problem(refused, 422, "invalid-field").await;
        assert_eq!(
            problem["errors"][0]["pointer"], pointer,
            "{body}: {problem}"
        );
    }
    // Suspended, a moderator moderates no more.
    let mut other = app.bearer(app.tenant, "max", &[Role::Moderator], LONG);
    let mut mo = mo;
    mo.does(Method::PATCH, "/v1/users/me", Some(json!({"name": "Mo"})))
        .await;
    other
        .posts(
            "/v1/moderation/suspend",
            json!({"user": mo.id, "reason": "other"}),
        )
        .await;
    let refused = post(
        &mo,
        "/v1/moderation/hide",
        json!({"post": id, "reason": "spam"}),
    )
    .await;
    assert_problem(refused, 403, "account-suspended").await;
}

#[tokio::test]
async fn the_same_key_moderates_once() {
    let app = App::start().await;
    let (mut ana, mo) = (app.user("ana"), moderator(&app));
    let (path, id) = published(&mut ana, "Hola").await;
    let bo = app.user("bo");
    let keyed = async |user: &User<'_>, path: &str, body: Value| {
        let request = user
            .request(Method::POST, path)
            .header("idempotency-key", "k1");
        request.json(&body).send().await.unwrap()
    };
    for (user, path, body) in [
        (&bo, format!("{path}/reports"), json!({"reason": "spam"})),
        (
            &mo,
            "/v1/moderation/hide".to_owned(),
            json!({"post": id, "reason": "spam"}),
        ),
        (
            &mo,
            "/v1/moderation/restore".to_owned(),
            json!({"post": id}),
        ),
        (
            &mo,
            "/v1/moderation/suspend".to_owned(),
            json!({"user": ana.id, "reason": "spam"}),
        ),
    ] {
        let first = keyed(user, &path, body.clone()).await;
        assert_eq!(first.status(), StatusCode::NO_CONTENT, "{path}");
        let head = app.head().await;
        let again = keyed(user, &path, body).await;
        assert_eq!(again.status(), StatusCode::NO_CONTENT, "{path}");
        assert_eq!(
            again.headers()["cinelog-position"],
            first.headers()["cinelog-position"]
        );
        assert_eq!(app.head().await, head, "{path}");
    }
}

#[tokio::test]
async fn moderators_say_which_words_mean_the_same() {
    let app = App::start().await;
    let (mut ana, mut mo) = (app.user("ana"), moderator(&app));
    let (_, id) = published(&mut ana, "Vendo mi coche").await;
    let path = "/v1/search/synonyms";
    let lists = json!({"synonyms": [["coche", "carro"], ["autobús", "guagua"]]});
    let refused = ana.request(Method::PUT, path).json(&lists).send().await;
    assert_problem(refused.unwrap(), 403, "forbidden").await;
    for (wrong, pointer) in [
        (
            json!([["coche", "carro"], ["auto", " Coche "]]),
            "/synonyms/1",
        ),
        (json!([["coche", "¡!"]]), "/synonyms/0"),
        (json!([["coche"]]), "/synonyms/0"),
        (json!([["coche", "x".repeat(51)]]), "/synonyms/0/1"),
        (json!(vec![["a", "b"]; 501]), "/synonyms"),
    ] {
        let request = mo
            .request(Method::PUT, path)
            .json(&json!({"synonyms": wrong}));
        let problem = assert_problem(request.send().await.unwrap(), 422, "invalid-field").await;
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{problem}");
    }
    mo.does(Method::PUT, path, Some(lists)).await;
    let read = json!({"synonyms": [["carro", "coche"], ["autobús", "guagua"]]});
    assert_eq!(ana.reads(path).await, read);
    let found = ana
        .sees("/v1/search?q=carros", "it is found", |page| {
            page["items"] != json!([])
        })
        .await;
    assert_eq!(found["items"][0]["post"]["id"], json!(id));
    let second = app.second_tenant().await;
    let elsewhere = app.bearer(second, "eva", &[Role::Member], LONG);
    assert_eq!(elsewhere.reads(path).await, json!({"synonyms": []}));
}
