//! `cinelog erase`.

use std::path::PathBuf;

use anyhow::{Context, bail};
use events::decide::Refusal;
use events::decide::asset::{self, AssetState};
use events::decide::user::{self, UserState};
use events::failpoint;
use events::id::{AssetId, CommandId, StreamKey, TenantId, UserId};
use events::store::{Command, Emit, ExecuteError, KeysConfig, Log};
use projectors::erase::{self, Purged};
use service::db::Role;
use service::shutdown::Shutdown;
use sqlx::PgPool;
use storage::{Key, Store};

use super::token::default_tenant;
use crate::data::DataFolder;
use crate::out::say;
use crate::stack::{self, Database};

/// Forgets a person: destroys the key under which everything they wrote is kept, and removes what is readable elsewhere.
///
/// Afterwards their texts are unreadable in the log, in Kafka, in every export and in every backup of those; read models no
/// longer hold them; their media are deleted. It cannot be undone. Repeat it if it was stopped: it goes on. What it cannot
/// reach is told at the end.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Erase {
    /// Who: the user's id, or the account name they have here.
    user: String,
    /// In which tenant; the one that every install has unless set.
    #[arg(long)]
    tenant: Option<TenantId>,
    /// Do it without asking.
    #[arg(long)]
    yes: bool,
    /// The data folder of a running `cinelog up`, for what is not configured.
    #[arg(long)]
    data: Option<PathBuf>,
    #[command(flatten)]
    database: Database,
    #[command(flatten)]
    storage: storage::Config,
    #[command(flatten)]
    keys: KeysConfig,
    #[command(flatten)]
    projectors: projectors::config::Config,
}

const EXAMPLES: &str = "Examples:
  cinelog erase ana --data ./data
  cinelog erase 0193b6a4-6d0e-5f3e-9f0a-1f2e3d4c5b6a --tenant 7c9e6679-7425-40de-944b-e07fc1f90ae7 --yes";

/// Under what its commands are in the log.
const ROUTE: &str = "cinelog erase";

impl Erase {
    pub(super) async fn run(mut self, shutdown: &Shutdown) -> anyhow::Result<()> {
        self.fill_in()?;
        let tenant = match self.tenant {
            Some(tenant) => tenant,
            None => default_tenant(&self.database).await?,
        };
        let user = match self.user.parse() {
            Ok(id) => id,
            Err(_) => UserId::of(api::auth::ISSUER, &self.user),
        };
        let store = Store::open(&self.storage).context("open the object store")?;
        let owner = self.database.pool(Role::Owner).await?;
        let projector = self.database.pool(Role::Projector).await?;
        let credentials = self.database.few(Role::Accounts).await?;
        let api = self.database.pool(Role::Api).await?;
        let log = Log::open(api, stack::keys(&self.keys)?, shutdown).await?;
        let who = log.stream(tenant, &StreamKey::user(user).stream).await?;
        if !who.is_some_and(|row| row.state::<UserState>().registered) {
            bail!("there is no user {user} in tenant {tenant}");
        }
        if !self.yes && !confirmed(&format!("forget {user} for ever?"))? {
            bail!("nothing was done; say --yes to do it without being asked");
        }
        let person = Person {
            log,
            owner,
            tenant,
            user,
        };
        tokio::select! {
            done = person.erase((&projector, &credentials), &self.projectors, &store) => done,
            () = shutdown.cancelled() => bail!("stopped before it was done: run it again, it goes on"),
        }
    }

    /// What is not configured comes from the data folder.
    fn fill_in(&mut self) -> anyhow::Result<()> {
        let Some(data) = &self.data else {
            return Ok(());
        };
        let folder = DataFolder::look(data)?;
        self.database = self.database.clone().or_in(&folder);
        if !self.keys.is_set() {
            self.keys.master_key = Some(folder.master_key()?);
        }
        if self.storage.storage_url.is_none() {
            self.storage.storage_url = Some(folder.storage().display().to_string());
        }
        Ok(())
    }
}

/// Asks at a terminal; without one nobody can say yes.
fn confirmed(question: &str) -> anyhow::Result<bool> {
    use std::io::{IsTerminal, Write};
    if !std::io::stdin().is_terminal() {
        return Ok(false);
    }
    write!(std::io::stderr(), "{question} [y/N] ")?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(answer.trim().eq_ignore_ascii_case("y"))
}

struct Person {
    log: Log,
    owner: PgPool,
    tenant: TenantId,
    user: UserId,
}

impl Person {
    /// The key first: from then on nothing more becomes readable, whatever happens to this process.
    async fn erase(
        &self,
        (projector, credentials): (&PgPool, &PgPool),
        config: &projectors::config::Config,
        store: &Store,
    ) -> anyhow::Result<()> {
        sqlx::query("SELECT log.erase_person($1, $2)")
            .bind(self.tenant)
            .bind(self.user)
            .execute(&self.owner)
            .await?;
        failpoint::hit("erase.key_destroyed");
        // The key's old row would stay readable in the table's file until Postgres gets round to it.
        let vacuumed = sqlx::query("VACUUM log.person_keys")
            .execute(&self.owner)
            .await;
        say("key          destroyed, in Postgres");
        accounts::forget(credentials, self.tenant.0, self.user.0).await?;
        say("account      gone, with its sessions and API keys");
        let key = StreamKey::user(self.user);
        let accepted = self
            .execute("user", &key, |state: &UserState| {
                user::erase(state, self.user)
            })
            .await?;
        failpoint::hit("erase.appended");
        say(format_args!("log          {}", told(accepted)));
        let purged = erase::purge(projector, config, (self.tenant, self.user)).await?;
        purged.iter().for_each(tell);
        let (assets, objects) = self.media(store).await?;
        say(format_args!(
            "media        {assets} assets deleted, {objects} objects removed"
        ));
        if assets > 0 {
            say(
                "             what was allowed before may still arrive: repeat this in an hour, when permissions to",
            );
            say("             upload have ended and running jobs too");
        }
        say(
            "not reached  the write-ahead log of Postgres, and its files until they are vacuumed and used again; backups of",
        );
        say(
            "             log.person_keys and of read models; mails to them that are in a folder; copies that others made:",
        );
        say("             delete those where they are");
        if let Err(error) = vacuumed {
            say(format_args!(
                "             VACUUM log.person_keys failed ({error}): run it"
            ));
        }
        if purged.iter().any(|one| one.rows.is_none()) {
            bail!(
                "a read model of another version may still hold the person's texts: repeat this with the \
                 version that made it; or, where a newer version has replaced it, drop it with \
                 `cinelog migrate --drop-replaced` and repeat this"
            );
        }
        Ok(())
    }

    /// Deletes every asset of the person, and its objects; returns how many of each.
    async fn media(&self, store: &Store) -> anyhow::Result<(u64, u64)> {
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
            let original = Key::original(self.tenant.0, asset.0);
            removed += u64::from(store.head(&original).await?.is_some());
            store.delete(&original).await?;
            let renditions = format!("{}/{asset}", self.tenant).parse()?;
            removed += store.delete_under(&renditions).await?;
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

fn told(position: Option<i64>) -> String {
    position.map_or_else(
        || "user.erased was there before".to_owned(),
        |position| {
            format!("user.erased at position {position}; their facts stay, without what they say")
        },
    )
}

fn tell(one: &Purged) {
    match one.rows {
        Some(rows) => say(format_args!("{:<12} {rows} rows purged", one.generation)),
        None => say(format_args!(
            "{:<12} not purged: made by another version",
            one.generation
        )),
    }
}
