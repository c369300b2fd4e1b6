//! What the benches of the log share: a log of their own.

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
}
