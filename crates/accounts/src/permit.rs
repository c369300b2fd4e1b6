//! What somebody may do once who has what was sent or given to them: prove an address, set a new password, register.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use chrono::{DateTime, Duration, Utc};
use service::secret::Secret;
use sha2::{Digest, Sha256};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::token::{Bits, Token, chance};
use crate::{Accounts, Error, mail};

/// What for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To prove that one reads mail at an address.
    Verify,
    /// To set a new password.
    Reset,
}

impl Purpose {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Verify => "verify",
            Self::Reset => "reset",
        }
    }

    /// How long it holds.
    pub(crate) fn ttl(self) -> Duration {
        match self {
            Self::Verify => Duration::days(2),
            Self::Reset => Duration::hours(1),
        }
    }
}

/// Makes a permit for an account; what it returns is only ever in the mail.
pub(crate) async fn make(
    connection: &mut PgConnection,
    (tenant, account): (Uuid, Uuid),
    purpose: Purpose,
    now: DateTime<Utc>,
) -> sqlx::Result<String> {
    let token = Token {
        tenant,
        id: account,
        secret: chance(),
    };
    // Of what was asked for before, the newest few go on holding: mails may come late, and must not pile up.
    sqlx::query(
        "WITH old AS (
            SELECT permit FROM accounts.permits WHERE tenant = $1 AND account = $2 AND purpose = $3
            ORDER BY expires_at DESC OFFSET 2
        ), gone AS (
            DELETE FROM accounts.permits p USING old WHERE p.tenant = $1 AND p.permit = old.permit
        )
        INSERT INTO accounts.permits (tenant, account, purpose, permit, expires_at) VALUES ($1, $2, $3, $4, $5)",
    )
    .bind(tenant)
    .bind(account)
    .bind(purpose.as_str())
    .bind(token.hash())
    .bind(now + purpose.ttl())
    .execute(connection)
    .await?;
    Ok(token.text())
}

/// Uses a permit up.
async fn take(
    connection: &mut PgConnection,
    token: &Token,
    purpose: Purpose,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    let taken = sqlx::query(
        "DELETE FROM accounts.permits
        WHERE tenant = $1 AND permit = $2 AND account = $3 AND purpose = $4 AND expires_at > $5",
    )
    .bind(token.tenant)
    .bind(token.hash())
    .bind(token.id)
    .bind(purpose.as_str())
    .bind(now)
    .execute(connection)
    .await?;
    if taken.rows_affected() == 1 {
        return Ok(());
    }
    Err(Error::PermitInvalid)
}

/// How long an invite holds.
const INVITE_TTL: Duration = Duration::days(14);

fn invite_hash(code: &str) -> Bits {
    Sha256::digest(code.trim()).into()
}

impl Accounts {
    /// Proves the address that the mail with `code` went to.
    pub async fn verify(&self, code: &str, now: DateTime<Utc>) -> Result<(), Error> {
        let token = Token::read(code).ok_or(Error::PermitInvalid)?;
        let _try = self.a_try().await?;
        let mut tx = self.begin(token.tenant).await?;
        take(&mut tx, &token, Purpose::Verify, now).await?;
        sqlx::query(
            "UPDATE accounts.logins SET verified = true WHERE tenant = $1 AND account = $2",
        )
        .bind(token.tenant)
        .bind(token.id)
        .execute(&mut *tx)
        .await?;
        Ok(tx.commit().await?)
    }

    /// Sets a new password by what a mail said, which proves the address too, and ends all sessions. Keys that were made before the
    /// address was proven may be somebody else's, who registered with it: they end too.
    pub async fn reset(
        &self,
        code: &str,
        password: &Secret,
        now: DateTime<Utc>,
    ) -> Result<(), Error> {
        let token = Token::read(code).ok_or(Error::PermitInvalid)?;
        let password = self.0.passwords.hash(password).await?;
        let _try = self.a_try().await?;
        let mut tx = self.begin(token.tenant).await?;
        take(&mut tx, &token, Purpose::Reset, now).await?;
        // Whoever logs in holds the account, whoever makes a key their session: what they began before is seen once those are ours.
        sqlx::query("UPDATE accounts.logins SET password = $3 WHERE tenant = $1 AND account = $2")
            .bind(token.tenant)
            .bind(token.id)
            .bind(password)
            .execute(&mut *tx)
            .await?;
        let ended: Vec<Uuid> = sqlx::query_scalar(
            "DELETE FROM accounts.sessions WHERE tenant = $1 AND account = $2 RETURNING session",
        )
        .bind(token.tenant)
        .bind(token.id)
        .fetch_all(&mut *tx)
        .await?;
        for set in [
            "DELETE FROM accounts.api_keys k USING accounts.logins l
            WHERE k.tenant = $1 AND l.tenant = $1 AND l.account = $2 AND k.owner = l.owner AND NOT l.verified",
            "DELETE FROM accounts.permits WHERE tenant = $1 AND account = $2",
            "UPDATE accounts.logins SET verified = true WHERE tenant = $1 AND account = $2",
        ] {
            sqlx::query(set)
                .bind(token.tenant)
                .bind(token.id)
                .execute(&mut *tx)
                .await?;
        }
        tx.commit().await?;
        self.ended(token.tenant, ended).await;
        Ok(())
    }

    /// Sends a mail to `email` that lets its reader do what `purpose` says, if an account has that address; nobody is told whether.
    pub async fn send(
        &self,
        tenant: Uuid,
        (email, language): (&str, &str),
        purpose: Purpose,
        now: DateTime<Utc>,
    ) -> Result<(), Error> {
        let Some(to_send) = &self.0.to_send else {
            return Err(Error::NoMail);
        };
        let _try = self.a_try().await?;
        let mut tx = self.begin(tenant).await?;
        let account: Option<(Uuid, bool)> = sqlx::query_as(
            "SELECT account, verified FROM accounts.logins WHERE tenant = $1 AND email = $2",
        )
        .bind(tenant)
        .bind(self.email_key(email))
        .fetch_optional(&mut *tx)
        .await?;
        let Some((account, verified)) = account else {
            return Ok(());
        };
        if verified && purpose == Purpose::Verify {
            return Ok(());
        }
        let code = make(&mut tx, (tenant, account), purpose, now).await?;
        let of = (tenant, account);
        mail::queue(&mut tx, of, (email, language), (purpose, &code), now).await?;
        tx.commit().await?;
        to_send.notify_one();
        Ok(())
    }

    /// Makes an invite, and tells its code and until when it holds. Asking with the same `command` again tells the same, also when the
    /// invite was used meanwhile.
    pub async fn invite(
        &self,
        (tenant, made_by): (Uuid, Uuid),
        command: &[u8; 32],
        now: DateTime<Utc>,
    ) -> Result<(String, DateTime<Utc>), Error> {
        let code = BASE64.encode(&self.0.tokens.sign(&[b"invite", command])[..16]);
        let mut tx = self.begin(tenant).await?;
        sqlx::query("DELETE FROM accounts.invites WHERE tenant = $1 AND expires_at <= $2")
            .bind(tenant)
            .bind(now)
            .execute(&mut *tx)
            .await?;
        sqlx::query(
            "INSERT INTO accounts.invites (tenant, invite, made_by, expires_at) VALUES ($1, $2, $3, $4)
            ON CONFLICT DO NOTHING",
        )
        .bind(tenant)
        .bind(invite_hash(&code))
        .bind(made_by)
        .bind(now + INVITE_TTL)
        .execute(&mut *tx)
        .await?;
        let until = sqlx::query_scalar(
            "SELECT expires_at FROM accounts.invites WHERE tenant = $1 AND invite = $2",
        )
        .bind(tenant)
        .bind(invite_hash(&code))
        .fetch_one(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok((code, until))
    }

    pub(crate) async fn use_up_invite(
        &self,
        connection: &mut PgConnection,
        tenant: Uuid,
        code: &str,
        now: DateTime<Utc>,
    ) -> Result<(), Error> {
        let used = sqlx::query(
            "UPDATE accounts.invites SET used_at = $3
            WHERE tenant = $1 AND invite = $2 AND expires_at > $3 AND used_at IS NULL",
        )
        .bind(tenant)
        .bind(invite_hash(code))
        .bind(now)
        .execute(connection)
        .await?;
        if used.rows_affected() == 1 {
            return Ok(());
        }
        Err(Error::InviteInvalid)
    }
}
