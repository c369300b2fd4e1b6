//! A database with every read model in it, and facts applied as the runner applies them.

use std::collections::BTreeMap;
use std::sync::Arc;

use events::envelope::Recorded;
use events::id::UserId;
use projectors::config::Config;
use projectors::page::Viewer;
use projectors::registry::{self, Projection};
use proptest::test_runner::{Config as Proptest, TestRunner};
use service::db::{self, Role, TenantTx};
use sqlx::{AssertSqlSafe, PgPool, Postgres, Transaction};
use testing::db::Database;

use crate::history::tenant;

pub(crate) struct Models {
    _database: Database,
    pub(crate) owner: PgPool,
    pub(crate) projector: PgPool,
    pub(crate) api: PgPool,
    pub(crate) all: Vec<Arc<dyn Projection>>,
}

impl Models {
    pub(crate) async fn create(config: &Config) -> Self {
        let database = Database::migrated().await;
        let owner = database.pool(Role::Owner).await;
        registry::prepare(&owner)
            .await
            .expect("prepare the read models");
        Self {
            owner,
            projector: database.pool(Role::Projector).await,
            api: database.pool(Role::Api).await,
            all: registry::all(config),
            _database: database,
        }
    }

    /// Applies a batch to one generation, in a transaction like the runner's, and leaves it open.
    pub(crate) async fn begin(
        &self,
        projection: &dyn Projection,
        generation: &str,
        batch: &[Recorded],
    ) -> sqlx::Result<Transaction<'static, Postgres>> {
        let handled: Vec<Recorded> = batch
            .iter()
            .filter(|recorded| projection.handles(&recorded.fact))
            .cloned()
            .collect();
        let mut tx = db::begin(&self.projector, "BEGIN").await?;
        sqlx::query(AssertSqlSafe(format!(
            "SET LOCAL search_path = {generation}"
        )))
        .execute(&mut *tx)
        .await?;
        projection.apply(&handled, &mut tx).await?;
        Ok(tx)
    }

    pub(crate) async fn apply(
        &self,
        projection: &dyn Projection,
        generation: &str,
        batch: &[Recorded],
    ) {
        let tx = self
            .begin(projection, generation, batch)
            .await
            .expect("apply a batch");
        tx.commit().await.expect("commit a batch");
    }

    /// Applies facts to every live generation.
    pub(crate) async fn tell(&self, facts: &[Recorded]) {
        for projection in &self.all {
            self.apply(
                projection.as_ref(),
                &format!("{}_g1", projection.name()),
                facts,
            )
            .await;
        }
    }

    pub(crate) async fn read(&self, user: UserId) -> (TenantTx, Viewer) {
        let tx = TenantTx::begin(&self.api, tenant().0, user.0)
            .await
            .expect("begin to read");
        (
            tx,
            Viewer {
                tenant: tenant(),
                user,
            },
        )
    }

    /// What is in a generation's tables.
    pub(crate) async fn hashes(&self, generation: &str) -> BTreeMap<String, String> {
        registry::table_hashes(&self.projector, generation)
            .await
            .expect("hash tables")
    }

    /// Empties a generation, so that a case begins with nothing.
    pub(crate) async fn clear(&self, generation: &str) {
        let tables: Vec<String> = sqlx::query_scalar(
            "SELECT relname::text FROM pg_class WHERE relnamespace = $1::regnamespace AND relkind = 'r'",
        )
        .bind(generation)
        .fetch_all(&self.projector)
        .await
        .expect("list tables");
        for table in tables {
            sqlx::query(AssertSqlSafe(format!("DELETE FROM {generation}.{table}")))
                .execute(&self.projector)
                .await
                .expect("empty a table");
        }
    }
}

/// A runner of property tests: few cases, or with LONG=1 many.
pub(crate) fn cases() -> TestRunner {
    let cases = if testing::environment::optional("LONG").is_some() {
        1000
    } else {
        50
    };
    TestRunner::new(Proptest {
        cases,
        failure_persistence: None,
        max_shrink_iters: 200,
        ..Proptest::default()
    })
}

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("start a runtime")
}
