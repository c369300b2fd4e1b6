//! `cinelog master-key`.

use std::path::PathBuf;

use events::store::{self, KeysConfig};
use service::db::Role;
use service::shutdown::Shutdown;

use crate::data::DataFolder;
use crate::out::{bar, say};
use crate::stack::Database;

/// Replaces the master key.
#[derive(clap::Args)]
pub struct MasterKey {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    Rotate(Rotate),
}

/// Wraps every person's key with `MASTER_KEY`; `SECOND_MASTER_KEY` opens what is wrapped with it until then.
///
/// No fact is touched. May be stopped and repeated. In this order nothing ever fails to open: give every process the new key as
/// `SECOND_MASTER_KEY`; then exchange the two everywhere; then rotate; then take `SECOND_MASTER_KEY` away.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
struct Rotate {
    /// The data folder of a running `cinelog up`, whose private Postgres has the keys.
    #[arg(long)]
    data: Option<PathBuf>,
    #[command(flatten)]
    database: Database,
    #[command(flatten)]
    keys: KeysConfig,
}

const EXAMPLES: &str = "Examples:
  openssl rand -base64 32 > new.key
  cinelog master-key rotate --master-key-file new.key --second-master-key-file old.key";

impl MasterKey {
    pub(super) async fn run(self, shutdown: &Shutdown) -> anyhow::Result<()> {
        let What::Rotate(rotate) = self.what;
        tokio::select! {
            done = rotate.run() => done,
            () = shutdown.cancelled() => anyhow::bail!("stopped before it was done: run it again"),
        }
    }
}

impl Rotate {
    async fn run(self) -> anyhow::Result<()> {
        let master = self.keys.read()?;
        let folder = self.data.as_deref().map(DataFolder::look).transpose()?;
        let database = self.database.or_in(folder.as_ref());
        let owner = database.pool(Role::Owner).await?;
        let bar = bar("keys");
        let rotated = store::rotate(&owner, &master, &|looked| bar.set_position(looked)).await?;
        bar.finish_and_clear();
        say(format_args!(
            "{} keys wrapped with the new master key, {} were before",
            rotated.rewrapped, rotated.before
        ));
        Ok(())
    }
}
