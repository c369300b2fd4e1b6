//! The smallest read model: how many reactions each post has.

use std::collections::BTreeMap;
use std::time::Duration;

use events::envelope::Recorded;
use events::fact::Fact;
use events::subscription::Subscriber;
use futures::future::BoxFuture;
use sqlx::{PgConnection, PgPool};

/// It, under a name of its own.
pub(crate) struct Tally {
    name: String,
    /// How long a batch waits for something that is not us.
    pause: Duration,
}

impl Tally {
    pub(crate) fn new(name: &str, pause: Duration) -> Self {
        let name = name.to_owned();
        Self { name, pause }
    }

    pub(crate) async fn make_table(owner: &PgPool) {
        sqlx::raw_sql(
            "CREATE TABLE public.tally (post uuid PRIMARY KEY, reactions bigint NOT NULL, last bigint NOT NULL)
                WITH (fillfactor = 50);
             GRANT ALL ON public.tally TO cinelog_projector;",
        )
        .execute(owner)
        .await
        .unwrap();
    }

    pub(crate) async fn empty_table(owner: &PgPool) {
        sqlx::query("TRUNCATE public.tally")
            .execute(owner)
            .await
            .unwrap();
    }

    /// Rows, and reactions in all.
    pub(crate) async fn sum(owner: &PgPool) -> (i64, i64) {
        sqlx::query_as("SELECT count(*), COALESCE(sum(reactions), 0)::bigint FROM public.tally")
            .fetch_one(owner)
            .await
            .unwrap()
    }
}

impl Subscriber for Tally {
    fn name(&self) -> &str {
        &self.name
    }

    fn handles(&self, fact: &Fact) -> bool {
        matches!(fact, Fact::ReactionAdded(_))
    }

    fn apply<'a>(
        &'a self,
        batch: &'a [Recorded],
        tx: &'a mut PgConnection,
    ) -> BoxFuture<'a, sqlx::Result<()>> {
        Box::pin(async move {
            let mut rows = BTreeMap::<_, (i64, i64)>::new();
            for recorded in batch {
                if let Fact::ReactionAdded(added) = &recorded.fact {
                    let row = rows.entry(added.post.0).or_default();
                    *row = (row.0 + 1, recorded.position.0);
                }
            }
            tokio::time::sleep(self.pause).await;
            sqlx::query(
                "INSERT INTO public.tally
                 SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::bigint[])
                 ON CONFLICT (post) DO UPDATE SET reactions = tally.reactions + EXCLUDED.reactions, last = EXCLUDED.last",
            )
            .bind(rows.keys().copied().collect::<Vec<_>>())
            .bind(rows.values().map(|row| row.0).collect::<Vec<_>>())
            .bind(rows.values().map(|row| row.1).collect::<Vec<_>>())
            .execute(tx)
            .await?;
            Ok(())
        })
    }
}
