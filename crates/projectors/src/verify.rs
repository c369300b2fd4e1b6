//! Is a read model what its facts say? Builds it once more beside the live one, up to the very same positions, and compares
//! every table.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU16;
use std::sync::Arc;

use events::id::{Lane, Position};
use events::store::{Keys, Reader};
use events::subscription::{self, FillError};
use service::db;
use service::shutdown::Shutdown;
use sqlx::{AssertSqlSafe, PgConnection, PgPool};

use crate::generation;
use crate::registry::{self, Generation, Projection};

/// A table of the live generation beside the same table of a rebuild.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compared {
    /// The table.
    pub table: String,
    /// Rows in the live one.
    pub rows: i64,
    /// Rows that only the live one has.
    pub only_live: i64,
    /// Rows that only the rebuild has.
    pub only_rebuilt: i64,
}

impl Compared {
    /// Whether both hold the same rows.
    pub fn equal(&self) -> bool {
        self.only_live == 0 && self.only_rebuilt == 0
    }
}

/// One read model's comparison.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The live generation.
    pub live: String,
    /// How far both had come when they were compared.
    pub upto: Position,
    /// Every table but caches.
    pub tables: Vec<Compared>,
}

/// Compares `projection` with a rebuild. The live generation goes on meanwhile and stands still only for the comparison.
/// `owner` makes and drops the generation, `projector` fills it with what `reader` gives. None: the live generation is of another version of the
/// code than this. What was built is dropped, also when `end` comes first.
pub async fn against_a_rebuild(
    projection: &Arc<dyn Projection>,
    owner: &PgPool,
    projector: &PgPool,
    reader: &Reader,
    keys: &Keys,
    progress: &(dyn Fn(Position) + Sync),
    end: &Shutdown,
) -> Result<Option<Outcome>, FillError> {
    let (live, _) = registry::read_and_kept(owner, projection.name()).await?;
    let live = live.filter(|(_, version)| *version == projection.version());
    let Some((live, _)) = live else {
        return Ok(None);
    };
    // A connection of its own: what is locked on it is free when this process dies.
    let mut guard = owner.acquire().await?.detach();
    let fresh = generation::generation_to_compare(owner, &mut guard, projection.as_ref()).await?;
    let rebuild = Rebuild {
        live: &live,
        generation: Generation::new(fresh.clone(), Arc::clone(projection)),
        projector,
        reader,
        keys,
        progress,
    };
    let outcome = tokio::select! {
        outcome = rebuild.compare(&fresh) => outcome,
        () = end.cancelled() => Err(FillError::Stopped),
    };
    generation::drop_generation(owner, &fresh).await?;
    outcome.map(Some)
}

struct Rebuild<'a> {
    live: &'a str,
    generation: Generation,
    projector: &'a PgPool,
    reader: &'a Reader,
    keys: &'a Keys,
    progress: &'a (dyn Fn(Position) + Sync),
}

impl Rebuild<'_> {
    async fn compare(&self, fresh: &str) -> Result<Outcome, FillError> {
        self.generation.leave_out(self.projector).await?;
        // Most of the way without holding anything up.
        let (near, missed) = {
            let mut tx = db::begin(self.projector, "BEGIN").await?;
            self.stand(&mut tx).await?
        };
        self.fill(&near, &missed).await?;
        let mut tx = db::begin(self.projector, "BEGIN").await?;
        sqlx::query("SET LOCAL idle_in_transaction_session_timeout = 0")
            .execute(&mut *tx)
            .await?;
        let (barrier, misses) = self.stand(&mut tx).await?;
        if !missed.is_subset(&misses) {
            return Err(FillError::Unparked);
        }
        self.fill(&barrier, &misses).await?;
        let mut tables = vec![];
        for table in registry::tables(self.projector, self.live).await? {
            tables.push(self.table(table, fresh).await?);
        }
        // Should the connection have died, the lanes were not held and nothing was compared.
        tx.commit().await?;
        Ok(Outcome {
            live: self.live.to_owned(),
            upto: barrier.values().max().copied().unwrap_or_default(),
            tables,
        })
    }

    /// How far the live generation has come, and what it misses of that.
    async fn stand(
        &self,
        tx: &mut PgConnection,
    ) -> sqlx::Result<(BTreeMap<Lane, Position>, BTreeSet<Position>)> {
        let held = subscription::held(tx, self.live).await?;
        Ok((held, subscription::left_out(tx, self.live).await?))
    }

    async fn fill(
        &self,
        upto: &BTreeMap<Lane, Position>,
        without: &BTreeSet<Position>,
    ) -> Result<(), FillError> {
        subscription::fill(
            &self.generation,
            self.projector,
            &mut self.reader.clone(),
            self.keys,
            (upto, without),
            NonZeroU16::MIN,
            self.progress,
        )
        .await
    }

    async fn table(&self, table: String, fresh: &str) -> Result<Compared, sqlx::Error> {
        let live = self.live;
        // Rows as texts: some columns' types have no order of their own.
        let sql = format!(
            "WITH live AS (SELECT t::text AS r, count(*) AS n FROM {live}.{table} t GROUP BY 1),
                  fresh AS (SELECT t::text AS r, count(*) AS n FROM {fresh}.{table} t GROUP BY 1)
             SELECT COALESCE(sum(l.n), 0)::bigint,
                    COALESCE(sum(greatest(COALESCE(l.n, 0) - COALESCE(f.n, 0), 0)), 0)::bigint,
                    COALESCE(sum(greatest(COALESCE(f.n, 0) - COALESCE(l.n, 0), 0)), 0)::bigint
             FROM live l FULL JOIN fresh f USING (r)"
        );
        let (rows, only_live, only_rebuilt) = sqlx::query_as(AssertSqlSafe(sql))
            .fetch_one(self.projector)
            .await?;
        Ok(Compared {
            table,
            rows,
            only_live,
            only_rebuilt,
        })
    }
}
