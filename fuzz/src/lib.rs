//! The pure modules of the transcoder, and of what signs and checks, built from their sources. The crates themselves would
//! bring Kafka, Postgres and libav: a quarter of an hour of compiling before the first input.

// The modules of the API, of accounts and of storage name these two by their crates.
extern crate self as service;
extern crate self as testing;

#[path = "../../crates/storage/src/checksum.rs"]
pub mod checksum;
#[path = "../../crates/api/src/signed/cursor.rs"]
mod cursor;
#[path = "../../crates/testing/src/damage.rs"]
pub mod damage;
#[path = "../../crates/transcoder/src/error.rs"]
pub mod error;
#[path = "../../crates/transcoder/src/format/mod.rs"]
pub mod format;
#[path = "../../crates/api/src/signed/jwt.rs"]
mod jwt;
#[path = "../../crates/storage/src/key.rs"]
pub mod key;
#[path = "../../crates/transcoder/src/limits.rs"]
pub mod limits;
#[path = "../../crates/service/src/mac.rs"]
pub mod mac;
#[path = "../../crates/transcoder/src/plan/mod.rs"]
pub mod plan;
#[path = "../../crates/api/src/signed/position.rs"]
mod position;
#[path = "../../crates/transcoder/src/probe.rs"]
pub mod probe;
#[path = "../../crates/transcoder/src/profile.rs"]
pub mod profile;
#[path = "../../crates/transcoder/src/sandbox/mod.rs"]
pub mod sandbox;
#[path = "../../crates/storage/src/folder/sign.rs"]
mod sign;
#[path = "../../crates/api/src/signed/law.rs"]
mod signed_law;
#[path = "../../crates/transcoder/src/size.rs"]
pub mod size;
#[path = "../../crates/transcoder/src/sniff.rs"]
pub mod sniff;
#[path = "../../crates/storage/src/terms.rs"]
pub mod terms;
#[path = "../../crates/transcoder/src/timeline.rs"]
pub mod timeline;
#[path = "../../crates/accounts/src/token.rs"]
#[expect(dead_code, reason = "chance is no input of laws")]
mod token;
#[path = "../../crates/accounts/src/law.rs"]
mod token_law;
#[path = "../../crates/storage/src/folder/law.rs"]
mod url_law;
#[path = "../../crates/transcoder/src/wire.rs"]
pub mod wire;

/// What must hold of texts that callers carry, by what they are.
pub mod law {
    /// Cursors of lists, and positions in the log.
    pub fn place(bytes: &[u8]) {
        crate::signed_law::cursor(bytes);
        crate::signed_law::position(bytes);
    }

    /// Tokens of our own, and API keys.
    pub fn token(bytes: &[u8]) {
        crate::signed_law::jwt(bytes);
        crate::token_law::token(bytes);
    }

    /// URLs of a folder store.
    pub fn url(bytes: &[u8]) {
        crate::url_law::put(bytes);
        crate::url_law::get(bytes);
    }
}
