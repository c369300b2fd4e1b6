//! What people post about, from the facts of posts.

use events::envelope::Recorded;
use events::fact::post::{PostEdited, PostPublished, Visibility};
use events::id::{Position, PostId, TenantId, UserId};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;

use crate::rows::{Row, Rows, row};
use crate::{hashtag, post};

#[derive(Clone, PartialEq, Serialize, Deserialize)]
struct PostRow {
    tenant: TenantId,
    post: PostId,
    author: UserId,
    public: bool,
    hashtags: Vec<String>,
    position: Position,
}

row!(
    PostRow in "post", key (tenant: TenantId, post: PostId),
    "t.tenant = (k->>0)::uuid AND t.post = (k->>1)::uuid",
    "ON CONFLICT (tenant, post) DO UPDATE SET public = EXCLUDED.public, hashtags = EXCLUDED.hashtags"
);

#[derive(Clone, PartialEq, Serialize, Deserialize)]
struct InterestRow {
    tenant: TenantId,
    post: PostId,
    hashtag: String,
    author: UserId,
    position: Position,
}

row!(
    InterestRow in "interest", key (tenant: TenantId, post: PostId, hashtag: String),
    "t.tenant = (k->>0)::uuid AND t.post = (k->>1)::uuid AND t.hashtag = k->>2",
    ""
);

impl post::PostRow for PostRow {
    fn published(recorded: &Recorded, fact: &PostPublished) -> Self {
        Self {
            tenant: recorded.tenant,
            post: fact.post,
            author: fact.author,
            public: fact.visibility == Visibility::Public,
            hashtags: hashtag::of_text(fact.text.text().unwrap_or_default()),
            position: recorded.position,
        }
    }

    fn edit(&mut self, fact: &PostEdited) {
        if let Some(text) = &fact.text {
            self.hashtags = hashtag::of_text(text.text().unwrap_or_default());
        }
        if let Some(visibility) = fact.visibility {
            self.public = visibility == Visibility::Public;
        }
    }
}

impl PostRow {
    /// What all may know of it.
    fn interests(&self) -> impl Iterator<Item = InterestRow> {
        let shown = self.hashtags.iter().filter(|_| self.public);
        shown.map(|hashtag| InterestRow {
            tenant: self.tenant,
            post: self.post,
            hashtag: hashtag.clone(),
            author: self.author,
            position: self.position,
        })
    }
}

pub(super) async fn apply(batch: &[Recorded], tx: &mut PgConnection) -> sqlx::Result<()> {
    store(&post::fold(batch, tx).await?, tx).await
}

/// Writes posts, and the interests that changed with them.
async fn store(posts: &Rows<PostRow>, tx: &mut PgConnection) -> sqlx::Result<()> {
    let touched = posts
        .changes()
        .flat_map(|(was, is)| was.into_iter().chain(is));
    let keys: Vec<_> = touched
        .flat_map(PostRow::interests)
        .map(|row| row.key())
        .collect();
    let mut interests = Rows::<InterestRow>::load(keys, tx).await?;
    for (was, is) in posts.changes() {
        for row in was.into_iter().flat_map(PostRow::interests) {
            *interests.slot(row.key()) = None;
        }
        for row in is.into_iter().flat_map(PostRow::interests) {
            let slot = interests.slot(row.key());
            *slot = Some(row);
        }
    }
    posts.store(tx).await?;
    interests.store(tx).await
}

pub(super) async fn forget(
    (tenant, author): (TenantId, UserId),
    tx: &mut PgConnection,
) -> sqlx::Result<u64> {
    let posts: Vec<PostId> = sqlx::query_scalar(
        "SELECT post FROM post WHERE tenant = $1 AND author = $2 AND hashtags <> '{}'",
    )
    .bind(tenant)
    .bind(author)
    .fetch_all(&mut *tx)
    .await?;
    let rows = posts.len() as u64;
    let keys = posts.into_iter().map(|post| (tenant, post));
    let mut posts = Rows::<PostRow>::load(keys, tx).await?;
    for post in posts.all_mut() {
        post.hashtags.clear();
    }
    store(&posts, tx).await?;
    Ok(rows)
}
