//! What the benches of the log share: a log of their own, filled as appends would have left it.

use events::seal::Key;
use events::store::{Keys, Log};
use service::db::Role;
use service::shutdown::Shutdown;
use sqlx::PgPool;
use testing::db::Database;

/// A log of a bench's own.
pub(crate) struct World {
    pub(crate) database: Database,
    pub(crate) shutdown: Shutdown,
    pub(crate) owner: PgPool,
}

impl World {
    pub(crate) async fn new() -> Self {
        let database = Database::migrated().await;
        let owner = database.pool(Role::Owner).await;
        Self {
            database,
            shutdown: Shutdown::new(),
            owner,
        }
    }

    /// The log as one more process opens it.
    pub(crate) async fn open(&self) -> Log {
        let keys = Keys::new(Key::from_bytes([7; 32]));
        Log::open(self.database.pool(Role::Api).await, keys, &self.shutdown)
            .await
            .expect("open the log")
    }

    /// Puts `facts` facts of 300 bytes into the empty log, past `log.append` because that is not what is measured.
    pub(crate) async fn fill(&self, facts: i64) {
        sqlx::query(
            "WITH t AS (SELECT tenant FROM log.tenants LIMIT 1)
             INSERT INTO log.events (position, lane, tenant, stream_id, version, type, schema_version, subject, payload, meta,
                                     event_id, recorded_at)
             SELECT g, g % 64, t.tenant, 'reaction-' || post || '-' || post, 1, 'reaction.added', 1, 'post-' || post,
                    jsonb_build_object('post', post, 'user', post, 'kind', repeat('x', 186)),
                    jsonb_build_object('actor', post, 'command', post), post, now()
             FROM t, generate_series(1, $1) g, LATERAL (SELECT md5(g::text)::uuid AS post) p",
        )
        .bind(facts)
        .execute(&self.owner)
        .await
        .expect("fill the log");
        sqlx::query("ANALYZE log.events").execute(&self.owner).await.expect("analyze the log");
    }
}

/// This process's resident memory at its highest, in MB.
#[expect(dead_code, reason = "not every bench asks")]
pub(crate) fn peak_mb() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kb: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kb / 1024)
}
