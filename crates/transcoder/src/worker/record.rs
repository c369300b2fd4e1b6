//! Telling the log how a job ended.

use std::collections::{BTreeSet, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
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
use sqlx::{Postgres, Transaction};
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
pub struct Recorder {
    waiting: Mutex<Vec<(Ending, Answer)>>,
    turn: tokio::sync::Mutex<()>,
}

/// What became of an ending that others could take along: nothing where it is given back.
type Answer = oneshot::Sender<Option<Ending>>;

impl Recorder {
    /// Ends a job and appends what it wants to tell, together or not at all; false: it is not ours, or has ended.
    pub async fn record(
        &self,
        jobs: &Jobs,
        log: &Log,
        ending: Ending,
    ) -> Result<bool, ExecuteError> {
        let (answer, mut told) = oneshot::channel();
        self.waiting().push((ending, answer));
        // Those that end in the same moment come along.
        tokio::task::yield_now().await;
        let told = tokio::select! {
            biased;
            told = &mut told => told,
            _turn = self.turn.lock() => {
                // None is there where whoever had the turn before took it along.
                let waiting = mem::take(&mut *self.waiting());
                together(jobs, log, waiting).await;
                told.await
            }
        };
        match told {
            Ok(None) => Ok(true),
            Ok(Some(ending)) => alone(jobs, log, &ending).await,
            Err(_) => Err(ExecuteError::Unavailable(sqlx::Error::WorkerCrashed)),
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<(Ending, Answer)>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Records all in one transaction, or gives all back: one of them may not be ours, or others change its asset just now, and that
/// is not the others' fault.
async fn together(jobs: &Jobs, log: &Log, mut waiting: Vec<(Ending, Answer)>) {
    // In the order in which the fold ends jobs, and of an asset one: two would be in each other's way.
    waiting.sort_by_key(|(ending, _)| ending.job.id);
    let mut assets = HashSet::new();
    let (joint, rest): (Vec<_>, Vec<_>) = waiting
        .into_iter()
        .partition(|(ending, _)| assets.insert(ending.job.asset));
    let (endings, answers): (Vec<_>, Vec<_>) = joint.into_iter().unzip();
    let recorded = !endings.is_empty()
        && once(jobs, log, &endings).await.unwrap_or_else(|error| {
            tracing::debug!(%error, jobs = endings.len(), "ends were not recorded at once; each goes alone");
            false
        });
    let answered = endings
        .into_iter()
        .map(|ending| (!recorded).then_some(ending));
    let rest = rest
        .into_iter()
        .map(|(ending, answer)| (Some(ending), answer));
    for (given_back, answer) in answered.zip(answers).chain(rest) {
        // Whoever does not wait any more knows by its token.
        drop(answer.send(given_back));
    }
}

async fn once(jobs: &Jobs, log: &Log, endings: &[Ending]) -> Result<bool, ExecuteError> {
    match end(jobs, endings).await? {
        Some(tx) => append(log, tx, endings).await.map(|()| true),
        None => Ok(false),
    }
}

/// Ends one job, however busy others are.
async fn alone(jobs: &Jobs, log: &Log, ending: &Ending) -> Result<bool, ExecuteError> {
    let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(1));
    let ending = std::slice::from_ref(ending);
    for tries_left in (0..RECORD.tries).rev() {
        let Some(tx) = end(jobs, ending).await? else {
            return Ok(false);
        };
        match append(log, tx, ending).await {
            Ok(()) => return Ok(true),
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

/// The transaction in which these jobs have ended; none where one of them is not ours.
async fn end(
    jobs: &Jobs,
    endings: &[Ending],
) -> Result<Option<Transaction<'static, Postgres>>, ExecuteError> {
    let mut tx = jobs.begin().await?;
    for ending in endings {
        if !job::end(&mut tx, &ending.job, ending.end, ending.error.as_ref()).await? {
            return Ok(None);
        }
    }
    let keys = endings.iter().flat_map(|ending| &ending.keys);
    if !objects::confirm(&mut tx, &keys.map(String::as_str).collect()).await? {
        // An output was announced so long ago that it passed for nobody's: it is made again.
        return Err(ExecuteError::Contended);
    }
    Ok(Some(tx))
}

async fn append(
    log: &Log,
    tx: Transaction<'static, Postgres>,
    endings: &[Ending],
) -> Result<(), ExecuteError> {
    failpoint::hit("worker.before_append");
    let named = endings
        .iter()
        .map(|Ending { job, .. }| (command(job), StreamKey::asset(job.asset)));
    let named: Vec<_> = named.collect();
    let undecided = endings
        .iter()
        .zip(&named)
        .map(|(ending, (command, stream))| Undecided {
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
    appended.unwrap_or(Err(ExecuteError::Unavailable(sqlx::Error::PoolTimedOut)))
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
