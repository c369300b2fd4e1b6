//! What owners take up: bytes in storage, and CPU time.

mod apply;
pub mod query;

use events::envelope::Recorded;
use events::fact::Fact;
use events::id::{TenantId, UserId};
use futures::FutureExt;
use futures::future::BoxFuture;
use sqlx::PgConnection;

use crate::registry::Projection;

/// Bytes and CPU time per owner.
#[derive(Clone, Copy, Debug)]
pub struct Usage;

impl Projection for Usage {
    fn name(&self) -> &'static str {
        "usage"
    }

    fn version(&self) -> i32 {
        2
    }

    fn ddl(&self) -> &'static str {
        include_str!("../../../../schemas/postgres/views/usage.v2.sql")
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

    /// Nothing here is anyone's words.
    fn forget<'a>(
        &'a self,
        _: (TenantId, UserId),
        _: &'a mut PgConnection,
    ) -> BoxFuture<'a, sqlx::Result<u64>> {
        async { Ok(0) }.boxed()
    }
}
