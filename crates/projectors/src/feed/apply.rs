//! Posts, follows and viewable assets from their facts; then the cache, see [`super::cache`].

use chrono::{DateTime, Utc};
use events::decide::asset::PRIMARY;
use events::envelope::Recorded;
use events::fact::Fact;
use events::fact::post::{PostEdited, PostPublished};
use events::id::{AssetId, Position, PostId, TenantId, UserId};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;

use super::{Feed, cache, hot, near};
use crate::post;
use crate::rows::{self, Row, Rows, row};

#[derive(Clone, PartialEq, Serialize, Deserialize)]
struct PostRow {
    tenant: TenantId,
    post: PostId,
    author: UserId,
    position: Position,
    visibility: String,
    shown: Position,
    text: Option<String>,
    place: Option<String>,
    language: Option<String>,
    assets: Vec<AssetId>,
    published_at: DateTime<Utc>,
    edited_at: Option<DateTime<Utc>>,
}

row!(
    PostRow in "post", key (tenant: TenantId, post: PostId),
    "t.tenant = (k->>0)::uuid AND t.post = (k->>1)::uuid",
    "ON CONFLICT (tenant, post) DO UPDATE SET
        visibility = EXCLUDED.visibility, shown = EXCLUDED.shown, text = EXCLUDED.text, place = EXCLUDED.place,
        language = EXCLUDED.language, edited_at = EXCLUDED.edited_at"
);

#[derive(Clone, PartialEq, Serialize, Deserialize)]
struct FollowRow {
    tenant: TenantId,
    follower: UserId,
    followee: UserId,
}

row!(
    FollowRow in "follow", key (tenant: TenantId, follower: UserId, followee: UserId),
    "t.tenant = (k->>0)::uuid AND t.follower = (k->>1)::uuid AND t.followee = (k->>2)::uuid",
    ""
);

#[derive(Clone, PartialEq, Serialize, Deserialize)]
struct ViewableRow {
    tenant: TenantId,
    asset: AssetId,
    position: Position,
}

row!(
    ViewableRow in "viewable", key (tenant: TenantId, asset: AssetId),
    "t.tenant = (k->>0)::uuid AND t.asset = (k->>1)::uuid",
    ""
);

#[derive(Clone, PartialEq, Serialize, Deserialize)]
struct CarriedRow {
    tenant: TenantId,
    asset: AssetId,
    post: PostId,
}

row!(
    CarriedRow in "carried", key (tenant: TenantId, asset: AssetId, post: PostId),
    "t.tenant = (k->>0)::uuid AND t.asset = (k->>1)::uuid AND t.post = (k->>2)::uuid",
    ""
);

impl PostRow {
    fn carried(&self) -> impl Iterator<Item = CarriedRow> {
        let (tenant, post) = (self.tenant, self.post);
        self.assets.iter().map(move |asset| CarriedRow {
            tenant,
            asset: *asset,
            post,
        })
    }
}

/// What a fact is about, here.
enum Touched {
    Post(PostId),
    Follow(UserId, UserId),
    Asset(AssetId),
}

fn touched(fact: &Fact) -> Option<Touched> {
    Some(match fact {
        Fact::PostPublished(fact) => Touched::Post(fact.post),
        Fact::PostEdited(fact) => Touched::Post(fact.post),
        Fact::PostDeleted(fact) => Touched::Post(fact.post),
        Fact::FollowStarted(fact) => Touched::Follow(fact.follower, fact.followee),
        Fact::FollowEnded(fact) => Touched::Follow(fact.follower, fact.followee),
        Fact::RenditionCompleted(fact) if PRIMARY.contains(&fact.name.as_str()) => {
            Touched::Asset(fact.asset)
        }
        Fact::AssetDeleted(fact) => Touched::Asset(fact.asset),
        _ => return None,
    })
}

pub(super) fn handles(fact: &Fact) -> bool {
    touched(fact).is_some() || hot::handles(fact) || near::handles(fact)
}

pub(super) async fn apply(
    feed: &Feed,
    batch: &[Recorded],
    tx: &mut PgConnection,
) -> sqlx::Result<()> {
    let (mut posts, mut follows, mut assets) = (vec![], vec![], vec![]);
    for recorded in batch {
        match touched(&recorded.fact) {
            Some(Touched::Post(post)) => posts.push((recorded, post)),
            Some(Touched::Follow(reader, author)) => {
                follows.push((recorded.tenant, reader, author));
            }
            Some(Touched::Asset(asset)) => assets.push((recorded.tenant, asset)),
            None => {}
        }
    }
    let mut posts = Rows::<PostRow>::load(post::existing(posts), tx).await?;
    let mut follows = Rows::<FollowRow>::load(follows, tx).await?;
    let mut assets = Rows::<ViewableRow>::load(assets, tx).await?;
    for recorded in batch {
        fold(recorded, &mut posts, &mut follows, &mut assets);
    }
    carry(&posts, tx).await?;
    let hot = hot::fold(batch, tx).await?;
    let writes = [
        posts.writes()?,
        follows.writes()?,
        assets.writes()?,
        hot.writes()?,
    ];
    rows::store(writes.concat(), tx).await?;
    near::apply(batch, tx).await?;

    // What is new after the batch, whatever happened within it: a follow that ended and began again is still complete.
    let published = posts
        .changes()
        .filter_map(|(was, is)| is.filter(|_| was.is_none()));
    let published = published
        .map(|post| (post.tenant, post.author, post.position))
        .collect();
    let followed = follows
        .changes()
        .filter_map(|(_, is)| is)
        .map(Row::key)
        .collect();
    cache::Pushing {
        published,
        followed,
    }
    .push(feed, tx)
    .await
}

pub(super) async fn forget(
    (tenant, author): (TenantId, UserId),
    tx: &mut PgConnection,
) -> sqlx::Result<u64> {
    let done = sqlx::query(
        "UPDATE post SET text = NULL, place = NULL
         WHERE tenant = $1 AND author = $2 AND (text IS NOT NULL OR place IS NOT NULL)",
    )
    .bind(tenant)
    .bind(author)
    .execute(&mut *tx)
    .await?;
    Ok(done.rows_affected() + near::forget((tenant, author), tx).await?)
}

fn fold(
    recorded: &Recorded,
    posts: &mut Rows<PostRow>,
    follows: &mut Rows<FollowRow>,
    assets: &mut Rows<ViewableRow>,
) {
    let tenant = recorded.tenant;
    match &recorded.fact {
        Fact::PostPublished(fact) => {
            *posts.slot((tenant, fact.post)) = Some(published(recorded, fact));
        }
        Fact::PostEdited(fact) => {
            if let Some(post) = posts.get_mut((tenant, fact.post)) {
                edit(post, fact, recorded.position);
                post.edited_at = Some(recorded.recorded_at);
            }
        }
        Fact::PostDeleted(fact) => *posts.slot((tenant, fact.post)) = None,
        Fact::FollowStarted(fact) => {
            let row = FollowRow {
                tenant,
                follower: fact.follower,
                followee: fact.followee,
            };
            let slot = follows.slot(row.key());
            *slot = Some(row);
        }
        Fact::FollowEnded(fact) => *follows.slot((tenant, fact.follower, fact.followee)) = None,
        Fact::RenditionCompleted(fact) if PRIMARY.contains(&fact.name.as_str()) => {
            let asset = assets.slot((tenant, fact.asset));
            asset.get_or_insert(ViewableRow {
                tenant,
                asset: fact.asset,
                position: recorded.position,
            });
        }
        Fact::AssetDeleted(fact) => *assets.slot((tenant, fact.asset)) = None,
        _ => {}
    }
}

/// A post's assets never change, so its rows come and go with it.
async fn carry(posts: &Rows<PostRow>, tx: &mut PgConnection) -> sqlx::Result<()> {
    let touched = posts
        .changes()
        .flat_map(|(was, is)| was.into_iter().chain(is));
    let keys: Vec<_> = touched
        .flat_map(PostRow::carried)
        .map(|row| row.key())
        .collect();
    let mut carried = Rows::<CarriedRow>::load(keys, tx).await?;
    for (was, is) in posts.changes() {
        for row in was.into_iter().flat_map(PostRow::carried) {
            *carried.slot(row.key()) = None;
        }
        for row in is.into_iter().flat_map(PostRow::carried) {
            let slot = carried.slot(row.key());
            *slot = Some(row);
        }
    }
    carried.store(tx).await
}

fn published(recorded: &Recorded, fact: &PostPublished) -> PostRow {
    PostRow {
        tenant: recorded.tenant,
        post: fact.post,
        author: fact.author,
        position: recorded.position,
        visibility: fact.visibility.as_str().to_owned(),
        shown: recorded.position,
        text: fact.text.text().map(str::to_owned),
        place: fact
            .place
            .as_ref()
            .and_then(|place| place.text())
            .map(str::to_owned),
        language: fact.language.clone(),
        assets: fact.assets.clone(),
        published_at: recorded.recorded_at,
        edited_at: None,
    }
}

fn edit(post: &mut PostRow, fact: &PostEdited, at: Position) {
    if let Some(text) = &fact.text {
        post.text = text.text().map(str::to_owned);
    }
    if let Some(place) = &fact.place {
        post.place = place.text().map(str::to_owned);
    }
    if let Some(language) = &fact.language {
        post.language = Some(language.clone());
    }
    if let Some(visibility) = fact.visibility
        && post.visibility != visibility.as_str()
    {
        visibility.as_str().clone_into(&mut post.visibility);
        post.shown = at;
    }
}
