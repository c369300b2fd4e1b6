//! Posts, and the feeds that follow from who follows whom.

mod apply;
mod cache;
mod hot;
mod near;
pub mod query;
pub mod top;

use events::envelope::Recorded;
use events::fact::Fact;
use events::id::{TenantId, UserId};
use futures::future::BoxFuture;
use sqlx::PgConnection;

use crate::config::Config;
use crate::registry::Projection;

/// Posts, follows, and a feed kept ready for every reader.
#[derive(Clone, Copy, Debug)]
pub struct Feed {
    /// Followers up to which posts are pushed.
    push_limit: i64,
    /// Entries kept per reader.
    cap: i64,
    /// About one push in so many cuts a feed back to its cap.
    trim_every: i64,
}

impl Feed {
    /// The feed, with an operator's settings.
    pub fn new(config: &Config) -> Self {
        Self {
            push_limit: config.feed_push_limit.into(),
            cap: config.feed_cap.into(),
            trim_every: config.feed_trim_every.into(),
        }
    }
}

impl Projection for Feed {
    fn name(&self) -> &'static str {
        "feed"
    }

    fn version(&self) -> i32 {
        4
    }

    fn ddl(&self) -> &'static str {
        include_str!("../../../../schemas/postgres/views/feed.v4.sql")
    }

    fn late(&self) -> &'static [&'static str] {
        &["post_author", "near_newest", "follow_followee"]
    }

    fn handles(&self, fact: &Fact) -> bool {
        apply::handles(fact)
    }

    fn apply<'a>(
        &'a self,
        batch: &'a [Recorded],
        tx: &'a mut PgConnection,
    ) -> BoxFuture<'a, sqlx::Result<()>> {
        Box::pin(apply::apply(self, batch, tx))
    }

    fn forget<'a>(
        &'a self,
        person: (TenantId, UserId),
        tx: &'a mut PgConnection,
    ) -> BoxFuture<'a, sqlx::Result<u64>> {
        Box::pin(apply::forget(person, tx))
    }

    fn refill<'a>(
        &'a self,
        reader: (TenantId, UserId),
        tx: &'a mut PgConnection,
    ) -> Option<BoxFuture<'a, sqlx::Result<u64>>> {
        Some(Box::pin(cache::refill(self, reader, tx)))
    }
    fn leave_out<'a>(&'a self, tx: &'a mut PgConnection) -> BoxFuture<'a, sqlx::Result<()>> {
        Box::pin(cache::leave_out(tx))
    }

    fn make_ready<'a>(
        &'a self,
        after: Option<(TenantId, UserId)>,
        tx: &'a mut PgConnection,
    ) -> BoxFuture<'a, sqlx::Result<Option<(TenantId, UserId)>>> {
        Box::pin(cache::make_ready(self, after, tx))
    }
}
