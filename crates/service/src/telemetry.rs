//! Logs as JSON lines (or plain text on a terminal) and metrics in the Prometheus text format.

use std::io::IsTerminal;
use std::time::Duration;

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;

use crate::shutdown::Shutdown;

/// What is logged.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
pub struct Config {
    /// Log filter, e.g. `info` or `warn,events=debug`.
    #[arg(long, env = "LOG", default_value = "info,sqlx=warn", global = true)]
    pub log: String,
}

/// Starts logging to standard error; a second call (in tests) changes nothing.
pub fn init_logs(config: &Config) {
    let filter = EnvFilter::try_new(&config.log).unwrap_or_else(|_| EnvFilter::new("info"));
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        // Where nobody reads the log any more, telling so would panic.
        .log_internal_errors(false)
        .with_writer(std::io::stderr);
    if std::io::stderr().is_terminal() {
        logs.compact().try_init().ok();
    } else {
        logs.json().flatten_event(true).try_init().ok();
    }
}

/// How often samples are folded into their summaries, whether or not anybody asks for them.
const UPKEEP: Duration = Duration::from_secs(5);

/// Starts collecting metrics; the handle renders them. Where a recorder is already installed, the handle stays empty.
pub fn init_metrics(shutdown: &Shutdown) -> PrometheusHandle {
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    metrics::set_global_recorder(recorder).ok();
    let (upkeep, end) = (handle.clone(), shutdown.clone());
    shutdown.spawn(async move {
        while end.sleep(UPKEEP).await {
            upkeep.run_upkeep();
        }
    });
    handle
}
