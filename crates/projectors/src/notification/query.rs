//! What the viewer is told, and of what not. Who may see a post is asked of the feed's model.

use std::collections::BTreeMap;

use events::fact::user::NoticeKind;
use events::id::{Position, PostId, UserId};
use serde::Serialize;
use service::db::TenantTx;
use sqlx::types::Json;
use uuid::Uuid;

use crate::feed::query::visible;
use crate::page::{Cursor, Page, Viewer, below};

/// The read models that these queries read.
pub const READS: &[&str] = &["notification", "feed", "graph", "moderation"];

/// Of a bundle's notices the newest so many are looked at, and of unread bundles no more are counted.
pub const COUNTED: u32 = 100;

/// Notices of a kind about the same thing.
#[derive(Clone, Debug, PartialEq, Serialize, sqlx::FromRow)]
pub struct Bundle {
    /// What was done.
    pub kind: Json<NoticeKind>,
    /// The viewer's post or comment that it was done to, else the viewer.
    pub target: Uuid,
    /// The post that it was done to, or under.
    pub post: Option<PostId>,
    /// Who did it, the last ones first, up to three.
    pub actors: Vec<UserId>,
    /// How many did it, as far as the newest [`COUNTED`] notices tell.
    pub count: i64,
    /// The newest notice's place in the log, and the bundle's in the list.
    pub position: Position,
    /// Whether nothing in it is newer than what was read.
    pub read: bool,
}

/// Whether $2 of the tenant $1 hears of the notice `n`: not of what was done by whom a moderator suspended or a block is between, nor
/// of what is hidden. The one place that says so.
macro_rules! heard {
    () => {
        concat!(
            $crate::moderation::query::unsuspended!("n.actor"),
            " AND NOT EXISTS (SELECT FROM moderation.hidden h WHERE h.tenant = $1 AND h.target = n.source)
            AND ",
            $crate::graph::query::unblocked!("$2", "n.actor")
        )
    };
}

/// The bundles `b` of the owner $2 of the tenant $1 that are shown, with the notices `n` in them. A bundle of several lanes has a
/// row in each, of which the newest is taken.
macro_rules! shown {
    ($notices:literal) => {
        concat!(
            "FROM notification.bundle b
            WHERE b.tenant = $1 AND b.owner = $2
              AND NOT EXISTS (
                SELECT FROM notification.bundle o
                WHERE o.tenant = $1 AND o.owner = $2 AND o.kind = b.kind AND o.target = b.target AND o.newest > b.newest)
              AND NOT EXISTS (
                SELECT FROM notification.muted m WHERE m.tenant = $1 AND m.owner = $2 AND m.kind = b.kind)
              AND (b.post IS NULL OR EXISTS (
                SELECT FROM feed.post p WHERE p.tenant = $1 AND p.post = b.post AND ",
            visible!(),
            "))
              AND NOT EXISTS (
                SELECT FROM notification.comment c WHERE c.tenant = $1 AND c.comment = b.target AND c.deleted)
              AND EXISTS (SELECT FROM ",
            notices!(),
            $notices,
            ")"
        )
    };
}

/// The notices `n` of the bundle `b` that are heard.
macro_rules! notices {
    () => {
        concat!(
            "notification.notice n
            WHERE n.tenant = $1 AND n.owner = $2 AND n.kind = b.kind AND n.target = b.target AND ",
            heard!()
        )
    };
}

/// What others did that concerns the viewer, newest first; read up to `mark`.
pub async fn inbox(
    tx: &mut TenantTx,
    viewer: Viewer,
    mark: Position,
    after: Option<Cursor>,
    limit: u32,
) -> sqlx::Result<Page<Bundle>> {
    let bundles = sqlx::query_as(concat!(
        "WITH page AS (
            SELECT b.* ",
        shown!(""),
        " AND b.newest < $3
            ORDER BY b.newest DESC LIMIT $4
        )
        SELECT to_jsonb(b.kind) AS kind, b.target, b.post, b.newest AS position,
            heard.actors[1:3] AS actors, heard.count, heard.newest <= $5 AS read
        FROM page b
        CROSS JOIN LATERAL (
            SELECT array_agg(actor ORDER BY position DESC) AS actors, count(*) AS count, max(position) AS newest
            FROM (
                SELECT actor, max(position) AS position
                FROM (SELECT n.actor, n.position FROM ",
        notices!(),
        " ORDER BY n.position DESC LIMIT $6) notices
                GROUP BY actor
            ) actors
        ) heard
        ORDER BY b.newest DESC"
    ))
    .bind(viewer.tenant)
    .bind(viewer.user)
    .bind(below(after))
    .bind(i64::from(limit) + 1)
    .bind(mark)
    .bind(i64::from(COUNTED))
    .fetch_all(&mut **tx)
    .await?;
    Ok(Page::cut(bundles, limit, |bundle: &Bundle| Cursor {
        position: bundle.position,
        id: bundle.target,
    }))
}

/// How much of the inbox is newer than `mark`: [`COUNTED`] is so much or more.
pub async fn unread(tx: &mut TenantTx, viewer: Viewer, mark: Position) -> sqlx::Result<i64> {
    sqlx::query_scalar(concat!(
        "SELECT count(*) FROM (SELECT ",
        shown!(" AND n.position > $3"),
        " AND b.newest > $3 LIMIT $4) unread"
    ))
    .bind(viewer.tenant)
    .bind(viewer.user)
    .bind(mark)
    .bind(i64::from(COUNTED))
    .fetch_one(&mut **tx)
    .await
}

/// Of what the viewer wants to be told.
pub async fn preferences(
    tx: &mut TenantTx,
    viewer: Viewer,
) -> sqlx::Result<BTreeMap<NoticeKind, bool>> {
    let muted: Vec<Json<NoticeKind>> = sqlx::query_scalar(
        "SELECT to_jsonb(kind) FROM notification.muted WHERE tenant = $1 AND owner = $2",
    )
    .bind(viewer.tenant)
    .bind(viewer.user)
    .fetch_all(&mut **tx)
    .await?;
    let on = |kind| !muted.iter().any(|Json(muted)| *muted == kind);
    Ok(NoticeKind::ALL.map(|kind| (kind, on(kind))).into())
}
