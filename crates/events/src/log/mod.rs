//! The log in Kafka: the topic, the relay that fills it exactly once, and the tail that reads it.
//!
//! Topic `<prefix>.facts` has one partition per lane and carries CloudEvents; the compacted `<prefix>.relay` says how
//! far the relay has come, in the same transactions. Nothing here is ever the truth: that is the log in Postgres.

mod asyncapi;
mod check;
mod fork;
mod import;
mod lock;
mod marker;
mod producer;
mod record;
mod relay;
mod replay;
mod scan;
mod tail;
mod topic;

use std::ffi::OsString;
use std::str::FromStr;
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use service::retry::Retry;
use service::secret::Secret;

pub use asyncapi::asyncapi;
pub use check::Refusal;
pub use fork::{ForkError, Forkable, fork, forkable};
pub use import::{ImportError, Imported, import};
pub use record::{RecordError, from_record, to_headers};
pub use relay::{Judgement, Relay, RelayError};
pub use replay::{Replay, ReplayError};
pub use tail::{KafkaTail, TailError};
pub(crate) use topic::partitions;
pub use topic::{TopicError, ensure};

pub(crate) use scan::{Found, marker, scan};

/// How long one question to the brokers may take.
const ASK_LIMIT: Duration = Duration::from_secs(10);
/// The largest record, as the topic and the producer both know it. The log refuses facts long before.
const MAX_RECORD_BYTES: &str = "4194304";

/// Where Kafka is.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
pub struct Config {
    /// Kafka's brokers, `HOST:PORT,…`. Without them everything reads the log in Postgres and nothing is relayed.
    #[arg(long, env = "KAFKA_BROKERS")]
    pub kafka_brokers: Option<String>,
    /// Topics are called PREFIX.facts and PREFIX.relay.
    #[arg(long, env = "TOPIC_PREFIX", default_value = "cinelog")]
    pub topic_prefix: String,
    /// Copies of each record, where Cinelog makes the topics. With three or more, two must confirm each write.
    #[arg(long, env = "KAFKA_REPLICATION", default_value_t = 1)]
    pub kafka_replication: i32,
    /// A setting of the Kafka client, e.g. `security.protocol=SASL_SSL`; may be given again. In the environment,
    /// settings are separated by `;`.
    #[arg(
        long,
        env = "KAFKA_CONFIG",
        hide_env_values = true,
        value_name = "KEY=VALUE",
        value_delimiter = ';'
    )]
    pub kafka_config: Vec<Setting>,
}

impl Config {
    /// The same, as the environment of another process of ours; none: not to be set there.
    pub fn environment(&self) -> [(&'static str, Option<OsString>); 4] {
        let settings = self
            .kafka_config
            .iter()
            .map(Setting::text)
            .collect::<Vec<_>>()
            .join(";");
        [
            ("KAFKA_BROKERS", self.kafka_brokers.as_ref().map(Into::into)),
            ("TOPIC_PREFIX", Some(self.topic_prefix.clone().into())),
            (
                "KAFKA_REPLICATION",
                Some(self.kafka_replication.to_string().into()),
            ),
            (
                "KAFKA_CONFIG",
                Some(settings)
                    .filter(|text| !text.is_empty())
                    .map(Into::into),
            ),
        ]
    }
}

/// One setting of the Kafka client; its value may be a password.
#[derive(Clone, Debug)]
pub struct Setting {
    name: String,
    value: Secret,
}

impl Setting {
    fn text(&self) -> String {
        format!("{}={}", self.name, self.value.expose())
    }
}

impl FromStr for Setting {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, value) = text.split_once('=').ok_or("write it as KEY=VALUE")?;
        Ok(Self {
            name: name.trim().to_owned(),
            value: Secret::new(value),
        })
    }
}

/// A configured Kafka: which brokers, which topics.
#[derive(Clone, Debug)]
pub struct Kafka {
    brokers: String,
    prefix: String,
    replication: i32,
    settings: Vec<Setting>,
}

impl Kafka {
    /// The Kafka that is configured; none when no brokers are.
    pub fn from_config(config: &Config) -> Option<Self> {
        Some(Self {
            brokers: config
                .kafka_brokers
                .clone()
                .filter(|text| !text.is_empty())?,
            prefix: config.topic_prefix.clone(),
            replication: config.kafka_replication,
            settings: config.kafka_config.clone(),
        })
    }

    /// The topic with the facts.
    pub fn facts_topic(&self) -> String {
        format!("{}.facts", self.prefix)
    }

    /// The topic with the relay's marker.
    pub fn relay_topic(&self) -> String {
        format!("{}.relay", self.prefix)
    }

    /// Settings that every client shares. What a client must have, it sets after these, so that no setting of the
    /// operator's can weaken it.
    fn client(&self) -> ClientConfig {
        let mut client = ClientConfig::new();
        client
            .set("client.id", "cinelog")
            .set("socket.keepalive.enable", "true")
            .set("reconnect.backoff.max.ms", "2000");
        for setting in &self.settings {
            client.set(&setting.name, setting.value.expose());
        }
        client.set("bootstrap.servers", &self.brokers);
        client
    }

    /// A client that sees only what was committed, and that never starts anywhere but where it is told to.
    fn reader(&self, group: &str) -> ClientConfig {
        let mut client = self.client();
        client
            .set("group.id", format!("{}.{group}", self.prefix))
            .set("isolation.level", "read_committed")
            .set("auto.offset.reset", "error")
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("allow.auto.create.topics", "false");
        client
    }
}

/// What readers say of themselves. The end of a partition is news to the code that reads, not an error to be logged.
#[derive(Clone, Copy, Debug)]
struct Readers;

impl ClientContext for Readers {
    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() != Some(RDKafkaErrorCode::PartitionEOF) {
            tracing::warn!(%error, reason, "reading Kafka");
        }
    }
}

impl ConsumerContext for Readers {}

/// Runs blocking Kafka calls where they hold nobody up.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        // The runtime is ending, and this task with it.
        Err(_) => std::future::pending().await,
    }
}

/// Like [`blocking`], for work that can fail as Kafka does.
pub(crate) async fn asking<T: Send + 'static>(
    work: impl FnOnce() -> KafkaResult<T> + Send + 'static,
) -> KafkaResult<T> {
    blocking(work).await
}

/// Whether the same call may pass later: yes, unless the client was told something impossible.
fn retry_of(error: &KafkaError) -> Retry {
    match error {
        KafkaError::ClientConfig(..) | KafkaError::ClientCreation(_) | KafkaError::Nul(_) => {
            Retry::Never
        }
        _ => Retry::Later,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_is_a_key_and_a_value_that_no_log_shows() {
        let setting: Setting = "sasl.password=a=b".parse().unwrap();
        assert_eq!(
            (setting.name.as_str(), setting.value.expose()),
            ("sasl.password", "a=b")
        );
        assert!(!format!("{setting:?}").contains("a=b"));
        assert!("nonsense".parse::<Setting>().is_err());
    }

    #[test]
    fn no_setting_weakens_a_reader() {
        let kafka = Kafka {
            brokers: "b:1".to_owned(),
            prefix: "p".to_owned(),
            replication: 1,
            settings: vec!["isolation.level=read_uncommitted".parse().unwrap()],
        };
        assert_eq!(
            kafka.reader("g").get("isolation.level"),
            Some("read_committed")
        );
        assert_eq!(kafka.reader("g").get("group.id"), Some("p.g"));
    }
}
