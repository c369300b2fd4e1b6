//! How many facts a second clients append, each with the version it expects, one fact a command, 300 bytes of payload.
//!
//! `uniform`: each client has a thousand streams of its own. `zipf`: all clients share a thousand streams, the n-th of
//! which is picked in proportion to 1/n, so that they meet and some must try again. The ceiling is one connection that
//! inserts the very rows of our round into a copy of the table, as many as there are clients in each commit, and checks
//! nothing. The peers do the same on databases of their own, in turns with us; the table has the best of them.

#![expect(clippy::unwrap_used, reason = "a bench that cannot go on has failed")]
#![expect(clippy::print_stdout, reason = "its table is for people")]

#[path = "support/clients.rs"]
mod clients;
#[path = "support/reaction.rs"]
mod reaction;
mod support;

use std::time::{Duration, Instant};

use serde_json::json;
use sqlx::PgPool;
use testing::bench::{self, publish};
use testing::peer::{EMMETT, EVENTSOURCING, MESSAGE_DB, Peers};
use uuid::Uuid;

use clients::Clients;
use support::World;

const CLIENTS: [usize; 4] = [1, 8, 32, 64];
const ROUNDS: usize = 3;
const ROUND: Duration = Duration::from_secs(2);

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
                let round = Clients {
                    log: &log,
                    tenant,
                    number: clients,
                    zipf,
                    run,
                };
                ours.push(round.append_for(ROUND).await);
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
