//! Telling the log how a job ended.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use events::decide::asset::{
    AssetState, Outcome, Phase, Rendered, fail_job, finish_job, quarantine,
};
use events::decide::{Decision, Refusal};
use events::fact::asset::{MediaError, RenditionFailed};
use events::failpoint;
use events::id::{CommandId, StreamKey, UserId};
use events::store::{Command, Emit, ExecuteError, Log, LogError, Streams};
use service::retry::{Backoff, Retry};

use super::policy::RECORD;
use super::{Worker, policy, result};
use crate::error::{JobError, Kind};
use crate::job::{self, End, Job, Jobs, patiently};
use crate::objects;

/// Who the facts of jobs come from.
pub(crate) fn transcoder() -> UserId {
    UserId::of("cinelog", "transcoder")
}

impl Worker {
    /// The job's end, as far as the log knows it. A job that the log does not know has none of its own to wait for.
    pub(super) async fn ended(&self, job: &Job) -> Result<Option<End>, LogError> {
        let stream = StreamKey::asset(job.asset).stream;
        let row = patiently(self.log.stream(job.tenant, &stream)).await?;
        let state: AssetState = row.map(|row| row.state()).unwrap_or_default();
        let Some(known) = state.jobs.get(&job.id) else {
            return Ok(Some(End::Cancelled));
        };
        Ok(match known.outcome {
            Some(Outcome::Done) => Some(End::Done),
            Some(Outcome::Failed) => Some(End::Failed),
            None if state.phase == Phase::Uploaded => None,
            Some(Outcome::Cancelled) | None => Some(End::Cancelled),
        })
    }

    /// Makes the table say what the log says.
    pub(super) async fn settle(&self, job: &Job, end: End) -> &'static str {
        let settled = async {
            let mut connection = self.jobs.pool().acquire().await?;
            job::end(&mut connection, job, end, None).await
        };
        if let Err(error) = patiently(settled).await {
            tracing::warn!(%error, "the job was not settled; its lease will run out");
        }
        "lost"
    }

    /// Records the outputs of a job.
    pub(super) async fn finish(&self, job: &Job, rendered: Rendered) -> &'static str {
        let decide = |state: &AssetState| {
            // The first job to end says what the original is. The others saw the same bytes, and only say what more they measured.
            let probed = state
                .jobs
                .values()
                .any(|other| other.outcome == Some(Outcome::Done));
            let mut rendered = rendered.clone();
            rendered.media = rendered
                .media
                .filter(|media| !probed || media.loudness.is_some() || media.thumbhash.is_some());
            finish_job(state, job.asset, job.id, rendered)
        };
        let keys = rendered.made.iter().map(|made| made.storage_key.as_str());
        let ending = Ending {
            end: End::Done,
            error: None,
            keys: keys.collect(),
        };
        match record(&self.jobs, &self.log, job, ending, decide).await {
            Ok(true) => "done",
            Ok(false) => "lost",
            Err(error) => {
                self.failed(job, &JobError::infra("record the outputs", error))
                    .await
            }
        }
    }

    /// Tries a failed job again later, or records that it failed.
    pub(super) async fn failed(&self, job: &Job, error: &JobError) -> &'static str {
        tracing::warn!(%error, "the job failed");
        let wait = match error.kind {
            Kind::Cancelled => Some(Duration::ZERO),
            Kind::Died => policy::wait_after(Kind::Died, self.deaths(job).await),
            kind => policy::wait_after(kind, job.attempts),
        };
        if error.kind == Kind::Resource {
            self.slots.lower(Instant::now());
            self.tell_slots().await;
        }
        match wait {
            None if error.kind == Kind::Died => self.end_badly(job, error, quarantine).await,
            None => self.give_up(job, error).await,
            Some(wait) => {
                if let Err(error) = self.jobs.give_back(job, wait, true).await {
                    tracing::warn!(%error, "the job was not queued again; its lease will run out");
                }
                "again"
            }
        }
    }

    /// How often children died of the job's asset, now once more.
    async fn deaths(&self, job: &Job) -> i32 {
        match self.jobs.died(job).await {
            Ok(deaths) => deaths.map_or(1, |deaths| i32::try_from(deaths).unwrap_or(i32::MAX)),
            Err(error) => {
                tracing::warn!(%error, "a death was not noted");
                1
            }
        }
    }

    /// Records that a job failed for good.
    pub(super) async fn give_up(&self, job: &Job, error: &JobError) -> &'static str {
        self.end_badly(job, error, fail_job).await
    }

    async fn end_badly(
        &self,
        job: &Job,
        error: &JobError,
        decide: fn(&AssetState, RenditionFailed) -> Decision,
    ) -> &'static str {
        let mut told = result::media_error(error);
        // It may have been once.
        told.retryable &= error.kind != Kind::Died;
        let failed = RenditionFailed {
            asset: job.asset,
            job: job.id,
            profile: job.profile.clone(),
            name: None,
            error: told.clone(),
            cpu_ms: Some(job.cpu_total_ms()),
        };
        let decide = |state: &AssetState| decide(state, failed.clone());
        let ending = Ending {
            end: End::Failed,
            error: Some(&told),
            keys: BTreeSet::new(),
        };
        match record(&self.jobs, &self.log, job, ending, decide).await {
            Ok(true) => "failed",
            Ok(false) => "lost",
            Err(error) => {
                tracing::error!(%error, "the job's failure was not recorded; its lease will run out");
                "again"
            }
        }
    }
}

/// How a job ends.
#[derive(Debug)]
pub struct Ending<'a> {
    /// Well or badly.
    pub end: End,
    /// Why badly.
    pub error: Option<&'a MediaError>,
    /// Where its outputs lie.
    pub keys: BTreeSet<&'a str>,
}

/// Ends the job and appends what `decide` wants, together or not at all; false: the job is not ours, or has ended.
pub async fn record(
    jobs: &Jobs,
    log: &Log,
    job: &Job,
    ending: Ending<'_>,
    decide: impl Fn(&AssetState) -> Decision + Send + Sync,
) -> Result<bool, ExecuteError> {
    let (stream, command) = (StreamKey::asset(job.asset), command(job));
    let decide = |streams: &Streams| match decide(&streams.get(&stream))? {
        // Refused, so that the table is not changed either: the fold will say how it ended.
        facts if facts.is_empty() => Err(Refusal::WrongState("the job has ended")),
        facts => Ok(Emit::all(&stream, facts)),
    };
    let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(1));
    for tries_left in (0..RECORD.tries).rev() {
        let mut tx = jobs.begin().await?;
        if !job::end(&mut tx, job, ending.end, ending.error).await? {
            return Ok(false);
        }
        if !objects::confirm(&mut tx, &ending.keys).await? {
            // An output was announced so long ago that it passed for nobody's: it is made again.
            return Err(ExecuteError::Contended);
        }
        failpoint::hit("worker.before_append");
        let append = log.append_in(tx, &command, std::slice::from_ref(&stream), decide);
        let appended = tokio::time::timeout(RECORD.limit, append)
            .await
            .unwrap_or(Err(ExecuteError::Unavailable(sqlx::Error::PoolTimedOut)));
        failpoint::hit("worker.after_append");
        match appended {
            Ok(_) => return Ok(true),
            Err(ExecuteError::Refused(refusal)) => {
                tracing::info!(%refusal, "the log refuses the job's end");
                return Ok(false);
            }
            // After a lost COMMIT the token tells whether it took effect.
            Err(error) if error.retry() == Retry::Later && tries_left > 0 => {
                tokio::time::sleep(backoff.next_wait()).await;
            }
            Err(error) => return Err(error),
        }
    }
    Err(ExecuteError::Contended)
}

/// The command that ends a job: whoever ends it, in whatever way, it is accepted once.
fn command(job: &Job) -> Command {
    Command {
        id: CommandId {
            tenant: job.tenant,
            actor: transcoder(),
            route: "transcoder".to_owned(),
            key: job.id.to_string(),
        },
        body_hash: [0; 32],
        correlation: None,
        cause: None,
    }
}
