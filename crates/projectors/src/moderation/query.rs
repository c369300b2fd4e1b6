//! What moderators have to look at. Row level security shows it to them alone: the transaction must be a moderator's.

use events::id::{AssetId, CommentId, Position, PostId, UserId};
use serde::Serialize;
use service::db::TenantTx;
use uuid::Uuid;

use crate::page::{Cursor, Page, Viewer, above};

/// The read models that these queries read.
pub const READS: &[&str] = &["moderation", "feed", "engagement"];

/// Reports that are shown of each target.
const SHOWN: i64 = 3;

/// Whether a user of the tenant $1 is not suspended; time may have ended what no moderator lifted. The one place that says so.
macro_rules! unsuspended {
    ($user:literal) => {
        concat!(
            "NOT EXISTS (
                SELECT FROM moderation.suspension s
                WHERE s.tenant = $1 AND s.\"user\" = ",
            $user,
            " AND (s.until IS NULL OR s.until > now()))"
        )
    };
}
pub(crate) use unsuspended;

/// A post or a comment that has open reports.
#[derive(Clone, Debug, PartialEq, Serialize, sqlx::FromRow)]
pub struct Queued {
    /// The id of the post or comment.
    pub target: Uuid,
    /// The post.
    pub post: PostId,
    /// The comment on it, when that was reported.
    pub comment: Option<CommentId>,
    /// Who wrote it.
    pub author: UserId,
    /// What it says; none once its author was erased.
    pub text: Option<String>,
    /// What it shows, in order.
    pub assets: Vec<AssetId>,
    /// How many open reports there are.
    pub reports: i64,
    /// The first one's place in the log, and the target's in the queue.
    pub first: Position,
    /// The last one's place in the log.
    pub last: Position,
}

/// Why someone wants a target looked at.
#[derive(Clone, Debug, PartialEq, Serialize, sqlx::FromRow)]
pub struct Report {
    /// The id of the post or comment.
    pub target: Uuid,
    /// Who reports it.
    pub user: UserId,
    /// What is wrong with it.
    pub reason: String,
    /// The same in the reporter's words.
    pub text: Option<String>,
    /// Its place in the log.
    pub position: Position,
}

/// What has open reports, the longest waiting first.
pub async fn queue(
    tx: &mut TenantTx,
    viewer: Viewer,
    after: Option<Cursor>,
    limit: u32,
) -> sqlx::Result<Page<Queued>> {
    let queued = sqlx::query_as(
        "SELECT q.target, q.post, q.comment, q.reports, q.first, q.last,
            CASE WHEN q.comment IS NULL THEN p.author ELSE c.author END AS author,
            CASE WHEN q.comment IS NULL THEN p.text ELSE c.text END AS text,
            CASE WHEN q.comment IS NULL THEN p.assets ELSE '{}' END AS assets
        FROM moderation.queue q
        JOIN feed.post p ON p.tenant = $1 AND p.post = q.post
        LEFT JOIN engagement.comment c ON c.tenant = $1 AND c.comment = q.comment
        WHERE q.tenant = $1 AND q.first > $2 AND (q.comment IS NULL OR NOT c.deleted)
        ORDER BY q.first LIMIT $3",
    )
    .bind(viewer.tenant)
    .bind(above(after))
    .bind(i64::from(limit) + 1)
    .fetch_all(&mut **tx)
    .await?;
    Ok(Page::cut(queued, limit, |queued: &Queued| Cursor {
        position: queued.first,
        id: queued.target,
    }))
}

/// The newest open reports of each of `targets`, up to three.
pub async fn reports(
    tx: &mut TenantTx,
    viewer: Viewer,
    targets: &[Uuid],
) -> sqlx::Result<Vec<Report>> {
    sqlx::query_as(
        "SELECT r.target, r.\"user\", r.reason, r.text, r.position
        FROM moderation.queue q
        CROSS JOIN LATERAL (
            SELECT r.* FROM moderation.report r
            WHERE r.tenant = $1 AND r.target = q.target AND r.position >= q.first
            ORDER BY r.position DESC LIMIT $3
        ) r
        WHERE q.tenant = $1 AND q.target = ANY($2)
        ORDER BY r.position DESC",
    )
    .bind(viewer.tenant)
    .bind(targets)
    .bind(SHOWN)
    .fetch_all(&mut **tx)
    .await
}
