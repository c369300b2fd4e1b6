//! Relays, projectors and writers are killed all at once, over and over: at each commit point and anywhere between, while
//! commits dawdle and people go on. Every now and then all may catch up, and everything that is kept twice is compared.
//!
//! `make crash SEED=7 MINUTES=5` is a long run; a short one is part of every test run.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use sqlx::PgPool;
use testing::environment;
use testing::kafka;
use testing::process::Child;

use crate::life::Chance;
use crate::program;
use crate::topic;
use crate::world::{LIMIT, Programs, World};

/// How long killing goes on before what is left is compared.
const STRETCH: Duration = Duration::from_secs(25);
/// How long a process may live that does not come by the point at which it was to die.
const LONGEST: Duration = Duration::from_secs(6);

/// What is killed, how many of each at once, and the commit points they come by.
const VICTIMS: [(Victim, usize, &[&str]); 3] = [
    (
        Victim::Relay,
        2,
        &[
            "relay.before_init",
            "relay.before_commit",
            "relay.after_commit",
        ],
    ),
    (
        Victim::Projectors,
        3,
        &["subscription.before_commit", "subscription.after_commit"],
    ),
    (
        Victim::Writer,
        2,
        &["append.before_send", "append.after_commit"],
    ),
];

#[derive(Clone, Copy)]
enum Victim {
    Relay,
    Projectors,
    Writer,
}

/// Kills, by where they happened.
type Kills = Arc<Mutex<BTreeMap<&'static str, u64>>>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_killed_the_log_stays_whole() {
    let seed = environment::optional("CRASH_SEED").map_or(1, |text| text.parse().unwrap());
    let minutes = environment::optional("CRASH_MINUTES").map_or(0.2, |text| text.parse().unwrap());
    let run = Duration::from_secs_f64(60.0 * minutes);
    let prefix = kafka::unique_prefix();
    let mut world = World::new(Some(&prefix), seed).await;
    commits_dawdle(&world.owner).await;
    let (end, kills, mut compared) = (Instant::now() + run, Kills::default(), 0);
    while Instant::now() < end {
        let until = end.min(Instant::now() + STRETCH);
        kill_until(&mut world, until, &kills).await;
        mend(&mut world).await;
        compared += 1;
    }
    topic::equals_the_log(&prefix, &world.owner).await;
    let facts: i64 = sqlx::query_scalar("SELECT max(position) FROM log.events")
        .fetch_one(&world.owner)
        .await
        .unwrap();
    let kills = kills.lock().unwrap().clone();
    let total: u64 = kills.values().sum();
    let places: Vec<_> = kills
        .iter()
        .map(|(place, n)| format!("{n} {place}"))
        .collect();
    println!(
        "crash: seed {seed}: {total} kills ({}), {facts} facts, {compared} comparisons, 0 differences",
        places.join(", ")
    );
    assert!(total > 0, "somebody was killed");
    assert!(world.shutdown.finish(LIMIT).await);
}

/// Keeps every victim dying while people go on.
async fn kill_until(world: &mut World, until: Instant, kills: &Kills) {
    let mut slots = vec![];
    for (victim, count, points) in VICTIMS {
        for _ in 0..count {
            let slot = Slot {
                programs: world.programs.clone(),
                database: world.database.url().expose().to_owned(),
                victim,
                points,
                chance: Chance(world.life.chance().below(u64::MAX)),
                kills: Arc::clone(kills),
            };
            slots.push(world.shutdown.spawn(slot.keep_killing(until)));
        }
    }
    let all = async {
        for slot in slots {
            slot.await.unwrap();
        }
    };
    tokio::select! {
        () = all => {}
        () = world.life.go_on(usize::MAX) => {}
    }
}

/// Lets everything catch up undisturbed, and compares.
async fn mend(world: &mut World) {
    let (relay, projectors) = (world.start(&["relay"]), world.start(&["projectors"]));
    world.life.go_on(10).await;
    world.caught_up().await;
    world.is_whole().await;
    for process in [relay, projectors] {
        process.signal(Signal::TERM);
        let ended = process.finish(LIMIT).await;
        assert!(ended.status.success(), "{ended:?}");
    }
}

/// One process after the other, each to die.
struct Slot {
    programs: Programs,
    database: String,
    victim: Victim,
    points: &'static [&'static str],
    chance: Chance,
    kills: Kills,
}

impl Slot {
    async fn keep_killing(mut self, until: Instant) {
        while Instant::now() < until {
            let count = self.points.len() as u64 + 1;
            let at = usize::try_from(self.chance.below(count)).unwrap();
            let point = self.points.get(at).copied();
            let time = 1 + self.chance.below(if point == Some("relay.before_init") {
                1
            } else {
                8
            });
            let armed = point.map_or_else(String::new, |point| format!("{point}=kill@{time}"));
            let mut child = self.start(&armed);
            let limit = match point {
                Some(_) => LONGEST,
                None => Duration::from_millis(200 + self.chance.below(3_000)),
            };
            let alone = child.ends_within(limit).await;
            if !alone {
                child.kill();
            }
            let ended = child.finish(LIMIT).await;
            match ended.status.signal() {
                Some(9) => {
                    let place = point.filter(|_| alone).unwrap_or("anywhere");
                    *self.kills.lock().unwrap().entry(place).or_default() += 1;
                }
                // A writer has come to its end before its turn.
                _ => assert!(ended.status.success(), "{armed}: {ended:?}"),
            }
        }
    }

    fn start(&mut self, armed: &str) -> Child {
        let armed = [("CINELOG_FAILPOINTS", armed)];
        match self.victim {
            Victim::Relay => self.programs.start(&["relay"], &armed),
            Victim::Projectors => self.programs.start(&["projectors"], &armed),
            Victim::Writer => {
                let name = format!("w{:x}", self.chance.below(u64::MAX));
                Child::start(writer(), &[&self.database, "4", "60", &name], &armed)
            }
        }
    }
}

/// The example of crate `events` that appends from many writers at once.
fn writer() -> PathBuf {
    program::path("examples/append_many")
}

/// Keeps some transactions open after they have numbered their facts and before they commit.
async fn commits_dawdle(owner: &PgPool) {
    sqlx::raw_sql(
        "CREATE FUNCTION public.dawdle() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN PERFORM pg_sleep(random() * 0.01); RETURN NULL; END $$;
         CREATE CONSTRAINT TRIGGER dawdle AFTER INSERT ON log.events_0 DEFERRABLE INITIALLY DEFERRED
         FOR EACH ROW WHEN (NEW.position % 16 = 0) EXECUTE FUNCTION public.dawdle()",
    )
    .execute(owner)
    .await
    .unwrap();
}
