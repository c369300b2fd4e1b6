//! What a caller is told when Postgres does not do what it should.

use reqwest::{Method, Response};
use service::db;
use sqlx::PgPool;

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
    let ending = testing::wait::until_true(SOON, "the read waits and is ended", async || {
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
