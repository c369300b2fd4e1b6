//! The HTTP API: takes commands, serves the read models. CQRS is in two folder names: `command` decides and appends,
//! `query` reads projections and nothing else; no SQL is here.
//!
//! A request takes a place or is refused, passes `edge` (its id, its log line, the body of every problem), the other limits,
//! then its handler. All errors are problems (RFC 9457) with a stable type, see `problem`.

pub mod auth;
pub mod config;
pub mod metrics;

mod cache;
mod command;
mod cursor;
mod docs;
mod edge;
mod limit;
mod live;
mod openapi;
mod peer;
mod position;
mod problem;
mod query;
mod router;
mod signed;
mod state;
mod storage;
mod views;
mod word;

pub use config::{Config, ConfigError};
pub use limit::reference::limits;
pub use router::{document, router};
pub use state::ApiState;
