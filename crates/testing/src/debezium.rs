//! Debezium's Postgres connector in Kafka Connect, with which the relay is compared. `ops/dev/setup bench` installs it.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail, ensure};
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use uuid::Uuid;

use crate::db::Database;
use crate::process::Child;
use crate::{environment, kafka, port};

/// Of a worker and a connector: everything in a JVM is slow at first.
const START_LIMIT: Duration = Duration::from_mins(2);
const ASK_LIMIT: Duration = Duration::from_mins(1);
const EVERY: Duration = Duration::from_millis(100);

/// How much of the worker's log an error carries.
const LOG_TAIL: usize = 4_000;

/// A worker of Kafka Connect without a connector so far; killed when dropped.
#[derive(Debug)]
pub struct Connect {
    worker: Child,
    rest: String,
    client: reqwest::Client,
    _folder: tempfile::TempDir,
}

/// A connector at work: it copies the log of a database into a topic.
#[derive(Debug)]
pub struct Capture<'a> {
    connect: &'a Connect,
    name: String,
    database: String,
}

impl Connect {
    /// A worker that answers; none where there can be none, which is said.
    pub async fn start() -> anyhow::Result<Option<Self>> {
        let jars = environment::root().join(".cinelog/debezium");
        if let Some(reason) = lacking(&jars).await? {
            #[expect(clippy::print_stderr, reason = "a bench has no log")]
            {
                eprintln!("debezium: no peer: {reason}");
            }
            return Ok(None);
        }
        let folder = tempfile::tempdir()?;
        let address = port::free();
        let properties = folder.path().join("worker.properties");
        let offsets = folder.path().join("offsets");
        std::fs::write(
            &properties,
            format!(
                "bootstrap.servers={}\nlisteners=http://{address}\noffset.storage.file.filename={}\n{WORKER}",
                kafka::brokers(),
                offsets.display()
            ),
        )?;
        let mut command = tokio::process::Command::new("java");
        command
            .args(["-XX:-UsePerfData", "-Xms1g", "-Xmx2g"])
            .arg("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn")
            .arg("-cp")
            .arg(jars.join("libs/*"))
            .arg("org.apache.kafka.connect.cli.ConnectStandalone")
            .arg(&properties);
        let mut connect = Self {
            worker: Child::spawn(command),
            rest: format!("http://{address}/connectors"),
            client: reqwest::Client::builder().no_proxy().build()?,
            _folder: folder,
        };
        connect.answers().await?;
        Ok(Some(connect))
    }

    async fn answers(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + START_LIMIT;
        loop {
            let Err(error) = self.ask(Method::GET, "", None).await else {
                return Ok(());
            };
            if self.worker.ends_within(EVERY).await {
                bail!("Kafka Connect ended: {}", self.log());
            }
            ensure!(
                Instant::now() < deadline,
                "{error:#}, for {START_LIMIT:?}: {}",
                self.log()
            );
        }
    }

    /// Lets a connector copy what is in the log of `database`, and then what is appended, into `topic`, which is there
    /// already.
    pub async fn capture(&self, database: &Database, topic: &str) -> anyhow::Result<Capture<'_>> {
        let capture = Capture {
            connect: self,
            name: format!("capture_{}", Uuid::now_v7().simple()),
            database: database.url().expose().to_owned(),
        };
        let settings = capture.settings(topic)?;
        let path = format!("/{}/config", capture.name);
        self.ask(Method::PUT, &path, Some(&settings)).await?;
        Ok(capture)
    }

    async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> anyhow::Result<Value> {
        let url = format!("{}{path}", self.rest);
        let mut request = self.client.request(method, url).timeout(ASK_LIMIT);
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request
            .send()
            .await
            .context("Kafka Connect does not answer")?;
        let (status, text) = (answer.status(), answer.text().await?);
        ensure!(
            status.is_success(),
            "Kafka Connect answers {status}: {text}; its log: {}",
            self.log()
        );
        // Some answers are empty.
        Ok(serde_json::from_str(&text).unwrap_or_default())
    }

    /// The end of the worker's log.
    pub fn log(&self) -> String {
        let log = self.worker.stderr();
        let from = log.ceil_char_boundary(log.len().saturating_sub(LOG_TAIL));
        log[from..].to_owned()
    }
}

/// What is copied is text already, the payload's JSON included.
const WORKER: &str = "\
key.converter=org.apache.kafka.connect.storage.StringConverter
value.converter=org.apache.kafka.connect.storage.StringConverter
header.converter=org.apache.kafka.connect.storage.StringConverter
plugin.discovery=service_load
topic.creation.enable=false
connector.client.config.override.policy=All
";

/// What the product offers for speed, without giving up the order of each subject's facts (the subject is the key, and one
/// thread reads) or what a broker has acknowledged. Records are as the relay's, the payload with all else in headers:
/// Debezium's router for outboxes makes them so.
const SETTINGS: &[(&str, &str)] = &[
    (
        "connector.class",
        "io.debezium.connector.postgresql.PostgresConnector",
    ),
    ("tasks.max", "1"),
    ("database.hostname", "localhost"),
    ("database.password", ""),
    ("database.sslmode", "disable"),
    (
        "driver.socketFactory",
        "org.newsclub.net.unix.AFUNIXSocketFactory$FactoryArg",
    ),
    ("plugin.name", "pgoutput"),
    ("publication.autocreate.mode", "filtered"),
    ("publish.via.partition.root", "true"),
    ("table.include.list", "log.events"),
    ("snapshot.mode", "initial"),
    ("snapshot.fetch.size", "10240"),
    ("max.batch.size", "16384"),
    ("max.queue.size", "65536"),
    ("poll.interval.ms", "1"),
    ("heartbeat.interval.ms", "0"),
    ("extended.headers.enabled", "false"),
    ("transforms", "outbox"),
    (
        "transforms.outbox.type",
        "io.debezium.transforms.outbox.EventRouter",
    ),
    ("transforms.outbox.table.field.event.id", "event_id"),
    ("transforms.outbox.table.field.event.key", "subject"),
    ("transforms.outbox.table.field.event.payload", "payload"),
    (
        "transforms.outbox.table.fields.additional.placement",
        HEADERS,
    ),
    ("transforms.outbox.route.by.field", "type"),
    ("producer.override.acks", "all"),
    ("producer.override.enable.idempotence", "true"),
    (
        "producer.override.max.in.flight.requests.per.connection",
        "5",
    ),
    ("producer.override.compression.type", "lz4"),
    ("producer.override.batch.size", "131072"),
    ("producer.override.linger.ms", "1"),
];

/// Columns, and the headers that they become, named as the relay's where these hold the same.
const HEADERS: &str = "position:header:ce_position,tenant:header:ce_tenant,stream_id:header:ce_stream,\
version:header:ce_streamversion,type:header:ce_type,schema_version:header:ce_schemaversion,\
subject:header:ce_subject,recorded_at:header:ce_time,meta:header:meta";

/// Why there can be no Debezium here.
async fn lacking(jars: &Path) -> anyhow::Result<Option<&'static str>> {
    if !jars.join("made-from").exists() {
        return Ok(Some("it is not installed: run ops/dev/setup bench"));
    }
    let mut server = PgConnection::connect(&environment::required("DATABASE_URL")).await?;
    let level: String = sqlx::query_scalar("SHOW wal_level")
        .fetch_one(&mut server)
        .await?;
    server.close().await?;
    Ok((level != "logical").then_some(
        "this Postgres cannot decode its log: run through ops/dev/with-services --logical",
    ))
}

impl Capture<'_> {
    fn settings(&self, topic: &str) -> anyhow::Result<Value> {
        let url = url::Url::parse(&self.database)?;
        let folder = url.query_pairs().find(|(name, _)| name == "host");
        let folder = folder.context("DATABASE_URL names no unix socket")?.1;
        let port = url.port().unwrap_or(5432);
        let socket = PathBuf::from(folder.as_ref()).join(format!(".s.PGSQL.{port}"));
        let mut settings = json!({
            "database.port": port.to_string(),
            "database.user": url.username(),
            "database.dbname": url.path().trim_start_matches('/'),
            "driver.socketFactoryArg": socket,
            "slot.name": self.name,
            "publication.name": self.name,
            "topic.prefix": self.name,
            "transforms.outbox.route.topic.replacement": topic,
        });
        for (name, value) in SETTINGS {
            settings[name] = json!(value);
        }
        Ok(settings)
    }

    /// Waits until it has failed; says why. While all is well this does not end.
    pub async fn failure(&self) -> anyhow::Error {
        let path = format!("/{}/status", self.name);
        loop {
            let status = match self.connect.ask(Method::GET, &path, None).await {
                Ok(status) => status,
                Err(error) => return error,
            };
            let tasks = status["tasks"].as_array().into_iter().flatten();
            for part in tasks.chain([&status["connector"]]) {
                if part["state"] == "FAILED" {
                    let trace = part["trace"].as_str().unwrap_or_default();
                    return anyhow!("Debezium failed: {trace}; its log: {}", self.connect.log());
                }
            }
            tokio::time::sleep(EVERY * 10).await;
        }
    }

    /// Stops it and leaves no trace of it in the database: a slot would keep the write-ahead log for ever.
    pub async fn end(self) -> anyhow::Result<()> {
        let path = format!("/{}", self.name);
        self.connect.ask(Method::DELETE, &path, None).await?;
        let mut database = PgConnection::connect(&self.database).await?;
        let deadline = Instant::now() + ASK_LIMIT;
        // Who is still at the slot keeps it from being dropped.
        while sqlx::query_scalar("SELECT active FROM pg_replication_slots WHERE slot_name = $1")
            .bind(&self.name)
            .fetch_optional(&mut database)
            .await?
            == Some(true)
        {
            ensure!(
                Instant::now() < deadline,
                "Debezium holds its slot for {ASK_LIMIT:?} after its end: {}",
                self.connect.log()
            );
            tokio::time::sleep(EVERY).await;
        }
        sqlx::query(
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = $1",
        )
        .bind(&self.name)
        .execute(&mut database)
        .await?;
        // The name is made in this module, of lower-case letters, digits and `_`.
        let sql = format!("DROP PUBLICATION IF EXISTS {}", self.name);
        sqlx::query(AssertSqlSafe(sql))
            .execute(&mut database)
            .await?;
        Ok(database.close().await?)
    }
}
