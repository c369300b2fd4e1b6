//! `cinelog verify`.

use anyhow::{Context, bail};
use chrono::{DateTime, Utc};
use events::id::Position;
use events::log::Kafka;
use events::store::KeysConfig;
use events::verify::{self, Report};
use projectors::verify::Outcome;
use projectors::{registry, verify as read_models};
use service::db::Role;
use service::shutdown::Shutdown;

use crate::out::{bar, say};
use crate::stack::{self, ArchiveAt, BucketKeys, Database};

/// Proves that the log is whole, or says what is not; exits 1 on any difference. Looks only; may run beside everything.
///
/// Compares positions with 1, 2, 3…, every stream's versions and state with its facts, and, where there are brokers, the
/// topic with Postgres, lane by lane. What was archived is compared as well when `ARCHIVE_URL` says where it is; its facts
/// are put aside meanwhile in temporary files, as large as the archive.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Verify {
    /// Look only at facts from this position on, and at the streams they are in.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(i64).range(1..))]
    from: i64,
    /// Also build every read model once more and compare each table. Needs the master key.
    #[arg(long)]
    rebuild: bool,
    #[command(flatten)]
    database: Database,
    #[command(flatten)]
    kafka: events::log::Config,
    #[command(flatten)]
    keys: KeysConfig,
    #[command(flatten)]
    projectors: projectors::config::Config,
    #[command(flatten)]
    archive: ArchiveAt,
    #[command(flatten)]
    bucket: BucketKeys,
}

const EXAMPLES: &str = "Examples:
  cinelog verify                     the whole log, and the topic when KAFKA_BROKERS is set
  cinelog verify --from 9000000      what came since the last time
  cinelog verify --archive-url /backup/archive
                                     also what has left Postgres
  cinelog verify --rebuild           and every read model against a rebuild from zero";

impl Verify {
    pub(super) async fn run(self, shutdown: &Shutdown) -> anyhow::Result<()> {
        let mut differences = tokio::select! {
            differences = self.log() => differences?,
            () = shutdown.cancelled() => bail!("stopped before it was done"),
        };
        if self.rebuild {
            differences += self.read_models(shutdown).await?;
        }
        match differences {
            0 => {
                say("no differences");
                Ok(())
            }
            1 => bail!("1 difference"),
            many => bail!("{many} differences"),
        }
    }

    async fn log(&self) -> anyhow::Result<u64> {
        let pool = self.database.pool(Role::Owner).await?;
        let mut connection = pool.acquire().await?;
        let archive = self.archive.archive(&pool, &self.bucket).await?;
        let kafka = Kafka::from_config(&self.kafka);
        let bar = bar("facts");
        let from = Position(self.from);
        let report = verify::log(&mut connection, archive, kafka.as_ref(), from, &|read| {
            bar.set_position(read);
        })
        .await?;
        bar.finish_and_clear();
        tell(&report, &self.kafka);
        Ok(report.differences.count)
    }

    async fn read_models(&self, shutdown: &Shutdown) -> anyhow::Result<u64> {
        let keys = stack::keys(&self.keys).context("--rebuild opens facts")?;
        let owner = self.database.pool(Role::Owner).await?;
        let projector = self.database.pool(Role::Projector).await?;
        let reader = self.archive.reader(&projector, &self.bucket).await?;
        let (mut differences, mut compares_all) = (0, true);
        let began: DateTime<Utc> = sqlx::query_scalar("SELECT clock_timestamp()")
            .fetch_one(&owner)
            .await?;
        for projection in registry::all(&self.projectors) {
            let bar = bar(projection.name());
            let progress = |at: Position| bar.set_position(at.0.unsigned_abs());
            let outcome = read_models::against_a_rebuild(
                &projection,
                &owner,
                &projector,
                &reader,
                &keys,
                &progress,
                shutdown,
            )
            .await?;
            bar.finish_and_clear();
            if let Some(outcome) = outcome {
                differences += tell_model(&outcome);
            } else {
                compares_all = false;
                say(format_args!(
                    "{:<12} not compared: what is live was made by another version",
                    projection.name()
                ));
            }
        }
        let erasing = "SELECT EXISTS (
            SELECT FROM log.person_keys WHERE erased_at IS NOT NULL AND (purged_at IS NULL OR purged_at > $1))";
        if differences > 0
            && sqlx::query_scalar(erasing)
                .bind(began)
                .fetch_one(&owner)
                .await?
        {
            say(
                "  a person was being erased meanwhile, which reads like a difference: verify again",
            );
        }
        if differences == 0 && !compares_all {
            bail!("not every read model was compared: verify with the version that made them");
        }
        Ok(differences)
    }
}

fn tell(report: &Report, kafka: &events::log::Config) {
    say(format_args!(
        "positions    {} to {}: {} facts read",
        report.first, report.head, report.facts
    ));
    if report.unknown > 0 {
        say(format_args!(
            "             {} of types that this program does not know: use a newer one to check them",
            report.unknown
        ));
    }
    say(format_args!(
        "streams      {} compared with what their facts fold to",
        report.streams
    ));
    if report.archived_streams > 0 {
        say(format_args!(
            "             {} of them only by version: they begin in the archive, name it by ARCHIVE_URL",
            report.archived_streams
        ));
    }
    if report.absent_streams > 0 {
        say(format_args!(
            "             {} more lie in the archive altogether and were not compared: name it by ARCHIVE_URL",
            report.absent_streams
        ));
    }
    if let Some(topic) = report.topic {
        say(format_args!(
            "topic        {}.facts: {} records; up to position {} compared in {} stretches of lanes, {} not relayed yet",
            kafka.topic_prefix,
            topic.records,
            topic.upto,
            topic.stretches,
            (report.head.0 - topic.upto.0).max(0)
        ));
    }
    for difference in &report.differences.first {
        say(format_args!("  {difference}"));
    }
    let untold = report.differences.count - report.differences.first.len() as u64;
    if untold > 0 {
        say(format_args!("  and {untold} more"));
    }
}

fn tell_model(outcome: &Outcome) -> u64 {
    let rows: i64 = outcome.tables.iter().map(|table| table.rows).sum();
    say(format_args!(
        "{:<12} compared with a rebuild up to position {}: {} rows in {} tables",
        outcome.live,
        outcome.upto,
        rows,
        outcome.tables.len()
    ));
    let differing = outcome.tables.iter().filter(|table| !table.equal());
    differing
        .map(|table| {
            say(format_args!(
                "  {}.{}: {} rows that a rebuild does not have, {} that it has besides",
                outcome.live, table.table, table.only_live, table.only_rebuilt
            ));
        })
        .count() as u64
}
