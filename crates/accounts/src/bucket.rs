//! How often something may be tried, counted over all processes: leaky buckets (what is tried flows in, and out at a steady rate).

use std::time::Duration;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::{Accounts, Error};

/// A bucket that nobody has tried for so long is empty, whatever flows out of it.
const FORGOTTEN: chrono::Duration = chrono::Duration::hours(1);

/// What is counted, and how much of it.
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    /// What is tried; each has buckets of its own.
    pub what: &'static str,
    /// So many at once.
    pub burst: u32,
    /// And so many a minute for ever.
    pub per_minute: u32,
}

impl Bucket {
    /// A bucket for `what`: `burst` at once, and then `per_minute`.
    pub const fn new(what: &'static str, burst: u32, per_minute: u32) -> Self {
        Self {
            what,
            burst,
            per_minute,
        }
    }
}

/// How a bucket stands after one more try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// So many more have room at once.
    pub left: u32,
    /// One too many: in how long there will be room.
    pub wait: Option<Duration>,
}

impl Accounts {
    /// Counts one more try, of somebody who may be anybody, under `name` in `tenant`.
    pub async fn take(
        &self,
        bucket: Bucket,
        tenant: Uuid,
        name: &str,
        now: DateTime<Utc>,
    ) -> Result<Taken, Error> {
        let _try = self.a_try().await?;
        self.count(bucket, tenant, name, now).await
    }

    /// The same of somebody who has proven who they are.
    pub async fn count(
        &self,
        bucket: Bucket,
        tenant: Uuid,
        name: &str,
        now: DateTime<Utc>,
    ) -> Result<Taken, Error> {
        let key = [
            b"bucket",
            bucket.what.as_bytes(),
            tenant.as_bytes(),
            name.as_bytes(),
        ];
        let key = self.0.names.sign(&key);
        if let Some(until) = self.0.refused.get(&key).await
            && let Ok(left) = (until - now).to_std()
        {
            return Ok(Taken {
                left: 0,
                wait: Some(left),
            });
        }
        let (left, wait): (i64, f64) = sqlx::query_as(
            "WITH old AS (
                SELECT bucket FROM accounts.buckets WHERE at < $5 AND bucket <> $1 LIMIT 10 FOR UPDATE SKIP LOCKED
            ), emptied AS (
                DELETE FROM accounts.buckets b USING old WHERE b.bucket = old.bucket
            )
            INSERT INTO accounts.buckets AS b (bucket, level, wait, at) VALUES ($1, 1, 0, $4)
            ON CONFLICT (bucket) DO UPDATE SET (level, wait, at) = (
                SELECT CASE WHEN left_over + 1 > $2 THEN left_over ELSE left_over + 1 END,
                    greatest(0, left_over + 1 - $2) / $3, greatest(b.at, $4)
                FROM (SELECT greatest(0, b.level - $3 * greatest(0, extract(epoch FROM $4 - b.at)::float8))) AS d(left_over))
            RETURNING floor(greatest(0, $2 - level))::bigint, wait",
        )
        .bind(key)
        .bind(f64::from(bucket.burst))
        .bind(f64::from(bucket.per_minute) / 60.0)
        .bind(now)
        .bind(now - FORGOTTEN)
        .fetch_one(&self.0.pool)
        .await?;
        let wait = (wait > 0.0).then(|| Duration::from_secs_f64(wait));
        // Whoever goes on trying is refused without asking again.
        if let Some(until) =
            wait.and_then(|wait| Some(now + chrono::Duration::from_std(wait).ok()?))
        {
            self.0.refused.insert(key, until).await;
        }
        Ok(Taken {
            left: u32::try_from(left).unwrap_or_default(),
            wait,
        })
    }
}
