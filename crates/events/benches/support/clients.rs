//! Clients that append as fast as they are answered: 300 bytes a fact, one fact a command, with the version they expect.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use events::id::{PostId, TenantId};
use events::store::{ExecuteError, Expected, Log};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use uuid::Uuid;

use crate::reaction::reaction;

const STREAMS: usize = 1_000;

/// A round of appending.
#[derive(Clone, Copy)]
pub(crate) struct Clients<'a> {
    pub(crate) log: &'a Log,
    pub(crate) tenant: TenantId,
    pub(crate) number: usize,
    /// Whether they share a thousand streams, instead of having a thousand each.
    pub(crate) zipf: bool,
    /// Another number, other streams.
    pub(crate) run: u64,
}

/// The version that clients believe a stream to have.
type Versions = Arc<Mutex<HashMap<usize, i64>>>;

impl Clients<'_> {
    /// Facts a second.
    pub(crate) async fn append_for(self, time: Duration) -> f64 {
        let (begun, shared) = (Instant::now(), Versions::default());
        let clients = (0..self.number).map(|client| {
            let client = Client {
                log: self.log.clone(),
                tenant: self.tenant,
                versions: if self.zipf {
                    shared.clone()
                } else {
                    Versions::default()
                },
                first: if self.zipf { 0 } else { client * STREAMS },
                zipf: self.zipf,
                run: self.run,
                chance: SmallRng::seed_from_u64(self.run * 1_000 + client as u64),
            };
            #[expect(clippy::disallowed_methods, reason = "awaited a few lines below")]
            tokio::spawn(client.append_until(begun + time))
        });
        let mut facts = 0;
        for client in clients.collect::<Vec<_>>() {
            facts += client.await.unwrap();
        }
        facts as f64 / begun.elapsed().as_secs_f64()
    }
}

struct Client {
    log: Log,
    tenant: TenantId,
    versions: Versions,
    first: usize,
    zipf: bool,
    run: u64,
    chance: SmallRng,
}

impl Client {
    async fn append_until(mut self, until: Instant) -> u64 {
        let mut facts = 0;
        while Instant::now() < until {
            let stream = self.first + self.pick();
            let before = self.versions.lock().unwrap().get(&stream).copied();
            let expected = before.map_or(Expected::NoStream, Expected::Exact);
            let version = match self.append(stream, expected).await {
                Ok(accepted) => {
                    facts += 1;
                    accepted
                }
                Err(ExecuteError::Conflict { actual, .. }) => actual,
                Err(error) => panic!("{error}"),
            };
            let mut versions = self.versions.lock().unwrap();
            let known = versions.entry(stream).or_insert(version);
            *known = version.max(*known);
        }
        facts
    }

    fn pick(&mut self) -> usize {
        if !self.zipf {
            return self.chance.random_range(0..STREAMS);
        }
        // The inverse of the harmonic sum, near enough: H(n) ~ ln n.
        let u: f64 = self.chance.random();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "between 1 and the streams"
        )]
        let n = (u * (STREAMS as f64).ln()).exp() as usize;
        n.clamp(1, STREAMS) - 1
    }

    async fn append(&mut self, stream: usize, expected: Expected) -> Result<i64, ExecuteError> {
        let post = PostId(Uuid::from_u64_pair(self.run, stream as u64));
        let key = Uuid::from_u128(self.chance.random()).to_string();
        let (command, append) = reaction(self.tenant, post, key, expected);
        let accepted = self.log.append(&command, vec![append]).await?;
        Ok(accepted.last().unwrap().version)
    }
}
