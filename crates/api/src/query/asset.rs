//! `GET /assets`, `/assets/{id}`, `/assets/{id}/renditions/{name}`, `/assets/{id}/waveform`, `/jobs/{id}`. A rendition's
//! own route is stable and asks who may see it each time; it redirects to a URL of the store that is signed for minutes.

use std::time::Duration;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::header::{CACHE_CONTROL, LOCATION};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use events::fact::asset::MediaError;
use events::id::{AssetId, JobId};
use projectors::media::{self as model, query as media};
use serde::{Deserialize, Serialize};
use storage::Presentation;
use utoipa::openapi::Object;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::peaks::{POINTS, Peaks, READ_MAX, peaks};
use super::{Reader, View};
use crate::cursor::{Page, PageQuery, Paging};
use crate::edge::about_job;
use crate::openapi::one_of;
use crate::problem::{Kind, Problem};
use crate::state::ApiState;
use crate::word::Word;

/// How long the URL behind a redirect holds: long enough to begin, and to go on by ranges while one watches.
const SIGNED_FOR: Duration = Duration::from_mins(15);

/// An asset in a list.
#[derive(Serialize, ToSchema)]
pub(crate) struct AssetSummary {
    id: Uuid,
    /// How far it has come.
    #[schema(schema_with = asset_states)]
    state: String,
    /// The file's name; only the owner sees it.
    name: Option<String>,
    /// Its media type as claimed.
    r#type: String,
    bytes: i64,
    /// Whether there is something to look at.
    viewable: bool,
    /// Why it failed.
    error: Option<AssetError>,
    requested_at: DateTime<Utc>,
}

/// An asset and all made from it.
#[derive(Serialize, ToSchema)]
pub(crate) struct Asset {
    #[serde(flatten)]
    summary: AssetSummary,
    owner: Uuid,
    /// What the file really is, once a job has looked.
    media: Option<Media>,
    renditions: Vec<RenditionLink>,
    /// What could not be made; only the owner sees it.
    warnings: Vec<AssetWarning>,
    /// Only the owner sees them.
    jobs: Vec<Job>,
}

/// Measured properties; what a file does not have is null.
#[derive(Serialize, ToSchema)]
pub(crate) struct Media {
    container: String,
    duration_ms: Option<u64>,
    width: Option<u32>,
    height: Option<u32>,
    frame_rate: Option<f64>,
    video_codec: Option<String>,
    audio_codec: Option<String>,
    sample_rate: Option<u32>,
    channels: Option<u16>,
    /// Null for silence too.
    loudness: Option<Loudness>,
    /// What to show until the poster is there: its ThumbHash, Base64.
    thumbhash: Option<String>,
}

/// Loudness of the whole programme by EBU R 128.
#[derive(Serialize, ToSchema)]
pub(crate) struct Loudness {
    /// LUFS.
    integrated_lufs: f64,
    /// LU.
    range_lu: f64,
    /// dBTP.
    true_peak_dbtp: f64,
}

/// Why media could not be rendered.
#[derive(Serialize, ToSchema)]
pub(crate) struct AssetError {
    /// `input`, `limit`, `resource`, `infrastructure` or `died`.
    r#type: String,
    message: String,
    retryable: bool,
}

/// An output that could not be made although others were.
#[derive(Serialize, ToSchema)]
pub(crate) struct AssetWarning {
    profile: String,
    name: String,
    error: AssetError,
}

/// An output.
#[derive(Clone, Serialize, ToSchema)]
pub(crate) struct RenditionLink {
    /// E.g. `proxy.mp4`.
    name: String,
    /// Redirects to the bytes.
    url: String,
    profile: String,
    r#type: String,
    bytes: i64,
    sha256: String,
    width: Option<i32>,
    height: Option<i32>,
    duration_ms: Option<i64>,
}

/// A job.
#[derive(Serialize, ToSchema)]
pub(crate) struct Job {
    id: Uuid,
    asset: Uuid,
    profile: String,
    /// How far it has come.
    #[schema(schema_with = job_states)]
    state: String,
    /// The stage that runs now.
    stage: Option<String>,
    /// How much of the stage is done, 0 to 1.
    done: Option<f32>,
    /// How long it will take yet.
    eta_ms: Option<i64>,
    /// Why it failed.
    error: Option<AssetError>,
}

fn asset_states() -> Object {
    one_of([
        "waiting",
        "preparing",
        "ready",
        "failed",
        "quarantined",
        "expired",
        "aborted",
    ])
}

fn job_states() -> Object {
    one_of(["queued", "running", "done", "failed", "cancelled"])
}

/// Which form of the waveform.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct WaveformQuery {
    /// `dat`, `json`, `png` or `wavesurfer`; `dat` when absent.
    #[param(inline, required = false, value_type = WaveformFormat, example = "wavesurfer")]
    format: Option<Word<WaveformFormat>>,
    /// Of `wavesurfer`, points of each channel; 2,000 when absent, 20,000 at most.
    #[param(minimum = 1, maximum = 20_000)]
    points: Option<usize>,
}

/// A form of the waveform.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum WaveformFormat {
    Dat,
    Json,
    Png,
    Wavesurfer,
}

/// List one's own assets
#[utoipa::path(get, path = "/assets", tag = "assets", params(PageQuery),
    responses((status = 200, description = "A page of assets, newest first", body = Page<AssetSummary>)))]
pub(crate) async fn list(
    State(state): State<ApiState>,
    reader: Reader,
    paging: Paging,
) -> Result<Response, Problem> {
    let after = paging.after(&state)?;
    let mut view = reader.view(&state, media::READS).await?;
    let page = media::mine(&mut view.tx, view.viewer, after, paging.limit).await?;
    let items: Vec<AssetSummary> = page
        .items
        .into_iter()
        .map(|asset| summary(&asset))
        .collect();
    Ok(view.mark(paging.page(&state, items, page.next)?))
}

/// Read an asset
#[utoipa::path(get, path = "/assets/{id}", tag = "assets",
    params(("id" = Uuid, Path)), responses((status = 200, description = "The asset", body = Asset)))]
pub(crate) async fn get(
    State(state): State<ApiState>,
    reader: Reader,
    Path(id): Path<Uuid>,
) -> Result<Response, Problem> {
    let mut view = reader.view(&state, media::READS).await?;
    let asset = view.asset(AssetId(id)).await?;
    Ok(view.answer(asset))
}

/// Go to an output's bytes
#[utoipa::path(get, path = "/assets/{id}/renditions/{name}", tag = "assets",
    params(("id" = Uuid, Path), ("name" = String, Path, description = "e.g. `proxy.mp4`")),
    responses((status = 307, description = "To a URL that holds for minutes",
        headers(("location" = String, description = "the signed URL")))))]
pub(crate) async fn rendition(
    State(state): State<ApiState>,
    reader: Reader,
    Path((id, name)): Path<(Uuid, String)>,
) -> Result<Response, Problem> {
    let view = reader.view(&state, media::READS).await?;
    redirect(&state, view, AssetId(id), &name).await
}

/// Go to an asset's waveform
///
/// The format `wavesurfer` is answered at once, with what wavesurfer.js draws.
#[utoipa::path(get, path = "/assets/{id}/waveform", tag = "assets",
    params(("id" = Uuid, Path), WaveformQuery),
    responses((status = 200, description = "Of the format `wavesurfer`", body = Peaks), (status = 307, description = "To a URL that holds for minutes",
        headers(("location" = String, description = "the signed URL")))))]
pub(crate) async fn waveform(
    State(state): State<ApiState>,
    reader: Reader,
    Path(id): Path<Uuid>,
    Query(query): Query<WaveformQuery>,
) -> Result<Response, Problem> {
    let points = query.points.unwrap_or(POINTS.0);
    if !(1..=POINTS.1).contains(&points) {
        let reason = "is a number from 1 to 20000";
        return Err(Problem::field(Kind::Invalid, "/points", reason));
    }
    let format = Word::if_any(query.format, "/format")?;
    let view = reader.view(&state, media::READS).await?;
    let name = match format.unwrap_or(WaveformFormat::Dat) {
        WaveformFormat::Dat => "waveform.dat",
        WaveformFormat::Json => "waveform.json",
        WaveformFormat::Png => "waveform.png",
        WaveformFormat::Wavesurfer => return wavesurfer(&state, view, AssetId(id), points).await,
    };
    redirect(&state, view, AssetId(id), name).await
}

/// Read a job of one's own
#[utoipa::path(get, path = "/jobs/{id}", tag = "assets",
    params(("id" = Uuid, Path)), responses((status = 200, description = "The job", body = Job)))]
pub(crate) async fn job(
    State(state): State<ApiState>,
    reader: Reader,
    Path(id): Path<Uuid>,
) -> Result<Response, Problem> {
    let mut view = reader.view(&state, media::READS).await?;
    let job = media::job(&mut view.tx, view.viewer, JobId(id))
        .await?
        .ok_or(Kind::NotFound("job"))?;
    Ok(about_job(view.answer(Job::from(job)), JobId(id)))
}

/// What wavesurfer.js draws of an asset.
async fn wavesurfer(
    state: &ApiState,
    mut view: View,
    asset: AssetId,
    points: usize,
) -> Result<Response, Problem> {
    let waveform = media::rendition(&mut view.tx, view.viewer, asset, "waveform.dat").await?;
    let key = waveform
        .ok_or(Kind::NotFound("rendition"))?
        .storage_key
        .parse();
    let key = key.map_err(|error: storage::KeyError| Problem::internal(&error))?;
    // Storage may be slow: no connection waits for it.
    let age = view.end();
    let turn = state.drawing.try_acquire();
    let _turn = turn.map_err(|_| Problem::overloaded(Duration::from_secs(1)))?;
    let dat = state.store.read(&key, READ_MAX).await;
    let dat = dat.map_err(|error| match error {
        storage::Error::Missing(_) => Kind::NotFound("rendition").into(),
        other => Problem::from(other),
    })?;
    // Minutes of it are some milliseconds, a day is not.
    let drawn = tokio::task::spawn_blocking(move || peaks(&dat, points)).await;
    let drawn = drawn.map_err(|error| Problem::internal(&error))?;
    Ok(age.mark(Json(drawn.ok_or(Kind::Internal)?).into_response()))
}

async fn redirect(
    state: &ApiState,
    mut view: View,
    asset: AssetId,
    name: &str,
) -> Result<Response, Problem> {
    let rendition = media::rendition(&mut view.tx, view.viewer, asset, name).await?;
    let rendition = rendition.ok_or(Kind::NotFound("rendition"))?;
    let presentation = Presentation {
        media_type: Some(rendition.media_type),
        disposition: Some(format!("attachment; filename=\"{}\"", rendition.name)),
    };
    let key = rendition
        .storage_key
        .parse()
        .map_err(|error: storage::KeyError| Problem::internal(&error))?;
    let url = state
        .store
        .sign_get(&key, SIGNED_FOR, state.clock.now(), &presentation)?;
    let location =
        HeaderValue::from_str(url.as_str()).map_err(|error| Problem::internal(&error))?;
    let headers: [(HeaderName, HeaderValue); 2] = [
        (LOCATION, location),
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    Ok(view.mark((StatusCode::TEMPORARY_REDIRECT, headers).into_response()))
}

impl View {
    /// An asset that the viewer may see, with all that goes with it.
    pub(crate) async fn asset(&mut self, asset: AssetId) -> Result<Asset, Problem> {
        let (tx, viewer) = (&mut self.tx, self.viewer);
        let found = media::asset(tx, viewer, asset)
            .await?
            .ok_or(Kind::NotFound("asset"))?;
        let renditions = media::renditions(tx, viewer, &[asset]).await?;
        let warnings = media::warnings(tx, viewer, asset).await?;
        let jobs = media::jobs(tx, viewer, asset).await?;
        Ok(Asset {
            summary: summary(&found),
            owner: found.owner.0,
            media: found.facts.map(|facts| facts.0.into()),
            renditions: renditions.into_iter().map(Into::into).collect(),
            warnings: warnings.into_iter().map(Into::into).collect(),
            jobs: jobs.into_iter().map(Into::into).collect(),
        })
    }
}

impl Asset {
    /// Whether nothing more will come of it by itself.
    pub(crate) fn settled(&self) -> bool {
        !matches!(self.summary.state.as_str(), "waiting" | "preparing")
    }
}

fn summary(asset: &media::Asset) -> AssetSummary {
    AssetSummary {
        id: asset.asset.0,
        state: asset.state.clone(),
        name: asset.file_name.clone(),
        r#type: asset.media_type.clone(),
        bytes: asset.bytes,
        viewable: asset.viewable,
        error: asset.error.as_ref().map(|error| error.0.clone().into()),
        requested_at: asset.requested_at,
    }
}

impl From<model::Measured> for Media {
    fn from(facts: model::Measured) -> Self {
        Self {
            container: facts.container,
            duration_ms: facts.duration_ms,
            width: facts.width,
            height: facts.height,
            frame_rate: facts.frame_rate,
            video_codec: facts.video_codec,
            audio_codec: facts.audio_codec,
            sample_rate: facts.sample_rate,
            channels: facts.channels,
            loudness: facts.loudness.map(|loudness| Loudness {
                integrated_lufs: loudness.integrated_lufs,
                range_lu: loudness.range_lu,
                true_peak_dbtp: loudness.true_peak_dbtp,
            }),
            thumbhash: facts.thumbhash,
        }
    }
}

impl From<MediaError> for AssetError {
    fn from(error: MediaError) -> Self {
        Self {
            r#type: error.kind,
            message: error.message,
            retryable: error.retryable,
        }
    }
}

impl From<media::Warning> for AssetWarning {
    fn from(warning: media::Warning) -> Self {
        Self {
            profile: warning.profile,
            name: warning.name,
            error: warning.error.0.into(),
        }
    }
}

impl From<media::Rendition> for RenditionLink {
    fn from(rendition: media::Rendition) -> Self {
        Self {
            url: format!(
                "/v1/assets/{}/renditions/{}",
                rendition.asset, rendition.name
            ),
            name: rendition.name,
            profile: rendition.profile,
            r#type: rendition.media_type,
            bytes: rendition.bytes,
            sha256: rendition.sha256,
            width: rendition.width,
            height: rendition.height,
            duration_ms: rendition.duration_ms,
        }
    }
}

impl From<media::Job> for Job {
    fn from(job: media::Job) -> Self {
        Self {
            id: job.job.0,
            asset: job.asset.0,
            profile: job.profile,
            state: job.state,
            stage: job.stage,
            done: job.done,
            eta_ms: job.eta_ms,
            error: job.error.map(|error| error.0.into()),
        }
    }
}
