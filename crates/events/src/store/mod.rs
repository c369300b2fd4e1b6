//! The log in Postgres: the one way in ([`Log::execute`]) and the ways to read.

mod acceptances;
mod append;
mod batch;
mod draft;
mod execute;
mod failure;
mod judge;
mod keys;
mod known;
mod look;
mod queue;
mod read;
mod room;
mod wake;

use std::time::Duration;

use serde_json::Value;
use service::retry::Retry;
use service::shutdown::Shutdown;
use sqlx::PgPool;
use uuid::Uuid;

pub use append::{Expected, MAX_ENVELOPE_BYTES};
pub use execute::{Accepted, Append, Command, Emit, Streams, Undecided};
pub use keys::{Config as KeysConfig, Keys, MasterKeys, Rotated, rotate};
pub use queue::MAX_BATCH;
pub use read::{About, Bounds, Filter, Limits, Page, Reader, Tail, bounds, page, page_back};
pub use wake::Wake;

pub(crate) use read::{COLUMNS, open as read_open, sealed_from};

use crate::archive::{Archive, ArchiveError};
use crate::decide::{self, Refusal, State};
use crate::id::TenantId;
use crate::seal::SealError;
use crate::upcast::{self, BrokenChain, ReadError};

/// Why the log could not be read or opened.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// Postgres did not answer as it should.
    #[error("the log in Postgres: {0}")]
    Postgres(#[from] sqlx::Error),
    /// A stored fact does not read.
    #[error("a stored fact does not read: {0}")]
    Unreadable(#[from] ReadError),
    /// This program cannot read all that it may find.
    #[error(transparent)]
    Chain(#[from] BrokenChain),
    /// A person's key does not open.
    #[error(transparent)]
    Key(#[from] SealError),
    /// The reader asks for facts below the floor.
    #[error(
        "position {asked} is asked for and this log begins at {floor}: what lies before is in its archive, set ARCHIVE_URL"
    )]
    TooOld {
        /// The first position asked for.
        asked: i64,
        /// The lowest position kept.
        floor: i64,
    },
    /// A stream's kept state makes no sense.
    #[error(
        "the state kept of stream {stream} does not read ({source}): `cinelog verify` tells where the log and it differ"
    )]
    State {
        /// The stream.
        stream: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A stream's facts begin later than was asked for.
    #[error(
        "version {version} of stream {stream} is not in this log, which begins at position {floor}: it is in its archive"
    )]
    StreamTooOld {
        /// The stream.
        stream: String,
        /// The first version asked for.
        version: i64,
        /// The lowest position kept.
        floor: i64,
    },
    /// What lies below the floor cannot be read.
    #[error(transparent)]
    Archive(Box<ArchiveError>),
    /// Positions are not dense: the one law that must never break.
    #[error("position {missing} is missing from the log")]
    Gap {
        /// The position that should be there.
        missing: i64,
    },
    /// The master key cannot be used.
    #[error("the master key: {0}")]
    MasterKey(String),
}

impl LogError {
    /// Whether trying again can help.
    pub fn retry(&self) -> Retry {
        match self {
            Self::Postgres(_) => Retry::Later,
            Self::Archive(error) => error.retry(),
            _ => Retry::Never,
        }
    }
}

impl From<ArchiveError> for LogError {
    fn from(error: ArchiveError) -> Self {
        Self::Archive(Box::new(error))
    }
}

/// Why a command did not take effect. Except for [`ExecuteError::Unavailable`], the log is as it was; there, repeating
/// the same command id tells.
#[derive(Debug, thiserror::Error)]
pub enum ExecuteError {
    /// The decider said no.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// This command id was accepted with another body.
    #[error("this idempotency key was used for another request")]
    KeyReused,
    /// A fact is too large for Kafka.
    #[error("the fact takes {bytes} bytes, at most {limit} are allowed")]
    TooLarge {
        /// Size with envelope.
        bytes: usize,
        /// The most allowed.
        limit: usize,
    },
    /// Postgres cannot hold a value.
    #[error("a value cannot be stored: {0}")]
    Unrepresentable(String),
    /// Too many commands wait.
    #[error("too many commands are waiting")]
    Overloaded {
        /// When to try again.
        retry_after: Duration,
    },
    /// A stream does not stand where the caller expects it.
    #[error("stream {stream} has {actual} facts, and {expected:?} was expected: read it again")]
    Conflict {
        /// The stream.
        stream: String,
        /// What was expected.
        expected: Expected,
        /// Its version.
        actual: i64,
    },
    /// Others kept changing the same thing.
    #[error("others kept changing the same thing: try again")]
    Contended,
    /// The actor was erased, or the key does not open.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// Postgres does not answer; whether the command took effect, a repeat tells.
    #[error("the log in Postgres: {0}")]
    Unavailable(#[from] sqlx::Error),
    /// What was accepted cannot be read back.
    #[error(transparent)]
    Unreadable(LogError),
}

impl ExecuteError {
    /// Whether the same command may pass later.
    pub fn retry(&self) -> Retry {
        match self {
            Self::Overloaded { .. } | Self::Contended | Self::Unavailable(_) => Retry::Later,
            _ => Retry::Never,
        }
    }
}

impl From<LogError> for ExecuteError {
    fn from(error: LogError) -> Self {
        match error {
            LogError::Postgres(error) => Self::Unavailable(error),
            LogError::Key(error) => Self::Seal(error),
            other => Self::Unreadable(other),
        }
    }
}

impl LogError {
    pub(crate) fn state(stream: &str, source: serde_json::Error) -> Self {
        Self::State {
            stream: stream.to_owned(),
            source,
        }
    }
}

/// One stream as it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct StreamRow {
    /// What its facts are about; pinned by the first one.
    pub subject: String,
    /// Number of facts in it.
    pub version: i64,
    /// What they amount to, see [`crate::decide`].
    pub state: Value,
}

impl StreamRow {
    /// The row of `stream` as it was read; an error where its state makes no sense, which nothing may be decided over.
    fn checked(
        stream: &str,
        subject: String,
        version: i64,
        state: Value,
    ) -> Result<Self, LogError> {
        decide::check(stream, &state).map_err(|source| LogError::state(stream, source))?;
        Ok(Self {
            subject,
            version,
            state,
        })
    }

    /// The state as its decider knows it.
    ///
    /// # Panics
    ///
    /// Where the stream's name says another kind.
    pub fn state<S: State>(&self) -> S {
        S::deserialize(&self.state).expect("a stream is read as the kind that its name says")
    }
}

/// The log. Clones share the one writer of this process.
#[derive(Clone, Debug)]
pub struct Log {
    id: Uuid,
    pool: PgPool,
    keys: Keys,
    known: known::Known,
    writer: append::Writer,
    looks: look::Looks,
    archive: Option<Archive>,
}

impl Log {
    /// Opens the log with a pool whose role may append, and starts this process's writer. Refuses a
    /// master key that is not this log's, and to work with a broken chain of upcasters.
    pub async fn open(pool: PgPool, keys: Keys, shutdown: &Shutdown) -> Result<Self, LogError> {
        upcast::check()?;
        let id = bounds(&pool).await?.log_id;
        keys.check(&pool).await?;
        let known = known::Known::new();
        let writer = append::Writer::start(&pool, &known, &keys, shutdown);
        let looks = look::Looks::start(&pool, &known, shutdown);
        Ok(Self {
            id,
            pool,
            keys,
            known,
            writer,
            looks,
            archive: None,
        })
    }

    /// The log, and what has left it: read forwards, they are one.
    #[must_use]
    pub fn with_archive(mut self, archive: Option<Archive>) -> Self {
        self.archive = archive;
        self
    }

    /// Which log this is; only a fork gets a new id.
    pub fn id(&self) -> Uuid {
        self.id
    }

    /// The tenant that every install has from the start.
    pub async fn default_tenant(&self) -> Result<TenantId, LogError> {
        Ok(
            sqlx::query_scalar("SELECT tenant FROM log.tenants WHERE name = 'default'")
                .fetch_one(&self.pool)
                .await?,
        )
    }
}
