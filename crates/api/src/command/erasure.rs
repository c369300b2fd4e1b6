//! `DELETE /users/me` and `GET /erasures/{id}`: being forgotten. Here it is only asked for (ADR 27).

use accounts::Erasure as Requested;
use axum::Json;
use axum::extract::{Path, State};
use axum::http::header::LOCATION;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use events::decide;
use events::id::StreamKey;
use events::store::{Emit, Streams, Undecided};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::Asked;
use crate::problem::{Kind, Problem};
use crate::state::ApiState;

/// How far it is with being forgotten.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"id": "5f0c7f2e-6a3b-4c1d-9d2e-0a1b2c3d4e5f", "state": "asked", "asked_at": "2030-01-01T00:00:00Z",
    "done_at": null}))]
pub(crate) struct Erasure {
    /// By what to ask for it; nobody else can know.
    id: Uuid,
    /// `asked` or `done`.
    state: &'static str,
    /// When it was asked for; from then on nobody can log in or act.
    asked_at: DateTime<Utc>,
    /// Since when what they wrote is unreadable everywhere.
    done_at: Option<DateTime<Utc>>,
}

impl From<Requested> for Erasure {
    fn from(asked: Requested) -> Self {
        Self {
            id: asked.erasure,
            state: if asked.done_at.is_some() {
                "done"
            } else {
                "asked"
            },
            asked_at: asked.asked_at,
            done_at: asked.done_at,
        }
    }
}

/// Be forgotten
///
/// It cannot be undone. At once all sessions and API keys end, nobody can act in one's name, and others see it as soon as read models
/// have come so far. Then, within a minute as a rule, what one wrote becomes unreadable and files are taken away; `Location` tells when
/// that is done, to whoever knows it. Needs a token: no API key may do it. Who is suspended may. Asking again asks for the same.
#[utoipa::path(delete, path = "/users/me", tag = "users",
    responses((status = 202, description = "It will be done", body = Erasure, headers(("location" = String, description = "Where to see how it goes on")))))]
pub(crate) async fn erase_me(
    State(state): State<ApiState>,
    asked: Asked,
) -> Result<Response, Problem> {
    let who = &asked.who;
    who.must_be_a_person()?;
    let key = StreamKey::user(who.user);
    let (tx, erasure, ended) = state
        .accounts
        .ask_to_erase(who.tenant.0, who.user.0, state.clock.now())
        .await?;
    // What says so to all others, and the request that has it carried out: both or none.
    let undecided = Undecided {
        command: &asked.command,
        streams: std::slice::from_ref(&key),
        decide: |streams: &Streams| {
            let erased = decide::user::erase(&streams.get(&key), who.user)?;
            Ok(Emit::all(&key, erased))
        },
    };
    state.log.append_in(tx, vec![undecided]).await?;
    state.accounts.forgot(ended).await;
    let location = format!("/v1/erasures/{}", erasure.erasure);
    let mut response = (StatusCode::ACCEPTED, Json(Erasure::from(erasure))).into_response();
    if let Ok(location) = HeaderValue::from_str(&location) {
        response.headers_mut().insert(LOCATION, location);
    }
    Ok(response)
}

/// See how far it is with being forgotten
///
/// Without a token, since whoever asked has none any more: the id is secret.
#[utoipa::path(get, path = "/erasures/{id}", tag = "users", security(()),
    params(("id" = Uuid, Path)), responses((status = 200, description = "Asked for, or done", body = Erasure)))]
pub(crate) async fn erasure(
    State(state): State<ApiState>,
    Path(id): Path<Uuid>,
) -> Result<Json<Erasure>, Problem> {
    let found = state.accounts.erasure(id).await?;
    let found = found.ok_or(Kind::NotFound("erasure"))?;
    Ok(Json(found.into()))
}
