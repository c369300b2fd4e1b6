//! Uploads whose clients do not come back: provider notices, and the sweeper.

use std::path::Path;

use axum::routing::get;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use reqwest::{Response, StatusCode};
use serde_json::{Value, json};
use service::clock::Clock;
use service::db;
use service::mac;
use service::shutdown::Shutdown;
use tempfile::TempDir;
use testing::db::locked_out;
use testing::wait;
use tokio::net::TcpListener;

use crate::app::{App, SOON, User, assert_problem};
use crate::issuers::openssl;
use crate::uploads::{complete, file, put};

const CLIP: &[u8] = b"not really a clip";
const SECRET: &str = "what the queue and we know";
const TOPIC: &str = "arn:aws:sns:eu-west-1:123456789012:uploads";

async fn app() -> App {
    App::start_with(&["--storage-notice-secret", SECRET]).await
}

fn key(app: &App, ticket: &Value) -> String {
    format!("incoming/{}/{}", app.tenant, ticket["id"].as_str().unwrap())
}

async fn tells(app: &App, route: &str, body: &Value, secret: &str) -> Response {
    let (at, body) = (Clock::System.now().timestamp(), body.to_string());
    let tag = mac::tag(secret.as_bytes(), format!("{at}.{body}").as_bytes());
    let request = app
        .http
        .post(format!("{}/v1/webhooks/storage/{route}", app.url));
    let request = request.header(
        "cinelog-signature",
        format!("t={at},v1={}", hex::encode(tag)),
    );
    request.body(body).send().await.unwrap()
}

pub(crate) async fn becomes(user: &User<'_>, ticket: &Value, state: &str) {
    let path = format!("/v1/uploads/{}", ticket["id"].as_str().unwrap());
    user.sees(&path, state, |upload| upload["state"] == state)
        .await;
}

#[tokio::test]
async fn a_notice_completes_what_has_come_and_nothing_else() {
    let app = app().await;
    let mut ana = app.user("ana");
    let ticket = ana.posts("/v1/uploads", file(CLIP)).await;
    let waits = ana.posts("/v1/uploads", file(CLIP)).await;
    put(&app, &ticket, CLIP).await;
    let body = json!({"keys": [key(&app, &ticket), key(&app, &waits), "incoming/x", "../../etc/passwd", format!("{}/", key(&app, &ticket))]});
    assert_problem(
        tells(&app, "hmac", &body, "another").await,
        403,
        "notice-invalid",
    )
    .await;
    let told = tells(&app, "hmac", &body, SECRET).await;
    assert_eq!(told.status(), StatusCode::NO_CONTENT);
    becomes(&ana, &ticket, "complete").await;
    becomes(&ana, &waits, "waiting").await;
    // Told twice, and then by the client too: it is the same.
    let head = app.head().await;
    tells(&app, "hmac", &body, SECRET).await;
    assert_eq!(complete(&ana, &ticket).await.status(), StatusCode::ACCEPTED);
    assert_eq!(app.head().await, head);
    let waits = ana.posts("/v1/uploads", file(CLIP)).await;
    put(&app, &waits, CLIP).await;
    let event = json!({"account": "a", "action": "PutObject", "bucket": "b", "object": {"key": key(&app, &waits), "size": 1, "eTag": "e"}});
    let told = tells(
        &app,
        "r2",
        &json!({"messages": [{"id": "1", "body": event}]}),
        SECRET,
    )
    .await;
    assert_eq!(told.status(), StatusCode::NO_CONTENT);
    becomes(&ana, &waits, "complete").await;
}

#[tokio::test]
async fn an_upload_that_takes_long_to_look_at_holds_up_no_other() {
    let app = app().await;
    let mut ana = app.user("ana");
    let (slow, other) = (
        ana.posts("/v1/uploads", file(CLIP)).await,
        ana.posts("/v1/uploads", file(CLIP)).await,
    );
    for ticket in [&slow, &other] {
        put(&app, ticket, CLIP).await;
    }
    complete(&ana, &slow).await;
    let mut held = db::begin(&app.owner, "BEGIN").await.unwrap();
    sqlx::query("LOCK TABLE usage.asset")
        .execute(&mut *held)
        .await
        .unwrap();
    let waits = async || locked_out(&app.owner, "SELECT EXISTS%usage.asset%").await > 0;
    tells(&app, "hmac", &json!({"keys": [key(&app, &slow)]}), SECRET).await;
    wait::until_true(SOON, "it is looked at", waits).await;
    tells(&app, "hmac", &json!({"keys": [key(&app, &other)]}), SECRET).await;
    becomes(&ana, &other, "complete").await;
    assert!(waits().await, "the first is still looked at");
    held.rollback().await.unwrap();
}

#[tokio::test]
async fn without_a_secret_nobody_is_believed() {
    let app = App::start().await;
    for route in ["hmac", "r2", "s3-sns"] {
        assert_problem(
            tells(&app, route, &json!({"keys": []}), "").await,
            404,
            "route-not-found",
        )
        .await;
    }
}

#[tokio::test]
async fn what_is_deleted_before_it_came_reserves_nothing_and_is_not_looked_at_for_ever() {
    let app = App::start().await;
    let mut ana = app.user("ana");
    let ticket = ana.posts("/v1/uploads", file(CLIP)).await;
    app.plant(&key(&app, &ticket), &CLIP[..4]);
    // From now on it is swept at any moment.
    ana.deletes(&format!("/v1/assets/{}", ticket["id"].as_str().unwrap()))
        .await;
    let reserved = "SELECT coalesce(sum(bytes), 0)::bigint FROM accounts.uploads";
    let reserved: i64 = sqlx::query_scalar(reserved)
        .fetch_one(&app.owner)
        .await
        .unwrap();
    assert_eq!(reserved, 0);
    all_are_over(&app, 3).await;
    assert!(!app.has(&key(&app, &ticket)));
}

/// All uploads are to be swept next. Those that already are stay as they are: a sweep passes over what is being changed.
pub(crate) async fn sweep(app: &App) {
    sqlx::query("UPDATE accounts.uploads SET next_at = now() WHERE next_at > now()")
        .execute(&app.owner)
        .await
        .unwrap();
}

/// All uploads end so many hours earlier, and then nothing is left of them.
async fn all_are_over(app: &App, hours: i32) {
    sqlx::query("UPDATE accounts.uploads SET expires_at = expires_at - make_interval(hours => $1)")
        .bind(hours)
        .execute(&app.owner)
        .await
        .unwrap();
    wait::until_true(SOON, "nothing is left", async || {
        sweep(app).await;
        left(app).await == 0
    })
    .await;
}

async fn left(app: &App) -> i64 {
    let left = sqlx::query_scalar("SELECT count(*) FROM accounts.uploads");
    left.fetch_one(&app.owner).await.unwrap()
}

#[tokio::test]
async fn who_does_not_come_back_is_swept() {
    let app = App::start_with(&["--upload-seconds", "12"]).await;
    let mut ana = app.user("ana");
    let (comes, never) = (
        ana.posts("/v1/uploads", file(CLIP)).await,
        ana.posts("/v1/uploads", file(CLIP)).await,
    );
    put(&app, &comes, CLIP).await;
    // What came in time is taken in, however late that is seen; what did not has expired.
    tokio::time::sleep(std::time::Duration::from_secs(13)).await;
    sweep(&app).await;
    becomes(&ana, &comes, "complete").await;
    wait::until_true(SOON, "the other one expires", async || {
        expired(&app).await == 1
    })
    .await;
    assert_problem(complete(&ana, &never).await, 409, "wrong-state").await;
    // Something that comes afterwards goes again, and then nobody looks any more.
    app.plant(&key(&app, &never), b"late");
    all_are_over(&app, 2).await;
    assert!(!app.has(&key(&app, &never)));
    assert!(app.has(&key(&app, &comes)));
}

async fn expired(app: &App) -> i64 {
    sqlx::query_scalar("SELECT count(*) FROM log.events WHERE type = 'upload.expired'")
        .fetch_one(&app.owner)
        .await
        .unwrap()
}

/// Who signs for the topic: a server with its certificate, and the private key.
async fn signer(folder: &Path, shutdown: &Shutdown) -> (String, std::path::PathBuf) {
    let (private, certificate) = (folder.join("key.pem"), folder.join("cert.pem"));
    let options = [
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-subj",
        "/CN=sns.amazonaws.com",
        "-days",
        "2",
        "-keyout",
    ];
    let pem = openssl(
        &[&options[..], &[private.to_str().unwrap()]].concat(),
        &certificate,
    );
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    let pem = String::from_utf8(pem).unwrap();
    let routes = axum::Router::new()
        .route(
            "/SimpleNotificationService-0.pem",
            get(async move || pem.clone()),
        )
        .route("/", get(async || "confirmed"));
    service::http::serve(listener, routes, &[], shutdown);
    (origin, private)
}

fn confirm_at(origin: &str) -> String {
    format!("{origin}/?Action=ConfirmSubscription&TopicArn={TOPIC}&Token=t")
}

fn sign(folder: &Path, private: &Path, signed: &str) -> String {
    let text = folder.join("signed");
    std::fs::write(&text, signed).unwrap();
    let options = ["dgst", "-sha256", "-sign", private.to_str().unwrap()];
    // The file to sign comes last, behind where the tag goes.
    let tag = folder.join("tag");
    let status = std::process::Command::new("openssl")
        .args(options)
        .arg("-out")
        .arg(&tag)
        .arg(&text)
        .status();
    assert!(status.unwrap().success());
    BASE64.encode(std::fs::read(tag).unwrap())
}

/// A message of the topic; `fields` are those that its kind has besides the others.
fn signed_message(
    folder: &Path,
    (origin, private): (&str, &Path),
    (kind, at, fields): (&str, &str, &str),
    message: &str,
) -> Value {
    let token = if fields.is_empty() { "" } else { "Token\nt\n" };
    let signed = format!(
        "Message\n{message}\nMessageId\n1\n{fields}Timestamp\n{at}\n{token}TopicArn\n{TOPIC}\nType\n{kind}\n"
    );
    json!({"Type": kind, "MessageId": "1", "TopicArn": TOPIC, "Message": message, "Timestamp": at, "SignatureVersion": "2",
        "Signature": sign(folder, private, &signed), "SigningCertURL": format!("{origin}/SimpleNotificationService-0.pem"),
        "SubscribeURL": confirm_at(origin), "Token": "t"})
}

#[tokio::test]
async fn a_topic_is_believed_when_its_region_vouches_for_it() {
    let (folder, shutdown) = (TempDir::new().unwrap(), Shutdown::new());
    let (origin, private) = signer(folder.path(), &shutdown).await;
    let options = ["--storage-notice-topic", TOPIC, "--storage-notice-origin"];
    let app = App::start_with(&[&options[..], &[&origin]].concat()).await;
    let mut ana = app.user("ana");
    let ticket = ana.posts("/v1/uploads", file(CLIP)).await;
    put(&app, &ticket, CLIP).await;
    let at = Clock::System.now().to_rfc3339();
    let records = json!({"Records": [{"eventName": "ObjectCreated:Put", "s3": {"object": {"key": key(&app, &ticket).replace('/', "%2F")}}}]});
    let records = records.to_string();
    let message = |kind: &str, at: &str, fields: &str| {
        signed_message(
            folder.path(),
            (&origin, &private),
            (kind, at, fields),
            &records,
        )
    };
    let good = message("Notification", &at, "");
    let with = |name: &str, value: &str| {
        let mut other = good.clone();
        other[name] = json!(value);
        other
    };
    let tell = |body: Value| {
        let request = app
            .http
            .post(format!("{}/v1/webhooks/storage/s3-sns", app.url));
        request.body(body.to_string()).send()
    };
    let an_hour_ago = (Clock::System.now() - chrono::Duration::minutes(61)).to_rfc3339();
    for forged in [
        with("TopicArn", "arn:aws:sns:eu-west-1:123456789012:others"),
        with("Message", "{}"),
        with("Timestamp", "now"),
        with("SignatureVersion", "1"),
        with("SigningCertURL", "https://sns.eu-west-1.amazonaws.com/c"),
        with("Type", "UnsubscribeConfirmation"),
        message("Notification", &an_hour_ago, ""),
    ] {
        assert_problem(tell(forged).await.unwrap(), 403, "notice-invalid").await;
    }
    let confirmed = message(
        "SubscriptionConfirmation",
        &at,
        &format!("SubscribeURL\n{}\n", confirm_at(&origin)),
    );
    assert_eq!(
        tell(confirmed).await.unwrap().status(),
        StatusCode::NO_CONTENT
    );
    becomes(&ana, &ticket, "waiting").await;
    assert_eq!(tell(good).await.unwrap().status(), StatusCode::NO_CONTENT);
    becomes(&ana, &ticket, "complete").await;
    shutdown.cancel();
}
