//! Whom facts may concern, of those who wait for news: asked once for all of them, and never too few. What there is to see, each
//! of them looks at for themselves.

use events::id::{TenantId, UserId};
use service::db::TenantTx;
use uuid::Uuid;

/// The read models that this is asked of, and that decide what there is to see.
pub const READS: &[&str] = &["feed", "notification", "graph", "moderation"];

/// Ids that facts mention.
#[derive(Clone, Debug, Default)]
pub struct Mentioned {
    /// In all facts.
    pub all: Vec<Uuid>,
    /// In those that may bring a post into feeds.
    pub feeding: Vec<Uuid>,
}

/// Of `waiting`, who is mentioned, whose post or comment is, who is answered, and who follows whoever may have brought a post into feeds.
pub async fn concerned(
    tx: &mut TenantTx,
    tenant: TenantId,
    mentioned: &Mentioned,
    waiting: &[UserId],
) -> sqlx::Result<Vec<UserId>> {
    sqlx::query_scalar(
        "WITH waiting AS MATERIALIZED (SELECT unnest($4::uuid[]) AS \"user\"),
        authors AS (
            SELECT unnest($3::uuid[]) AS author
            UNION SELECT p.author FROM feed.post p WHERE p.tenant = $1 AND p.post = ANY($3)
            UNION SELECT p.author FROM feed.carried c JOIN feed.post p ON p.tenant = $1 AND p.post = c.post
                WHERE c.tenant = $1 AND c.asset = ANY($3)
        ), concerned AS (
            SELECT unnest($2::uuid[]) AS \"user\"
            UNION SELECT n.author FROM notification.post n WHERE n.tenant = $1 AND n.post = ANY($2)
            UNION SELECT unnest(ARRAY[n.author, n.answered]) FROM notification.comment n WHERE n.tenant = $1 AND n.comment = ANY($2)
            UNION SELECT a.author FROM authors a
            UNION SELECT f.follower FROM authors a JOIN feed.follow f ON f.tenant = $1 AND f.followee = a.author
        )
        SELECT \"user\" FROM waiting WHERE \"user\" IN (SELECT \"user\" FROM concerned)",
    )
    .bind(tenant)
    .bind(&mentioned.all)
    .bind(&mentioned.feeding)
    .bind(waiting)
    .fetch_all(&mut **tx)
    .await
}
