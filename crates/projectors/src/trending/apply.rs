//! Uses of hashtags from the facts of posts.

use events::envelope::Recorded;
use events::fact::post::{PostEdited, PostPublished, Visibility};
use events::id::{Lane, PostId, StreamKey, TenantId, UserId};
use events::seal::Personal;
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;

use super::scope;
use crate::rows::{Row, Rows, Tally, row, tally};
use crate::search::language;
use crate::{hashtag, post};

#[derive(Clone, PartialEq, Serialize, Deserialize)]
struct PostRow {
    tenant: TenantId,
    post: PostId,
    author: UserId,
    tags: Vec<String>,
    claimed: bool,
    language: Option<String>,
    place: Option<String>,
    hour: i64,
    public: bool,
}

row!(
    PostRow in "post", key (tenant: TenantId, post: PostId),
    "t.tenant = (k->>0)::uuid AND t.post = (k->>1)::uuid",
    "ON CONFLICT (tenant, post) DO UPDATE SET
        tags = EXCLUDED.tags, claimed = EXCLUDED.claimed, language = EXCLUDED.language, place = EXCLUDED.place, public = EXCLUDED.public"
);

#[derive(Clone, PartialEq, Serialize, Deserialize)]
struct UsedRow {
    tenant: TenantId,
    scope: String,
    hour: i64,
    tag: String,
    lane: i16,
    posts: i64,
}

row!(
    UsedRow in "used", key (tenant: TenantId, scope: String, hour: i64, tag: String, lane: i16),
    "t.tenant = (k->>0)::uuid AND t.scope = k->>1 AND t.hour = (k->>2)::bigint AND t.tag = k->>3
        AND t.lane = (k->>4)::smallint",
    "ON CONFLICT (tenant, scope, hour, tag, lane) DO UPDATE SET posts = EXCLUDED.posts"
);

impl Tally for UsedRow {
    fn of((tenant, scope, hour, tag, lane): Self::Key, posts: i64) -> Self {
        Self {
            tenant,
            scope,
            hour,
            tag,
            lane,
            posts,
        }
    }

    fn count(&self) -> i64 {
        self.posts
    }
}

pub(super) async fn apply(batch: &[Recorded], tx: &mut PgConnection) -> sqlx::Result<()> {
    store(&post::fold(batch, tx).await?, tx).await
}

pub(super) async fn forget(
    (tenant, author): (TenantId, UserId),
    tx: &mut PgConnection,
) -> sqlx::Result<u64> {
    let keys: Vec<PostId> = sqlx::query_scalar(
        "SELECT post FROM post WHERE tenant = $1 AND author = $2 AND (tags <> '{}' OR place IS NOT NULL OR NOT claimed)",
    )
    .bind(tenant)
    .bind(author)
    .fetch_all(&mut *tx)
    .await?;
    let rows = keys.len() as u64;
    let mut posts = Rows::<PostRow>::load(keys.into_iter().map(|post| (tenant, post)), tx).await?;
    for post in posts.all_mut() {
        post.place = None;
        tell(post, "");
    }
    store(&posts, tx).await?;
    Ok(rows)
}

/// Writes posts, and counts their uses of hashtags.
async fn store(posts: &Rows<PostRow>, tx: &mut PgConnection) -> sqlx::Result<()> {
    posts.store(tx).await?;
    tally::<UsedRow, _, _>(posts, uses, tx).await
}

/// Where a post counts.
fn uses(post: &PostRow) -> Vec<<UsedRow as Row>::Key> {
    let lane = Lane::of(post.tenant, &StreamKey::post(post.post).subject).number();
    let language = post.language.as_deref().map(scope::language);
    let scopes: Vec<String> = std::iter::once(scope::ALL.to_owned())
        .chain(language)
        .chain(post.place.as_deref().map(scope::place))
        .collect();
    let tags = post.tags.iter().filter(|_| post.public);
    let keys = tags.flat_map(|tag| {
        let key = |scope: &String| (post.tenant, scope.clone(), post.hour, tag.clone(), lane);
        scopes.iter().map(key)
    });
    keys.collect()
}

impl post::PostRow for PostRow {
    fn published(recorded: &Recorded, fact: &PostPublished) -> Self {
        let mut row = Self {
            tenant: recorded.tenant,
            post: fact.post,
            author: fact.author,
            tags: vec![],
            claimed: fact.language.is_some(),
            language: fact.language.as_deref().and_then(language::primary),
            place: place(fact.place.as_ref()),
            hour: recorded.recorded_at.timestamp().div_euclid(3600),
            public: fact.visibility == Visibility::Public,
        };
        tell(&mut row, fact.text.text().unwrap_or_default());
        row
    }

    fn edit(&mut self, fact: &PostEdited) {
        if let Some(language) = &fact.language {
            (self.claimed, self.language) = (true, language::primary(language));
        }
        if let Some(text) = &fact.text {
            tell(self, text.text().unwrap_or_default());
        }
        if fact.place.is_some() {
            self.place = place(fact.place.as_ref());
        }
        if let Some(visibility) = fact.visibility {
            self.public = visibility == Visibility::Public;
        }
    }
}

/// What follows from a post's text.
fn tell(post: &mut PostRow, said: &str) {
    post.tags = hashtag::of_text(said);
    if !post.claimed {
        post.language = language::detected(said).map(str::to_owned);
    }
}

fn place(place: Option<&Personal>) -> Option<String> {
    let place = place.and_then(Personal::text)?;
    Some(place.trim().to_lowercase()).filter(|place| !place.is_empty())
}
