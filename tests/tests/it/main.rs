//! The built programs, from outside: the whole chain, restarts, and kills at any moment.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod broker;
mod chaos;
mod client;
mod crash;
mod data;
mod disk;
mod erase;
mod feed;
mod large;
mod life;
mod once;
mod outage;
mod outputs;
mod parked;
mod pipeline;
mod program;
mod rebuild;
mod restore;
mod rotation;
mod takeover;
mod topic;
mod up;
mod victim;
mod walk;
mod world;
