//! Each bad input gets its own clear, typed error, and the log stays as it was.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use chrono::DateTime;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use service::mac::MacKey;
use service::secret::Secret;
use uuid::Uuid;

use crate::app::{App, SECRET, User, assert_problem, sha256};

async fn post(user: &User<'_>, path: &str, body: Value) -> reqwest::Response {
    user.request(Method::POST, path)
        .json(&body)
        .send()
        .await
        .unwrap()
}

#[tokio::test]
async fn unknown_routes_and_wrong_methods_are_problems() {
    let app = App::start().await;
    let ana = app.user("ana");
    let unknown = ana
        .request(Method::GET, "/v1/nothing")
        .send()
        .await
        .unwrap();
    assert_problem(unknown, 404, "route-not-found").await;
    let unknown = app
        .http
        .get(format!("{}/nothing", app.url))
        .header("x-request-id", "mine-1")
        .send()
        .await
        .unwrap();
    assert_eq!(
        assert_problem(unknown, 404, "route-not-found").await["request_id"],
        "mine-1"
    );
    let wrong = ana.request(Method::PUT, "/v1/feed").send().await.unwrap();
    assert!(wrong.headers()["allow"].to_str().unwrap().contains("GET"));
    assert_problem(wrong, 405, "method-not-allowed").await;
    let not_an_id = ana
        .request(Method::GET, "/v1/posts/seven")
        .send()
        .await
        .unwrap();
    assert_problem(not_an_id, 400, "malformed-request").await;
    assert_eq!(app.head().await, 0);
}

#[tokio::test]
async fn bodies_that_cannot_be_read_are_problems() {
    let app = App::start().await;
    let ana = app.user("ana");
    let send = async |media_type: &str, body: String| {
        let request = ana
            .request(Method::POST, "/v1/posts")
            .header("content-type", media_type);
        request.body(body).send().await.unwrap()
    };
    assert_problem(
        send("application/json", "{\"text\": ".into()).await,
        400,
        "body-not-json",
    )
    .await;
    assert_problem(
        send("application/json", "{} {}".into()).await,
        400,
        "body-not-json",
    )
    .await;
    assert_problem(
        send("text/plain", "{}".into()).await,
        415,
        "content-type-unsupported",
    )
    .await;
    let large = json!({"text": "x".repeat(300_000)}).to_string();
    assert_problem(send("application/json", large).await, 413, "body-too-large").await;
    assert_eq!(app.head().await, 0);
}

/// JSON that is nested so deeply that who reads it by recursion runs out of stack, with the ends and without.
fn nested() -> [String; 4] {
    let (lists, objects) = ("[".repeat(100_000), "{\"a\":".repeat(40_000));
    let whole = [
        format!("{lists}{}", "]".repeat(100_000)),
        format!("{objects}1{}", "}".repeat(40_000)),
    ];
    let [first, second] = whole;
    [lists, first, objects, second]
}

#[tokio::test]
async fn json_that_is_nested_very_deeply_is_a_problem() {
    let topic = "arn:aws:sns:eu-west-1:123456789012:uploads";
    let app = App::start_with(&["--storage-notice-topic", topic]).await;
    let ana = app.user("ana");
    for (path, fields) in [
        ("/v1/posts", ["text", "place", "a"]),
        ("/v1/uploads", ["name", "bytes", "a"]),
        ("/v1/auth/register", ["handle", "password", "a"]),
        ("/v1/api-keys", ["name", "scopes", "a"]),
        ("/v1/webhooks/storage/s3-sns", ["Message", "Type", "a"]),
    ] {
        for deep in nested() {
            let within = fields.map(|field| format!("{{\"{field}\": {deep}}}"));
            for body in within.into_iter().chain([deep]) {
                assert!(body.len() < 256 * 1024, "it would be too large anyway");
                let request = ana.request(Method::POST, path).body(body.clone());
                let request = request.header("content-type", "application/json");
                let response = request.send().await.unwrap();
                let (status, what) = (response.status(), &body[..20]);
                assert!(status.is_client_error(), "{path}, {what}: {status}");
                let media_type = &response.headers()["content-type"];
                assert_eq!(media_type, "application/problem+json", "{path}, {what}");
            }
        }
    }
    // In what a token says, before it is looked at who signed it.
    let (head, deep) = (BASE64.encode(r#"{"alg":"HS256"}"#), "[".repeat(20_000));
    let claims = BASE64.encode(format!(r#"{{"a":{deep}"#));
    let strange = BASE64.encode(format!(r#"{{"alg":"HS256","a":{deep}"#));
    for token in [
        format!("{head}.{claims}.a"),
        format!("{strange}.{claims}.a"),
    ] {
        let asked = app.with_token(&token).request(Method::GET, "/v1/feed");
        assert_problem(asked.send().await.unwrap(), 401, "token-invalid").await;
    }
    ana.reads("/v1/feed").await;
    assert_eq!(app.head().await, 0);
}

#[tokio::test]
async fn wrong_fields_are_named() {
    let app = App::start().await;
    let ana = app.user("ana");
    for (body, pointer) in [
        (json!({"text": "x".repeat(5001)}), "/text"),
        (json!({"text": 7}), "/text"),
        (json!({"text": "a", "color": "red"}), "/color"),
        (json!({"text": "a", "visibility": "secret"}), "/visibility"),
        (
            json!({"text": "a", "assets": [ana.id.to_string(), "x"]}),
            "/assets/1",
        ),
        (json!({"text": "a", "language": "x"}), "/language"),
        (json!({"text": " "}), "/text"),
        (json!(["a", [], "es", "Cádiz", null, "public"]), ""),
    ] {
        let problem = assert_problem(
            post(&ana, "/v1/posts", body.clone()).await,
            422,
            "invalid-field",
        )
        .await;
        assert_eq!(
            problem["errors"][0]["pointer"], pointer,
            "{body}: {problem}"
        );
    }
    assert_eq!(app.head().await, 0);
}

#[tokio::test]
async fn wrong_tokens_are_told_apart() {
    let app = App::start().await;
    let feed = format!("{}/v1/feed", app.url);
    let with = async |token: &str| app.http.get(&feed).bearer_auth(token).send().await.unwrap();
    let missing = app.http.get(&feed).send().await.unwrap();
    assert_eq!(missing.headers()["www-authenticate"], "Bearer");
    assert_problem(missing, 401, "token-missing").await;
    assert_problem(with("nonsense").await, 401, "token-invalid").await;
    let issue = |secret: &str, at: DateTime<chrono::Utc>| {
        api::auth::issue(
            &Secret::new(secret),
            app.tenant,
            "ana",
            &[],
            Duration::from_mins(1),
            at,
        )
    };
    let now = service::clock::Clock::System.now();
    let forged = issue("another secret, as long as the right one", now);
    assert_problem(with(&forged).await, 401, "token-invalid").await;
    let old = issue(SECRET, now - Duration::from_mins(2));
    assert_problem(with(&old).await, 401, "token-expired").await;
    let posting = app
        .http
        .post(format!("{}/v1/posts", app.url))
        .bearer_auth(&forged)
        .json(&json!({"text": "a"}));
    assert_problem(posting.send().await.unwrap(), 401, "token-invalid").await;
    assert_eq!(app.head().await, 0);
}

#[tokio::test]
async fn uploads_that_cannot_be_are_refused_at_once() {
    let app = App::start().await;
    let ana = app.user("ana");
    let upload = |name: &str, media_type: &str, bytes: u64, sum: &str| json!({"name": name, "type": media_type, "bytes": bytes, "sha256": sum});
    let sum = sha256(b"");
    for (body, status, slug, pointer) in [
        (
            upload("a.mp4", "video/mp4", 0, &sum),
            422,
            "upload-empty",
            "/bytes",
        ),
        (
            upload("a.mp4", "video/mp4", 100_000_001, &sum),
            422,
            "upload-too-large",
            "/bytes",
        ),
        (
            upload("a.txt", "text/plain", 5, &sum),
            422,
            "media-type-unsupported",
            "/type",
        ),
        (
            upload("a.mp4", "video/mp4", 5, "abc"),
            422,
            "invalid-field",
            "/sha256",
        ),
        (
            upload(&"x".repeat(256), "video/mp4", 5, &sum),
            422,
            "invalid-field",
            "/name",
        ),
    ] {
        let problem = assert_problem(post(&ana, "/v1/uploads", body).await, status, slug).await;
        assert_eq!(problem["errors"][0]["pointer"], pointer);
    }
    assert_eq!(app.head().await, 0);
}

#[tokio::test]
async fn pages_cursors_positions_and_keys_are_checked() {
    let app = App::start().await;
    let ana = app.user("ana");
    let get = async |path: &str| ana.request(Method::GET, path).send().await.unwrap();
    for path in [
        "/v1/feed?limit=0",
        "/v1/feed?limit=101",
        "/v1/feed?limit=ten",
        "/v1/feed?order=oldest",
        "/v1/search",
        "/v1/feed/nearby?lat=91&lon=0",
        "/v1/feed/nearby?lat=0&lon=NaN",
        "/v1/feed/nearby?lat=0&lon=0&radius=1000000000",
        "/v1/trending?limit=0",
        "/v1/search?q=a&kind=thing",
        "/v1/search?q=a&order=oldest",
        "/v1/search?q=a&to=-262143-01-01T00:00:00Z",
        "/v1/assets/00000000-0000-0000-0000-000000000000/waveform?format=mp3",
        "/v1/search/complete?q=a&limit=0",
        "/v1/search/complete?q=a&limit=1000000000",
    ] {
        assert_problem(get(path).await, 422, "invalid-field").await;
    }
    for path in ["/v1/trending?", "/v1/search?q=a&"] {
        let path = format!("{path}place={}", "x".repeat(201));
        assert_problem(get(&path).await, 422, "invalid-field").await;
    }
    assert_problem(get("/v1/feed?cursor=AQID").await, 400, "cursor-invalid").await;
    let forged = ana
        .request(Method::GET, "/v1/feed")
        .header("cinelog-min-position", "7")
        .send()
        .await
        .unwrap();
    assert_problem(forged, 400, "position-invalid").await;
    let keyed = ana
        .request(Method::POST, "/v1/posts")
        .header("idempotency-key", "x".repeat(256));
    assert_problem(
        keyed.json(&json!({"text": "a"})).send().await.unwrap(),
        400,
        "idempotency-key-invalid",
    )
    .await;
    assert_eq!(app.head().await, 0);
}

#[tokio::test]
async fn a_position_of_another_log_is_gone() {
    let app = App::start().await;
    let ana = app.user("ana");
    let posted = post(&ana, "/v1/posts", json!({"text": "a"})).await;
    let ours = posted.headers()["cinelog-position"].to_str().unwrap();
    let from = async |position: &str| {
        let request = ana.request(Method::GET, "/v1/feed");
        let request = request.header("cinelog-min-position", position);
        request.send().await.unwrap()
    };
    assert_eq!(from(ours).await.status(), StatusCode::OK);
    // What the API would have given out with another log behind it: the log's id, the lanes, a signature.
    let bytes = BASE64.decode(ours).unwrap();
    let (said, signature) = bytes.split_at(bytes.len() - 32);
    let (log, lanes) = said.split_at(16);
    assert_eq!(log, app.log.id().as_bytes());
    let key = MacKey::new(SECRET.as_bytes()).derive("position");
    assert_eq!(signature, key.sign(&[said]), "so it is signed");
    let other = [Uuid::from_u128(7).as_bytes(), lanes].concat();
    let token = |signature: &[u8]| BASE64.encode([&other, signature].concat());
    let gone = from(&token(&key.sign(&[&other]))).await;
    assert_problem(gone, 410, "position-of-another-log").await;
    assert_problem(from(&token(signature)).await, 400, "position-invalid").await;
}

#[tokio::test]
async fn an_unknown_kind_of_reaction_is_named() {
    let app = App::start().await;
    let mut ana = app.user("ana");
    let written = ana.posts("/v1/posts", json!({"text": "a"})).await;
    let path = format!("/v1/posts/{}", written["id"].as_str().unwrap());
    let written = ana
        .posts(&format!("{path}/comments"), json!({"text": "b"}))
        .await;
    let comment = format!("/v1/comments/{}", written["id"].as_str().unwrap());
    for target in [path, comment] {
        // Postgres takes no NUL in a text.
        for kind in ["disgust", "%00"] {
            let asked = format!("{target}/reactions");
            for (method, asked) in [
                (Method::GET, format!("{asked}?kind={kind}")),
                (Method::PUT, format!("{asked}/{kind}")),
                (Method::DELETE, format!("{asked}/{kind}")),
            ] {
                let response = ana.request(method, &asked).send().await.unwrap();
                let problem = assert_problem(response, 422, "invalid-field").await;
                assert_eq!(problem["errors"][0]["pointer"], "/kind", "{asked}");
            }
        }
    }
}
