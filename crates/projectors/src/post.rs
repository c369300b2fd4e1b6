//! Posts, as several read models look at them: rows of which each is a post come, change and go.

use std::collections::BTreeMap;

use events::envelope::Recorded;
use events::fact::Fact;
use events::fact::post::{PostEdited, PostPublished};
use events::id::{CommentId, PostId, TenantId};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::rows::{Row, Rows};

/// What something is done to: the comment when one is named, else the post.
pub(crate) fn target(post: PostId, comment: Option<CommentId>) -> Uuid {
    comment.map_or(post.0, |comment| comment.0)
}

/// A row that is a post.
pub(crate) trait PostRow: Row<Key = (TenantId, PostId)> {
    /// The row of a new post.
    fn published(recorded: &Recorded, fact: &PostPublished) -> Self;

    /// Changes it.
    fn edit(&mut self, fact: &PostEdited);
}

fn subject(fact: &Fact) -> Option<PostId> {
    Some(match fact {
        Fact::PostPublished(fact) => fact.post,
        Fact::PostEdited(fact) => fact.post,
        Fact::PostDeleted(fact) => fact.post,
        _ => return None,
    })
}

/// Whether a post comes, changes or goes.
pub(crate) fn handles(fact: &Fact) -> bool {
    subject(fact).is_some()
}

/// The rows of the posts that a batch is about, as they are after it; not written yet.
pub(crate) async fn fold<R: PostRow>(
    batch: &[Recorded],
    tx: &mut PgConnection,
) -> sqlx::Result<Rows<R>> {
    let subjects = batch
        .iter()
        .filter_map(|recorded| Some((recorded, subject(&recorded.fact)?)));
    let mut posts = Rows::load(existing(subjects.clone()), tx).await?;
    for (recorded, post) in subjects {
        let slot = posts.slot((recorded.tenant, post));
        match &recorded.fact {
            Fact::PostPublished(fact) => *slot = Some(R::published(recorded, fact)),
            Fact::PostEdited(fact) => {
                if let Some(post) = slot {
                    post.edit(fact);
                }
            }
            _ => *slot = None,
        }
    }
    Ok(posts)
}

/// The posts that facts touch, but for those whose first fact publishes them: of these there is no row to read yet.
pub(crate) fn existing<'a>(
    touched: impl IntoIterator<Item = (&'a Recorded, PostId)>,
) -> Vec<(TenantId, PostId)> {
    let mut posts = BTreeMap::new();
    for (recorded, post) in touched {
        let exists = !matches!(recorded.fact, Fact::PostPublished(_));
        posts.entry((recorded.tenant, post)).or_insert(exists);
    }
    let existing = posts.into_iter().filter(|(_, exists)| *exists);
    existing.map(|(key, _)| key).collect()
}
