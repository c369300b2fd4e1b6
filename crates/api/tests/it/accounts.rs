//! Accounts of our own: registering, sessions, mails, invites, keys for machines.

use std::path::PathBuf;
use std::time::Instant;

use api::auth::Role;
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use service::db::Role as DbRole;
use sqlx::PgPool;
use tempfile::TempDir;

use crate::app::{App, SOON, assert_problem};

pub(crate) const PASSWORD: &str = "correct horse battery";
const TTL: std::time::Duration = std::time::Duration::from_mins(10);

/// Somebody who is logged in.
pub(crate) struct In {
    pub(crate) access: String,
    pub(crate) cookie: String,
    pub(crate) body: Value,
}

fn post(app: &App, path: &str) -> RequestBuilder {
    app.http.post(format!("{}/v1/auth/{path}", app.url))
}

pub(crate) async fn sent(app: &App, path: &str, body: Value) -> Response {
    post(app, path).json(&body).send().await.unwrap()
}

pub(crate) async fn let_in(response: Response) -> In {
    let status = response.status();
    let cookie = response
        .headers()
        .get("set-cookie")
        .map(|cookie| cookie.to_str().unwrap().to_owned());
    let body: Value = response.json().await.unwrap();
    assert!(status.is_success(), "{status} {body}");
    let cookie = cookie.unwrap();
    assert!(cookie.contains("; HttpOnly; SameSite=Strict"), "{cookie}");
    In {
        access: body["access_token"].as_str().unwrap().to_owned(),
        cookie: cookie.split(';').next().unwrap().to_owned(),
        body,
    }
}

pub(crate) async fn register(app: &App, handle: &str) -> In {
    let body = json!({"handle": handle, "password": PASSWORD, "name": handle});
    let response = sent(app, "register", body).await;
    assert_eq!(response.status(), StatusCode::CREATED);
    let_in(response).await
}

pub(crate) async fn login(app: &App, login: &str, password: &str) -> Response {
    sent(app, "login", json!({"login": login, "password": password})).await
}

pub(crate) async fn refresh(app: &App, cookie: &str) -> Response {
    post(app, "refresh")
        .header("cookie", cookie)
        .send()
        .await
        .unwrap()
}

/// What a bearer gets.
async fn get(app: &App, bearer: &str, path: &str) -> Response {
    let request = app.http.get(format!("{}{path}", app.url));
    request.bearer_auth(bearer).send().await.unwrap()
}

async fn status(app: &App, bearer: &str) -> StatusCode {
    get(app, bearer, "/v1/follow-requests").await.status()
}

#[tokio::test]
async fn who_registers_is_in_and_there() {
    let app = App::start().await;
    let ana = register(&app, "Ana").await;
    let id = ana.body["user"].as_str().unwrap();
    let me: Value = testing::wait::until(SOON, "the profile", async || {
        let me = get(&app, &ana.access, "/v1/users/me")
            .await
            .json::<Value>()
            .await
            .unwrap();
        Some(me).filter(|me| me["name"] == "Ana")
    })
    .await;
    assert_eq!(me["id"], id);
    // The same user logs in, whatever the capitals.
    let again = let_in(login(&app, "aNA", PASSWORD).await).await;
    assert_eq!(again.body["user"], id);
    assert_ne!(again.cookie, ana.cookie);
    let taken = sent(
        &app,
        "register",
        json!({"handle": "ANA", "password": PASSWORD}),
    )
    .await;
    let problem = assert_problem(taken, 409, "taken").await;
    assert_eq!(problem["errors"][0]["pointer"], "/handle");
    // A name that was refused has left nothing behind.
    let users: i64 =
        sqlx::query_scalar("SELECT count(*) FROM log.events WHERE type = 'user.registered'")
            .fetch_one(&app.owner)
            .await
            .unwrap();
    assert_eq!(users, 1);
}

#[tokio::test]
async fn what_cannot_be_an_account_is_refused_field_by_field() {
    let app = App::start().await;
    for (field, body) in [
        ("/handle", json!({"handle": "a", "password": PASSWORD})),
        ("/handle", json!({"handle": "../etc", "password": PASSWORD})),
        (
            "/handle",
            json!({"handle": "ana@example.org", "password": PASSWORD}),
        ),
        ("/password", json!({"handle": "ana", "password": "short"})),
        (
            "/password",
            json!({"handle": "ana", "password": "x".repeat(257)}),
        ),
        (
            "/email",
            json!({"handle": "ana", "password": PASSWORD, "email": "nobody"}),
        ),
        (
            "/tenant",
            json!({"handle": "ana", "password": PASSWORD, "tenant": "nowhere"}),
        ),
    ] {
        let problem =
            assert_problem(sent(&app, "register", body).await, 422, "invalid-field").await;
        assert_eq!(problem["errors"][0]["pointer"], field);
        assert!(
            !problem.to_string().contains("short"),
            "a password comes back"
        );
    }
}

#[tokio::test]
async fn a_wrong_password_tells_nothing_and_cannot_be_tried_for_long() {
    let app = App::start().await;
    register(&app, "ana").await;
    assert_problem(
        login(&app, "nobody", PASSWORD).await,
        401,
        "credentials-wrong",
    )
    .await;
    let (begun, mut tries) = (Instant::now(), 0);
    while let wrong = login(&app, "ana", "wrong horse battery").await
        && wrong.status() != StatusCode::TOO_MANY_REQUESTS
    {
        assert_problem(wrong, 401, "credentials-wrong").await;
        tries += 1;
        // Ten at once, and five a minute.
        assert!(tries <= 10 + begun.elapsed().as_secs() / 12, "{tries}");
    }
    assert!(tries >= 10, "{tries}");
    let limited = login(&app, "ana", PASSWORD).await;
    assert!(limited.headers().contains_key("retry-after"));
    let policy = &limited.headers()["ratelimit-policy"];
    assert_eq!(policy, "\"login-as\";q=10;w=120");
    assert_problem(limited, 429, "rate-limited").await;
    // Others are not held up.
    assert_problem(login(&app, "bo", PASSWORD).await, 401, "credentials-wrong").await;
}

#[tokio::test]
async fn a_session_goes_on_by_its_newest_cookie_only() {
    let app = App::start().await;
    let first = register(&app, "ana").await;
    let second = let_in(refresh(&app, &first.cookie).await).await;
    assert_ne!(second.cookie, first.cookie);
    // Two tabs, or an answer that was lost: the same again.
    let same = let_in(refresh(&app, &first.cookie).await).await;
    assert_eq!(same.cookie, second.cookie);
    let third = let_in(refresh(&app, &second.cookie).await).await;
    assert_eq!(status(&app, &third.access).await, StatusCode::OK);
    // Nobody who has only ever had the newest one sends the first.
    assert_problem(refresh(&app, &first.cookie).await, 401, "session-ended").await;
    assert_problem(refresh(&app, &third.cookie).await, 401, "session-ended").await;
    let ended = get(&app, &third.access, "/v1/feed").await;
    assert_problem(ended, 401, "session-ended").await;
    assert_problem(
        refresh(&app, "cinelog_refresh=nonsense").await,
        401,
        "session-ended",
    )
    .await;
}

#[tokio::test]
async fn who_logs_out_is_out() {
    let app = App::start().await;
    let here = register(&app, "ana").await;
    let there = let_in(login(&app, "ana", PASSWORD).await).await;
    let elsewhere = let_in(login(&app, "ana", PASSWORD).await).await;
    let out = post(&app, "logout")
        .header("cookie", &here.cookie)
        .send()
        .await
        .unwrap();
    assert_eq!(out.status(), StatusCode::NO_CONTENT);
    assert!(
        out.headers()["set-cookie"]
            .to_str()
            .unwrap()
            .starts_with("cinelog_refresh=; ")
    );
    assert_eq!(status(&app, &here.access).await, StatusCode::UNAUTHORIZED);
    assert_eq!(status(&app, &there.access).await, StatusCode::OK);
    let all = post(&app, "logout")
        .header("cookie", &there.cookie)
        .json(&json!({"everywhere": true}));
    assert_eq!(all.send().await.unwrap().status(), StatusCode::NO_CONTENT);
    assert_eq!(
        status(&app, &elsewhere.access).await,
        StatusCode::UNAUTHORIZED
    );
}

#[tokio::test]
async fn pages_of_others_cannot_use_the_cookie() {
    let app = App::start_with(&["--cors-origins", "https://app.example.org"]).await;
    let ana = register(&app, "ana").await;
    let own = app.url.clone();
    for (origin, fine) in [
        ("https://evil.example", false),
        ("null", false),
        ("https://app.example.org", true),
        (&*own, true),
    ] {
        let request = post(&app, "refresh")
            .header("cookie", &ana.cookie)
            .header("origin", origin);
        let response = request.send().await.unwrap();
        if fine {
            assert_eq!(response.status(), StatusCode::OK, "{origin}");
            // Errors too are for the page to read.
            let failed = post(&app, "refresh")
                .header("origin", origin)
                .send()
                .await
                .unwrap();
            let allowed = failed.headers().get("access-control-allow-origin");
            assert_eq!(allowed.is_some(), origin != own, "{origin}");
            assert_problem(failed, 401, "session-ended").await;
        } else {
            assert!(
                !response
                    .headers()
                    .contains_key("access-control-allow-origin")
            );
            assert_problem(response, 403, "origin-foreign").await;
        }
    }
}

#[tokio::test]
async fn sign_up_may_be_closed_or_by_invite() {
    let closed = App::start_with(&["--signup", "closed"]).await;
    let body = json!({"handle": "ana", "password": PASSWORD});
    assert_problem(sent(&closed, "register", body).await, 403, "signup-closed").await;

    let app = App::start_with(&["--signup", "invite"]).await;
    let mut moderator = app.bearer(app.tenant, "mo", &[Role::Moderator], TTL);
    let member = app.user("ana").request(Method::POST, "/v1/auth/invites");
    assert_problem(member.send().await.unwrap(), 403, "forbidden").await;
    let made = moderator.does(Method::POST, "/v1/auth/invites", None).await;
    let with = |handle: &str, code: &Value| json!({"handle": handle, "password": PASSWORD, "invite": code});
    assert_problem(
        sent(&app, "register", with("bo", &json!("guess"))).await,
        403,
        "invite-invalid",
    )
    .await;
    let_in(sent(&app, "register", with("ana", &made["invite"])).await).await;
    assert_problem(
        sent(&app, "register", with("bo", &made["invite"])).await,
        403,
        "invite-invalid",
    )
    .await;
    // A name that is taken does not use it up.
    let made = moderator.does(Method::POST, "/v1/auth/invites", None).await;
    assert_problem(
        sent(&app, "register", with("ana", &made["invite"])).await,
        409,
        "taken",
    )
    .await;
    let_in(sent(&app, "register", with("bo", &made["invite"])).await).await;
}

#[tokio::test]
async fn an_invite_that_is_asked_for_again_is_the_same_one_and_stays_used() {
    let app = App::start_with(&["--signup", "invite"]).await;
    let moderator = app.bearer(app.tenant, "mo", &[Role::Moderator], TTL);
    let invite = async |key: &str| -> Value {
        let asked = moderator.request(Method::POST, "/v1/auth/invites");
        let asked = asked.header("idempotency-key", key).send().await.unwrap();
        assert_eq!(asked.status(), StatusCode::CREATED);
        asked.json().await.unwrap()
    };
    let made = invite("one").await;
    assert_eq!(invite("one").await, made);
    assert_ne!(invite("two").await["invite"], made["invite"]);
    let with =
        |handle: &str| json!({"handle": handle, "password": PASSWORD, "invite": made["invite"]});
    let_in(sent(&app, "register", with("ana")).await).await;
    assert_eq!(invite("one").await, made);
    let spent = sent(&app, "register", with("bo")).await;
    assert_problem(spent, 403, "invite-invalid").await;
}

/// The text of the newest mail that is not in `seen`, which must come.
async fn mail(folder: &TempDir, seen: &mut Vec<PathBuf>) -> String {
    let (file, text) = testing::wait::until(SOON, "a mail", async || {
        let files = std::fs::read_dir(folder.path()).unwrap();
        let mut files = files.map(|file| file.unwrap().path());
        let file = files.find(|file| {
            file.extension().is_some_and(|end| end == "eml") && !seen.contains(file)
        })?;
        let text = std::fs::read_to_string(&file).unwrap();
        Some((file, text))
    })
    .await;
    seen.push(file);
    text
}

/// The code that a mail says: its last line.
pub(crate) fn code(mail: &str) -> String {
    let body = mail.replace("=\r\n", "");
    body.trim_end().lines().last().unwrap().trim().to_owned()
}

pub(crate) async fn mails_left(owner: &PgPool) -> i64 {
    sqlx::query_scalar("SELECT count(*) FROM accounts.mails")
        .fetch_one(owner)
        .await
        .unwrap()
}

#[tokio::test]
async fn an_address_is_proven_and_brings_back_who_forgot_the_password() {
    let (folder, mut seen) = (TempDir::new().unwrap(), vec![]);
    let app = App::start_with(&["--mail", folder.path().to_str().unwrap()]).await;
    let body = json!({"handle": "ana", "password": PASSWORD, "email": "Ana@Example.org"});
    let ana = let_in(sent(&app, "register", body).await).await;
    assert_eq!(ana.body["verified"], false);
    let first = mail(&folder, &mut seen).await;
    assert!(first.contains("To: ana@example.org"), "{first}");
    let verify = async |code: &str| sent(&app, "verify", json!({"code": code})).await;
    assert_problem(verify(&code(&first)[1..]).await, 422, "code-invalid").await;
    assert_eq!(verify(&code(&first)).await.status(), StatusCode::NO_CONTENT);
    assert_problem(verify(&code(&first)).await, 422, "code-invalid").await;
    let known = let_in(login(&app, "ana@example.org", PASSWORD).await).await;
    assert_eq!(known.body["verified"], true);

    for email in ["nobody@example.org", "ANA@example.ORG"] {
        let request = post(&app, "reset").header("accept-language", "es-MX,es;q=0.9");
        let answer = request.json(&json!({"email": email})).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::ACCEPTED, "{email}");
    }
    let reset = mail(&folder, &mut seen).await;
    assert!(
        reset.contains("Subject: Elige") && reset.contains("To: ana@example.org"),
        "{reset}"
    );
    let new = json!({"code": code(&reset), "password": "another horse battery"});
    assert_problem(
        sent(&app, "verify", json!({"code": code(&reset)})).await,
        422,
        "code-invalid",
    )
    .await;
    assert_eq!(
        sent(&app, "reset", new.clone()).await.status(),
        StatusCode::NO_CONTENT
    );
    assert_problem(sent(&app, "reset", new).await, 422, "code-invalid").await;
    assert_problem(refresh(&app, &ana.cookie).await, 401, "session-ended").await;
    assert_problem(login(&app, "ana", PASSWORD).await, 401, "credentials-wrong").await;
    let_in(login(&app, "ana", "another horse battery").await).await;
    // A letter that looks like ours is another one.
    let kelvin = sent(&app, "reset", json!({"email": "mi\u{212A}e@example.org"})).await;
    assert_problem(kelvin, 422, "invalid-field").await;
    // Sent is gone, and nobody else was written to.
    testing::wait::until_true(SOON, "no mail is left", async || {
        mails_left(&app.owner).await == 0
    })
    .await;
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
}

#[tokio::test]
async fn without_mail_nobody_waits_for_one() {
    let app = App::start().await;
    let body = json!({"handle": "ana", "password": PASSWORD, "email": "ana@example.org"});
    let_in(sent(&app, "register", body).await).await;
    assert_eq!(mails_left(&app.owner).await, 0);
    let reset = sent(&app, "reset", json!({"email": "ana@example.org"})).await;
    assert_problem(reset, 409, "no-mail").await;
    let taken = json!({"handle": "bo", "password": PASSWORD, "email": "ANA@example.org"});
    let problem = assert_problem(sent(&app, "register", taken).await, 409, "taken").await;
    assert_eq!(problem["errors"][0]["pointer"], "/email");
}

#[tokio::test]
async fn queries_of_users_cannot_reach_what_proves_who_they_are() {
    let app = App::start().await;
    let body = json!({"handle": "ana", "password": PASSWORD, "email": "ana@example.org"});
    let_in(sent(&app, "register", body).await).await;
    let tables: Vec<(String, bool, bool)> = sqlx::query_as(
        "SELECT c.relname::text, c.relrowsecurity AND c.relforcerowsecurity
                AND EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = c.oid),
            has_table_privilege('cinelog_api', c.oid, 'SELECT')
        FROM pg_class c WHERE c.relnamespace = 'accounts'::regnamespace AND c.relkind = 'r'",
    )
    .fetch_all(&app.owner)
    .await
    .unwrap();
    assert!(tables.len() >= 11, "{tables:?}");
    let api: Vec<&str> = tables
        .iter()
        .filter(|(.., api)| *api)
        .map(|(name, ..)| &**name)
        .collect();
    assert!(tables.iter().all(|(_, guarded, _)| *guarded), "{tables:?}");
    for secret in [
        "logins",
        "sessions",
        "permits",
        "invites",
        "api_keys",
        "mails",
        "buckets",
        "uploads",
        "subscribers",
        "plans",
    ] {
        assert!(!api.contains(&secret), "{secret}");
    }
    // Nor the role that may, without saying for which tenant.
    let accounts = app.database.pool(DbRole::Accounts).await;
    let seen: i64 = sqlx::query_scalar("SELECT count(*) FROM accounts.logins")
        .fetch_one(&accounts)
        .await
        .unwrap();
    assert_eq!(seen, 0);
}

/// Whoever registers with somebody else's address loses the account to them, and all that was made with it.
#[tokio::test]
async fn who_owns_an_address_takes_the_account_and_its_keys_end() {
    let (folder, mut seen) = (TempDir::new().unwrap(), vec![]);
    let app = App::start_with(&["--mail", folder.path().to_str().unwrap()]).await;
    let body = json!({"handle": "thief", "password": PASSWORD, "email": "victim@example.org"});
    let thief = let_in(sent(&app, "register", body).await).await;
    mail(&folder, &mut seen).await;
    let mut machine = app.with_token(&thief.access);
    let key = machine
        .posts("/v1/api-keys", json!({"name": "stays"}))
        .await;
    let key = key["key"].as_str().unwrap();
    assert_eq!(status(&app, key).await, StatusCode::OK);
    sent(&app, "reset", json!({"email": "victim@example.org"})).await;
    let code = code(&mail(&folder, &mut seen).await);
    let new = sent(
        &app,
        "reset",
        json!({"code": code, "password": "another horse battery"}),
    )
    .await;
    assert_eq!(new.status(), StatusCode::NO_CONTENT);
    assert_eq!(status(&app, &thief.access).await, StatusCode::UNAUTHORIZED);
    testing::wait::until_true(SOON, "the key ends", async || {
        status(&app, key).await == StatusCode::UNAUTHORIZED
    })
    .await;
}
