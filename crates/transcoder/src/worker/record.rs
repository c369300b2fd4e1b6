//! Telling the log how a job ended.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use std::{fmt, mem};

use events::decide::asset::{
    AssetState, Outcome, Phase, Rendered, fail_job, finish_job, quarantine,
};
use events::decide::{Decision, Refusal};
use events::fact::asset::{MediaError, RenditionFailed};
use events::failpoint;
use events::id::{CommandId, StreamKey, UserId};
use events::store::{Command, Emit, ExecuteError, Log, LogError, Streams, Undecided};
use service::retry::{Backoff, Retry};
use tokio::sync::oneshot;

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
        let keys = rendered.made.iter().map(|made| made.storage_key.clone());
        let keys = keys.collect();
        let (asset, id) = (job.asset, job.id);
        let decide = move |state: &AssetState| {
            // The first job to end says what the original is. The others saw the same bytes, and only say what more they measured.
            let probed = state
                .jobs
                .values()
                .any(|other| other.outcome == Some(Outcome::Done));
            let mut rendered = rendered.clone();
            rendered.media = rendered
                .media
                .filter(|media| !probed || media.loudness.is_some() || media.thumbhash.is_some());
            finish_job(state, asset, id, rendered)
        };
        let ending = Ending {
            job: job.clone(),
            end: End::Done,
            error: None,
            keys,
            decide: Box::new(decide),
        };
        match self.recorder.record(&self.jobs, &self.log, ending).await {
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
        let ending = Ending {
            job: job.clone(),
            end: End::Failed,
            error: Some(told),
            keys: BTreeSet::new(),
            decide: Box::new(move |state: &AssetState| decide(state, failed.clone())),
        };
        match self.recorder.record(&self.jobs, &self.log, ending).await {
            Ok(true) => "failed",
            Ok(false) => "lost",
            Err(error) => {
                tracing::error!(%error, "the job's failure was not recorded; its lease will run out");
                "again"
            }
        }
    }
}

/// How a job ends, and what the log is told of it.
pub struct Ending {
    /// The job.
    pub job: Job,
    /// Well or badly.
    pub end: End,
    /// Why badly.
    pub error: Option<MediaError>,
    /// Where its outputs lie.
    pub keys: BTreeSet<String>,
    /// Its facts.
    pub decide: Box<dyn Fn(&AssetState) -> Decision + Send + Sync>,
}

impl fmt::Debug for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut told = f.debug_struct("Ending");
        told.field("job", &self.job.id).field("end", &self.end);
        told.finish_non_exhaustive()
    }
}

/// Records endings: those that come while others are being recorded go together, in one transaction.
#[derive(Debug, Default)]
pub(super) struct Recorder {
    waiting: Mutex<Vec<(Ending, Answer)>>,
    turn: tokio::sync::Mutex<()>,
}

type Recorded = Result<bool, ExecuteError>;
type Answer = oneshot::Sender<Recorded>;

impl Recorder {
    /// See [`record`].
    async fn record(&self, jobs: &Jobs, log: &Log, ending: Ending) -> Recorded {
        let (answer, told) = oneshot::channel();
        let waiting = || self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting().push((ending, answer));
        let turn = self.turn.lock().await;
        // None, where whoever had the turn before took ours along.
        let (endings, answers): (Vec<_>, Vec<_>) = mem::take(&mut *waiting()).into_iter().unzip();
        for (answer, recorded) in answers.into_iter().zip(record(jobs, log, &endings).await) {
            // Whoever does not wait any more knows by its token.
            drop(answer.send(recorded));
        }
        drop(turn);
        told.await
            .unwrap_or(Err(ExecuteError::Unavailable(sqlx::Error::WorkerCrashed)))
    }
}

/// Ends jobs and appends what they want to tell, together or not at all; of each, false: it is not ours, or has ended.
pub async fn record(jobs: &Jobs, log: &Log, endings: &[Ending]) -> Vec<Recorded> {
    if endings.len() > 1 && matches!(attempt(jobs, log, endings).await, Ok(true)) {
        return endings.iter().map(|_| Ok(true)).collect();
    }
    // One of them is not ours, or its asset is another's just now: that is not the others' fault.
    let mut recorded = vec![];
    for ending in endings {
        recorded.push(persistently(jobs, log, ending).await);
    }
    recorded
}

/// Ends one job, however busy others are.
async fn persistently(jobs: &Jobs, log: &Log, ending: &Ending) -> Recorded {
    let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(1));
    for tries_left in (0..RECORD.tries).rev() {
        match attempt(jobs, log, std::slice::from_ref(ending)).await {
            Err(ExecuteError::Refused(refusal)) => {
                tracing::info!(%refusal, "the log refuses the job's end");
                return Ok(false);
            }
            // After a lost COMMIT the token tells whether it took effect.
            Err(error) if error.retry() == Retry::Later && tries_left > 0 => {
                tokio::time::sleep(backoff.next_wait()).await;
            }
            recorded => return recorded,
        }
    }
    Err(ExecuteError::Contended)
}

/// One transaction for all: false, and nothing has changed, where one of them is not ours.
async fn attempt(jobs: &Jobs, log: &Log, endings: &[Ending]) -> Recorded {
    let mut tx = jobs.begin().await?;
    for ending in endings {
        if !job::end(&mut tx, &ending.job, ending.end, ending.error.as_ref()).await? {
            return Ok(false);
        }
    }
    let keys = endings.iter().flat_map(|ending| &ending.keys);
    if !objects::confirm(&mut tx, &keys.map(String::as_str).collect()).await? {
        // An output was announced so long ago that it passed for nobody's: it is made again.
        return Err(ExecuteError::Contended);
    }
    failpoint::hit("worker.before_append");
    let commands: Vec<_> = endings.iter().map(|ending| command(&ending.job)).collect();
    let streams: Vec<_> = endings
        .iter()
        .map(|ending| StreamKey::asset(ending.job.asset))
        .collect();
    let undecided = endings.iter().zip(&commands).zip(&streams);
    let undecided = undecided.map(|((ending, command), stream)| Undecided {
        command,
        streams: std::slice::from_ref(stream),
        decide: move |streams: &Streams| match (ending.decide)(&streams.get(stream))? {
            // Refused, so that the table is not changed either: the fold will say how it ended.
            facts if facts.is_empty() => Err(Refusal::WrongState("the job has ended")),
            facts => Ok(Emit::all(stream, facts)),
        },
    });
    let append = log.append_in(tx, undecided.collect());
    let appended = tokio::time::timeout(RECORD.limit, append).await;
    failpoint::hit("worker.after_append");
    appended
        .unwrap_or(Err(ExecuteError::Unavailable(sqlx::Error::PoolTimedOut)))
        .map(|()| true)
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
