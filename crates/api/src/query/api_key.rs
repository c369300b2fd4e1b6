//! `GET /api-keys`.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::auth::Principal;
use crate::command::api_key::Key;
use crate::problem::Problem;
use crate::state::ApiState;

/// One's keys, the newest first.
#[derive(Serialize, ToSchema)]
pub(crate) struct Keys {
    /// All of them.
    items: Vec<Key>,
}

/// List one's API keys
#[utoipa::path(get, path = "/api-keys", tag = "accounts",
    responses((status = 200, description = "All keys", body = Keys)))]
pub(crate) async fn list(
    State(state): State<ApiState>,
    who: Principal,
) -> Result<Json<Keys>, Problem> {
    who.must_be_a_person()?;
    let keys = state.accounts.api_keys(who.tenant.0, who.user.0).await?;
    let items = keys.into_iter().map(Key::from).collect();
    Ok(Json(Keys { items }))
}
