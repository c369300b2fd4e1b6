//! `cinelog replay`.

use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, ensure};
use events::envelope::Sealed;
use events::export::ndjson;
use events::id::{Position, TenantId};
use events::log::{self, Kafka};
use events::store::{Filter, Limits, Tail, Wake};
use service::db::Role;
use service::shutdown::Shutdown;

use crate::out::Lines;
use crate::stack::{ArchiveAt, BucketKeys, Database};

/// Writes facts as a stream, from any position: as lines of JSON, or into a Kafka topic of your choice. Looks only; may
/// run beside everything.
///
/// Facts come as stored, in the order of the log, each once: personal fields stay encrypted. Lines are those of `cinelog
/// export --format ndjson`; records are those that the relay writes.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Replay {
    /// Where to: `stdout`, or `kafka://TOPIC` at `KAFKA_BROKERS`. The topic is made when it is not there.
    #[arg(long, value_name = "stdout|kafka://TOPIC")]
    to: Target,
    /// The first position.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(i64).range(1..))]
    from: i64,
    /// The last position; the log's last one at the start unless set.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(1..))]
    until: Option<i64>,
    /// Only facts of these types.
    #[arg(long = "type", value_name = "T,…", value_delimiter = ',', value_parser = super::fact_type)]
    types: Vec<String>,
    /// Only facts of this tenant.
    #[arg(long, value_name = "ID")]
    tenant: Option<TenantId>,
    /// Go on with new facts as they come.
    #[arg(long)]
    follow: bool,
    #[command(flatten)]
    database: Database,
    #[command(flatten)]
    archive: ArchiveAt,
    #[command(flatten)]
    bucket: BucketKeys,
    #[command(flatten)]
    kafka: log::Config,
}

const EXAMPLES: &str = "Examples:
  cinelog replay --to stdout --type post.published | jq .payload
  cinelog replay --to stdout --from 9000001 --follow
  cinelog replay --to kafka://backfill --until 1000000";

/// How long a silent log is waited for before it is looked at again.
const LOOK: Duration = Duration::from_secs(1);

#[derive(Clone, Debug)]
enum Target {
    Stdout,
    Topic(String),
}

impl FromStr for Target {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.strip_prefix("kafka://") {
            Some(topic) if !topic.is_empty() => Ok(Self::Topic(topic.to_owned())),
            None if text == "stdout" => Ok(Self::Stdout),
            _ => Err("write it as stdout or kafka://TOPIC"),
        }
    }
}

impl Replay {
    pub(super) async fn run(self, shutdown: &Shutdown) -> anyhow::Result<()> {
        let pool = self.database.pool(Role::Api).await?;
        let reader = self.archive.reader(&pool, &self.bucket).await?;
        let log = reader.bounds().await?;
        let end = match (self.until, self.follow) {
            (Some(until), follow) => {
                ensure!(
                    follow || until <= log.head.0,
                    "the log ends at {}: --until {until} is not there yet, wait for it with --follow",
                    log.head
                );
                Some(Position(until))
            }
            (None, true) => None,
            (None, false) => Some(log.head),
        };
        let mut sink = match &self.to {
            Target::Stdout => Sink::Lines(Lines::new()),
            Target::Topic(topic) => {
                let kafka = Kafka::from_config(&self.kafka).context("set KAFKA_BROKERS")?;
                Sink::Topic(log::Replay::open(&kafka, topic, log.log_id).await?)
            }
        };
        let filter = Filter {
            types: self.types,
            tenant: self.tenant,
            ..Filter::default()
        };
        let after = Position(self.from - 1);
        let wake = Wake::start(pool, shutdown);
        let mut replaying = Replaying {
            tail: Tail::new(reader, wake, filter, Limits::BULK, after),
            written: after,
            end,
            follow: self.follow,
        };
        let ended = replaying.pour(&mut sink, shutdown).await;
        let written = replaying.written;
        if written == after {
            return ended;
        }
        let next = written.next();
        ended.with_context(|| {
            format!("everything before position {next} was written; go on with --from {next}")
        })
    }
}

struct Replaying {
    tail: Tail,
    /// Everything up to here has been written.
    written: Position,
    end: Option<Position>,
    follow: bool,
}

impl Replaying {
    /// Writes until the end, until the reader has gone, or until it is told to stop.
    async fn pour(&mut self, sink: &mut Sink, shutdown: &Shutdown) -> anyhow::Result<()> {
        let mut whole = false;
        while !whole {
            let write = async {
                let page = self.tail.next(LOOK).await?;
                let upto = |fact: &&Sealed| self.end.is_none_or(|end| fact.position <= end);
                let count = page.facts.iter().take_while(upto).count();
                let gone = !sink.write(&page.facts[..count]).await?;
                anyhow::Ok((page.seen, gone))
            };
            let (seen, gone) = tokio::select! {
                written = write => written?,
                () = shutdown.cancelled() => break,
            };
            if gone {
                return Ok(());
            }
            self.written = self.end.map_or(seen, |end| seen.min(end));
            whole = self.end.is_some_and(|end| seen >= end);
        }
        // A stream that is followed has no end of its own: being told to stop is how it ends.
        ensure!(whole || self.follow, "stopped before the end");
        Ok(())
    }
}

enum Sink {
    Lines(Lines),
    Topic(log::Replay),
}

impl Sink {
    /// Writes all of `facts`; false when nobody reads any more.
    async fn write(&mut self, facts: &[Sealed]) -> anyhow::Result<bool> {
        match self {
            Self::Lines(out) => {
                let mut text = Vec::new();
                for fact in facts {
                    ndjson::write_line(fact, &mut text)?;
                }
                Ok(out.write(&text).await?)
            }
            Self::Topic(topic) => {
                topic.send(facts).await?;
                Ok(true)
            }
        }
    }
}
