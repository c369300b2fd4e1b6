//! `GET /usage`.

use axum::extract::State;
use axum::response::Response;
use projectors::usage::query as model;
use serde::Serialize;
use utoipa::ToSchema;

use super::Reader;
use crate::problem::Problem;
use crate::state::ApiState;

/// What one takes up.
#[derive(Serialize, ToSchema)]
pub(crate) struct Usage {
    /// Assets, without deleted ones.
    assets: i64,
    /// Bytes of their originals.
    original_bytes: i64,
    /// Bytes of what was made from them.
    derived_bytes: i64,
    /// CPU time that making it took, milliseconds; deleted assets count.
    cpu_ms: i64,
    /// What one may take up.
    plan: Plan,
}

/// A plan.
#[derive(Serialize, ToSchema)]
pub(crate) struct Plan {
    /// Its name.
    name: String,
    /// Bytes of originals and of all made from them.
    bytes: i64,
}

/// Read what one takes up
#[utoipa::path(get, path = "/usage", tag = "assets",
    responses((status = 200, description = "Bytes in storage, and CPU time", body = Usage)))]
pub(crate) async fn own(
    State(state): State<ApiState>,
    reader: Reader,
) -> Result<Response, Problem> {
    let (tenant, me) = reader.who();
    let plan = state.accounts.plan(tenant.0, me.0).await?;
    let mut view = reader.view(&state, model::READS).await?;
    let taken = model::own(&mut view.tx, view.viewer).await?;
    Ok(view.answer(Usage {
        assets: taken.assets,
        original_bytes: taken.original_bytes,
        derived_bytes: taken.derived_bytes,
        cpu_ms: taken.cpu_ms,
        plan: Plan {
            name: plan.plan,
            bytes: plan.bytes,
        },
    }))
}
