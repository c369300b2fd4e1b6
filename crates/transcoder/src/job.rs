//! The queue: a table that facts fill ([`crate::subscription`]) and workers empty.
//!
//! Whose job is next is settled in one place, `jobs.claim` (`schemas/postgres/jobs`, ADR 12): owners stand in line, and one
//! that was served goes to its end.
//!
//! Who works on a job holds its token. A worker that lost it may go on for a while, but nothing it says counts: every
//! statement here names the token, and the last one stands in the transaction that appends the job's facts.

use std::future::Future;
use std::time::Duration;

use events::fact::asset::MediaError;
use events::id::{AssetId, JobId, TenantId};
use service::db;
use sqlx::types::Json;
use sqlx::{PgConnection, PgPool, Postgres, Transaction};
use uuid::Uuid;

use crate::profile::Profile;
use crate::run::CpuTime;

/// How long a job is kept for a worker that says nothing.
pub const LEASE: Duration = Duration::from_secs(30);
/// Told when there are new jobs, or old ones again.
pub const NEWS: &str = "cinelog_jobs";
/// How long jobs of the lower classes wait for more urgent ones; then they are as urgent as an upload's.
pub const AGE: Duration = Duration::from_hours(1);
/// How long one statement may take: far less than the lease.
const PATIENCE: Duration = Duration::from_secs(5);

/// Which jobs come first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Class {
    /// Someone is looking at a spinner.
    Interactive,
    /// What every upload gets.
    Default,
    /// What was asked for besides.
    Bulk,
    /// Old assets in new profiles.
    Reprocess,
}

impl Class {
    /// The class of a profile by its name: names that this build does not know come with what was asked for besides.
    pub fn of(profile: &str) -> Self {
        match profile.parse() {
            Ok(Profile::Fast1) => Self::Interactive,
            Ok(Profile::Proxy720V1) => Self::Default,
            Ok(Profile::Edit1) | Err(_) => Self::Bulk,
        }
    }

    /// Its number in the table: the lowest comes first.
    pub fn number(self) -> i16 {
        match self {
            Self::Interactive => 0,
            Self::Default => 1,
            Self::Bulk => 2,
            Self::Reprocess => 3,
        }
    }
}

/// How a job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Its outputs are in storage.
    Done,
    /// It made nothing.
    Failed,
    /// It was given up.
    Cancelled,
}

impl End {
    /// Its name in the table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

/// A job that this worker has.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Job {
    /// Its id.
    #[sqlx(rename = "job_id")]
    pub id: JobId,
    /// Whose data it is.
    pub tenant: TenantId,
    /// What it renders.
    pub asset: AssetId,
    /// As what.
    pub profile: String,
    /// Where the original is.
    pub source_key: String,
    /// The original's size.
    pub source_bytes: i64,
    /// The original's SHA-256, hex.
    pub source_sha256: String,
    /// How often it was begun, this time included.
    pub attempts: i32,
    /// CPU time that earlier attempts took, milliseconds.
    pub cpu_ms: i64,
    /// Proof that it is this worker's.
    pub token: Uuid,
    /// What this attempt takes.
    #[sqlx(skip)]
    pub spent: CpuTime,
}

impl Job {
    /// CPU time of all attempts whose end was told, this one included, milliseconds.
    pub fn cpu_total_ms(&self) -> u64 {
        self.cpu_ms.unsigned_abs() + self.spent.ms()
    }
}

/// The table of jobs.
#[derive(Debug, Clone)]
pub struct Jobs {
    pool: PgPool,
}

impl Jobs {
    /// The table in the database of `pool`, whose role is the transcoder's.
    pub fn new(pool: PgPool) -> Self {
        Self { pool }
    }

    /// The pool it is reached by.
    pub fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// Takes the next jobs of a class (none: of any), at most so many: first those whose worker went silent, then the oldest of
    /// each owner whose turn it is in the most urgent class. Jobs of profiles that this build does not know are left for a
    /// newer one.
    pub async fn claim(&self, class: Option<Class>, most: usize) -> sqlx::Result<Vec<Job>> {
        let claimed = sqlx::query_as(
            "SELECT job_id, tenant, asset, profile, source_key, source_bytes, source_sha256, attempts, cpu_ms, token
             FROM jobs.claim($1, $2, $3, $4::float8 * interval '1 s', $5::float8 * interval '1 s')",
        )
        .bind(class.map(Class::number))
        .bind(known())
        .bind(i32::try_from(most).unwrap_or(i32::MAX))
        .bind(LEASE.as_secs_f64())
        .bind(AGE.as_secs_f64())
        .fetch_all(&self.pool);
        patiently(claimed).await
    }

    /// Whether no job of the class is left that this build could do, now or later.
    pub async fn is_empty(&self, class: Option<Class>) -> sqlx::Result<bool> {
        // One condition for each partial index: what has ended is not looked at.
        let empty = sqlx::query_scalar(
            "SELECT NOT EXISTS (SELECT FROM jobs.jobs WHERE state = 'queued' AND ready
                        AND ($1::smallint IS NULL OR class = $1) AND profile = ANY ($2))
                AND NOT EXISTS (SELECT FROM jobs.jobs WHERE state = 'queued' AND NOT ready
                        AND ($1::smallint IS NULL OR class = $1) AND profile = ANY ($2))
                AND NOT EXISTS (SELECT FROM jobs.jobs WHERE state = 'running'
                        AND ($1::smallint IS NULL OR class = $1) AND profile = ANY ($2))",
        )
        .bind(class.map(Class::number))
        .bind(known())
        .fetch_one(&self.pool);
        patiently(empty).await
    }

    /// Says that a worker can do so many jobs at once, for another [`LEASE`]: how many an owner may have depends on it.
    pub async fn present(&self, worker: Uuid, slots: usize) -> sqlx::Result<()> {
        let said = sqlx::query(
            "WITH silent AS (
                 DELETE FROM jobs.workers WHERE until < clock_timestamp() AND worker <> $1)
             INSERT INTO jobs.workers (worker, slots, until)
             VALUES ($1, $2, clock_timestamp() + $3::float8 * interval '1 s')
             ON CONFLICT (worker) DO UPDATE SET slots = excluded.slots, until = excluded.until",
        )
        .bind(worker)
        .bind(i32::try_from(slots).unwrap_or(i32::MAX))
        .bind(LEASE.as_secs_f64())
        .execute(&self.pool);
        patiently(said).await.map(drop)
    }

    /// Says that a worker takes no more jobs.
    pub async fn leave(&self, worker: Uuid) -> sqlx::Result<()> {
        let said = sqlx::query("DELETE FROM jobs.workers WHERE worker = $1")
            .bind(worker)
            .execute(&self.pool);
        patiently(said).await.map(drop)
    }

    /// Notes that a job's child died of it, and tells how often children died of its asset in jobs that have not ended well;
    /// none: it is not ours any more.
    pub async fn died(&self, job: &Job) -> sqlx::Result<Option<i64>> {
        let deaths = sqlx::query_scalar(
            "WITH died AS (
                 UPDATE jobs.jobs SET deaths = deaths + 1 WHERE job_id = $1 AND token = $2 RETURNING tenant, asset)
             SELECT 1 + sum(j.deaths) FROM jobs.jobs j JOIN died USING (tenant, asset)
             WHERE j.state <> 'done' HAVING count(*) > 0",
        )
        .bind(job.id)
        .bind(job.token)
        .fetch_optional(&self.pool);
        patiently(deaths).await
    }

    /// Keeps a job for another [`LEASE`]; false: it is not ours any more.
    pub async fn hold(&self, job: &Job) -> sqlx::Result<bool> {
        let held = sqlx::query(
            "UPDATE jobs.jobs SET lease_until = clock_timestamp() + $3::float8 * interval '1 s'
             WHERE job_id = $1 AND token = $2",
        )
        .bind(job.id)
        .bind(job.token)
        .bind(LEASE.as_secs_f64())
        .execute(&self.pool);
        Ok(patiently(held).await?.rows_affected() == 1)
    }

    /// Tells everyone how far a job is, as long as it is ours.
    pub async fn report(
        &self,
        job: &Job,
        stage: &str,
        done: f64,
        left: Option<Duration>,
    ) -> sqlx::Result<()> {
        let reported = sqlx::query(
            "WITH said AS (
                 INSERT INTO jobs.progress AS p (job_id, tenant, asset, stage, done, eta_ms)
                 SELECT job_id, tenant, asset, $3, $4::float8::real, $5 FROM jobs.jobs WHERE job_id = $1 AND token = $2
                 ON CONFLICT (job_id) DO UPDATE
                 SET stage = excluded.stage, done = excluded.done, eta_ms = excluded.eta_ms, at = excluded.at
                 RETURNING p.*)
             SELECT pg_notify('cinelog_progress', json_build_object(
                 'tenant', tenant, 'asset', asset, 'job', job_id, 'stage', stage, 'done', done)::text) FROM said",
        )
        .bind(job.id)
        .bind(job.token)
        .bind(stage)
        .bind(done)
        .bind(left.and_then(|left| i64::try_from(left.as_millis()).ok()))
        .execute(&self.pool);
        patiently(reported).await.map(drop)
    }

    /// Queues a job again, to be taken after `wait`. With `tried` false this attempt does not count.
    pub async fn give_back(&self, job: &Job, wait: Duration, tried: bool) -> sqlx::Result<()> {
        let given = sqlx::query(
            "WITH back AS (
                 UPDATE jobs.jobs
                 SET state = 'queued', token = NULL, lease_until = NULL, attempts = attempts - $4, cpu_ms = $6,
                     not_before = clock_timestamp() + $3::float8 * interval '1 s'
                 WHERE job_id = $1 AND token = $2
                 RETURNING job_id),
             silent AS (DELETE FROM jobs.progress p USING back b WHERE p.job_id = b.job_id)
             SELECT pg_notify($5, '') FROM back",
        )
        .bind(job.id)
        .bind(job.token)
        .bind(wait.as_secs_f64())
        .bind(i32::from(!tried))
        .bind(NEWS)
        .bind(i64::try_from(job.cpu_total_ms()).unwrap_or(i64::MAX))
        .execute(&self.pool);
        patiently(given).await.map(drop)
    }

    /// The transaction that ends a job.
    pub async fn begin(&self) -> sqlx::Result<Transaction<'static, Postgres>> {
        patiently(db::begin(&self.pool, "BEGIN")).await
    }
}

/// The profiles that this build knows.
fn known() -> Vec<&'static str> {
    Profile::ALL.iter().map(|profile| profile.name()).collect()
}

/// Ends a job in the caller's transaction; false: it is not ours any more, and nothing has changed. Its progress stays
/// until the fact of its end is folded, so that nobody sees it queued in between.
pub async fn end(
    connection: &mut PgConnection,
    job: &Job,
    end: End,
    error: Option<&MediaError>,
) -> sqlx::Result<bool> {
    let ended = sqlx::query(
        "UPDATE jobs.jobs SET state = $3, error = $4, token = NULL, lease_until = NULL
         WHERE job_id = $1 AND token = $2",
    )
    .bind(job.id)
    .bind(job.token)
    .bind(end.name())
    .bind(error.map(Json))
    .execute(connection);
    Ok(patiently(ended).await?.rows_affected() == 1)
}

/// A connection that hangs must not outlast the lease, nor keep a worker from ending.
pub(crate) async fn patiently<T, E: From<sqlx::Error>>(
    statement: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    tokio::time::timeout(PATIENCE, statement)
        .await
        .unwrap_or_else(|_| Err(sqlx::Error::PoolTimedOut.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_wait_for_comes_first() {
        let order: Vec<i16> = ["fast@1", "proxy720@1", "edit@1"]
            .map(|profile| Class::of(profile).number())
            .into();
        assert_eq!(order, [0, 1, 2]);
    }
}
