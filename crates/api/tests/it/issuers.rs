//! Tokens of issuers that are trusted, and of those that only say so.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::Json;
use axum::routing::get;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use events::id::UserId;
use jsonwebtoken::jwk::{Jwk, JwkSet};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use reqwest::{Response, StatusCode};
use serde_json::{Value, json};
use service::clock::Clock;
use service::shutdown::Shutdown;
use tempfile::TempDir;
use tokio::net::TcpListener;

use crate::app::{App, SOON, assert_problem};

const ISSUER: &str = "https://id.example.org/";
const SHARED: &str = "a secret that the issuer has told us, and nobody else";

/// What `openssl` makes, in a file.
pub(crate) fn openssl(arguments: &[&str], out: &Path) -> Vec<u8> {
    let mut command = Command::new("openssl");
    let status = command
        .args(arguments)
        .arg("-out")
        .arg(out)
        .stderr(std::process::Stdio::null())
        .status();
    assert!(
        status.expect("run openssl").success(),
        "openssl {arguments:?}"
    );
    std::fs::read(out).expect("read what openssl made")
}

/// A key that signs, and its public half as PEM.
fn pair(folder: &Path, name: &str, kind: &[&str]) -> (Vec<u8>, Vec<u8>) {
    let (private, public) = (
        folder.join(format!("{name}.pem")),
        folder.join(format!("{name}.pub.pem")),
    );
    let signs = openssl(&[&["genpkey"], kind].concat(), &private);
    let read = [
        "pkey",
        "-pubout",
        "-in",
        private.to_str().expect("a path of text"),
    ];
    (signs, openssl(&read, &public))
}

fn write(folder: &Path, name: &str, text: &[u8]) -> String {
    let file = folder.join(name);
    std::fs::write(&file, text).expect("write a file");
    file.to_str().expect("a path of text").to_owned()
}

fn claims(app: &App) -> Value {
    let exp = Clock::System.now().timestamp() + 300;
    json!({"iss": ISSUER, "sub": "ana@corp", "aud": "cinelog", "exp": exp, "tenant": app.tenant.to_string(),
        "roles": ["moderator", "data_global"]})
}

fn with(mut claims: Value, name: &str, value: Value) -> Value {
    claims[name] = value;
    claims
}

fn token(algorithm: Algorithm, kid: Option<&str>, claims: &Value, key: &EncodingKey) -> String {
    let mut header = Header::new(algorithm);
    header.kid = kid.map(str::to_owned);
    jsonwebtoken::encode(&header, claims, key).expect("sign a token")
}

async fn asks(app: &App, token: &str, path: &str) -> Response {
    let request = app.http.get(format!("{}{path}", app.url));
    request.bearer_auth(token).send().await.expect("ask")
}

async fn passes(app: &App, token: &str) -> bool {
    asks(app, token, "/v1/feed").await.status() == StatusCode::OK
}

/// An API that trusts one issuer.
async fn trusting(folder: &Path, issuer: Value) -> App {
    trusting_by(folder, issuer, Clock::System).await
}

/// The same by this clock.
async fn trusting_by(folder: &Path, issuer: Value, clock: Clock) -> App {
    let mut described = json!({"issuer": ISSUER, "audience": ["cinelog"], "tenants": ["default"], "roles": ["moderator"]});
    for (name, value) in issuer.as_object().expect("an issuer") {
        described[name] = value.clone();
    }
    let file = write(
        folder,
        "issuers.json",
        json!([described]).to_string().as_bytes(),
    );
    App::start_by(&["--jwt-issuers", &file], clock).await
}

#[tokio::test]
async fn an_issuers_token_says_who_for_its_tenants_and_with_its_roles() {
    let folder = TempDir::new().unwrap();
    let secret = write(folder.path(), "secret", SHARED.as_bytes());
    let app = trusting(
        folder.path(),
        json!({"algorithm": "HS256", "secret_file": secret}),
    )
    .await;
    let key = EncodingKey::from_secret(SHARED.as_bytes());
    let sign = |claims: &Value| token(Algorithm::HS256, None, claims, &key);
    let good = claims(&app);
    // Of another issuer the same name is another user; a moderator may, and nobody from there reads all facts.
    let me = asks(&app, &sign(&good), "/v1/moderation/queue").await;
    assert_eq!(me.status(), StatusCode::OK);
    assert_problem(
        asks(&app, &sign(&good), "/v1/facts").await,
        403,
        "forbidden",
    )
    .await;
    let post = app
        .http
        .post(format!("{}/v1/posts", app.url))
        .bearer_auth(sign(&good));
    let post = post.json(&json!({"text": "hello"})).send().await.unwrap();
    assert_eq!(post.status(), StatusCode::CREATED);
    let registered: Value =
        sqlx::query_scalar("SELECT payload FROM log.events WHERE type = 'user.registered'")
            .fetch_one(&app.owner)
            .await
            .unwrap();
    assert_eq!(
        registered["user"],
        UserId::of(ISSUER, "ana@corp").to_string()
    );
    assert_eq!(registered["issuer"], ISSUER);
}

#[tokio::test]
async fn a_token_that_is_not_for_us_or_not_now_does_not_pass() {
    let folder = TempDir::new().unwrap();
    let secret = write(folder.path(), "secret", SHARED.as_bytes());
    let app = trusting(
        folder.path(),
        json!({"algorithm": "HS256", "secret_file": secret}),
    )
    .await;
    let key = EncodingKey::from_secret(SHARED.as_bytes());
    let sign = |claims: &Value| token(Algorithm::HS256, None, claims, &key);
    let (good, now) = (claims(&app), Clock::System.now().timestamp());
    assert!(
        passes(&app, &sign(&with(good.clone(), "exp", json!(now - 10)))).await,
        "leeway"
    );
    assert!(
        passes(
            &app,
            &sign(&with(good.clone(), "aud", json!(["else", "cinelog"])))
        )
        .await
    );
    assert!(
        passes(&app, &sign(&with(good.clone(), "tenant", json!("default")))).await,
        "by name"
    );
    for (wrong, value) in [
        ("aud", json!("another")),
        ("aud", Value::Null),
        ("iss", json!("https://evil.example/")),
        ("iss", json!("cinelog")),
        ("tenant", json!(uuid::Uuid::from_u128(2))),
        ("tenant", json!(7)),
        ("sub", json!("")),
        ("nbf", json!(now + 300)),
        ("exp", json!("soon")),
    ] {
        let forged = sign(&with(good.clone(), wrong, value.clone()));
        let problem =
            assert_problem(asks(&app, &forged, "/v1/feed").await, 401, "token-invalid").await;
        assert_eq!(problem["status"], 401, "{wrong}: {value}");
    }
    let expired = sign(&with(good.clone(), "exp", json!(now - 60)));
    assert_problem(asks(&app, &expired, "/v1/feed").await, 401, "token-expired").await;
    // Signed with nothing, or with the algorithm's cousin.
    let parts: Vec<String> = sign(&good).split('.').map(str::to_owned).collect();
    let none = BASE64.encode(r#"{"alg":"none","typ":"JWT"}"#);
    assert!(!passes(&app, &format!("{none}.{}.", parts[1])).await);
    assert!(!passes(&app, &token(Algorithm::HS512, None, &good, &key)).await);
}

#[tokio::test]
async fn a_public_key_is_no_secret() {
    let folder = TempDir::new().unwrap();
    let rsa = ["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"];
    let (private, public) = pair(folder.path(), "rsa", &rsa);
    let file = folder.path().join("rsa.pub.pem");
    let app = trusting(
        folder.path(),
        json!({"algorithm": "RS256", "pem_file": file}),
    )
    .await;
    let good = token(
        Algorithm::RS256,
        None,
        &claims(&app),
        &EncodingKey::from_rsa_pem(&private).unwrap(),
    );
    assert!(passes(&app, &good).await);
    let forged = token(
        Algorithm::HS256,
        None,
        &claims(&app),
        &EncodingKey::from_secret(&public),
    );
    assert!(!passes(&app, &forged).await);
    let (other, _) = pair(folder.path(), "other", &rsa);
    let others = token(
        Algorithm::RS256,
        None,
        &claims(&app),
        &EncodingKey::from_rsa_pem(&other).unwrap(),
    );
    assert!(!passes(&app, &others).await);
}

/// Keys at a URL, and how often they were asked for.
struct Published {
    keys: Arc<Mutex<JwkSet>>,
    asked: Arc<AtomicUsize>,
    silent: Arc<AtomicBool>,
    url: String,
    shutdown: Shutdown,
}

impl Published {
    async fn start() -> Self {
        let keys = Arc::new(Mutex::new(JwkSet::default()));
        let (asked, silent) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
        let (shown, counted, failing) = (keys.clone(), asked.clone(), silent.clone());
        let answer = async move || {
            let fails = failing.load(Ordering::SeqCst);
            counted.fetch_add(1, Ordering::SeqCst);
            let keys = Json(shown.lock().expect("nobody panicked").clone());
            (!fails).then_some(keys).ok_or(StatusCode::BAD_GATEWAY)
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("listen");
        let url = format!("http://{}/keys", listener.local_addr().expect("an address"));
        let shutdown = Shutdown::new();
        service::http::serve(
            listener,
            axum::Router::new().route("/keys", get(answer)),
            &[],
            &shutdown,
        );
        Self {
            keys,
            asked,
            silent,
            url,
            shutdown,
        }
    }

    fn publish(&self, kid: &str, key: &EncodingKey, algorithm: Algorithm) {
        let mut jwk = Jwk::from_encoding_key(key, algorithm).expect("a public key");
        jwk.common.key_id = Some(kid.to_owned());
        self.keys.lock().expect("nobody panicked").keys.push(jwk);
    }

    fn withdraw_all(&self) {
        self.keys.lock().expect("nobody panicked").keys.clear();
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

impl Drop for Published {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

#[tokio::test]
async fn published_keys_are_read_once_and_their_kind_is_not_the_tokens_choice() {
    let folder = TempDir::new().unwrap();
    let published = Published::start().await;
    let curve = ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"];
    let (private, _) = pair(folder.path(), "ec", &curve);
    let (edwards, _) = pair(folder.path(), "ed", &["-algorithm", "ED25519"]);
    let key = EncodingKey::from_ec_pem(&private).unwrap();
    let edwards = EncodingKey::from_ed_pem(&edwards).unwrap();
    published.publish("one", &key, Algorithm::ES256);
    published.publish("two", &edwards, Algorithm::EdDSA);
    let secret = EncodingKey::from_secret(SHARED.as_bytes());
    published.publish("three", &secret, Algorithm::HS256);
    let app = trusting(
        folder.path(),
        json!({"algorithm": "ES256", "jwks_url": published.url}),
    )
    .await;
    let good = token(Algorithm::ES256, Some("one"), &claims(&app), &key);
    let many = futures::future::join_all((0..20).map(|_| passes(&app, &good)));
    assert!(many.await.into_iter().all(|passed| passed));
    assert_eq!(published.asked(), 1);
    // Good signatures of published keys, and not the issuer's algorithm.
    assert!(
        !passes(
            &app,
            &token(Algorithm::EdDSA, Some("two"), &claims(&app), &edwards)
        )
        .await
    );
    assert!(
        !passes(
            &app,
            &token(Algorithm::HS256, Some("three"), &claims(&app), &secret)
        )
        .await
    );
    // Which of three, a token without a name does not say; and who makes names up does not make us ask again and again.
    assert!(!passes(&app, &token(Algorithm::ES256, None, &claims(&app), &key)).await);
    for n in 0..5 {
        let unknown = token(
            Algorithm::ES256,
            Some(&format!("k{n}")),
            &claims(&app),
            &key,
        );
        assert!(!passes(&app, &unknown).await);
    }
    assert_eq!(published.asked(), 1);
}

fn edwards(folder: &Path, name: &str) -> EncodingKey {
    let (private, _) = pair(folder, name, &["-algorithm", "ED25519"]);
    EncodingKey::from_ed_pem(&private).expect("a key that signs")
}

#[tokio::test]
async fn a_token_by_eddsa_passes_under_the_issuers_key_only() {
    let folder = TempDir::new().unwrap();
    let (ours, others) = (
        edwards(folder.path(), "ours"),
        edwards(folder.path(), "others"),
    );
    let file = folder.path().join("ours.pub.pem");
    let described = json!({"algorithm": "EdDSA", "pem_file": file});
    let app = trusting(folder.path(), described).await;
    let by = |key| token(Algorithm::EdDSA, None, &claims(&app), key);
    assert!(passes(&app, &by(&ours)).await);
    assert_problem(
        asks(&app, &by(&others), "/v1/feed").await,
        401,
        "token-invalid",
    )
    .await;
    let secret = EncodingKey::from_secret(&std::fs::read(&file).unwrap());
    assert!(!passes(&app, &token(Algorithm::HS256, None, &claims(&app), &secret)).await);
}

/// A token that holds for two days.
fn lasting(app: &App, clock: &Clock, kid: &str, key: &EncodingKey) -> String {
    let exp = json!(clock.now().timestamp() + 2 * 86_400);
    let claims = with(claims(app), "exp", exp);
    token(Algorithm::EdDSA, Some(kid), &claims, key)
}

/// An issuer whose key `one` is believed, under a clock that stands still.
async fn believed(folder: &Path) -> (Published, Clock, App, EncodingKey) {
    let (published, clock) = (Published::start().await, Clock::fixed(Clock::System.now()));
    let one = edwards(folder, "one");
    published.publish("one", &one, Algorithm::EdDSA);
    let described = json!({"algorithm": "EdDSA", "jwks_url": published.url});
    let app = trusting_by(folder, described, clock.clone()).await;
    assert!(passes(&app, &lasting(&app, &clock, "one", &one)).await);
    (published, clock, app, one)
}

#[tokio::test]
async fn an_issuer_may_change_its_keys() {
    let folder = TempDir::new().unwrap();
    let (published, clock, app, one) = believed(folder.path()).await;
    let [second, third] = ["2", "3"].map(|name| edwards(folder.path(), name));
    let by = |kid, key| lasting(&app, &clock, kid, key);
    published.withdraw_all();
    published.publish("second", &second, Algorithm::EdDSA);
    // Half a minute may pass until a name that is not known is asked for.
    assert!(!passes(&app, &by("second", &second)).await);
    assert_eq!(published.asked(), 1);
    clock.advance(chrono::Duration::seconds(31));
    assert!(passes(&app, &by("second", &second)).await);
    assert!(!passes(&app, &by("one", &one)).await);
    assert!(!passes(&app, &by("second", &one)).await);
    // And ten minutes until the keys are looked at though all names are known.
    published.withdraw_all();
    published.publish("third", &third, Algorithm::EdDSA);
    assert!(passes(&app, &by("second", &second)).await);
    assert_eq!(published.asked(), 2);
    clock.advance(chrono::Duration::seconds(601));
    testing::wait::until_true(
        SOON,
        "the key that was withdrawn is not believed",
        async || !passes(&app, &by("second", &second)).await,
    )
    .await;
    assert!(passes(&app, &by("third", &third)).await);
}

#[tokio::test]
async fn a_key_that_was_withdrawn_long_ago_is_not_believed_once_more() {
    let folder = TempDir::new().unwrap();
    let (published, clock, app, one) = believed(folder.path()).await;
    let token = lasting(&app, &clock, "one", &one);
    // The last time that somebody asked, the issuer did not answer.
    published.silent.store(true, Ordering::SeqCst);
    clock.advance(chrono::Duration::seconds(601));
    assert!(passes(&app, &token).await);
    let tried = async || published.asked() == 2;
    testing::wait::until_true(SOON, "it is asked", tried).await;
    published.silent.store(false, Ordering::SeqCst);
    published.withdraw_all();
    // A night in which nobody of this issuer asks for anything.
    clock.advance(chrono::Duration::hours(9));
    assert!(!passes(&app, &token).await);
}

#[tokio::test]
async fn keys_of_an_issuer_that_falls_silent_are_believed_for_a_day() {
    let folder = TempDir::new().unwrap();
    let (published, clock, app, one) = believed(folder.path()).await;
    let token = lasting(&app, &clock, "one", &one);
    published.silent.store(true, Ordering::SeqCst);
    clock.advance(chrono::Duration::hours(24));
    assert!(passes(&app, &token).await);
    clock.advance(chrono::Duration::minutes(1));
    let silence = asks(&app, &token, "/v1/feed").await;
    assert_problem(silence, 503, "unavailable").await;
    published.silent.store(false, Ordering::SeqCst);
    clock.advance(chrono::Duration::minutes(1));
    assert!(passes(&app, &token).await);
}

#[tokio::test]
async fn a_key_that_a_token_brings_along_decides_nothing() {
    let folder = TempDir::new().unwrap();
    let (published, evil) = (Published::start().await, Published::start().await);
    let (ours, theirs) = (
        edwards(folder.path(), "ours"),
        edwards(folder.path(), "theirs"),
    );
    published.publish("one", &ours, Algorithm::EdDSA);
    evil.publish("one", &theirs, Algorithm::EdDSA);
    evil.publish("evil", &theirs, Algorithm::EdDSA);
    let described = json!({"algorithm": "EdDSA", "jwks_url": published.url});
    let app = trusting(folder.path(), described).await;
    let brought = Jwk::from_encoding_key(&theirs, Algorithm::EdDSA).unwrap();
    for kid in [None, Some("one"), Some("evil")] {
        for hint in ["jku", "x5u", "jwk", "all"] {
            let mut header = Header::new(Algorithm::EdDSA);
            header.kid = kid.map(str::to_owned);
            let says = |name| [name, "all"].contains(&hint);
            header.jku = says("jku").then(|| evil.url.clone());
            header.x5u = says("x5u").then(|| evil.url.clone());
            header.jwk = says("jwk").then(|| brought.clone());
            let by = |key| jsonwebtoken::encode(&header, &claims(&app), key).unwrap();
            let forged = asks(&app, &by(&theirs), "/v1/feed").await;
            assert_problem(forged, 401, "token-invalid").await;
            // Nor does it spoil what is good.
            let good = passes(&app, &by(&ours)).await;
            assert_eq!(good, kid != Some("evil"), "{kid:?}, {hint}");
        }
    }
    assert_eq!(evil.asked(), 0, "nobody asks where a token says");
}

#[tokio::test]
async fn an_issuer_that_does_not_answer_is_no_fault_of_the_token() {
    let folder = TempDir::new().unwrap();
    let url = format!("http://{}/keys", testing::port::free());
    let described = json!({"algorithm": "EdDSA", "jwks_url": url});
    let app = trusting(folder.path(), described).await;
    let key = edwards(folder.path(), "ed");
    let token = token(Algorithm::EdDSA, Some("one"), &claims(&app), &key);
    let answer = asks(&app, &token, "/v1/feed").await;
    assert_problem(answer, 503, "unavailable").await;
    // Others are none of its business.
    assert!(passes(&app, &app.user("ana").token).await);
}
