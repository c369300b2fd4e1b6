//! The door to Postgres: a pool per database role, and the one transaction type for work on behalf of a user.

use std::ops::{Deref, DerefMut};
use std::str::FromStr;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool, Postgres, SqlSafeStr, Transaction};
use uuid::Uuid;

use crate::secret::Secret;

/// Where the database is.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
pub struct Config {
    /// Postgres, e.g. `postgres://user@host/name`. The user must be allowed to take Cinelog's roles.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    pub database_url: Option<Secret>,
    /// Connections that each pool of this process may hold to Postgres. When absent 16; where requests are answered two for each CPU, as
    /// many as work at once, and four that mostly wait, 8 to 16: with more of them, each is slower.
    #[arg(long, env = "DATABASE_CONNECTIONS")]
    pub database_connections: Option<u32>,
}

/// So many connections has a pool at the most that nobody sets a number for: those of all processes on a machine, and a few more, must
/// fit into the hundred that Postgres allows unless told otherwise.
const CONNECTIONS: u32 = 16;

impl Config {
    /// How many connections a pool for `role` may hold. See ADR 30.
    pub fn connections(&self, role: Role) -> u32 {
        self.database_connections.unwrap_or_else(|| match role {
            Role::Api => {
                let cpus = std::thread::available_parallelism();
                let cpus = cpus.map_or(1, |cpus| u32::try_from(cpus.get()).unwrap_or(CONNECTIONS));
                cpus.saturating_mul(2)
                    .saturating_add(4)
                    .clamp(8, CONNECTIONS)
            }
            _ => CONNECTIONS,
        })
    }
}

/// Whose rights a connection has. `cinelog migrate` makes these roles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Owns the schemas and runs migrations: the user of the URL itself.
    Owner,
    /// Writes read models; bypasses row level security; unreachable from HTTP.
    Projector,
    /// Appends, and writes the job and progress tables.
    Transcoder,
    /// Appends, and reads read models under forced row level security.
    Api,
    /// Knows who may say that they are whom, and appends that they are.
    Accounts,
}

impl Role {
    /// The role's name in Postgres, none for the URL's own user.
    pub fn name(self) -> Option<&'static str> {
        match self {
            Self::Owner => None,
            Self::Projector => Some("cinelog_projector"),
            Self::Transcoder => Some("cinelog_transcoder"),
            Self::Api => Some("cinelog_api"),
            Self::Accounts => Some("cinelog_accounts"),
        }
    }
}

/// An idle connection is taken to be alive for so long.
const TRUSTED: Duration = Duration::from_secs(1);

/// A pool whose sessions start as `role` and fall back to nothing wider: the role is the session's own default.
pub async fn connect(url: &Secret, role: Role, connections: u32) -> Result<PgPool, sqlx::Error> {
    let mut options = PgConnectOptions::from_str(url.expose())?.application_name("cinelog");
    options = options.options([
        // Compiling a plan takes longer than any of our queries.
        ("jit", "off"),
        // The server's own 4 is that of disks with heads: it would rather sort all matches than walk to the newest.
        ("random_page_cost", "1.1"),
    ]);
    // A migration may wait for another process's, and takes what it takes.
    if let Some(role) = role.name() {
        options = options.options([
            ("role", role),
            ("idle_in_transaction_session_timeout", "5s"),
            ("lock_timeout", "10s"),
        ]);
    }
    if matches!(role, Role::Api | Role::Accounts | Role::Transcoder) {
        options = options.options([("statement_timeout", "30s")]);
    }
    PgPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(Duration::from_secs(5))
        // A connection that was used a moment ago is still there; asking would be a round trip for each transaction.
        .test_before_acquire(false)
        .before_acquire(|connection, metadata| {
            Box::pin(async move {
                if metadata.idle_for >= TRUSTED {
                    connection.ping().await?;
                }
                Ok(true)
            })
        })
        .connect_with(options)
        .await
}

/// Opens a transaction by `statement`, which ends with `BEGIN`. This, and not `Pool::begin`, is how one is opened in a pool: sqlx
/// counts a transaction that has begun only, so that a caller who gives up meanwhile leaves one open there, and all that others
/// do on that connection later is part of it, and lost with it. Here the beginning is not the caller's to give up.
///
/// What is set before `BEGIN` in the same `statement` is set in the transaction, and none has begun if that fails: Postgres takes
/// statements that are sent as one for a transaction, which `BEGIN` goes on with.
pub async fn begin(
    pool: &PgPool,
    statement: impl SqlSafeStr,
) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
    let connection = pool.acquire().await?;
    let beginning = Transaction::begin(connection, Some(statement.into_sql_str()));
    #[expect(
        clippy::disallowed_methods,
        reason = "a round trip that outlives its caller, and rolls back what it brings to nobody"
    )]
    tokio::spawn(beginning)
        .await
        .map_err(|_| sqlx::Error::WorkerCrashed)?
}

/// A transaction that sees and touches only what `user` of `tenant` may: both are set for row level security before the
/// first statement, and gone after the last.
#[derive(Debug)]
pub struct TenantTx(Transaction<'static, Postgres>);

impl TenantTx {
    /// Opens a transaction on behalf of a user.
    pub async fn begin(pool: &PgPool, tenant: Uuid, user: Uuid) -> Result<Self, sqlx::Error> {
        // One round trip; nothing but two ids comes in from outside.
        let begin =
            format!("SET LOCAL app.tenant = '{tenant}'; SET LOCAL app.\"user\" = '{user}'; BEGIN");
        Ok(Self(self::begin(pool, AssertSqlSafe(begin)).await?))
    }

    /// Lets the transaction see what is for the tenant's moderators alone. Whether the user is one must be known.
    pub async fn as_moderator(&mut self) -> Result<(), sqlx::Error> {
        sqlx::query("SELECT set_config('app.moderator', 'true', true)")
            .execute(&mut *self.0)
            .await?;
        Ok(())
    }

    /// Lets the transaction see what is for those alone who run the platform. Whether the user is one must be known.
    pub async fn as_operator(&mut self) -> Result<(), sqlx::Error> {
        sqlx::query("SELECT set_config('app.operator', 'true', true)")
            .execute(&mut *self.0)
            .await?;
        Ok(())
    }

    /// Ends the transaction, keeping its effects.
    pub async fn commit(self) -> Result<(), sqlx::Error> {
        self.0.commit().await
    }
}

impl Deref for TenantTx {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.0
    }
}

impl DerefMut for TenantTx {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.0
    }
}
