//! `POST /api-keys`, `DELETE /api-keys/{id}`: machines that act for a user.

use accounts::{ApiKey, NewApiKey, Scope};
use axum::Json;
use axum::extract::{Path, State};
use axum::http::header::CACHE_CONTROL;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use events::decide;
use events::id::StreamKey;
use events::store::{Emit, Streams};
use garde::Validate;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Asked, AskedWith};
use crate::auth::{Principal, Role};
use crate::problem::{Kind, Problem};
use crate::state::ApiState;

/// A key that is wanted.
#[derive(Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"name": "nightly import", "scopes": ["read", "write"]}))]
pub(crate) struct KeyWanted {
    /// What it is for.
    #[garde(length(chars, min = 1, max = 80))]
    name: String,
    /// `read` for what only asks, `write` for commands; `["read"]` unless said.
    #[garde(length(max = 2))]
    #[serde(default = "read")]
    scopes: Vec<KeyScope>,
    /// Those of one's own roles that the machine needs; none unless said.
    #[garde(length(max = 5))]
    #[serde(default)]
    roles: Vec<Role>,
    /// After how many days it ends; never unless said. Needed where there are roles.
    #[garde(inner(range(min = 1, max = 3650)))]
    #[schema(minimum = 1, maximum = 3650)]
    expires_in_days: Option<u32>,
}

/// What a machine may do.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum KeyScope {
    /// Ask.
    Read,
    /// Command.
    Write,
}

fn read() -> Vec<KeyScope> {
    vec![KeyScope::Read]
}

/// A key as its owner sees it.
#[derive(Serialize, ToSchema)]
pub(crate) struct Key {
    /// Its id.
    id: Uuid,
    /// What it is for.
    name: String,
    /// What the machine may do.
    scopes: Vec<String>,
    /// With which of its owner's roles.
    roles: Vec<String>,
    /// Since when.
    created_at: DateTime<Utc>,
    /// Until when; none: until it is deleted.
    expires_at: Option<DateTime<Utc>>,
}

impl From<ApiKey> for Key {
    fn from(key: ApiKey) -> Self {
        Self {
            id: key.key,
            name: key.name,
            scopes: key.scopes,
            roles: key.roles,
            created_at: key.made_at,
            expires_at: key.expires_at,
        }
    }
}

/// A new key.
#[derive(Serialize, ToSchema)]
pub(crate) struct KeyMade {
    #[serde(flatten)]
    about: Key,
    /// The bearer token of the machine. It is told only now; nobody keeps it but you.
    key: String,
}

/// Make an API key
///
/// A machine shows it as its bearer token, and acts for its owner with no more than the given scopes and roles.
#[utoipa::path(post, path = "/api-keys", tag = "accounts", request_body = KeyWanted,
    responses((status = 201, description = "The key", body = KeyMade)))]
pub(crate) async fn make(
    State(state): State<ApiState>,
    AskedWith(asked, wanted): AskedWith<KeyWanted>,
) -> Result<Response, Problem> {
    let who = &asked.who;
    who.must_be_a_person()?;
    check(&wanted, who)?;
    state.may_act(who).await?;
    state.register(&asked).await?;
    let now = state.clock.now();
    let new = NewApiKey {
        tenant: who.tenant.0,
        owner: who.user.0,
        issuer: who.issuer.clone(),
        session: who.session,
        name: wanted.name,
        scopes: [
            (KeyScope::Read, Scope::Read),
            (KeyScope::Write, Scope::Write),
        ]
        .into_iter()
        .filter(|(named, _)| wanted.scopes.contains(named))
        .map(|(_, scope)| scope)
        .collect(),
        roles: wanted
            .roles
            .iter()
            .map(|role| role.name().to_owned())
            .collect(),
        expires_at: wanted
            .expires_in_days
            .map(|days| now + chrono::Duration::days(days.into())),
        command: asked.named(&state),
        asked: asked.command.body_hash,
    };
    let made = state.accounts.make_api_key(&new, now).await?;
    let (about, key) = made.ok_or_else(|| {
        Problem::from(Kind::WrongState)
            .detail("you have as many keys as anybody may: delete one first")
    })?;
    let made = KeyMade {
        about: about.into(),
        key,
    };
    let mut response = (StatusCode::CREATED, Json(made)).into_response();
    response
        .headers_mut()
        .insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// Refuses what no key may be.
fn check(wanted: &KeyWanted, who: &Principal) -> Result<(), Problem> {
    if wanted.name.contains(char::is_control) {
        let reason = "has no control characters";
        return Err(Problem::field(Kind::Invalid, "/name", reason));
    }
    if !wanted.roles.is_empty() && wanted.expires_in_days.is_none() {
        let reason = "is needed where there are roles";
        return Err(Problem::field(Kind::Invalid, "/expires_in_days", reason));
    }
    if let Some(role) = wanted
        .roles
        .iter()
        .find(|role| !who.roles.contains(role) && **role != Role::Member)
    {
        let reason = format!("has only roles that you have: {} is not one", role.name());
        return Err(Problem::field(Kind::Invalid, "/roles", reason));
    }
    Ok(())
}

impl ApiState {
    /// Has the user be there: a machine's facts are those of somebody who is.
    async fn register(&self, asked: &Asked) -> Result<(), Problem> {
        let who = &asked.who;
        let me = StreamKey::user(who.user);
        let decide = |streams: &Streams| {
            let user = streams.get(&me);
            Ok(Emit::all(
                &me,
                decide::user::register(&user, &who.issuer, &who.account)?,
            ))
        };
        let streams = std::slice::from_ref(&me);
        self.log.execute(&asked.command, streams, decide).await?;
        Ok(())
    }
}

/// Delete an API key
///
/// Its machine is shut out within seconds.
#[utoipa::path(delete, path = "/api-keys/{id}", tag = "accounts", params(("id" = Uuid, Path)),
    responses((status = 204, description = "Deleted")))]
pub(crate) async fn delete(
    State(state): State<ApiState>,
    Path(id): Path<Uuid>,
    asked: Asked,
) -> Result<Response, Problem> {
    asked.who.must_be_a_person()?;
    let (tenant, owner) = (asked.who.tenant.0, asked.who.user.0);
    if state
        .accounts
        .delete_api_key(tenant, owner, id, state.clock.now())
        .await?
    {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    Err(Kind::NotFound("api key").into())
}
