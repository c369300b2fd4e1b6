//! The keys of persons: made on first use, wrapped by the master key, cached for writing only.

mod rotate;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use moka::future::Cache;
use service::secret::Secret;
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use super::LogError;
use super::known::{Epoch, Epochs};
use crate::id::{TenantId, UserId};
use crate::seal::{Key, SealError};

pub use rotate::{Rotated, rotate};

/// Where the master key is.
#[derive(Clone, Debug, Default, clap::Args)]
#[group(skip)]
pub struct Config {
    /// The key that wraps every person's key: 32 bytes, base64. Without it nobody's texts can be read.
    #[arg(long, env = "MASTER_KEY", hide_env_values = true)]
    pub master_key: Option<Secret>,
    /// A file that holds the master key instead.
    #[arg(long, env = "MASTER_KEY_FILE")]
    pub master_key_file: Option<PathBuf>,
    /// A master key that opens persons' keys too but wraps none: the other one, while one replaces another.
    #[arg(long, env = "SECOND_MASTER_KEY", hide_env_values = true)]
    pub second_master_key: Option<Secret>,
    /// A file that holds the second master key instead.
    #[arg(long, env = "SECOND_MASTER_KEY_FILE")]
    pub second_master_key_file: Option<PathBuf>,
}

impl Config {
    /// Whether there is a master key. A variable that is set to nothing is not set.
    pub fn is_set(&self) -> bool {
        text(self.master_key.as_ref()).is_some() || path(self.master_key_file.as_deref()).is_some()
    }

    /// The master keys that are configured.
    pub fn read(&self) -> Result<MasterKeys, LogError> {
        let first = one(self.master_key.as_ref(), self.master_key_file.as_deref())?;
        Ok(MasterKeys {
            first: first.ok_or_else(|| {
                LogError::MasterKey("set MASTER_KEY or MASTER_KEY_FILE".to_owned())
            })?,
            second: one(
                self.second_master_key.as_ref(),
                self.second_master_key_file.as_deref(),
            )?,
        })
    }
}

fn text(key: Option<&Secret>) -> Option<&str> {
    key.map(Secret::expose).filter(|key| !key.is_empty())
}

fn path(file: Option<&Path>) -> Option<&Path> {
    file.filter(|file| !file.as_os_str().is_empty())
}

fn one(key: Option<&Secret>, file: Option<&Path>) -> Result<Option<Key>, LogError> {
    let text = match (text(key), path(file)) {
        (Some(key), _) => key.to_owned(),
        (None, Some(file)) => std::fs::read_to_string(file)
            .map_err(|error| LogError::MasterKey(format!("{}: {error}", file.display())))?,
        (None, None) => return Ok(None),
    };
    let bytes = BASE64
        .decode(text.trim())
        .ok()
        .and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
    bytes.map(Key::from_bytes).map(Some).ok_or_else(|| {
        LogError::MasterKey(
            "is not 32 bytes in base64; `openssl rand -base64 32` makes one".to_owned(),
        )
    })
}

/// The master key, and another one that is read too while one replaces the other.
#[derive(Clone, Debug)]
pub struct MasterKeys {
    first: Key,
    second: Option<Key>,
}

impl MasterKeys {
    /// One master key.
    pub fn one(first: Key) -> Self {
        Self {
            first,
            second: None,
        }
    }

    /// A master key, and one that is only read.
    pub fn two(first: Key, second: Key) -> Self {
        Self {
            first,
            second: Some(second),
        }
    }

    fn all(&self) -> impl Iterator<Item = &Key> {
        [&self.first].into_iter().chain(self.second.as_ref())
    }

    fn wrap(&self, tenant: TenantId, person: UserId, key: &Key) -> Vec<u8> {
        self.first.wrap(tenant, person, key)
    }

    fn unwrap(&self, tenant: TenantId, person: UserId, wrapped: &[u8]) -> Result<Key, SealError> {
        self.all()
            .find_map(|master| master.unwrap(tenant, person, wrapped))
            .ok_or(SealError::WrongMasterKey)
    }
}

impl From<Key> for MasterKeys {
    fn from(key: Key) -> Self {
        Self::one(key)
    }
}

/// How long a writer may go on with a key that has been destroyed meanwhile; what it seals then, nobody can read.
const WRITING_CACHE: Duration = Duration::from_mins(1);

/// Opens and makes the keys of persons.
#[derive(Clone, Debug)]
pub struct Keys {
    master: MasterKeys,
    writing: Cache<(TenantId, UserId), (Epoch, Key)>,
    epochs: Epochs,
}

impl Keys {
    /// Keys under `master`.
    pub fn new(master: impl Into<MasterKeys>) -> Self {
        Self {
            master: master.into(),
            writing: Cache::builder()
                .max_capacity(100_000)
                .time_to_live(WRITING_CACHE)
                .build(),
            epochs: Epochs::default(),
        }
    }

    /// Refuses a master key that is not the one this log is written with; of a log without one, it becomes the one.
    pub async fn check(&self, pool: &PgPool) -> Result<(), LogError> {
        let kept: Vec<u8> = sqlx::query_scalar("SELECT log.master_check($1)")
            .bind(self.master.first.check_value())
            .fetch_one(pool)
            .await?;
        if self.master.all().any(|master| master.gave(&kept)) {
            Ok(())
        } else {
            Err(SealError::WrongMasterKey.into())
        }
    }

    /// The key to seal a person's fields with, if this process has used it lately.
    pub(super) async fn cached(&self, tenant: TenantId, person: UserId) -> Option<Key> {
        let epoch = self.epoch();
        let (since, key) = self.writing.get(&(tenant, person)).await?;
        (since == epoch).then_some(key)
    }

    /// The key to seal a person's fields with, made now if there is none.
    pub(crate) async fn for_writing(
        &self,
        connection: &mut PgConnection,
        tenant: TenantId,
        person: UserId,
    ) -> Result<Key, LogError> {
        if let Some(key) = self.cached(tenant, person).await {
            return Ok(key);
        }
        let fresh = self.master.wrap(tenant, person, &Key::random());
        let kept: Option<Vec<u8>> = sqlx::query_scalar("SELECT log.person_key($1, $2, $3)")
            .bind(tenant)
            .bind(person)
            .bind(fresh)
            .fetch_one(connection)
            .await?;
        Ok(self
            .master
            .unwrap(tenant, person, &kept.ok_or(SealError::Erased)?)?)
    }

    /// This epoch; ask before reading.
    pub(super) fn epoch(&self) -> Epoch {
        self.epochs.now()
    }

    /// Begins a new epoch: the key table itself may have forgotten.
    pub(super) fn forget_all(&self) {
        self.epochs.end();
        self.writing.invalidate_all();
    }

    /// Keeps a key that is stored for certain, as of `epoch`: one whose transaction may yet be rolled back must not be kept.
    pub(super) async fn cache(&self, tenant: TenantId, person: UserId, epoch: Epoch, key: Key) {
        self.writing.insert((tenant, person), (epoch, key)).await;
    }

    /// The keys of `persons` as they are at this moment; a person without one is erased, or never wrote.
    pub(crate) async fn for_reading(
        &self,
        connection: &mut PgConnection,
        persons: &[(TenantId, UserId)],
    ) -> Result<HashMap<(TenantId, UserId), Key>, LogError> {
        let (tenants, people): (Vec<TenantId>, Vec<UserId>) = persons.iter().copied().unzip();
        let rows: Vec<(Uuid, Uuid, Vec<u8>)> = sqlx::query_as(
            "SELECT k.tenant, k.person, k.wrapped FROM log.person_keys k
             JOIN unnest($1::uuid[], $2::uuid[]) AS u(tenant, person) USING (tenant, person)
             WHERE k.wrapped IS NOT NULL",
        )
        .bind(tenants.iter().map(|t| t.0).collect::<Vec<_>>())
        .bind(people.iter().map(|p| p.0).collect::<Vec<_>>())
        .fetch_all(connection)
        .await?;
        let opened = rows.into_iter().map(|(tenant, person, wrapped)| {
            let (tenant, person) = (TenantId(tenant), UserId(person));
            let key = self.master.unwrap(tenant, person, &wrapped)?;
            Ok(((tenant, person), key))
        });
        opened.collect()
    }
}
