//! Signed URLs of a folder store: they permit what was signed, until then, and nothing else, whatever is done to them.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| fuzz::law::url(bytes));
