//! `POST /uploads`, `GET|DELETE /uploads/{id}`, `DELETE /assets/{id}`; in rooms of their own `parts`, `complete`, and who else
//! completes: `notice` and `sweep`. Bytes go straight to storage by signed URLs; completing checks what came there. An upload is
//! read from its stream, not from a read model: it is about what may be done next.

pub(crate) mod complete;
pub(crate) mod notice;
pub(crate) mod parts;
pub(crate) mod sweep;

use std::collections::BTreeMap;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, SubsecRound, Utc};
use events::decide;
use events::decide::asset::{AssetState, Phase, Promise};
use events::fact::Fact;
use events::fact::asset::UploadRequested;
use events::id::{AssetId, StreamKey, TenantId};
use events::store::{Emit, Streams};
use garde::Validate;
use projectors::page::Viewer;
use projectors::usage::query as usage;
use serde::{Deserialize, Serialize};
use service::db::TenantTx;
use storage::{Checksum, Key, PutTerms};
use utoipa::ToSchema;
use uuid::Uuid;

use self::parts::{PartsThere, PartsTicket};
use super::{Asked, AskedWith};
use crate::auth::Principal;
use crate::limit::OPEN_UPLOADS;
use crate::problem::{Kind, Problem};
use crate::state::ApiState;

/// Media types that may be claimed; what a file really is shows when it is probed.
const MEDIA_TYPES: [&str; 24] = [
    "application/mp4",
    "application/mxf",
    "application/ogg",
    "audio/aac",
    "audio/flac",
    "audio/mp4",
    "audio/mpeg",
    "audio/ogg",
    "audio/wav",
    "audio/webm",
    "audio/x-m4a",
    "image/avif",
    "image/gif",
    "image/jpeg",
    "image/png",
    "image/webp",
    "video/mp2t",
    "video/mp4",
    "video/mpeg",
    "video/ogg",
    "video/quicktime",
    "video/webm",
    "video/x-matroska",
    "video/x-msvideo",
];

/// A file to upload.
#[derive(Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"name": "beach.mp4", "type": "video/mp4", "bytes": 1_000_000, "sha256": "0000000000000000000000000000000000000000000000000000000000000000"}))]
pub(crate) struct NewUpload {
    /// The file's name.
    #[garde(length(chars, min = 1, max = 255))]
    #[schema(min_length = 1, max_length = 255)]
    name: String,
    /// Its media type, e.g. `video/mp4`.
    #[garde(skip)]
    #[schema(example = "video/mp4")]
    r#type: String,
    /// Its size.
    #[garde(skip)]
    bytes: u64,
    /// Its SHA-256, 64 hex digits.
    #[garde(skip)]
    #[schema(pattern = "^[0-9a-fA-F]{64}$")]
    sha256: String,
}

/// An upload that may begin: in one piece, by the request that is here, or in parts.
#[derive(Serialize, ToSchema)]
pub(crate) struct UploadTicket {
    /// Of the upload and of its asset.
    id: Uuid,
    /// Where the bytes go, in one piece; a secret while it holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    /// By which method.
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<String>,
    /// Headers to send just so.
    #[serde(skip_serializing_if = "Option::is_none")]
    headers: Option<BTreeMap<String, String>>,
    /// How they come in parts: a large file into a bucket.
    #[serde(skip_serializing_if = "Option::is_none")]
    parts: Option<PartsTicket>,
    /// Until when.
    expires_at: DateTime<Utc>,
}

/// Where an upload is in its life.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum UploadPhase {
    /// Its bytes are awaited.
    Waiting,
    /// Its bytes are there and verified.
    Complete,
    /// It expired, was given up, or its asset was deleted.
    Ended,
}

/// An upload.
#[derive(Serialize, ToSchema)]
pub(crate) struct Upload {
    id: Uuid,
    state: UploadPhase,
    r#type: String,
    bytes: u64,
    sha256: String,
    expires_at: DateTime<Utc>,
    /// What has come of a file in parts that is awaited.
    #[serde(skip_serializing_if = "Option::is_none")]
    parts: Option<PartsThere>,
}

/// Ask to upload a file
///
/// Its bytes are reserved of one's plan. Send them by the signed requests, then complete the upload. A repeat with the same key is
/// signed anew as long as the bytes are awaited.
#[utoipa::path(post, path = "/uploads", tag = "uploads", request_body = NewUpload,
    responses((status = 201, description = "The bytes may come", body = UploadTicket)))]
pub(crate) async fn request(
    State(state): State<ApiState>,
    AskedWith(asked, new): AskedWith<NewUpload>,
) -> Result<Response, Problem> {
    let sha256 = check(&state, &new)?;
    let asset = AssetId(asked.command.id.derive());
    let key = StreamKey::asset(asset);
    let at = stored_at(asked.who.tenant, asset);
    let media_type = new.r#type.to_ascii_lowercase();
    let upload: AssetState = state.peek(&asked.who, &key).await?;
    let part_bytes = state.part_bytes(new.bytes);
    let mut wait = chrono::Duration::seconds(state.config.upload_seconds.into());
    if part_bytes.is_some() {
        wait += parts::longer(new.bytes);
    }
    let requested = UploadRequested {
        asset,
        owner: asked.who.user,
        file_name: new.name.into(),
        media_type,
        bytes: new.bytes,
        sha256: sha256.to_string(),
        storage_key: at.to_string(),
        expires_at: (state.clock.now() + wait).trunc_subsecs(0),
    };
    if upload.phase == Phase::Unknown {
        state.reserve(&asked, &requested, part_bytes).await?;
    }
    let decide = |streams: &Streams| allow(&key, streams, &requested);
    let done = state.execute(&asked, &[&key], decide).await?;
    let allowed = done.fact(|recorded| match &recorded.fact {
        Fact::UploadRequested(requested) => Some(requested),
        _ => None,
    });
    // Of a repeat: since the first time it may have been given up or completed.
    let upload: AssetState = state.peek(&asked.who, &key).await?;
    if upload.phase != Phase::Requested {
        return Err(Kind::UploadEnded.into());
    }
    let ticket = state.ticket(asked.who.tenant, allowed.ok_or(Kind::Internal)?);
    Ok(done.answer(StatusCode::CREATED, ticket.await?))
}

fn allow(
    key: &StreamKey,
    streams: &Streams,
    requested: &UploadRequested,
) -> Result<Vec<Emit>, decide::Refusal> {
    let facts = decide::asset::request_upload(&streams.get(key), requested.clone())?;
    Ok(Emit::all(key, facts))
}

fn check(state: &ApiState, new: &NewUpload) -> Result<Checksum, Problem> {
    if !MEDIA_TYPES.contains(&new.r#type.to_ascii_lowercase().as_str()) {
        return Err(Problem::field(
            Kind::MediaType,
            "/type",
            format!("is one of {}", MEDIA_TYPES.join(", ")),
        ));
    }
    let most = state.config.upload_max_bytes;
    match new.bytes {
        0 => return Err(Problem::field(Kind::UploadEmpty, "/bytes", "is at least 1")),
        bytes if bytes > most => {
            return Err(Problem::field(
                Kind::UploadTooLarge,
                "/bytes",
                format!("is at most {most}"),
            ));
        }
        _ => {}
    }
    new.sha256
        .parse()
        .map_err(|_| Problem::field(Kind::Invalid, "/sha256", "is 64 hex digits"))
}

impl ApiState {
    /// Has what came of an upload taken away. What it reserved is free at once where nothing more can come; if not now, then when it is
    /// swept.
    async fn give_up(&self, asked: &Asked, asset: AssetId) {
        let (tenant, asset) = (asked.who.tenant.0, asset.0);
        let given_up = async {
            let given_up = [(tenant, asset)];
            self.accounts.look_soon(&given_up, self.clock.now()).await?;
            // A bucket takes bytes as long as what was signed holds, and does not ask us.
            if self.store.folder().is_some() {
                self.accounts.free_upload(tenant, asset).await?;
            }
            Ok::<_, accounts::Error>(())
        };
        if let Err(error) = given_up.await {
            tracing::warn!(%error, "an upload that was given up still reserves its bytes");
        }
        self.to_sweep.notify_one();
    }

    /// Takes the bytes of a new upload off its owner's plan and appends that it was asked for, both or neither.
    async fn reserve(
        &self,
        asked: &Asked,
        requested: &UploadRequested,
        part_bytes: Option<u64>,
    ) -> Result<(), Problem> {
        let (tenant, owner) = (asked.who.tenant.0, asked.who.user.0);
        let place = self.reserving.take((asked.who.tenant, asked.who.user));
        let _place = place.map_err(|_| Problem::overloaded(Duration::from_secs(1)))?;
        let mut reserving = self.accounts.reserving(tenant, owner).await?;
        // Asked for twice at once, it is still one.
        let this = requested.asset.0;
        reserving.open.retain(|(asset, _)| *asset != this);
        let mut view = TenantTx::begin(&self.pool, tenant, owner).await?;
        let viewer = Viewer {
            tenant: asked.who.tenant,
            user: asked.who.user,
        };
        let (taken, open) = usage::taken(&mut view, viewer, &reserving.open).await?;
        drop(view);
        if open >= OPEN_UPLOADS {
            return Err(Problem::from(Kind::UploadsOpen).detail(format!(
                "{OPEN_UPLOADS} are open: complete some, or wait for their end; what was given up in a bucket counts until what was signed for it ends"
            )));
        }
        let bytes = i64::try_from(requested.bytes).unwrap_or(i64::MAX);
        let plan = &reserving.plan;
        if taken.saturating_add(bytes) > plan.bytes {
            return Err(Problem::from(Kind::QuotaReached).detail(format!(
                "the plan {} allows {} bytes, of which {taken} are taken or reserved",
                plan.plan, plan.bytes
            )));
        }
        let new = accounts::Upload {
            tenant,
            asset: requested.asset.0,
            owner,
            bytes,
            upload: None,
            part_bytes: part_bytes.and_then(|part| i64::try_from(part).ok()),
            expires_at: requested.expires_at,
            refused: None,
        };
        let (tx, _turn) = reserving.reserve(&new, self.clock.now()).await?;
        let key = StreamKey::asset(requested.asset);
        let decide = |streams: &Streams| allow(&key, streams, requested);
        self.execute_in(asked, tx, &[&key], decide).await
    }

    async fn ticket(
        &self,
        tenant: TenantId,
        allowed: &UploadRequested,
    ) -> Result<UploadTicket, Problem> {
        let mut ticket = UploadTicket {
            id: allowed.asset.0,
            url: None,
            method: None,
            headers: None,
            parts: None,
            expires_at: allowed.expires_at,
        };
        let begun = self.begin_parts(tenant, allowed.asset, (allowed.bytes, &allowed.media_type));
        if let Some(parts) = begun.await? {
            ticket.parts = Some(self.parts_ticket(&parts, allowed.expires_at)?);
            return Ok(ticket);
        }
        let now = self.clock.now();
        let left = (allowed.expires_at - now).to_std().unwrap_or_default();
        if left < Duration::from_secs(1) {
            return Err(Kind::UploadEnded.into());
        }
        let terms = PutTerms {
            key: stored_at(tenant, allowed.asset),
            bytes: allowed.bytes,
            media_type: allowed.media_type.clone(),
            sha256: allowed
                .sha256
                .parse()
                .map_err(|error: storage::ChecksumError| Problem::internal(&error))?,
        };
        let signed = self.store.sign_put(&terms, left, now)?;
        ticket.url = Some(signed.url.into());
        ticket.method = Some(signed.method.to_owned());
        ticket.headers = Some(signed.headers.into_iter().collect());
        ticket.expires_at = signed.expires_at;
        Ok(ticket)
    }
}

/// Read an upload
#[utoipa::path(get, path = "/uploads/{id}", tag = "uploads",
    params(("id" = Uuid, Path)), responses((status = 200, description = "The upload", body = Upload)))]
pub(crate) async fn get(
    State(state): State<ApiState>,
    who: Principal,
    Path(id): Path<Uuid>,
) -> Result<Response, Problem> {
    let upload: AssetState = state.peek(&who, &StreamKey::asset(AssetId(id))).await?;
    let promise = mine(&upload, &who)?;
    let phase = match upload.phase {
        Phase::Uploaded => UploadPhase::Complete,
        Phase::Requested if promise.expires_at > state.clock.now() => UploadPhase::Waiting,
        _ => UploadPhase::Ended,
    };
    let waiting = matches!(phase, UploadPhase::Waiting);
    let parts = match state.parts(who.tenant, AssetId(id), promise.bytes).await? {
        Some(parts) if waiting => Some(PartsThere::look(&state, &parts).await?),
        _ => None,
    };
    let body = Upload {
        id,
        state: phase,
        r#type: promise.media_type.clone(),
        bytes: promise.bytes,
        sha256: promise.sha256.clone(),
        expires_at: promise.expires_at,
        parts,
    };
    Ok(Json(body).into_response())
}

/// Give an upload up
#[utoipa::path(delete, path = "/uploads/{id}", tag = "uploads",
    params(("id" = Uuid, Path)), responses((status = 204, description = "Given up")))]
pub(crate) async fn abort(
    State(state): State<ApiState>,
    Path(id): Path<Uuid>,
    asked: Asked,
) -> Result<Response, Problem> {
    let (asset, me) = (AssetId(id), asked.who.user);
    let decide = |state: &AssetState| decide::asset::abort_upload(state, asset, me);
    let done = state
        .decide_asset(&asked, asset, decide)
        .await
        .map_err(|problem| problem.renamed("asset", "upload"))?;
    state.give_up(&asked, asset).await;
    Ok(done.no_content())
}

/// Take an asset away
#[utoipa::path(delete, path = "/assets/{id}", tag = "assets",
    params(("id" = Uuid, Path)), responses((status = 204, description = "Gone")))]
pub(crate) async fn delete_asset(
    State(state): State<ApiState>,
    Path(id): Path<Uuid>,
    asked: Asked,
) -> Result<Response, Problem> {
    let (asset, me) = (AssetId(id), asked.who.user);
    let decide = |state: &AssetState| decide::asset::delete(state, asset, me);
    let done = state.decide_asset(&asked, asset, decide).await?;
    state.give_up(&asked, asset).await;
    Ok(done.no_content())
}

fn mine<'a>(upload: &'a AssetState, who: &Principal) -> Result<&'a Promise, Problem> {
    upload
        .of(who.user)
        .map_err(|_| Kind::NotFound("upload").into())
}

/// Where an upload's bytes are.
fn stored_at(tenant: TenantId, asset: AssetId) -> Key {
    Key::original(tenant.0, asset.0)
}
