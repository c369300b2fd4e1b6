//! News as server-sent events: that there is something new in the feed and in the inbox.

use std::time::Duration;

use api::auth::Role;
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};

use crate::app::{App, SOON, User, assert_problem};
use crate::jobs::{WAVEFORM, uploaded};
use crate::uploads::render;

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
        loop {
            let event = self.whole().await;
            // A comment keeps the connection open, and an id alone is for coming back.
            if event.contains("data: ") {
                return read(&event);
            }
        }
    }

    /// What a stream begins with that has nothing to tell.
    async fn id(&mut self) -> i64 {
        let event = self.whole().await;
        event.strip_prefix("id: ").unwrap().parse().unwrap()
    }

    async fn whole(&mut self) -> String {
        let whole = async {
            loop {
                if let Some((event, rest)) = self.text.split_once("\n\n") {
                    let (event, rest) = (event.to_owned(), rest.to_owned());
                    self.text = rest;
                    return event;
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
        tokio::time::timeout(SOON, whole).await.expect("an event")
    }

    async fn is_silent(&mut self) {
        let some = tokio::time::timeout(Duration::from_millis(1_500), self.answer.chunk()).await;
        assert!(some.is_err(), "{some:?}");
    }

    /// That it ends, without another event.
    async fn ends(self) {
        let rest = tokio::time::timeout(SOON, self.answer.text()).await;
        assert_eq!(rest.expect("the stream ends").unwrap(), "");
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
    live.id().await;
    publish(&mut eve, "nobody of yours", "public").await;
    publish(&mut bo, "not for you", "private").await;
    live.is_silent().await;
    assert_eq!(
        others.next().await.2,
        json!({"new": 1}),
        "one's own is news elsewhere"
    );
    publish(&mut bo, "hello", "followers").await;
    let (name, at, data) = live.next().await;
    assert_eq!((&*name, data), ("feed", json!({"new": 1})));
    // Under load it may be told while other facts before it are still missing.
    let first = Live::of(&ana, "/v1/feed/live", None).await.id().await;
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
    // After what was told while lanes were behind, of that one again.
    let mut again = Live::of(&ana, "/v1/feed/live", Some(at)).await;
    let new = again.next().await.2["new"].as_u64().unwrap();
    assert!((3..=4).contains(&new), "{new}");
}

#[tokio::test]
async fn who_was_away_is_told_of_what_came_to_be_seen_meanwhile() {
    let app = App::start().await;
    let (mut ana, mut bo) = (app.user("ana"), app.user("bo"));
    let (asset, jobs) = uploaded(&app, &mut bo).await;
    ana.puts(&format!("/v1/users/{}/follow", bo.id)).await;
    let begun = Live::of(&ana, "/v1/feed/live", None).await.id().await;
    let clip = json!({"text": "a clip", "visibility": "public", "assets": [asset]});
    bo.posts("/v1/posts", clip).await;
    let shy = json!({"text": "a secret", "visibility": "private"});
    let shy = bo.posts("/v1/posts", shy).await;
    publish(&mut bo, "one", "public").await;
    publish(&mut bo, "two", "public").await;
    let count = |n: usize| move |feed: &Value| feed["items"].as_array().unwrap().len() == n;
    ana.knows(&bo);
    ana.sees("/v1/feed", "both", count(2)).await;
    let mut live = Live::of(&ana, "/v1/feed/live", Some(begun)).await;
    let (_, last, data) = live.next().await;
    assert_eq!(data, json!({"new": 2}));
    assert_eq!(
        Live::of(&ana, "/v1/feed/live", Some(last)).await.id().await,
        last
    );
    drop(live);
    // Older than what she was told last, and shown only now.
    render(
        &app,
        &bo,
        &asset,
        jobs["fast@1"].as_str().unwrap(),
        WAVEFORM,
    )
    .await;
    ana.sees("/v1/feed", "the clip too", count(3)).await;
    let (_, last, data) = Live::of(&ana, "/v1/feed/live", Some(last))
        .await
        .next()
        .await;
    assert_eq!(data, json!({"new": 1}));
    let path = format!("/v1/posts/{}", shy["id"].as_str().unwrap());
    let shown = json!({"visibility": "public"});
    bo.does(Method::PATCH, &path, Some(shown)).await;
    ana.sees("/v1/feed", "no secret any more", count(4)).await;
    let told = Live::of(&ana, "/v1/feed/live", Some(last))
        .await
        .next()
        .await;
    assert_eq!(told.2, json!({"new": 1}));
}

#[tokio::test]
async fn an_id_does_not_go_beyond_what_a_lane_behind_may_still_bring() {
    let app = App::start().await;
    let mut ana = app.user("ana");
    let begun = Live::of(&ana, "/v1/feed/live", None).await.id().await;
    publish(&mut ana, "hello", "public").await;
    ana.sees("/v1/feed", "the post", |feed| feed["items"] != json!([]))
        .await;
    assert!(app.projecting.finish(SOON).await);
    let behind =
        "WITH post AS (SELECT lane, position FROM log.events WHERE type = 'post.published')
        UPDATE subscription.checkpoints c SET position = p.position - 1 FROM post p
        WHERE c.subscription LIKE 'feed%' AND c.lane = p.lane RETURNING c.position";
    let behind: i64 = sqlx::query_scalar(behind)
        .fetch_one(&app.owner)
        .await
        .unwrap();
    let (_, id, data) = Live::of(&ana, "/v1/feed/live", Some(begun))
        .await
        .next()
        .await;
    assert_eq!((data, id), (json!({"new": 1}), behind));
    // So it is told again.
    let again = Live::of(&ana, "/v1/feed/live", Some(id)).await.next().await;
    assert_eq!(again.2, json!({"new": 1}));
}

#[tokio::test]
async fn a_stream_ends_with_the_key_that_began_it() {
    let app = App::start().await;
    let mut ana = app.user("ana");
    let key = ana.posts("/v1/api-keys", json!({"name": "a reader"})).await;
    let machine = app.with_token(key["key"].as_str().unwrap());
    let mut live = Live::of(&machine, "/v1/notifications/live", None).await;
    live.next().await;
    ana.deletes(&format!("/v1/api-keys/{}", key["id"].as_str().unwrap()))
        .await;
    app.user("bo")
        .puts(&format!("/v1/users/{}/follow", ana.id))
        .await;
    live.ends().await;
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
    live.ends().await;
}

#[tokio::test]
async fn who_may_not_listen_any_more_is_let_go_even_in_silence() {
    let app = App::start().await;
    let mut dana = app.bearer(app.tenant, "dana", &[Role::Data], Duration::from_mins(10));
    let key = json!({"name": "a reader", "roles": ["data"], "expires_in_days": 1});
    let key = dana.posts("/v1/api-keys", key).await;
    let machine = app.with_token(key["key"].as_str().unwrap());
    let facts = machine.request(Method::GET, "/v1/facts");
    let facts = facts.header("accept", "text/event-stream").send().await;
    let facts = facts.unwrap();
    assert_eq!(facts.headers()["content-type"], "text/event-stream");
    let inbox = Live::of(&machine, "/v1/notifications/live", None).await;
    dana.deletes(&format!("/v1/api-keys/{}", key["id"].as_str().unwrap()))
        .await;
    for stream in [facts, inbox.answer] {
        let end = tokio::time::timeout(Duration::from_secs(90), stream.text());
        end.await.expect("the stream ends").unwrap();
    }
}

#[tokio::test]
async fn a_stream_without_news_shows_that_it_is_there() {
    let app = App::start().await;
    let ana = app.user("ana");
    let mut live = Live::of(&ana, "/v1/notifications/live", None).await;
    live.next().await;
    // Proxies close what is silent for half a minute.
    let some = tokio::time::timeout(SOON, live.answer.chunk()).await;
    let some = some.expect("something comes").unwrap();
    let some = some.expect("the stream goes on");
    assert!(
        some.starts_with(b":") && some.ends_with(b"\n\n"),
        "{some:?}"
    );
}

#[tokio::test]
async fn a_stream_ends_with_its_token_and_needs_one() {
    let app = App::start().await;
    let brief = app.user_for(app.tenant, "ana", Duration::from_secs(2));
    let mut live = Live::of(&brief, "/v1/notifications/live", None).await;
    live.next().await;
    live.ends().await;
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

#[tokio::test]
async fn who_comes_while_read_models_are_behind_is_told_when_they_have_come() {
    let app = App::start().await;
    let (mut ana, mut bo) = (app.user("ana"), app.user("bo"));
    let before = bo.posts("/v1/posts", json!({"text": "before"})).await;
    ana.puts(&format!("/v1/users/{}/follow", bo.id)).await;
    ana.knows(&bo);
    // From here on this process reads the log.
    let path = format!("/v1/posts/{}", before["id"].as_str().unwrap());
    ana.reads(&path).await;
    app.level().await;
    // It is read, and not written.
    let held = app.locked("feed.post IN EXCLUSIVE MODE").await;
    publish(&mut bo, "late", "public").await;
    // Time enough to read it while nobody waits for it.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let mut live = Live::of(&app.user("ana"), "/v1/feed/live", None).await;
    live.id().await;
    held.rollback().await.unwrap();
    // Comments in between are no news.
    let news = tokio::time::timeout(SOON, live.next()).await;
    assert_eq!(news.expect("it is told").2, json!({"new": 1}));
}

#[tokio::test]
async fn a_stream_of_news_begins_where_its_client_has_written() {
    let app = App::start().await;
    let (mut ana, mut bo) = (app.user("ana"), app.user("bo"));
    bo.posts("/v1/posts", json!({"text": "before"})).await;
    app.level().await;
    let held = app.locked("feed.follow IN EXCLUSIVE MODE").await;
    ana.puts(&format!("/v1/users/{}/follow", bo.id)).await;
    let behind = ana.request(Method::GET, "/v1/feed/live").send().await;
    assert_eq!(behind.unwrap().headers()["cinelog-stale"], "true");
    held.rollback().await.unwrap();
    let reached = ana.request(Method::GET, "/v1/notifications/live");
    let reached = reached.send().await.unwrap();
    assert_eq!(reached.status(), StatusCode::OK);
}
