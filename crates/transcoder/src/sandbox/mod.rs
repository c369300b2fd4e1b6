//! What a child may not do.
//!
//! Today: no new privileges by exec, bounds on memory, CPU, file size and descriptors, no core dumps, no descriptor but
//! the input and its three pipes, an empty environment, first to go when memory is short, and death with its parent.
//! Not yet: seccomp, Landlock, another user. Until they come, code that takes over the child can open what this user can
//! open. They belong into [`process::confine`]; a layer is named in [`Layer`] when it is there, never before, and every
//! manifest lists the layers that held.

pub mod process;

use serde::{Deserialize, Serialize};

/// How much of the sandbox must hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Refuse to work unless every layer in [`Layer`] holds.
    Require,
    /// Work with what holds, and warn.
    BestEffort,
}

/// One layer that is built, weakest claim first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Layer {
    /// exec gains nothing.
    NoNewPrivileges,
    /// Memory, CPU, file size, descriptors, core dumps.
    ResourceLimits,
    /// Nothing is open but the input and three pipes.
    ClosedDescriptors,
    /// The kernel takes this process first.
    FirstToGo,
}

impl Layer {
    /// Every layer there is today, on this system.
    #[cfg(target_os = "linux")]
    pub const ALL: [Self; 4] = [
        Self::NoNewPrivileges,
        Self::ResourceLimits,
        Self::ClosedDescriptors,
        Self::FirstToGo,
    ];
    /// Every layer there is today, on this system: the others are calls of Linux.
    #[cfg(not(target_os = "linux"))]
    pub const ALL: [Self; 1] = [Self::ResourceLimits];
}
