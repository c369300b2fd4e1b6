//! What is killed, where, and how it is started again.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use sqlx::PgPool;
use testing::process::Child;
use tokio::sync::watch;

use crate::life::Chance;
use crate::program;
use crate::world::{LIMIT, Programs};

/// How long a process may live that does not come by the point at which it was to die.
const LONGEST: Duration = Duration::from_secs(12);

/// Who is killed, how many of each at once, and the commit points they come by.
pub(crate) const VICTIMS: [(Victim, usize, &[&str]); 5] = [
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
        2,
        &["subscription.before_commit", "subscription.after_commit"],
    ),
    (
        Victim::Writer,
        2,
        &["append.before_send", "append.after_commit"],
    ),
    (
        Victim::Api,
        1,
        &["append.before_send", "append.after_commit"],
    ),
    (
        Victim::Worker,
        1,
        &[
            "worker.after_upload",
            "worker.before_append",
            "worker.after_append",
            "subscription.before_commit",
            "subscription.after_commit",
        ],
    ),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Victim {
    Relay,
    Projectors,
    Writer,
    Api,
    Worker,
}

/// Kills, by who and where.
pub(crate) type Kills = Arc<Mutex<BTreeMap<String, u64>>>;

/// One process after the other, each to die.
pub(crate) struct Slot {
    pub(crate) programs: Programs,
    pub(crate) database: String,
    pub(crate) owner: PgPool,
    pub(crate) victim: Victim,
    pub(crate) points: &'static [&'static str],
    pub(crate) chance: Chance,
    /// Where clients find the API.
    pub(crate) api: watch::Sender<String>,
    pub(crate) kills: Kills,
}

impl Slot {
    pub(crate) async fn keep_killing(mut self, until: Instant) {
        while Instant::now() < until {
            let count = self.points.len() as u64 + 1;
            let at = usize::try_from(self.chance.below(count)).unwrap();
            let point = self.points.get(at).copied();
            let armed = point.map_or_else(String::new, |point| {
                let times = match point {
                    "relay.before_init" => 1,
                    // Once a job, and once a transaction, which are large after a while without any.
                    point if point.starts_with("worker.") || point.starts_with("relay.") => 2,
                    _ => 8,
                };
                format!("{point}=kill@{}", 1 + self.chance.below(times))
            });
            let limit = match point {
                Some(_) => LONGEST,
                None => Duration::from_millis(200 + self.chance.below(6_000)),
            };
            let mut child = self.start(&armed).await;
            let left = until.saturating_duration_since(Instant::now());
            let alone = child.ends_within(limit.min(left)).await;
            if !alone {
                child.kill();
            }
            let ended = child.finish(LIMIT).await;
            match ended.status.signal() {
                Some(9) => {
                    let place = point.filter(|_| alone).unwrap_or("anywhere");
                    let place = format!("{:?} {place}", self.victim).to_lowercase();
                    *self.kills.lock().unwrap().entry(place).or_default() += 1;
                }
                // A writer has come to its end before its turn.
                _ => assert!(ended.status.success(), "{armed}: {ended:?}"),
            }
            if self.victim == Victim::Worker {
                outlive_leases(&self.owner).await;
            }
        }
    }

    async fn start(&mut self, armed: &str) -> Child {
        let armed = [("CINELOG_FAILPOINTS", armed)];
        match self.victim {
            Victim::Relay => self.programs.start(&["relay"], &armed),
            Victim::Projectors => self.programs.start(&["projectors"], &armed),
            Victim::Writer => {
                let name = format!("w{:x}", self.chance.below(u64::MAX));
                let arguments = [&self.database, "4", "60", &name];
                // The example of crate `events` that appends from many writers at once.
                Child::start(program::path("examples/append_many"), &arguments, &armed)
            }
            Victim::Api => {
                let (api, url) = self.programs.api(&armed).await;
                self.api.send_replace(url);
                api
            }
            Victim::Worker => self.programs.worker(&armed),
        }
    }
}

/// Lets the time go by after which the jobs of a dead worker are anyone's.
pub(crate) async fn outlive_leases(owner: &PgPool) {
    sqlx::query("UPDATE jobs.jobs SET lease_until = '-infinity' WHERE state = 'running'")
        .execute(owner)
        .await
        .unwrap();
}
