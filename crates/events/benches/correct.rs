//! What a consumer that tails along misses, gets twice, or gets in another order than its stream has, while many write and
//! each row waits up to three milliseconds between its insert and its commit.
//!
//! Ours writes from four processes' worth of writers; the peers from as many clients. Each reads through its own public
//! consumer. A peer's figure in the table is the first one's; the lines above it have all.

#![expect(clippy::unwrap_used, reason = "a bench that cannot go on has failed")]
#![expect(clippy::print_stdout, reason = "its table is for people")]

#[path = "support/reaction.rs"]
mod reaction;
mod support;

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use events::id::{EventId, Lane, Position, PostId, TenantId};
use events::source::{LaneStart, Source};
use events::store::{Expected, Log, Wake};
use serde_json::{Value, json};
use service::db::Role;
use testing::bench::{Row, publish};
use testing::peer::{EMMETT, EVENTSOURCING, MESSAGE_DB, Peer};
use uuid::Uuid;

use reaction::reaction;
use support::World;

const WRITERS: usize = 32;
const FACTS: usize = 12_000;
/// Fewer for the peer that locks its table for each write.
const FEWER: usize = 3_200;
const LOGS: usize = 4;
/// A tail that has seen nothing for so long has seen all that it will.
const QUIET: Duration = Duration::from_secs(2);
const CASES: [&str; 3] = ["lost", "doubled", "reordered"];

#[tokio::main]
async fn main() {
    let mut ours: HashMap<&str, f64> = HashMap::new();
    for (case, count) in CASES.iter().zip(ours_of().await) {
        ours.insert(case, count as f64);
    }
    println!("cinelog: {}", told(&json!(ours), FACTS));
    let mut first: Option<Value> = None;
    let peers = [(EMMETT, FACTS), (MESSAGE_DB, FACTS), (EVENTSOURCING, FEWER)];
    for (n, (program, events)) in peers.iter().enumerate() {
        let Some(mut peer) = Peer::start(program).await.unwrap() else {
            println!("{} is not installed", program.name);
            continue;
        };
        let request = json!({"do": "correct", "writers": WRITERS, "events": events, "run": n + 1});
        let counts = peer.ask(&request).await.unwrap();
        println!("{}: {}", peer.name, told(&counts, *events));
        first = first.or_else(|| (n == 0).then_some(counts));
    }
    let row = |case: &&str| Row {
        case: (*case).to_owned(),
        unit: "facts",
        ours: vec![ours[case]],
        peer: (
            EMMETT.name,
            first
                .as_ref()
                .map(|counts| vec![counts[case].as_f64().unwrap()]),
        ),
        ceiling: ("none", Some(vec![0.0])),
    };
    let rows: Vec<Row> = CASES.iter().map(row).collect();
    println!("{}", publish("correct", &rows).unwrap());
}

fn told(counts: &Value, events: usize) -> String {
    let one = |case: &&str| format!("{} {case}", counts[*case]);
    format!(
        "{} of {events}",
        CASES.iter().map(one).collect::<Vec<_>>().join(", ")
    )
}

async fn ours_of() -> [usize; 3] {
    let world = World::new().await;
    sqlx::raw_sql(
        "CREATE FUNCTION public.delay() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN PERFORM pg_sleep(random() * 0.003); RETURN NULL; END $$;
         CREATE CONSTRAINT TRIGGER delayed AFTER INSERT ON log.events DEFERRABLE INITIALLY DEFERRED
             FOR EACH ROW EXECUTE FUNCTION public.delay()",
    )
    .execute(&world.owner)
    .await
    .unwrap();
    let mut logs = vec![];
    for _ in 0..LOGS {
        logs.push(world.open().await);
    }
    let tenant = logs[0].default_tenant().await.unwrap();
    let (written, told) = tokio::sync::watch::channel(false);
    let tail = tail(&world, told);
    #[expect(clippy::disallowed_methods, reason = "awaited a few lines below")]
    let tail = tokio::spawn(tail.await);
    #[expect(clippy::disallowed_methods, reason = "awaited a few lines below")]
    let writers: Vec<_> = (0..WRITERS)
        .map(|n| tokio::spawn(write(logs[n % LOGS].clone(), tenant, n)))
        .collect();
    let mut accepted: Vec<EventId> = vec![];
    for writer in writers {
        accepted.extend(writer.await.unwrap());
    }
    written.send_replace(true);
    let (seen, doubled, reordered) = tail.await.unwrap();
    world.shutdown.finish(Duration::from_secs(10)).await;
    let lost = accepted.iter().filter(|id| !seen.contains(id)).count();
    [lost, doubled, reordered]
}

/// Appends to ten streams in turn, each on the version before.
async fn write(log: Log, tenant: TenantId, writer: usize) -> Vec<EventId> {
    let mut ids = vec![];
    for n in 0..FACTS / WRITERS {
        let post = PostId(Uuid::from_u64_pair(writer as u64, (n % 10) as u64));
        let before = i64::try_from(n / 10).unwrap();
        let expected = if before == 0 {
            Expected::NoStream
        } else {
            Expected::Exact(before)
        };
        let (command, append) = reaction(tenant, post, format!("{writer}-{n}"), expected);
        let accepted = log.append(&command, vec![append]).await.unwrap();
        ids.extend(accepted.facts.iter().map(|fact| fact.event_id));
    }
    ids
}

/// What the tail saw, how often something twice, and how often something before what its stream has before it.
type Seen = (HashSet<EventId>, usize, usize);

async fn tail(
    world: &World,
    written: tokio::sync::watch::Receiver<bool>,
) -> impl Future<Output = Seen> + Send + use<> {
    let pool = world.database.pool(Role::Projector).await;
    let mut source = Source::postgres(&pool, Wake::start(pool.clone(), &world.shutdown));
    let lanes = (0..64).filter_map(Lane::new).map(|lane| LaneStart {
        lane,
        after: Position::START,
        offset: 0,
    });
    source.assign(lanes.collect()).await.unwrap();
    async move {
        let (mut seen, mut doubled, mut reordered) = (HashSet::new(), 0, 0);
        let mut last: HashMap<String, i64> = HashMap::new();
        let mut quiet = Instant::now();
        while !*written.borrow() || quiet.elapsed() < QUIET {
            for (fact, _) in source
                .next(1_000, Duration::from_millis(100))
                .await
                .unwrap()
            {
                quiet = Instant::now();
                let before = last.insert(fact.stream.clone(), fact.version).unwrap_or(0);
                if !seen.insert(fact.event_id) {
                    doubled += 1;
                } else if fact.version <= before {
                    reordered += 1;
                }
            }
        }
        (seen, doubled, reordered)
    }
}
