//! The `cinelog-transcoder` binary: parse, then be a child, or run a command until it ends or a signal comes.

use std::process::ExitCode;

use clap::Parser;
use service::shutdown::Shutdown;
use transcoder::cli::{Cli, Command, ended, execute};
use transcoder::error::JobError;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let json = cli.command.json();
    match cli.command {
        // Before any thread: a child confines itself first.
        Command::StageChild { input_fds } => transcoder::child::main(&input_fds),
        Command::Worker(args) => ended(transcoder::worker::command::main(*args), json),
        Command::Reprocess(args) => ended(transcoder::reprocess::main(*args), json),
        command => ended(until_signal(command), json),
    }
}

/// Runs a command; a signal ends it early, and what it left aside is removed first.
fn until_signal(command: Command) -> Result<(), JobError> {
    let starting = |error: &dyn std::fmt::Display| JobError::infra("start", error);
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| starting(&error))?
        .block_on(async {
            let shutdown = Shutdown::new();
            shutdown.on_signal().map_err(|error| starting(&error))?;
            let cancel = shutdown.token();
            tokio::task::spawn_blocking(move || execute(&command, &cancel))
                .await
                .unwrap_or_else(|error| Err(JobError::infra("run the command", error)))
        })
}
