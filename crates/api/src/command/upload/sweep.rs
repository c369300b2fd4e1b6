//! Looks after uploads whose clients do not: completes what has come, ends what has not, and takes away what nobody awaits any more.

use std::sync::Arc;
use std::time::Duration;

use accounts::Upload as Open;
use chrono::{DateTime, Utc};
use events::decide;
use events::decide::asset::{AssetState, Phase, Promise};
use events::fact::Fact;
use events::id::{AssetId, CommandId, StreamKey, TenantId, UserId};
use events::store::{Command, Emit, Streams};
use projectors::page::Viewer;
use projectors::usage::query as usage;
use service::db::TenantTx;
use tokio::sync::Semaphore;

use super::complete::completion;
use super::stored_at;
use crate::limit::SLOWEST_READ;
use crate::problem::{Kind, Problem};
use crate::state::ApiState;

/// How often to see what is to be looked at, besides when somebody says that there is something.
const EVERY: Duration = Duration::from_secs(10);
/// Looked at at a time: some may have to be read through.
const AT_ONCE: usize = 4;
/// How long after its end what was begun before it may still come in.
const LATE: chrono::Duration = chrono::Duration::hours(1);

/// What became of an upload.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    /// It is still awaited, or not yet counted.
    Open,
    /// Nothing is left to do about it.
    Over,
}

/// Sweeps until shutdown. Several processes may: each upload is one's at a time, and doing it twice is doing it once.
pub(crate) async fn keep_sweeping(state: ApiState) {
    let places = Arc::new(Semaphore::new(AT_ONCE));
    loop {
        let place = tokio::select! {
            () = state.shutdown.cancelled() => return,
            place = Arc::clone(&places).acquire_owned() => place,
        };
        let now = state.clock.now();
        match state.accounts.to_look_at(SLOWEST_READ, now).await {
            Ok(Some(open)) => {
                let looking = state.clone();
                state.shutdown.spawn(async move {
                    sweep(&looking, &open, now).await;
                    drop(place);
                });
                continue;
            }
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "uploads could not be looked at"),
        }
        tokio::select! {
            () = state.shutdown.cancelled() => return,
            () = state.to_sweep.notified() => {}
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}

async fn sweep(state: &ApiState, open: &Open, now: DateTime<Utc>) {
    let looked = match look(state, open, now).await {
        Ok(Fate::Over) => state
            .accounts
            .upload_over(open.tenant, open.asset)
            .await
            .map_err(Problem::from),
        Ok(Fate::Open) => Ok(()),
        Err(problem) => Err(problem),
    };
    if let Err(problem) = looked {
        // It is looked at again.
        tracing::warn!(asset = %open.asset, ?problem, "an upload was not swept");
    }
}

async fn look(state: &ApiState, open: &Open, now: DateTime<Utc>) -> Result<Fate, Problem> {
    let (tenant, asset) = (TenantId(open.tenant), AssetId(open.asset));
    let row = state
        .log
        .stream(tenant, &StreamKey::asset(asset).stream)
        .await?;
    let upload: AssetState = row.map(|row| row.state()).unwrap_or_default();
    match (upload.phase, &upload.promise) {
        (Phase::Requested, Some(promise)) => {
            let etag = match come(state, (tenant, asset), promise).await {
                // Somebody else looks just now, or others are looked at.
                Err(problem) if problem.is(Kind::Contended) || problem.is(Kind::Overloaded) => {
                    return Ok(Fate::Open);
                }
                // Storage that does not answer must not hold what is long over.
                Err(problem) if promise.expires_at + LATE < now => {
                    tracing::warn!(%asset, ?problem, "whether an upload has come is not known");
                    None
                }
                etag => etag?,
            };
            if let Some(etag) = etag {
                let mut completed = completion(asset, UserId(open.owner), promise);
                completed.etag = etag;
                // Late is late only for who does not come at all.
                let then = now.min(promise.expires_at);
                let decide = |upload: &AssetState| {
                    decide::asset::complete_upload(upload, completed.clone(), then)
                };
                state.record(open, "complete", decide).await?;
            } else if promise.expires_at < now {
                let decide = |upload: &AssetState| decide::asset::expire_upload(upload, asset, now);
                state.record(open, "expire", decide).await?;
                state.accounts.free_upload(open.tenant, open.asset).await?;
            }
            Ok(Fate::Open)
        }
        (Phase::Uploaded, _) => {
            let counted = is_counted(state, open).await?;
            Ok(if counted { Fate::Over } else { Fate::Open })
        }
        // Of an asset that was deleted before it had come, nothing is ever counted.
        (Phase::Gone | Phase::Deleted, _) => {
            take_away(state, open).await?;
            // Into parts that are given up nothing comes any more, and by other signatures not after their end.
            if open.bytes > 0 && (open.part_bytes.is_some() || open.expires_at < now) {
                state.accounts.free_upload(open.tenant, open.asset).await?;
            }
            // A folder takes nothing of what has ended.
            let over = state.store.folder().is_some() || open.expires_at + LATE < now;
            Ok(if over { Fate::Over } else { Fate::Open })
        }
        _ => Ok(Fate::Over),
    }
}

/// Whether the read model of usage knows the asset.
async fn is_counted(state: &ApiState, open: &Open) -> Result<bool, Problem> {
    let viewer = Viewer {
        tenant: TenantId(open.tenant),
        user: UserId(open.owner),
    };
    let mut tx = TenantTx::begin(&state.pool, open.tenant, open.owner).await?;
    Ok(usage::knows(&mut tx, viewer, open.asset).await?)
}

/// The entity tag of what has come, if all of it has and is what was promised.
async fn come(
    state: &ApiState,
    (tenant, asset): (TenantId, AssetId),
    promise: &Promise,
) -> Result<Option<Option<String>>, Problem> {
    match state.verify(tenant, asset, promise).await {
        Ok(etag) => Ok(Some(etag)),
        // Not yet, or not this: whoever uploads is told when they ask.
        Err(problem)
            if [
                Kind::UploadMissing,
                Kind::UploadSizeDiffers,
                Kind::UploadChecksumDiffers,
            ]
            .iter()
            .any(|kind| problem.is(*kind)) =>
        {
            Ok(None)
        }
        Err(problem) => Err(problem),
    }
}

/// Takes away what came of an upload that has ended.
async fn take_away(state: &ApiState, open: &Open) -> Result<(), Problem> {
    let key = stored_at(TenantId(open.tenant), AssetId(open.asset));
    if let Some(upload) = &open.upload {
        state.store.give_up_parts(&key, upload).await?;
    }
    Ok(state.store.delete(&key).await?)
}

impl ApiState {
    /// Records what became of an upload, on its owner's behalf.
    async fn record(
        &self,
        open: &Open,
        what: &str,
        mut decide: impl FnMut(&AssetState) -> Result<Vec<Fact>, decide::Refusal> + Send,
    ) -> Result<(), Problem> {
        let key = StreamKey::asset(AssetId(open.asset));
        let command = Command {
            id: CommandId {
                tenant: TenantId(open.tenant),
                actor: UserId(open.owner),
                route: format!("sweep {what}"),
                key: open.asset.to_string(),
            },
            body_hash: self.bodies.sign(&[b"sweep", open.asset.as_bytes()]),
            correlation: None,
            cause: None,
        };
        let decide = |streams: &Streams| Ok(Emit::all(&key, decide(&streams.get(&key))?));
        self.log
            .execute(&command, std::slice::from_ref(&key), decide)
            .await?;
        Ok(())
    }
}
