//! Postgres was restored to an older state, and the topic is ahead of it.

use std::time::Duration;

use sqlx::AssertSqlSafe;
use testing::wait;

use super::{LIMIT, Running, append, relayed_exactly, topics};
use crate::subscription::{applied, run_on, world};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_apply_nothing_that_postgres_does_not_hold() {
    let (world, kafka) = (world().await, topics());
    append(&world, "a", 40).await;
    let relay = Running::start(&world, &kafka).await;
    relayed_exactly(&world, &kafka).await;
    relay.stop().await;
    let mut owner = world.owner().await.acquire().await.unwrap();
    for sql in [
        "SET session_replication_role = replica",
        "CREATE TABLE public.lost AS SELECT * FROM log.events WHERE position > 30",
        "DELETE FROM log.events WHERE position > 30",
    ] {
        sqlx::query(sql).execute(&mut *owner).await.unwrap();
    }

    let ledger = run_on(&world, Some(&kafka), 1000).await;
    let beyond = async || -> bool {
        sqlx::query_scalar(
            "SELECT EXISTS (SELECT FROM public.ledger WHERE position > 30)
                 OR EXISTS (SELECT FROM subscription.checkpoints WHERE position > 30)",
        )
        .fetch_one(&world.owner().await)
        .await
        .unwrap()
    };
    let held = "SELECT count(*) FROM subscription.leases WHERE owner IS NOT NULL".to_owned();
    wait::until_true(LIMIT, "the lanes are held", async || {
        let lanes: i64 = sqlx::query_scalar(AssertSqlSafe(held.clone()))
            .fetch_one(&world.owner().await)
            .await
            .unwrap();
        lanes == 64
    })
    .await;
    // Nothing that happens can be waited for: what must not happen would have happened by then.
    let watched = wait::until_true(LIMIT, "", async || beyond().await);
    assert!(
        tokio::time::timeout(Duration::from_secs(3), watched)
            .await
            .is_err(),
        "facts were applied that are not in the log"
    );

    // Once Postgres has them again, they are.
    sqlx::query("INSERT INTO log.events SELECT * FROM public.lost")
        .execute(&mut *owner)
        .await
        .unwrap();
    wait::until_true(LIMIT, "everything is applied", async || {
        applied(&world).await == 40
    })
    .await;
    ledger.cancel();
}
