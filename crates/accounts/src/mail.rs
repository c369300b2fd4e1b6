//! Mails that let somebody do something. They are written down in the transaction that they follow from and sent afterwards: at
//! least once, until they would be of no use. A mail server that does not answer holds up nobody.

use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use lettre::message::Mailbox;
use lettre::{Address, AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};
use service::shutdown::Shutdown;
use sqlx::{FromRow, PgConnection, PgPool};
use tokio::io::AsyncWriteExt;
use tokio::sync::Notify;
use uuid::Uuid;

use crate::{Config, ConfigError, Purpose};

/// Mails are looked for so often, besides when one was written.
const EVERY: Duration = Duration::from_secs(5);
/// How long sending one may take.
const SENDING: Duration = Duration::from_secs(30);
/// How long a mail that is being sent is nobody else's; doubles with each try.
const AGAIN: f64 = 60.0;

/// Whether this is an address of mail. Of letters that look alike only ours: another one must not stand for them.
pub fn is_address(text: &str) -> bool {
    text.is_ascii() && text.parse::<Address>().is_ok()
}

/// An address as it is compared and as it is written to, both alike: capitals do not make another one.
pub(crate) fn address(text: &str) -> String {
    text.trim().to_ascii_lowercase()
}

/// How mails leave.
pub(crate) struct Sender {
    from: Mailbox,
    by: By,
}

enum By {
    Folder(PathBuf),
    Smtp(AsyncSmtpTransport<Tokio1Executor>),
}

/// Why a mail did not leave.
#[derive(Debug, thiserror::Error)]
enum SendError {
    #[error("write it: {0}")]
    Message(#[from] lettre::error::Error),
    #[error("its address: {0}")]
    Address(#[from] lettre::address::AddressError),
    #[error("put it into the folder: {0}")]
    Folder(#[from] std::io::Error),
    #[error("the mail server: {0}")]
    Smtp(#[from] lettre::transport::smtp::Error),
}

impl Sender {
    pub(crate) fn from_config(config: &Config) -> Result<Option<Self>, ConfigError> {
        let Some(mail) = config.mail.as_ref().map(service::secret::Secret::expose) else {
            return Ok(None);
        };
        if mail.is_empty() {
            return Ok(None);
        }
        let from = config.mail_from.parse().map_err(ConfigError::From)?;
        let by = if mail.starts_with("smtp://") || mail.starts_with("smtps://") {
            let smtp = AsyncSmtpTransport::<Tokio1Executor>::from_url(mail);
            By::Smtp(
                smtp.map_err(ConfigError::Mail)?
                    .timeout(Some(SENDING))
                    .build(),
            )
        } else {
            // What is in it lets its reader in.
            let mut folder = std::fs::DirBuilder::new();
            let made = folder.recursive(true).mode(0o700).create(mail);
            made.map_err(ConfigError::Folder)?;
            By::Folder(mail.into())
        };
        Ok(Some(Self { from, by }))
    }

    async fn send(&self, mail: &Mail) -> Result<(), SendError> {
        let message = Message::builder()
            .from(self.from.clone())
            .to(Mailbox::new(None, mail.address.parse()?))
            .subject(mail.subject.clone())
            // The same when it is sent again, so that it can be known for the same.
            .message_id(Some(format!("<{}@cinelog>", mail.id)))
            .body(mail.body.clone())?;
        match &self.by {
            By::Smtp(smtp) => {
                smtp.send(message).await?;
            }
            By::Folder(folder) => {
                let (aside, file) = (format!(".{}", mail.id), format!("{}.eml", mail.id));
                let mut private = tokio::fs::OpenOptions::new();
                private.write(true).create(true).truncate(true).mode(0o600);
                let mut open = private.open(folder.join(&aside)).await?;
                open.write_all(&message.formatted()).await?;
                open.sync_all().await?;
                tokio::fs::rename(folder.join(aside), folder.join(file)).await?;
            }
        }
        Ok(())
    }
}

#[derive(FromRow)]
struct Mail {
    tenant: Uuid,
    id: Uuid,
    address: String,
    subject: String,
    body: String,
    tries: i32,
}

/// Writes a mail to `address` down, in the caller's transaction.
pub(crate) async fn queue(
    connection: &mut PgConnection,
    (tenant, account): (Uuid, Uuid),
    (email, language): (&str, &str),
    (purpose, code): (Purpose, &str),
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    let (subject, body) = words(purpose, language);
    sqlx::query(
        "INSERT INTO accounts.mails (tenant, mail, address, subject, body, next_at, ends_at, account)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(tenant)
    .bind(Uuid::now_v7())
    .bind(address(email))
    .bind(subject)
    .bind(format!("{body}\r\n\r\n{code}\r\n"))
    .bind(now)
    .bind(now + purpose.ttl())
    .bind(account)
    .execute(connection)
    .await?;
    Ok(())
}

/// What a mail says, in the language that is nearest.
fn words(purpose: Purpose, language: &str) -> (&'static str, &'static str) {
    let spoken = language
        .split('-')
        .next()
        .unwrap_or_default()
        .to_lowercase();
    match (purpose, &*spoken) {
        (Purpose::Verify, "es") => (
            "Confirma tu dirección de correo",
            "Con este código confirmas que esta dirección es tuya. Vale dos días. Si no lo has pedido tú, ignora este mensaje.",
        ),
        (Purpose::Verify, "pt") => (
            "Confirme o seu endereço de e-mail",
            "Com este código você confirma que este endereço é seu. Vale por dois dias. Se não foi você que pediu, ignore esta mensagem.",
        ),
        (Purpose::Verify, _) => (
            "Confirm your address",
            "With this code you confirm that this address is yours. It holds for two days. If you did not ask for it, do nothing.",
        ),
        (Purpose::Reset, "es") => (
            "Elige una contraseña nueva",
            "Con este código puedes elegir una contraseña nueva. Vale una hora. Si no lo has pedido tú, ignora este mensaje: tu \
             contraseña sigue siendo la misma.",
        ),
        (Purpose::Reset, "pt") => (
            "Escolha uma nova senha",
            "Com este código você pode escolher uma nova senha. Vale por uma hora. Se não foi você que pediu, ignore esta mensagem: \
             a sua senha continua a mesma.",
        ),
        (Purpose::Reset, _) => (
            "Choose a new password",
            "With this code you can choose a new password. It holds for an hour. If you did not ask for it, do nothing: your password \
             stays as it is.",
        ),
    }
}

/// Sends what is written down, until shutdown; what is returned tells that there is something.
pub(crate) fn keep_sending(sender: Sender, pool: PgPool, shutdown: &Shutdown) -> Arc<Notify> {
    let to_send = Arc::new(Notify::new());
    let (told, end) = (Arc::clone(&to_send), shutdown.clone());
    shutdown.spawn(async move {
        loop {
            match send_some(&sender, &pool).await {
                Ok(0) => {}
                Ok(_) => continue,
                Err(error) => tracing::warn!(%error, "mails wait for Postgres"),
            }
            tokio::select! {
                () = end.cancelled() => return,
                () = told.notified() => {}
                () = tokio::time::sleep(EVERY) => {}
            }
        }
    });
    to_send
}

/// Tries the mail that is due first; returns how many were due. One at a time: what waits behind a slow one is another process's to take.
async fn send_some(sender: &Sender, pool: &PgPool) -> sqlx::Result<usize> {
    // Times are the server's: which mail is whose must not depend on a process's clock.
    let mails: Vec<Mail> = sqlx::query_as(
        "WITH ended AS (DELETE FROM accounts.mails WHERE ends_at <= now()),
        due AS (
            SELECT tenant, mail FROM accounts.mails WHERE next_at <= now() AND ends_at > now()
            ORDER BY next_at LIMIT 1 FOR UPDATE SKIP LOCKED
        )
        UPDATE accounts.mails m SET tries = m.tries + 1, next_at = now() + make_interval(secs => $1 * 2 ^ least(m.tries, 6))
        FROM due WHERE m.tenant = due.tenant AND m.mail = due.mail
        RETURNING m.tenant, m.mail AS id, m.address, m.subject, m.body, m.tries",
    )
    .bind(AGAIN)
    .fetch_all(pool)
    .await?;
    for mail in &mails {
        let sent = tokio::time::timeout(SENDING, sender.send(mail)).await;
        match sent {
            Ok(Ok(())) => {
                let sent =
                    sqlx::query("DELETE FROM accounts.mails WHERE tenant = $1 AND mail = $2");
                sent.bind(mail.tenant).bind(mail.id).execute(pool).await?;
            }
            // Not to whom: that is personal, and an error of the server may say it.
            Ok(Err(error)) => {
                tracing::warn!(mail = %mail.id, tries = mail.tries, error = kind(&error), "a mail was not sent, and will be tried again");
            }
            Err(_) => {
                tracing::warn!(mail = %mail.id, tries = mail.tries, "the mail server did not answer in time");
            }
        }
    }
    Ok(mails.len())
}

fn kind(error: &SendError) -> String {
    match error {
        SendError::Smtp(error) => match error.status() {
            Some(code) => format!("the mail server answered {code}"),
            None => "the mail server cannot be talked to".to_owned(),
        },
        SendError::Address(_) => "its address is none".to_owned(),
        other => other.to_string(),
    }
}
