//! Entries pushed into readers' feeds, so that reading a feed is reading one index.
//!
//! Two lanes meet here: a post in its own, a follow in the pair's. Both write their row, then lock the author's row, then
//! read what the other side has written: in READ COMMITTED the later one sees the earlier one's commit. Locks are taken
//! in one order everywhere: authors sorted, readers sorted. Only who holds the author's lock writes that author's entries.

use events::id::{Position, TenantId, UserId};
use sqlx::types::Json;
use sqlx::{AssertSqlSafe, PgConnection};
use uuid::Uuid;

use super::Feed;

/// A reader.
pub(super) type Reader = (TenantId, UserId);

/// Some of the readers whom the posts $1 go to, one of $3 equal parts of all ids, which follows from the post's position: it takes
/// reading a whole feed to see where it is to be cut.
macro_rules! some_readers {
    () => {
        "SELECT k.tenant, f.follower AS owner
        FROM (
            SELECT k.* FROM (
                SELECT (k->>0)::uuid AS tenant, (k->>1)::uuid AS author, (k->>2)::bigint % $3 AS part
                FROM jsonb_array_elements($1) k
            ) k
            WHERE NOT (SELECT a.pulled FROM author a WHERE a.tenant = k.tenant AND a.author = k.author) OFFSET 0
        ) k
        CROSS JOIN LATERAL (
            SELECT f.follower FROM follow f
            WHERE f.tenant = k.tenant AND f.followee = k.author
              AND f.follower >= rpad(lpad(to_hex(k.part * 65536 / $3), 4, '0'), 32, '0')::uuid
              AND f.follower <= rpad(lpad(to_hex((k.part + 1) * 65536 / $3 - 1), 4, '0'), 32, 'f')::uuid
            OFFSET 0
        ) f"
    };
}

/// Cuts the feeds of those who are `due` back to their cap, $2; not of those whose entries were left out and are to be made yet.
macro_rules! cut {
    () => {
        "raised AS (
            INSERT INTO reader (tenant, owner, floor)
            SELECT due.tenant, due.owner, edge.position
            FROM due
            CROSS JOIN LATERAL (
                SELECT e.position FROM feed_entry e
                WHERE e.tenant = due.tenant AND e.owner = due.owner
                ORDER BY e.position DESC OFFSET $2 LIMIT 1
            ) edge
            WHERE EXISTS (SELECT FROM reader r WHERE r.tenant = due.tenant AND r.owner = due.owner)
               OR NOT EXISTS (SELECT FROM reader r WHERE r.tenant = $4 AND r.owner = $4)
            ORDER BY 1, 2
            ON CONFLICT (tenant, owner) DO UPDATE SET floor = greatest(reader.floor, EXCLUDED.floor)
            RETURNING tenant, owner, floor
        ), cut AS (
            DELETE FROM feed_entry WHERE ctid = ANY (ARRAY (
                SELECT e.ctid FROM raised r
                CROSS JOIN LATERAL (
                    SELECT e.ctid FROM feed_entry e
                    WHERE e.tenant = r.tenant AND e.owner = r.owner AND e.position <= r.floor OFFSET 0
                ) e))
        )
        "
    };
}

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
        if self.lock_authors(feed, tx).await? == 0 {
            return Ok(()); // Nobody's feed is kept ready yet.
        }
        if !self.published.is_empty() {
            self.fan_out(feed, tx).await?;
        }
        if !self.followed.is_empty() {
            self.backfill(feed, tx).await?;
            self.trim(feed, tx).await?;
        }
        Ok(())
    }

    /// Locks them, and gives up pushing who has too many followers and posts: such an author is pulled from now on, for good, as
    /// the posts of that time were never pushed. How many there are; none while no feed is kept ready.
    async fn lock_authors(&self, feed: &Feed, tx: &mut PgConnection) -> sqlx::Result<u64> {
        let locked = sqlx::query(
            "INSERT INTO author (tenant, author, pulled)
            SELECT k.tenant, k.author, CASE WHEN bool_or(k.publishes)
                AND NOT EXISTS (SELECT FROM author a WHERE a.tenant = k.tenant AND a.author = k.author AND a.pulled)
                THEN $3 < (
                    SELECT count(*) FROM (
                        SELECT FROM follow f WHERE f.tenant = k.tenant AND f.followee = k.author LIMIT $3 + 1
                    ) enough)
                ELSE false END
            FROM (
                SELECT (k->>0)::uuid AS tenant, (k->>1)::uuid AS author, true AS publishes FROM jsonb_array_elements($1) k
                UNION ALL
                SELECT (k->>0)::uuid, (k->>2)::uuid, false FROM jsonb_array_elements($2) k
            ) k
            WHERE NOT EXISTS (SELECT FROM reader r WHERE r.tenant = $4 AND r.owner = $4)
                OR EXISTS (SELECT FROM reader r WHERE (r.tenant, r.owner) <> ($4, $4))
            GROUP BY 1, 2 ORDER BY 1, 2
            ON CONFLICT (tenant, author) DO UPDATE SET pulled = author.pulled OR EXCLUDED.pulled",
        )
        .bind(Json(&self.published))
        .bind(Json(&self.followed))
        .bind(feed.push_limit)
        .bind(Uuid::nil())
        .execute(tx)
        .await?;
        Ok(locked.rows_affected())
    }

    /// The posts' rows are this transaction's, so nobody has entries for them yet. An entry below its reader's floor does no harm.
    ///
    /// Before, cuts some of these feeds back to their cap, unless follows came too: then all are cut at once afterwards, so that
    /// readers are locked in one round.
    async fn fan_out(&self, feed: &Feed, tx: &mut PgConnection) -> sqlx::Result<()> {
        sqlx::query(concat!(
            "WITH due AS (SELECT DISTINCT * FROM (",
            some_readers!(),
            ") picked WHERE $5), ",
            cut!(),
            "INSERT INTO feed_entry (tenant, owner, position)
            SELECT k.tenant, f.follower, k.position
            FROM (
                SELECT k.* FROM (
                    SELECT (k->>0)::uuid AS tenant, (k->>1)::uuid AS author, (k->>2)::bigint AS position
                    FROM jsonb_array_elements($1) k
                ) k
                WHERE NOT (SELECT a.pulled FROM author a WHERE a.tenant = k.tenant AND a.author = k.author) OFFSET 0
            ) k
            CROSS JOIN LATERAL (
                SELECT f.follower FROM follow f WHERE f.tenant = k.tenant AND f.followee = k.author OFFSET 0
            ) f",
        ))
        .bind(Json(&self.published))
        .bind(feed.cap)
        .bind(feed.trim_every)
        .bind(Uuid::nil())
        .bind(self.followed.is_empty())
        .execute(tx)
        .await?;
        Ok(())
    }

    /// One post more than fits: then trimming raises the floor above what was left out.
    async fn backfill(&self, feed: &Feed, tx: &mut PgConnection) -> sqlx::Result<()> {
        sqlx::query(
            "INSERT INTO feed_entry (tenant, owner, position)
            SELECT f.tenant, f.follower, p.position
            FROM jsonb_array_elements($1) k
            CROSS JOIN LATERAL (
                SELECT f.* FROM follow f
                WHERE f.tenant = (k->>0)::uuid AND f.follower = (k->>1)::uuid AND f.followee = (k->>2)::uuid OFFSET 0
            ) f
            CROSS JOIN LATERAL (
                SELECT p.position FROM post p
                WHERE p.tenant = f.tenant AND p.author = f.followee AND p.position > coalesce(
                    (SELECT r.floor FROM reader r WHERE r.tenant = f.tenant AND r.owner = f.follower),
                    (SELECT r.floor FROM reader r WHERE r.tenant = $3 AND r.owner = $3), 0)
                ORDER BY p.position DESC LIMIT $2 + 1
            ) p
            WHERE NOT (SELECT a.pulled FROM author a WHERE a.tenant = f.tenant AND a.author = f.followee)
            ON CONFLICT DO NOTHING",
        )
        .bind(Json(&self.followed))
        .bind(feed.cap)
        .bind(Uuid::nil())
        .execute(tx)
        .await?;
        Ok(())
    }

    /// Cuts the feeds that were backfilled, and some of those that were pushed to.
    async fn trim(&self, feed: &Feed, tx: &mut PgConnection) -> sqlx::Result<()> {
        sqlx::query(concat!(
            "WITH due AS (
                SELECT (k->>0)::uuid AS tenant, (k->>1)::uuid AS owner FROM jsonb_array_elements($5) k
                UNION ",
            some_readers!(),
            "), ",
            cut!(),
            "SELECT",
        ))
        .bind(Json(&self.published))
        .bind(feed.cap)
        .bind(feed.trim_every)
        .bind(Uuid::nil())
        .bind(Json(&self.followed))
        .execute(tx)
        .await?;
        Ok(())
    }
}

/// Makes a reader's entries anew from whom they follow. Posts and follows that come meanwhile wait for the authors' rows, or bring
/// their own entries afterwards.
pub(super) async fn refill(
    feed: &Feed,
    (tenant, reader): Reader,
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
    all.lock_authors(feed, tx).await?;
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

/// Readers whose entries are made in one transaction.
const READERS: i64 = 500;

/// Leaves entries out from now on, in a build that nobody reads.
pub(super) async fn leave_out(tx: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::query(
        "INSERT INTO reader (tenant, owner, floor) SELECT $1, $1, 9223372036854775807
        WHERE NOT EXISTS (SELECT FROM reader)",
    )
    .bind(Uuid::nil())
    .execute(tx)
    .await?;
    Ok(())
}

/// Makes the entries of the next readers after `after` that have none because they were left out, and tells who was the last;
/// none: all have theirs, and nothing is left out any more.
pub(super) async fn make_ready(
    feed: &Feed,
    after: Option<Reader>,
    tx: &mut PgConnection,
) -> sqlx::Result<Option<Reader>> {
    // Waits for whoever locks authors, and they wait for the end of this transaction.
    sqlx::query("LOCK TABLE author IN SHARE ROW EXCLUSIVE MODE")
        .execute(&mut *tx)
        .await?;
    if after.is_none() {
        give_up_pushing(feed, tx).await?;
    }
    let readers = without_entries(after, tx).await?;
    let Some(Json(last)) = readers.last() else {
        sqlx::query("DELETE FROM reader WHERE tenant = $1 AND owner = $1")
            .bind(Uuid::nil())
            .execute(tx)
            .await?;
        return Ok(None);
    };
    let last = *last;
    sqlx::query(
        "WITH newest AS (
            SELECT r.tenant, r.owner, e.position, e.place
            FROM (SELECT (k->>0)::uuid AS tenant, (k->>1)::uuid AS owner FROM jsonb_array_elements($1) k) r
            LEFT JOIN LATERAL (
                SELECT p.position, row_number() OVER (ORDER BY p.position DESC) AS place
                FROM follow f
                CROSS JOIN LATERAL (
                    SELECT p.position FROM post p
                    WHERE p.tenant = f.tenant AND p.author = f.followee
                    ORDER BY p.position DESC LIMIT $2 + 1
                ) p
                WHERE f.tenant = r.tenant AND f.follower = r.owner AND NOT EXISTS (
                    SELECT FROM author a WHERE a.tenant = f.tenant AND a.author = f.followee AND a.pulled)
                ORDER BY p.position DESC LIMIT $2 + 1
            ) e ON true
        ), floors AS (
            INSERT INTO reader (tenant, owner, floor)
            SELECT tenant, owner, coalesce(max(position) FILTER (WHERE place = $2 + 1), 0) FROM newest GROUP BY 1, 2
        )
        INSERT INTO feed_entry (tenant, owner, position)
        SELECT tenant, owner, position FROM newest WHERE place <= $2
        ON CONFLICT DO NOTHING",
    )
    .bind(Json(readers))
    .bind(feed.cap)
    .execute(tx)
    .await?;
    Ok(Some(last))
}

/// The next readers after `after` whose entries were left out.
async fn without_entries(
    after: Option<Reader>,
    tx: &mut PgConnection,
) -> sqlx::Result<Vec<Json<Reader>>> {
    let (tenant, owner) = after.unzip();
    sqlx::query_scalar(
        "SELECT jsonb_build_array(tenant, follower) FROM (
            SELECT DISTINCT f.tenant, f.follower FROM follow f
            WHERE EXISTS (SELECT FROM reader r WHERE r.tenant = $4 AND r.owner = $4)
              AND ($1::uuid IS NULL OR (f.tenant, f.follower) > ($1, $2::uuid))
              AND NOT EXISTS (SELECT FROM reader r WHERE r.tenant = f.tenant AND r.owner = f.follower)
            ORDER BY 1, 2 LIMIT $3
        ) next",
    )
    .bind(tenant)
    .bind(owner)
    .bind(READERS)
    .bind(Uuid::nil())
    .fetch_all(tx)
    .await
}

/// All who have too many followers.
async fn give_up_pushing(feed: &Feed, tx: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::query(
        "INSERT INTO author (tenant, author, pulled)
        SELECT tenant, followee, true FROM follow WHERE EXISTS (SELECT FROM reader r WHERE r.tenant = $2 AND r.owner = $2)
        GROUP BY 1, 2 HAVING count(*) > $1
        ON CONFLICT (tenant, author) DO UPDATE SET pulled = true",
    )
    .bind(feed.push_limit)
    .bind(Uuid::nil())
    .execute(tx)
    .await?;
    Ok(())
}
