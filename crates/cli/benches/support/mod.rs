//! What the benches of read models share: a database of their own with every read model in it, and sizes from the
//! environment.

use std::collections::BTreeSet;
use std::num::NonZeroU16;
use std::time::Instant;

use events::id::{Lane, Position};
use events::seal::Key;
use events::store::{Keys, Reader, bounds};
use events::subscription::{self, Subscriber};
use service::db::Role;
use sqlx::PgPool;
use testing::db::Database;
use testing::environment;

/// What persons' keys are wrapped with here.
pub(crate) const MASTER: [u8; 32] = [7; 32];

/// A bench's own database.
pub(crate) struct World {
    pub(crate) database: Database,
    pub(crate) owner: PgPool,
    pub(crate) projector: PgPool,
    pub(crate) keys: Keys,
}

impl World {
    pub(crate) async fn on(database: Database) -> Self {
        Self {
            owner: database.pool(Role::Owner).await,
            projector: database.pool(Role::Projector).await,
            keys: Keys::new(Key::from_bytes(MASTER)),
            database,
        }
    }

    /// Fills `subscriber` with what of the log it lacks; facts a second, those among them that it does not care for.
    pub(crate) async fn fill(&self, subscriber: &dyn Subscriber, writers: u16) -> f64 {
        let head = bounds(&self.projector).await.unwrap().head;
        let upto = Lane::all().map(|lane| (lane, head)).collect();
        let mut connection = self.projector.acquire().await.unwrap();
        let at = subscription::positions(&mut connection, subscriber.name())
            .await
            .unwrap();
        let before = at.into_values().max().unwrap_or(Position::START);
        drop(connection);
        let begun = Instant::now();
        subscription::fill(
            subscriber,
            &self.projector,
            Reader::from(&self.projector),
            &self.keys,
            (&upto, &BTreeSet::new()),
            NonZeroU16::new(writers).unwrap(),
            &|_| {},
        )
        .await
        .unwrap();
        (head.0 - before.0) as f64 / begun.elapsed().as_secs_f64()
    }
}

/// The number that `name` is set to.
pub(crate) fn number(name: &str, default: u32) -> u32 {
    environment::optional(name).map_or(default, |text| {
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is a number"))
    })
}
