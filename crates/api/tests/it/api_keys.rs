//! Machines that act for a user.

use api::auth::Role;
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};
use service::db::Role as DatabaseRole;

use crate::app::{App, SOON, User, assert_problem};

const TTL: std::time::Duration = std::time::Duration::from_mins(10);

fn machine<'a>(app: &'a App, key: &Value) -> User<'a> {
    app.with_token(key["key"].as_str().unwrap())
}

/// What a bearer gets.
async fn shows(app: &App, bearer: &str) -> Response {
    let request = app.http.get(format!("{}/v1/feed", app.url));
    request.bearer_auth(bearer).send().await.unwrap()
}

#[tokio::test]
async fn a_machine_may_do_what_its_key_says_and_no_more() {
    let app = App::start().await;
    let mut ana = app.bearer(app.tenant, "ana", &[Role::Data], TTL);
    let reads = ana.posts("/v1/api-keys", json!({"name": "reads"})).await;
    assert_eq!(reads["scopes"], json!(["read"]));
    let reader = machine(&app, &reads);
    assert_eq!(
        reader
            .request(Method::GET, "/v1/feed")
            .send()
            .await
            .unwrap()
            .status(),
        StatusCode::OK
    );
    let hello = json!({"text": "hello", "visibility": "public"});
    let writes = reader
        .request(Method::POST, "/v1/posts")
        .json(&hello)
        .send()
        .await
        .unwrap();
    assert_problem(writes, 403, "forbidden").await;
    let facts = reader
        .request(Method::GET, "/v1/facts")
        .send()
        .await
        .unwrap();
    assert_problem(facts, 403, "forbidden").await;

    let wanted = json!({"name": "all", "scopes": ["read", "write"], "roles": ["data"], "expires_in_days": 30});
    let mut all = machine(&app, &ana.posts("/v1/api-keys", wanted).await);
    let written = all.posts("/v1/posts", hello).await;
    let shown = all
        .reads(&format!("/v1/posts/{}", written["id"].as_str().unwrap()))
        .await;
    assert_eq!(shown["author"]["id"], ana.id.to_string());
    assert_eq!(
        all.request(Method::GET, "/v1/facts")
            .send()
            .await
            .unwrap()
            .status(),
        StatusCode::OK
    );
    // Keys are their owner's business.
    let another = all
        .request(Method::POST, "/v1/api-keys")
        .json(&json!({"name": "more"}));
    assert_problem(another.send().await.unwrap(), 403, "forbidden").await;
    let beyond = ana
        .request(Method::POST, "/v1/api-keys")
        .json(&json!({"name": "m", "roles": ["moderator"]}));
    assert_problem(beyond.send().await.unwrap(), 422, "invalid-field").await;
}

#[tokio::test]
async fn a_key_is_told_once_and_holds_until_it_is_deleted() {
    let app = App::start().await;
    let (mut ana, bo) = (app.user("ana"), app.user("bo"));
    let asks = ana.clone();
    let make = |name: &str| {
        let request = asks
            .request(Method::POST, "/v1/api-keys")
            .header("idempotency-key", "k1");
        request.json(&json!({"name": name}))
    };
    let made: Value = make("one").send().await.unwrap().json().await.unwrap();
    let again: Value = make("one").send().await.unwrap().json().await.unwrap();
    assert_eq!(made, again);
    assert_problem(
        make("two").send().await.unwrap(),
        422,
        "idempotency-key-reused",
    )
    .await;
    let listed = ana.reads("/v1/api-keys").await;
    assert_eq!(listed["items"].as_array().unwrap().len(), 1);
    assert!(!listed.to_string().contains(made["key"].as_str().unwrap()));
    assert_eq!(bo.reads("/v1/api-keys").await["items"], json!([]));

    let (key, id) = (made["key"].as_str().unwrap(), made["id"].as_str().unwrap());
    let path = format!("/v1/api-keys/{id}");
    assert_problem(
        bo.request(Method::DELETE, &path).send().await.unwrap(),
        404,
        "api-key-not-found",
    )
    .await;
    let last = key.chars().last().unwrap();
    let wrong = format!(
        "{}{}",
        &key[..key.len() - 1],
        if last == 'A' { 'E' } else { 'A' }
    );
    assert_problem(shows(&app, &wrong).await, 401, "token-invalid").await;
    assert_eq!(shows(&app, key).await.status(), StatusCode::OK);
    ana.deletes(&path).await;
    assert_problem(shows(&app, key).await, 401, "token-invalid").await;
    // A late repeat of the request does not bring it back.
    assert_problem(make("one").send().await.unwrap(), 409, "wrong-state").await;
    assert_problem(shows(&app, key).await, 401, "token-invalid").await;
    assert_eq!(ana.reads("/v1/api-keys").await["items"], json!([]));
}

#[tokio::test]
async fn a_key_has_no_more_than_its_owner_still_has() {
    let app = App::start().await;
    let register = app.http.post(format!("{}/v1/auth/register", app.url));
    let account = json!({"handle": "mo", "password": "correct horse battery"});
    register.json(&account).send().await.unwrap();
    let accounts = app.database.pool(DatabaseRole::Accounts).await;
    let grant = async |roles: &[&str]| {
        accounts::grant(&accounts, app.tenant.0, "mo", roles)
            .await
            .unwrap()
    };
    assert!(grant(&["data", "moderator"]).await);
    let login = app.http.post(format!("{}/v1/auth/login", app.url));
    let login = login.json(&json!({"login": "mo", "password": "correct horse battery"}));
    let access: Value = login.send().await.unwrap().json().await.unwrap();
    let mut mo = app.with_token(access["access_token"].as_str().unwrap());
    let endless = mo
        .request(Method::POST, "/v1/api-keys")
        .json(&json!({"name": "m", "roles": ["moderator"]}));
    assert_problem(endless.send().await.unwrap(), 422, "invalid-field").await;
    let wanted = json!({"name": "m", "roles": ["data", "moderator"], "expires_in_days": 7});
    let machine = machine(&app, &mo.posts("/v1/api-keys", wanted).await);
    let moderates = async || {
        machine
            .request(Method::GET, "/v1/moderation/queue")
            .send()
            .await
            .unwrap()
            .status()
    };
    assert_eq!(moderates().await, StatusCode::OK);
    let facts = machine.request(Method::GET, "/v1/facts");
    let facts = facts.header("accept", "text/event-stream").send().await;
    let facts = facts.unwrap();
    assert_eq!(facts.headers()["content-type"], "text/event-stream");
    assert!(grant(&[]).await);
    testing::wait::until_true(SOON, "the machine moderates no more", async || {
        moderates().await == StatusCode::FORBIDDEN
    })
    .await;
    // What it listens to goes on no longer than until there is something to hear.
    let post = json!({"text": "hello", "visibility": "public"});
    app.user("bo").posts("/v1/posts", post).await;
    let heard = tokio::time::timeout(SOON, facts.text()).await;
    let heard = heard.expect("the stream ends").unwrap();
    assert!(!heard.contains("post.published"), "{heard}");
    // Its session ended with its roles, within seconds.
    testing::wait::until_true(SOON, "the session is over", async || {
        let asks = mo
            .request(Method::GET, "/v1/api-keys")
            .send()
            .await
            .unwrap();
        asks.status() == StatusCode::UNAUTHORIZED
    })
    .await;
}
