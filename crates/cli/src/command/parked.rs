//! `cinelog parked`.

use std::time::Duration;

use anyhow::{bail, ensure};
use events::export::ndjson;
use events::id::TenantId;
use events::subscription::{self, Wish};
use service::db::Role;
use service::shutdown::Shutdown;
use sqlx::PgPool;

use crate::out::say;
use crate::stack::Database;

/// Looks at subjects whose facts a read model or the transcoder cannot take in, and says what is to become of them.
///
/// A fact that does not decode, or that the tables refuse, waits with all later facts of its subject; everything else goes
/// on. Once what is wrong is mended, `retry` has them taken in, in order. `drop` leaves the first one out for good, also of later
/// builds.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Parked {
    #[command(subcommand)]
    what: What,
}

const EXAMPLES: &str = "Examples:
  cinelog parked list                              what waits, since when, and why
  cinelog parked show feed_g1 post-0190f5c8-…      its facts, as they are stored
  cinelog parked retry feed_g1                     all that waits in one subscription
  cinelog parked drop feed_g1 post-0190f5c8-…      leave its first fact out";

/// How often it is looked whether a wish is granted.
const LOOK: Duration = Duration::from_millis(200);

#[derive(clap::Subcommand)]
enum What {
    /// Which subjects wait, since when, and why.
    List(List),
    /// The facts that wait, as they are stored, as lines of JSON; the first hundred of each subject.
    Show(Which),
    /// Have facts that wait taken in, in order.
    Retry(Ask),
    /// Leave a subject's first fact that waits out for good, and have the others taken in.
    Drop(Ask),
}

#[derive(clap::Args)]
struct List {
    #[command(flatten)]
    which: Which,
    /// A line of JSON for each.
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
struct Ask {
    #[command(flatten)]
    which: Which,
    /// Seconds to wait for what comes of it.
    #[arg(long, default_value_t = 10, value_name = "SECONDS")]
    wait: u64,
}

/// Which of the parked subjects; all unless named.
#[derive(clap::Args)]
struct Which {
    /// Of this subscription, e.g. `feed_g1`.
    subscription: Option<String>,
    /// This subject, e.g. `post-<id>`.
    subject: Option<String>,
    /// Of this tenant.
    #[arg(long, value_name = "ID")]
    tenant: Option<TenantId>,
    #[command(flatten)]
    database: Database,
}

/// Facts shown of a subject.
const SHOWN: i64 = 100;

impl Parked {
    pub(super) async fn run(self, shutdown: &Shutdown) -> anyhow::Result<()> {
        tokio::select! {
            done = self.what.run() => done,
            () = shutdown.cancelled() => bail!("stopped; what was asked for is still wished: `cinelog parked list`"),
        }
    }
}

impl What {
    async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::List(list) => list.run().await,
            Self::Show(which) => show(&which).await,
            Self::Retry(ask) => ask.run(Wish::Retry).await,
            Self::Drop(ask) => {
                ensure!(
                    ask.which.subject.is_some(),
                    "name the subscription and the subject whose first fact is to be left out"
                );
                ask.run(Wish::Drop).await
            }
        }
    }
}

impl Which {
    async fn pool(&self) -> anyhow::Result<PgPool> {
        self.database.pool(Role::Projector).await
    }

    async fn find(&self, pool: &PgPool) -> anyhow::Result<Vec<subscription::Parked>> {
        let mut parked =
            subscription::parked(&mut *pool.acquire().await?, self.subscription.as_deref()).await?;
        parked.retain(|parked| {
            self.subject
                .as_ref()
                .is_none_or(|subject| *subject == parked.subject)
                && self.tenant.is_none_or(|tenant| tenant == parked.tenant)
        });
        Ok(parked)
    }

    /// The same, of which there must be one.
    async fn some(&self, pool: &PgPool) -> anyhow::Result<Vec<subscription::Parked>> {
        let parked = self.find(pool).await?;
        ensure!(
            !parked.is_empty(),
            "no such subject is parked: `cinelog parked list` names all"
        );
        Ok(parked)
    }
}

impl List {
    async fn run(self) -> anyhow::Result<()> {
        let pool = self.which.pool().await?;
        let parked = self.which.find(&pool).await?;
        if parked.is_empty() && !self.json {
            say("nothing is parked");
        }
        for parked in parked {
            if self.json {
                say(serde_json::to_string(&parked)?);
                continue;
            }
            let (since, facts) = (parked.parked_at.to_rfc3339(), parked.facts);
            let facts = if facts == 1 {
                "1 fact waits".to_owned()
            } else {
                format!("{facts} facts wait")
            };
            say(format_args!(
                "{} {} of tenant {}: {facts} from position {} on, since {since}: {}",
                parked.subscription, parked.subject, parked.tenant, parked.position.0, parked.error
            ));
        }
        Ok(())
    }
}

async fn show(which: &Which) -> anyhow::Result<()> {
    let pool = which.pool().await?;
    let parked = which.some(&pool).await?;
    let mut connection = pool.acquire().await?;
    for parked in parked {
        let subject = (parked.tenant, &*parked.subject);
        for fact in
            subscription::waiting(&mut connection, &parked.subscription, subject, SHOWN).await?
        {
            say(ndjson::line(&fact)?);
        }
    }
    Ok(())
}

impl Ask {
    async fn run(self, wish: Wish) -> anyhow::Result<()> {
        let pool = self.which.pool().await?;
        let parked = self.which.some(&pool).await?;
        for parked in &parked {
            subscription::wish(&mut *pool.acquire().await?, parked, wish).await?;
        }
        let until = tokio::time::Instant::now() + Duration::from_secs(self.wait);
        let left = loop {
            let left = self.which.find(&pool).await?;
            let waits = left.iter().any(|left| left.wish.is_some());
            if !waits || tokio::time::Instant::now() >= until {
                break left;
            }
            tokio::time::sleep(LOOK).await;
        };
        for parked in &left {
            let what = match parked.wish {
                Some(_) => {
                    "is not looked at yet: does a process of its own run? It will be when one does"
                }
                None => &parked.error,
            };
            say(format_args!(
                "{} {}: {what}",
                parked.subscription, parked.subject
            ));
        }
        let done = parked.len() - left.len().min(parked.len());
        say(format_args!(
            "{done} of {} subjects are taken in",
            parked.len()
        ));
        ensure!(left.is_empty(), "{} subjects wait still", left.len());
        Ok(())
    }
}
