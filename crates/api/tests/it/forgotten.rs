//! Being forgotten: what ends at once, what is asked for, and who may ask.

use std::time::Duration;

use api::auth::Role;
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};
use service::clock::Clock;
use service::db;
use uuid::Uuid;

use crate::app::{App, User, assert_problem};

const PASSWORD: &str = "correct horse battery";

async fn auth(app: &App, route: &str, body: Value) -> Response {
    let request = app.http.post(format!("{}/v1/auth/{route}", app.url));
    request.json(&body).send().await.unwrap()
}

async fn leaves(user: &User<'_>) -> Response {
    let request = user.request(Method::DELETE, "/v1/users/me");
    request.send().await.unwrap()
}

/// Where the answer says that the state is.
fn location(answer: &Response) -> String {
    assert_eq!(answer.status(), StatusCode::ACCEPTED);
    answer.headers()["location"].to_str().unwrap().to_owned()
}

/// What somebody without a token is told.
async fn told(app: &App, path: &str) -> Response {
    let request = app.http.get(format!("{}{path}", app.url));
    request.send().await.unwrap()
}

async fn erased(app: &App) -> i64 {
    sqlx::query_scalar("SELECT count(*) FROM log.events WHERE type = 'user.erased'")
        .fetch_one(&app.owner)
        .await
        .unwrap()
}

async fn asked(app: &App) -> i64 {
    sqlx::query_scalar("SELECT count(*) FROM accounts.erasures")
        .fetch_one(&app.owner)
        .await
        .unwrap()
}

#[tokio::test]
async fn who_wants_to_be_forgotten_is_out_at_once_and_sees_when_it_is_done() {
    let app = App::start().await;
    let new = json!({"handle": "ana", "password": PASSWORD});
    let new: Value = auth(&app, "register", new).await.json().await.unwrap();
    let user = Uuid::parse_str(new["user"].as_str().unwrap()).unwrap();
    let mut ana = app.with_token(new["access_token"].as_str().unwrap());
    ana.posts("/v1/posts", json!({"text": "Hola"})).await;
    let key = json!({"name": "mine", "scopes": ["read", "write"]});
    let key = ana.posts("/v1/api-keys", key).await;
    let machine = app.with_token(key["key"].as_str().unwrap());
    assert_problem(leaves(&machine).await, 403, "forbidden").await;
    assert_eq!((erased(&app).await, asked(&app).await), (0, 0));

    let answer = leaves(&ana).await;
    let path = location(&answer);
    let body: Value = answer.json().await.unwrap();
    assert_eq!(
        (&body["state"], &body["done_at"]),
        (&json!("asked"), &json!(null))
    );
    assert_eq!(
        path,
        format!("/v1/erasures/{}", body["id"].as_str().unwrap())
    );
    assert_problem(leaves(&ana).await, 401, "session-ended").await;
    assert_problem(leaves(&machine).await, 401, "token-invalid").await;
    let known = json!({"login": "ana", "password": PASSWORD});
    assert_problem(auth(&app, "login", known).await, 401, "credentials-wrong").await;
    assert_eq!((erased(&app).await, asked(&app).await), (1, 1));
    assert_eq!(told(&app, &path).await.json::<Value>().await.unwrap(), body);

    // What a process with the rights does.
    let pool = app.database.pool(db::Role::Accounts).await;
    let due = accounts::to_erase(&pool, 9, Clock::System.now())
        .await
        .unwrap();
    assert_eq!(due.len(), 1);
    assert_eq!((due[0].tenant, due[0].owner), (app.tenant.0, user));
    let others = accounts::to_erase(&pool, 9, Clock::System.now())
        .await
        .unwrap();
    assert_eq!(others, [], "one does it at a time");
    let later = Clock::System.now() + chrono::TimeDelta::minutes(5);
    let again = accounts::to_erase(&pool, 9, later).await.unwrap();
    assert_eq!(again, due, "and another if that one died");
    accounts::erased(&pool, app.tenant.0, user, Clock::System.now())
        .await
        .unwrap();
    let now: Value = told(&app, &path).await.json().await.unwrap();
    assert_eq!(
        (&now["state"], &now["asked_at"]),
        (&json!("done"), &body["asked_at"])
    );
    assert!(now["done_at"].is_string(), "{now}");
    let never = Clock::System.now() + chrono::TimeDelta::days(9);
    let due = accounts::to_erase(&pool, 9, never).await.unwrap();
    assert_eq!(due, []);
    let other = format!("/v1/erasures/{}", Uuid::new_v4());
    assert_problem(told(&app, &other).await, 404, "erasure-not-found").await;
}

#[tokio::test]
async fn asking_again_asks_for_the_same_and_nobody_acts_in_their_name_any_more() {
    let app = App::start().await;
    let (mut ana, mut bo) = (app.user("ana"), app.user("bo"));
    ana.posts("/v1/posts", json!({"text": "Hola"})).await;
    bo.posts("/v1/posts", json!({"text": "Hola"})).await;
    let first = location(&leaves(&ana).await);
    let (again, once_more) = tokio::join!(leaves(&ana), leaves(&ana));
    assert_eq!([location(&again), location(&once_more)], [&*first, &*first]);
    assert_eq!((erased(&app).await, asked(&app).await), (1, 1));
    let post = ana.request(Method::POST, "/v1/posts");
    let post = post
        .json(&json!({"text": "still here"}))
        .send()
        .await
        .unwrap();
    assert_problem(post, 403, "forbidden").await;
    bo.posts("/v1/posts", json!({"text": "me too"})).await;
    assert_ne!(location(&leaves(&bo).await), first);
}

#[tokio::test]
async fn of_who_was_never_here_nothing_is_kept_and_who_is_suspended_may_leave() {
    let app = App::start().await;
    let (nobody, mut ana) = (app.user("nobody"), app.user("ana"));
    assert_problem(leaves(&nobody).await, 404, "user-not-found").await;
    assert_eq!(asked(&app).await, 0, "the request goes with its fact");
    ana.posts("/v1/posts", json!({"text": "Hola"})).await;
    let ttl = Duration::from_mins(10);
    let mut mo = app.bearer(app.tenant, "mo", &[Role::Moderator], ttl);
    let suspend = json!({"user": ana.id, "reason": "spam"});
    mo.posts("/v1/moderation/suspend", suspend).await;
    location(&leaves(&ana).await);
    assert_eq!(erased(&app).await, 1);
}
