//! Our own tokens and API keys: ours read back; whatever else somebody shows is refused.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| fuzz::law::token(bytes));
