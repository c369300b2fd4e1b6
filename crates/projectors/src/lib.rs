//! Read models: the code that folds facts into tables, and the queries that read them.
//!
//! A folder per read model, each with `apply` (facts to rows) and `query` (rows to answers, on behalf of a viewer). Adding
//! one is a folder, its tables in `schemas/postgres/views`, and a line in [`registry::all`]. What may be in a row: only
//! what follows from facts, whatever the batches and however lanes interleave; tables commented as a cache are free of
//! that and must instead make every answer equal to one without them.

pub mod config;
pub mod erase;
pub mod generation;
pub mod live;
pub mod operator;
pub mod page;
pub mod rebuild;
pub mod registry;
pub mod rows;
pub mod verify;

pub mod engagement;
pub mod feed;
pub mod graph;
pub mod media;
pub mod moderation;
pub mod notification;
pub mod pairing;
pub mod search;
pub mod trending;
pub mod usage;

mod hashtag;
mod pace;
mod post;
