//! A file per subcommand.

mod api;
mod bench;
mod demo;
mod doctor;
mod erase;
mod export;
mod grant;
mod log;
mod master_key;
mod migrate;
mod parked;
mod plan;
mod projectors;
mod rebuild;
mod relay;
mod replay;
mod token;
pub mod up;
mod verify;

use events::fact::Fact;
use service::shutdown::Shutdown;
use service::telemetry;

/// An event-sourced media pipeline: uploads, posts and matches as facts; feed, search and media as read models.
#[derive(clap::Parser)]
#[command(name = "cinelog", version, after_help = EXAMPLES)]
pub struct Cli {
    /// What is logged.
    #[command(flatten)]
    pub telemetry: telemetry::Config,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLES: &str = "Examples:
  cinelog up --data ./data                     everything on this machine, on http://127.0.0.1:8080
  cinelog token --data ./data --user ana       a token to call the API with
  cinelog migrate && cinelog api               one process of many, with DATABASE_URL set
  cinelog projectors feed search               only these read models";

/// What there is to do.
#[derive(clap::Subcommand)]
pub enum Command {
    /// Run everything in one process tree: private Postgres, folder store, API, projectors, transcoder.
    Up(up::Up),
    /// Serve the API.
    Api(api::Api),
    /// Relay the log into Kafka, exactly once.
    Relay(relay::Relay),
    /// Keep read models true.
    Projectors(projectors::Projectors),
    /// Bring the database to the newest shape.
    Migrate(migrate::Migrate),
    /// Look at the log, archive what is old, bring it back together with its topic after a restore.
    Log(log::Log),
    /// Prove that the log is whole: positions, streams, the topic, read models.
    Verify(verify::Verify),
    /// Export facts into files: sealed segments by position, with a manifest.
    Export(export::Export),
    /// Write facts as a stream, to standard output or into a Kafka topic.
    Replay(replay::Replay),
    /// Build a read model anew while it is read, and have the new one take its place.
    Rebuild(rebuild::Rebuild),
    /// Look at facts that a read model cannot take in, and say what is to become of them.
    Parked(parked::Parked),
    /// Forget a person: destroy their key, purge read models, delete their media.
    Erase(erase::Erase),
    /// Replace the master key.
    MasterKey(master_key::MasterKey),
    /// Make a token for local use.
    Token(token::Token),
    /// Say what an account may do beyond what every user may.
    Grant(grant::Grant),
    /// Tell, make and give plans: how much of storage who may take up.
    Plan(plan::Plan),
    /// Look whether what is configured is there and does what it should, and say what to do where not.
    Doctor(doctor::Doctor),
    /// Make what is needed to measure: a made-up history.
    Bench(bench::Bench),
    /// Run three users through the whole chain, report, and stop.
    Demo(demo::Demo),
}

impl Command {
    /// Does it, until it is done or `shutdown`.
    pub async fn run(self, shutdown: &Shutdown) -> anyhow::Result<()> {
        match self {
            Self::Up(up) => Box::pin(up.run(shutdown)).await,
            Self::Api(api) => Box::pin(api.run(shutdown)).await,
            Self::Relay(relay) => relay.run(shutdown).await,
            Self::Projectors(projectors) => Box::pin(projectors.run(shutdown)).await,
            Self::Migrate(migrate) => Box::pin(migrate.run()).await,
            Self::Log(log) => Box::pin(log.run(shutdown)).await,
            Self::Verify(verify) => Box::pin(verify.run(shutdown)).await,
            Self::Export(export) => Box::pin(export.run(shutdown)).await,
            Self::Replay(replay) => Box::pin(replay.run(shutdown)).await,
            Self::Rebuild(rebuild) => Box::pin(rebuild.run(shutdown)).await,
            Self::Parked(parked) => parked.run(shutdown).await,
            Self::Erase(erase) => Box::pin(erase.run(shutdown)).await,
            Self::MasterKey(key) => Box::pin(key.run(shutdown)).await,
            Self::Token(token) => Box::pin(token.run()).await,
            Self::Grant(grant) => Box::pin(grant.run()).await,
            Self::Plan(plan) => Box::pin(plan.run()).await,
            Self::Doctor(doctor) => Box::pin(doctor.run(shutdown)).await,
            Self::Bench(bench) => Box::pin(bench.run(shutdown)).await,
            Self::Demo(demo) => Box::pin(demo.run(shutdown)).await,
        }
    }
}

/// A type of facts by its name.
fn fact_type(name: &str) -> Result<String, String> {
    if Fact::is_type(name) {
        return Ok(name.to_owned());
    }
    let known: Vec<&str> = Fact::TYPES.iter().map(|(known, _)| *known).collect();
    Err(format!(
        "no fact has this type; there are {}",
        known.join(", ")
    ))
}
