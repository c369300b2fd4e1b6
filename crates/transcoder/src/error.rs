//! What can go wrong with a job, split by what the caller does next.

use serde::{Deserialize, Serialize};

/// Why a job did not end well. The spelling is public: it is the TYPE of the last line on stderr.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The command line asks for what there is not. Nothing was begun.
    Usage,
    /// The file is not media, is corrupt, or needs what we do not have. Another try changes nothing.
    Input,
    /// The file asks for more than it may have (pixels, duration, time, bytes). Another try changes nothing.
    Limit,
    /// The machine had not enough memory. Try again with fewer jobs at once.
    Resource,
    /// A disk, a process or a kernel feature failed. Try again later.
    Infra,
    /// The child was killed by its own fault. Once may be chance; twice quarantines the input.
    Died,
    /// The caller asked us to stop.
    Cancelled,
}

impl Kind {
    /// The exit code of the command line for this kind.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Usage => 2,
            Self::Input => 3,
            Self::Limit => 4,
            Self::Resource => 5,
            Self::Infra | Self::Cancelled => 6,
            Self::Died => 7,
        }
    }

    /// The public name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Usage => "usage",
            Self::Input => "input",
            Self::Limit => "limit",
            Self::Resource => "resource",
            Self::Infra => "infra",
            Self::Died => "died",
            Self::Cancelled => "cancelled",
        }
    }
}

/// One failed job: a kind for the machine, a sentence for the person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{}: {message}", kind.name())]
pub struct JobError {
    /// What the caller does next.
    pub kind: Kind,
    /// What happened, without file names and without secrets.
    pub message: String,
}

impl JobError {
    /// Builds an error of any kind.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
        }
    }

    /// The command line is at fault.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Kind::Usage, message)
    }

    /// The input is at fault.
    pub fn input(message: impl Into<String>) -> Self {
        Self::new(Kind::Input, message)
    }

    /// A limit was reached.
    pub fn limit(message: impl Into<String>) -> Self {
        Self::new(Kind::Limit, message)
    }

    /// The surroundings failed; `doing` reads "open the scratch folder".
    pub fn infra(doing: &str, cause: impl std::fmt::Display) -> Self {
        Self::new(Kind::Infra, format!("could not {doing}: {cause}"))
    }

    /// Whether the same job may end otherwise next time.
    pub fn retryable(&self) -> bool {
        matches!(self.kind, Kind::Resource | Kind::Infra | Kind::Died)
    }
}
