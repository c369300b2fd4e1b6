//! Filling a subscriber by hand: from its checkpoints to given positions, in this process alone, from the log and its archive.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU16;

use futures::TryFutureExt;
use futures::future::{try_join, try_join_all};
use sqlx::PgPool;

use super::Subscriber;
use super::apply::{ApplyError, apply};
use super::checkpoint::{self, Advance};
use crate::envelope::Sealed;
use crate::id::{Lane, Position};
use crate::store::{Filter, Keys, Limits, LogError, Reader};

/// Positions looked at for one transaction of each writer: the more, the fewer rows are written more than once.
const BATCH: i64 = 25_000;
/// Bytes of payloads beyond which a transaction gets fewer; what is read ahead may have as many.
const BYTES: usize = 16 << 20;

/// Why filling ended early.
#[derive(Debug, thiserror::Error)]
pub enum FillError {
    /// The log cannot be read.
    #[error(transparent)]
    Log(#[from] LogError),
    /// A batch cannot be applied.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// It was told to end.
    #[error("stopped before it was done")]
    Stopped,
    /// Facts that were left out have been taken in elsewhere.
    #[error("facts that were parked have been taken in meanwhile: run it again")]
    Unparked,
    /// Another process works on the same subscription.
    #[error("something else moves the checkpoints of {0}: stop it first")]
    Rival(String),
}

impl From<sqlx::Error> for FillError {
    fn from(error: sqlx::Error) -> Self {
        Self::Log(error.into())
    }
}

/// Applies to `subscriber` every fact behind its checkpoints, in each lane up to the position given for it, but those at
/// `without`; lanes that are not named stay where they are. Can be repeated and goes on where it was. One reads, `writers` write
/// at once, each a share of the lanes. `progress` is told the position reached.
pub async fn fill(
    subscriber: &dyn Subscriber,
    pool: &PgPool,
    reader: &mut Reader,
    keys: &Keys,
    (upto, without): (&BTreeMap<Lane, Position>, &BTreeSet<Position>),
    writers: NonZeroU16,
    progress: &(dyn Fn(Position) + Sync),
) -> Result<(), FillError> {
    checkpoint::prepare(pool, subscriber).await?;
    let lanes: Vec<Lane> = upto.keys().copied().collect();
    let mut at: BTreeMap<Lane, Position> = checkpoint::load(pool, subscriber.name(), &lanes)
        .await?
        .into_iter()
        .map(|start| (start.lane, start.after))
        .collect();
    let behind = |at: &BTreeMap<Lane, Position>, lane: &Lane| at.get(lane) < upto.get(lane);
    let first = lanes.iter().filter(|lane| behind(&at, lane));
    let Some(mut seen) = first.filter_map(|lane| at.get(lane)).min().copied() else {
        return Ok(());
    };
    let last = upto.values().max().copied().unwrap_or_default();
    let mut here = next(reader, (seen, last), writers).await?;
    loop {
        let (facts, upto_here) = here;
        if upto_here == seen {
            return Ok(()); // All is done, or less is there than was asked for.
        }
        let due = |fact: &Sealed| {
            at.get(&fact.lane) < Some(&fact.position)
                && upto.get(&fact.lane) >= Some(&fact.position)
        };
        let facts = facts.into_iter().filter(due);
        let mut shares = vec![vec![]; usize::from(writers.get())];
        for fact in facts {
            let share = fact.lane.number().unsigned_abs() % writers;
            shares[usize::from(share)].push(fact);
        }
        let written = shares.into_iter().filter(|share| !share.is_empty());
        let written = written.map(|mut facts| {
            let steps = checkpoint::steps(&at, facts.iter().map(|fact| (fact, 0)));
            facts.retain(|fact| !without.contains(&fact.position));
            async move {
                let advance = apply(subscriber, pool, keys, &steps, facts).await?;
                Ok::<_, ApplyError>((advance, steps))
            }
        });
        // What comes next is read meanwhile.
        let following = next(reader, (upto_here, last), writers).map_err(FillError::from);
        let (moved, following) = try_join(try_join_all(written).err_into(), following).await?;
        for (advance, steps) in moved {
            if advance != Advance::Done {
                return Err(FillError::Rival(subscriber.name().to_owned()));
            }
            at.extend(steps.iter().map(|step| (step.lane, step.to)));
        }
        (seen, here) = (upto_here, following);
        progress(seen);
    }
}

/// The facts of the next transactions, after the first position and up to the second, and how far they are everything.
async fn next(
    reader: &mut Reader,
    (after, last): (Position, Position),
    writers: NonZeroU16,
) -> Result<(Vec<Sealed>, Position), LogError> {
    let (mut facts, mut seen, mut bytes) = (vec![], after, 0);
    let end = last.min(Position(after.0 + BATCH * i64::from(writers.get())));
    while seen < end && bytes < BYTES {
        let limits = Limits::BULK.within(end.0 - seen.0);
        let page = reader.page(seen, &Filter::default(), limits).await?;
        if page.seen == seen {
            break;
        }
        seen = page.seen;
        bytes += page
            .facts
            .iter()
            .map(|fact| fact.payload.len())
            .sum::<usize>();
        facts.extend(page.facts);
    }
    Ok((facts, seen))
}
