//! Turns strangers' media into a proxy, a waveform and a poster.
//!
//! Two processes share this crate. The parent ([`run`], [`sniff`], [`publish`]) never touches libav: it looks at a file's
//! first bytes, starts a child with the file as a read-only descriptor, watches it (`supervise`), and takes only whole,
//! validated outputs. The child ([`child`]) gives up what rights it can ([`sandbox`]), probes, plans ([`plan`]) and runs stages
//! over `media`, the only folder that knows libav. What is said between them is in [`wire`].

pub mod child;
pub mod cli;
pub mod error;
pub mod format;
pub mod job;
pub mod limits;
mod media;
pub mod metrics;
pub mod objects;
pub mod plan;
pub mod probe;
pub mod profile;
pub mod publish;
pub mod reprocess;
pub mod run;
pub mod sandbox;
mod scratch;
pub mod size;
pub mod sniff;
mod stage;
pub mod subscription;
mod supervise;
pub mod timeline;
pub mod wire;
pub mod worker;
