//! How many facts a second a reader far behind gets, typed, into a handler that counts them. The ceiling is an ordered
//! binary COPY of the same columns, to nowhere. The peer hands over fewer, because it is far slower; its rate counts.

#![expect(clippy::unwrap_used, reason = "a bench that cannot go on has failed")]
#![expect(clippy::print_stdout, reason = "its table is for people")]

#[path = "support/filled.rs"]
mod filled;
mod support;

use std::time::{Duration, Instant};

use events::fact::Fact;
use events::id::Position;
use events::store::{Filter, Limits, Log, Reader};
use futures::TryStreamExt;
use serde_json::json;
use service::db::Role;
use sqlx::PgPool;
use sqlx::postgres::PgPoolCopyExt;
use testing::bench::{Row, publish};
use testing::peer::{EMMETT, Peers};

use filled::fill;
use support::World;

const FACTS: i64 = 1_000_000;
const PEER_FACTS: i64 = 20_000;
const ROUNDS: usize = 3;

#[tokio::main]
async fn main() {
    let world = World::new().await;
    let log = world.open().await;
    fill(&world.owner, FACTS).await;
    let projector = world.database.pool(Role::Projector).await;
    let mut peers = Peers::start(&[EMMETT]).await.unwrap();
    let (mut ours, mut bare, mut theirs) = (vec![], vec![], peers.sides());
    // The answer is how many it filled in, not a figure.
    let mut filled = peers.sides();
    peers
        .ask(&json!({"do": "fill", "facts": PEER_FACTS}), &mut filled)
        .await
        .unwrap();
    for _ in 0..ROUNDS {
        ours.push(ours_of(&log, Reader::from(&projector)).await);
        bare.push(bare_of(&world.owner).await);
        peers
            .ask(&json!({"do": "catchup", "facts": PEER_FACTS}), &mut theirs)
            .await
            .unwrap();
    }
    println!("{}", peers.table(&theirs));
    let row = Row {
        case: "all".to_owned(),
        unit: "facts/s",
        ours,
        peer: peers.best(&theirs),
        ceiling: ("ordered binary COPY", Some(bare)),
    };
    println!("{}", publish("catchup", &[row]).unwrap());
    world.shutdown.finish(Duration::from_secs(10)).await;
}

async fn ours_of(log: &Log, mut reader: Reader) -> f64 {
    let (begun, mut at, mut counted) = (Instant::now(), Position::START, 0);
    loop {
        let page = reader
            .page(at, &Filter::default(), Limits::BULK)
            .await
            .unwrap();
        if page.seen == at {
            break;
        }
        at = page.seen;
        let facts = log.open_facts(page.facts).await.unwrap();
        counted += facts
            .iter()
            .filter(|one| matches!(one.fact, Fact::ReactionAdded(_)))
            .count();
    }
    assert_eq!(i64::try_from(counted).unwrap(), FACTS);
    FACTS as f64 / begun.elapsed().as_secs_f64()
}

async fn bare_of(owner: &PgPool) -> f64 {
    let begun = Instant::now();
    let rows = owner
        .copy_out_raw(
            "COPY (SELECT position, lane, tenant, stream_id, version, type, schema_version, subject, payload, meta, event_id,
                          recorded_at FROM log.events ORDER BY position) TO STDOUT (FORMAT binary)",
        )
        .await
        .unwrap();
    let bytes = rows
        .try_fold(0, async |sum, part| Ok(sum + part.len()))
        .await
        .unwrap();
    assert!(bytes > 300 * usize::try_from(FACTS).unwrap());
    FACTS as f64 / begun.elapsed().as_secs_f64()
}
