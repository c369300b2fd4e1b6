//! What happens under posts: comments, reactions, and how many there are.

mod apply;
pub mod query;

use events::envelope::Recorded;
use events::fact::Fact;
use events::id::{TenantId, UserId};
use futures::future::BoxFuture;
use sqlx::PgConnection;

use crate::registry::Projection;

/// Comments, reactions and counts.
#[derive(Clone, Copy, Debug)]
pub struct Engagement;

impl Projection for Engagement {
    fn name(&self) -> &'static str {
        "engagement"
    }

    fn version(&self) -> i32 {
        2
    }

    fn ddl(&self) -> &'static str {
        include_str!("../../../../schemas/postgres/views/engagement.v2.sql")
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

/// The kinds under which other things are counted beside reactions.
const COMMENT: &str = "comment";
const SHARE: &str = "share";
const VIEW: &str = "view";
