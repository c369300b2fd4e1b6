//! From facts to the queue: uploads and requests become jobs, and what the log says of their ends is final.
//!
//! The table is a cache of the log with leases in it. Dropped, it is folded again; a job that is taken before its end
//! has been folded again is found ended by the worker, which asks the asset's stream before it works.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use events::decide::asset::AssetState;
use events::envelope::Recorded;
use events::fact::Fact;
use events::fact::asset::MediaError;
use events::id::{AssetId, EventId, JobId, Position, StreamKey, TenantId, UserId};
use events::subscription::Subscriber;
use futures::FutureExt;
use futures::future::BoxFuture;
use serde_json::Value;
use sqlx::PgConnection;
use sqlx::types::Json;

use crate::job::{Class, End, NEWS};

/// The subscription that keeps the table of jobs.
#[derive(Debug, Clone, Copy)]
pub struct JobFold;

impl JobFold {
    /// Its name among the checkpoints.
    pub const NAME: &str = "jobs";
}

impl Subscriber for JobFold {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn handles(&self, fact: &Fact) -> bool {
        matches!(
            fact,
            Fact::UploadCompleted(_)
                | Fact::RenditionRequested(_)
                | Fact::RenditionCompleted(_)
                | Fact::RenditionFailed(_)
                | Fact::RenditionCancelled(_)
                | Fact::AssetDeleted(_)
        )
    }

    fn apply<'a>(
        &'a self,
        batch: &'a [Recorded],
        tx: &'a mut PgConnection,
    ) -> BoxFuture<'a, Result<(), sqlx::Error>> {
        async move {
            let changes = Changes::of(batch, &originals(tx, batch).await?);
            // Within a batch as in a lane: asked for before ended, and nothing is asked for after the asset's end.
            queue(tx, &changes.asked).await?;
            end(tx, &changes.ended).await?;
            cancel(tx, &changes.deleted).await?;
            // Last, because nobody claims from here to the commit.
            line_up(tx, &changes.asked).await
        }
        .boxed()
    }
}

/// Where an asset's bytes are, and whose.
#[derive(Debug, Clone, PartialEq)]
struct Original {
    owner: UserId,
    key: String,
    bytes: u64,
    sha256: String,
}

/// A job to be.
#[derive(Debug, Clone, PartialEq)]
struct Asked {
    tenant: TenantId,
    asset: AssetId,
    profile: String,
    /// The reprocessing run that asks, if one does.
    run: Option<String>,
    at: Position,
    on: DateTime<Utc>,
    original: Original,
}

impl Asked {
    fn class(&self) -> Class {
        match self.run {
            Some(_) => Class::Reprocess,
            None => Class::of(&self.profile),
        }
    }
}

/// How a job ended, why, and when that was recorded.
type Ended = (End, Option<MediaError>, DateTime<Utc>);

/// What a batch changes, each in the order in which rows are locked.
#[derive(Debug, Default)]
struct Changes {
    asked: BTreeMap<JobId, Asked>,
    ended: BTreeMap<JobId, Ended>,
    deleted: Vec<(TenantId, AssetId)>,
}

impl Changes {
    fn of(batch: &[Recorded], originals: &BTreeMap<(TenantId, AssetId), Original>) -> Self {
        let mut changes = Self::default();
        for recorded in batch {
            match &recorded.fact {
                Fact::UploadCompleted(completed) => {
                    let original = Original {
                        owner: completed.owner,
                        key: completed.storage_key.clone(),
                        bytes: completed.bytes,
                        sha256: completed.sha256.clone(),
                    };
                    for profile in &completed.profiles {
                        changes.ask(recorded, completed.asset, profile, None, &original);
                    }
                }
                Fact::RenditionRequested(wanted) => {
                    match originals.get(&(recorded.tenant, wanted.asset)) {
                        Some(original) => {
                            let run = wanted.run.as_deref();
                            changes.ask(recorded, wanted.asset, &wanted.profile, run, original);
                        }
                        None => {
                            tracing::error!(asset = %wanted.asset, "a rendition of an asset without an upload");
                        }
                    }
                }
                Fact::RenditionCompleted(completed) => {
                    changes
                        .ended
                        .insert(completed.job, (End::Done, None, recorded.recorded_at));
                }
                Fact::RenditionFailed(failed) if failed.name.is_none() => {
                    let error = Some(failed.error.clone());
                    changes
                        .ended
                        .insert(failed.job, (End::Failed, error, recorded.recorded_at));
                }
                Fact::RenditionCancelled(cancelled) => {
                    changes
                        .ended
                        .insert(cancelled.job, (End::Cancelled, None, recorded.recorded_at));
                }
                Fact::AssetDeleted(deleted) => {
                    changes.deleted.push((recorded.tenant, deleted.asset));
                }
                _ => {}
            }
        }
        changes.deleted.sort_unstable();
        changes
    }

    fn ask(
        &mut self,
        recorded: &Recorded,
        asset: AssetId,
        profile: &str,
        run: Option<&str>,
        original: &Original,
    ) {
        let event: EventId = recorded.event_id;
        let asked = Asked {
            tenant: recorded.tenant,
            asset,
            profile: profile.to_owned(),
            run: run.map(str::to_owned),
            at: recorded.position,
            on: recorded.recorded_at,
            original: original.clone(),
        };
        self.asked.insert(JobId::of(event, profile), asked);
    }
}

/// The originals of assets for which a rendition was requested later: from their streams, whose promise of an upload
/// never changes once it is kept.
async fn originals(
    tx: &mut PgConnection,
    batch: &[Recorded],
) -> sqlx::Result<BTreeMap<(TenantId, AssetId), Original>> {
    let wanted: BTreeMap<(TenantId, String), AssetId> = batch
        .iter()
        .filter_map(|recorded| match &recorded.fact {
            Fact::RenditionRequested(wanted) => {
                let stream = StreamKey::asset(wanted.asset).stream;
                Some(((recorded.tenant, stream), wanted.asset))
            }
            _ => None,
        })
        .collect();
    if wanted.is_empty() {
        return Ok(BTreeMap::new());
    }
    let (tenants, streams): (Vec<TenantId>, Vec<&str>) = wanted
        .keys()
        .map(|(tenant, stream)| (*tenant, stream.as_str()))
        .unzip();
    let rows: Vec<(TenantId, String, Value)> = sqlx::query_as(
        "SELECT s.tenant, s.stream_id, s.state FROM log.streams s
         JOIN unnest($1::uuid[], $2::text[]) AS u(tenant, stream_id) USING (tenant, stream_id)",
    )
    .bind(tenants)
    .bind(streams)
    .fetch_all(tx)
    .await?;
    let known = rows.into_iter().filter_map(|(tenant, stream, state)| {
        let state: AssetState = serde_json::from_value(state).ok()?;
        let (asset, promise) = (wanted.get(&(tenant, stream))?, state.promise?);
        let original = Original {
            owner: state.owner?,
            key: promise.storage_key,
            bytes: promise.bytes,
            sha256: promise.sha256,
        };
        Some(((tenant, *asset), original))
    });
    Ok(known.collect())
}

async fn queue(tx: &mut PgConnection, asked: &BTreeMap<JobId, Asked>) -> sqlx::Result<()> {
    if asked.is_empty() {
        return Ok(());
    }
    let jobs: Vec<&Asked> = asked.values().collect();
    let bytes = |asked: &&Asked| i64::try_from(asked.original.bytes).unwrap_or(i64::MAX);
    sqlx::query(
        "INSERT INTO jobs.jobs
             (job_id, tenant, asset, owner, profile, class, source_key, source_bytes, source_sha256, asked_at, asked_on,
              run, ready)
         SELECT *, true FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::text[], $6::smallint[],
             $7::text[], $8::bigint[], $9::text[], $10::bigint[], $11::timestamptz[], $12::text[])
         ON CONFLICT (job_id) DO NOTHING",
    )
    .bind(asked.keys().copied().collect::<Vec<_>>())
    .bind(jobs.iter().map(|job| job.tenant).collect::<Vec<_>>())
    .bind(jobs.iter().map(|job| job.asset).collect::<Vec<_>>())
    .bind(jobs.iter().map(|job| job.original.owner).collect::<Vec<_>>())
    .bind(jobs.iter().map(|job| job.profile.as_str()).collect::<Vec<_>>())
    .bind(jobs.iter().map(|job| job.class().number()).collect::<Vec<_>>())
    .bind(jobs.iter().map(|job| job.original.key.as_str()).collect::<Vec<_>>())
    .bind(jobs.iter().map(bytes).collect::<Vec<_>>())
    .bind(jobs.iter().map(|job| job.original.sha256.as_str()).collect::<Vec<_>>())
    .bind(jobs.iter().map(|job| job.at.0).collect::<Vec<_>>())
    .bind(jobs.iter().map(|job| job.on).collect::<Vec<_>>())
    .bind(jobs.iter().map(|job| job.run.as_deref()).collect::<Vec<_>>())
    .execute(tx)
    .await?;
    Ok(())
}

/// Gives the jobs' owners their places in line, and tells idle workers.
async fn line_up(tx: &mut PgConnection, asked: &BTreeMap<JobId, Asked>) -> sqlx::Result<()> {
    if asked.is_empty() {
        return Ok(());
    }
    // A statement of its own: the next one must see what claims did meanwhile.
    sqlx::query("SELECT jobs.lock_line()")
        .execute(&mut *tx)
        .await?;
    sqlx::query("SELECT jobs.line_up($1), pg_notify($2, '')")
        .bind(asked.keys().copied().collect::<Vec<_>>())
        .bind(NEWS)
        .execute(tx)
        .await?;
    Ok(())
}

/// Whatever the table believed: the log has the last word.
async fn end(tx: &mut PgConnection, ended: &BTreeMap<JobId, Ended>) -> sqlx::Result<()> {
    if ended.is_empty() {
        return Ok(());
    }
    let jobs: Vec<JobId> = ended.keys().copied().collect();
    sqlx::query(
        "UPDATE jobs.jobs j SET state = u.state, error = u.error, ended_on = u.ended_on, token = NULL, lease_until = NULL
         FROM unnest($1::uuid[], $2::text[], $3::jsonb[], $4::timestamptz[]) AS u(job_id, state, error, ended_on)
         WHERE j.job_id = u.job_id",
    )
    .bind(&jobs)
    .bind(
        ended
            .values()
            .map(|(end, ..)| end.name())
            .collect::<Vec<_>>(),
    )
    .bind(
        ended
            .values()
            .map(|(_, error, _)| error.as_ref().map(Json))
            .collect::<Vec<_>>(),
    )
    .bind(ended.values().map(|(.., on)| *on).collect::<Vec<_>>())
    .execute(&mut *tx)
    .await?;
    sqlx::query("DELETE FROM jobs.progress WHERE job_id = ANY ($1)")
        .bind(jobs)
        .execute(tx)
        .await?;
    Ok(())
}

async fn cancel(tx: &mut PgConnection, deleted: &[(TenantId, AssetId)]) -> sqlx::Result<()> {
    if deleted.is_empty() {
        return Ok(());
    }
    let (tenants, assets): (Vec<TenantId>, Vec<AssetId>) = deleted.iter().copied().unzip();
    sqlx::query(
        "WITH gone AS (
             UPDATE jobs.jobs j SET state = 'cancelled', token = NULL, lease_until = NULL
             FROM unnest($1::uuid[], $2::uuid[]) AS u(tenant, asset)
             WHERE j.tenant = u.tenant AND j.asset = u.asset AND j.state IN ('queued', 'running')
             RETURNING j.job_id)
         DELETE FROM jobs.progress p USING gone g WHERE p.job_id = g.job_id",
    )
    .bind(tenants)
    .bind(assets)
    .execute(tx)
    .await?;
    Ok(())
}
