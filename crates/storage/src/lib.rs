//! Where the bytes are: object keys, signed requests, checksums and transfers over a folder or an S3-compatible
//! bucket.
//!
//! Clients put and get bytes by signed URLs, straight to and from the store; the rest of Cinelog goes through
//! [`Store`]. Nothing here trusts what a store says about itself beyond what [`Store::verify`] can check: stores differ
//! in which of the signed terms they enforce.

mod breaker;
mod checksum;
mod config;
mod error;
mod folder;
mod key;
pub mod metrics;
mod parts;
mod range;
mod s3;
mod store;
mod terms;
mod transfer;

pub use checksum::{Checksum, ChecksumError, Hashing};
pub use config::Config;
pub use error::Error;
pub use folder::{Folder, Incoming, OpenObject, SignatureError};
pub use key::{Key, KeyError};
pub use parts::{PART_MIN, PARTS_MAX, Parts};
pub use range::{ByteRange, Unsatisfiable};
pub use store::{Expected, ObjectFacts, Store};
pub use terms::{Presentation, PutTerms, SignedRequest};
