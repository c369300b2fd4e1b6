//! Postgres is restored from a backup, and the topic knows more: the two ways out, as an operator takes them.

use events::seal::Key;
use events::store::{Keys, Log};
use rustix::process::Signal;
use service::db::Role;
use sqlx::PgPool;
use tempfile::TempDir;
use testing::db::Database;
use testing::kafka;
use testing::process::Child;

use crate::life::Life;
use crate::topic;
use crate::world::{LIMIT, World};

/// The programs on a restored database, with their topics.
struct Restored {
    database: Database,
    world: World,
}

impl Restored {
    /// People go on for a while after the backup, and all of it is relayed.
    async fn new(prefix: &str) -> Self {
        let mut world = World::new(Some(prefix), 5).await;
        world.life.go_on(60).await;
        let dump = world.database.dump();
        world.life.go_on(60).await;
        let relay = world.start(&["relay"]);
        made(prefix).await;
        topic::equals_the_log(prefix, &world.owner).await;
        end(relay).await;
        // Keys are backed up apart from the log, and more often.
        let keys = "SELECT tenant, person, wrapped FROM log.person_keys";
        let keys: Vec<(uuid::Uuid, uuid::Uuid, Vec<u8>)> =
            sqlx::query_as(keys).fetch_all(&world.owner).await.unwrap();
        let database = Database::restored(&dump).await;
        let owner = database.pool(Role::Owner).await;
        for (tenant, person, wrapped) in keys {
            sqlx::query(
                "INSERT INTO log.person_keys (tenant, person, wrapped) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
            )
            .bind(tenant)
            .bind(person)
            .bind(wrapped)
            .execute(&owner)
            .await
            .unwrap();
        }
        owner.close().await;
        Self { database, world }
    }

    fn start(&self, command: &[&str], prefix: &str) -> Child {
        let url = self.database.url().expose();
        let besides = [("DATABASE_URL", url), ("TOPIC_PREFIX", prefix)];
        self.world.programs.start(command, &besides)
    }

    /// Runs to its end; what it said, when it ended as `well` says.
    async fn said(&self, command: &[&str], prefix: &str, well: bool) -> String {
        let ended = self.start(command, prefix).finish(LIMIT).await;
        assert_eq!(ended.status.success(), well, "{command:?}: {ended:?}");
        if well { ended.stdout } else { ended.stderr }
    }

    async fn is_whole(&self, prefix: &str) {
        made(prefix).await;
        let owner = self.database.pool(Role::Owner).await;
        topic::equals_the_log(prefix, &owner).await;
        let verified = self.said(&["verify", "--rebuild"], prefix, true).await;
        assert!(verified.contains("no differences"), "{verified}");
    }
}

/// The topics are there: who reads them does not wait for that.
async fn made(prefix: &str) {
    let config = events::log::Config {
        kafka_brokers: Some(kafka::brokers()),
        topic_prefix: prefix.to_owned(),
        kafka_replication: 1,
        kafka_config: vec![],
    };
    let kafka = events::log::Kafka::from_config(&config).unwrap();
    events::log::ensure(&kafka).await.unwrap();
}

async fn head(owner: &PgPool) -> i64 {
    sqlx::query_scalar("SELECT max(position) FROM log.events")
        .fetch_one(owner)
        .await
        .unwrap()
}

async fn end(program: Child) {
    program.signal(Signal::TERM);
    let ended = program.finish(LIMIT).await;
    assert!(ended.status.success(), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_log_takes_the_topics_tail_back_and_goes_on() {
    let prefix = kafka::unique_prefix();
    let restored = Restored::new(&prefix).await;
    let refused = restored.said(&["relay"], &prefix, false).await;
    for way in ["cinelog log import", "TOPIC_PREFIX=NEW cinelog log fork"] {
        assert!(refused.contains(way), "{refused}");
    }
    // Nor does a whole Cinelog open its API first, or the import would come too late.
    let data = TempDir::new().unwrap();
    let up = ["up", "--data", data.path().to_str().unwrap()];
    let refused = restored.start(&up, &prefix).finish(LIMIT).await;
    assert!(refused.stderr.contains("cinelog log import"), "{refused:?}");
    assert!(!refused.stdout.contains("Cinelog is up"), "{refused:?}");
    let said = restored.said(&["log", "import"], &prefix, true).await;
    assert!(said.contains("taken back from"), "{said}");
    let said = restored.said(&["log", "import"], &prefix, true).await;
    assert!(said.contains("nothing to import"), "{said}");
    let relay = restored.start(&["relay"], &prefix);
    restored.is_whole(&prefix).await;
    end(relay).await;
    assert!(restored.world.shutdown.finish(LIMIT).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_log_that_was_appended_to_becomes_another() {
    let (old, new) = (kafka::unique_prefix(), kafka::unique_prefix());
    let restored = Restored::new(&old).await;
    let owner = restored.database.pool(Role::Owner).await;
    let id: uuid::Uuid = sqlx::query_scalar("SELECT log_id FROM log.log")
        .fetch_one(&owner)
        .await
        .unwrap();
    // People go on before anybody has thought of the topic.
    let (head, api) = (head(&owner).await, restored.database.pool(Role::Api).await);
    let keys = Keys::new(Key::from_bytes([7; 32]));
    let log = Log::open(api, keys, &restored.world.shutdown)
        .await
        .unwrap();
    Life::begin(log, 6).await.go_on(100).await;
    assert!(self::head(&owner).await > head);

    let refused = restored.said(&["log", "import"], &old, false).await;
    assert!(refused.contains("cinelog log fork"), "{refused}");
    let refused = restored.said(&["log", "fork"], &old, false).await;
    assert!(refused.contains("set TOPIC_PREFIX"), "{refused}");
    let id = id.to_string();
    let plan = restored.said(&["log", "fork"], &new, true).await;
    let command = format!("cinelog log fork --of {id}");
    assert!(
        plan.contains("nothing was changed") && plan.contains(&command),
        "{plan}"
    );
    let fork = ["log", "fork", "--of", &id];
    let done = restored.said(&fork, &new, true).await;
    assert_eq!(restored.said(&fork, &new, true).await, done, "a repeat");
    let relay = restored.start(&["relay"], &new);
    restored.is_whole(&new).await;
    end(relay).await;
    assert!(restored.world.shutdown.finish(LIMIT).await);
}
