//! What can go wrong with an object, by what the caller can do about it.

use service::retry::Retry;

use crate::key::Key;

/// A storage operation that did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing was put there.
    #[error("there is no object at {0}")]
    Missing(Key),
    /// Not all parts of the object are there.
    #[error("{} parts of {key} are missing, the first is {}", missing.len(), missing.first().copied().unwrap_or_default())]
    PartsMissing {
        /// Which object.
        key: Key,
        /// Which of its parts.
        missing: Vec<u32>,
    },
    /// An object with other bytes is there already; objects are created once.
    #[error("another object is already at {0}")]
    Exists(Key),
    /// The object's size is not what was agreed.
    #[error("the object at {key} has {found} bytes instead of {expected}")]
    SizeDiffers {
        /// Which object.
        key: Key,
        /// What was agreed.
        expected: u64,
        /// What is there; when too many came in, how many had been counted by then.
        found: u64,
    },
    /// The object's bytes are not those that were agreed.
    #[error("the object at {key} does not have the agreed SHA-256")]
    ChecksumDiffers {
        /// Which object.
        key: Key,
        /// Its `ETag`, where it was found in a store: the same object differs the next time too.
        etag: Option<String>,
    },
    /// The object was replaced after its `ETag` was recorded.
    #[error("the object at {0} is no longer the one recorded")]
    Changed(Key),
    /// The object is larger than the caller accepts.
    #[error("the object at {key} is larger than {limit} bytes")]
    LimitReached {
        /// Which object.
        key: Key,
        /// What the caller accepts.
        limit: u64,
    },
    /// The store does not answer, or answers that it cannot now.
    #[error("the store does not answer")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The store answered that it will not: wrong keys, no such bucket, a request it does not understand.
    #[error("the store refuses: {0}")]
    Refused(String),
    /// A file on this machine could not be read or written.
    #[error("a local file: {0}")]
    Disk(#[from] std::io::Error),
    /// The configuration names no store that could be opened.
    #[error("storage configuration: {0}")]
    Config(String),
}

impl Error {
    /// Whether the same call may pass later.
    pub fn retry(&self) -> Retry {
        match self {
            Self::Unavailable(_) | Self::Disk(_) => Retry::Later,
            Self::Missing(_)
            | Self::PartsMissing { .. }
            | Self::Exists(_)
            | Self::SizeDiffers { .. }
            | Self::ChecksumDiffers { .. }
            | Self::Changed(_)
            | Self::LimitReached { .. }
            | Self::Refused(_)
            | Self::Config(_) => Retry::Never,
        }
    }

    /// One word for a metric's label.
    pub(crate) fn outcome(&self) -> &'static str {
        match self {
            Self::Missing(_) | Self::PartsMissing { .. } => "missing",
            Self::Exists(_) => "exists",
            Self::SizeDiffers { .. } | Self::ChecksumDiffers { .. } | Self::Changed(_) => "differs",
            Self::LimitReached { .. } => "limit",
            Self::Unavailable(_) => "unavailable",
            Self::Refused(_) | Self::Config(_) => "refused",
            Self::Disk(_) => "disk",
        }
    }

    /// What an `object_store` error means for the object at `key`.
    pub(crate) fn from_store(key: &Key, error: object_store::Error) -> Self {
        use object_store::Error as Store;
        match error {
            Store::NotFound { .. } => Self::Missing(key.clone()),
            Store::Precondition { .. } | Store::NotModified { .. } => Self::Changed(key.clone()),
            Store::AlreadyExists { .. } => Self::Exists(key.clone()),
            Store::PermissionDenied { .. }
            | Store::Unauthenticated { .. }
            | Store::NotSupported { .. } => Self::Refused(error.to_string()),
            other => Self::Unavailable(Box::new(other)),
        }
    }
}
