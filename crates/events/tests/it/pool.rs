//! Connections of which somebody gave up what they began.

use std::time::Duration;

use service::db::{self, Role, TenantTx};
use testing::db::Database;
use uuid::Uuid;

#[tokio::test]
async fn who_gives_up_while_a_transaction_begins_leaves_none_open() {
    let database = Database::migrated().await;
    let owner = database.pool(Role::Owner).await;
    let pool = db::connect(database.url(), Role::Api, 1).await.unwrap();
    let mut given_up = 0;
    for patience in 0..100 {
        let begun = tokio::select! {
            biased;
            begun = TenantTx::begin(&pool, Uuid::nil(), Uuid::nil()) => begun.is_ok(),
            () = yields(patience) => false,
        };
        given_up += usize::from(!begun);
        let mut connection = pool.acquire().await.unwrap();
        let backend: i32 = sqlx::query_scalar("SELECT pg_backend_pid()")
            .fetch_one(&mut *connection)
            .await
            .unwrap();
        let state: String = sqlx::query_scalar("SELECT state FROM pg_stat_activity WHERE pid = $1")
            .bind(backend)
            .fetch_one(&owner)
            .await
            .unwrap();
        assert_eq!(state, "idle", "after {patience} turns");
    }
    assert!(given_up > 0);
}

/// Lets others have so many turns, some of which take a while.
async fn yields(turns: u32) {
    for turn in 0..turns {
        tokio::task::yield_now().await;
        if turn % 20 == 19 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}
