//! What a child may not do.
//!
//! It reads from the descriptors that it is given and writes into one folder, or nowhere. The layers hold one another up: a fault in the kernel's
//! file rules still meets the filter of system calls, and both still meet a user who owns nothing. A layer is named in
//! [`Layer`] when it is there, never before, and every manifest lists the layers that held.

#[cfg(target_os = "linux")]
mod files;
pub mod process;
#[cfg(target_os = "linux")]
mod syscalls;

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

/// One layer, in the order in which a child puts them on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Layer {
    /// The kernel takes this process first.
    FirstToGo,
    /// Nothing is open but the inputs and three pipes.
    ClosedDescriptors,
    /// Memory, CPU, file size, descriptors, core dumps.
    ResourceLimits,
    /// exec gains nothing.
    NoNewPrivileges,
    /// Runs as `nobody`, if it was started as root.
    OtherUser,
    /// No capability of root's is left.
    NoCapabilities,
    /// Landlock: opens no path but those of its own folder, plain files only; no TCP where the kernel can tell.
    OwnFilesOnly,
    /// seccomp: no call but those that media takes.
    FewSystemCalls,
}

impl Layer {
    /// Every layer that a child of this process is to put on. All but the limits are calls of Linux: elsewhere they fail.
    pub fn wanted() -> Vec<Self> {
        const LAYERS: [Layer; 8] = [
            Layer::FirstToGo,
            Layer::ClosedDescriptors,
            Layer::ResourceLimits,
            Layer::NoNewPrivileges,
            Layer::OtherUser,
            Layer::NoCapabilities,
            Layer::OwnFilesOnly,
            Layer::FewSystemCalls,
        ];
        let wanted = |layer: &Self| *layer != Self::OtherUser || process::is_root();
        LAYERS.into_iter().filter(wanted).collect()
    }
}
