//! Accounts: registering and proving who one is.

use chrono::{DateTime, Utc};
use serde::Serialize;
use service::secret::Secret;
use sqlx::{PgConnection, PgPool, Postgres, Transaction};
use uuid::Uuid;

use crate::{Accounts, Error, Purpose, Session, Turn, begin, mail, permit, session, turn};

/// Somebody whom we know ourselves.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct Account {
    /// In which tenant.
    pub tenant: Uuid,
    /// What we, the issuer, call the user.
    pub account: Uuid,
    /// The user.
    pub owner: Uuid,
    /// What the user may do beyond what every user may.
    pub roles: Vec<String>,
    /// Whether the mail address is proven; false without one.
    pub verified: bool,
}

/// What registers.
#[derive(Clone, Debug)]
pub struct NewAccount {
    /// In which tenant.
    pub tenant: Uuid,
    /// What we will call the user.
    pub account: Uuid,
    /// The user.
    pub owner: Uuid,
    /// What the user calls themselves, unique in the tenant without regard to case.
    pub handle: String,
    /// Where the user gets mail, unique in the tenant.
    pub email: Option<String>,
    /// What proves that it is the user.
    pub password: Secret,
    /// The invite, where one is needed.
    pub invite: Option<String>,
    /// In which language to write to the user.
    pub language: String,
}

/// What is kept of an account, for its user. Neither the address nor the password are kept so that they could be told.
#[derive(Clone, Debug, Serialize, sqlx::FromRow)]
pub struct Kept {
    /// What we, the issuer, call the user.
    pub account: Uuid,
    /// What the user calls themselves.
    pub handle: String,
    /// Whether there is a mail address.
    pub has_email: bool,
    /// Whether it is proven.
    pub verified: bool,
    /// What the user may do beyond what every user may.
    pub roles: Vec<String>,
    /// Since when.
    pub made_at: DateTime<Utc>,
}

/// Where a user is logged in.
#[derive(Clone, Debug, Serialize, sqlx::FromRow)]
pub struct KeptSession {
    /// Which session.
    pub session: Uuid,
    /// When it was last gone on with.
    pub rotated_at: DateTime<Utc>,
    /// Until when it can be.
    pub expires_at: DateTime<Utc>,
}

/// Somebody knew an account's password. It lasts until that is another one.
#[derive(Clone)]
pub struct Proof {
    pub(crate) tenant: Uuid,
    pub(crate) account: Uuid,
    /// As it is kept.
    pub(crate) password: String,
}

/// Capitals do not make another name.
fn handle_key(handle: &str) -> String {
    handle.trim().to_lowercase()
}

impl Accounts {
    /// An address as it is kept.
    pub(crate) fn email_key(&self, email: &str) -> [u8; 32] {
        let email = mail::address(email);
        self.0.names.sign(&[b"email", email.as_bytes()])
    }

    /// Takes the name and the address for a new account, uses up the invite if `with_invite`, has the mail written that proves the
    /// address, and begins a session. All that holds once the transaction is committed, which has turns that last as long.
    pub async fn register(
        &self,
        new: &NewAccount,
        with_invite: bool,
        now: DateTime<Utc>,
    ) -> Result<(Transaction<'static, Postgres>, [Turn; 2], Session), Error> {
        let password = self.0.passwords.hash(&new.password).await?;
        let turns = [turn(&self.0.registering).await?, self.a_try().await?];
        let mut tx = self.begin(new.tenant).await?;
        if with_invite {
            let code = new.invite.as_deref().unwrap_or_default();
            self.use_up_invite(&mut tx, new.tenant, code, now).await?;
        }
        let email = new.email.as_deref().map(|email| self.email_key(email));
        let inserted = sqlx::query(
            "INSERT INTO accounts.logins (tenant, account, owner, handle, email, password, made_at)
            VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(new.tenant)
        .bind(new.account)
        .bind(new.owner)
        .bind(handle_key(&new.handle))
        .bind(email)
        .bind(&password)
        .bind(now)
        .execute(&mut *tx)
        .await;
        inserted.map_err(|error| match taken(&error) {
            Some("handle") => Error::HandleTaken,
            Some("email") => Error::EmailTaken,
            _ => error.into(),
        })?;
        if let (Some(email), true) = (&new.email, self.sends_mail()) {
            let of = (new.tenant, new.account);
            let code = permit::make(&mut tx, of, Purpose::Verify, now).await?;
            mail::queue(
                &mut tx,
                of,
                (email, &new.language),
                (Purpose::Verify, &code),
                now,
            )
            .await?;
        }
        let account = of(&mut tx, new.tenant, new.account).await?;
        let account = account.ok_or(Error::CredentialsWrong)?;
        let session = session::start(&mut tx, account, now).await?;
        Ok((tx, turns, session))
    }

    /// Tells that there is mail to send, after the transaction that wrote it.
    pub fn registered(&self) {
        if let Some(to_send) = &self.0.to_send {
            to_send.notify_one();
        }
    }

    /// What is kept of a user's account, and of their sessions; none: another issuer vouches for them.
    pub async fn kept(
        &self,
        tenant: Uuid,
        owner: Uuid,
    ) -> Result<Option<(Kept, Vec<KeptSession>)>, Error> {
        let mut tx = self.begin(tenant).await?;
        let account: Option<Kept> = sqlx::query_as(
            "SELECT account, handle, email IS NOT NULL AS has_email, verified, roles, made_at
            FROM accounts.logins WHERE tenant = $1 AND owner = $2",
        )
        .bind(tenant)
        .bind(owner)
        .fetch_optional(&mut *tx)
        .await?;
        let Some(account) = account else {
            return Ok(None);
        };
        let sessions = sqlx::query_as(
            "SELECT session, rotated_at, expires_at FROM accounts.sessions
            WHERE tenant = $1 AND account = $2 ORDER BY rotated_at, session",
        )
        .bind(tenant)
        .bind(account.account)
        .fetch_all(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(Some((account, sessions)))
    }

    /// Proves that the password is that of the account with this handle or address.
    pub async fn prove(
        &self,
        tenant: Uuid,
        login: &str,
        password: &Secret,
    ) -> Result<Proof, Error> {
        if login.contains('\0') {
            return Err(Error::CredentialsWrong);
        }
        let place = self.a_try().await?;
        let mut tx = self.begin(tenant).await?;
        let found: Option<(Uuid, String)> = sqlx::query_as(
            "SELECT account, password FROM accounts.logins WHERE tenant = $1 AND (handle = $2 OR email = $3)
            ORDER BY handle = $2 DESC LIMIT 1",
        )
        .bind(tenant)
        .bind(handle_key(login))
        .bind(self.email_key(login))
        .fetch_optional(&mut *tx)
        .await?;
        // Checking takes long: neither a transaction nor others wait for it.
        tx.commit().await?;
        drop(place);
        let (account, hash) = found.unzip();
        if !self.0.passwords.fits(password, hash.clone()).await? {
            return Err(Error::CredentialsWrong);
        }
        let (account, password) = account.zip(hash).ok_or(Error::CredentialsWrong)?;
        Ok(Proof {
            tenant,
            account,
            password,
        })
    }
}

/// Gives an account these roles, and ends its sessions, which have others; false if there is none of this handle. `pool` has the rights
/// of `Role::Accounts`.
pub async fn grant(
    pool: &PgPool,
    tenant: Uuid,
    handle: &str,
    roles: &[&str],
) -> sqlx::Result<bool> {
    let mut tx = begin(pool, tenant).await?;
    let account: Option<Uuid> = sqlx::query_scalar(
        "UPDATE accounts.logins SET roles = $3 WHERE tenant = $1 AND handle = $2 RETURNING account",
    )
    .bind(tenant)
    .bind(handle_key(handle))
    .bind(roles)
    .fetch_optional(&mut *tx)
    .await?;
    sqlx::query("DELETE FROM accounts.sessions WHERE tenant = $1 AND account = $2")
        .bind(tenant)
        .bind(account)
        .execute(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok(account.is_some())
}

/// The user with this handle. `pool` has the rights of `Role::Accounts`.
pub async fn owner(pool: &PgPool, tenant: Uuid, handle: &str) -> sqlx::Result<Option<Uuid>> {
    let mut tx = begin(pool, tenant).await?;
    let owner =
        sqlx::query_scalar("SELECT owner FROM accounts.logins WHERE tenant = $1 AND handle = $2");
    owner
        .bind(tenant)
        .bind(handle_key(handle))
        .fetch_optional(&mut *tx)
        .await
}

/// An account.
pub(crate) async fn of(
    connection: &mut PgConnection,
    tenant: Uuid,
    account: Uuid,
) -> sqlx::Result<Option<Account>> {
    sqlx::query_as(
        "SELECT tenant, account, owner, roles, verified FROM accounts.logins WHERE tenant = $1 AND account = $2",
    )
    .bind(tenant)
    .bind(account)
    .fetch_optional(connection)
    .await
}

/// The account of a proof that still holds. Until the transaction ends, neither its password nor its roles change.
pub(crate) async fn proven(
    connection: &mut PgConnection,
    proof: &Proof,
) -> sqlx::Result<Option<Account>> {
    sqlx::query_as(
        "SELECT tenant, account, owner, roles, verified FROM accounts.logins
        WHERE tenant = $1 AND account = $2 AND password = $3 FOR SHARE",
    )
    .bind(proof.tenant)
    .bind(proof.account)
    .bind(&proof.password)
    .fetch_optional(connection)
    .await
}

/// The constraint that says that something is taken.
fn taken(error: &sqlx::Error) -> Option<&str> {
    error
        .as_database_error()
        .filter(|error| error.is_unique_violation())?
        .constraint()
}
