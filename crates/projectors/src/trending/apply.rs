//! Uses of hashtags from the facts of posts.

use std::collections::BTreeMap;

use events::envelope::Recorded;
use events::fact::Fact;
use events::fact::post::{PostEdited, PostPublished, Visibility};
use events::id::{Lane, PostId, StreamKey, TenantId, UserId};
use events::seal::Personal;
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;

use super::scope;
use crate::hashtag;
use crate::rows::{Row, Rows, row};
use crate::search::language;

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

fn subject(fact: &Fact) -> Option<PostId> {
    Some(match fact {
        Fact::PostPublished(fact) => fact.post,
        Fact::PostEdited(fact) => fact.post,
        Fact::PostDeleted(fact) => fact.post,
        _ => return None,
    })
}

pub(super) fn handles(fact: &Fact) -> bool {
    subject(fact).is_some()
}

pub(super) async fn apply(batch: &[Recorded], tx: &mut PgConnection) -> sqlx::Result<()> {
    let subjects = batch
        .iter()
        .filter_map(|recorded| Some((recorded, (recorded.tenant, subject(&recorded.fact)?))));
    let mut posts = Rows::<PostRow>::load(subjects.clone().map(|(_, key)| key), tx).await?;
    for (recorded, key) in subjects {
        let slot = posts.slot(key);
        match &recorded.fact {
            Fact::PostPublished(fact) => *slot = Some(published(recorded, fact)),
            Fact::PostEdited(fact) => {
                if let Some(post) = slot {
                    edit(post, fact);
                }
            }
            _ => *slot = None,
        }
    }
    store(&posts, tx).await
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

/// Writes posts, and what their changes make of the uses.
async fn store(posts: &Rows<PostRow>, tx: &mut PgConnection) -> sqlx::Result<()> {
    let mut more: BTreeMap<<UsedRow as Row>::Key, i64> = BTreeMap::new();
    for (was, is) in posts.changes() {
        let (was, is) = (was.map(|was| (was, -1)), is.map(|is| (is, 1)));
        for (post, one) in was.into_iter().chain(is) {
            for key in uses(post) {
                *more.entry(key).or_insert(0) += one;
            }
        }
    }
    more.retain(|_, more| *more != 0);
    let mut used = Rows::<UsedRow>::load(more.keys().cloned(), tx).await?;
    for (key, more) in more {
        let slot = used.slot(key.clone());
        let posts = slot.as_ref().map_or(0, |used| used.posts) + more;
        let (tenant, scope, hour, tag, lane) = key;
        *slot = (posts > 0).then_some(UsedRow {
            tenant,
            scope,
            hour,
            tag,
            lane,
            posts,
        });
    }
    posts.store(tx).await?;
    used.store(tx).await
}

/// Where a post counts.
fn uses(post: &PostRow) -> impl Iterator<Item = <UsedRow as Row>::Key> {
    let lane = Lane::of(post.tenant, &StreamKey::post(post.post).subject).number();
    let language = post.language.as_deref().map(scope::language);
    let scopes: Vec<String> = std::iter::once(scope::ALL.to_owned())
        .chain(language)
        .chain(post.place.as_deref().map(scope::place))
        .collect();
    let tags = post.tags.iter().filter(|_| post.public);
    tags.flat_map(move |tag| {
        let (tenant, hour, tag) = (post.tenant, post.hour, tag.clone());
        let scopes = scopes.clone().into_iter();
        scopes.map(move |scope| (tenant, scope, hour, tag.clone(), lane))
    })
}

fn published(recorded: &Recorded, fact: &PostPublished) -> PostRow {
    let mut row = PostRow {
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

fn edit(post: &mut PostRow, fact: &PostEdited) {
    if let Some(language) = &fact.language {
        (post.claimed, post.language) = (true, language::primary(language));
    }
    if let Some(text) = &fact.text {
        tell(post, text.text().unwrap_or_default());
    }
    if fact.place.is_some() {
        post.place = place(fact.place.as_ref());
    }
    if let Some(visibility) = fact.visibility {
        post.public = visibility == Visibility::Public;
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
