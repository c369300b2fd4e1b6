//! The log against real Postgres and real Kafka.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod append;
mod archive;
mod asyncapi;
mod bulk;
mod export;
mod forgetting;
mod golden;
mod laws;
mod log;
mod look;
mod parked;
mod pool;
mod react;
mod relay;
mod schemas;
mod states;
mod stream;
mod subscription;
mod support;
mod tail;
