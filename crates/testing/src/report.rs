//! What a test tells whoever runs it, also when it passes: how many cells a table has, how often something was killed.

use std::fmt::Arguments;
use std::io::{Write, stderr};

/// Writes a line to standard error itself: of what `println!` prints, a test that passes shows nothing.
pub fn tell(line: Arguments<'_>) {
    // Who does not read it does not need it.
    writeln!(stderr(), "{line}").ok();
}
