//! Takes jobs from the queue, runs them, and tells the log what came of them.
//!
//! A result is one transaction: the job's token is checked, its facts are appended, the job is ended; those that end together may
//! share it. So however many workers believed that a job was theirs, the log hears of it once.

mod attempt;
pub mod command;
mod policy;
mod progress;
mod record;
mod result;
mod slots;

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use events::decide::asset::Rendered;
use events::store::Log;
use events::subscription::lag;
use metrics::{counter, gauge, histogram};
use service::retry::Backoff;
use service::shutdown::Shutdown;
use sqlx::PgPool;
use sqlx::postgres::PgListener;
use storage::Store;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;
use uuid::Uuid;

use crate::error::{JobError, Kind};
use crate::job::{Class, Job, Jobs, LEASE, NEWS, patiently};
use crate::metrics::{ATTEMPT_SECONDS, ATTEMPTS, CPU_SECONDS, SLOTS_BUSY};
use crate::objects::sweep;
use crate::run::Runner;
use crate::subscription::JobFold;
use attempt::Attempt;
use progress::Meter;
pub(crate) use record::transcoder;
pub use record::{Ending, Recorder};
use slots::Slots;

/// Idle slots look by themselves this often, should a notice be lost.
const POLL: Duration = Duration::from_secs(1);
/// The least time between two reports of a job's progress.
const REPORT: Duration = Duration::from_millis(250);

/// How often storage is rid of what is nobody's.
const SWEEP_EVERY: Duration = Duration::from_mins(10);
/// Hours that what has no name is spared, and the least: storing an output takes an hour at most, and being served its address a
/// while.
const SPARE_HOURS: u64 = 24;
const LEAST_SPARE_HOURS: u64 = 3;

/// How a worker works.
#[derive(Debug, Clone, Default, clap::Args)]
#[group(skip)]
pub struct Config {
    /// Jobs at once; by default half of the cores, but no more than one for each 1.5 GiB of memory.
    #[arg(long, env = "SLOTS")]
    pub slots: Option<NonZeroUsize>,
    /// Take jobs of this class only.
    #[arg(long, env = "CLASS", value_enum)]
    pub class: Option<Class>,
    /// End when every upload's jobs have ended.
    #[arg(long)]
    pub exit_when_idle: bool,
    /// Where jobs work: an existing folder of this machine's own with room for an original and its outputs per slot.
    #[arg(long, env = "SCRATCH")]
    pub scratch: Option<PathBuf>,
    /// Hours after which what lies in storage without a name is taken away: outputs of jobs that were killed or replaced,
    /// uploads that were given up or deleted; by default a day.
    #[arg(long, env = "SWEEP_AFTER_HOURS", value_parser = clap::value_parser!(u64).range(LEAST_SPARE_HOURS..))]
    pub sweep_after_hours: Option<u64>,
    /// Seconds that running jobs get to end when the worker is asked to; then they are given back.
    #[arg(long, env = "DRAIN_SECONDS", default_value_t = 20)]
    pub drain_seconds: u64,
}

impl Config {
    fn slots(&self) -> usize {
        self.slots.map_or_else(slots::by_machine, NonZeroUsize::get)
    }

    /// How long running jobs may take after the end was asked for.
    pub fn drain(&self) -> Duration {
        Duration::from_secs(self.drain_seconds)
    }
}

/// A worker and its slots.
#[derive(Debug)]
pub struct Worker {
    id: Uuid,
    slots: Slots,
    jobs: Jobs,
    log: Log,
    store: Store,
    runner: Runner,
    recorder: Recorder,
    config: Config,
}

/// A worker that silently has fewer slots is worse than one that is started again.
fn unbroken(ended: Result<(), JoinError>, shutdown: &Shutdown) {
    if let Err(error) = ended {
        tracing::error!(%error, "a slot broke");
        shutdown.fail(format_args!("a slot broke: {error}"));
    }
}

/// Why an attempt was ended from outside.
enum Stop {
    /// The job is not ours any more.
    Lost,
    /// We are asked to end, and the time for it is over.
    Drained,
}

impl Worker {
    /// A worker whose pool has the transcoder's role.
    pub fn new(pool: PgPool, log: Log, store: Store, runner: Runner, config: Config) -> Self {
        Self {
            id: Uuid::now_v7(),
            slots: Slots::new(config.slots()),
            jobs: Jobs::new(pool),
            log,
            store,
            runner,
            recorder: Recorder::default(),
            config,
        }
    }

    /// Works until `shutdown`, or until there is nothing left to do where that is asked for; then ends what runs, or
    /// gives it back.
    pub async fn run(self, shutdown: &Shutdown) {
        let worker = Arc::new(self);
        shutdown.spawn(worker.clone().attend(shutdown.clone()));
        shutdown.spawn(worker.clone().sweep(shutdown.clone()));
        let idle = async {
            if worker.config.exit_when_idle {
                worker.until_idle(shutdown).await;
                shutdown.cancel();
            }
        };
        tokio::join!(worker.clone().serve(shutdown), idle);
    }

    /// Lets the others know of our slots for as long as we take jobs.
    async fn attend(self: Arc<Self>, shutdown: Shutdown) {
        loop {
            self.tell_slots().await;
            if !shutdown.sleep(LEASE / 3).await {
                break;
            }
        }
        if let Err(error) = self.jobs.leave(self.id).await {
            tracing::debug!(%error, "the queue was not told that this worker ends");
        }
    }

    /// Takes away what lies in storage and is nobody's, now and then.
    async fn sweep(self: Arc<Self>, shutdown: Shutdown) {
        let hours = self.config.sweep_after_hours.unwrap_or(SPARE_HOURS);
        loop {
            let swept = sweep(self.jobs.pool(), &self.store, Duration::from_hours(hours));
            tokio::select! {
                () = shutdown.cancelled() => return,
                swept = swept => match swept {
                    Ok(0) => {}
                    Ok(objects) => tracing::info!(objects, "took away what was nobody's"),
                    Err(error) => tracing::warn!(%error, "the objects were not looked through"),
                }
            }
            if !shutdown.sleep(SWEEP_EVERY).await {
                return;
            }
        }
    }

    async fn tell_slots(&self) {
        let open = self.slots.open(Instant::now());
        if let Err(error) = self.jobs.present(self.id, open).await {
            tracing::warn!(%error, "the queue was not told of this worker's slots");
        }
    }

    /// Takes a job for each slot that is free, until the end; then waits for those that run. They are tasks of its own, which
    /// `shutdown` need not know.
    async fn serve(self: Arc<Self>, shutdown: &Shutdown) {
        let mut news = self.listen(shutdown);
        let mut running = JoinSet::new();
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
        while !shutdown.is_cancelled() {
            let free = self
                .slots
                .open(Instant::now())
                .saturating_sub(running.len());
            match self.claim(free).await {
                Ok(jobs) => {
                    backoff.reset();
                    for job in jobs {
                        running.spawn(self.clone().serve_one(job, shutdown.clone()));
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "the queue does not answer");
                    shutdown.sleep(backoff.next_wait()).await;
                    continue;
                }
            }
            tokio::select! {
                () = shutdown.cancelled() => {}
                Some(ended) = running.join_next() => unbroken(ended, shutdown),
                // Both a notice and its loss are a reason to look.
                _ = tokio::time::timeout(POLL, news.changed()) => {}
            }
            while let Some(ended) = running.try_join_next() {
                unbroken(ended, shutdown);
            }
        }
        while let Some(ended) = running.join_next().await {
            unbroken(ended, shutdown);
        }
    }

    async fn claim(&self, free: usize) -> sqlx::Result<Vec<Job>> {
        match free {
            0 => Ok(vec![]),
            free => self.jobs.claim(self.config.class, free).await,
        }
    }

    async fn serve_one(self: Arc<Self>, job: Job, shutdown: Shutdown) {
        let span = tracing::info_span!("job", job_id = %job.id, profile = job.profile, attempt = job.attempts);
        gauge!(SLOTS_BUSY).increment(1.0);
        self.work(&job, &shutdown).instrument(span).await;
        gauge!(SLOTS_BUSY).decrement(1.0);
    }

    /// One attempt, from claim to whatever becomes of it.
    async fn work(&self, job: &Job, shutdown: &Shutdown) {
        let start = Instant::now();
        let how = match self.begun(job).await {
            Some(how) => how,
            None => Box::pin(self.try_once(job, shutdown)).await,
        };
        tracing::info!(
            how,
            duration_ms = start.elapsed().as_millis(),
            "an attempt has ended"
        );
        counter!(ATTEMPTS, "profile" => job.profile.clone(), "how" => how).increment(1);
        histogram!(ATTEMPT_SECONDS, "profile" => job.profile.clone())
            .record(start.elapsed().as_secs_f64());
        histogram!(CPU_SECONDS, "profile" => job.profile.clone())
            .record(Duration::from_millis(job.spent.ms()).as_secs_f64());
    }

    /// What there is to say before any work: the log may know the job's end already, and a job that was begun too often
    /// is not begun again.
    async fn begun(&self, job: &Job) -> Option<&'static str> {
        match self.ended(job).await {
            Ok(None) if job.attempts > policy::MOST_ATTEMPTS => {
                let error = JobError::new(
                    Kind::Resource,
                    format!("its worker ended {} times", job.attempts - 1),
                );
                Some(self.give_up(job, &error).await)
            }
            Ok(None) => None,
            Ok(Some(end)) => Some(self.settle(job, end).await),
            Err(error) => Some(
                self.failed(job, &JobError::infra("read the asset's stream", error))
                    .await,
            ),
        }
    }

    async fn try_once(&self, job: &Job, shutdown: &Shutdown) -> &'static str {
        let cancel = CancellationToken::new();
        let (said, heard) = watch::channel(Meter::start(Instant::now()));
        let attempt = Attempt {
            job,
            pool: self.jobs.pool(),
            store: &self.store,
            runner: &self.runner,
            scratch: self.config.scratch.as_deref(),
            cancel: &cancel,
        };
        let mut making = pin!(attempt.make(said));
        let stop = tokio::select! {
            made = &mut making => return self.conclude(job, made).await,
            stop = self.keep(job, heard, shutdown) => stop,
        };
        cancel.cancel();
        // The child is dead and the scratch folder gone when this returns; what it made is nobody's.
        drop(making.await);
        match stop {
            Stop::Lost => "lost",
            Stop::Drained => {
                if let Err(error) = self.jobs.give_back(job, Duration::ZERO, false).await {
                    tracing::warn!(%error, "the job was not given back; its lease will run out");
                }
                "released"
            }
        }
    }

    /// Keeps the job ours and tells how far it is, until it is not ours or we have to end.
    async fn keep(
        &self,
        job: &Job,
        mut heard: watch::Receiver<Meter>,
        shutdown: &Shutdown,
    ) -> Stop {
        let mut beat = tokio::time::interval(LEASE / 3);
        let (mut ours_until, mut quiet_until) = (Instant::now() + LEASE, Instant::now());
        let mut drained = pin!(async {
            shutdown.cancelled().await;
            tokio::time::sleep(self.config.drain()).await;
        });
        loop {
            let news = async {
                tokio::time::sleep_until(quiet_until.into()).await;
                if heard.changed().await.is_err() {
                    // The rendering is over; storing has no progress of its own.
                    std::future::pending::<()>().await;
                }
            };
            tokio::select! {
                () = &mut drained => return Stop::Drained,
                _ = beat.tick() => match self.jobs.hold(job).await {
                    Ok(true) => ours_until = Instant::now() + LEASE,
                    Ok(false) => return Stop::Lost,
                    Err(error) => {
                        tracing::warn!(%error, "the job's lease was not renewed");
                        if Instant::now() > ours_until {
                            return Stop::Lost;
                        }
                    }
                },
                () = news => {
                    let meter = heard.borrow_and_update().clone();
                    let left = meter.left(Instant::now());
                    if let Err(error) = self.jobs.report(job, &meter.stage, meter.done, left).await {
                        tracing::debug!(%error, "progress was not told");
                    }
                    quiet_until = Instant::now() + REPORT;
                }
            }
        }
    }

    async fn conclude(&self, job: &Job, made: Result<Rendered, JobError>) -> &'static str {
        match made {
            Ok(rendered) => self.finish(job, rendered).await,
            Err(error) => self.failed(job, &error).await,
        }
    }

    /// Whether the queue is empty and knows all that the log asks for.
    async fn is_idle(&self) -> sqlx::Result<bool> {
        let lags = patiently(async { lag(&mut *self.jobs.pool().acquire().await?).await }).await?;
        let caught_up = lags
            .iter()
            .any(|lag| lag.subscription == JobFold::NAME && lag.lanes_behind == 0);
        Ok(caught_up && self.jobs.is_empty(self.config.class).await?)
    }

    async fn until_idle(&self, shutdown: &Shutdown) {
        loop {
            match self.is_idle().await {
                Ok(true) => return,
                Ok(false) => {}
                Err(error) => tracing::warn!(%error, "the queue does not answer"),
            }
            if !shutdown.sleep(POLL / 2).await {
                return;
            }
        }
    }

    /// Changes whenever there may be jobs to take.
    fn listen(&self, shutdown: &Shutdown) -> watch::Receiver<u64> {
        let (news, heard) = watch::channel(0);
        let (pool, end) = (self.jobs.pool().clone(), shutdown.clone());
        shutdown.spawn(async move {
            let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
            loop {
                let listening = async {
                    let mut listener = PgListener::connect_with(&pool).await?;
                    listener.listen(NEWS).await?;
                    loop {
                        listener.recv().await?;
                        news.send_modify(|count| *count += 1);
                    }
                };
                let lost: Result<(), sqlx::Error> = tokio::select! {
                    () = end.cancelled() => return,
                    lost = listening => lost,
                };
                if let Err(error) = lost {
                    tracing::warn!(%error, "not listening to the queue; polling until it answers");
                }
                end.sleep(backoff.next_wait()).await;
            }
        });
        heard
    }
}
