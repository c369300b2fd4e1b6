//! What those see who run the platform: builds of read models, jobs of the transcoder, and what all owners take up. Jobs and owners
//! are counted, and never named; row level security counts them for operators alone, so the transaction must be one's.

use chrono::{DateTime, Utc};
use events::id::Position;
use service::db::TenantTx;
use sqlx::PgConnection;

use crate::generation::schema;
use crate::usage::query::Taken;

/// A build of a read model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Build {
    /// The read model.
    pub projection: String,
    /// Its name, which is its subscription's.
    pub name: String,
    /// The version of the code that made it.
    pub version: i32,
    /// What it is for: `read`, `kept`, `building`, `paused`, or `unread`: nobody's any more, or there to be compared.
    pub state: String,
    /// How far it has come; 0 where nothing was taken in.
    pub position: Position,
}

impl Build {
    /// Whether processes of projectors keep it true.
    pub fn is_kept_true(&self) -> bool {
        self.state == "read" || self.state == "kept"
    }
}

/// Every build there is.
pub async fn builds(connection: &mut PgConnection) -> sqlx::Result<Vec<Build>> {
    let rows: Vec<(String, i32, i32, String, Position)> = sqlx::query_as(
        "SELECT g.projection, g.generation, g.version,
                CASE WHEN g.live THEN 'read' WHEN g.kept THEN 'kept' WHEN g.building AND g.paused THEN 'paused'
                     WHEN g.building THEN 'building' ELSE 'unread' END,
                coalesce((SELECT max(c.position) FROM subscription.checkpoints c
                          WHERE c.subscription = g.projection || '_g' || g.generation), 0)
         FROM projection.generations g ORDER BY g.projection, g.generation",
    )
    .fetch_all(connection)
    .await?;
    let builds = rows
        .into_iter()
        .map(|(projection, generation, version, state, position)| Build {
            name: schema(&projection, generation),
            projection,
            version,
            state,
            position,
        });
    Ok(builds.collect())
}

/// Jobs of one class in one state.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct Jobs {
    /// 0 interactive, 1 default, 2 bulk, 3 reprocess.
    pub class: i16,
    /// `queued`, `running`, `done`, `failed` or `cancelled`.
    pub state: String,
    /// How many.
    pub jobs: i64,
    /// When the oldest of them was asked for.
    pub oldest: DateTime<Utc>,
}

/// All jobs, counted.
pub async fn jobs(tx: &mut TenantTx) -> sqlx::Result<Vec<Jobs>> {
    sqlx::query_as("SELECT class, state, jobs, oldest FROM jobs.counted ORDER BY class, state")
        .fetch_all(&mut **tx)
        .await
}

/// Jobs that failed in the last hour of the same cause.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct Failures {
    /// The error's type.
    pub cause: String,
    /// How many.
    pub jobs: i64,
    /// When the last one did.
    pub last: DateTime<Utc>,
}

/// Why jobs failed in the last hour, the most frequent cause first.
pub async fn failures(tx: &mut TenantTx) -> sqlx::Result<Vec<Failures>> {
    sqlx::query_as("SELECT cause, jobs, last FROM jobs.failing ORDER BY jobs DESC, cause")
        .fetch_all(&mut **tx)
        .await
}

/// What all owners of all tenants take up.
pub async fn taken(tx: &mut TenantTx) -> sqlx::Result<Taken> {
    sqlx::query_as(
        "SELECT COALESCE(sum(assets), 0)::bigint AS assets,
            COALESCE(sum(original_bytes), 0)::bigint AS original_bytes,
            COALESCE(sum(derived_bytes), 0)::bigint AS derived_bytes,
            COALESCE(sum(cpu_ms), 0)::bigint AS cpu_ms
        FROM usage.total",
    )
    .fetch_one(&mut **tx)
    .await
}
