//! Uploads, the assets they become, their renditions and jobs.

mod apply;
mod measured;
pub mod query;

pub use measured::Measured;

use events::envelope::Recorded;
use events::fact::Fact;
use events::id::{TenantId, UserId};
use futures::future::BoxFuture;
use sqlx::PgConnection;

use crate::registry::Projection;

/// Uploads, assets, renditions and jobs.
#[derive(Clone, Copy, Debug)]
pub struct Media;

impl Projection for Media {
    fn name(&self) -> &'static str {
        "media"
    }

    fn version(&self) -> i32 {
        1
    }

    fn ddl(&self) -> &'static str {
        include_str!("../../../../schemas/postgres/views/media.v1.sql")
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
