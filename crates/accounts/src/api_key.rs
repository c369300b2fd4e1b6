//! API keys: machines that act for a user, with less than the user's rights.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

use crate::token::{Bits, Token};
use crate::{Accounts, Error, turn};

/// What every key begins with, so that people and programs that look for leaked secrets know one.
const PREFIX: &str = "cinelog_";
/// How long it is known that a key was deleted: longer than anybody repeats a request.
const KEPT: chrono::Duration = chrono::Duration::days(30);
/// Keys of one user at once.
const MOST: i64 = 100;

/// What a machine may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Ask.
    Read,
    /// Command.
    Write,
}

impl Scope {
    /// As written in tables and bodies.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
        }
    }
}

/// A machine, proven.
#[derive(Clone, Debug, FromRow)]
pub struct Machine {
    /// Its key.
    pub key: Uuid,
    /// In which tenant.
    pub tenant: Uuid,
    /// For whom it acts.
    pub owner: Uuid,
    /// Who vouches for the owner.
    pub issuer: String,
    /// What it may do.
    pub scopes: Vec<String>,
    /// With which rights beyond those of every user: those of its key that its owner still has, of an account of our own.
    pub roles: Vec<String>,
    /// Until when; none: until the key is deleted.
    pub expires_at: Option<DateTime<Utc>>,
}

impl Machine {
    /// Whether its key allows that.
    pub fn may(&self, scope: Scope) -> bool {
        self.scopes.iter().any(|one| one == scope.as_str())
    }
}

/// What is asked for.
#[derive(Clone, Debug)]
pub struct NewApiKey {
    /// In which tenant.
    pub tenant: Uuid,
    /// For whom it will act.
    pub owner: Uuid,
    /// Who vouches for the owner.
    pub issuer: String,
    /// The session by which the owner asks, which must go on until the key is there.
    pub session: Option<Uuid>,
    /// What its owner calls it.
    pub name: String,
    /// What it may do.
    pub scopes: Vec<Scope>,
    /// With which of the owner's roles.
    pub roles: Vec<String>,
    /// Until when; none: until it is deleted.
    pub expires_at: Option<DateTime<Utc>>,
    /// What was asked, by which a repeat is known: who asks with the same bytes again gets the same key.
    pub command: [u8; 32],
    /// What was asked for, hashed.
    pub asked: [u8; 32],
}

/// A key as its owner sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, FromRow)]
pub struct ApiKey {
    /// Which.
    pub key: Uuid,
    /// What its owner calls it.
    pub name: String,
    /// What it may do.
    pub scopes: Vec<String>,
    /// With which roles.
    pub roles: Vec<String>,
    /// Since when.
    pub made_at: DateTime<Utc>,
    /// Until when; none: until it is deleted.
    pub expires_at: Option<DateTime<Utc>>,
}

/// A key as it is kept.
#[derive(FromRow)]
struct Kept {
    asked: Vec<u8>,
    deleted: bool,
    #[sqlx(flatten)]
    key: ApiKey,
}

impl Accounts {
    /// Makes a key, and tells what its machine shows; that is not kept, but asking the same again tells it again. None where its owner has
    /// as many keys as anybody may.
    pub async fn make_api_key(
        &self,
        new: &NewApiKey,
        now: DateTime<Utc>,
    ) -> Result<Option<(ApiKey, String)>, Error> {
        let secret: Bits = self.0.tokens.sign(&[b"api key", &new.command]);
        let id = uuid::Builder::from_random_bytes(half(
            self.0.tokens.sign(&[b"api key id", &new.command]),
        ));
        let token = Token {
            tenant: new.tenant,
            id: id.into_uuid(),
            secret,
        };
        let mut tx = self.begin(new.tenant).await?;
        insert(&mut tx, new, &token, now).await?;
        let kept: Option<Kept> = sqlx::query_as(
            "SELECT asked, deleted_at IS NOT NULL AS deleted, key, name, scopes, roles, made_at, expires_at
            FROM accounts.api_keys WHERE tenant = $1 AND key = $2",
        )
        .bind(new.tenant)
        .bind(token.id)
        .fetch_optional(&mut *tx)
        .await?;
        let Some(kept) = kept else {
            return Ok(None);
        };
        if kept.deleted {
            return Err(Error::KeyDeleted);
        }
        if kept.asked != new.asked {
            return Err(Error::KeyReused);
        }
        tx.commit().await?;
        Ok(Some((kept.key, format!("{PREFIX}{}", token.text()))))
    }

    /// A user's keys, the newest first.
    pub async fn api_keys(&self, tenant: Uuid, owner: Uuid) -> Result<Vec<ApiKey>, Error> {
        let mut tx = self.begin(tenant).await?;
        let keys = sqlx::query_as(
            "SELECT key, name, scopes, roles, made_at, expires_at FROM accounts.api_keys
            WHERE tenant = $1 AND owner = $2 AND deleted_at IS NULL ORDER BY made_at DESC, key",
        );
        let keys = keys.bind(tenant).bind(owner).fetch_all(&mut *tx).await?;
        tx.commit().await?;
        Ok(keys)
    }

    /// Takes a key back; false if the user has none of this id. Other processes notice within [`crate::REVOKED_WITHIN`].
    pub async fn delete_api_key(
        &self,
        tenant: Uuid,
        owner: Uuid,
        key: Uuid,
        now: DateTime<Utc>,
    ) -> Result<bool, Error> {
        let mut tx = self.begin(tenant).await?;
        let gone: Option<Vec<u8>> = sqlx::query_scalar(
            "UPDATE accounts.api_keys SET deleted_at = $4
            WHERE tenant = $1 AND owner = $2 AND key = $3 AND deleted_at IS NULL RETURNING secret",
        )
        .bind(tenant)
        .bind(owner)
        .bind(key)
        .bind(now)
        .fetch_optional(&mut *tx)
        .await?;
        tx.commit().await?;
        if let Some(hash) = &gone {
            self.0.machines.invalidate(&(tenant, hash.clone())).await;
        }
        Ok(gone.is_some())
    }

    /// Whether `text` looks like an API key at all.
    pub fn is_api_key(text: &str) -> bool {
        text.starts_with(PREFIX)
    }

    /// The machine that shows `text`, if that is a key that holds.
    pub async fn machine(
        &self,
        text: &str,
        now: DateTime<Utc>,
    ) -> Result<Option<Arc<Machine>>, Error> {
        let Some(token) = text.strip_prefix(PREFIX).and_then(Token::read) else {
            return Ok(None);
        };
        // Remembered by what is shown, not by which key: a wrong secret must not shut out the right one.
        let shown = (token.tenant, token.hash().to_vec());
        let machine = match self.0.machines.get(&shown).await {
            Some(machine) => machine,
            // Seldom, and 10 kB, which every request would carry.
            None => Box::pin(self.look_up(shown, &token)).await?,
        };
        Ok(machine.filter(|machine| machine.expires_at.is_none_or(|until| until > now)))
    }

    /// The machine behind a key that is shown; those who ask at once wait for the same answer.
    async fn look_up(
        &self,
        shown: (Uuid, Vec<u8>),
        token: &Token,
    ) -> Result<Option<Arc<Machine>>, Error> {
        let look = async {
            let _turn = turn(&self.0.shown).await?;
            let mut tx = self.begin(token.tenant).await?;
            let machine: Option<Machine> = sqlx::query_as(
                "SELECT k.key, k.tenant, k.owner, k.issuer, k.scopes, k.expires_at,
                    CASE WHEN l.roles IS NULL THEN k.roles
                        ELSE ARRAY(SELECT unnest(k.roles) INTERSECT SELECT unnest(l.roles || 'member'::text)) END AS roles
                FROM accounts.api_keys k
                LEFT JOIN accounts.logins l ON l.tenant = $1 AND l.owner = k.owner
                WHERE k.tenant = $1 AND k.key = $2 AND k.secret = $3 AND k.deleted_at IS NULL",
            )
            .bind(token.tenant)
            .bind(token.id)
            .bind(token.hash())
            .fetch_optional(&mut *tx)
            .await?;
            tx.commit().await?;
            Ok::<_, Error>(machine.map(Arc::new))
        };
        let machine = self.0.machines.try_get_with(shown, look).await;
        machine.map_err(|error: Arc<Error>| Error::clone(&error))
    }
}

/// Writes a key down, unless it was before, its owner has as many as anybody may, or the session has ended.
async fn insert(
    connection: &mut PgConnection,
    new: &NewApiKey,
    token: &Token,
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    sqlx::query(
        "DELETE FROM accounts.api_keys WHERE tenant = $1 AND owner = $2 AND deleted_at < $3",
    )
    .bind(new.tenant)
    .bind(new.owner)
    .bind(now - KEPT)
    .execute(&mut *connection)
    .await?;
    sqlx::query(
        "INSERT INTO accounts.api_keys
            (tenant, key, owner, issuer, name, secret, asked, scopes, roles, made_at, expires_at)
        SELECT $1, $2, $3, $4, $6, $7, $8, $9, $10, $11, $12
        WHERE (SELECT count(*) FROM accounts.api_keys WHERE tenant = $1 AND owner = $3 AND deleted_at IS NULL) < $13
          AND ($5::uuid IS NULL
            OR EXISTS (SELECT FROM accounts.sessions WHERE tenant = $1 AND session = $5 FOR SHARE))
        ON CONFLICT DO NOTHING",
    )
    .bind(new.tenant)
    .bind(token.id)
    .bind(new.owner)
    .bind(&new.issuer)
    .bind(new.session)
    .bind(&new.name)
    .bind(token.hash())
    .bind(new.asked)
    .bind(new.scopes.iter().map(|scope| scope.as_str()).collect::<Vec<_>>())
    .bind(&new.roles)
    .bind(now)
    .bind(new.expires_at)
    .bind(MOST)
    .execute(&mut *connection)
    .await?;
    Ok(())
}

fn half(bits: Bits) -> [u8; 16] {
    let (half, _) = bits
        .split_first_chunk()
        .expect("32 bytes have a first half");
    *half
}
