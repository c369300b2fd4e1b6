//! The `cinelog-transcoder` binary: parse, then be a child, or run a command until it ends or Ctrl-C.

use std::process::ExitCode;

use clap::Parser;
use tokio_util::sync::CancellationToken;
use transcoder::cli::{Cli, Command, execute};

fn main() -> anyhow::Result<ExitCode> {
    let cli = Cli::parse();
    // Before any thread: a child confines itself first.
    if let Command::StageChild { input_fd } = cli.command {
        return Ok(transcoder::child::main(input_fd));
    }
    if let Command::Worker(args) = cli.command {
        return transcoder::worker::command::main(*args);
    }
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(async {
            let cancel = CancellationToken::new();
            let token = cancel.clone();
            let mut work = tokio::task::spawn_blocking(move || execute(&cli.command, &token));
            tokio::select! {
                done = &mut work => return Ok(done?),
                stopped = tokio::signal::ctrl_c() => stopped?,
            }
            cancel.cancel();
            Ok(work.await?)
        })
}
