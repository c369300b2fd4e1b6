//! Profiles, who follows whom, and who wants to see nothing of whom.

mod apart;
mod apply;
pub mod query;

use events::envelope::Recorded;
use events::fact::Fact;
use events::id::{TenantId, UserId};
use futures::future::BoxFuture;
use sqlx::PgConnection;

use crate::registry::Projection;

/// Profiles, relations, blocks and mutes.
#[derive(Clone, Copy, Debug)]
pub struct Graph;

impl Projection for Graph {
    fn name(&self) -> &'static str {
        "graph"
    }

    fn version(&self) -> i32 {
        2
    }

    fn ddl(&self) -> &'static str {
        include_str!("../../../../schemas/postgres/views/graph.v2.sql")
    }

    fn handles(&self, fact: &Fact) -> bool {
        apply::handles(fact)
    }

    fn apply<'a>(
        &'a self,
        batch: &'a [Recorded],
        tx: &'a mut PgConnection,
    ) -> BoxFuture<'a, sqlx::Result<()>> {
        Box::pin(apply::apply(batch, tx))
    }

    fn forget<'a>(
        &'a self,
        person: (TenantId, UserId),
        tx: &'a mut PgConnection,
    ) -> BoxFuture<'a, sqlx::Result<u64>> {
        Box::pin(apply::forget(person, tx))
    }
}
