//! `cinelog migrate`.

use crate::out::say;
use crate::stack::{self, Database};

/// Makes roles, log, job tables and read models; does nothing where they are there.
#[derive(clap::Args)]
pub struct Migrate {
    #[command(flatten)]
    database: Database,
}

impl Migrate {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        stack::migrate(&self.database).await?;
        say("the database has the newest shape");
        Ok(())
    }
}
