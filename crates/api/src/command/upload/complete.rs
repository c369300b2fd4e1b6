//! `POST /uploads/{id}/complete`: whoever says that the bytes have come, they are looked at in storage.

use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::header::LOCATION;
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use events::decide;
use events::decide::asset::{AssetState, Phase, Promise};
use events::fact::Fact;
use events::fact::asset::UploadCompleted;
use events::id::{AssetId, EventId, JobId, StreamKey, TenantId, UserId};
use events::store::{Emit, Streams};
use serde::Serialize;
use tracing::Instrument;
use utoipa::ToSchema;
use uuid::Uuid;

use super::parts::in_parts;
use super::{mine, stored_at};
use crate::command::Asked;
use crate::edge::about_job;
use crate::limit::read_limit;
use crate::problem::{Kind, Problem};
use crate::state::ApiState;

/// Rendered of every upload, in this order; the last is the job that the answer points to.
const PROFILES: [&str; 2] = ["fast@1", "proxy720@1"];

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

/// Say that the bytes are in storage
///
/// Size and SHA-256 are verified there; parts are put together before. The asset's jobs begin; asking again changes nothing.
#[utoipa::path(post, path = "/uploads/{id}/complete", tag = "uploads",
    params(("id" = Uuid, Path)), responses((status = 202, description = "Being rendered", body = UploadDone, headers(("location" = String, description = "Where to see how it goes on")))))]
pub(crate) async fn complete(
    State(state): State<ApiState>,
    Path(id): Path<Uuid>,
    asked: Asked,
) -> Result<Response, Problem> {
    // In a task that goes on without who asked: else they could have the same bytes read again and again, and leave each time before
    // the end.
    let completing = take_in(state.clone(), id, asked).in_current_span();
    let completing = state.shutdown.spawn(completing);
    completing
        .await
        .map_err(|error| Problem::internal(&error))?
}

async fn take_in(state: ApiState, id: Uuid, asked: Asked) -> Result<Response, Problem> {
    let asset = AssetId(id);
    let key = StreamKey::asset(asset);
    let upload: AssetState = state.peek(&asked.who, &key).await?;
    let promise = mine(&upload, &asked.who)?;
    let mut completed = completion(asset, asked.who.user, promise);
    // What would be refused anyway is refused before anything is read.
    decide::asset::complete_upload(&upload, completed.clone(), state.clock.now())?;
    // Verified once: afterwards the recorded ETag stands for the bytes.
    if upload.phase == Phase::Requested {
        let _one_of_theirs = state
            .completing
            .take((asked.who.tenant, asked.who.user))
            .map_err(|_| Problem::overloaded(Duration::from_secs(1)))?;
        completed.etag = state.verify(asked.who.tenant, asset, promise).await?;
    }
    let decide = |streams: &Streams| {
        let upload = streams.get(&key);
        let facts = decide::asset::complete_upload(&upload, completed.clone(), state.clock.now())?;
        Ok(Emit::all(&key, facts))
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
    let body = UploadDone {
        asset: id,
        job,
        jobs,
    };
    let mut response = about_job(done.answer(StatusCode::ACCEPTED, body), JobId(job));
    if let Ok(location) = HeaderValue::from_str(&format!("/v1/jobs/{job}")) {
        response.headers_mut().insert(LOCATION, location);
    }
    Ok(response)
}

impl ApiState {
    /// Makes sure that storage has what was promised, put together of its parts if it came so; its entity tag.
    pub(super) async fn verify(
        &self,
        tenant: TenantId,
        asset: AssetId,
        promise: &Promise,
    ) -> Result<Option<String>, Problem> {
        let _alone = self.verifying.take(asset)?;
        let verified = self.read_through(tenant, asset, promise);
        tokio::select! {
            verified = tokio::time::timeout(read_limit(promise.bytes), verified) => {
                verified.map_err(|_| Kind::Timeout)?
            }
            () = self.shutdown.cancelled() => Err(Problem::overloaded(Duration::from_secs(1))),
        }
    }

    async fn read_through(
        &self,
        tenant: TenantId,
        asset: AssetId,
        promise: &Promise,
    ) -> Result<Option<String>, Problem> {
        let open = self.accounts.upload(tenant.0, asset.0).await?;
        if let Some(parts) = open.as_ref().and_then(|open| in_parts(open, promise.bytes)) {
            self.store.join_parts(&parts).await?;
        }
        let sha256 = promise
            .sha256
            .parse()
            .map_err(|error: storage::ChecksumError| Problem::internal(&error))?;
        let (at, refused) = (stored_at(tenant, asset), open.and_then(|open| open.refused));
        let found = self
            .store
            .verify(&at, promise.bytes, &sha256, refused.as_deref());
        let found = found.await;
        // Remembered, so that the same object is not read again however often somebody asks.
        if let Err(storage::Error::ChecksumDiffers {
            etag: Some(etag), ..
        }) = &found
            && refused.as_ref() != Some(etag)
        {
            self.accounts.refuse_upload(tenant.0, asset.0, etag).await?;
        }
        Ok(found?.etag)
    }
}

/// What is recorded once the bytes are there.
pub(super) fn completion(asset: AssetId, owner: UserId, promise: &Promise) -> UploadCompleted {
    UploadCompleted {
        asset,
        owner,
        storage_key: promise.storage_key.clone(),
        bytes: promise.bytes,
        sha256: promise.sha256.clone(),
        etag: None,
        media_type: promise.media_type.clone(),
        profiles: PROFILES.map(str::to_owned).to_vec(),
    }
}

fn job_refs(asked_by: EventId, profiles: &[String]) -> Vec<JobRef> {
    let named = |profile: &String| JobRef {
        id: JobId::of(asked_by, profile).0,
        profile: profile.clone(),
    };
    profiles.iter().map(named).collect()
}

fn known_jobs(upload: &AssetState) -> Vec<JobRef> {
    let named = |(id, job): (&JobId, &decide::asset::Job)| JobRef {
        id: id.0,
        profile: job.profile.clone(),
    };
    upload.jobs.iter().map(named).collect()
}
