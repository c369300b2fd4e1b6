//! Finding posts, people and hashtags.

mod apply;
mod language;
pub mod query;

use events::envelope::Recorded;
use events::fact::Fact;
use events::id::{TenantId, UserId};
use futures::future::BoxFuture;
use sqlx::PgConnection;

use crate::registry::Projection;

/// Documents and hashtags to be found.
#[derive(Clone, Copy, Debug)]
pub struct Search;

impl Projection for Search {
    fn name(&self) -> &'static str {
        "search"
    }

    fn version(&self) -> i32 {
        1
    }

    fn ddl(&self) -> &'static str {
        include_str!("../../../../schemas/postgres/views/search.v1.sql")
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

/// A hashtag as it is kept and compared: without `#`, lower case.
fn hashtag_key(tag: &str) -> String {
    tag.trim()
        .trim_start_matches('#')
        .replace('\0', "")
        .to_lowercase()
}
