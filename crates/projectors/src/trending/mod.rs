//! Hashtags that are used more than before, over all, by language and by place.

mod apply;
pub mod query;

use events::envelope::Recorded;
use events::fact::Fact;
use events::id::{TenantId, UserId};
use futures::future::BoxFuture;
use sqlx::PgConnection;

use crate::post;
use crate::registry::Projection;

/// Uses of hashtags, hour by hour.
#[derive(Clone, Copy, Debug)]
pub struct Trending;

impl Projection for Trending {
    fn name(&self) -> &'static str {
        "trending"
    }

    fn version(&self) -> i32 {
        1
    }

    fn ddl(&self) -> &'static str {
        include_str!("../../../../schemas/postgres/views/trending.v1.sql")
    }

    fn handles(&self, fact: &Fact) -> bool {
        post::handles(fact)
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

mod scope {
    //! Where uses are counted together.

    /// Everywhere.
    pub(super) const ALL: &str = "";

    /// In a language, BCP 47.
    pub(super) fn language(tag: &str) -> String {
        format!("language:{tag}")
    }

    /// At a place, lower case.
    pub(super) fn place(place: &str) -> String {
        format!("place:{place}")
    }
}
