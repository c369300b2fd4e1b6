//! `cinelog-transcoder worker`: the worker as a process, with the subscription that fills its queue.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use events::log::Kafka;
use events::source::Source;
use events::store::{Keys, Log, Wake};
use events::subscription::{Options, Runner as Reader, Subscriber};
use service::db::{self, Role};
use service::health::{Dependency, Health};
use service::shutdown::Shutdown;
use service::telemetry;
use sqlx::PgPool;
use storage::Store;
use uuid::Uuid;

use super::{Config, Worker};
use crate::error::JobError;
use crate::objects::ObjectFold;
use crate::run::Runner;
use crate::sandbox::Level;
use crate::subscription::JobFold;

/// What is left after the jobs have drained: a few statements.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// Options of `worker`.
#[derive(Debug, Args)]
pub struct WorkerArgs {
    /// How it works.
    #[command(flatten)]
    pub worker: Config,
    /// Refuse to work, or warn, where the kernel cannot confine the child.
    #[arg(long, env = "SANDBOX", value_enum, default_value = "require")]
    pub sandbox: Level,
    /// Where `/health`, `/ready` and `/metrics` are served; nowhere by default.
    #[arg(long, env = "ADMIN_LISTEN")]
    pub admin_listen: Option<SocketAddr>,
    /// End when standard input ends: for a worker that another process keeps, which may be killed.
    #[arg(long)]
    pub end_with_stdin: bool,
    /// Postgres.
    #[command(flatten)]
    pub database: db::Config,
    /// Where the bytes are.
    #[command(flatten)]
    pub storage: storage::Config,
    /// The master key.
    #[command(flatten)]
    pub keys: events::store::KeysConfig,
    /// Kafka.
    #[command(flatten)]
    pub kafka: events::log::Config,
    /// Logs.
    #[command(flatten)]
    pub telemetry: telemetry::Config,
}

/// Runs the worker until a signal, or until it is idle where that is asked for.
pub fn main(args: WorkerArgs) -> Result<(), JobError> {
    telemetry::init_logs(&args.telemetry);
    let ran = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("start threads")
        .and_then(|runtime| {
            let ran = runtime.block_on(run(args));
            // What did not end in time ends with the process, its child too.
            runtime.shutdown_background();
            ran
        });
    ran.map_err(|error| match error.downcast::<JobError>() {
        Ok(error) => error,
        Err(error) => JobError::infra("run the worker", format_args!("{error:#}")),
    })
}

async fn run(args: WorkerArgs) -> anyhow::Result<()> {
    let shutdown = Shutdown::new();
    shutdown.on_signal()?;
    if args.end_with_stdin {
        end_with_stdin(&shutdown);
    }
    let metrics = telemetry::init_metrics(&shutdown);
    let connections = args.database.connections(Role::Transcoder);
    let url = args.database.database_url;
    let url = url.ok_or_else(|| JobError::usage("set DATABASE_URL"))?;
    if args.storage.storage_url.is_none() {
        return Err(JobError::usage("set STORAGE_URL").into());
    }
    let pool = db::connect(&url, Role::Transcoder, connections)
        .await
        .context("connect to Postgres")?;
    let keys = Keys::new(args.keys.read()?);
    let log = Log::open(pool.clone(), keys.clone(), &shutdown)
        .await
        .context("open the log")?;
    let store = Store::open(&args.storage)?;
    let runner = Runner::this_executable(args.sandbox)?;
    let kafka = Kafka::from_config(&args.kafka);
    follow(kafka.as_ref(), &pool, log.id(), &keys, &shutdown)?;
    if let Some(address) = args.admin_listen {
        let health = Health::new(vec![Dependency::Postgres(pool.clone())], metrics);
        let bound = health
            .serve(address, &shutdown)
            .await
            .context("open the admin listener")?;
        tracing::info!(%bound, "admin listener");
    }
    let drain = args.worker.drain() + LAST_WORDS;
    tracing::info!("working");
    let worker = Worker::new(pool, log, store, runner, args.worker);
    // A Postgres that has gone silent must not keep us: what is still ours then, its lease gives back.
    let too_long = async {
        shutdown.cancelled().await;
        tokio::time::sleep(drain).await;
    };
    let in_time = tokio::select! {
        () = worker.run(&shutdown) => shutdown.finish(LAST_WORDS).await,
        () = too_long => false,
    };
    if !in_time {
        tracing::warn!("something did not end in time");
    }
    match shutdown.failure() {
        Some(why) => Err(anyhow::anyhow!("{why}")),
        None => Ok(()),
    }
}

/// Keeps the queue, and the names of what lies in storage, as far as the log is.
fn follow(
    kafka: Option<&Kafka>,
    pool: &PgPool,
    log_id: Uuid,
    keys: &Keys,
    shutdown: &Shutdown,
) -> anyhow::Result<()> {
    let wake = Wake::start(pool.clone(), shutdown);
    let subscribers: [Arc<dyn Subscriber>; 2] = [Arc::new(JobFold), Arc::new(ObjectFold)];
    for subscriber in subscribers {
        let source = Source::open(kafka, pool, &wake, log_id, subscriber.name())?;
        let (pool, keys) = (pool.clone(), keys.clone());
        let reader = Reader::new(subscriber, pool, source, keys, Options::default());
        let end = shutdown.clone();
        shutdown.spawn(async move { reader.run(&end).await });
    }
    Ok(())
}

/// Asks for the end once nobody holds the other end of standard input any more. A thread of its own: a read of standard
/// input cannot be called back, and must not keep the runtime from ending.
fn end_with_stdin(shutdown: &Shutdown) {
    let end = shutdown.clone();
    std::thread::spawn(move || {
        let ended = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        tracing::info!(?ended, "standard input ended; stopping");
        end.cancel();
    });
}
