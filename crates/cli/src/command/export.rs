//! `cinelog export`.

use std::io::IsTerminal;

use anyhow::Context;
use events::export::{self, Format, Manifest, Request, Step};
use events::id::{Position, TenantId};
use indicatif::{ProgressBar, ProgressStyle};
use service::db::Role;
use service::shutdown::Shutdown;
use storage::Store;

use crate::out::say;
use crate::stack::{ArchiveAt, BucketKeys, Database};

/// Exports facts into files in a folder or a bucket: segments by position range, and `manifest.json` with the rows, size
/// and SHA-256 of each. Looks only; may run beside everything.
///
/// The log's end is pinned when an export is first started. After an interruption the same command goes on, and what
/// comes out is what an undisturbed run would have made, byte for byte. Facts are exported as stored: personal fields
/// stay encrypted, so that an erased person is erased here too.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Export {
    /// The form of the segments.
    #[arg(long, value_enum)]
    format: Format,
    /// The first position.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(i64).range(1..))]
    from: i64,
    /// The last position; the log's last one when the export is first started, unless set.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(1..))]
    to: Option<i64>,
    /// Only facts of these types.
    #[arg(long = "type", value_name = "T,…", value_delimiter = ',', value_parser = super::fact_type)]
    types: Vec<String>,
    /// Only facts of this tenant.
    #[arg(long, value_name = "ID")]
    tenant: Option<TenantId>,
    /// Positions in a segment.
    #[arg(long, default_value_t = 1_000_000, value_name = "N", value_parser = clap::value_parser!(i64).range(1..))]
    segment_rows: i64,
    /// Where the files go: a folder (`./facts`) or a bucket (`s3://BUCKET[/PREFIX][?endpoint=URL&region=NAME]`).
    #[arg(long, value_name = "PATH|s3://…")]
    out: String,
    #[command(flatten)]
    bucket: BucketKeys,
    #[command(flatten)]
    archive: ArchiveAt,
    #[command(flatten)]
    database: Database,
}

const EXAMPLES: &str = "Examples:
  cinelog export --format parquet --out ./facts           everything, for DuckDB, pandas and the like
  cinelog export --format ndjson --from 9000001 --out s3://facts/2026-07
  cinelog export --format parquet --type post.published,post.deleted --out ./posts";

impl Export {
    pub(super) async fn run(self, shutdown: &Shutdown) -> anyhow::Result<()> {
        let store = Store::open_or_make(&self.bucket.store(&self.out))
            .with_context(|| format!("open {}", self.out))?;
        let request = Request {
            format: self.format,
            from: Position(self.from),
            to: self.to.map(Position),
            types: self.types,
            tenant: self.tenant,
            segment_rows: self.segment_rows,
        };
        let pool = self.database.pool(Role::Api).await?;
        let progress = Progress::new(request.from);
        let reader = self.archive.reader(&pool, &self.bucket).await?;
        let made = export::run(
            reader,
            &store,
            &request,
            &|step| progress.tell(step),
            shutdown,
        )
        .await;
        progress.0.finish_and_clear();
        let (manifest, before) = made?;
        let Manifest { plan, rows, .. } = &manifest;
        say(format_args!(
            "{rows} facts of positions {} to {} are in {} {}, in {}{}",
            plan.from,
            plan.to,
            manifest.segments.len(),
            if manifest.segments.len() == 1 {
                "segment"
            } else {
                "segments"
            },
            self.out,
            if before {
                ": nothing was left to do"
            } else {
                ""
            }
        ));
        Ok(())
    }
}

/// A bar at a terminal; otherwise a line per segment.
struct Progress(ProgressBar, Position);

impl Progress {
    fn new(from: Position) -> Self {
        let bar = if std::io::stderr().is_terminal() {
            let style = ProgressStyle::with_template("{bar:30} {pos} of {len} positions ({eta})");
            ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        } else {
            ProgressBar::hidden()
        };
        Self(bar, from)
    }

    /// How many positions of the plan lie up to `at`.
    fn upto(&self, at: Position) -> u64 {
        u64::try_from(at.next().0 - self.1.0).unwrap_or(0)
    }

    fn tell(&self, step: Step<'_>) {
        match step {
            Step::Planned(manifest) => {
                self.0.set_length(self.upto(manifest.plan.to));
                if let (Some(last), false) = (manifest.segments.last(), manifest.complete) {
                    self.0.set_position(self.upto(last.last));
                    self.0.reset_eta();
                    say(format_args!(
                        "going on after position {}: {} segments are there",
                        last.last,
                        manifest.segments.len()
                    ));
                }
            }
            Step::Read(at) => self.0.set_position(self.upto(at)),
            Step::Sealed(segment) => self.0.suspend(|| {
                say(format_args!(
                    "{}  {} facts  {} bytes",
                    segment.name, segment.rows, segment.bytes
                ));
            }),
        }
    }
}
