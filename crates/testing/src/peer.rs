//! Peers: other products, each behind a program of `bench/peers` that takes a request a line and answers with one.

use std::process::Stdio;
use std::time::Duration;

use anyhow::Context;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::bench::median;
use crate::db::Database;
use crate::environment;

/// How long a peer may take for one request.
const LIMIT: Duration = Duration::from_mins(4);

/// A peer's product, and the program that speaks for it.
#[derive(Clone, Copy, Debug)]
pub struct Program {
    /// The product.
    pub name: &'static str,
    interpreter: &'static str,
    script: &'static str,
    /// What is there once `ops/dev/setup bench` has run.
    installed: &'static str,
}

/// Emmett's event store in Postgres, from npm.
pub const EMMETT: Program = Program {
    name: "emmett-postgresql",
    interpreter: "node",
    script: "emmett.mjs",
    installed: "bench/peers/node_modules/@event-driven-io/emmett-postgresql",
};
/// message-db, a message store in SQL, from npm.
pub const MESSAGE_DB: Program = Program {
    name: "message-db",
    interpreter: "node",
    script: "message-db.mjs",
    installed: "bench/peers/node_modules/@eventide/message-db",
};
/// Python's eventsourcing, from the Python Package Index.
pub const EVENTSOURCING: Program = Program {
    name: "eventsourcing",
    interpreter: ".cinelog/peers/bin/python",
    script: "eventsourcing_peer.py",
    installed: ".cinelog/peers/bin/python",
};

/// disintegrate's listener in Postgres, from crates.io.
pub const DISINTEGRATE: Program = Program {
    name: "disintegrate-postgres",
    interpreter: ".cinelog/peers/build/release/disintegrate-peer",
    script: "disintegrate",
    installed: ".cinelog/peers/build/release/disintegrate-peer",
};

/// A peer at work, on a database of its own on the same server as ours.
pub struct Peer {
    /// Its name and version.
    pub name: String,
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    _database: Database,
}

impl Peer {
    /// Starts a peer; none where it is not installed, which is said.
    pub async fn start(program: &Program) -> anyhow::Result<Option<Self>> {
        let root = environment::root();
        if !root.join(program.installed).exists() {
            tracing::warn!(
                peer = program.name,
                "not installed: run ops/dev/setup bench"
            );
            return Ok(None);
        }
        let database = Database::create("peer", async |_| Ok(())).await;
        let interpreter = match program.interpreter {
            "node" => "node".into(),
            path => root.join(path),
        };
        let mut child = Command::new(interpreter)
            .arg(root.join("bench/peers").join(program.script))
            .env("DATABASE_URL", database.url().expose())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("start {}", program.name))?;
        let input = child.stdin.take().context("its input is piped")?;
        let output = child.stdout.take().context("its output is piped")?;
        let mut peer = Self {
            name: program.name.to_owned(),
            child,
            input,
            output: BufReader::new(output).lines(),
            _database: database,
        };
        let greeting = peer.answer().await?;
        let version = greeting["version"]
            .as_str()
            .context("it says its version")?;
        peer.name = format!("{} {version}", program.name);
        Ok(Some(peer))
    }

    /// Its answer to a request.
    pub async fn ask(&mut self, request: &Value) -> anyhow::Result<Value> {
        let line = format!("{request}\n");
        self.input.write_all(line.as_bytes()).await?;
        self.answer().await
    }

    async fn answer(&mut self) -> anyhow::Result<Value> {
        let line = tokio::time::timeout(LIMIT, self.output.next_line()).await;
        match line.with_context(|| format!("{} does not answer", self.name))?? {
            Some(line) => Ok(serde_json::from_str(&line)?),
            None => anyhow::bail!("{} ended: {}", self.name, self.child.wait().await?),
        }
    }
}

/// The peers of a bench, and what each was measured at: one figure a round, none where it is not installed.
pub struct Peers(Vec<(Program, Option<Peer>)>);

/// What the peers were measured at, in their order.
pub type Sides = Vec<Option<Vec<f64>>>;

impl Peers {
    /// Starts those that are installed.
    pub async fn start(programs: &[Program]) -> anyhow::Result<Self> {
        let mut peers = vec![];
        for program in programs {
            peers.push((*program, Peer::start(program).await?));
        }
        Ok(Self(peers))
    }

    /// Where the figures of a case will be.
    pub fn sides(&self) -> Sides {
        let peers = self.0.iter();
        peers
            .map(|(_, peer)| peer.as_ref().map(|_| vec![]))
            .collect()
    }

    /// Asks each in turn for one more figure.
    pub async fn ask(&mut self, request: &Value, sides: &mut Sides) -> anyhow::Result<()> {
        for ((program, peer), side) in self.0.iter_mut().zip(sides) {
            if let (Some(peer), Some(side)) = (peer, side) {
                let figure = peer.ask(request).await?;
                side.push(
                    figure
                        .as_f64()
                        .with_context(|| format!("{}: {figure}", program.name))?,
                );
            }
        }
        Ok(())
    }

    /// The fastest, as a row of a bench has it.
    pub fn best(&self, sides: &Sides) -> (&'static str, Option<Vec<f64>>) {
        let mut best = (
            self.0.first().map_or("none", |(program, _)| program.name),
            None,
        );
        for ((program, _), side) in self.0.iter().zip(sides) {
            let Some(side) = side else { continue };
            let slower = best
                .1
                .as_deref()
                .is_none_or(|best| median(best) < median(side));
            if slower {
                best = (program.name, Some(side.clone()));
            }
        }
        best
    }

    /// A line with every peer's version and median.
    pub fn table(&self, sides: &Sides) -> String {
        let peers = self.0.iter().zip(sides);
        let told = peers.map(|((program, peer), side)| match (peer, side) {
            (Some(peer), Some(side)) => format!("{} {:.0}", peer.name, median(side)),
            _ => format!("{} is not installed", program.name),
        });
        told.collect::<Vec<_>>().join(" · ")
    }
}
