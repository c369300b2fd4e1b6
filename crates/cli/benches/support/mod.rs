//! What the benches of read models share: a database of their own with every read model in it, and sizes from the
//! environment.

use events::seal::Key;
use events::store::Keys;
use service::db::Role;
use sqlx::PgPool;
use testing::db::Database;
use testing::environment;

/// What persons' keys are wrapped with here.
pub(crate) const MASTER: [u8; 32] = [7; 32];

/// Persons' keys.
pub(crate) fn keys() -> Keys {
    Keys::new(Key::from_bytes(MASTER))
}

/// A bench's own database.
pub(crate) struct World {
    pub(crate) database: Database,
    pub(crate) owner: PgPool,
    pub(crate) projector: PgPool,
}

impl World {
    pub(crate) async fn on(database: Database) -> Self {
        Self {
            owner: database.pool(Role::Owner).await,
            projector: database.pool(Role::Projector).await,
            database,
        }
    }
}

/// The number that `name` is set to.
pub(crate) fn number(name: &str, default: u32) -> u32 {
    environment::optional(name).map_or(default, |text| {
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is a number"))
    })
}
