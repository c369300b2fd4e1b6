//! A log with people in it, the programs that work on it, and what must be true of it in the end.

use std::time::Duration;

use events::seal::Key;
use events::store::{Keys, Log};
use events::subscription::{Lag, lag};
use projectors::config::Config;
use projectors::registry;
use rustix::process::Signal;
use service::db::Role;
use service::shutdown::Shutdown;
use sqlx::PgPool;
use testing::db::Database;
use testing::process::{Child, Finished};
use testing::{kafka, wait};

use crate::feed;
use crate::life::Life;
use crate::program::{cinelog, path};

pub(crate) const LIMIT: Duration = Duration::from_mins(1);
/// 32 bytes of 7, as the variable `MASTER_KEY` has them.
pub(crate) const MASTER_KEY: &str = "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=";
const SECRET_KEY: &str = "a secret that only these tests have";
/// So small that feeds are pushed, trimmed and given up; the programs get the same.
const FEED: Config = Config {
    feed_push_limit: 3,
    feed_cap: 5,
    feed_trim_every: 2,
};

/// One log, its people, and how the programs find it.
pub(crate) struct World {
    pub(crate) database: Database,
    pub(crate) owner: PgPool,
    pub(crate) life: Life,
    pub(crate) programs: Programs,
    pub(crate) shutdown: Shutdown,
}

impl World {
    /// `kafka`: the topics' prefix; none: facts come from Postgres.
    pub(crate) async fn new(kafka: Option<&str>, seed: u64) -> Self {
        let brokers = kafka.map(|_| kafka::brokers()).unwrap_or_default();
        let kafka = kafka.map(|prefix| (brokers.as_str(), prefix));
        Self::on(Database::migrated().await, kafka, seed).await
    }

    /// In a database of the caller's choice. `kafka`: brokers and the topics' prefix.
    pub(crate) async fn on(database: Database, kafka: Option<(&str, &str)>, seed: u64) -> Self {
        let owner = database.pool(Role::Owner).await;
        registry::prepare(&owner).await.unwrap();
        let (shutdown, keys) = (Shutdown::new(), Keys::new(Key::from_bytes([7; 32])));
        let log = Log::open(database.pool(Role::Api).await, keys, &shutdown)
            .await
            .unwrap();
        Self {
            life: Life::begin(log, seed).await,
            programs: Programs::of(&database, kafka),
            database,
            owner,
            shutdown,
        }
    }

    pub(crate) fn start(&self, command: &[&str]) -> Child {
        self.programs.start(command, &[])
    }

    /// People go on while the programs work; those are killed once checkpoints have been seen to move `moves` times.
    pub(crate) async fn kill_in_the_middle(&mut self, victims: &[Child], moves: u64) {
        let (owner, life) = (self.owner.clone(), &mut self.life);
        let killer = async {
            let mut before = checkpoints(&owner).await;
            for _ in 0..moves {
                before = wait::until(LIMIT, "checkpoints move", async || {
                    let now = checkpoints(&owner).await;
                    (now != before).then_some(now)
                })
                .await;
            }
            for victim in victims {
                victim.kill();
            }
        };
        tokio::select! {
            () = killer => {}
            () = life.go_on(usize::MAX) => {}
        }
    }

    /// Waits until every read model has taken in every fact.
    pub(crate) async fn caught_up(&self) {
        let models = registry::all(&FEED).len();
        wait::until_true(LIMIT, "every read model has caught up", async || {
            let lag: Vec<Lag> = lag(&mut self.owner.acquire().await.unwrap()).await.unwrap();
            lag.len() >= models && lag.iter().all(|lag| lag.lanes_behind == 0)
        })
        .await;
    }

    /// Compares log, topic and every read model with what they are made from.
    pub(crate) async fn is_whole(&self) {
        let looked = self.verify().await;
        assert!(looked.status.success(), "{looked:?}");
        assert!(looked.stdout.contains("no differences"), "{looked:?}");
    }

    pub(crate) async fn verify(&self) -> Finished {
        self.start(&["verify", "--rebuild"]).finish(LIMIT).await
    }

    /// Lets what runs now catch up and end in order, then checks every read model.
    pub(crate) async fn settle(&mut self, projectors: Child) {
        self.life.go_on(20).await;
        self.caught_up().await;
        end(projectors).await;
        self.is_whole().await;
        let api = self.database.pool(Role::Api).await;
        let seen = feed::equals_the_posts(&api, self.life.tenant(), Life::people()).await;
        assert!(seen > 0, "somebody's feed shows something");
        assert!(self.shutdown.finish(LIMIT).await);
    }
}

/// How the programs are started, so that they find the world.
#[derive(Clone)]
pub(crate) struct Programs {
    environment: Vec<(&'static str, String)>,
}

impl Programs {
    /// On a database. `kafka`: brokers and the topics' prefix.
    pub(crate) fn of(database: &Database, kafka: Option<(&str, &str)>) -> Self {
        let mut environment = vec![
            ("DATABASE_URL", database.url().expose().to_owned()),
            ("MASTER_KEY", MASTER_KEY.to_owned()),
            ("SECRET_KEY", SECRET_KEY.to_owned()),
            ("LISTEN", "127.0.0.1:0".to_owned()),
            ("FEED_PUSH_LIMIT", FEED.feed_push_limit.to_string()),
            ("FEED_CAP", FEED.feed_cap.to_string()),
            ("FEED_TRIM_EVERY", FEED.feed_trim_every.to_string()),
            ("KAFKA_BROKERS", String::new()),
            // A test is one address, and its people ask more than people do.
            ("RATE_LIMITS", "off".to_owned()),
        ];
        if let Some((brokers, prefix)) = kafka {
            environment.push(("KAFKA_BROKERS", brokers.to_owned()));
            environment.push(("TOPIC_PREFIX", prefix.to_owned()));
        }
        Self { environment }
    }

    pub(crate) fn start(&self, command: &[&str], besides: &[(&str, &str)]) -> Child {
        cinelog(command, &self.environment(besides))
    }

    /// The API on a free port, and the URL at which it listens.
    pub(crate) async fn api(&self, besides: &[(&str, &str)]) -> (Child, String) {
        let mut api = self.start(&["api"], besides);
        let line = api.line("the API is on http://", LIMIT).await;
        let (_, url) = line.rsplit_once(' ').unwrap();
        (api, url.to_owned())
    }

    /// A transcoder that does one job at a time.
    pub(crate) fn worker(&self, besides: &[(&str, &str)]) -> Child {
        let arguments = ["worker", "--slots", "1", "--sandbox", "best-effort"];
        let program = path("cinelog-transcoder");
        Child::start(program, &arguments, &self.environment(besides))
    }

    /// A token by which `user` calls the API in a role.
    pub(crate) async fn token(&self, user: &str, role: &str) -> String {
        let made = self.start(&["token", "--user", user, "--role", role], &[]);
        let made = made.finish(LIMIT).await;
        assert!(made.status.success(), "{made:?}");
        made.stdout.trim().to_owned()
    }

    fn environment<'a>(&'a self, besides: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
        let fixed = self.environment.iter();
        let fixed = fixed.map(|(name, value)| (*name, value.as_str()));
        fixed.chain(besides.iter().copied()).collect()
    }
}

/// Asks a program to end, which it must do in order.
pub(crate) async fn end(program: Child) {
    program.signal(Signal::TERM);
    let ended = program.finish(LIMIT).await;
    assert!(ended.status.success(), "{ended:?}");
}

/// Where all subscriptions are, in one number that only grows.
async fn checkpoints(owner: &PgPool) -> i64 {
    sqlx::query_scalar("SELECT COALESCE(sum(position), 0)::bigint FROM subscription.checkpoints")
        .fetch_one(owner)
        .await
        .unwrap()
}
