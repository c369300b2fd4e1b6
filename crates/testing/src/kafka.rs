//! A view of Kafka that shares nothing with the code under test but the client library: what it reads with
//! `read_committed` is what another system would get.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{Headers, Message};
use rdkafka::{Offset, TopicPartitionList};
use uuid::Uuid;

use crate::{environment, port};

/// How long reading a topic to its end may take.
const READ_LIMIT: Duration = Duration::from_mins(1);

/// One record as another system sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Which partition.
    pub partition: i32,
    /// Where in the partition.
    pub offset: i64,
    /// The key, if any.
    pub key: Option<Vec<u8>>,
    /// Headers in order; a header without a value has an empty one.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The value; empty when there is none.
    pub payload: Vec<u8>,
}

impl Record {
    /// The text of the header `name`.
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(header, _)| header == name)?;
        std::str::from_utf8(value).ok()
    }
}

/// Where the real brokers are.
///
/// # Panics
///
/// When the tests were started without Kafka.
#[track_caller]
pub fn brokers() -> String {
    environment::required("KAFKA_BROKERS")
}

/// A broker of a test's own, on this machine, to be killed and started again; ended when dropped.
#[derive(Debug)]
pub struct Broker {
    folder: tempfile::TempDir,
    port: u16,
    tls: Option<u16>,
}

impl Broker {
    /// What it wants to hear at [`Broker::tls`] from the user `cinelog`.
    pub const PASSWORD: &str = "only-on-this-machine";

    /// A broker that runs.
    ///
    /// # Panics
    ///
    /// When it does not start.
    #[expect(clippy::new_without_default, reason = "it starts a server")]
    pub fn new() -> Self {
        Self::started(None)
    }

    /// A broker that runs, and has a second door.
    ///
    /// # Panics
    ///
    /// When it does not start.
    pub fn with_tls() -> Self {
        Self::started(Some(port::free().port()))
    }

    fn started(tls: Option<u16>) -> Self {
        let broker = Self {
            folder: tempfile::tempdir().expect("make a temporary folder"),
            port: port::free().port(),
            tls,
        };
        broker.start();
        broker
    }

    /// Starts it again, with what it had, where it was.
    ///
    /// # Panics
    ///
    /// When it does not start.
    pub fn start(&self) {
        let mut start = Command::new(environment::root().join("ops/dev/kafka"));
        start.arg("start").arg(self.folder.path());
        start.arg(self.port.to_string());
        start.args(self.tls.map(|port| port.to_string()));
        assert!(
            start.status().is_ok_and(|status| status.success()),
            "the broker starts"
        );
    }

    /// Ends it as a power cut does.
    ///
    /// # Panics
    ///
    /// When it cannot be ended.
    pub fn kill(&self) {
        let file = self.folder.path().join("pid");
        let Ok(pid) = std::fs::read_to_string(&file) else {
            return;
        };
        let killed = Command::new("kill").args(["-9", pid.trim()]).status();
        assert!(
            killed.is_ok_and(|status| status.success()),
            "the broker was running"
        );
        std::fs::remove_file(file).expect("remove the broker's pid");
    }

    /// Where it is.
    pub fn brokers(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Where it wants TLS and a password.
    ///
    /// # Panics
    ///
    /// When it has no such door.
    pub fn tls(&self) -> String {
        format!("127.0.0.1:{}", self.tls.expect("it has a second door"))
    }

    /// The certificate of the authority that signed its own.
    pub fn authority(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A prefix for topics that no other test uses.
pub fn unique_prefix() -> String {
    format!("test-{}", Uuid::now_v7().simple())
}

/// All committed records of `topic`, each partition from its first offset to its last stable one, partition by
/// partition.
///
/// # Panics
///
/// When the topic does not exist or cannot be read in time.
pub async fn read_committed(topic: &str) -> Vec<Record> {
    read_committed_at(&brokers(), topic).await
}

/// The same, of brokers that are a test's own.
///
/// # Panics
///
/// When the topic does not exist or cannot be read in time.
pub async fn read_committed_at(brokers: &str, topic: &str) -> Vec<Record> {
    let (brokers, topic) = (brokers.to_owned(), topic.to_owned());
    // The consumer's calls block.
    let read = tokio::task::spawn_blocking(move || read_topic(&brokers, &topic));
    read.await
        .expect("the reader does not panic")
        .unwrap_or_else(|error| panic!("read from Kafka: {error:#}"))
}

fn read_topic(brokers: &str, topic: &str) -> anyhow::Result<Vec<Record>> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        // Required by the library; nothing is committed under it.
        .set("group.id", unique_prefix())
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("isolation.level", "read_committed")
        .create()?;
    let deadline = Instant::now() + READ_LIMIT;
    // Whoever makes the topic may have begun just now.
    let partitions = loop {
        let metadata = consumer.fetch_metadata(Some(topic), Duration::from_secs(10))?;
        let topic = metadata.topics().first();
        match topic.map_or(0, |topic| topic.partitions().len()) {
            0 => anyhow::ensure!(Instant::now() < deadline, "there is no such topic"),
            partitions => break partitions,
        }
        std::thread::sleep(Duration::from_millis(100));
    };
    let mut wanted = TopicPartitionList::new();
    // A partition that grows tells its end again and again, and it must count once.
    let mut open: BTreeSet<i32> = (0..i32::try_from(partitions)?).collect();
    for partition in &open {
        wanted.add_partition_offset(topic, *partition, Offset::Beginning)?;
    }
    consumer.assign(&wanted)?;

    let mut records = Vec::new();
    while !open.is_empty() {
        anyhow::ensure!(
            Instant::now() < deadline,
            "{} partitions of {topic} not read within {READ_LIMIT:?}",
            open.len()
        );
        match consumer.poll(Duration::from_millis(200)) {
            Some(Ok(message)) => records.push(record(&message)),
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                open.remove(&partition);
            }
            Some(Err(error)) => return Err(error.into()),
            None => {}
        }
    }
    records.sort_by_key(|record| (record.partition, record.offset));
    Ok(records)
}

fn record(message: &impl Message) -> Record {
    let headers = message.headers().into_iter().flat_map(Headers::iter);
    Record {
        partition: message.partition(),
        offset: message.offset(),
        key: message.key().map(<[u8]>::to_vec),
        headers: headers
            .map(|h| (h.key.to_owned(), h.value.unwrap_or_default().to_vec()))
            .collect(),
        payload: message.payload().unwrap_or_default().to_vec(),
    }
}
