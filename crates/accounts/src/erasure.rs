//! Who asked to be erased. The request ends everything that proves who they are, and is a row until it was carried out; it stays, so
//! that whoever asked can see that.

use chrono::{DateTime, Utc};
use sqlx::{FromRow, PgPool, Postgres, Transaction};
use uuid::Uuid;

use crate::{Accounts, Error, forget_in};

/// A request to be erased.
#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
pub struct Erasure {
    /// In which tenant.
    pub tenant: Uuid,
    /// Who asked.
    pub owner: Uuid,
    /// By what its state is asked for.
    pub erasure: Uuid,
    /// Since when.
    pub asked_at: DateTime<Utc>,
    /// When it was carried out; none: not yet.
    pub done_at: Option<DateTime<Utc>>,
}

/// What ends with a request, once its transaction is committed.
#[derive(Debug)]
pub struct Ended {
    tenant: Uuid,
    sessions: Vec<Uuid>,
    keys: Vec<Vec<u8>>,
}

impl Accounts {
    /// Takes away all by which a user can prove who they are, and writes down that they are to be erased; in the transaction to append
    /// in. Asking again gives the first request.
    pub async fn ask_to_erase(
        &self,
        tenant: Uuid,
        owner: Uuid,
        now: DateTime<Utc>,
    ) -> Result<(Transaction<'static, Postgres>, Erasure, Ended), Error> {
        let mut tx = self.begin(tenant).await?;
        let erasure = sqlx::query_as(
            "WITH new AS (
                INSERT INTO accounts.erasures (tenant, owner, erasure, asked_at, next_at) VALUES ($1, $2, $3, $4, $4)
                ON CONFLICT (tenant, owner) DO UPDATE SET owner = EXCLUDED.owner
                RETURNING *)
            SELECT tenant, owner, erasure, asked_at, done_at FROM new",
        )
        .bind(tenant)
        .bind(owner)
        .bind(Uuid::new_v4())
        .bind(now)
        .fetch_one(&mut *tx)
        .await?;
        let sessions = sqlx::query_scalar(
            "DELETE FROM accounts.sessions s USING accounts.logins l
            WHERE s.tenant = $1 AND l.tenant = $1 AND l.account = s.account AND l.owner = $2 RETURNING s.session",
        )
        .bind(tenant)
        .bind(owner)
        .fetch_all(&mut *tx)
        .await?;
        let keys = sqlx::query_scalar(
            "DELETE FROM accounts.api_keys WHERE tenant = $1 AND owner = $2 RETURNING secret",
        )
        .bind(tenant)
        .bind(owner)
        .fetch_all(&mut *tx)
        .await?;
        forget_in(&mut tx, tenant, owner).await?;
        let ended = Ended {
            tenant,
            sessions,
            keys,
        };
        Ok((tx, erasure, ended))
    }

    /// Forgets that these were there; other processes notice within [`crate::REVOKED_WITHIN`].
    pub async fn forgot(&self, ended: Ended) {
        for key in ended.keys {
            self.0.machines.invalidate(&(ended.tenant, key)).await;
        }
        self.ended(ended.tenant, ended.sessions).await;
    }

    /// The request of this id.
    pub async fn erasure(&self, erasure: Uuid) -> Result<Option<Erasure>, Error> {
        let _try = self.a_try().await?;
        let found = sqlx::query_as(
            "SELECT tenant, owner, erasure, asked_at, done_at FROM accounts.erasures WHERE erasure = $1",
        );
        Ok(found.bind(erasure).fetch_optional(&self.0.pool).await?)
    }
}

/// Requests that are to be carried out, at most `limit`; nobody else is given them for a while, which doubles with each try up to an
/// hour. `pool` has the rights of `Role::Accounts`.
pub async fn to_erase(pool: &PgPool, limit: i64, now: DateTime<Utc>) -> sqlx::Result<Vec<Erasure>> {
    sqlx::query_as(
        "UPDATE accounts.erasures e
        SET tries = e.tries + 1, next_at = $1 + least(interval '1 minute' * 2 ^ least(e.tries, 10), interval '1 hour')
        FROM (
            SELECT tenant, owner FROM accounts.erasures WHERE done_at IS NULL AND next_at <= $1
            ORDER BY next_at LIMIT $2 FOR UPDATE SKIP LOCKED
        ) due
        WHERE e.tenant = due.tenant AND e.owner = due.owner
        RETURNING e.tenant, e.owner, e.erasure, e.asked_at, e.done_at",
    )
    .bind(now)
    .bind(limit)
    .fetch_all(pool)
    .await
}

/// A user was erased, whoever asked for it. `pool` has the rights of `Role::Accounts`.
pub async fn erased(
    pool: &PgPool,
    tenant: Uuid,
    owner: Uuid,
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    sqlx::query(
        "UPDATE accounts.erasures SET done_at = $3 WHERE tenant = $1 AND owner = $2 AND done_at IS NULL",
    )
    .bind(tenant)
    .bind(owner)
    .bind(now)
    .execute(pool)
    .await?;
    Ok(())
}
