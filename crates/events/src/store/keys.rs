//! The keys of persons: made on first use, wrapped by the master key, cached for writing only.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use moka::future::Cache;
use service::secret::Secret;
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use super::LogError;
use crate::id::{TenantId, UserId};
use crate::seal::{Key, SealError};

/// Where the master key is.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
pub struct Config {
    /// The key that wraps every person's key: 32 bytes, base64. Without it nobody's texts can be read.
    #[arg(long, env = "MASTER_KEY", hide_env_values = true)]
    pub master_key: Option<Secret>,
    /// A file that holds the master key instead.
    #[arg(long, env = "MASTER_KEY_FILE")]
    pub master_key_file: Option<PathBuf>,
}

impl Config {
    /// The master key that is configured.
    pub fn read(&self) -> Result<Key, LogError> {
        let text = match (&self.master_key, &self.master_key_file) {
            (Some(key), _) => key.expose().to_owned(),
            (None, Some(file)) => std::fs::read_to_string(file)
                .map_err(|error| LogError::MasterKey(format!("{}: {error}", file.display())))?,
            (None, None) => {
                return Err(LogError::MasterKey(
                    "set MASTER_KEY or MASTER_KEY_FILE".to_owned(),
                ));
            }
        };
        let bytes = BASE64
            .decode(text.trim())
            .ok()
            .and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        bytes
            .map(Key::from_bytes)
            .ok_or_else(|| LogError::MasterKey("is not 32 bytes in base64".to_owned()))
    }
}

/// How long a writer may go on with a key that has been destroyed meanwhile; what it seals then, nobody can read.
const WRITING_CACHE: Duration = Duration::from_mins(1);

/// Opens and makes the keys of persons.
#[derive(Clone, Debug)]
pub struct Keys {
    master: Key,
    writing: Cache<(TenantId, UserId), Key>,
}

impl Keys {
    /// Keys under `master`.
    pub fn new(master: Key) -> Self {
        Self {
            master,
            writing: Cache::builder()
                .max_capacity(100_000)
                .time_to_live(WRITING_CACHE)
                .build(),
        }
    }

    /// Whether this is the master key that the log was written with, told by any one person's key.
    pub(super) async fn check(&self, pool: &PgPool) -> Result<(), LogError> {
        let one: Option<(Uuid, Vec<u8>)> = sqlx::query_as(
            "SELECT person, wrapped FROM log.person_keys WHERE wrapped IS NOT NULL LIMIT 1",
        )
        .fetch_optional(pool)
        .await?;
        if let Some((person, wrapped)) = one {
            self.master.unwrap(person, &wrapped)?;
        }
        Ok(())
    }

    /// The key to seal a person's fields with, if this process has used it lately.
    pub(super) async fn cached(&self, tenant: TenantId, person: UserId) -> Option<Key> {
        self.writing.get(&(tenant, person)).await
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
        let fresh = self.master.wrap(person.0, &Key::random());
        let kept: Option<Vec<u8>> = sqlx::query_scalar("SELECT log.person_key($1, $2, $3)")
            .bind(tenant)
            .bind(person)
            .bind(fresh)
            .fetch_one(connection)
            .await?;
        let key = self
            .master
            .unwrap(person.0, &kept.ok_or(SealError::Erased)?)?;
        Ok(key)
    }

    /// What the key table itself may have forgotten.
    pub(super) fn forget_all(&self) {
        self.writing.invalidate_all();
    }

    /// Keeps a key that is stored for certain: one whose transaction may yet be rolled back must not be kept.
    pub(super) async fn cache(&self, tenant: TenantId, person: UserId, key: Key) {
        self.writing.insert((tenant, person), key).await;
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
            Ok((
                (TenantId(tenant), UserId(person)),
                self.master.unwrap(person, &wrapped)?,
            ))
        });
        opened.collect()
    }
}
