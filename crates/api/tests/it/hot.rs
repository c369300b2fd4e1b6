//! Posts that many look at at once: they see the same, and each of them no more than they may.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sqlx::PgPool;
use testing::db::locked_out;
use testing::wait;

use crate::app::{App, SOON, User, assert_problem};

#[tokio::test]
async fn a_post_that_many_look_at_is_one_and_each_sees_what_they_may() {
    let app = App::start().await;
    let (mut ana, mut bo, mut cleo) = (app.user("ana"), app.user("bo"), app.user("cleo"));
    let post = ana.posts("/v1/posts", json!({"text": "first"})).await;
    let path = format!("/v1/posts/{}", post["id"].as_str().unwrap());
    cleo.does(Method::PATCH, "/v1/users/me", Some(json!({"name": "Cleo"})))
        .await;
    bo.knows(&ana);
    bo.puts(&format!("{path}/reactions/like")).await;
    // Those who did nothing themselves look without a position, and all at once.
    let read = async |name: &str| -> Value { app.user(name).reads(&path).await };
    bo.reads(&path).await;
    let (a, b, c) = tokio::join!(read("bo"), read("cleo"), read("dora"));
    assert_eq!(a["counts"]["mine"], "like");
    for other in [&b, &c] {
        assert_eq!(other["counts"]["mine"], Value::Null);
        assert_eq!(
            (&other["text"], &other["counts"]["reactions"]["like"]),
            (&json!("first"), &json!(1))
        );
    }
    // Who has written, or waits for what was written, sees it at once.
    ana.does(Method::PATCH, &path, Some(json!({"text": "second"})))
        .await;
    cleo.knows(&ana);
    assert_eq!(cleo.reads(&path).await["text"], "second");
    // And nobody sees what they may not, however hot it is.
    read("cleo").await;
    let of_cleo = format!("/v1/users/{}/block", cleo.id);
    ana.puts(&of_cleo).await;
    cleo.knows(&ana);
    cleo.sees("/v1/feed", "the block is known", |_| true).await;
    let blocked = app
        .user("cleo")
        .request(Method::GET, &path)
        .send()
        .await
        .unwrap();
    assert_problem(blocked, 404, "post-not-found").await;
    assert_eq!(
        app.user("dora")
            .request(Method::GET, &path)
            .send()
            .await
            .unwrap()
            .status(),
        StatusCode::OK
    );
    ana.deletes(&path).await;
    cleo.knows(&ana);
    cleo.sees("/v1/feed", "the end is known", |_| true).await;
    let gone = app
        .user("dora")
        .request(Method::GET, &path)
        .send()
        .await
        .unwrap();
    assert_problem(gone, 404, "post-not-found").await;
}

#[tokio::test]
async fn what_is_remembered_of_a_post_is_not_shown_to_whom_it_is_denied_meanwhile() {
    let app = App::start().await;
    let (mut ana, mut cleo) = (app.user("ana"), app.user("cleo"));
    let name = json!({"name": "Cleo"});
    cleo.does(Method::PATCH, "/v1/users/me", Some(name)).await;
    let post = ana.posts("/v1/posts", json!({"text": "first"})).await;
    let path = format!("/v1/posts/{}", post["id"].as_str().unwrap());
    app.level().await;
    let (cleo, dora) = (app.user("cleo"), app.user("dora"));
    let read = async |who: &User<'_>| {
        let request = who.request(Method::GET, &path);
        request.send().await.unwrap().status()
    };
    wait::until_true(SOON, "it is remembered", async || {
        assert_eq!(read(&cleo).await, StatusCode::OK);
        let held = app.locked("feed.post").await;
        let known = tokio::time::timeout(Duration::from_millis(300), read(&cleo)).await;
        held.rollback().await.unwrap();
        known == Ok(StatusCode::OK)
    })
    .await;
    ana.puts(&format!("/v1/users/{}/block", cleo.id)).await;
    // Others go on looking, so that it stays remembered; for cleo that would be for three seconds, if nothing were said of it.
    let at_once = Duration::from_secs(2);
    wait::until_true(at_once, "who is blocked sees nothing", async || {
        assert_eq!(read(&dora).await, StatusCode::OK);
        read(&cleo).await == StatusCode::NOT_FOUND
    })
    .await;
}

/// Readers at once.
const READERS: usize = 6;
/// So many of them are seen to wait for the one that loads: more wait for a connection, of which the log has some.
const WAITING: i64 = 2;
/// The part of the load that waits: whoever looks at a post asks for its author's name by this, and for nothing else there.
const NAMES: &str = "SELECT%FROM graph.profile WHERE%";

/// How many have looked whether they may see a post and have asked nothing more of the database for a while.
async fn waiting(owner: &PgPool) -> i64 {
    sqlx::query_scalar(
        "SELECT count(*) FROM pg_stat_activity
         WHERE datname = current_database() AND state = 'idle in transaction' AND query LIKE '%AS shared,%FROM feed.post p%'
            AND state_change < now() - interval '200 milliseconds'",
    )
    .fetch_one(owner)
    .await
    .unwrap()
}

#[tokio::test]
async fn a_post_that_nobody_has_looked_at_is_loaded_once_for_all_who_come_at_once() {
    let app = App::start().await;
    let mut ana = app.user("ana");
    let posts = [
        ana.posts("/v1/posts", json!({"text": "first"})).await,
        ana.posts("/v1/posts", json!({"text": "second"})).await,
    ];
    let paths = posts.map(|post| format!("/v1/posts/{}", post["id"].as_str().unwrap()));
    app.level().await;
    // From the first look on the log is followed, and this one is not what is counted.
    app.user("bo").reads(&paths[0]).await;
    let held = app.locked("graph.profile").await;
    let reads = (0..READERS).map(|n| {
        let (app, path) = (&app, &paths[1]);
        async move { app.user(&format!("reader{n}")).reads(path).await }
    });
    let counted = async {
        wait::until_true(SOON, "one loads and others wait for it", async || {
            locked_out(&app.owner, NAMES).await > 0 && waiting(&app.owner).await >= WAITING
        })
        .await;
        let loads = locked_out(&app.owner, NAMES).await;
        held.rollback().await.unwrap();
        loads
    };
    let (seen, loads) = tokio::join!(futures::future::join_all(reads), counted);
    assert_eq!(loads, 1);
    assert!(seen.iter().all(|post| post["text"] == "second"), "{seen:?}");
}
