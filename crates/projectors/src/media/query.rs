//! Assets, their renditions and jobs, as a viewer may see them: one's own, and those of posts that one may see.

use chrono::{DateTime, Utc};
use events::fact::asset::MediaError;
use events::id::{AssetId, JobId, Position, UserId};
use serde::Serialize;
use service::db::TenantTx;
use sqlx::types::Json;

use super::Measured;
use crate::feed::query::visible;
use crate::page::{Cursor, Page, Viewer, below};

/// The read models that these queries read.
pub const READS: &[&str] = &["media", "feed", "graph", "moderation"];

/// An asset.
#[derive(Clone, Debug, PartialEq, Serialize, sqlx::FromRow)]
pub struct Asset {
    /// Its id, and its upload's.
    pub asset: AssetId,
    /// Whose it is.
    pub owner: UserId,
    /// `waiting`, `preparing`, `ready`, `failed`, `quarantined`, `expired`, `aborted` or `deleted`.
    pub state: String,
    /// What the owner's machine called the file; only the owner sees it.
    pub file_name: Option<String>,
    /// Media type as claimed.
    pub media_type: String,
    /// Size, bytes.
    pub bytes: i64,
    /// What it really is, once a job has looked.
    pub facts: Option<Json<Measured>>,
    /// Why it failed.
    pub error: Option<Json<MediaError>>,
    /// Whether there is something to look at.
    pub viewable: bool,
    /// Its place in the log.
    pub position: Position,
    /// When the upload was asked for.
    pub requested_at: DateTime<Utc>,
}

/// An output made from an asset.
#[derive(Clone, Debug, PartialEq, Serialize, sqlx::FromRow)]
pub struct Rendition {
    /// The asset.
    pub asset: AssetId,
    /// Its name, e.g. `proxy.mp4`.
    pub name: String,
    /// The profile that made it.
    pub profile: String,
    /// Where it is in storage; for signing, not for answers.
    #[serde(skip)]
    pub storage_key: String,
    /// Its media type.
    pub media_type: String,
    /// Its size, bytes.
    pub bytes: i64,
    /// Its SHA-256, lower-case hex.
    pub sha256: String,
    /// Picture width, pixels.
    pub width: Option<i32>,
    /// Picture height, pixels.
    pub height: Option<i32>,
    /// Length, milliseconds.
    pub duration_ms: Option<i64>,
}

/// An output that could not be made although others were.
#[derive(Clone, Debug, PartialEq, Serialize, sqlx::FromRow)]
pub struct Warning {
    /// The profile.
    pub profile: String,
    /// The output.
    pub name: String,
    /// Why.
    pub error: Json<MediaError>,
}

/// A job of an asset.
#[derive(Clone, Debug, PartialEq, Serialize, sqlx::FromRow)]
pub struct Job {
    /// Its id.
    pub job: JobId,
    /// The asset.
    pub asset: AssetId,
    /// What it renders.
    pub profile: String,
    /// `queued`, `running`, `done`, `failed` or `cancelled`.
    pub state: String,
    /// Why it failed.
    pub error: Option<Json<MediaError>>,
    /// The stage that runs now.
    pub stage: Option<String>,
    /// How much of it is done, 0 to 1.
    pub done: Option<f32>,
    /// How long it will take yet, as far as the worker can tell.
    pub eta_ms: Option<i64>,
    /// Its place in the log.
    pub position: Position,
}

macro_rules! asset_columns {
    () => {
        "a.asset, a.owner, a.state, u.file_name, a.media_type, a.bytes, a.facts, a.error, a.viewable, a.position,
            a.requested_at"
    };
}

/// Whether the asset `a` of the tenant $1 may be seen by $2. One that is deleted is gone for its owner too.
macro_rules! asset_visible {
    () => {
        concat!(
            "(a.state <> 'deleted' AND (a.owner = $2 OR EXISTS (
                SELECT FROM feed.carried c JOIN feed.post p ON p.tenant = $1 AND p.post = c.post
                WHERE c.tenant = $1 AND c.asset = a.asset AND ",
            visible!(),
            ")))"
        )
    };
}

/// One asset.
pub async fn asset(
    tx: &mut TenantTx,
    viewer: Viewer,
    asset: AssetId,
) -> sqlx::Result<Option<Asset>> {
    Ok(assets(tx, viewer, &[asset]).await?.pop())
}

/// Those of `assets` that the viewer may see.
pub async fn assets(
    tx: &mut TenantTx,
    viewer: Viewer,
    assets: &[AssetId],
) -> sqlx::Result<Vec<Asset>> {
    sqlx::query_as(concat!(
        "SELECT ",
        asset_columns!(),
        " FROM media.asset a
        LEFT JOIN media.upload u ON u.tenant = $1 AND u.owner = $2 AND u.asset = a.asset
        WHERE a.tenant = $1 AND a.asset = ANY($3) AND ",
        asset_visible!(),
        " ORDER BY a.position DESC"
    ))
    .bind(viewer.tenant)
    .bind(viewer.user)
    .bind(assets)
    .fetch_all(&mut **tx)
    .await
}

/// The viewer's own assets that are not deleted, newest first.
pub async fn mine(
    tx: &mut TenantTx,
    viewer: Viewer,
    after: Option<Cursor>,
    limit: u32,
) -> sqlx::Result<Page<Asset>> {
    let assets = sqlx::query_as(concat!(
        "SELECT ",
        asset_columns!(),
        " FROM media.asset a
        LEFT JOIN media.upload u ON u.tenant = $1 AND u.owner = $2 AND u.asset = a.asset
        WHERE a.tenant = $1 AND a.owner = $2 AND a.position < $3 AND a.state <> 'deleted'
        ORDER BY a.position DESC LIMIT $4"
    ))
    .bind(viewer.tenant)
    .bind(viewer.user)
    .bind(below(after))
    .bind(i64::from(limit) + 1)
    .fetch_all(&mut **tx)
    .await?;
    Ok(Page::cut(assets, limit, |asset: &Asset| Cursor {
        position: asset.position,
        id: asset.asset.0,
    }))
}

/// All outputs of those of `assets` that the viewer may see, by asset and name.
pub async fn renditions(
    tx: &mut TenantTx,
    viewer: Viewer,
    assets: &[AssetId],
) -> sqlx::Result<Vec<Rendition>> {
    sqlx::query_as(concat!(
        "SELECT r.asset, r.name, r.profile, r.storage_key, r.media_type, r.bytes, r.sha256, r.width, r.height, r.duration_ms
        FROM media.rendition r
        JOIN media.asset a ON a.tenant = $1 AND a.asset = r.asset
        WHERE r.tenant = $1 AND r.asset = ANY($3) AND ",
        asset_visible!(),
        " ORDER BY r.asset, r.name"
    ))
    .bind(viewer.tenant)
    .bind(viewer.user)
    .bind(assets)
    .fetch_all(&mut **tx)
    .await
}

/// One output, if it was made and the viewer may see its asset.
pub async fn rendition(
    tx: &mut TenantTx,
    viewer: Viewer,
    asset: AssetId,
    name: &str,
) -> sqlx::Result<Option<Rendition>> {
    Ok(renditions(tx, viewer, &[asset])
        .await?
        .into_iter()
        .find(|rendition| rendition.name == name))
}

/// What could not be made of an asset of the viewer's own.
pub async fn warnings(
    tx: &mut TenantTx,
    viewer: Viewer,
    asset: AssetId,
) -> sqlx::Result<Vec<Warning>> {
    sqlx::query_as(
        "SELECT w.profile, w.name, w.error
        FROM media.warning w
        JOIN media.asset a ON a.tenant = $1 AND a.asset = w.asset AND a.owner = $2
        WHERE w.tenant = $1 AND w.asset = $3
        ORDER BY w.profile, w.name",
    )
    .bind(viewer.tenant)
    .bind(viewer.user)
    .bind(asset)
    .fetch_all(&mut **tx)
    .await
}

/// The columns of a [`Job`] with its live progress. A job that reports progress runs, whatever facts say yet.
macro_rules! job {
    () => {
        "SELECT j.job, j.asset, j.profile, j.error, j.position,
            CASE WHEN j.state = 'queued' AND p.job_id IS NOT NULL THEN 'running' ELSE j.state END AS state,
            CASE WHEN j.state = 'queued' THEN p.stage END AS stage,
            CASE WHEN j.state = 'queued' THEN p.done END AS done,
            CASE WHEN j.state = 'queued' THEN p.eta_ms END AS eta_ms
        FROM media.job j
        LEFT JOIN projection.progress p ON p.job_id = j.job
        WHERE j.tenant = $1 AND j.owner = $2 AND "
    };
}

/// One of the viewer's own jobs, with its progress as of now.
pub async fn job(tx: &mut TenantTx, viewer: Viewer, job: JobId) -> sqlx::Result<Option<Job>> {
    sqlx::query_as(concat!(job!(), "j.job = $3"))
        .bind(viewer.tenant)
        .bind(viewer.user)
        .bind(job)
        .fetch_optional(&mut **tx)
        .await
}

/// All jobs of one of the viewer's own assets, in the order they were asked for.
pub async fn jobs(tx: &mut TenantTx, viewer: Viewer, asset: AssetId) -> sqlx::Result<Vec<Job>> {
    sqlx::query_as(concat!(
        job!(),
        "j.asset = $3 ORDER BY j.position, j.profile"
    ))
    .bind(viewer.tenant)
    .bind(viewer.user)
    .bind(asset)
    .fetch_all(&mut **tx)
    .await
}
