//! News as server-sent events: that there is something new in the feed and in the inbox.

use std::time::Duration;

use reqwest::{Method, Response};
use serde_json::{Value, json};

use crate::app::{App, SOON, User, assert_problem};

/// A stream of events.
struct Live {
    answer: Response,
    text: String,
}

/// An event's name, id and data.
type News = (String, i64, Value);

impl Live {
    async fn of(user: &User<'_>, path: &str, last: Option<i64>) -> Self {
        let mut request = user.request(Method::GET, path);
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let answer = request.send().await.unwrap();
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        Self {
            answer,
            text: String::new(),
        }
    }

    /// The next event, which must come.
    async fn next(&mut self) -> News {
        let next = async {
            loop {
                if let Some((event, rest)) = self.text.split_once("\n\n") {
                    let (event, rest) = (event.to_owned(), rest.to_owned());
                    self.text = rest;
                    // A comment keeps the connection open.
                    if !event.starts_with(':') {
                        return read(&event);
                    }
                    continue;
                }
                let some = self
                    .answer
                    .chunk()
                    .await
                    .unwrap()
                    .expect("the stream goes on");
                self.text.push_str(std::str::from_utf8(&some).unwrap());
            }
        };
        tokio::time::timeout(SOON, next).await.expect("an event")
    }

    async fn is_silent(&mut self) {
        let some = tokio::time::timeout(Duration::from_millis(1_500), self.answer.chunk()).await;
        assert!(some.is_err(), "{some:?}");
    }
}

fn read(event: &str) -> News {
    let field = |name: &str| {
        let mut lines = event.lines().filter_map(|line| line.split_once(": "));
        lines
            .find(|(field, _)| *field == name)
            .unwrap()
            .1
            .to_owned()
    };
    let data = serde_json::from_str(&field("data")).unwrap();
    (field("event"), field("id").parse().unwrap(), data)
}

async fn publish(author: &mut User<'_>, text: &str, visibility: &str) {
    author
        .posts("/v1/posts", json!({"text": text, "visibility": visibility}))
        .await;
}

#[tokio::test]
async fn a_feed_tells_of_new_posts_of_those_one_follows_and_may_see() {
    let app = App::start().await;
    let (mut ana, mut bo, mut eve) = (app.user("ana"), app.user("bo"), app.user("eve"));
    publish(&mut bo, "before", "public").await;
    ana.puts(&format!("/v1/users/{}/follow", bo.id)).await;
    ana.knows(&bo);
    ana.sees("/v1/feed", "the first post", |feed| {
        feed["items"].as_array().unwrap().len() == 1
    })
    .await;
    let mut live = Live::of(&ana, "/v1/feed/live", None).await;
    let mut others = Live::of(&eve, "/v1/feed/live", None).await;
    publish(&mut eve, "nobody of yours", "public").await;
    publish(&mut bo, "not for you", "private").await;
    live.is_silent().await;
    assert_eq!(
        others.next().await.2,
        json!({"new": 1}),
        "one's own is news elsewhere"
    );
    publish(&mut bo, "hello", "followers").await;
    let (name, first, data) = live.next().await;
    assert_eq!((&*name, data), ("feed", json!({"new": 1})));
    for n in 0..3 {
        publish(&mut bo, &format!("more {n}"), "public").await;
    }
    let mut told = 0;
    while told < 3 {
        told += live.next().await.2["new"].as_u64().unwrap();
    }
    assert_eq!(told, 3);
    others.is_silent().await;
    // Who was away is told at once, of what is newer.
    let mut again = Live::of(&ana, "/v1/feed/live", Some(first)).await;
    assert_eq!(again.next().await.2, json!({"new": 3}));
}

#[tokio::test]
async fn an_inbox_tells_how_much_is_unread() {
    let app = App::start().await;
    let (mut ana, mut bo) = (app.user("ana"), app.user("bo"));
    let post = ana
        .posts("/v1/posts", json!({"text": "hola", "visibility": "public"}))
        .await;
    let mut live = Live::of(&ana, "/v1/notifications/live", None).await;
    let mut second = Live::of(&ana, "/v1/notifications/live", None).await;
    assert_eq!(live.next().await.2, json!({"unread": 0}));
    assert_eq!(second.next().await.2, json!({"unread": 0}));
    let path = format!("/v1/posts/{}/comments", post["id"].as_str().unwrap());
    bo.knows(&ana);
    bo.posts(&path, json!({"text": "hola, Ana"})).await;
    let (name, at, data) = live.next().await;
    assert_eq!((&*name, data), ("inbox", json!({"unread": 1})));
    assert_eq!(
        second.next().await,
        ("inbox".to_owned(), at, json!({"unread": 1}))
    );
    bo.puts(&format!("/v1/users/{}/follow", ana.id)).await;
    assert_eq!(live.next().await.2, json!({"unread": 2}));
}

#[tokio::test]
async fn who_logs_out_is_told_nothing_more() {
    let app = App::start().await;
    let auth = |what: &str| {
        let post = app.http.post(format!("{}/v1/auth/{what}", app.url));
        post.header("origin", &app.url)
    };
    let new = json!({"handle": "ana", "password": "a long enough password"});
    let new = auth("register").json(&new).send().await.unwrap();
    let cookie = new.headers()["set-cookie"].to_str().unwrap().to_owned();
    let new: Value = new.json().await.unwrap();
    let ana = app.with_token(new["access_token"].as_str().unwrap());
    let mut live = Live::of(&ana, "/v1/notifications/live", None).await;
    live.next().await;
    let (cookie, _) = cookie.split_once(';').unwrap();
    let out = auth("logout")
        .header("cookie", cookie)
        .send()
        .await
        .unwrap();
    assert_eq!(out.status(), 204);
    let path = format!("/v1/users/{}/follow", new["user"].as_str().unwrap());
    app.user("bo").puts(&path).await;
    let rest = tokio::time::timeout(SOON, live.answer.text()).await;
    assert_eq!(rest.expect("the stream ends").unwrap(), "");
}

#[tokio::test]
async fn a_stream_ends_with_its_token_and_needs_one() {
    let app = App::start().await;
    let brief = app.user_for(app.tenant, "ana", Duration::from_secs(2));
    let mut live = Live::of(&brief, "/v1/notifications/live", None).await;
    live.next().await;
    let rest = tokio::time::timeout(SOON, live.answer.text()).await;
    assert_eq!(rest.expect("the stream ends").unwrap(), "");
    let nobody = app
        .http
        .get(format!("{}/v1/feed/live", app.url))
        .send()
        .await
        .unwrap();
    assert_problem(nobody, 401, "token-missing").await;
    let request = app
        .user("bo")
        .request(Method::GET, "/v1/feed/live")
        .header("last-event-id", "-1");
    assert_problem(request.send().await.unwrap(), 400, "position-invalid").await;
}

#[tokio::test]
async fn streams_are_bounded_in_all_and_of_one_user() {
    let app = App::start_with(&["--max-live", "9"]).await;
    let (ana, bo) = (app.user("ana"), app.user("bo"));
    let mut streams = vec![];
    for _ in 0..8 {
        streams.push(Live::of(&ana, "/v1/notifications/live", None).await);
    }
    let ninth = ana
        .request(Method::GET, "/v1/feed/live")
        .send()
        .await
        .unwrap();
    assert_problem(ninth, 503, "overloaded").await;
    streams.push(Live::of(&bo, "/v1/feed/live", None).await);
    let tenth = app
        .user("eve")
        .request(Method::GET, "/v1/feed/live")
        .send()
        .await
        .unwrap();
    assert!(tenth.headers().contains_key("retry-after"));
    assert_problem(tenth, 503, "overloaded").await;
    drop(streams.pop());
    testing::wait::until_true(SOON, "a place is free again", async || {
        bo.request(Method::GET, "/v1/feed/live")
            .send()
            .await
            .unwrap()
            .status()
            .is_success()
    })
    .await;
}
