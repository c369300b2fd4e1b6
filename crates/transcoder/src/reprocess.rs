//! `cinelog-transcoder reprocess`: asks again for renditions that were made before, a few at a time.
//!
//! A run has a name, which its facts carry: what a run has asked for it does not ask for again, so an interrupted one is
//! resumed by the same command. Its jobs come after all others, until they have waited long.

use std::io::IsTerminal;
use std::num::NonZeroU32;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use events::decide::asset::reprocess;
use events::id::{AssetId, CommandId, JobId, StreamKey, TenantId};
use events::store::{Command, Emit, ExecuteError, Keys, KeysConfig, Log, Streams};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use service::db::{self, Role};
use service::shutdown::Shutdown;
use service::telemetry;
use sqlx::PgPool;
use uuid::Uuid;

use crate::cli::say;
use crate::error::{JobError, Kind};
use crate::profile::Profile;
use crate::worker::transcoder;

/// Assets looked up at once.
const PAGE: i64 = 200;
/// How often it looks whether there is room again.
const POLL: Duration = Duration::from_secs(1);
/// How long the last tasks may take to end.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Options of `reprocess`.
#[derive(Debug, Clone, Args)]
pub struct ReprocessArgs {
    /// What to ask for.
    #[command(flatten)]
    pub wanted: Wanted,
    /// Postgres.
    #[command(flatten)]
    pub database: db::Config,
    /// The master key.
    #[command(flatten)]
    pub keys: KeysConfig,
    /// Logs.
    #[command(flatten)]
    pub telemetry: telemetry::Config,
}

/// What a run asks for.
#[derive(Debug, Clone, Args)]
#[group(skip)]
pub struct Wanted {
    /// The asset; by default all that have the profile.
    #[arg(required_unless_present = "profile")]
    pub asset: Option<AssetId>,
    /// Make this again, e.g. `proxy720@1`; by default all that was made of the asset.
    #[arg(long)]
    pub profile: Option<String>,
    /// Make this instead, e.g. a newer version of the profile.
    #[arg(long = "as", value_name = "PROFILE", requires = "profile")]
    pub instead: Option<Profile>,
    /// The run's name. A run asks for each rendition once, however often it is begun; another name asks anew.
    #[arg(long, default_value = "1")]
    pub run: String,
    /// How many of the run's jobs may wait for a worker at once.
    #[arg(long, default_value = "100")]
    pub waiting: NonZeroU32,
}

/// What a run came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Asked {
    /// Renditions that were asked for.
    pub asked: u64,
    /// Those that could not be: the asset is deleted or quarantined, or a job is at it already.
    pub skipped: u64,
}

/// Runs it until all is asked for, or until a signal.
pub fn main(args: ReprocessArgs) -> Result<(), JobError> {
    telemetry::init_logs(&args.telemetry);
    let asked = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("start threads")
        .and_then(|runtime| runtime.block_on(run(args)));
    let asked = asked.map_err(|error| match error.downcast::<JobError>() {
        Ok(error) => error,
        Err(error) => JobError::infra("reprocess", format_args!("{error:#}")),
    })?;
    let Asked { asked, skipped } = asked;
    say(&format!(
        "renditions asked for: {asked}; skipped: {skipped}\n"
    ))
}

async fn run(args: ReprocessArgs) -> anyhow::Result<Asked> {
    let shutdown = Shutdown::new();
    shutdown.on_signal()?;
    let connections = args.database.connections(Role::Transcoder);
    let url = args.database.database_url;
    let url = url.ok_or_else(|| JobError::usage("set DATABASE_URL"))?;
    let pool = db::connect(&url, Role::Transcoder, connections)
        .await
        .context("connect to Postgres")?;
    let keys = Keys::new(args.keys.read()?);
    let log = Log::open(pool.clone(), keys, &shutdown)
        .await
        .context("open the log")?;
    let asked = ask(&pool, &log, args.wanted, &shutdown).await;
    drop(log);
    shutdown.finish(LAST_WORDS).await;
    asked
}

/// Asks for all that is wanted, as room allows.
pub async fn ask(
    pool: &PgPool,
    log: &Log,
    wanted: Wanted,
    shutdown: &Shutdown,
) -> anyhow::Result<Asked> {
    if let (Some(profile), None) = (&wanted.profile, wanted.instead) {
        profile.parse::<Profile>().map_err(JobError::usage)?;
    }
    let mut run = Run {
        pool,
        log,
        bar: bar(),
        room: 0,
        unseen: vec![],
        asked: Asked::default(),
        wanted,
    };
    run.bar.set_length(run.count().await?);
    run.all(shutdown).await?;
    run.bar.finish_and_clear();
    Ok(run.asked)
}

/// One rendition to ask for.
#[derive(Debug, Clone, sqlx::FromRow)]
struct Candidate {
    tenant: TenantId,
    asset: AssetId,
    profile: String,
}

struct Run<'a> {
    pool: &'a PgPool,
    log: &'a Log,
    wanted: Wanted,
    bar: ProgressBar,
    /// How many more may be asked for before it is counted again what waits.
    room: u64,
    /// Jobs that the queue may not know yet.
    unseen: Vec<JobId>,
    asked: Asked,
}

impl Run<'_> {
    async fn all(&mut self, shutdown: &Shutdown) -> anyhow::Result<()> {
        // Nothing has the least id of all. One asset has fewer profiles than a page has lines.
        let mut after = (TenantId(Uuid::nil()), AssetId(Uuid::nil()));
        loop {
            let page = self.page(after).await?;
            let Some(last) = page.last() else {
                return Ok(());
            };
            after = (last.tenant, last.asset);
            for next in &page {
                self.wait_for_room(shutdown).await?;
                self.ask(next).await?;
                self.bar.inc(1);
            }
        }
    }

    /// Waits until one more job of the run may wait; an error once the end is asked for.
    async fn wait_for_room(&mut self, shutdown: &Shutdown) -> anyhow::Result<()> {
        while self.room == 0 {
            self.room = self.count_room().await?;
            let (asked, of) = (self.asked.asked, self.bar.length());
            tracing::info!(asked, of, room = self.room, "reprocessing");
            if self.room == 0 && !shutdown.sleep(POLL).await {
                break;
            }
        }
        if !shutdown.is_cancelled() {
            return Ok(());
        }
        let asked = self.asked.asked;
        let told = format!("stopped after {asked} renditions; the same command goes on from here");
        Err(JobError::new(Kind::Cancelled, told).into())
    }

    async fn ask(&mut self, candidate: &Candidate) -> anyhow::Result<()> {
        let Candidate {
            tenant,
            asset,
            profile,
        } = candidate;
        let run = &self.wanted.run;
        let command = Command {
            id: CommandId {
                tenant: *tenant,
                actor: transcoder(),
                route: "reprocess".to_owned(),
                key: format!("{asset} {profile} {run}"),
            },
            body_hash: [0; 32],
            correlation: None,
            cause: None,
        };
        let stream = StreamKey::asset(*asset);
        let decide = |streams: &Streams| {
            let facts = reprocess(&streams.get(&stream), *asset, profile, run)?;
            Ok(Emit::all(&stream, facts))
        };
        let streams = std::slice::from_ref(&stream);
        let accepted = match self.log.execute(&command, streams, decide).await {
            Ok(accepted) => accepted,
            Err(ExecuteError::Refused(refusal)) => {
                tracing::info!(%asset, %refusal, "skipped");
                self.asked.skipped += 1;
                return Ok(());
            }
            Err(error) => return Err(error).context("ask for a rendition"),
        };
        match accepted.last() {
            Some(fact) if !accepted.repeated => {
                self.unseen.push(JobId::of(fact.event_id, profile));
                self.asked.asked += 1;
                self.room -= 1;
            }
            _ => self.asked.skipped += 1,
        }
        Ok(())
    }

    /// How many there are to ask for.
    async fn count(&self) -> anyhow::Result<u64> {
        let count: i64 = sqlx::query_scalar(
            "SELECT count(DISTINCT (j.tenant, j.asset, j.profile)) FROM jobs.jobs j
             WHERE ($1::uuid IS NULL OR j.asset = $1) AND ($2::text IS NULL OR j.profile = $2)
                 AND (j.state = 'done' OR (j.state = 'failed' AND $1 IS NOT NULL))
                 AND NOT EXISTS (
                     SELECT FROM jobs.jobs r
                     WHERE r.tenant = j.tenant AND r.asset = j.asset AND r.profile = COALESCE($3, j.profile) AND r.run = $4)",
        )
        .bind(self.wanted.asset)
        .bind(&self.wanted.profile)
        .bind(self.wanted.instead.map(Profile::name))
        .bind(&self.wanted.run)
        .fetch_one(self.pool)
        .await
        .context("count what there is to ask for")?;
        Ok(count.unsigned_abs())
    }

    /// The next of them, by asset: with what was made of each, or what shall be made instead.
    async fn page(&self, (tenant, asset): (TenantId, AssetId)) -> anyhow::Result<Vec<Candidate>> {
        sqlx::query_as(
            "SELECT j.tenant, j.asset, COALESCE($3, j.profile) AS profile FROM jobs.jobs j
             WHERE ($1::uuid IS NULL OR j.asset = $1) AND ($2::text IS NULL OR j.profile = $2)
                 AND (j.state = 'done' OR (j.state = 'failed' AND $1 IS NOT NULL))
                 AND NOT EXISTS (
                     SELECT FROM jobs.jobs r
                     WHERE r.tenant = j.tenant AND r.asset = j.asset AND r.profile = COALESCE($3, j.profile) AND r.run = $4)
                 AND (j.tenant, j.asset) > ($5, $6)
             GROUP BY 1, 2, 3 ORDER BY 1, 2, 3 LIMIT $7",
        )
        .bind(self.wanted.asset)
        .bind(&self.wanted.profile)
        .bind(self.wanted.instead.map(Profile::name))
        .bind(&self.wanted.run)
        .bind(tenant)
        .bind(asset)
        .bind(PAGE)
        .fetch_all(self.pool)
        .await
        .context("look up what there is to ask for")
    }

    /// How many of the run's jobs may come to those that wait, in the queue or on their way to it.
    async fn count_room(&mut self) -> anyhow::Result<u64> {
        let (waiting, unseen): (i64, i64) = sqlx::query_as(
            "SELECT (SELECT count(*) FROM jobs.jobs WHERE state = 'queued' AND run = $1),
                    (SELECT count(*) FROM unnest($2::uuid[]) u(job)
                     WHERE NOT EXISTS (SELECT FROM jobs.jobs j WHERE j.job_id = u.job))",
        )
        .bind(&self.wanted.run)
        .bind(&self.unseen)
        .fetch_one(self.pool)
        .await
        .context("count what waits")?;
        if unseen == 0 {
            self.unseen.clear();
        }
        let most = u64::from(self.wanted.waiting.get());
        Ok(most.saturating_sub((waiting + unseen).unsigned_abs()))
    }
}

/// A bar on a terminal; elsewhere there are only log lines.
fn bar() -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
    }
    let style = ProgressStyle::with_template("{bar:40} {pos} of {len}  {eta}").ok();
    let bar = ProgressBar::new(0);
    match style {
        Some(style) => bar.with_style(style),
        None => bar,
    }
}
