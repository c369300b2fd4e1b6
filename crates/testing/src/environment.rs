//! The services a test run stands on, as `ops/dev/with-services` exports them.

use std::path::{Path, PathBuf};

/// The value of `name`.
///
/// # Panics
///
/// When it is unset: the tests were started without their services.
#[track_caller]
pub fn required(name: &str) -> String {
    optional(name).unwrap_or_else(|| {
        panic!("{name} is not set: run through `make test`, or `ops/dev/with-services --kafka --s3 -- cargo test …`")
    })
}

/// The value of `name`, none when unset or empty.
#[expect(
    clippy::disallowed_methods,
    reason = "tests have no command line of their own to take options from"
)]
pub fn optional(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The repository's root.
pub fn root() -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")).to_path_buf()
}
