//! The only place that writes to the terminal.

use std::fmt::Display;

/// A line for the user, or for the next program.
#[expect(
    clippy::print_stdout,
    reason = "the answer of a command goes to standard output"
)]
pub fn say(line: impl Display) {
    println!("{line}");
}

/// Why a command failed: the last line on standard error.
#[expect(clippy::print_stderr, reason = "people read errors here")]
pub fn complain(error: &anyhow::Error) {
    eprintln!("error: {error:#}");
}
