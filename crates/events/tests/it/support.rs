//! A log of a test's own, and small commands for it.

use events::decide::reaction;
use events::fact::post::ReactionAdded;
use events::id::{CommandId, PostId, StreamKey, TenantId, UserId};
use events::seal::Key;
use events::store::{Accepted, Command, Emit, ExecuteError, Keys, Log};
use service::db::Role;
use service::shutdown::Shutdown;
use sqlx::PgPool;
use testing::db::Database;
use uuid::Uuid;

pub(crate) struct World {
    pub(crate) database: Database,
    pub(crate) log: Log,
    pub(crate) keys: Keys,
    pub(crate) tenant: TenantId,
    pub(crate) shutdown: Shutdown,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::on(Database::migrated().await).await
    }

    pub(crate) async fn on(database: Database) -> Self {
        let shutdown = Shutdown::new();
        let keys = Keys::new(Key::from_bytes([7; 32]));
        let log = Log::open(database.pool(Role::Api).await, keys.clone(), &shutdown)
            .await
            .unwrap();
        let tenant = log.default_tenant().await.unwrap();
        Self {
            database,
            log,
            keys,
            tenant,
            shutdown,
        }
    }

    pub(crate) async fn owner(&self) -> PgPool {
        self.database.pool(Role::Owner).await
    }

    pub(crate) fn command(&self, actor: UserId, route: &str, key: &str) -> Command {
        let id = CommandId {
            tenant: self.tenant,
            actor,
            route: route.to_owned(),
            key: key.to_owned(),
        };
        Command {
            id,
            body_hash: [0; 32],
            correlation: None,
            cause: None,
        }
    }

    /// `user` reacts to `post`, whether or not it is there.
    pub(crate) async fn react(
        &self,
        key: &str,
        user: UserId,
        post: PostId,
        kind: &str,
    ) -> Result<Accepted, ExecuteError> {
        let command = self.command(user, "react", key);
        let stream = StreamKey::post_reaction(post, user);
        let wanted = ReactionAdded {
            post,
            comment: None,
            user,
            kind: kind.to_owned(),
        };
        let decide = |streams: &events::store::Streams| {
            Ok(Emit::all(
                &stream,
                reaction::react(&streams.get(&stream), wanted.clone(), Ok(()))?,
            ))
        };
        self.log
            .execute(&command, std::slice::from_ref(&stream), decide)
            .await
    }

    pub(crate) async fn head(&self) -> i64 {
        sqlx::query_scalar("SELECT COALESCE(max(position), 0) FROM log.events")
            .fetch_one(&self.owner().await)
            .await
            .unwrap()
    }
}

pub(crate) fn user(n: u128) -> UserId {
    UserId(Uuid::from_u128(n))
}

pub(crate) fn post(n: u128) -> PostId {
    PostId(Uuid::from_u128(n))
}
