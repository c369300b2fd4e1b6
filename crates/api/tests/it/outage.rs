//! What a caller is told when Postgres does not do what it should.

use reqwest::{Method, Response, StatusCode};
use serde_json::json;
use service::db;
use sqlx::PgPool;
use testing::db::locked_out;
use testing::wait;
use tokio::net::TcpStream;

use crate::app::{App, SOON, assert_problem};

/// The answer to a read whose statement is ended by this function of Postgres.
async fn ended_by(app: &App, function: &str) -> Response {
    let admin = PgPool::connect(app.database.url().expose()).await.unwrap();
    let mut lock = db::begin(&admin, "BEGIN").await.unwrap();
    sqlx::query("LOCK TABLE feed.post")
        .execute(&mut *lock)
        .await
        .unwrap();
    let end = format!(
        "SELECT {function}(pid) FROM pg_stat_activity
         WHERE datname = current_database() AND wait_event_type = 'Lock'"
    );
    let ending = wait::until_true(SOON, "the read waits and is ended", async || {
        let ended: Vec<bool> = sqlx::query_scalar(sqlx::AssertSqlSafe(end.clone()))
            .fetch_all(&admin)
            .await
            .unwrap();
        !ended.is_empty()
    });
    let ana = app.user("ana");
    let path = format!("/v1/posts/{}", ana.id);
    let (response, ()) = tokio::join!(ana.request(Method::GET, &path).send(), ending);
    response.unwrap()
}

#[tokio::test]
async fn a_session_that_postgres_ends_is_an_outage_to_try_again_after() {
    let app = App::start().await;
    let response = ended_by(&app, "pg_terminate_backend").await;
    assert!(response.headers().contains_key("retry-after"));
    assert_problem(response, 503, "unavailable").await;
}

#[tokio::test]
async fn a_statement_that_postgres_cancels_took_too_long() {
    let app = App::start().await;
    let response = ended_by(&app, "pg_cancel_backend").await;
    assert_problem(response, 504, "timeout").await;
}

#[tokio::test]
async fn a_command_under_way_takes_effect_though_the_process_ends() {
    let app = App::start().await;
    let mut ana = app.user("ana");
    ana.posts("/v1/posts", json!({"text": "uno"})).await;
    let mut lock = db::begin(&app.owner, "BEGIN").await.unwrap();
    sqlx::query("LOCK TABLE log.streams")
        .execute(&mut *lock)
        .await
        .unwrap();
    let ending = async {
        let waits = async || locked_out(&app.owner, "%").await > 0;
        wait::until_true(SOON, "the command waits", waits).await;
        app.shutdown.cancel();
        let deaf = async || {
            TcpStream::connect(app.url.trim_start_matches("http://"))
                .await
                .is_err()
        };
        wait::until_true(SOON, "nobody else is let in", deaf).await;
        lock.rollback().await.unwrap();
    };
    let post = ana
        .request(Method::POST, "/v1/posts")
        .json(&json!({"text": "dos"}));
    let (posted, ()) = tokio::join!(post.send(), ending);
    assert_eq!(posted.unwrap().status(), StatusCode::CREATED);
    assert!(app.shutdown.finish(SOON).await);
}
