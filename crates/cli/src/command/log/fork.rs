//! `cinelog log fork`.

use anyhow::bail;
use events::log::{self, Kafka};
use service::db::Role;
use service::shutdown::Shutdown;
use uuid::Uuid;

use crate::out::say;
use crate::stack::Database;

/// Makes this another log, with an id and a topic of its own: the way out where Postgres and the topic tell two histories
/// since a restore.
///
/// Without --of it only says what it would do. Set `TOPIC_PREFIX` to a name that was never used, for this command and for
/// every process after it; the relay then fills the new topic from Postgres. The old topic is left as it is. Position
/// tokens of the old log are refused (410), and exports of it are not gone on with.
#[derive(clap::Args)]
pub(super) struct Fork {
    /// The log to fork, by its id; a repeat changes nothing more.
    #[arg(long, value_name = "LOG_ID")]
    of: Option<Uuid>,
    #[command(flatten)]
    database: Database,
    #[command(flatten)]
    kafka: log::Config,
}

impl Fork {
    pub(super) async fn run(self, shutdown: &Shutdown) -> anyhow::Result<()> {
        tokio::select! {
            done = self.fork() => done,
            () = shutdown.cancelled() => bail!("stopped; run it again to see whether it was done"),
        }
    }

    async fn fork(&self) -> anyhow::Result<()> {
        let kafka = Kafka::from_config(&self.kafka);
        let pool = self.database.pool(Role::Owner).await?;
        let topic = kafka.as_ref().map(Kafka::facts_topic);
        let Some(of) = self.of else {
            let log = log::forkable(&pool, kafka.as_ref()).await?;
            say(format_args!(
                "log {} ends at position {}; forked, it goes on from there under a new id",
                log.log_id, log.head
            ));
            match topic {
                Some(topic) => say(format_args!(
                    "topic {topic} is empty, and the relay would fill it from position 1"
                )),
                None => say("KAFKA_BROKERS is not set: no topic was looked at"),
            }
            say(
                "who was erased after a backup that was restored is not erased any more: erase them again",
            );
            say("nothing was changed. To do it, stop every process and run");
            say(format_args!("  cinelog log fork --of {}", log.log_id));
            return Ok(());
        };
        let log = log::fork(&pool, kafka.as_ref(), of).await?;
        say(format_args!("log {of} goes on as log {}", log.log_id));
        if topic.is_some() {
            say(format_args!(
                "start every process again with TOPIC_PREFIX={}",
                self.kafka.topic_prefix
            ));
        } else {
            say("start every process again");
        }
        Ok(())
    }
}
