//! How many facts a second clients append, each with the version it expects, one fact a command, 300 bytes of payload.
//!
//! `uniform`: each client has a thousand streams of its own. `zipf`: all clients share a thousand streams, the n-th of
//! which is picked in proportion to 1/n, so that they meet and some must try again. The ceiling is one connection that
//! inserts the very rows of our round into a copy of the table, as many as there are clients in each commit, and checks
//! nothing. The peers do the same on databases of their own, in turns with us; the table has the best of them.

#![expect(clippy::unwrap_used, reason = "a bench that cannot go on has failed")]
#![expect(clippy::print_stdout, reason = "its table is for people")]

mod support;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use events::fact::post::ReactionAdded;
use events::id::{CommandId, PostId, StreamKey, TenantId, UserId};
use events::store::{Append, Command, ExecuteError, Expected, Log};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde_json::json;
use sqlx::PgPool;
use testing::bench::{self, publish};
use testing::peer::{EMMETT, EVENTSOURCING, MESSAGE_DB, Peers};
use uuid::Uuid;

use support::World;

const CLIENTS: [usize; 4] = [1, 8, 32, 64];
const ROUNDS: usize = 3;
const ROUND: Duration = Duration::from_secs(2);
const STREAMS: usize = 1_000;

#[tokio::main]
async fn main() {
    let world = World::new().await;
    let log = world.open().await;
    let tenant = log.default_tenant().await.unwrap();
    let owner = &world.owner;
    sqlx::raw_sql("CREATE TABLE bare (LIKE log.events_0 INCLUDING ALL)")
        .execute(owner)
        .await
        .unwrap();
    let mut peers = Peers::start(&[EMMETT, MESSAGE_DB, EVENTSOURCING])
        .await
        .unwrap();
    let mut rows = vec![];
    let mut run = 0;
    for zipf in [false, true] {
        for clients in CLIENTS {
            let name = if zipf { "zipf" } else { "uniform" };
            let (mut ours, mut bare, mut theirs) = (vec![], vec![], peers.sides());
            for _ in 0..ROUNDS {
                run += 1;
                let before =
                    sqlx::query_scalar("SELECT COALESCE(max(position), 0) FROM log.events")
                        .fetch_one(owner)
                        .await
                        .unwrap();
                ours.push(ours_of(&log, tenant, clients, zipf, run).await);
                bare.push(bare_of(owner, clients, before).await);
                let seconds = ROUND.as_secs_f64();
                let request = json!({"do": "append", "clients": clients, "zipf": zipf, "seconds": seconds, "run": run});
                peers.ask(&request, &mut theirs).await.unwrap();
            }
            println!("{name} {clients}: {}", peers.table(&theirs));
            rows.push(bench::Row {
                case: format!("{name} {clients}"),
                unit: "facts/s",
                ours,
                peer: peers.best(&theirs),
                ceiling: ("bare UNNEST insert", Some(bare)),
            });
        }
    }
    println!("{}", publish("append", &rows).unwrap());
    world.shutdown.finish(Duration::from_secs(10)).await;
}

/// The version that clients believe a stream to have.
type Versions = Arc<Mutex<HashMap<usize, i64>>>;

async fn ours_of(log: &Log, tenant: TenantId, clients: usize, zipf: bool, run: u64) -> f64 {
    let until = Instant::now() + ROUND;
    let shared = Versions::default();
    let begun = Instant::now();
    let clients = (0..clients).map(|client| {
        let (log, versions) = (
            log.clone(),
            if zipf {
                shared.clone()
            } else {
                Versions::default()
            },
        );
        let first = if zipf { 0 } else { client * STREAMS };
        let client = Client {
            log,
            tenant,
            versions,
            first,
            zipf,
            run,
            chance: SmallRng::seed_from_u64(run * 1_000 + client as u64),
        };
        #[expect(clippy::disallowed_methods, reason = "awaited a few lines below")]
        tokio::spawn(client.append_until(until))
    });
    let mut facts = 0;
    for client in clients.collect::<Vec<_>>() {
        facts += client.await.unwrap();
    }
    facts as f64 / begun.elapsed().as_secs_f64()
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
        let user = UserId(Uuid::from_u128(1));
        let fact = ReactionAdded {
            post,
            comment: None,
            user,
            kind: "x".repeat(186),
        };
        let command = Command {
            id: CommandId {
                tenant: self.tenant,
                actor: user,
                route: "bench".to_owned(),
                key: Uuid::from_u128(self.chance.random()).to_string(),
            },
            body_hash: [0; 32],
            correlation: None,
            cause: None,
        };
        let append = Append {
            stream: StreamKey::post_reaction(post, user),
            expected,
            facts: vec![fact.into()],
        };
        let accepted = self.log.append(&command, vec![append]).await?;
        Ok(accepted.last().unwrap().version)
    }
}

/// A row of the log as it is inserted.
#[derive(sqlx::FromRow)]
struct Row {
    position: i64,
    lane: i16,
    tenant: Uuid,
    stream_id: String,
    version: i64,
    #[sqlx(rename = "type")]
    fact_type: String,
    schema_version: i16,
    subject: String,
    payload: String,
    meta: String,
    event_id: Uuid,
}

/// Rows a second that one connection inserts, `each` in a commit: the rows of the log after `position`, once more.
async fn bare_of(owner: &PgPool, each: usize, position: i64) -> f64 {
    let mut connection = owner.acquire().await.unwrap();
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT position, lane, tenant, stream_id, version, type, schema_version, subject, payload::text, meta::text, event_id
         FROM log.events WHERE position > $1 ORDER BY position",
    )
    .bind(position)
    .fetch_all(&mut *connection)
    .await
    .unwrap();
    let begun = Instant::now();
    for rows in rows.chunks(each) {
        sqlx::query(
            "INSERT INTO bare SELECT u.*, now()
             FROM (SELECT position, lane, tenant, stream, version, type, schema, subject, payload::jsonb, meta::jsonb, event
                   FROM unnest($1::bigint[], $2::smallint[], $3::uuid[], $4::text[], $5::bigint[], $6::text[], $7::smallint[],
                               $8::text[], $9::text[], $10::text[], $11::uuid[])
                        AS u(position, lane, tenant, stream, version, type, schema, subject, payload, meta, event)) u",
        )
        .bind(rows.iter().map(|r| r.position).collect::<Vec<_>>())
        .bind(rows.iter().map(|r| r.lane).collect::<Vec<_>>())
        .bind(rows.iter().map(|r| r.tenant).collect::<Vec<_>>())
        .bind(rows.iter().map(|r| &*r.stream_id).collect::<Vec<_>>())
        .bind(rows.iter().map(|r| r.version).collect::<Vec<_>>())
        .bind(rows.iter().map(|r| &*r.fact_type).collect::<Vec<_>>())
        .bind(rows.iter().map(|r| r.schema_version).collect::<Vec<_>>())
        .bind(rows.iter().map(|r| &*r.subject).collect::<Vec<_>>())
        .bind(rows.iter().map(|r| &*r.payload).collect::<Vec<_>>())
        .bind(rows.iter().map(|r| &*r.meta).collect::<Vec<_>>())
        .bind(rows.iter().map(|r| r.event_id).collect::<Vec<_>>())
        .execute(&mut *connection)
        .await
        .unwrap();
    }
    rows.len() as f64 / begun.elapsed().as_secs_f64()
}
