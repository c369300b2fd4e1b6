//! `cinelog bench`.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::ensure;
use events::id::{Position, TenantId};
use events::store::{KeysConfig, Log, LogError};
use indicatif::ProgressBar;
use service::db::Role;
use service::shutdown::Shutdown;

use super::token::default_tenant;
use crate::bench::{self, Follows, History, Progress, Size};
use crate::data::DataFolder;
use crate::out::{bar_to_end, say};
use crate::stack::{self, ArchiveAt, BucketKeys, Database};

/// Makes what is needed to measure Cinelog; the benches themselves are `make bench`.
#[derive(clap::Args)]
pub struct Bench {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    /// Append a made-up history: people, follows, posts, comments, reactions.
    Seed(Box<Seed>),
}

impl Bench {
    pub(super) async fn run(self, shutdown: &Shutdown) -> anyhow::Result<()> {
        match self.what {
            What::Seed(seed) => Box::pin(seed.run(shutdown)).await,
        }
    }
}

/// Appends a made-up history to the log, as users' commands are appended: people who register and follow each other, posts in
/// five languages with hashtags, in bursts, comments and reactions, and what is edited and taken back.
///
/// The same options make the same history. Stopped or killed, the same command goes on where it was; run again when all is there,
/// it appends nothing. What is in a log stays there: a log that holds facts of others is refused.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
struct Seed {
    /// People.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    users: u32,
    /// Posts; about six facts come with each.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(0..=100_000_000))]
    posts: u32,
    /// Whom people follow.
    #[arg(long, value_enum, default_value_t = Follows::Zipf)]
    follows: Follows,
    /// Another number, another history.
    #[arg(long = "seed", default_value_t = 1, value_name = "SEED")]
    number: u64,
    /// In which tenant; the one that every install has unless set.
    #[arg(long)]
    tenant: Option<TenantId>,
    /// Even into a log that holds facts of others.
    #[arg(long)]
    among_others: bool,
    /// The data folder of a running `cinelog up`, for what is not configured.
    #[arg(long)]
    data: Option<PathBuf>,
    #[command(flatten)]
    database: Database,
    #[command(flatten)]
    keys: KeysConfig,
    #[command(flatten)]
    archive: ArchiveAt,
    #[command(flatten)]
    bucket: BucketKeys,
}

const EXAMPLES: &str = "Examples:
  cinelog bench seed --users 2000 --posts 20000 --data ./data   in a few seconds
  cinelog bench seed --users 100000 --posts 1000000 --follows zipf --seed 1";

impl Seed {
    async fn run(mut self, shutdown: &Shutdown) -> anyhow::Result<()> {
        if let Some(data) = &self.data {
            let folder = DataFolder::look(data)?;
            self.database = self.database.clone().or_in(Some(&folder));
            if !self.keys.is_set() {
                self.keys.master_key = Some(folder.master_key()?);
            }
        }
        let tenant = match self.tenant {
            Some(tenant) => tenant,
            None => default_tenant(&self.database).await?,
        };
        let size = Size {
            users: self.users,
            posts: self.posts,
            follows: self.follows,
            seed: self.number,
        };
        let history = History::new(tenant, size);
        let pool = self.database.pool(Role::Api).await?;
        let keys = stack::keys(&self.keys)?;
        let log = self.archive.log(pool, &self.bucket, keys, shutdown).await?;
        ensure!(
            self.among_others || is_ours(&log, &history).await?,
            "this log holds facts of others, and what is appended stays for ever: use a log of its own, or say --among-others"
        );
        let begun = Instant::now();
        let told = Told::new(begun);
        let seeded = bench::seed(&log, &history, &|progress| told.tell(progress), shutdown).await;
        told.bar.finish_and_clear();
        let seeded = seeded?;
        let seconds = begun.elapsed().as_secs_f64();
        say(match seeded.facts {
            0 => "nothing was left to do: all of this history is in the log".to_owned(),
            facts => format!(
                "{facts} facts appended in {seconds:.0} s, {:.0} a second; the first user is `{}`",
                facts as f64 / seconds,
                history.account(0)
            ),
        });
        Ok(())
    }
}

/// Whether a log is empty, or began with this history.
async fn is_ours(log: &Log, history: &History) -> anyhow::Result<bool> {
    let first = match log.read(Position::START, 1).await {
        Ok(facts) => facts.into_iter().next(),
        Err(LogError::TooOld { .. }) => return Ok(false),
        Err(error) => return Err(error.into()),
    };
    let Some(first) = first else { return Ok(true) };
    let steps = history.stretch(0)?;
    let mut streams = steps.iter().map(|step| &step.append.stream.stream);
    Ok(streams.any(|stream| *stream == first.stream))
}

/// How often a line is said where there is no terminal.
const EVERY: Duration = Duration::from_secs(10);

/// A bar at a terminal; otherwise a line now and then.
struct Told {
    bar: ProgressBar,
    begun: Instant,
    last: Mutex<Instant>,
}

impl Told {
    fn new(begun: Instant) -> Self {
        Self {
            bar: bar_to_end("seeding"),
            begun,
            last: Mutex::new(begun),
        }
    }

    fn tell(&self, Progress { facts, about }: Progress) {
        self.bar.set_length(about.max(facts));
        self.bar.set_position(facts);
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if std::io::stderr().is_terminal() || last.elapsed() < EVERY || facts == 0 {
            return;
        }
        *last = Instant::now();
        let rate = facts as f64 / self.begun.elapsed().as_secs_f64();
        let left = about.saturating_sub(facts) as f64 / rate;
        say(format_args!(
            "{facts} of about {about} facts, {rate:.0} a second, about {left:.0} s left"
        ));
    }
}
