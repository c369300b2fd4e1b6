//! What others did that concerns someone: the inbox.

mod apply;
pub mod mark;
mod pair;
pub mod query;
mod row;

use events::envelope::Recorded;
use events::fact::Fact;
use events::id::{TenantId, UserId};
use futures::future::BoxFuture;
use sqlx::PgConnection;

use crate::registry::Projection;

/// Notices, and what is not to be told.
#[derive(Clone, Copy, Debug)]
pub struct Notification;

impl Projection for Notification {
    fn name(&self) -> &'static str {
        "notification"
    }

    fn version(&self) -> i32 {
        1
    }

    fn ddl(&self) -> &'static str {
        include_str!("../../../../schemas/postgres/views/notification.v1.sql")
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
        _: (TenantId, UserId),
        _: &'a mut PgConnection,
    ) -> BoxFuture<'a, sqlx::Result<u64>> {
        // Nothing here is a text.
        Box::pin(std::future::ready(Ok(0)))
    }
}
