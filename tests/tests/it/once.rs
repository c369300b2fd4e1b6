//! Commands at a steady rate, each under a key of its own and asked for until it is answered, while the API is killed every
//! few seconds: what was accepted is in the log, once.
//!
//! With `LONG=1` 500 a second for three minutes, as ops/k6/README.md says; a short run is part of every test run.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use projectors::registry;
use reqwest::StatusCode;
use serde_json::{Value, json};
use service::db::Role;
use service::shutdown::Shutdown;
use sqlx::PgPool;
use testing::db::Database;
use testing::environment;
use testing::report::tell;
use tokio::sync::{Semaphore, watch};
use tokio::time::{MissedTickBehavior, interval, timeout};
use uuid::Uuid;

use crate::life::Chance;
use crate::victim::{Kills, Slot, Victim};
use crate::world::{Programs, end};

/// How long one command is asked for.
const PATIENCE: Duration = Duration::from_mins(2);
/// How long one answer is waited for.
const ANSWER: Duration = Duration::from_secs(40);
/// From one time of asking to the next.
const PAUSE: Duration = Duration::from_millis(100);
/// Commands on their way at once; on two cores the API takes half of them, and the others ask again.
const AT_ONCE: usize = 512;
/// One in so many is asked for once more although it was answered.
const REPEATED: usize = 10;

/// Whoever asks, and what came of it.
#[derive(Clone)]
struct Caller {
    http: reqwest::Client,
    /// Where the API was last seen.
    base: watch::Receiver<String>,
    token: Arc<str>,
    /// Requests, repeats among them.
    sent: Arc<AtomicU64>,
    /// The post that each key was acknowledged with.
    acknowledged: Arc<Mutex<BTreeMap<Uuid, String>>>,
}

impl Caller {
    fn new(token: &str, base: watch::Receiver<String>) -> Self {
        Self {
            // What runs on this machine is not reached by way of a proxy.
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
            base,
            token: token.into(),
            sent: Arc::default(),
            acknowledged: Arc::default(),
        }
    }

    /// Publishes a post under `key`, however often it has to be asked for.
    async fn publishes(&self, key: Uuid, repeated: bool) {
        let post = self.insists(key).await;
        if repeated {
            assert_eq!(self.insists(key).await, post, "the same key, another post");
        }
        self.acknowledged.lock().unwrap().insert(key, post);
    }

    async fn insists(&self, key: Uuid) -> String {
        let answered = timeout(PATIENCE, async {
            loop {
                if let Some(post) = self.asks(key).await {
                    return post;
                }
                tokio::time::sleep(PAUSE).await;
            }
        });
        let answered = answered.await;
        answered.unwrap_or_else(|_| panic!("{key} is not answered"))
    }

    /// The post, unless it has to be asked for again. The request's id goes into the fact as it is: by it each fact is
    /// attributed, whatever the API makes of the key.
    async fn asks(&self, key: Uuid) -> Option<String> {
        let mut base = self.base.clone();
        let base = base
            .wait_for(|base| !base.is_empty())
            .await
            .unwrap()
            .clone();
        let url = format!("{base}/v1/posts");
        let request = self.http.post(url).bearer_auth(&self.token);
        let request = request
            .header("idempotency-key", key.to_string())
            .header("x-request-id", key.to_string())
            .json(&json!({ "text": format!("Hola {key}") }))
            .timeout(ANSWER);
        self.sent.fetch_add(1, Ordering::Relaxed);
        let answer = request.send().await.ok()?;
        let status = answer.status();
        // Cut short: the API was killed.
        let told: Value = serde_json::from_str(&answer.text().await.ok()?).ok()?;
        if status.is_server_error() || told["type"] == "/problems/contended" {
            return None;
        }
        assert_eq!(status, StatusCode::CREATED, "{told}");
        Some(told["id"].as_str().unwrap().to_owned())
    }
}

/// Begins `rate` commands in a second, or as many as find a place, and waits until all are answered; how many.
async fn ask_until(until: Instant, caller: Caller, rate: u32, shutdown: Shutdown) -> usize {
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut due = interval(Duration::from_secs(1) / rate);
    due.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut asking = vec![];
    while Instant::now() < until {
        due.tick().await;
        let place = Arc::clone(&places).acquire_owned().await.unwrap();
        let (caller, repeated) = (caller.clone(), asking.len() % REPEATED == 0);
        asking.push(shutdown.spawn(async move {
            caller.publishes(Uuid::new_v4(), repeated).await;
            drop(place);
        }));
    }
    let count = asking.len();
    for one in asking {
        one.await.unwrap();
    }
    count
}

/// Acknowledged keys against the posts that the log has for each.
#[derive(Debug, Default, PartialEq, Eq)]
struct Compared {
    in_log: usize,
    doubled: usize,
    lost: usize,
    /// Facts that nobody was told of.
    strange: usize,
}

fn compare(acknowledged: &BTreeMap<Uuid, String>, log: &[(Option<String>, String)]) -> Compared {
    let mut found: BTreeMap<Uuid, Vec<&str>> = BTreeMap::new();
    let mut compared = Compared::default();
    for (key, post) in log {
        match key.as_deref().and_then(|key| key.parse().ok()) {
            Some(key) if acknowledged.contains_key(&key) => {
                found.entry(key).or_default().push(post);
            }
            _ => compared.strange += 1,
        }
    }
    for (key, post) in acknowledged {
        let facts = found.get(key).map_or(&[][..], Vec::as_slice);
        compared.in_log += usize::from(!facts.is_empty());
        compared.doubled += facts.len().saturating_sub(1);
        compared.lost += usize::from(!facts.contains(&post.as_str()));
    }
    compared
}

/// Every post in the log: by which request, and which.
async fn published(owner: &PgPool) -> Vec<(Option<String>, String)> {
    sqlx::query_as(
        "SELECT meta ->> 'correlation', substr(stream_id, 6) FROM log.events WHERE type = 'post.published'",
    )
    .fetch_all(owner)
    .await
    .unwrap()
}

#[test]
fn a_fact_too_many_and_one_too_few_are_noticed() {
    let keys = [1, 2, 3].map(Uuid::from_u128);
    let acknowledged: BTreeMap<_, _> = keys.iter().map(|key| (*key, format!("p{key}"))).collect();
    let fact = |key: Uuid, post: &str| (Some(key.to_string()), post.to_owned());
    let whole = keys.map(|key| fact(key, &acknowledged[&key]));
    let all = Compared {
        in_log: 3,
        ..Compared::default()
    };
    assert_eq!(compare(&acknowledged, &whole), all);
    let twice = [&whole[..], &[fact(keys[0], "another")]].concat();
    assert_eq!(compare(&acknowledged, &twice).doubled, 1);
    assert_eq!(compare(&acknowledged, &whole[1..]).lost, 1);
    let strange = [&whole[..], &[(None, "nobody's".to_owned())]].concat();
    assert_eq!(compare(&acknowledged, &strange).strange, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_key_takes_effect_once_however_often_the_api_dies() {
    // The API finds it by itself.
    environment::required("STORAGE_URL");
    let long = environment::optional("LONG").is_some();
    let (rate, seconds) = if long { (500, 180) } else { (50, 12) };
    let (database, shutdown) = (Database::migrated().await, Shutdown::new());
    let owner = database.pool(Role::Owner).await;
    registry::prepare(&owner).await.unwrap();
    let (programs, kills) = (Programs::of(&database, None), Kills::default());
    let (api, base) = watch::channel(String::new());
    let caller = Caller::new(&programs.token("ana", "member").await, base);
    let slot = Slot {
        programs: programs.clone(),
        database: database.url().expose().to_owned(),
        owner: owner.clone(),
        victim: Victim::Api,
        // Anywhere, every few seconds: chaos.rs kills at commit points.
        points: &[],
        chance: Chance(7),
        api: api.clone(),
        kills: Arc::clone(&kills),
    };
    let until = Instant::now() + Duration::from_secs(seconds);
    let killing = shutdown.spawn(slot.keep_killing(until));
    let asking = ask_until(until, caller.clone(), rate, shutdown.clone());
    let asking = shutdown.spawn(asking);
    killing.await.unwrap();
    let (last, url) = programs.api(&[]).await;
    api.send_replace(url);
    let count = asking.await.unwrap();
    end(last).await;

    let acknowledged = caller.acknowledged.lock().unwrap().clone();
    let compared = compare(&acknowledged, &published(&owner).await);
    let (sent, kills) = (
        caller.sent.load(Ordering::Relaxed),
        kills.lock().unwrap().clone(),
    );
    let kills: u64 = kills.values().sum();
    tell(format_args!(
        "once: {count} keys in {seconds} s of {rate} a second, {sent} requests, {kills} kills: {} acknowledged, {} in the \
         log, {} doubled, {} lost, {} strange",
        acknowledged.len(),
        compared.in_log,
        compared.doubled,
        compared.lost,
        compared.strange
    ));
    assert_eq!(acknowledged.len(), count);
    let all = Compared {
        in_log: count,
        ..Compared::default()
    };
    assert_eq!(compared, all);
    // Whoever was cut short has asked again.
    let repeats = count.div_ceil(REPEATED);
    assert!(kills >= seconds / 6 && sent > (count + repeats) as u64);
}
