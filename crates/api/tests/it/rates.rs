//! How often one may ask, and what a client may cost before its request is whole.

use std::time::Duration;

use reqwest::{Method, Response, StatusCode};
use serde_json::json;
use service::clock::Clock;
use testing::environment;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::app::{App, User, assert_problem};

async fn asks(user: &User<'_>, method: Method, path: &str) -> Response {
    let request = user.request(method.clone(), path);
    let request = match method {
        Method::POST => request.json(&json!({"text": "hello"})),
        _ => request,
    };
    request.send().await.unwrap()
}

fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    response.headers()[name].to_str().unwrap()
}

#[tokio::test]
async fn who_asks_too_often_is_told_when_to_ask_again() {
    let rates = "user-read=3/6,user-write=1/6,user-search=2/6,user-upload=1/6";
    let app = App::start_with(&["--rate-limits", rates]).await;
    let (ana, bo) = (app.user("ana"), app.user("bo"));
    for left in [2, 1, 0] {
        let feed = asks(&ana, Method::GET, "/v1/feed").await;
        assert_eq!(feed.status(), StatusCode::OK);
        assert_eq!(header(&feed, "ratelimit-policy"), "\"user-read\";q=3;w=30");
        let told = format!("\"user-read\";r={left};t={}", (3 - left) * 10);
        assert_eq!(header(&feed, "ratelimit"), told);
    }
    let refused = asks(&ana, Method::GET, "/v1/usage").await;
    let wait: u64 = header(&refused, "retry-after").parse().unwrap();
    assert!((9..=11).contains(&wait), "{wait}");
    assert!(header(&refused, "ratelimit").starts_with("\"user-read\";r=0;t="));
    let problem = assert_problem(refused, 429, "rate-limited").await;
    assert_eq!(
        problem["detail"],
        "user-read allows 6 a minute, and 3 at once"
    );
    // Commands, searches and uploads are counted by themselves, and so are others.
    assert_eq!(
        asks(&bo, Method::GET, "/v1/feed").await.status(),
        StatusCode::OK
    );
    assert_eq!(
        asks(&ana, Method::POST, "/v1/posts").await.status(),
        StatusCode::CREATED
    );
    assert_problem(
        asks(&ana, Method::POST, "/v1/posts").await,
        429,
        "rate-limited",
    )
    .await;
    for left in [1, 0] {
        let found = asks(&ana, Method::GET, "/v1/search?q=hello").await;
        assert_eq!(found.status(), StatusCode::OK);
        assert!(header(&found, "ratelimit").starts_with(&format!("\"user-search\";r={left};")));
    }
    let refused = asks(&ana, Method::GET, "/v1/search/complete?q=he").await;
    assert_problem(refused, 429, "rate-limited").await;
}

/// That a rate refuses, and says which it is.
async fn assert_refused(refused: Response, name: &str) {
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS, "{name}");
    let wait: u64 = header(&refused, "retry-after").parse().unwrap();
    assert!(wait > 0, "{name}");
    let (policy, left) = (format!("\"{name}\";q="), format!("\"{name}\";r=0;t="));
    assert!(header(&refused, "ratelimit-policy").starts_with(&policy));
    assert!(header(&refused, "ratelimit").starts_with(&left));
    let problem = assert_problem(refused, 429, "rate-limited").await;
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.starts_with(&format!("{name} allows ")), "{detail}");
}

#[tokio::test]
async fn each_rate_of_a_user_refuses_by_itself_and_in_its_name() {
    let rates =
        "user-read=1/1,user-write=1/1,user-live=1/1,user-bulk=1/1,user-search=1/1,user-upload=1/1";
    let app = App::start_with(&["--rate-limits", rates]).await;
    let (ana, bo) = (app.user("ana"), app.user("bo"));
    let ask = async |user: &User<'_>, method: &Method, path: &str| {
        let request = user.request(method.clone(), path);
        let request = match path {
            "/v1/uploads" => request.json(&crate::uploads::file(b"not really a clip")),
            "/v1/posts" => request.json(&json!({"text": "hello"})),
            _ => request,
        };
        request.send().await.unwrap()
    };
    for (name, method, path) in [
        ("user-write", Method::POST, "/v1/posts"),
        ("user-read", Method::GET, "/v1/feed"),
        ("user-live", Method::GET, "/v1/feed/live"),
        ("user-bulk", Method::GET, "/v1/users/me/export"),
        ("user-search", Method::GET, "/v1/search?q=hello"),
        ("user-upload", Method::POST, "/v1/uploads"),
    ] {
        for user in [&ana, &bo] {
            let first = ask(user, &method, path).await;
            assert!(first.status().is_success(), "{name}: {}", first.status());
            let told = header(&first, "ratelimit");
            assert!(told.starts_with(&format!("\"{name}\";r=0;")), "{told}");
            assert_refused(ask(user, &method, path).await, name).await;
        }
    }
}

#[tokio::test]
async fn all_of_a_tenant_are_counted_together() {
    let rates = "tenant-read=2/1,tenant-write=2/1";
    let app = App::start_with(&["--rate-limits", rates]).await;
    let second = app.second_tenant().await;
    for (name, method, path) in [
        ("tenant-read", Method::GET, "/v1/feed"),
        ("tenant-write", Method::POST, "/v1/posts"),
    ] {
        for user in [app.user("ana"), app.user("bo"), app.user_of(second, "ana")] {
            let answer = asks(&user, method.clone(), path).await;
            assert!(answer.status().is_success(), "{name}: {}", answer.status());
        }
        let third = asks(&app.user("cleo"), method, path).await;
        assert_refused(third, name).await;
    }
}

#[tokio::test]
async fn the_address_that_is_counted_is_said_by_trusted_proxies_only() {
    let ask = async |app: &App, said: &str| {
        let request = app.user("ana").request(Method::GET, "/v1/feed");
        request
            .header("x-forwarded-for", said)
            .send()
            .await
            .unwrap()
    };
    let rates = ["--rate-limits", "address=2/1"];
    let proxies = ["--trusted-proxies", "127.0.0.1/32,192.0.2.0/24"];
    let app = App::start_with(&[rates, proxies].concat()).await;
    // Further away is what the client may have written itself.
    for (said, passes) in [
        ("198.51.100.1", true),
        ("203.0.113.7, 198.51.100.1, 192.0.2.9", true),
        ("203.0.113.8, 198.51.100.1", false),
        ("198.51.100.2", true),
        ("198.51.100.1, 198.51.100.2", true),
        ("198.51.100.2", false),
    ] {
        let answer = ask(&app, said).await;
        if passes {
            assert_eq!(answer.status(), StatusCode::OK, "{said}");
        } else {
            assert_refused(answer, "address").await;
        }
    }
    // The proxy itself has not asked for anything yet.
    let own = asks(&app.user("ana"), Method::GET, "/v1/feed").await;
    assert_eq!(own.status(), StatusCode::OK);

    let app = App::start_with(&rates).await;
    for said in ["198.51.100.1", "198.51.100.2"] {
        assert_eq!(ask(&app, said).await.status(), StatusCode::OK);
    }
    assert_refused(ask(&app, "198.51.100.3").await, "address").await;
}

#[tokio::test]
async fn what_all_processes_count_is_counted_once() {
    let app = App::start_with(&["--rate-limits", "user-search=2/6"]).await;
    let ana = app.user("ana");
    let sql = "UPDATE accounts.buckets SET level = 2, at = $1 + interval '1 second'";
    assert_eq!(
        asks(&ana, Method::GET, "/v1/search?q=a").await.status(),
        StatusCode::OK
    );
    // As if another process had seen another search.
    let now = Clock::System.now();
    sqlx::query(sql)
        .bind(now)
        .execute(&app.owner)
        .await
        .unwrap();
    assert_problem(
        asks(&ana, Method::GET, "/v1/search?q=a").await,
        429,
        "rate-limited",
    )
    .await;
}

#[tokio::test]
async fn an_address_is_counted_before_anything_is_found_out_about_it() {
    let app = App::start_with(&["--rate-limits", "address=3/6"]).await;
    let stranger = app.with_token("not one");
    for _ in 0..3 {
        assert_problem(
            asks(&stranger, Method::GET, "/v1/feed").await,
            401,
            "token-invalid",
        )
        .await;
    }
    assert_problem(
        asks(&stranger, Method::GET, "/v1/feed").await,
        429,
        "rate-limited",
    )
    .await;
    assert_problem(
        asks(&app.user("ana"), Method::GET, "/v1/feed").await,
        429,
        "rate-limited",
    )
    .await;
}

#[test]
fn the_generated_reference_of_limits_is_up_to_date() {
    let (file, made) = (
        environment::root().join("docs/reference/limits.md"),
        api::limits(),
    );
    if environment::optional("UPDATE").is_some() {
        std::fs::write(&file, &made).unwrap();
    }
    let kept = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        kept == made,
        "docs/reference/limits.md is not what the code says: run `make docs`"
    );
}

/// What the API answers to these bytes until it closes, or in what time it does not.
async fn answers(app: &App, sent: &[u8], limit: Duration) -> Option<String> {
    let address = app.url.strip_prefix("http://").unwrap();
    let mut socket = TcpStream::connect(address).await.unwrap();
    // It may answer, and close, before all has come.
    let _ = socket.write_all(sent).await;
    let mut answer = vec![];
    let read = tokio::time::timeout(limit, socket.read_to_end(&mut answer)).await;
    read.ok()
        .map(|_| String::from_utf8_lossy(&answer).into_owned())
}

#[tokio::test]
async fn what_is_no_request_yet_ends_in_time() {
    let app = App::start().await;
    let slow = async |sent: &[u8]| answers(&app, sent, Duration::from_secs(45)).await.is_some();
    let half = b"GET /v1/feed HTTP/1.1\r\nhost: a\r\nx-slow: ";
    let headers = "x: y\r\n".repeat(10_000);
    let many = format!("GET /v1/feed HTTP/1.1\r\nhost: a\r\n{headers}\r\n");
    let long = format!(
        "GET /v1/feed?{} HTTP/1.1\r\nhost: a\r\n\r\n",
        "a".repeat(1 << 20)
    );
    let limit = Duration::from_secs(10);
    let ended = tokio::join!(
        slow(b""),
        slow(b"PRI * HTTP"),
        slow(half),
        answers(&app, many.as_bytes(), limit),
        answers(&app, long.as_bytes(), limit)
    );
    let all = (ended.0, ended.1, ended.2);
    assert_eq!(
        all,
        (true, true, true),
        "a connection that sends no request stays open"
    );
    for refused in [ended.3, ended.4] {
        let refused = refused.expect("an answer and an end");
        // Reset before it was read, or told: not served in any case.
        let told = ["HTTP/1.1 431 ", "HTTP/1.1 414 "];
        assert!(
            refused.is_empty() || told.iter().any(|told| refused.starts_with(told)),
            "{refused}"
        );
    }
    assert_eq!(
        asks(&app.user("ana"), Method::GET, "/v1/feed")
            .await
            .status(),
        StatusCode::OK
    );
}
