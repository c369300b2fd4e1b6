//! State of users that is not history: who may say that they are whom. Passwords, sessions, API keys, invites, the mails that
//! prove an address, and how often something was tried. No fact is behind it and no replay brings it back; its tables are read
//! by a database role of their own, so that no query made for a user can reach them.
//!
//! What must stay secret is kept as a hash: passwords by Argon2id, everything else, which is 256 bits of chance, by SHA-256.
//! Addresses of mails are kept as HMAC, under a key of the installation.

mod account;
mod api_key;
mod bucket;
mod config;
mod erasure;
#[cfg(test)]
mod law;
mod mail;
mod password;
mod permit;
mod session;
mod token;
mod upload;

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use moka::future::Cache;
use service::db;
use service::mac::MacKey;
use service::shutdown::Shutdown;
use sqlx::{AssertSqlSafe, PgConnection, PgPool, Postgres, Transaction};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use uuid::Uuid;

pub use account::{Account, Kept, KeptSession, NewAccount, Proof, grant, owner};
pub use api_key::{ApiKey, Machine, NewApiKey, Scope};
pub use bucket::{Bucket, Taken};
pub use config::{Config, ConfigError, Signup};
pub use erasure::{Ended, Erasure, erased, to_erase};
pub use mail::is_address;
pub use permit::Purpose;
pub use session::{SESSION_TTL, Session};
pub use upload::{Plan, Reserving, Upload, plans, set_plan, subscribe};

use mail::Sender;
use password::Passwords;

/// Within which every process knows that a session or a key has ended.
pub const REVOKED_WITHIN: Duration = Duration::from_secs(5);
/// Who proves something waits so long for a connection; then it is too busy.
const PATIENCE: Duration = Duration::from_secs(2);
/// Sessions and keys that are remembered to be good.
const REMEMBERED: u64 = 100_000;

/// Why something about an account was not done.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// Somebody of the tenant has the handle.
    #[error("the handle is taken")]
    HandleTaken,
    /// Somebody of the tenant has the address.
    #[error("the address is taken")]
    EmailTaken,
    /// The invite is not one, was used, or has ended.
    #[error("the invite does not hold")]
    InviteInvalid,
    /// There is no such account, or the password is another.
    #[error("the name or the password is wrong")]
    CredentialsWrong,
    /// The session is over.
    #[error("the session is over")]
    SessionEnded,
    /// A refresh token was used that another one had replaced: somebody has a copy, so the session is over.
    #[error("the refresh token was used before: the session is over")]
    SessionCopied,
    /// What the mail said is not known, was used, or has ended.
    #[error("the code does not hold")]
    PermitInvalid,
    /// The same was asked for before, and something else with it.
    #[error("the same key was used for another request")]
    KeyReused,
    /// The same was asked for before, and the key was deleted since.
    #[error("the key that this made was deleted")]
    KeyDeleted,
    /// Too many prove who they are.
    #[error("too many prove who they are")]
    Busy,
    /// This installation sends no mail.
    #[error("no mail is sent here: set MAIL")]
    NoMail,
    /// Postgres did not answer as it should.
    #[error("accounts in Postgres: {0}")]
    Postgres(Arc<sqlx::Error>),
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        Self::Postgres(Arc::new(error))
    }
}

/// The accounts of an installation; clones share it.
#[derive(Clone)]
pub struct Accounts(Arc<Shared>);

struct Shared {
    pool: PgPool,
    signup: Signup,
    /// What is counted or found by a name is kept under this.
    names: MacKey,
    /// What tokens are made under.
    tokens: MacKey,
    passwords: Passwords,
    /// What strangers may cause takes half of the connections at most, what looks like a key one of them: the others are for whoever
    /// is logged in.
    tries: Arc<Semaphore>,
    /// Of those, who registers waits for the log with a connection: a quarter at most.
    registering: Arc<Semaphore>,
    shown: Arc<Semaphore>,
    /// Those who reserve for uploads wait for each other with a connection: a quarter at most.
    reserving: Arc<Semaphore>,
    /// Until when buckets have no room.
    refused: Cache<[u8; 32], DateTime<Utc>>,
    /// Sessions that were there a moment ago.
    live: Cache<(Uuid, Uuid), bool>,
    /// The same of keys, by the hash of what is shown.
    machines: Cache<(Uuid, Vec<u8>), Option<Arc<Machine>>>,
    /// Tells that there is something to send; none where nothing is sent.
    to_send: Option<Arc<Notify>>,
}

impl Accounts {
    /// `pool` has the rights of `Role::Accounts`; `root` is what all keys of the installation are derived from. Mails are sent
    /// until `shutdown`.
    pub fn new(
        pool: PgPool,
        config: &Config,
        root: &MacKey,
        shutdown: &Shutdown,
    ) -> Result<Self, ConfigError> {
        let sender = Sender::from_config(config)?;
        let half = (pool.options().get_max_connections() as usize / 2).max(1);
        let to_send = sender.map(|sender| mail::keep_sending(sender, pool.clone(), shutdown));
        Ok(Self(Arc::new(Shared {
            pool,
            signup: config.signup,
            names: root.derive("account name"),
            tokens: root.derive("account token"),
            passwords: Passwords::new(),
            tries: Arc::new(Semaphore::new(half)),
            registering: Arc::new(Semaphore::new((half / 2).max(1))),
            shown: Arc::new(Semaphore::new(1)),
            reserving: Arc::new(Semaphore::new((half / 2).max(1))),
            refused: Cache::builder()
                .max_capacity(REMEMBERED)
                .time_to_live(Duration::from_mins(1))
                .build(),
            live: Cache::builder()
                .max_capacity(REMEMBERED)
                .time_to_live(REVOKED_WITHIN)
                .build(),
            machines: Cache::builder()
                .max_capacity(REMEMBERED)
                .time_to_live(REVOKED_WITHIN)
                .build(),
            to_send,
        })))
    }

    /// Who may register.
    pub fn signup(&self) -> Signup {
        self.0.signup
    }

    /// Whether mails are sent.
    pub fn sends_mail(&self) -> bool {
        self.0.to_send.is_some()
    }

    /// The tenant of this name or id.
    pub async fn tenant(&self, named: &str) -> Result<Option<Uuid>, Error> {
        if named.contains('\0') {
            return Ok(None);
        }
        let _try = self.a_try().await?;
        let tenant = sqlx::query_scalar(
            "SELECT tenant FROM log.tenants WHERE name = $1 OR tenant::text = lower($1)",
        );
        Ok(tenant.bind(named).fetch_optional(&self.0.pool).await?)
    }

    /// A turn for what strangers may cause.
    async fn a_try(&self) -> Result<Turn, Error> {
        turn(&self.0.tries).await
    }

    async fn begin(&self, tenant: Uuid) -> sqlx::Result<Transaction<'static, Postgres>> {
        begin(&self.0.pool, tenant).await
    }
}

/// A place among those who hold a connection for the same.
#[must_use = "held as long as the connection is"]
pub struct Turn(#[expect(dead_code, reason = "held")] OwnedSemaphorePermit);

async fn turn(places: &Arc<Semaphore>) -> Result<Turn, Error> {
    let place = Arc::clone(places).acquire_owned();
    let place = tokio::time::timeout(PATIENCE, place).await;
    let place = place.map_err(|_| Error::Busy)?.map_err(|_| Error::Busy)?;
    Ok(Turn(place))
}

/// A transaction that sees the accounts of one tenant.
async fn begin(pool: &PgPool, tenant: Uuid) -> sqlx::Result<Transaction<'static, Postgres>> {
    // One round trip; nothing but an id comes in from outside.
    let begin = format!("SET LOCAL app.tenant = '{tenant}'; BEGIN");
    db::begin(pool, AssertSqlSafe(begin)).await
}

/// Forgets all that is kept of a user. `pool` has the rights of `Role::Accounts`.
pub async fn forget(pool: &PgPool, tenant: Uuid, user: Uuid) -> sqlx::Result<()> {
    let mut tx = begin(pool, tenant).await?;
    forget_in(&mut tx, tenant, user).await?;
    tx.commit().await
}

async fn forget_in(connection: &mut PgConnection, tenant: Uuid, user: Uuid) -> sqlx::Result<()> {
    for forget in [
        "DELETE FROM accounts.logins WHERE tenant = $1 AND owner = $2",
        "DELETE FROM accounts.api_keys WHERE tenant = $1 AND owner = $2",
        "DELETE FROM accounts.invites WHERE tenant = $1 AND made_by = $2",
        "DELETE FROM accounts.subscribers WHERE tenant = $1 AND owner = $2",
    ] {
        sqlx::query(forget)
            .bind(tenant)
            .bind(user)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}
