//! The feed in the order of how much is going on under its posts.

use std::collections::BTreeMap;

use events::id::PostId;
use serde::{Deserialize, Serialize};
use service::db::TenantTx;
use uuid::Uuid;

use super::query::{Post, page, wanted};
use crate::page::{Page, Viewer};

/// The newest so many posts of a feed are put in order.
const POSTS: u32 = 400;
/// A reader may be on so many pages at once, with several devices, say.
const SNAPSHOTS: i64 = 4;

/// A place in a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopCursor {
    /// The snapshot.
    pub snapshot: Uuid,
    /// So many of its posts were looked at.
    pub place: u32,
}

/// Puts the newest 400 posts of the viewer's feed in the order of their hot score and keeps that order; the caller commits. The
/// oldest of what was kept of earlier times goes.
pub async fn snapshot(tx: &mut TenantTx, viewer: Viewer) -> sqlx::Result<TopCursor> {
    let newest = page(tx, viewer, None, POSTS).await?.items;
    let ids: Vec<PostId> = newest.iter().map(|post| post.post).collect();
    let ordered: Vec<PostId> = sqlx::query_scalar(
        "SELECT h.post FROM unnest($2::uuid[]) WITH ORDINALITY AS n(post, age)
        JOIN feed.hot h ON h.tenant = $1 AND h.post = n.post
        ORDER BY h.hot DESC, n.age",
    )
    .bind(viewer.tenant)
    .bind(ids)
    .fetch_all(&mut **tx)
    .await?;
    let snapshot = Uuid::now_v7();
    sqlx::query(
        "INSERT INTO accounts.top_feeds (tenant, owner, snapshot, posts) VALUES ($1, $2, $3, $4)",
    )
    .bind(viewer.tenant)
    .bind(viewer.user)
    .bind(snapshot)
    .bind(ordered)
    .execute(&mut **tx)
    .await?;
    sqlx::query(
        "DELETE FROM accounts.top_feeds WHERE tenant = $1 AND owner = $2 AND snapshot <= (
            SELECT snapshot FROM accounts.top_feeds WHERE tenant = $1 AND owner = $2
            ORDER BY snapshot DESC OFFSET $3 LIMIT 1)",
    )
    .bind(viewer.tenant)
    .bind(viewer.user)
    .bind(SNAPSHOTS)
    .execute(&mut **tx)
    .await?;
    Ok(TopCursor { snapshot, place: 0 })
}

/// The posts of a snapshot from `from` on that are still in the viewer's feed; a page may be short and yet not the last. None: the
/// snapshot is no longer kept.
pub async fn top(
    tx: &mut TenantTx,
    viewer: Viewer,
    from: TopCursor,
    limit: u32,
) -> sqlx::Result<Option<Page<Post, TopCursor>>> {
    let place = i64::from(from.place);
    let found: Option<(Vec<PostId>, bool)> = sqlx::query_as(
        "SELECT posts[$4 + 1:$4 + $5], cardinality(posts) > $4 + $5 FROM accounts.top_feeds
        WHERE tenant = $1 AND owner = $2 AND snapshot = $3",
    )
    .bind(viewer.tenant)
    .bind(viewer.user)
    .bind(from.snapshot)
    .bind(place)
    .bind(i64::from(limit))
    .fetch_optional(&mut **tx)
    .await?;
    let Some((ids, more)) = found else {
        return Ok(None);
    };
    let seen = wanted(tx, viewer, &ids).await?;
    let mut seen: BTreeMap<PostId, Post> = seen.into_iter().map(|one| (one.post, one)).collect();
    let next = TopCursor {
        place: from.place.saturating_add(limit),
        ..from
    };
    Ok(Some(Page {
        items: ids.iter().filter_map(|post| seen.remove(post)).collect(),
        next: more.then_some(next),
    }))
}
