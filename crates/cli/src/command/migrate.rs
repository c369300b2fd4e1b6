//! `cinelog migrate`.

use projectors::generation;
use service::db::Role;

use crate::out::say;
use crate::stack::{self, Database};

/// Makes roles, log, job tables and read models; does nothing where they are there.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Migrate {
    /// Also drop the builds of read models that newer versions have replaced. Until then an erasure stays unfinished while
    /// they hold a person's texts, and `cinelog log archive` waits for them. There is no way back to a dropped one.
    #[arg(long)]
    drop_replaced: bool,
    #[command(flatten)]
    database: Database,
}

const EXAMPLES: &str = "Examples:
  cinelog migrate                    before the processes of a new version start
  cinelog migrate --drop-replaced    once nobody wants to go back to the version before";

impl Migrate {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        stack::migrate(&self.database).await?;
        say("the database has the newest shape");
        if self.drop_replaced {
            let owner = self.database.pool(Role::Owner).await?;
            let mut dropped = 0;
            generation::drop_unread(&owner, |generation| {
                dropped += 1;
                say(format_args!("{generation} is dropped"));
            })
            .await?;
            say(format_args!("{dropped} builds were dropped"));
        }
        Ok(())
    }
}
