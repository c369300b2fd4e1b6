//! The `cinelog` binary: parse, log, run one command until it ends or a signal comes.

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use cli::command::Cli;
use service::shutdown::Shutdown;
use service::telemetry;

/// How long what was started may take to end.
const END: Duration = Duration::from_secs(30);

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    telemetry::init_logs(&cli.telemetry);
    let shutdown = Shutdown::new();
    let outcome = match shutdown.on_signal() {
        Ok(()) => Box::pin(cli.command.run(&shutdown)).await,
        Err(error) => Err(error.into()),
    };
    if !shutdown.finish(END).await {
        tracing::warn!("something did not end within {END:?}");
    }
    match outcome.and_then(|()| {
        shutdown
            .failure()
            .map_or(Ok(()), |why| Err(anyhow::anyhow!("{why}")))
    }) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            cli::out::complain(&error);
            ExitCode::FAILURE
        }
    }
}
