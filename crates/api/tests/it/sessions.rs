//! How sessions end, whatever their clients know; and what strangers may ask of accounts.

use std::time::Duration;

use reqwest::{Response, StatusCode};
use serde_json::{Value, json};
use service::clock::Clock;
use tempfile::TempDir;
use testing::db::locked_out;

use crate::accounts::{In, PASSWORD, let_in, login, refresh, register, sent};
use crate::app::{App, SOON, assert_problem};

async fn feed(app: &App, who: &In) -> StatusCode {
    let request = app.http.get(format!("{}/v1/feed", app.url));
    let request = request.bearer_auth(&who.access);
    request.send().await.unwrap().status()
}

pub(crate) async fn log_out_everywhere(app: &App, cookie: &str) {
    let request = app.http.post(format!("{}/v1/auth/logout", app.url));
    let request = request
        .header("cookie", cookie)
        .json(&json!({"everywhere": true}));
    assert_eq!(
        request.send().await.unwrap().status(),
        StatusCode::NO_CONTENT
    );
}

#[tokio::test]
async fn who_logs_out_by_a_token_that_was_replaced_is_out_all_the_same() {
    let app = App::start().await;
    let first = register(&app, "ana").await;
    let elsewhere = let_in(login(&app, "ana", PASSWORD).await).await;
    // An answer that was lost on its way.
    let second = let_in(refresh(&app, &first.cookie).await).await;
    log_out_everywhere(&app, &first.cookie).await;
    for over in [&first, &second, &elsewhere] {
        assert_eq!(feed(&app, over).await, StatusCode::UNAUTHORIZED);
    }
    assert_problem(refresh(&app, &second.cookie).await, 401, "session-ended").await;

    // By one that is older still, only the session ends that somebody has a copy of.
    let first = let_in(login(&app, "ana", PASSWORD).await).await;
    let elsewhere = let_in(login(&app, "ana", PASSWORD).await).await;
    let second = let_in(refresh(&app, &first.cookie).await).await;
    let third = let_in(refresh(&app, &second.cookie).await).await;
    log_out_everywhere(&app, &first.cookie).await;
    assert_eq!(feed(&app, &third).await, StatusCode::UNAUTHORIZED);
    assert_eq!(feed(&app, &elsewhere).await, StatusCode::OK);
}

#[tokio::test]
async fn a_token_that_was_replaced_a_while_ago_is_a_copy_and_none_holds_for_ever() {
    let clock = Clock::fixed(Clock::System.now());
    let app = App::start_by(&[], clock.clone()).await;
    let first = register(&app, "ana").await;
    let second = let_in(refresh(&app, &first.cookie).await).await;
    clock.advance(chrono::Duration::seconds(9));
    assert_eq!(
        let_in(refresh(&app, &first.cookie).await).await.cookie,
        second.cookie
    );
    clock.advance(chrono::Duration::seconds(2));
    for over in [&first, &second] {
        assert_problem(refresh(&app, &over.cookie).await, 401, "session-ended").await;
    }
    let later = let_in(login(&app, "ana", PASSWORD).await).await;
    clock.advance(chrono::Duration::days(29));
    let later = let_in(refresh(&app, &later.cookie).await).await;
    clock.advance(chrono::Duration::days(30) + chrono::Duration::seconds(1));
    assert_problem(refresh(&app, &later.cookie).await, 401, "session-ended").await;
}

/// More than there are connections for accounts.
const STRANGERS: usize = 12;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_who_wait_to_be_registered_are_in_nobodys_way() {
    let app = App::start().await;
    let ana = register(&app, "ana").await;
    let held = app.locked("log.streams").await;
    let strangers = (0..STRANGERS).map(|n| {
        let (app, handle) = (&app, format!("stranger-{n}"));
        async move {
            let body = json!({"handle": handle, "password": PASSWORD});
            sent(app, "register", body).await.status()
        }
    });
    let strangers = futures::future::join_all(strangers);
    let meanwhile = async {
        testing::wait::until_true(SOON, "somebody waits for the log", async || {
            locked_out(&app.owner, "%log.%").await > 0
        })
        .await;
        // As many come as may.
        tokio::time::sleep(Duration::from_secs(3)).await;
        // Those who are let in by their sessions need a connection each.
        for _ in 0..3 {
            let in_again = let_in(refresh(&app, &ana.cookie).await).await;
            assert_eq!(feed(&app, &in_again).await, StatusCode::OK);
        }
        held.rollback().await.unwrap();
    };
    let (strangers, ()) = tokio::join!(strangers, meanwhile);
    // Some were told to come again: nothing is left of those.
    for (n, status) in strangers.into_iter().enumerate() {
        if status != StatusCode::CREATED {
            assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
            register(&app, &format!("stranger-{n}")).await;
        }
    }
}

async fn is_limited(answer: Response, rate: &str) {
    let policy = answer.headers()["ratelimit-policy"].to_str().unwrap();
    assert!(policy.starts_with(&format!("\"{rate}\";q=1;")), "{policy}");
    assert_problem(answer, 429, "rate-limited").await;
}

#[tokio::test]
async fn each_way_of_proving_who_one_is_has_its_rate() {
    let folder = TempDir::new().unwrap();
    let mail = folder.path().to_str().unwrap();
    let rates = "register=1/1,login=1/1,refresh=1/1,code=1/1,mail=1/1";
    let app = App::start_with(&["--mail", mail, "--rate-limits", rates]).await;
    let registered = |handle: &str| json!({"handle": handle, "password": PASSWORD});
    let logged_in = |login: &str| json!({"login": login, "password": PASSWORD});
    let to = |name: &str| json!({"email": format!("{name}@example.org")});
    let code = || json!({"code": "nonsense"});
    let asked: [(&str, &str, Value, Value, u16); 5] = [
        (
            "register",
            "register",
            registered("ana"),
            registered("bo"),
            201,
        ),
        ("login", "login", logged_in("ana"), logged_in("bo"), 200),
        ("mail", "reset", to("ana"), to("bo"), 202),
        (
            "code",
            "verify",
            code(),
            json!({"code": "nonsense", "password": PASSWORD}),
            422,
        ),
        ("refresh", "refresh", Value::Null, Value::Null, 401),
    ];
    for (rate, path, first, second, status) in asked {
        let ask = async |path: &str, body: &Value| match path {
            "refresh" => refresh(&app, "cinelog_refresh=nonsense").await,
            _ => sent(&app, path, body.clone()).await,
        };
        assert_eq!(ask(path, &first).await.status(), status, "{rate}");
        // A code is counted wherever it is shown.
        let path = if rate == "code" { "reset" } else { path };
        is_limited(ask(path, &second).await, rate).await;
    }
    let out = app.http.post(format!("{}/v1/auth/logout", app.url));
    is_limited(out.send().await.unwrap(), "refresh").await;

    let rates = ["--mail", mail, "--rate-limits", "mail-to=1/1"];
    let app = App::start_with(&rates).await;
    assert_eq!(sent(&app, "reset", to("ana")).await.status(), 202);
    is_limited(sent(&app, "verify", to("ANA")).await, "mail-to").await;
    assert_eq!(sent(&app, "reset", to("bo")).await.status(), 202);
}
