//! `cinelog demo`.

use std::path::PathBuf;

use anyhow::{Context, ensure};
use clap::Parser;
use service::shutdown::Shutdown;

use super::up::Up;
use crate::demo::{self, Demo as Story};
use crate::out::say;

/// Runs three users through the whole chain on this machine alone, shows every step and every output, and stops all it
/// started.
#[derive(clap::Args)]
pub struct Demo {
    /// Where the outputs go.
    #[arg(long, default_value = "demo-out")]
    out: PathBuf,
    /// The clip to upload.
    #[arg(long, default_value = "ops/demo/bigbuckbunny.mp4")]
    clip: PathBuf,
    /// Use `DATABASE_URL`, `KAFKA_BROKERS` and `STORAGE_URL` instead of a private Postgres and a folder.
    #[arg(long)]
    full: bool,
}

/// `cinelog up` by itself, to take its options from.
#[derive(Parser)]
struct Alone {
    #[command(flatten)]
    up: Up,
}

impl Demo {
    pub(super) async fn run(self, shutdown: &Shutdown) -> anyhow::Result<()> {
        let clip = std::fs::read(&self.clip)
            .with_context(|| format!("read the clip {}", self.clip.display()))?;
        let folder = tempfile::Builder::new().prefix("cinelog-demo").tempdir()?;
        // The server's user passes through it.
        let passable = std::os::unix::fs::PermissionsExt::from_mode(0o711);
        std::fs::set_permissions(folder.path(), passable)?;
        let mut up = Alone::try_parse_from(["demo"])?.up;
        if self.full {
            ensure!(
                up.database.url().is_some(),
                "--full needs DATABASE_URL: run `make demo-full`"
            );
            ensure!(
                up.kafka.kafka_brokers.is_some(),
                "--full needs KAFKA_BROKERS: run `make demo-full`"
            );
            ensure!(
                up.storage.storage_url.is_some(),
                "--full needs STORAGE_URL: run `make demo-full`"
            );
        } else {
            up.alone();
        }
        up.data = folder.path().join("data");
        up.api.listen = ([127, 0, 0, 1], 0).into();
        say(if self.full {
            "starting: Postgres, Kafka, S3"
        } else {
            "starting: private Postgres, folder store, no Kafka"
        });
        let running = Box::pin(up.start(shutdown)).await?;
        let name = self
            .clip
            .file_name()
            .map_or_else(|| "clip".into(), |name| name.to_string_lossy().into_owned());
        let told = tokio::select! {
            told = demo::tell(&running, Story { name, clip, out: self.out }) => told,
            () = shutdown.cancelled() => Err(anyhow::anyhow!("stopped before the end")),
        };
        running.stop(shutdown).await?;
        folder.close().context("remove the demo's data")?;
        told?;
        say("all that was started has been stopped");
        Ok(())
    }
}
