//! `GET /admin/rebuilds`, `GET /admin/jobs` and `GET /admin/storage`: what is made, and what is kept.

use axum::Json;
use axum::extract::State;
use chrono::{DateTime, Utc};
use events::store::bounds;
use projectors::operator as model;
use serde::Serialize;
use utoipa::ToSchema;

use super::Operator;
use crate::problem::Problem;
use crate::state::ApiState;

/// The builds of all read models.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"head": 4711, "builds": [{"projection": "feed", "name": "feed_g2", "version": 3, "state": "building",
    "position": 2048, "done": 0.43}]}))]
pub(crate) struct Rebuilds {
    /// The position of the newest fact.
    head: i64,
    /// By read model, the oldest first.
    builds: Vec<Build>,
}

/// A build of a read model.
#[derive(Serialize, ToSchema)]
pub(crate) struct Build {
    /// The read model.
    projection: String,
    /// Its name, which is its subscription's.
    name: String,
    /// The version of the code that made it.
    version: i32,
    /// `read`, `kept` (true, so that there is a way back), `building`, `paused`, or `unread`.
    state: String,
    /// How far it has come.
    position: i64,
    /// The same as a part of the log, 0 to 1.
    done: f64,
}

/// See how far builds of read models are
///
/// For the role `operator`. `cinelog rebuild` begins, pauses and takes back.
#[utoipa::path(get, path = "/admin/rebuilds", tag = "admin",
    responses((status = 200, description = "Every build that there is", body = Rebuilds)))]
pub(crate) async fn rebuilds(
    State(state): State<ApiState>,
    _: Operator,
) -> Result<Json<Rebuilds>, Problem> {
    let mut connection = state.pool.acquire().await?;
    let builds = model::builds(&mut connection).await?;
    let head = bounds(&mut *connection).await?.head.0;
    let builds = builds.into_iter().map(|build| Build {
        done: part(build.position.0, head),
        projection: build.projection,
        name: build.name,
        version: build.version,
        state: build.state,
        position: build.position.0,
    });
    Ok(Json(Rebuilds {
        head,
        builds: builds.collect(),
    }))
}

/// What `position` is of `head`; of nothing, all.
fn part(position: i64, head: i64) -> f64 {
    if head <= 0 {
        return 1.0;
    }
    (position as f64 / head as f64).min(1.0)
}

/// The transcoder's jobs.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"counted": [{"class": "default", "state": "queued", "jobs": 3, "oldest": "2030-01-01T00:00:00Z"}],
    "oldest_waiting": "2030-01-01T00:00:00Z",
    "failures": [{"cause": "input", "jobs": 2, "last": "2030-01-01T00:00:00Z"}]}))]
pub(crate) struct Jobs {
    /// All of them, by class and state.
    counted: Vec<Counted>,
    /// When the one was asked for that has waited longest.
    oldest_waiting: Option<DateTime<Utc>>,
    /// Those that failed in the last hour, the most frequent cause first.
    failures: Vec<Failures>,
}

/// Jobs of a class in a state.
#[derive(Serialize, ToSchema)]
pub(crate) struct Counted {
    /// `interactive`, `default`, `bulk` or `reprocess`.
    class: &'static str,
    /// `queued`, `running`, `done`, `failed` or `cancelled`.
    state: String,
    /// How many.
    jobs: i64,
    /// When the oldest of them was asked for.
    oldest: DateTime<Utc>,
}

/// Jobs that failed of the same cause.
#[derive(Serialize, ToSchema)]
pub(crate) struct Failures {
    /// The error's type: `input`, `limit`, `resource`, `infrastructure`, `died` or `unknown`.
    cause: String,
    /// How many.
    jobs: i64,
    /// When the last of them did.
    last: DateTime<Utc>,
}

/// A class as the transcoder numbers it.
fn class(number: i16) -> &'static str {
    match number {
        0 => "interactive",
        1 => "default",
        2 => "bulk",
        _ => "reprocess",
    }
}

/// See what the transcoder has to do
///
/// For the role `operator`.
#[utoipa::path(get, path = "/admin/jobs", tag = "admin",
    responses((status = 200, description = "Jobs, counted", body = Jobs)))]
pub(crate) async fn jobs(
    State(state): State<ApiState>,
    operator: Operator,
) -> Result<Json<Jobs>, Problem> {
    let mut tx = operator.begin(&state).await?;
    let counted = model::jobs(&mut tx).await?;
    let failures = model::failures(&mut tx).await?;
    let waiting = counted.iter().filter(|one| one.state == "queued");
    Ok(Json(Jobs {
        oldest_waiting: waiting.map(|one| one.oldest).min(),
        counted: counted
            .into_iter()
            .map(|one| Counted {
                class: class(one.class),
                state: one.state,
                jobs: one.jobs,
                oldest: one.oldest,
            })
            .collect(),
        failures: failures
            .into_iter()
            .map(|one| Failures {
                cause: one.cause,
                jobs: one.jobs,
                last: one.last,
            })
            .collect(),
    }))
}

/// What everybody takes up.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"assets": 12, "original_bytes": 734_003_200, "derived_bytes": 104_857_600, "cpu_ms": 90500,
    "open_uploads": 1, "reserved_bytes": 52_428_800}))]
pub(crate) struct Storage {
    /// Assets, without deleted ones.
    assets: i64,
    /// Bytes of their originals.
    original_bytes: i64,
    /// Bytes of what was made from them.
    derived_bytes: i64,
    /// CPU time that making it took, milliseconds; deleted assets count.
    cpu_ms: i64,
    /// Uploads that are not over.
    open_uploads: i64,
    /// Bytes that they reserve.
    reserved_bytes: i64,
}

/// See what everybody takes up
///
/// For the role `operator`. An upload that has come reserves its bytes until they are counted, so for a moment it may be in both.
#[utoipa::path(get, path = "/admin/storage", tag = "admin",
    responses((status = 200, description = "Bytes of all tenants", body = Storage)))]
pub(crate) async fn storage(
    State(state): State<ApiState>,
    operator: Operator,
) -> Result<Json<Storage>, Problem> {
    let (open_uploads, reserved_bytes) = state.accounts.open_uploads().await?;
    let mut tx = operator.begin(&state).await?;
    let taken = model::taken(&mut tx).await?;
    Ok(Json(Storage {
        assets: taken.assets,
        original_bytes: taken.original_bytes,
        derived_bytes: taken.derived_bytes,
        cpu_ms: taken.cpu_ms,
        open_uploads,
        reserved_bytes,
    }))
}
