//! A made-up history of a busy place, for benches and for trying things out: who writes what, follows whom and likes what
//! follows from a seed, and is appended as users' commands are.

mod chance;
mod history;
mod seed;
pub mod words;

pub use history::{Follows, History, Size, Step};
pub use seed::{Progress, Seeded, seed};
