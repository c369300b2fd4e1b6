//! Likes, passes, matches, and who might match.

mod apply;
mod interest;
pub mod query;
pub mod score;

use events::envelope::Recorded;
use events::fact::Fact;
use events::id::{TenantId, UserId};
use futures::future::BoxFuture;
use sqlx::PgConnection;

use crate::registry::Projection;

/// Likes, passes and matches.
#[derive(Clone, Copy, Debug)]
pub struct Pairing;

impl Projection for Pairing {
    fn name(&self) -> &'static str {
        "pairing"
    }

    fn version(&self) -> i32 {
        2
    }

    fn ddl(&self) -> &'static str {
        include_str!("../../../../schemas/postgres/views/pairing.v2.sql")
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
