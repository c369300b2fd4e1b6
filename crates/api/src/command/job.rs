//! `POST /assets/{id}/renditions`, `POST /jobs/{id}/{retry,cancel}`: what an asset's owner wants rendered.

use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::header::LOCATION;
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use events::decide::asset::AssetState;
use events::decide::{self, Refusal};
use events::fact::Fact;
use events::id::{AssetId, JobId};
use events::store::bounds;
use garde::Validate;
use projectors::media::query as media;
use projectors::page::Viewer;
use projectors::usage::query as usage;
use serde::{Deserialize, Serialize};
use service::db::TenantTx;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Asked, AskedWith, Done};
use crate::edge::about_job;
use crate::position::Place;
use crate::problem::{Kind, Problem};
use crate::state::ApiState;

/// What can be asked for.
#[derive(Clone, Copy, Deserialize, ToSchema)]
pub(crate) enum Profile {
    /// Poster, sprites, waveform.
    #[serde(rename = "fast@1")]
    Fast,
    /// What players play.
    #[serde(rename = "proxy720@1")]
    Proxy720,
    /// What editors cut.
    #[serde(rename = "edit@1")]
    Edit,
}

impl Profile {
    /// As written in facts and tables.
    fn name(self) -> &'static str {
        match self {
            Self::Fast => "fast@1",
            Self::Proxy720 => "proxy720@1",
            Self::Edit => "edit@1",
        }
    }
}

/// A profile that is wanted.
#[derive(Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"profile": "edit@1"}))]
pub(crate) struct RenditionWanted {
    /// `fast@1` (poster, sprites, waveform), `proxy720@1` (what players play) or `edit@1` (what editors cut).
    #[garde(skip)]
    profile: Profile,
}

/// A job that is waiting to be done.
#[derive(Serialize, ToSchema)]
pub(crate) struct JobAsked {
    /// Read it at `GET /jobs/{id}`, also the answer's `Location`.
    job: Uuid,
    /// Of which asset.
    asset: Uuid,
    /// Its profile.
    profile: String,
}

/// Ask for one more profile of an asset
///
/// While a job for the profile is under way, or when there were very many, this is the problem `wrong-state`. Once all bytes of the
/// plan are taken, it is `quota-reached`.
#[utoipa::path(post, path = "/assets/{id}/renditions", tag = "assets", params(("id" = Uuid, Path)),
    request_body = RenditionWanted,
    responses((status = 202, description = "Waiting to be done", body = JobAsked, headers(("location" = String, description = "Where to see how it goes on")))))]
pub(crate) async fn request(
    State(state): State<ApiState>,
    Path(id): Path<Uuid>,
    AskedWith(asked, wanted): AskedWith<RenditionWanted>,
) -> Result<Response, Problem> {
    let (asset, me) = (AssetId(id), asked.who.user);
    let decide = |asset_state: &AssetState| {
        decide::asset::request_rendition(asset_state, asset, me, wanted.profile.name())
    };
    let done = state.more_of(&asked, asset, decide).await?;
    accepted(&done, asset)
}

/// Try a job again
///
/// What it failed to make is asked for by a job of its own, as if by `POST /assets/{id}/renditions`. A job that is under way goes on, 204.
#[utoipa::path(post, path = "/jobs/{id}/retry", tag = "assets", params(("id" = Uuid, Path)),
    responses((status = 202, description = "Waiting to be done", body = JobAsked, headers(("location" = String, description = "Where to see how it goes on"))),
        (status = 204, description = "Another job is at it already")))]
pub(crate) async fn retry(
    State(state): State<ApiState>,
    Path(id): Path<Uuid>,
    asked: Asked,
) -> Result<Response, Problem> {
    let (job, me) = (JobId(id), asked.who.user);
    let asset = state.asset_of(&asked, job).await?;
    let decide = |asset_state: &AssetState| decide::asset::retry_job(asset_state, asset, me, job);
    let done = state.more_of(&asked, asset, decide).await?;
    if done.changed_nothing() {
        return Ok(about_job(done.no_content(), job));
    }
    accepted(&done, asset)
}

/// Give a job up
///
/// One that is done, or was given up before, stays as it is.
#[utoipa::path(post, path = "/jobs/{id}/cancel", tag = "assets", params(("id" = Uuid, Path)),
    responses((status = 204, description = "Given up")))]
pub(crate) async fn cancel(
    State(state): State<ApiState>,
    Path(id): Path<Uuid>,
    asked: Asked,
) -> Result<Response, Problem> {
    let (job, me) = (JobId(id), asked.who.user);
    let asset = state.asset_of(&asked, job).await?;
    let decide = |asset_state: &AssetState| decide::asset::cancel_job(asset_state, asset, me, job);
    let done = state.decide_asset(&asked, asset, decide).await?;
    Ok(about_job(done.no_content(), job))
}

/// The job that an answer's fact asks for.
fn accepted(done: &Done, asset: AssetId) -> Result<Response, Problem> {
    let job = done.fact(|recorded| match &recorded.fact {
        Fact::RenditionRequested(wanted) => Some(JobAsked {
            job: JobId::of(recorded.event_id, &wanted.profile).0,
            asset: asset.0,
            profile: wanted.profile.clone(),
        }),
        _ => None,
    });
    let job = job.ok_or(Kind::Internal)?;
    let id = JobId(job.job);
    let location = HeaderValue::from_str(&format!("/v1/jobs/{id}"));
    let mut response = about_job(done.answer(StatusCode::ACCEPTED, job), id);
    if let Ok(location) = location {
        response.headers_mut().insert(LOCATION, location);
    }
    Ok(response)
}

impl ApiState {
    /// Decides about what makes more bytes of an asset: how many is not known before, so it is refused where the plan has none left.
    /// What was accepted before is answered as it was.
    async fn more_of(
        &self,
        asked: &Asked,
        asset: AssetId,
        decide: impl Fn(&AssetState) -> Result<Vec<Fact>, Refusal> + Send + Sync,
    ) -> Result<Done, Problem> {
        let (tenant, user) = (asked.who.tenant, asked.who.user);
        let plan = self.accounts.plan(tenant.0, user.0).await?;
        let mut tx = TenantTx::begin(&self.pool, tenant.0, user.0).await?;
        let (taken, _) = usage::taken(&mut tx, Viewer { tenant, user }, &[]).await?;
        drop(tx);
        let mut over = false;
        let within = |state: &AssetState| {
            let facts = decide(state)?;
            over = taken >= plan.bytes && !facts.is_empty();
            if over {
                return Err(Refusal::Forbidden("the plan has no bytes left"));
            }
            Ok(facts)
        };
        let done = self.decide_asset(asked, asset, within).await;
        done.map_err(|problem| {
            if !over {
                return problem;
            }
            Problem::from(Kind::QuotaReached).detail(format!(
                "the plan {} allows {} bytes, of which {taken} are taken",
                plan.plan, plan.bytes
            ))
        })
    }

    /// The asset of one of the caller's own jobs. Jobs are found by the read model, and decided about by the asset's stream. One that
    /// is not there may have been asked for a moment ago: that there is none is said once the read model has all of the log.
    async fn asset_of(&self, asked: &Asked, job: JobId) -> Result<AssetId, Problem> {
        let look = async || -> Result<Option<AssetId>, Problem> {
            let (tenant, user) = (asked.who.tenant, asked.who.user);
            let mut tx = TenantTx::begin(&self.pool, tenant.0, user.0).await?;
            let job = media::job(&mut tx, Viewer { tenant, user }, job).await?;
            Ok(job.map(|job| job.asset))
        };
        if let Some(asset) = look().await? {
            return Ok(asset);
        }
        let head = Place::whole(bounds(&self.pool).await?.head);
        if !self.wait_for(&head, &["media"]).await? {
            return Err(Problem::overloaded(Duration::from_secs(1)));
        }
        Ok(look().await?.ok_or(Kind::NotFound("job"))?)
    }
}
