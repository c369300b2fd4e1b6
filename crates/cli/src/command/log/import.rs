//! `cinelog log import`.

use anyhow::Context;
use events::id::Position;
use events::log::{self, Imported, Kafka};
use service::db::Role;
use service::shutdown::Shutdown;

use crate::out::{bar, say};
use crate::stack::Database;

/// Takes back into Postgres what only the topic has, after a restore to an older state.
///
/// Works as long as nothing was appended since the restore: run it before the API and the transcoder start again. All is
/// read and judged before anything is written. After an interruption the same command goes on; until it is done, nothing
/// can be appended. Facts come back as they were. What no record carries does not: commands that were accepted after the
/// backup are not known to have been, and persons' keys made after it are gone.
#[derive(clap::Args)]
pub(super) struct Import {
    /// Also import texts whose keys are not in this backup: nobody can read them, and their persons count as erased.
    #[arg(long)]
    without_keys: bool,
    #[command(flatten)]
    database: Database,
    #[command(flatten)]
    kafka: log::Config,
}

impl Import {
    pub(super) async fn run(self, shutdown: &Shutdown) -> anyhow::Result<()> {
        let kafka = Kafka::from_config(&self.kafka)
            .context("set KAFKA_BROKERS: what is to be imported is in the topic")?;
        let pool = self.database.pool(Role::Owner).await?;
        let bar = bar("up to position");
        let progress = |at: Position| bar.set_position(at.0.unsigned_abs());
        let imported = log::import(&pool, &kafka, self.without_keys, &progress, shutdown).await;
        bar.finish_and_clear();
        tell(&imported?, &kafka);
        Ok(())
    }
}

fn tell(imported: &Imported, kafka: &Kafka) {
    let Imported {
        after,
        upto,
        unreadable,
        persons,
    } = imported;
    let topic = kafka.facts_topic();
    if after == upto {
        say(format_args!(
            "nothing to import: Postgres holds all that is in {topic}"
        ));
        return;
    }
    say(format_args!(
        "{} facts, positions {} to {upto}, taken back from {topic}",
        upto.0 - after.0,
        after.next()
    ));
    if *unreadable > 0 {
        say(format_args!(
            "{unreadable} of them hold texts of {persons} persons that nobody can read: the keys were not in the backup"
        ));
    }
    say(format_args!(
        "a client that repeats a command accepted after position {after} is not recognised: it is judged anew"
    ));
}
