//! How much one caller gets at once.

use std::convert::Infallible;

use futures::channel::mpsc;
use reqwest::{Body, Method, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use service::db;
use sqlx::{Postgres, Transaction};
use testing::db::locked_out;

use crate::app::{App, SOON, User, assert_problem, sha256};

const CLIP: &[u8] = b"not really a clip";

async fn ticket(user: &mut User<'_>) -> Value {
    let file =
        json!({"name": "a.mp4", "type": "video/mp4", "bytes": CLIP.len(), "sha256": sha256(CLIP)});
    user.posts("/v1/uploads", file).await
}

fn put(app: &App, ticket: &Value) -> RequestBuilder {
    app.http
        .put(ticket["url"].as_str().unwrap())
        .header("content-type", "video/mp4")
        .header("content-length", CLIP.len())
}

async fn get(user: &User<'_>, path: &str) -> Response {
    user.request(Method::GET, path).send().await.unwrap()
}

/// While it is open, nothing is allowed to be uploaded by `user`.
async fn uploads_held(app: &App, user: &User<'_>) -> Transaction<'static, Postgres> {
    let mut held = db::begin(&app.owner, "BEGIN").await.unwrap();
    sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended($1::text, 4005))")
        .bind(user.id)
        .execute(&mut *held)
        .await
        .unwrap();
    held
}

#[tokio::test]
async fn an_upload_is_alone_and_in_nobodys_way() {
    let app = App::start_with(&["--max-in-flight", "1"]).await;
    let mut ana = app.user("ana");
    let ticket = ticket(&mut ana).await;
    let (body, pieces) = mpsc::unbounded::<Result<&[u8], Infallible>>();
    let slow = put(&app, &ticket).body(Body::wrap_stream(pieces)).send();
    let meanwhile = async {
        testing::wait::until_true(SOON, "the upload has begun", async || app.incoming() == 1).await;
        assert_eq!(get(&ana, "/v1/feed").await.status(), StatusCode::OK);
        let again = put(&app, &ticket).body(CLIP).send().await.unwrap();
        assert!(again.headers().contains_key("retry-after"));
        assert_problem(again, 409, "contended").await;
        body.unbounded_send(Ok(CLIP)).unwrap();
        drop(body);
    };
    let (stored, ()) = tokio::join!(slow, meanwhile);
    assert_eq!(stored.unwrap().status(), StatusCode::CREATED);
}

#[tokio::test]
async fn what_is_too_much_is_refused_before_a_route_is_looked_for() {
    let app = App::start_with(&[
        "--max-in-flight",
        "1",
        "--cors-origins",
        "https://app.example.org",
    ])
    .await;
    let mut ana = app.user("ana");
    let ticket = ticket(&mut ana).await;
    let held = uploads_held(&app, &ana).await;
    let slow = ana.request(Method::POST, "/v1/uploads");
    let slow = slow.json(&crate::uploads::file(CLIP)).send();
    let meanwhile = async {
        let ask = async || {
            let ask = ana.request(Method::GET, "/no/such/route");
            let ask = ask.header("origin", "https://app.example.org");
            ask.header("x-request-id", "mine").send().await.unwrap()
        };
        testing::wait::until_true(SOON, "the one place is taken", async || {
            ask().await.status() == StatusCode::SERVICE_UNAVAILABLE
        })
        .await;
        let refused = ask().await;
        // With all that other answers have.
        for (name, value) in [
            ("access-control-allow-origin", "https://app.example.org"),
            ("retry-after", "1"),
            ("x-content-type-options", "nosniff"),
            ("x-request-id", "mine"),
        ] {
            assert_eq!(refused.headers()[name], value);
        }
        assert_problem(refused, 503, "overloaded").await;
        // Uploads have places of their own.
        let stored = put(&app, &ticket).body(CLIP).send().await.unwrap();
        assert_eq!(stored.status(), StatusCode::CREATED);
        held.rollback().await.unwrap();
    };
    let (allowed, ()) = tokio::join!(slow, meanwhile);
    assert_eq!(allowed.unwrap().status(), StatusCode::CREATED);
    assert_eq!(get(&ana, "/v1/feed").await.status(), StatusCode::OK);
}

#[tokio::test]
async fn who_sends_slowly_is_in_the_way_of_others_who_send_and_not_for_long() {
    let app = App::start_with(&["--max-in-flight", "1"]).await;
    let ana = app.user("ana");
    let send = |pieces: mpsc::UnboundedReceiver<Result<&'static [u8], Infallible>>| {
        let slow = ana.request(Method::POST, "/v1/posts");
        let slow = slow.header("content-type", "application/json");
        slow.body(Body::wrap_stream(pieces)).send()
    };
    let (body, pieces) = mpsc::unbounded();
    let meanwhile = async {
        let ask = async || {
            let ask = ana.request(Method::POST, "/no/such/route");
            ask.body("{}").send().await.unwrap()
        };
        testing::wait::until_true(SOON, "the one place is taken", async || {
            ask().await.status() == StatusCode::SERVICE_UNAVAILABLE
        })
        .await;
        assert!(ask().await.headers().contains_key("retry-after"));
        assert_eq!(get(&ana, "/no/such/route").await.status(), 404);
        let said: &[u8] = br#"{"text": "hola"}"#;
        body.unbounded_send(Ok(said)).unwrap();
        drop(body);
    };
    let (posted, ()) = tokio::join!(send(pieces), meanwhile);
    assert_eq!(posted.unwrap().status(), StatusCode::CREATED);
    let (_body, never) = mpsc::unbounded();
    let ended = tokio::time::timeout(SOON, send(never)).await;
    assert_problem(ended.expect("it ends").unwrap(), 504, "timeout").await;
}

#[tokio::test]
async fn an_upload_given_up_while_it_comes_leaves_nothing() {
    let app = App::start().await;
    let mut ana = app.user("ana");
    let ticket = ticket(&mut ana).await;
    let id = ticket["id"].as_str().unwrap();
    let (body, pieces) = mpsc::unbounded::<Result<&[u8], Infallible>>();
    let slow = put(&app, &ticket).body(Body::wrap_stream(pieces)).send();
    let meanwhile = async {
        testing::wait::until_true(SOON, "the upload has begun", async || app.incoming() == 1).await;
        ana.deletes(&format!("/v1/uploads/{id}")).await;
        body.unbounded_send(Ok(CLIP)).unwrap();
        drop(body);
    };
    let (stored, ()) = tokio::join!(slow, meanwhile);
    assert_problem(stored.unwrap(), 409, "upload-ended").await;
    assert!(!app.has(&format!("incoming/{}/{id}", app.tenant)));
}

#[tokio::test]
async fn one_users_uploads_wait_for_each_other_in_nobodys_way() {
    let app = App::start().await;
    let (ana, bo) = (app.user("ana"), app.user("bo"));
    let held = uploads_held(&app, &ana).await;
    let ask = || {
        let ask = ana.request(Method::POST, "/v1/uploads");
        let ask = ask.json(&crate::uploads::file(CLIP));
        async { ask.send().await.unwrap() }
    };
    let asked = futures::future::join_all((0..20).map(|_| ask()));
    let meanwhile = async {
        testing::wait::until_true(SOON, "one waits", async || {
            locked_out(&app.owner, "%").await > 0
        })
        .await;
        // Of the eight connections that there are for this.
        for _ in 0..3 {
            assert_eq!(bo.reads("/v1/usage").await["plan"]["name"], "free");
            assert!(locked_out(&app.owner, "%").await <= 2);
        }
        held.rollback().await.unwrap();
    };
    let (answers, ()) = tokio::join!(asked, meanwhile);
    let refused = answers
        .into_iter()
        .filter(|answer| answer.status() != StatusCode::CREATED);
    let refused: Vec<Response> = refused.collect();
    assert!(refused.len() >= 12, "{}", refused.len());
    for answer in refused {
        assert!(answer.headers().contains_key("retry-after"));
        assert_problem(answer, 503, "overloaded").await;
    }
}

#[tokio::test]
async fn one_user_has_only_so_many_uploads_open() {
    let app = App::start().await;
    let mut ana = app.user("ana");
    sqlx::query(
        "INSERT INTO accounts.uploads (tenant, asset, owner, bytes, expires_at, next_at)
         SELECT $1, gen_random_uuid(), $2, 1, now() + interval '1 hour', now() + interval '1 hour' FROM generate_series(1, 99)",
    )
    .bind(app.tenant)
    .bind(ana.id)
    .execute(&app.owner)
    .await
    .unwrap();
    let open = ticket(&mut ana).await;
    let ask = async || {
        let ask = ana.request(Method::POST, "/v1/uploads");
        let ask = ask.json(&crate::uploads::file(CLIP));
        ask.send().await.unwrap()
    };
    assert_problem(ask().await, 403, "uploads-open").await;
    ticket(&mut app.user("bo")).await;
    assert!(
        put(&app, &open)
            .body(CLIP)
            .send()
            .await
            .unwrap()
            .status()
            .is_success()
    );
    crate::uploads::complete(&ana, &open).await;
    testing::wait::until_true(SOON, "what is complete is not open", async || {
        ask().await.status() == StatusCode::CREATED
    })
    .await;
}

#[tokio::test]
async fn one_user_follows_only_so_much_at_once() {
    let app = App::start().await;
    let (mut ana, mut bo) = (app.user("ana"), app.user("bo"));
    let mut live = vec![];
    for user in [&mut ana, &mut bo] {
        let ticket = ticket(user).await;
        let path = format!("/v1/assets/{}", ticket["id"].as_str().unwrap());
        testing::wait::until_true(SOON, "the asset is there", async || {
            get(user, &path).await.status() == StatusCode::OK
        })
        .await;
        live.push(path + "/live");
    }
    let mut streams = vec![];
    for _ in 0..8 {
        let stream = get(&ana, &live[0]).await;
        assert_eq!(stream.status(), StatusCode::OK);
        streams.push(stream);
    }
    let refused = get(&ana, &live[0]).await;
    assert!(refused.headers().contains_key("retry-after"));
    assert_problem(refused, 503, "overloaded").await;
    assert_eq!(get(&bo, &live[1]).await.status(), StatusCode::OK);
    streams.pop();
    testing::wait::until_true(SOON, "a stream that ended is not counted", async || {
        get(&ana, &live[0]).await.status() == StatusCode::OK
    })
    .await;
}

#[tokio::test]
async fn an_upload_that_expired_is_refused_before_its_bytes_are_read() {
    let app = App::start_with(&["--upload-seconds", "3"]).await;
    let mut ana = app.user("ana");
    let ticket = ticket(&mut ana).await;
    let path = format!("/v1/uploads/{}", ticket["id"].as_str().unwrap());
    let ended = |upload: &Value| upload["state"] == "ended";
    ana.sees(&path, "the upload has expired", ended).await;
    let complete = ana.request(Method::POST, &format!("{path}/complete"));
    // Were storage asked first, the bytes would be missing.
    assert_problem(complete.send().await.unwrap(), 409, "wrong-state").await;
}

#[tokio::test]
async fn pages_of_configured_origins_may_ask_and_read_and_no_others() {
    const OURS: &str = "https://app.example.org";
    let app = App::start_with(&["--cors-origins", OURS]).await;
    let ask = async |method: Method, origin: &str| {
        let request = app.http.request(method, format!("{}/v1/posts", app.url));
        let request = request
            .header("origin", origin)
            .header("access-control-request-method", "PATCH")
            .header(
                "access-control-request-headers",
                "authorization,idempotency-key",
            );
        request.send().await.unwrap()
    };
    let allowed = ask(Method::OPTIONS, OURS).await;
    assert_eq!(allowed.status(), StatusCode::OK);
    for (name, value) in [
        ("allow-origin", OURS),
        ("allow-credentials", "true"),
        ("allow-methods", "PATCH"),
        ("allow-headers", "authorization,idempotency-key"),
    ] {
        assert_eq!(allowed.headers()[&*format!("access-control-{name}")], value);
    }
    let answer = ask(Method::POST, OURS).await;
    let exposed = &answer.headers()["access-control-expose-headers"];
    for name in ["cinelog-position", "etag", "retry-after", "location"] {
        assert!(exposed.to_str().unwrap().contains(name), "{exposed:?}");
    }
    for method in [Method::OPTIONS, Method::POST] {
        let foreign = ask(method, "https://evil.example").await;
        let allowed = foreign.headers().get("access-control-allow-origin");
        assert_eq!(allowed, None);
    }
}
