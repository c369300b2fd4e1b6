//! Finding posts, people, hashtags and one's own files.

mod apply;
mod asked;
pub mod complete;
pub mod facets;
pub(crate) mod language;
mod nearest;
pub mod query;
pub mod synonym;
mod text;
mod window;

use events::envelope::Recorded;
use events::fact::Fact;
use events::id::{TenantId, UserId};
use futures::future::BoxFuture;
use sqlx::PgConnection;

use crate::registry::Projection;

/// Documents, hashtags and words to be found.
#[derive(Clone, Copy, Debug)]
pub struct Search;

impl Projection for Search {
    fn name(&self) -> &'static str {
        "search"
    }

    fn version(&self) -> i32 {
        3
    }

    fn ddl(&self) -> &'static str {
        include_str!("../../../../schemas/postgres/views/search.v3.sql")
    }

    fn late(&self) -> &'static [&'static str] {
        &[
            "document_lexemes",
            "document_hashtags",
            "document_newest",
            "document_author",
            "document_place",
            "document_language",
            "document_at",
            "document_name",
            "hashtag_prefix",
            "term_begins",
            "term_ends",
        ]
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
