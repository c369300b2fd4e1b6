//! `POST /uploads`, `GET|DELETE /uploads/{id}`, `POST /uploads/{id}/complete`, `DELETE /assets/{id}`. Bytes go straight
//! to storage by a signed URL; completing checks what came there. An upload is read from its stream, not from a read
//! model: it is about what may be done next.

use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::header::LOCATION;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, SubsecRound, Utc};
use events::decide;
use events::decide::asset::{AssetState, Phase, Promise};
use events::fact::Fact;
use events::fact::asset::{UploadCompleted, UploadRequested};
use events::id::{AssetId, JobId, StreamKey};
use events::store::{Emit, Streams};
use garde::Validate;
use serde::{Deserialize, Serialize};
use storage::{Checksum, Key, ObjectFacts, PutTerms};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Asked, AskedWith};
use crate::auth::Principal;
use crate::problem::{Kind, Problem};
use crate::state::ApiState;

/// Rendered of every upload, in this order; the last is the job that the answer points to.
const PROFILES: [&str; 2] = ["fast@1", "proxy720@1"];

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

/// An upload that may begin.
#[derive(Serialize, ToSchema)]
pub(crate) struct UploadTicket {
    /// Of the upload and of its asset.
    id: Uuid,
    /// Where the bytes go; a secret while it holds.
    url: String,
    /// By which method.
    method: String,
    /// Headers to send just so.
    headers: std::collections::BTreeMap<String, String>,
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
}

/// An upload whose bytes are there.
#[derive(Serialize, ToSchema)]
pub(crate) struct UploadDone {
    /// The asset.
    asset: Uuid,
    /// The job that makes its primary output.
    job: Uuid,
    /// All its jobs.
    jobs: Vec<JobRef>,
}

/// A job by its name.
#[derive(Serialize, ToSchema)]
pub(crate) struct JobRef {
    id: Uuid,
    profile: String,
}

/// Ask to upload a file
///
/// Send the bytes by the signed request, then complete the upload. A repeat with the same key is signed anew as
/// long as the bytes are awaited.
#[utoipa::path(post, path = "/uploads", tag = "uploads", request_body = NewUpload,
    responses((status = 201, description = "The bytes may come", body = UploadTicket)))]
pub(crate) async fn request(
    State(state): State<ApiState>,
    AskedWith(asked, new): AskedWith<NewUpload>,
) -> Result<Response, Problem> {
    let sha256 = check(&state, &new)?;
    let asset = AssetId(asked.command.id.derive());
    let key = StreamKey::asset(asset);
    let wait = chrono::Duration::seconds(state.config.upload_seconds.into());
    let requested = UploadRequested {
        asset,
        owner: asked.who.user,
        file_name: new.name.into(),
        media_type: new.r#type.to_ascii_lowercase(),
        bytes: new.bytes,
        sha256: sha256.to_string(),
        storage_key: Key::original(asked.who.tenant.0, asset.0).to_string(),
        expires_at: (state.clock.now() + wait).trunc_subsecs(0),
    };
    let decide = |streams: &Streams| {
        Ok(Emit::all(
            &key,
            decide::asset::request_upload(&streams.get(&key), requested.clone())?,
        ))
    };
    let done = state.execute(&asked, &[&key], decide).await?;
    let allowed = done.fact(|recorded| match &recorded.fact {
        Fact::UploadRequested(requested) => Some(requested),
        _ => None,
    });
    if done.repeated() {
        // Since the first time it may have been given up or completed.
        let upload: AssetState = state.peek(&asked.who, &key).await?;
        if upload.phase != Phase::Requested {
            return Err(Kind::UploadEnded.into());
        }
    }
    let ticket = ticket(&state, allowed.ok_or(Kind::Internal)?)?;
    Ok(done.answer(StatusCode::CREATED, ticket))
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

fn ticket(state: &ApiState, allowed: &UploadRequested) -> Result<UploadTicket, Problem> {
    let now = state.clock.now();
    let left = (allowed.expires_at - now).to_std().unwrap_or_default();
    if left < Duration::from_secs(1) {
        return Err(Kind::UploadEnded.into());
    }
    let terms = PutTerms {
        key: allowed
            .storage_key
            .parse()
            .map_err(|error: storage::KeyError| Problem::internal(&error))?,
        bytes: allowed.bytes,
        media_type: allowed.media_type.clone(),
        sha256: allowed
            .sha256
            .parse()
            .map_err(|error: storage::ChecksumError| Problem::internal(&error))?,
    };
    let signed = state.store.sign_put(&terms, left, now)?;
    Ok(UploadTicket {
        id: allowed.asset.0,
        url: signed.url.into(),
        method: signed.method.to_owned(),
        headers: signed.headers.into_iter().collect(),
        expires_at: signed.expires_at,
    })
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
    let body = Upload {
        id,
        state: phase,
        r#type: promise.media_type.clone(),
        bytes: promise.bytes,
        sha256: promise.sha256.clone(),
        expires_at: promise.expires_at,
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
    Ok(done.no_content())
}

/// Say that the bytes are in storage
///
/// Size and SHA-256 are verified there. The asset's jobs begin; asking again changes nothing.
#[utoipa::path(post, path = "/uploads/{id}/complete", tag = "uploads",
    params(("id" = Uuid, Path)), responses((status = 202, description = "Being rendered", body = UploadDone)))]
pub(crate) async fn complete(
    State(state): State<ApiState>,
    Path(id): Path<Uuid>,
    asked: Asked,
) -> Result<Response, Problem> {
    let asset = AssetId(id);
    let key = StreamKey::asset(asset);
    let upload: AssetState = state.peek(&asked.who, &key).await?;
    let promise = mine(&upload, &asked.who)?;
    let mut completed = UploadCompleted {
        asset,
        owner: asked.who.user,
        storage_key: promise.storage_key.clone(),
        bytes: promise.bytes,
        sha256: promise.sha256.clone(),
        etag: None,
        media_type: promise.media_type.clone(),
        profiles: PROFILES.map(str::to_owned).to_vec(),
    };
    // What would be refused anyway is refused before anything is read.
    decide::asset::complete_upload(&upload, completed.clone(), state.clock.now())?;
    // Verified once: afterwards the recorded ETag stands for the bytes.
    if upload.phase == Phase::Requested {
        let _alone = state.verifying.take(asset)?;
        completed.etag = verify(&state, promise).await?.etag;
    }
    let decide = |streams: &Streams| {
        Ok(Emit::all(
            &key,
            decide::asset::complete_upload(
                &streams.get(&key),
                completed.clone(),
                state.clock.now(),
            )?,
        ))
    };
    let done = state.execute(&asked, &[&key], decide).await?;
    let begun = done.fact(|recorded| match &recorded.fact {
        Fact::UploadCompleted(completed) => Some(job_refs(recorded.event_id, &completed.profiles)),
        _ => None,
    });
    let jobs = match begun {
        Some(jobs) => jobs,
        // Complete already: its jobs are in its state, in no particular order.
        None => known_jobs(&state.peek(&asked.who, &key).await?),
    };
    let job = jobs
        .iter()
        .find(|job| job.profile == PROFILES[1])
        .ok_or(Kind::UploadEnded)?
        .id;
    let mut response = done.answer(
        StatusCode::ACCEPTED,
        UploadDone {
            asset: id,
            job,
            jobs,
        },
    );
    if let Ok(location) = HeaderValue::from_str(&format!("/v1/jobs/{job}")) {
        response.headers_mut().insert(LOCATION, location);
    }
    Ok(response)
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
    Ok(done.no_content())
}

fn mine<'a>(upload: &'a AssetState, who: &Principal) -> Result<&'a Promise, Problem> {
    upload
        .of(who.user)
        .map_err(|_| Kind::NotFound("upload").into())
}

async fn verify(state: &ApiState, promise: &Promise) -> Result<ObjectFacts, Problem> {
    let key: Key = promise
        .storage_key
        .parse()
        .map_err(|error: storage::KeyError| Problem::internal(&error))?;
    let sha256 = promise
        .sha256
        .parse()
        .map_err(|error: storage::ChecksumError| Problem::internal(&error))?;
    Ok(state.store.verify(&key, promise.bytes, &sha256).await?)
}

fn job_refs(asked_by: events::id::EventId, profiles: &[String]) -> Vec<JobRef> {
    let named = |profile: &String| JobRef {
        id: JobId::of(asked_by, profile).0,
        profile: profile.clone(),
    };
    profiles.iter().map(named).collect()
}

fn known_jobs(upload: &AssetState) -> Vec<JobRef> {
    upload
        .jobs
        .iter()
        .map(|(id, job)| JobRef {
            id: id.0,
            profile: job.profile.clone(),
        })
        .collect()
}
