//! `cinelog erase`.

use std::path::PathBuf;

use anyhow::{Context, bail};
use events::decide::user::UserState;
use events::id::{StreamKey, TenantId, UserId};
use events::store::{KeysConfig, Log};
use projectors::erase::{self, Purged};
use service::clock::Clock;
use service::db::Role;
use service::shutdown::Shutdown;
use sqlx::PgPool;
use storage::Store;

use super::token::default_tenant;
use crate::data::DataFolder;
use crate::erasure::Person;
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
            done = self.erase(&person, (&projector, &credentials), &store) => done,
            () = shutdown.cancelled() => bail!("stopped before it was done: run it again, it goes on"),
        }
    }

    /// What is not configured comes from the data folder.
    fn fill_in(&mut self) -> anyhow::Result<()> {
        let Some(data) = &self.data else {
            return Ok(());
        };
        let folder = DataFolder::look(data)?;
        self.database = self.database.clone().or_in(Some(&folder));
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

impl Erase {
    /// Does it, and says what was done.
    async fn erase(
        &self,
        person: &Person,
        (projector, credentials): (&PgPool, &PgPool),
        store: &Store,
    ) -> anyhow::Result<()> {
        let vacuumed = person.destroy_key().await?;
        say("key          destroyed, in Postgres");
        accounts::forget(credentials, person.tenant.0, person.user.0).await?;
        say("account      gone, with its sessions and API keys");
        let accepted = person.append().await?;
        say(format_args!("log          {}", told(accepted)));
        let who = (person.tenant, person.user);
        let purged = erase::purge(projector, &self.projectors, who).await?;
        purged.iter().for_each(tell);
        let (assets, objects) = person.delete_media(Some(store)).await?;
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
        accounts::erased(credentials, who.0.0, who.1.0, Clock::System.now()).await?;
        Ok(())
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
