//! `POST /notifications/read`, `PUT /preferences`.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use events::decide;
use events::fact::user::NoticeKind;
use events::id::{Position, StreamKey};
use events::store::{Emit, Streams};
use garde::Validate;
use projectors::notification::mark;
use projectors::page::Viewer;
use serde::Deserialize;
use service::db::TenantTx;
use utoipa::ToSchema;

use super::AskedWith;
use crate::problem::Problem;
use crate::query::notification::NoticeName;
use crate::state::ApiState;

/// How far one has read.
#[derive(Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"position": 1}))]
pub(crate) struct ReadUpTo {
    /// The position of the newest notification that was read.
    #[garde(range(min = 1))]
    #[schema(minimum = 1)]
    position: i64,
}

/// What one wants to be told; what is left out stays as it is.
#[derive(Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"notifications": {"reaction": false}}))]
pub(crate) struct PreferenceChange {
    /// Kinds of notifications, and whether one is told.
    #[garde(skip)]
    #[serde(default)]
    #[schema(value_type = BTreeMap<NoticeName, bool>)]
    notifications: BTreeMap<NoticeKind, bool>,
}

/// Say how far one has read the inbox
///
/// All up to the position counts as read. It never goes back.
#[utoipa::path(post, path = "/notifications/read", tag = "notifications", request_body = ReadUpTo,
    responses((status = 204, description = "Read")))]
pub(crate) async fn read(
    State(state): State<ApiState>,
    AskedWith(asked, read): AskedWith<ReadUpTo>,
) -> Result<Response, Problem> {
    state.may_act(&asked.who).await?;
    // No fact comes of it: how far someone has read is nobody's history.
    let (tenant, user) = (asked.who.tenant, asked.who.user);
    let mut tx = TenantTx::begin(&state.pool, tenant.0, user.0).await?;
    mark::read_up_to(&mut tx, Viewer { tenant, user }, Position(read.position)).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Choose of what one is told
#[utoipa::path(put, path = "/preferences", tag = "notifications", request_body = PreferenceChange,
    responses((status = 204, description = "Chosen")))]
pub(crate) async fn prefer(
    State(state): State<ApiState>,
    AskedWith(asked, change): AskedWith<PreferenceChange>,
) -> Result<Response, Problem> {
    let me = asked.who.user;
    let key = StreamKey::user(me);
    let decide = |streams: &Streams| {
        let facts = decide::user::set_preferences(&streams.get(&key), me, &change.notifications)?;
        Ok(Emit::all(&key, facts))
    };
    Ok(state.execute(&asked, &[&key], decide).await?.no_content())
}
