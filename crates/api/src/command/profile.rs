//! `PATCH /users/me`.

use axum::extract::State;
use axum::response::Response;
use events::decide;
use events::fact::user::ProfileUpdated;
use events::id::StreamKey;
use events::store::{Emit, Streams};
use garde::Validate;
use serde::Deserialize;
use utoipa::ToSchema;

use super::AskedWith;
use crate::problem::Problem;
use crate::state::ApiState;

/// What to change; a field left out stays as it is.
#[derive(Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"name": "Ana", "bio": "Surf y gatos", "language": "es"}))]
pub(crate) struct ProfileChange {
    /// The name shown.
    #[garde(inner(length(chars, min = 1, max = 80)))]
    name: Option<String>,
    /// A few words.
    #[garde(inner(length(chars, max = 500)))]
    bio: Option<String>,
    /// Where the user is, in words.
    #[garde(inner(length(chars, max = 200)))]
    place: Option<String>,
    /// Preferred language, BCP 47.
    #[garde(inner(custom(super::language_tag)))]
    language: Option<String>,
    /// Whether followers must be let in one by one.
    #[garde(skip)]
    private: Option<bool>,
}

/// Change one's own profile
#[utoipa::path(patch, path = "/users/me", tag = "users", request_body = ProfileChange,
    responses((status = 204, description = "Changed")))]
pub(crate) async fn update(
    State(state): State<ApiState>,
    AskedWith(asked, change): AskedWith<ProfileChange>,
) -> Result<Response, Problem> {
    let key = StreamKey::user(asked.who.user);
    let updated = ProfileUpdated {
        user: asked.who.user,
        name: change.name.map(Into::into),
        bio: change.bio.map(Into::into),
        place: change.place.map(Into::into),
        language: change.language,
        private: change.private,
    };
    let decide = |streams: &Streams| {
        Ok(Emit::all(
            &key,
            decide::user::update_profile(&streams.get(&key), updated.clone())?,
        ))
    };
    Ok(state.execute(&asked, &[&key], decide).await?.no_content())
}
