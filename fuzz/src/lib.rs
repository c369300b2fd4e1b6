//! The pure modules of the transcoder, and what they name, built from its sources. The crate itself would bring Kafka,
//! Postgres and libav: a quarter of an hour of compiling before the first input.

#[path = "../../crates/transcoder/src/error.rs"]
pub mod error;
#[path = "../../crates/transcoder/src/format/mod.rs"]
pub mod format;
#[path = "../../crates/transcoder/src/limits.rs"]
pub mod limits;
#[path = "../../crates/transcoder/src/plan/mod.rs"]
pub mod plan;
#[path = "../../crates/transcoder/src/probe.rs"]
pub mod probe;
#[path = "../../crates/transcoder/src/profile.rs"]
pub mod profile;
#[path = "../../crates/transcoder/src/sandbox/mod.rs"]
pub mod sandbox;
#[path = "../../crates/transcoder/src/size.rs"]
pub mod size;
#[path = "../../crates/transcoder/src/sniff.rs"]
pub mod sniff;
#[path = "../../crates/transcoder/src/timeline.rs"]
pub mod timeline;
#[path = "../../crates/transcoder/src/wire.rs"]
pub mod wire;
