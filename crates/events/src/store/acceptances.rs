//! Acceptances of commands are kept for seven days, and then forgotten: a bounded step at a time, which disturbs nobody.

use std::time::Duration;

use service::shutdown::Shutdown;
use sqlx::PgPool;

/// Pages of the table in one step: some 15,000 acceptances.
const STEP_PAGES: i32 = 256;
/// Between two steps.
const PAUSE: Duration = Duration::from_millis(100);
/// Between the end of the table and its beginning; and before trying again.
const REST: Duration = Duration::from_hours(1);

/// Goes over the table again and again until `shutdown`. Several processes may: what one forgets the others do not find.
pub(super) fn keep(pool: PgPool, shutdown: &Shutdown) {
    let end = shutdown.clone();
    shutdown.spawn(async move {
        let mut page = Some(0);
        loop {
            end.sleep(if page.is_some() { PAUSE } else { REST }).await;
            if end.is_cancelled() {
                return;
            }
            page = step(&pool, page.unwrap_or(0)).await.unwrap_or_else(|error| {
                tracing::warn!(%error, "old acceptances were not forgotten; tried again in an hour");
                None
            });
        }
    });
}

/// Forgets what is old from `page` on; gives the page to go on with.
async fn step(pool: &PgPool, page: i64) -> Result<Option<i64>, sqlx::Error> {
    sqlx::query_scalar("SELECT log.forget_commands($1, $2)")
        .bind(page)
        .bind(STEP_PAGES)
        .fetch_one(pool)
        .await
}
