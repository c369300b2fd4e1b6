//! `cinelog log`: a file per subcommand.

mod info;

/// Looks at the log.
#[derive(clap::Args)]
pub struct Log {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    /// Which log it is, how far it goes, and how far behind each subscription is.
    Info(info::Info),
}

impl Log {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        match self.what {
            What::Info(info) => info.run().await,
        }
    }
}
