//! Puts the crates together into processes: what each command starts, in which order, and how it ends.

pub mod bench;
pub mod command;
pub mod data;
pub mod demo;
mod erasure;
mod kept;
pub mod out;
pub mod postgres;
pub mod stack;
pub mod transcoder;
