//! `GET /admin/status`.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use events::store::{Bounds, bounds};
use events::subscription::reads_topic;
use serde::Serialize;
use storage::Key;
use utoipa::ToSchema;
use uuid::Uuid;

use super::Operator;
use crate::problem::Problem;
use crate::state::ApiState;

/// What does not answer within that does not answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// How the platform is.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"version": "0.1.0", "database": true, "storage": true, "kafka": false,
    "log": {"id": "0193b6a4-6d0e-7f3e-9f0a-1f2e3d4c5b6a", "floor": 1, "head": 4711}}))]
pub(crate) struct Status {
    /// The version of the process that answers.
    version: &'static str,
    /// Whether the database answers.
    database: bool,
    /// Whether the store of objects answers.
    storage: bool,
    /// Whether read models come from Kafka, as far as their checkpoints tell; null: not known.
    kafka: Option<bool>,
    /// The log; null: the database does not answer.
    log: Option<LogStatus>,
}

/// The log.
#[derive(Serialize, ToSchema)]
pub(crate) struct LogStatus {
    /// Which log it is.
    id: Uuid,
    /// The first position that is still in the database.
    floor: i64,
    /// The position of the newest fact.
    head: i64,
}

/// See how the platform is
///
/// For the role `operator`. It answers although the database or the store does not, and says so.
#[utoipa::path(get, path = "/admin/status", tag = "admin",
    responses((status = 200, description = "What answers, and how far the log is", body = Status)))]
pub(crate) async fn status(State(state): State<ApiState>, _: Operator) -> Json<Status> {
    // Nobody's: whether it is there does not matter, but that the store says so.
    let nobodys = Key::original(Uuid::nil(), Uuid::nil());
    let (known, stored) = tokio::join!(
        tokio::time::timeout(PATIENCE, look(&state)),
        tokio::time::timeout(PATIENCE, state.store.head(&nobodys)),
    );
    let known = known.ok().and_then(Result::ok);
    Json(Status {
        version: env!("CARGO_PKG_VERSION"),
        database: known.is_some(),
        storage: matches!(stored, Ok(Ok(_))),
        kafka: known.map(|(_, kafka)| kafka),
        log: known.map(|(bounds, _)| LogStatus {
            id: bounds.log_id,
            floor: bounds.floor,
            head: bounds.head.0,
        }),
    })
}

async fn look(state: &ApiState) -> Result<(Bounds, bool), Problem> {
    let mut connection = state.pool.acquire().await?;
    let bounds = bounds(&mut *connection).await?;
    Ok((bounds, reads_topic(&mut connection).await?))
}
