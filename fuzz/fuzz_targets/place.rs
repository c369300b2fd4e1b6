//! Cursors and positions: ours read back, where they belong; whatever else somebody sends is refused.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| fuzz::law::place(bytes));
