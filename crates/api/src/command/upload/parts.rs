//! `POST /uploads/{id}/parts`, and how uploads in parts are told.

use std::collections::BTreeMap;
use std::time::Duration;

use accounts::Upload as Open;
use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use events::decide::asset::{AssetState, Phase};
use events::id::{AssetId, StreamKey, TenantId};
use garde::Validate;
use serde::{Deserialize, Serialize};
use storage::{Parts, SignedRequest};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{mine, stored_at};
use crate::command::AskedWith;
use crate::problem::{Kind, Problem};
use crate::state::ApiState;

/// Parts that are signed at once.
const SIGNED: usize = 100;
/// How long a part's signature holds, if the upload does.
const HOLDS: Duration = Duration::from_hours(1);
/// Bytes a second of the slowest client that still gets a file in parts through in time.
const SLOWEST: u64 = 256 * 1024;

/// The parts to sign.
#[derive(Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"numbers": [1, 2]}))]
pub(crate) struct PartsWanted {
    /// Which; the first part is 1.
    #[garde(length(min = 1, max = SIGNED))]
    #[schema(min_items = 1, max_items = 100)]
    numbers: Vec<u32>,
}

/// A part that may be put.
#[derive(Serialize, ToSchema)]
pub(crate) struct PartTicket {
    /// Which.
    number: u32,
    /// Where its bytes go; a secret while it holds.
    url: String,
    /// By which method.
    method: String,
    /// Headers to send just so.
    headers: BTreeMap<String, String>,
    /// Until when; sign it again afterwards.
    expires_at: DateTime<Utc>,
}

/// How an upload comes in parts.
#[derive(Serialize, ToSchema)]
pub(crate) struct PartsTicket {
    /// The size of each part but the last.
    bytes: u64,
    /// How many there are.
    count: u32,
    /// The first hundred of them, signed.
    signed: Vec<PartTicket>,
}

/// Parts of an upload that may be put.
#[derive(Serialize, ToSchema)]
pub(crate) struct PartTickets {
    /// As asked for.
    parts: Vec<PartTicket>,
}

/// What has come of an upload in parts.
#[derive(Serialize, ToSchema)]
pub(crate) struct PartsThere {
    /// The size of each part but the last.
    bytes: u64,
    /// How many there are.
    count: u32,
    /// Those that are in storage, whole.
    there: Vec<u32>,
}

/// Sign parts of an upload
///
/// Of a file that comes in parts, in any order and again where one failed or its signature has expired. Which are there is told by
/// the upload.
#[utoipa::path(post, path = "/uploads/{id}/parts", tag = "uploads", request_body = PartsWanted,
    params(("id" = Uuid, Path)), responses((status = 200, description = "The parts may come", body = PartTickets)))]
pub(crate) async fn sign(
    State(state): State<ApiState>,
    Path(id): Path<Uuid>,
    AskedWith(asked, wanted): AskedWith<PartsWanted>,
) -> Result<Response, Problem> {
    let who = &asked.who;
    state.may_act(who).await?;
    let upload: AssetState = state.peek(who, &StreamKey::asset(AssetId(id))).await?;
    let promise = mine(&upload, who)?;
    if upload.phase != Phase::Requested {
        return Err(Kind::UploadEnded.into());
    }
    let promised = (promise.bytes, promise.media_type.as_str());
    let parts = state.begin_parts(who.tenant, AssetId(id), promised).await?;
    let parts = parts.ok_or(Kind::NotInParts)?;
    if let Some(n) = wanted
        .numbers
        .iter()
        .position(|&number| parts.bytes_of(number).is_none())
    {
        let why = format!("is 1 to {}", parts.count());
        return Err(Problem::field(Kind::Invalid, format!("/numbers/{n}"), why));
    }
    let parts = state.sign_parts(&parts, wanted.numbers.into_iter(), promise.expires_at)?;
    Ok(Json(PartTickets { parts }).into_response())
}

impl PartsThere {
    pub(super) async fn look(state: &ApiState, parts: &Parts) -> Result<Self, Problem> {
        Ok(Self {
            bytes: parts.part_bytes,
            count: parts.count(),
            there: state.store.parts(parts).await?,
        })
    }
}

impl ApiState {
    /// How an upload of `bytes` comes in parts, if it does.
    pub(super) async fn parts(
        &self,
        tenant: TenantId,
        asset: AssetId,
        bytes: u64,
    ) -> Result<Option<Parts>, Problem> {
        let open = self.accounts.upload(tenant.0, asset.0).await?;
        Ok(open.and_then(|open| in_parts(&open, bytes)))
    }

    /// The size of the parts in which `bytes` come, where they do.
    pub(super) fn part_bytes(&self, bytes: u64) -> Option<u64> {
        let part = Parts::size(bytes, self.config.upload_part_bytes);
        (bytes > part && self.store.folder().is_none()).then_some(part)
    }

    /// How an upload of `bytes` comes in parts, if it does. They are begun in the bucket when they are first to be signed, so nothing is
    /// begun for what was refused; and what is begun and not written down, nobody can put a part into.
    pub(super) async fn begin_parts(
        &self,
        tenant: TenantId,
        asset: AssetId,
        (bytes, media_type): (u64, &str),
    ) -> Result<Option<Parts>, Problem> {
        let open = self.accounts.upload(tenant.0, asset.0).await?;
        let Some(mut open) = open.filter(|open| open.part_bytes.is_some()) else {
            return Ok(None);
        };
        if open.upload.is_none() {
            let key = stored_at(tenant, asset);
            let begun = self.store.begin_parts(&key, media_type).await?;
            let begun = begun.ok_or(Kind::UploadEnded)?;
            open.upload = self.accounts.parts_begun(tenant.0, asset.0, &begun).await?;
            if open.upload.as_ref() != Some(&begun)
                && let Err(error) = self.store.give_up_parts(&key, &begun).await
            {
                tracing::warn!(%key, %error, "an upload in parts without any was left to the bucket's own rules");
            }
        }
        in_parts(&open, bytes)
            .map(Some)
            .ok_or_else(|| Kind::UploadEnded.into())
    }

    pub(super) fn parts_ticket(
        &self,
        parts: &Parts,
        until: DateTime<Utc>,
    ) -> Result<PartsTicket, Problem> {
        let first = (1..=parts.count()).take(SIGNED);
        Ok(PartsTicket {
            bytes: parts.part_bytes,
            count: parts.count(),
            signed: self.sign_parts(parts, first, until)?,
        })
    }

    fn sign_parts(
        &self,
        parts: &Parts,
        numbers: impl Iterator<Item = u32>,
        until: DateTime<Utc>,
    ) -> Result<Vec<PartTicket>, Problem> {
        let now = self.clock.now();
        let left = (until - now).to_std().unwrap_or_default().min(HOLDS);
        if left < Duration::from_secs(1) {
            return Err(Kind::UploadEnded.into());
        }
        let ticket = |number| {
            let signed: SignedRequest = self.store.sign_part(parts, number, left, now)?;
            Ok(PartTicket {
                number,
                url: signed.url.into(),
                method: signed.method.to_owned(),
                headers: signed.headers.into_iter().collect(),
                expires_at: signed.expires_at,
            })
        };
        numbers.map(ticket).collect()
    }
}

/// An upload of `bytes`, if it comes in parts.
pub(super) fn in_parts(open: &Open, bytes: u64) -> Option<Parts> {
    Some(Parts {
        key: stored_at(TenantId(open.tenant), AssetId(open.asset)),
        upload: open.upload.clone()?,
        bytes,
        part_bytes: u64::try_from(open.part_bytes?)
            .ok()
            .filter(|&part| part > 0)?,
    })
}

/// How much longer than others a file of `bytes` may take in parts.
pub(super) fn longer(bytes: u64) -> chrono::Duration {
    chrono::Duration::seconds(i64::try_from(bytes / SLOWEST).unwrap_or(i64::MAX / 1000))
}
