//! A read model made anew beside the one that is read, until it takes its place (ADR 19).

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::{Duration, Instant};

use events::id::{Lane, Position, TenantId, UserId};
use events::store::{Keys, Reader};
use events::subscription::{self, FillError, Subscriber};
use service::db;
use service::shutdown::Shutdown;
use sqlx::{PgConnection, PgPool};

use crate::generation;
use crate::pace::Pace;
use crate::registry::{self, Generation, Made, Projection};

/// Positions between two looks whether it is to pause, and whether reads are slow: at first, and at the most.
const STRETCHES: (i64, i64) = (20_000, 320_000);
/// How long a stretch should take.
const STRIDE: Duration = Duration::from_secs(2);
/// So few positions are filled while the live generation is held.
const LITTLE: i64 = 2_000;
/// How long what is kept may take to come as far as what is read, which stands still meanwhile.
const CATCH_UP: Duration = Duration::from_secs(5);
/// How often a pause is looked at.
const LOOK: Duration = Duration::from_millis(500);

/// Why a read model was not rebuilt.
#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    /// Nothing is read of it yet.
    #[error("there is nothing of {0} yet: run `cinelog migrate`")]
    NotThere(&'static str),
    /// It is being built already.
    #[error("another process rebuilds {0}: `cinelog rebuild {0} --pause` pauses it")]
    Busy(&'static str),
    /// There is no way back.
    #[error("nothing is kept of {0} from before: there is no way back")]
    NothingKept(&'static str),
    /// The way back leads to other code.
    #[error(
        "{0} was made by another version: go back with `cinelog rebuild --rollback` of that one"
    )]
    OtherVersion(String),
    /// The way back is not as far as what is read.
    #[error("{0} is not as far as what is read: does `cinelog projectors` run?")]
    Behind(String),
    /// It could not be filled.
    #[error(transparent)]
    Fill(#[from] FillError),
}

impl From<sqlx::Error> for RebuildError {
    fn from(error: sqlx::Error) -> Self {
        Self::Fill(error.into())
    }
}

/// What came of a rebuild.
#[derive(Clone, Debug)]
pub struct Rebuilt {
    /// What was read before, and is kept.
    pub before: String,
    /// What is read now.
    pub now: String,
    /// How far both had come.
    pub upto: Position,
    /// Tables that were not the same; not compared where subjects are parked, or with what another version made.
    pub differing: Vec<String>,
    /// Parked subjects, which are tried again.
    pub parked: u64,
}

/// A rebuild's tools.
#[derive(Debug)]
pub struct Rebuild<'a> {
    /// Makes generations.
    pub owner: &'a PgPool,
    /// Writes them.
    pub projector: &'a PgPool,
    /// Gives the facts.
    pub reader: &'a Reader,
    /// Opens them.
    pub keys: &'a Keys,
    /// Writers at once.
    pub writers: NonZeroU16,
}

impl Rebuild<'_> {
    /// Builds `projection` anew, or goes on with that, and has it take the place of what is read. `progress` is told the position
    /// reached and the one to reach. What was built stays when `end` comes first.
    pub async fn run(
        &self,
        projection: &Arc<dyn Projection>,
        progress: &(dyn Fn(Position, Position) + Sync),
        end: &Shutdown,
    ) -> Result<Rebuilt, RebuildError> {
        let (live, _) = registry::read_and_kept(self.owner, projection.name()).await?;
        let live = live.ok_or(RebuildError::NotThere(projection.name()))?;
        // A connection of its own: what is locked on it is free when this process dies.
        let mut guard = self.owner.acquire().await?.detach();
        let new =
            generation::generation_to_build(self.owner, &mut guard, projection.as_ref()).await?;
        let new = new.ok_or(RebuildError::Busy(projection.name()))?;
        let rebuilt = tokio::select! {
            rebuilt = self.build(projection, &live, &new, progress) => rebuilt?,
            () = end.cancelled() => return Err(FillError::Stopped.into()),
        };
        generation::drop_let_go(self.owner, &mut guard, projection.name()).await?;
        Ok(rebuilt)
    }

    async fn build(
        &self,
        projection: &Arc<dyn Projection>,
        (live, version): &Made,
        new: &str,
        progress: &(dyn Fn(Position, Position) + Sync),
    ) -> Result<Rebuilt, RebuildError> {
        let left_out = {
            let mut connection = self.projector.acquire().await?;
            subscription::inherit(&mut connection, live, new).await?;
            subscription::left_out(&mut connection, new).await?
        };
        let generation = Generation::new(new.to_owned(), Arc::clone(projection));
        let mut pace = Pace::of(self.projector, live).await?;
        generation.leave_out(self.projector).await?;
        self.approach(live, (&generation, &left_out), &mut pace, progress)
            .await?;
        self.turn(new, &mut pace).await?;
        generation::complete(self.owner, projection.as_ref(), new).await?;
        let mut last = None;
        loop {
            self.turn(new, &mut pace).await?;
            last = generation.make_some_ready(self.projector, last).await?;
            if last.is_none() {
                break;
            }
        }
        self.approach(live, (&generation, &left_out), &mut pace, progress)
            .await?;
        let mut tx = db::begin(self.projector, "BEGIN").await?;
        sqlx::query("SET LOCAL idle_in_transaction_session_timeout = 0")
            .execute(&mut *tx)
            .await?;
        let barrier = subscription::held(&mut tx, live).await?;
        self.fill(&generation, (&barrier, &left_out), None, progress)
            .await?;
        let differing = if *version == projection.version() {
            self.differing(&mut tx, live, new).await?
        } else {
            vec![]
        };
        generation::swap(self.owner, projection.as_ref(), new).await?;
        let parked = subscription::retry_all(&mut tx, new).await?;
        tx.commit().await?;
        Ok(Rebuilt {
            before: live.clone(),
            now: new.to_owned(),
            upto: end_of(&barrier),
            differing,
            parked,
        })
    }

    /// Fills `generation` until it is nearly as far as `live`, which goes on meanwhile.
    async fn approach(
        &self,
        live: &str,
        (generation, left_out): (&Generation, &BTreeSet<Position>),
        pace: &mut Pace<'_>,
        progress: &(dyn Fn(Position, Position) + Sync),
    ) -> Result<(), RebuildError> {
        loop {
            let near = subscription::positions(&mut *self.projector.acquire().await?, live).await?;
            let from = self
                .fill(generation, (&near, left_out), Some(pace), progress)
                .await?;
            if end_of(&near).0 - from.0 <= LITTLE {
                return Ok(());
            }
        }
    }

    /// Waits while the build `name` is paused, and while reads are slow.
    async fn turn(&self, name: &str, pace: &mut Pace<'_>) -> sqlx::Result<()> {
        while generation::is_paused(self.owner, name).await? {
            tokio::time::sleep(LOOK).await;
        }
        pace.hold().await?;
        Ok(())
    }

    /// Fills `generation` up to `upto` but for what is left out, a stretch at a time, at this pace; returns where that began.
    async fn fill(
        &self,
        generation: &Generation,
        (upto, left_out): (&BTreeMap<Lane, Position>, &BTreeSet<Position>),
        mut pace: Option<&mut Pace<'_>>,
        progress: &(dyn Fn(Position, Position) + Sync),
    ) -> Result<Position, RebuildError> {
        let name = generation.name();
        let end = end_of(upto);
        let is = subscription::positions(&mut *self.projector.acquire().await?, name).await?;
        let is = |lane: &Lane| is.get(lane).copied().unwrap_or_default();
        let behind = upto.iter().filter(|(lane, to)| is(lane) < **to);
        let begun = behind.map(|(lane, _)| is(lane)).min().unwrap_or(end);
        let mut at = begun;
        let mut reader = self.reader.clone();
        let mut stretch = STRETCHES.0;
        loop {
            if let Some(pace) = &mut pace {
                self.turn(name, pace).await?;
            }
            if at >= end {
                return Ok(begun);
            }
            let next = Position((at.0 + stretch).min(end.0));
            let upto = upto.iter().map(|(lane, to)| (*lane, (*to).min(next)));
            let since = Instant::now();
            subscription::fill(
                generation,
                self.projector,
                &mut reader,
                self.keys,
                (&upto.collect(), left_out),
                self.writers,
                &|position| progress(position, end),
            )
            .await?;
            at = next;
            let wanted = if since.elapsed() < STRIDE {
                stretch * 2
            } else {
                stretch / 2
            };
            stretch = wanted.clamp(STRETCHES.0, STRETCHES.1);
        }
    }

    async fn differing(
        &self,
        tx: &mut PgConnection,
        live: &str,
        new: &str,
    ) -> Result<Vec<String>, RebuildError> {
        if !subscription::parked(tx, Some(new)).await?.is_empty() {
            return Ok(vec![]);
        }
        let was = registry::table_hashes(self.projector, live).await?;
        let is = registry::table_hashes(self.projector, new).await?;
        let tables = is
            .into_iter()
            .filter(|(table, hash)| was.get(table) != Some(hash));
        Ok(tables.map(|(table, _)| table).collect())
    }

    /// Has what was read before take the place of what is read, which is kept; returns both, what is read now first.
    pub async fn back(
        &self,
        projection: &Arc<dyn Projection>,
    ) -> Result<(String, String), RebuildError> {
        let (live, kept) = registry::read_and_kept(self.owner, projection.name()).await?;
        let (live, _) = live.ok_or(RebuildError::NotThere(projection.name()))?;
        let (kept, version) = kept.ok_or(RebuildError::NothingKept(projection.name()))?;
        if version != projection.version() {
            return Err(RebuildError::OtherVersion(kept));
        }
        let mut tx = db::begin(self.projector, "BEGIN").await?;
        let at = subscription::held(&mut tx, &live).await?;
        let until = tokio::time::Instant::now() + CATCH_UP;
        loop {
            let is = subscription::positions(&mut *self.projector.acquire().await?, &kept).await?;
            if at.iter().all(|(lane, at)| is.get(lane) >= Some(at)) {
                break;
            }
            if tokio::time::Instant::now() > until {
                return Err(RebuildError::Behind(kept));
            }
            tokio::time::sleep(LOOK).await;
        }
        generation::swap(self.owner, projection.as_ref(), &kept).await?;
        tx.commit().await?;
        Ok((kept, live))
    }
}

/// Makes anew what is kept ready for one reader, in what is read and in what is kept of `projection`; tells each generation and how
/// many rows it has then. Empty: nothing is kept ready by reader.
pub async fn repair(
    projector: &PgPool,
    projection: &dyn Projection,
    reader: (TenantId, UserId),
) -> sqlx::Result<Vec<(String, u64)>> {
    let (live, kept) = registry::read_and_kept(projector, projection.name()).await?;
    let ours = live.into_iter().chain(kept);
    let ours = ours.filter(|(_, version)| *version == projection.version());
    let mut repaired = vec![];
    for (generation, _) in ours {
        let mut tx = db::begin(projector, "BEGIN").await?;
        sqlx::query("SELECT set_config('search_path', $1, true)")
            .bind(format!("{generation}, public"))
            .execute(&mut *tx)
            .await?;
        // Nothing that projectors bring is to come in between.
        subscription::held(&mut tx, &generation).await?;
        let Some(refill) = projection.refill(reader, &mut tx) else {
            break;
        };
        let rows = refill.await?;
        tx.commit().await?;
        repaired.push((generation, rows));
    }
    Ok(repaired)
}

fn end_of(lanes: &BTreeMap<Lane, Position>) -> Position {
    lanes.values().max().copied().unwrap_or_default()
}
