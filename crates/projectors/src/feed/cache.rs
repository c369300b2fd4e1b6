//! Entries pushed into readers' feeds, so that reading a feed is reading one index.
//!
//! Two lanes meet here: a post in its own, a follow in the pair's. Both write their row, then lock the author's row, then
//! read what the other side has written: in READ COMMITTED the later one sees the earlier one's commit. Locks are taken
//! in one order everywhere: authors sorted, entries, readers sorted.

use events::id::{Position, TenantId, UserId};
use sqlx::types::Json;
use sqlx::{AssertSqlSafe, PgConnection};

use super::Feed;

/// What a batch brought that feeds must learn of; its rows are written already.
pub(super) struct Pushing {
    /// Posts: tenant, author, position.
    pub(super) published: Vec<(TenantId, UserId, Position)>,
    /// Follows: tenant, follower, followee.
    pub(super) followed: Vec<(TenantId, UserId, UserId)>,
}

impl Pushing {
    pub(super) async fn push(&self, feed: &Feed, tx: &mut PgConnection) -> sqlx::Result<()> {
        if self.published.is_empty() && self.followed.is_empty() {
            return Ok(());
        }
        self.lock_authors(tx).await?;
        self.give_up_pushing(feed, tx).await?;
        self.fan_out(tx).await?;
        self.backfill(feed, tx).await?;
        self.trim(feed, tx).await
    }

    async fn lock_authors(&self, tx: &mut PgConnection) -> sqlx::Result<()> {
        let published = self
            .published
            .iter()
            .map(|(tenant, author, _)| (tenant, author));
        let authors: Vec<_> = published
            .chain(
                self.followed
                    .iter()
                    .map(|(tenant, _, author)| (tenant, author)),
            )
            .collect();
        sqlx::query(
            "INSERT INTO author (tenant, author)
            SELECT DISTINCT (k->>0)::uuid, (k->>1)::uuid FROM jsonb_array_elements($1) k ORDER BY 1, 2
            ON CONFLICT (tenant, author) DO UPDATE SET pulled = author.pulled",
        )
        .bind(Json(authors))
        .execute(tx)
        .await?;
        Ok(())
    }

    /// An author who has too many followers is pulled from now on. For good: the posts of that time were never pushed.
    async fn give_up_pushing(&self, feed: &Feed, tx: &mut PgConnection) -> sqlx::Result<()> {
        sqlx::query(
            "UPDATE author a SET pulled = true
            FROM (SELECT DISTINCT (k->>0)::uuid AS tenant, (k->>1)::uuid AS author FROM jsonb_array_elements($1) k) k
            WHERE a.tenant = k.tenant AND a.author = k.author AND NOT a.pulled
              AND $2 < (
                SELECT count(*) FROM (
                    SELECT FROM follow f WHERE f.tenant = k.tenant AND f.followee = k.author LIMIT $2 + 1
                ) enough)",
        )
        .bind(Json(&self.published))
        .bind(feed.push_limit)
        .execute(tx)
        .await?;
        Ok(())
    }

    async fn fan_out(&self, tx: &mut PgConnection) -> sqlx::Result<()> {
        sqlx::query(
            "INSERT INTO feed_entry (tenant, owner, position, post, author)
            SELECT p.tenant, f.follower, p.position, p.post, p.author
            FROM jsonb_array_elements($1) k
            JOIN post p
              ON p.tenant = (k->>0)::uuid AND p.author = (k->>1)::uuid AND p.position = (k->>2)::bigint
            JOIN author a ON a.tenant = p.tenant AND a.author = p.author AND NOT a.pulled
            JOIN follow f ON f.tenant = p.tenant AND f.followee = p.author
            LEFT JOIN reader r ON r.tenant = p.tenant AND r.owner = f.follower
            WHERE p.position > coalesce(r.floor, 0)
            ORDER BY 1, 2, 3
            ON CONFLICT DO NOTHING",
        )
        .bind(Json(&self.published))
        .execute(tx)
        .await?;
        Ok(())
    }

    /// One post more than fits: then trimming raises the floor above what was left out.
    async fn backfill(&self, feed: &Feed, tx: &mut PgConnection) -> sqlx::Result<()> {
        sqlx::query(
            "INSERT INTO feed_entry (tenant, owner, position, post, author)
            SELECT f.tenant, f.follower, p.position, p.post, p.author
            FROM jsonb_array_elements($1) k
            JOIN follow f
              ON f.tenant = (k->>0)::uuid AND f.follower = (k->>1)::uuid AND f.followee = (k->>2)::uuid
            JOIN author a ON a.tenant = f.tenant AND a.author = f.followee AND NOT a.pulled
            LEFT JOIN reader r ON r.tenant = f.tenant AND r.owner = f.follower
            CROSS JOIN LATERAL (
                SELECT p.position, p.post, p.author FROM post p
                WHERE p.tenant = f.tenant AND p.author = f.followee AND p.position > coalesce(r.floor, 0)
                ORDER BY p.position DESC LIMIT $2 + 1
            ) p
            ORDER BY 1, 2, 3
            ON CONFLICT DO NOTHING",
        )
        .bind(Json(&self.followed))
        .bind(feed.cap)
        .execute(tx)
        .await?;
        Ok(())
    }

    /// Cuts feeds back to their cap: those that were backfilled, and of those that were pushed to some, picked by
    /// reader and position, because it takes reading a whole feed to see where it is to be cut.
    async fn trim(&self, feed: &Feed, tx: &mut PgConnection) -> sqlx::Result<()> {
        let raised: Vec<Json<(TenantId, UserId, Position)>> = sqlx::query_scalar(
            "WITH due AS (
                SELECT (k->>0)::uuid AS tenant, (k->>1)::uuid AS owner FROM jsonb_array_elements($2) k
                UNION
                SELECT f.tenant, f.follower
                FROM jsonb_array_elements($1) k
                JOIN author a ON a.tenant = (k->>0)::uuid AND a.author = (k->>1)::uuid AND NOT a.pulled
                JOIN follow f ON f.tenant = a.tenant AND f.followee = a.author
                WHERE abs(hashtext(f.follower::text) + (k->>2)::bigint) % $4 = 0
            )
            INSERT INTO reader (tenant, owner, floor)
            SELECT due.tenant, due.owner, edge.position
            FROM due
            CROSS JOIN LATERAL (
                SELECT e.position FROM feed_entry e
                WHERE e.tenant = due.tenant AND e.owner = due.owner
                ORDER BY e.position DESC OFFSET $3 LIMIT 1
            ) edge
            ORDER BY 1, 2
            ON CONFLICT (tenant, owner) DO UPDATE SET floor = greatest(reader.floor, EXCLUDED.floor)
            RETURNING jsonb_build_array(tenant, owner, floor)",
        )
        .bind(Json(&self.published))
        .bind(Json(&self.followed))
        .bind(feed.cap)
        .bind(feed.trim_every)
        .fetch_all(&mut *tx)
        .await?;
        if raised.is_empty() {
            return Ok(());
        }
        sqlx::query(
            "DELETE FROM feed_entry e USING jsonb_array_elements($1) k
            WHERE e.tenant = (k->>0)::uuid AND e.owner = (k->>1)::uuid AND e.position <= (k->>2)::bigint",
        )
        .bind(Json(raised))
        .execute(tx)
        .await?;
        Ok(())
    }
}

/// Makes a reader's entries anew from whom they follow. Posts and follows that come meanwhile wait for the authors' rows, or bring
/// their own entries afterwards.
pub(super) async fn refill(
    feed: &Feed,
    (tenant, reader): (TenantId, UserId),
    tx: &mut PgConnection,
) -> sqlx::Result<u64> {
    let authors: Vec<UserId> =
        sqlx::query_scalar("SELECT followee FROM follow WHERE tenant = $1 AND follower = $2")
            .bind(tenant)
            .bind(reader)
            .fetch_all(&mut *tx)
            .await?;
    let followed = authors
        .into_iter()
        .map(|author| (tenant, reader, author))
        .collect();
    let all = Pushing {
        published: vec![],
        followed,
    };
    all.lock_authors(tx).await?;
    for table in ["feed_entry", "reader"] {
        sqlx::query(AssertSqlSafe(format!(
            "DELETE FROM {table} WHERE tenant = $1 AND owner = $2"
        )))
        .bind(tenant)
        .bind(reader)
        .execute(&mut *tx)
        .await?;
    }
    all.push(feed, tx).await?;
    let entries: i64 =
        sqlx::query_scalar("SELECT count(*) FROM feed_entry WHERE tenant = $1 AND owner = $2")
            .bind(tenant)
            .bind(reader)
            .fetch_one(tx)
            .await?;
    Ok(entries.unsigned_abs())
}
