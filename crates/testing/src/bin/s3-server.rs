//! An S3 server over a folder, for tests and demos on one machine. Not for production: it does not fsync.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use service::shutdown::Shutdown;
use tokio::net::TcpListener;

/// Serves a folder as an S3 bucket until SIGTERM or Ctrl-C.
#[derive(Debug, Parser)]
struct Options {
    /// The folder that holds the buckets; made when missing.
    #[arg(long)]
    root: PathBuf,
    /// Where to listen; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// The bucket to make.
    #[arg(long)]
    bucket: String,
    /// The access key it accepts.
    #[arg(long, env = "AWS_ACCESS_KEY_ID")]
    access_key: String,
    /// The secret of that key.
    #[arg(long, env = "AWS_SECRET_ACCESS_KEY", hide_env_values = true)]
    secret_key: String,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let shutdown = Shutdown::new();
    shutdown.on_signal()?;
    std::fs::create_dir_all(&options.root)
        .with_context(|| format!("make {}", options.root.display()))?;
    let listener = TcpListener::bind(options.listen)
        .await
        .with_context(|| format!("listen on {}", options.listen))?;
    announce(listener.local_addr()?)?;
    let keys = (options.access_key.as_str(), options.secret_key.as_str());
    testing::s3::serve(
        listener,
        &options.root,
        &options.bucket,
        keys,
        shutdown.clone(),
    )
    .await?;
    shutdown.finish(Duration::from_secs(1)).await;
    Ok(())
}

/// The line that whoever started this waits for.
fn announce(address: SocketAddr) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "s3-server: listening on http://{address}")?;
    out.flush()
}
