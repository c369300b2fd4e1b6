//! The only place that writes to the terminal.

use std::fmt::Display;
use std::io::{IsTerminal, Write};

use indicatif::{ProgressBar, ProgressStyle};
use tokio::io::AsyncWriteExt;

/// A line for the user, or for the next program. Nobody may be there to read it: what is being done goes on all the same.
pub fn say(line: impl Display) {
    writeln!(std::io::stdout(), "{line}").ok();
}

/// Why a command failed: the last line on standard error.
pub fn complain(error: &anyhow::Error) {
    writeln!(std::io::stderr(), "error: {error:#}").ok();
}

/// Progress, at a terminal.
pub fn bar(what: &str) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{spinner} {msg} {pos} ({per_sec})");
    ProgressBar::new_spinner()
        .with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()))
        .with_message(what.to_owned())
}

/// Progress with an end, at a terminal: rate, and the time that is left.
pub fn bar_to_end(what: &str) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style =
        ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} ({per_sec}, {eta} left)");
    ProgressBar::new(0)
        .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        .with_message(what.to_owned())
}

/// Much text for the next program. Does not hold the process up when that is slow to read.
pub struct Lines(tokio::io::Stdout);

impl Lines {
    /// To standard output.
    #[expect(
        clippy::new_without_default,
        reason = "there is one standard output, and nothing that would want a default of it"
    )]
    pub fn new() -> Self {
        Self(tokio::io::stdout())
    }

    /// Writes all of `text`; false when the next program has closed its end, which is no failure.
    pub async fn write(&mut self, text: &[u8]) -> std::io::Result<bool> {
        let written = async {
            self.0.write_all(text).await?;
            self.0.flush().await
        };
        match written.await {
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
            written => written.map(|()| true),
        }
    }
}
