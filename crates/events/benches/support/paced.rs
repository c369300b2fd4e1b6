//! Appends at a pace, each with its number in it, so that whoever gets the fact can tell how long it took.

use std::time::Duration;

use events::fact::post::ReactionAdded;
use events::id::{CommandId, PostId, StreamKey, TenantId, UserId};
use events::store::{Append, Command, Expected, Log};
use service::shutdown::Shutdown;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;
use uuid::Uuid;

/// Appends in a round, and how far they lie apart.
pub(crate) const APPENDS: u32 = 10_000;
pub(crate) const APART: Duration = Duration::from_millis(1);

/// A round of appends.
#[derive(Clone)]
pub(crate) struct Paced {
    log: Log,
    tenant: TenantId,
    run: String,
}

impl Paced {
    pub(crate) async fn new(log: &Log) -> Self {
        Self {
            log: log.clone(),
            tenant: log.default_tenant().await.unwrap(),
            run: Uuid::now_v7().simple().to_string(),
        }
    }

    /// Starts all of them; when the first is due.
    pub(crate) fn start(&self, shutdown: &Shutdown) -> (Instant, JoinHandle<()>) {
        let begun = Instant::now() + APART * 10;
        let paced = self.clone();
        let appends = shutdown.spawn(async move {
            let mut running = JoinSet::new();
            for n in 0..APPENDS {
                tokio::time::sleep_until(begun + APART * n).await;
                let paced = paced.clone();
                running.spawn(async move { paced.append(n).await });
            }
            running.join_all().await;
        });
        (begun, appends)
    }

    /// How long the append with this number has been due.
    pub(crate) fn wait(begun: Instant, n: u32) -> Duration {
        (begun + APART * n).elapsed()
    }

    /// The number of the append that a payload is of, if it is of this round.
    pub(crate) fn number(&self, payload: &str) -> Option<u32> {
        let (_, after) = payload.split_once(&format!("{}-", self.run))?;
        after.get(..8)?.parse().ok()
    }

    pub(crate) async fn append(&self, n: u32) {
        let post = PostId(Uuid::now_v7());
        let user = UserId(Uuid::from_u128(1));
        let fact = ReactionAdded {
            post,
            comment: None,
            user,
            kind: format!("{}-{n:08}{}", self.run, "x".repeat(145)),
        };
        let command = Command {
            id: CommandId {
                tenant: self.tenant,
                actor: user,
                route: self.run.clone(),
                key: n.to_string(),
            },
            body_hash: [0; 32],
            correlation: None,
            cause: None,
        };
        let append = Append {
            stream: StreamKey::post_reaction(post, user),
            expected: Expected::NoStream,
            facts: vec![fact.into()],
        };
        self.log.append(&command, vec![append]).await.unwrap();
    }
}

/// The 99th percentile, in ms; says what surrounds it.
pub(crate) fn p99(whose: &str, mut waits: Vec<Duration>) -> f64 {
    waits.sort_unstable();
    let at = |hundredths: usize| {
        let place = (waits.len() * hundredths / 100).min(waits.len() - 1);
        waits[place].as_secs_f64() * 1_000.0
    };
    println!(
        "steady: {whose}: p50 {:.1} ms, p90 {:.1}, p99 {:.1}, most {:.1}",
        at(50),
        at(90),
        at(99),
        at(100)
    );
    at(99)
}
