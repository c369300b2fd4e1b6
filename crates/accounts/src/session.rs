//! Sessions: a refresh token that is replaced by the next one each time it is used, and a row without which no access token of
//! the session holds.
//!
//! The next token follows from the one before under a key, so a client that did not get the answer gets the same one again, for a
//! moment. Later, or by a token still older, it is a copy that is used: then the session is over, for both.

use chrono::{DateTime, Duration, Utc};
use sqlx::{PgConnection, Postgres, Transaction};
use uuid::Uuid;

use crate::token::{Bits, Token, chance};
use crate::{Account, Accounts, Error, Proof, account};

/// How long a session that nobody uses goes on.
pub const SESSION_TTL: Duration = Duration::days(30);
/// How long the token before the last still gives what it gave.
const GRACE: Duration = Duration::seconds(10);
/// Sessions of one account at once; the one that was used last before all others ends.
const MOST: i64 = 50;

/// A session that was begun or goes on.
#[derive(Clone, Debug)]
pub struct Session {
    /// Which.
    pub session: Uuid,
    /// What it goes on with: only its client may have it.
    pub refresh: String,
    /// Whose.
    pub account: Account,
}

impl Accounts {
    /// Begins a session, if what was proven still holds.
    pub async fn begin_session(&self, proof: &Proof, now: DateTime<Utc>) -> Result<Session, Error> {
        let _try = self.a_try().await?;
        let mut tx = self.begin(proof.tenant).await?;
        // A new password, or other roles, end all sessions: this one must be among them or not begin.
        let account = account::proven(&mut tx, proof).await?;
        let account = account.ok_or(Error::CredentialsWrong)?;
        sqlx::query("DELETE FROM accounts.sessions WHERE tenant = $1 AND expires_at <= $2")
            .bind(account.tenant)
            .bind(now)
            .execute(&mut *tx)
            .await?;
        let session = start(&mut tx, account, now).await?;
        tx.commit().await?;
        Ok(session)
    }

    /// The token after `token`.
    fn next(&self, token: &Token) -> Token {
        let secret: Bits = self
            .0
            .tokens
            .sign(&[b"refresh", token.id.as_bytes(), &token.secret]);
        Token { secret, ..*token }
    }

    /// Goes on with a session by its refresh token, which the next one replaces.
    pub async fn refresh(&self, refresh: &str, now: DateTime<Utc>) -> Result<Session, Error> {
        let token = Token::read(refresh).ok_or(Error::SessionEnded)?;
        let next = self.next(&token);
        let _try = self.a_try().await?;
        let mut tx = self.begin(token.tenant).await?;
        let account: Option<Uuid> = sqlx::query_scalar(
            "UPDATE accounts.sessions SET token = $4, before = token, rotated_at = $5, expires_at = $6
            WHERE tenant = $1 AND session = $2 AND token = $3 AND expires_at > $5
            RETURNING account",
        )
        .bind(token.tenant)
        .bind(token.id)
        .bind(token.hash())
        .bind(next.hash())
        .bind(now)
        .bind(now + SESSION_TTL)
        .fetch_optional(&mut *tx)
        .await?;
        let account = match account {
            Some(account) => account,
            None => match again(&mut tx, &token, now).await? {
                Some(account) => account,
                None => return self.copied(tx, &token).await,
            },
        };
        let account = account::of(&mut tx, token.tenant, account).await?;
        tx.commit().await?;
        Ok(Session {
            session: token.id,
            refresh: next.text(),
            account: account.ok_or(Error::SessionEnded)?,
        })
    }

    /// Ends a session whose token somebody has a copy of.
    async fn copied(
        &self,
        mut tx: Transaction<'static, Postgres>,
        token: &Token,
    ) -> Result<Session, Error> {
        let ended = sqlx::query("DELETE FROM accounts.sessions WHERE tenant = $1 AND session = $2")
            .bind(token.tenant)
            .bind(token.id)
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        self.0.live.invalidate(&(token.tenant, token.id)).await;
        Err(if ended.rows_affected() == 1 {
            Error::SessionCopied
        } else {
            Error::SessionEnded
        })
    }

    /// Ends the session of a refresh token; `everywhere`: all sessions of its account. One that is over already is no error. The token
    /// before the last does the same, however old: who logs out may not have had the answer that replaced it. By one still older, the
    /// session alone ends: somebody has a copy.
    pub async fn log_out(&self, refresh: &str, everywhere: bool) -> Result<(), Error> {
        let Some(token) = Token::read(refresh) else {
            return Ok(());
        };
        let _try = self.a_try().await?;
        let mut tx = self.begin(token.tenant).await?;
        let session: Option<(Uuid, bool)> = sqlx::query_as(
            "SELECT account, token = $3 OR before IS NOT DISTINCT FROM $3 FROM accounts.sessions
            WHERE tenant = $1 AND session = $2",
        )
        .bind(token.tenant)
        .bind(token.id)
        .bind(token.hash())
        .fetch_optional(&mut *tx)
        .await?;
        let Some((account, is_theirs)) = session else {
            return Ok(());
        };
        let ended: Vec<Uuid> = sqlx::query_scalar(
            "DELETE FROM accounts.sessions WHERE tenant = $1 AND account = $2 AND (session = $3 OR $4) RETURNING session",
        )
        .bind(token.tenant)
        .bind(account)
        .bind(token.id)
        .bind(everywhere && is_theirs)
        .fetch_all(&mut *tx)
        .await?;
        tx.commit().await?;
        self.ended(token.tenant, ended).await;
        Ok(())
    }

    /// Forgets that these sessions were there.
    pub(crate) async fn ended(&self, tenant: Uuid, sessions: Vec<Uuid>) {
        for session in sessions {
            self.0.live.invalidate(&(tenant, session)).await;
        }
    }

    /// Whether a session goes on; one that ended in another process is noticed within [`crate::REVOKED_WITHIN`].
    pub async fn is_live(&self, tenant: Uuid, session: Uuid) -> Result<bool, Error> {
        if let Some(live) = self.0.live.get(&(tenant, session)).await {
            return Ok(live);
        }
        let look = async {
            let mut tx = self.begin(tenant).await?;
            let live = sqlx::query_scalar(
                "SELECT EXISTS (SELECT FROM accounts.sessions WHERE tenant = $1 AND session = $2)",
            );
            let live: bool = live.bind(tenant).bind(session).fetch_one(&mut *tx).await?;
            tx.commit().await?;
            Ok::<_, sqlx::Error>(live)
        };
        // Seldom, and 10 kB, which every request would carry.
        let live = Box::pin(self.0.live.try_get_with((tenant, session), look)).await;
        live.map_err(Error::Postgres)
    }
}

/// The account, where `token` was replaced only just now.
async fn again(
    tx: &mut Transaction<'static, Postgres>,
    token: &Token,
    now: DateTime<Utc>,
) -> sqlx::Result<Option<Uuid>> {
    sqlx::query_scalar(
        "SELECT account FROM accounts.sessions
        WHERE tenant = $1 AND session = $2 AND before = $3 AND rotated_at > $4 AND expires_at > $5",
    )
    .bind(token.tenant)
    .bind(token.id)
    .bind(token.hash())
    .bind(now - GRACE)
    .bind(now)
    .fetch_optional(&mut **tx)
    .await
}

/// Begins a session of an account, in the place of one too many.
pub(crate) async fn start(
    connection: &mut PgConnection,
    account: Account,
    now: DateTime<Utc>,
) -> sqlx::Result<Session> {
    let token = Token {
        tenant: account.tenant,
        id: Uuid::new_v4(),
        secret: chance(),
    };
    sqlx::query(
        "WITH surplus AS (
            SELECT session FROM accounts.sessions WHERE tenant = $1 AND account = $3
            ORDER BY rotated_at DESC OFFSET $7 - 1
        ), ended AS (
            DELETE FROM accounts.sessions s USING surplus u WHERE s.tenant = $1 AND s.session = u.session
        )
        INSERT INTO accounts.sessions (tenant, session, account, token, rotated_at, expires_at)
        VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(account.tenant)
    .bind(token.id)
    .bind(account.account)
    .bind(token.hash())
    .bind(now)
    .bind(now + SESSION_TTL)
    .bind(MOST)
    .execute(connection)
    .await?;
    Ok(Session {
        session: token.id,
        refresh: token.text(),
        account,
    })
}
