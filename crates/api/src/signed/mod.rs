//! What callers carry for us and cannot have made themselves: cursors, positions, our own tokens. Pure, and without
//! anything else of this crate, so that a fuzzer can have it: fuzz/src/lib.rs.

pub(crate) mod cursor;
pub(crate) mod jwt;
#[cfg(test)]
mod law;
pub(crate) mod position;
