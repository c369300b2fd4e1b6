//! Forgetting a person, step by step, each of which may be repeated; and the process that does it for those who asked for it
//! themselves (ADR 27).

use std::collections::BTreeSet;
use std::pin::pin;
use std::time::Duration;

use accounts::Erasure;
use anyhow::ensure;
use events::decide::Refusal;
use events::decide::asset::{self, AssetState};
use events::decide::user::{self, UserState};
use events::failpoint;
use events::id::{AssetId, CommandId, StreamKey, TenantId, UserId};
use events::store::{Command, Emit, ExecuteError, Keys, Log};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use projectors::erase;
use service::clock::Clock;
use service::db::Role;
use service::shutdown::Shutdown;
use sqlx::PgPool;
use storage::{Key, Store};
use uuid::Uuid;

use crate::stack::Database;

/// Under what its commands are in the log.
const ROUTE: &str = "cinelog erase";
/// How often it is looked for who asked.
const LOOK: Duration = Duration::from_secs(2);
/// How long it waits after something did not answer.
const AGAIN: Duration = Duration::from_secs(10);
/// So many are carried out at a time: one may have to go through a long log.
const AT_ONCE: usize = 4;

/// Who is to be forgotten.
pub(crate) struct Person {
    pub(crate) log: Log,
    /// Has the rights of the schemas' owner.
    pub(crate) owner: PgPool,
    pub(crate) tenant: TenantId,
    pub(crate) user: UserId,
}

impl Person {
    /// The first step: from then on nothing more becomes readable, whatever happens to this process. Tells whether its old row was
    /// vacuumed, which would stay readable in the table's file until Postgres gets round to it.
    pub(crate) async fn destroy_key(&self) -> sqlx::Result<sqlx::Result<()>> {
        sqlx::query("SELECT log.erase_person($1, $2)")
            .bind(self.tenant)
            .bind(self.user)
            .execute(&self.owner)
            .await?;
        failpoint::hit("erase.key_destroyed");
        let vacuumed = sqlx::query("VACUUM log.person_keys").execute(&self.owner);
        Ok(vacuumed.await.map(drop))
    }

    /// Says so in the log; returns the position of what was appended now.
    pub(crate) async fn append(&self) -> anyhow::Result<Option<i64>> {
        let key = StreamKey::user(self.user);
        let erase = |state: &UserState| user::erase(state, self.user);
        let accepted = self.execute("user", &key, erase).await?;
        failpoint::hit("erase.appended");
        Ok(accepted)
    }

    /// Deletes every asset of the person and, where there is a store, its objects; returns how many of each. Without one the
    /// transcoder takes away what no fact names any more.
    pub(crate) async fn delete_media(&self, store: Option<&Store>) -> anyhow::Result<(u64, u64)> {
        // States hold owners; no read model needs to have come this far.
        let assets: Vec<String> = sqlx::query_scalar(
            "SELECT substr(stream_id, 7) FROM log.streams
             WHERE tenant = $1 AND stream_id LIKE 'asset-%' AND state->>'owner' = $2",
        )
        .bind(self.tenant)
        .bind(self.user.to_string())
        .fetch_all(&self.owner)
        .await?;
        let (mut deleted, mut removed) = (0, 0);
        for asset in assets {
            let asset: AssetId = asset.parse()?;
            let stream = StreamKey::asset(asset);
            let accepted = self
                .execute(&stream.stream, &stream, |state: &AssetState| {
                    asset::delete(state, asset, self.user)
                })
                .await?;
            deleted += u64::from(accepted.is_some());
            failpoint::hit("erase.asset_deleted");
            if let Some(store) = store {
                let original = Key::original(self.tenant.0, asset.0);
                removed += u64::from(store.head(&original).await?.is_some());
                store.delete(&original).await?;
                let renditions = format!("{}/{asset}", self.tenant).parse()?;
                removed += store.delete_under(&renditions).await?;
            }
        }
        Ok((deleted, removed))
    }

    /// Decides over one stream in the person's name and appends; returns the position of what was appended now.
    async fn execute<S: events::decide::State>(
        &self,
        what: &str,
        stream: &StreamKey,
        decide: impl Fn(&S) -> events::decide::Decision + Send + Sync,
    ) -> anyhow::Result<Option<i64>> {
        let command = Command {
            id: CommandId {
                tenant: self.tenant,
                actor: self.user,
                route: ROUTE.to_owned(),
                key: what.to_owned(),
            },
            body_hash: [0; 32],
            correlation: None,
            cause: None,
        };
        let decide = |streams: &events::store::Streams| -> Result<Vec<Emit>, Refusal> {
            Ok(Emit::all(stream, decide(&streams.get(stream))?))
        };
        let accepted: Result<_, ExecuteError> = self
            .log
            .execute(&command, std::slice::from_ref(stream), decide)
            .await;
        let accepted = accepted?;
        let now = accepted.last().filter(|_| !accepted.repeated);
        Ok(now.map(|fact| fact.position.0))
    }
}

/// What carrying out takes.
struct Erasing {
    owner: PgPool,
    projector: PgPool,
    credentials: PgPool,
    log: Log,
    config: projectors::config::Config,
}

/// Carries out what people asked for, until `shutdown`. Of several processes each takes others, and doing it twice is doing it once.
pub(crate) async fn keep(
    database: &Database,
    keys: Keys,
    projector: PgPool,
    config: projectors::config::Config,
    shutdown: &Shutdown,
) -> anyhow::Result<()> {
    let erasing = Erasing {
        owner: database.few(Role::Owner).await?,
        credentials: database.few(Role::Accounts).await?,
        log: Log::open(database.few(Role::Api).await?, keys, shutdown).await?,
        projector,
        config,
    };
    let end = shutdown.clone();
    shutdown.spawn(async move {
        tokio::select! {
            () = erasing.all() => {}
            () = end.cancelled() => {}
        }
    });
    Ok(())
}

impl Erasing {
    /// Nobody who asks waits for another one's end, as long as there is a place.
    async fn all(&self) {
        let (mut under_way, mut whose) = (FuturesUnordered::new(), BTreeSet::new());
        let mut looked_for = pin!(self.due(AT_ONCE));
        loop {
            // Both go on at once: those under way need the connections that looking waits for.
            tokio::select! {
                due = &mut looked_for => {
                    // One that takes long is due again meanwhile.
                    let new = due.into_iter().filter(|asked| whose.insert((asked.tenant, asked.owner)));
                    under_way.extend(new.map(|asked| self.one(asked)));
                    looked_for.set(self.due(AT_ONCE - under_way.len()));
                }
                Some(who) = under_way.next() => {
                    whose.remove(&who);
                }
            }
        }
    }

    /// Those who are due, after a while.
    async fn due(&self, places: usize) -> Vec<Erasure> {
        tokio::time::sleep(LOOK).await;
        let places = i64::try_from(places).unwrap_or_default();
        let due = accounts::to_erase(&self.credentials, places, Clock::System.now()).await;
        match due {
            Ok(due) => due,
            Err(error) => {
                tracing::warn!(%error, "those who asked to be erased could not be looked for");
                tokio::time::sleep(AGAIN).await;
                vec![]
            }
        }
    }

    async fn one(&self, asked: Erasure) -> (Uuid, Uuid) {
        let (tenant, person) = (asked.tenant, asked.owner);
        match self.carry_out(&asked).await {
            Ok(()) => tracing::info!(%tenant, %person, "who asked to be erased is"),
            Err(error) => {
                tracing::warn!(%tenant, %person, error = format!("{error:#}"), "an erasure could not be carried out; it is tried again");
            }
        }
        (tenant, person)
    }

    /// What `cinelog erase` does.
    async fn carry_out(&self, asked: &Erasure) -> anyhow::Result<()> {
        let person = Person {
            log: self.log.clone(),
            owner: self.owner.clone(),
            tenant: TenantId(asked.tenant),
            user: UserId(asked.owner),
        };
        if let Err(error) = person.destroy_key().await? {
            tracing::warn!(%error, "VACUUM log.person_keys failed: run it");
        }
        accounts::forget(&self.credentials, asked.tenant, asked.owner).await?;
        person.append().await?;
        let who = (person.tenant, person.user);
        let purged = erase::purge(&self.projector, &self.config, who).await?;
        person.delete_media(None).await?;
        ensure!(
            purged.iter().all(|one| one.rows.is_some()),
            "a read model of another version may still hold the person's texts: `cinelog migrate --drop-replaced` drops one \
             that was replaced"
        );
        accounts::erased(
            &self.credentials,
            asked.tenant,
            asked.owner,
            Clock::System.now(),
        )
        .await?;
        Ok(())
    }
}
