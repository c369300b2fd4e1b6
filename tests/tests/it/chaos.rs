//! Relays, projectors, writers, the API and the transcoder are killed all at once, over and over: at each commit point and
//! anywhere between, while commits dawdle, the broker goes away, and people and clients go on. Every now and then all may
//! catch up, and everything that is kept twice is compared.
//!
//! `make crash SEED=7 MINUTES=5` is a long run; a short one is part of every test run.

use std::time::{Duration, Instant};

use service::shutdown::Shutdown;
use sqlx::{AssertSqlSafe, PgPool};
use testing::db::Database;
use testing::report::tell;
use testing::{clip, environment, kafka, wait};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::broker::{Broker, Outage};
use crate::client::{Client, Problems, assets_have_ended_once};
use crate::life::Chance;
use crate::topic;
use crate::victim::{Kills, Slot, VICTIMS, outlive_leases};
use crate::world::{LIMIT, World, end};

/// How long killing goes on before what is left is compared.
const STRETCH: Duration = Duration::from_secs(40);
/// Uploads that are begun in a stretch, each of which takes two jobs.
const UPLOADS: usize = 2;

/// A run that kills less proves little: five minutes come to two hundred.
const LEAST_KILLS_A_MINUTE: u64 = 40;

/// What the run has come to.
#[derive(Default)]
struct Tally {
    kills: Kills,
    outages: Vec<Outage>,
    assets: Vec<String>,
    ready: usize,
    compared: u32,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_killed_the_log_stays_whole() {
    let seed = environment::optional("CRASH_SEED").map_or(1, |text| text.parse().unwrap());
    let minutes = environment::optional("CRASH_MINUTES").map_or(0.25, |text| text.parse().unwrap());
    let length = Duration::from_secs_f64(60.0 * minutes);
    let due = LEAST_KILLS_A_MINUTE * length.as_secs() / 60;
    // The API and the transcoder find it by themselves.
    environment::required("STORAGE_URL");
    let (broker, prefix) = (Broker::start().await, kafka::unique_prefix());
    let topics = Some((broker.address(), prefix.as_str()));
    let mut world = World::on(Database::migrated().await, topics, seed).await;
    world.life.pretends_uploads = false;
    commits_dawdle(&world.owner, seed).await;
    let (api, found) = watch::channel(String::new());
    let mut clients = vec![];
    for name in ["ana", "beto"] {
        let told = Problems::default();
        clients.push(Client::new(&mut world, name, found.clone(), &told).await);
    }
    // Once undisturbed: the topic is made, and every subscription has begun.
    let whole = [world.start(&["relay"]), world.start(&["projectors"])];
    world.caught_up().await;
    for process in whole {
        end(process).await;
    }
    let mut tally = Tally::default();
    let finish = Instant::now() + length;
    while Instant::now() < finish {
        let (until, stop) = (finish.min(Instant::now() + STRETCH), world.shutdown.child());
        let asking = clients_go_on(&world, clients, &stop);
        kill_until(&mut world, &broker, until, &api, &mut tally).await;
        stop.cancel();
        clients = mend(&mut world, asking, &api, &mut tally).await;
        tally.compared += 1;
    }
    topic::at_equals_the_log(broker.address(), &prefix, &world.owner).await;
    let told = told(seed, due, &world.owner, &clients, &tally).await;
    tell(format_args!("{told}"));
    assert!(world.shutdown.finish(LIMIT).await);
}

/// Starts the clients, the first of which uploads too.
fn clients_go_on(
    world: &World,
    clients: Vec<Client>,
    stop: &Shutdown,
) -> Vec<JoinHandle<(Client, Vec<String>)>> {
    let start = |(nth, mut client): (usize, Client)| {
        let stop = stop.clone();
        world.shutdown.spawn(async move {
            let mut assets = vec![];
            if nth == 0 {
                for n in 0..UPLOADS {
                    let (clip, kind) = match n % 2 {
                        0 => (clip::tone(1), "audio/wav"),
                        _ => (clip::video(160, 90, "25", 1), "video/mp4"),
                    };
                    let bytes = std::fs::read(clip).unwrap();
                    assets.push(client.upload(&bytes, kind).await);
                }
            }
            client.go_on(&stop).await;
            (client, assets)
        })
    };
    clients.into_iter().enumerate().map(start).collect()
}

/// Keeps every victim dying while people go on; for a while of it, the broker is not there.
async fn kill_until(
    world: &mut World,
    broker: &Broker,
    until: Instant,
    api: &watch::Sender<String>,
    tally: &mut Tally,
) {
    let mut slots = vec![];
    for (victim, count, points) in VICTIMS {
        for _ in 0..count {
            let slot = Slot {
                programs: world.programs.clone(),
                database: world.database.url().expose().to_owned(),
                owner: world.owner.clone(),
                victim,
                points,
                chance: Chance(world.life.chance().below(u64::MAX)),
                api: api.clone(),
                kills: tally.kills.clone(),
            };
            slots.push(world.shutdown.spawn(slot.keep_killing(until)));
        }
    }
    let (owner, mut chance) = (
        world.owner.clone(),
        Chance(world.life.chance().below(u64::MAX)),
    );
    let all = async {
        // A broker that is started again takes its time, in which relays and readers have nothing to die at.
        let how = [Outage::Frozen, Outage::Killed][tally.outages.len() % 2];
        go_without(broker, how, &owner, &mut chance).await;
        tally.outages.push(how);
        for slot in slots {
            slot.await.unwrap();
        }
    };
    tokio::select! {
        () = all => {}
        () = world.life.go_on(usize::MAX) => {}
    }
}

/// The broker goes away in the middle of it, for as long as it takes the log to grow: nobody but the relay waits for it.
async fn go_without(broker: &Broker, how: Outage, owner: &PgPool, chance: &mut Chance) {
    grows(owner, 1 + chance.below(500)).await;
    let facts = 50 + chance.below(250);
    broker.goes_away(how, grows(owner, facts)).await;
}

async fn grows(owner: &PgPool, by: u64) {
    let before = head(owner).await;
    wait::until_true(LIMIT, "the log grows", async || {
        head(owner).await.abs_diff(before) >= by
    })
    .await;
}

async fn head(owner: &PgPool) -> i64 {
    sqlx::query_scalar("SELECT COALESCE(max(position), 0) FROM log.events")
        .fetch_one(owner)
        .await
        .unwrap()
}

/// Lets everything catch up undisturbed, and compares.
async fn mend(
    world: &mut World,
    asking: Vec<JoinHandle<(Client, Vec<String>)>>,
    url: &watch::Sender<String>,
    tally: &mut Tally,
) -> Vec<Client> {
    outlive_leases(&world.owner).await;
    let (api, found) = world.programs.api(&[]).await;
    url.send_replace(found);
    let (relay, projectors) = (world.start(&["relay"]), world.start(&["projectors"]));
    let worker = world.programs.worker(&[]);
    let mut clients = vec![];
    for client in asking {
        let (client, assets) = client.await.unwrap();
        tally.assets.extend(assets);
        clients.push(client);
    }
    world.life.go_on(10).await;
    wait::until_true(LIMIT, "every upload's jobs have ended", async || {
        ended(&world.owner).await == tally.assets.len()
    })
    .await;
    world.caught_up().await;
    world.is_whole().await;
    for client in &clients {
        client.is_kept(&world.owner).await;
    }
    tally.ready = assets_have_ended_once(&world.owner, &tally.assets).await;
    for process in [relay, projectors, api, worker] {
        end(process).await;
    }
    clients
}

async fn ended(owner: &PgPool) -> usize {
    let ended: i64 = sqlx::query_scalar(
        "SELECT count(DISTINCT stream_id) FROM log.events WHERE type IN ('asset.ready', 'asset.failed')",
    )
    .fetch_one(owner)
    .await
    .unwrap();
    usize::try_from(ended).unwrap()
}

/// Keeps some transactions of every writer open after they have numbered their facts and before they commit. The sequence
/// counts them, come what may of them.
async fn commits_dawdle(owner: &PgPool, seed: u64) {
    let seed = seed % 1_000_000;
    sqlx::raw_sql(AssertSqlSafe(format!(
        "CREATE SEQUENCE public.dawdled;
         CREATE FUNCTION public.dawdle() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
         BEGIN
             PERFORM nextval('public.dawdled');
             PERFORM pg_sleep((hashint8(NEW.position + {seed}) & 1023) / 100000.0);
             RETURN NULL;
         END $$;
         CREATE CONSTRAINT TRIGGER dawdle AFTER INSERT ON log.events_0 DEFERRABLE INITIALLY DEFERRED
         FOR EACH ROW WHEN (NEW.position % 16 = 0) EXECUTE FUNCTION public.dawdle()"
    )))
    .execute(owner)
    .await
    .unwrap();
}

/// One line of what was done and found. Whatever differs has ended the run before.
async fn told(seed: u64, due: u64, owner: &PgPool, clients: &[Client], tally: &Tally) -> String {
    let (mut accepted, mut refused) = (0, 0);
    for client in clients {
        let kept = client.is_kept(owner).await;
        (accepted, refused) = (accepted + kept.0, refused + kept.1);
    }
    let kills = tally.kills.lock().unwrap().clone();
    let total: u64 = kills.values().sum();
    let places: Vec<_> = kills
        .iter()
        .map(|(place, n)| format!("{n} {place}"))
        .collect();
    let dawdled: i64 = sqlx::query_scalar("SELECT last_value FROM public.dawdled")
        .fetch_one(owner)
        .await
        .unwrap();
    assert!(total >= due, "{total} kills, {due} are due");
    assert!(dawdled > 1, "some commits dawdled");
    assert!(accepted > 0 && refused > 0, "clients were answered");
    assert!(tally.ready > 0, "something was rendered");
    format!(
        "crash: seed {seed}: {total} kills ({}), broker away {:?}, {dawdled} commits delayed, {} facts, \
         {accepted} accepted and {refused} refused over HTTP, {} of {} uploads ready, {} comparisons, 0 differences",
        places.join(", "),
        tally.outages,
        head(owner).await,
        tally.ready,
        tally.assets.len(),
        tally.compared,
    )
}
