//! Facts and where they are kept.
//!
//! The upper half is pure: ids, the envelope, the facts themselves, the deciders that turn commands into facts, sealing
//! and upcasting. The lower half talks to Postgres and Kafka: the log (append and read), the relay, the one [`source`]
//! that readers tail, and the subscriptions that projectors and the transcoder share.

pub mod id;

pub mod envelope;

pub mod fact;

pub mod decide;

pub mod upcast;

pub mod seal;

pub mod store;

pub mod log;

pub mod source;

pub mod subscription;

pub mod verify;

pub mod export;

pub mod archive;

pub mod failpoint;

pub mod metrics;
