//! The `cinelog` binary: parse, log, run one command until it ends or a signal comes.

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use cli::command::Command;
use service::shutdown::Shutdown;
use service::telemetry;

/// How long what was started may take to end.
const END: Duration = Duration::from_secs(30);

/// An event-sourced media pipeline: uploads, posts and matches as facts; feed, search and media as read models.
#[derive(Parser)]
#[command(name = "cinelog", version, after_help = EXAMPLES)]
struct Cli {
    #[command(flatten)]
    telemetry: telemetry::Config,
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "Examples:
  cinelog up --data ./data                     everything on this machine, on http://127.0.0.1:8080
  cinelog token --data ./data --user ana       a token to call the API with
  cinelog migrate && cinelog api               one process of many, with DATABASE_URL set
  cinelog projectors feed search               only these read models";

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

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        super::Cli::command().debug_assert();
    }
}
