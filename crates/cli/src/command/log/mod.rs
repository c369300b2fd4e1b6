//! `cinelog log`: a file per subcommand.

mod archive;
mod fork;
mod import;
mod info;

use service::shutdown::Shutdown;

/// Looks at the log, archives what is old, and brings it back together with its topic after a restore.
#[derive(clap::Args)]
pub struct Log {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    /// Which log it is, how far it goes, and how far behind each subscription is.
    Info(info::Info),
    /// Take back into Postgres what only the topic has, after a restore to an older state.
    Import(import::Import),
    /// Make this another log, with an id and a topic of its own.
    Fork(fork::Fork),
    /// Move the oldest facts out of Postgres into a folder or a bucket, verified.
    Archive(Box<archive::Archive>),
}

impl Log {
    pub(super) async fn run(self, shutdown: &Shutdown) -> anyhow::Result<()> {
        match self.what {
            What::Info(info) => info.run().await,
            What::Import(import) => import.run(shutdown).await,
            What::Fork(fork) => fork.run(shutdown).await,
            What::Archive(archive) => Box::pin(archive.run(shutdown)).await,
        }
    }
}
