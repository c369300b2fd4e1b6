//! `cinelog log archive`.

use std::time::Duration;

use anyhow::{Context, ensure};
use events::archive::{self, Request, Step};
use events::id::Position;
use events::log::Kafka;
use service::db::Role;
use service::shutdown::Shutdown;
use storage::Store;

use crate::out::say;
use crate::stack::{BucketKeys, Database};

/// Moves the oldest facts out of Postgres, into a folder or a bucket: whole partitions, each written, read back and compared
/// before it leaves. Appends and readers go on meanwhile.
///
/// `cinelog replay`, `export`, `projectors` and `verify --rebuild` read them from there when `ARCHIVE_URL` is set. Facts that a
/// subscription, or the relay where there are brokers, has not taken in stay. After an interruption the same command goes
/// on. Segments are exports as NDJSON, personal fields encrypted.
#[derive(clap::Args)]
pub(super) struct Archive {
    /// The archive: a folder (`./archive`) or a bucket (`s3://BUCKET[/PREFIX][?endpoint=URL&region=NAME]`). Always the same
    /// one for a log.
    #[arg(
        long,
        env = "ARCHIVE_URL",
        visible_alias = "archive-url",
        value_name = "PATH|s3://…"
    )]
    out: String,
    #[command(flatten)]
    upto: Upto,
    /// Keep facts that are younger. A command that is repeated within seven days is answered from its facts.
    #[arg(long, default_value_t = 7, value_name = "DAYS", value_parser = clap::value_parser!(u64).range(..100_000))]
    older_than_days: u64,
    /// No relay takes facts from this log. Without brokers this must be said: what a relay still needs must stay.
    #[arg(long)]
    no_kafka: bool,
    /// Positions in a segment.
    #[arg(long, default_value_t = 100_000, value_name = "N", value_parser = clap::value_parser!(i64).range(1..))]
    segment_rows: i64,
    /// Leave the partitions in Postgres as tables of their own, which nothing reads.
    #[arg(long)]
    keep_tables: bool,
    #[command(flatten)]
    bucket: BucketKeys,
    #[command(flatten)]
    database: Database,
    #[command(flatten)]
    kafka: events::log::Config,
}

#[derive(clap::Args)]
#[group(required = true, multiple = false)]
struct Upto {
    /// Keep at least the newest N positions.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(0..))]
    keep: Option<i64>,
    /// Archive only what lies before this position.
    #[arg(long, value_name = "POSITION", value_parser = clap::value_parser!(i64).range(1..))]
    before: Option<i64>,
}

impl Archive {
    pub(super) async fn run(self, shutdown: &Shutdown) -> anyhow::Result<()> {
        let store = Store::open_or_make(&self.bucket.store(&self.out))
            .with_context(|| format!("open {}", self.out))?;
        let owner = self.database.pool(Role::Owner).await?;
        let head = events::store::bounds(&owner).await?.head;
        let request = Request {
            before: Position(match (self.upto.keep, self.upto.before) {
                (Some(keep), _) => head.0 - keep + 1,
                (None, before) => before.unwrap_or(1),
            }),
            older_than: Duration::from_secs(self.older_than_days * 86_400),
            segment_rows: self.segment_rows,
            keep_tables: self.keep_tables,
        };
        let kafka = Kafka::from_config(&self.kafka).filter(|_| !self.no_kafka);
        ensure!(
            kafka.is_some() || self.no_kafka,
            "set KAFKA_BROKERS, so that facts stay which the relay has not taken in; or say --no-kafka where there is no relay"
        );
        let done = archive::run(&owner, kafka.as_ref(), &store, request, &tell, shutdown).await?;
        say(format_args!(
            "{} partitions were archived in {}; the log begins at {}",
            done.partitions, self.out, done.floor
        ));
        if done.partitions == 0 {
            say(format_args!(
                "only whole partitions go whose facts all are older than {} days",
                self.older_than_days
            ));
        }
        Ok(())
    }
}

fn tell(step: Step<'_>) {
    match step {
        Step::Exporting(events::export::Step::Sealed(segment)) => say(format_args!(
            "{}  {} facts  {} bytes",
            segment.name, segment.rows, segment.bytes
        )),
        Step::Floor(floor) => say(format_args!(
            "all before position {floor} came back as it is; the log begins there now"
        )),
        Step::Detached(table) => say(format_args!("{table} has left the log")),
        Step::Exporting(_) | Step::Compared(_) => {}
    }
}
