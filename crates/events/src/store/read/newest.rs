//! The end of the log, which all readers of a process that have come so far read once together: each commit wakes all of them, and what
//! one of them reads is what the others ask for.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use sqlx::PgPool;
use tokio::sync::{Mutex, watch};

use super::{Filter, Limits, Page, page};
use crate::envelope::Sealed;
use crate::id::Position;

/// What is read at a time, and at least kept.
const LIMITS: Limits = Limits {
    positions: 1_000,
    facts: 1_000,
    bytes: 1 << 20,
};
/// What is read counts as the end of the log no longer than this, though nobody tells of news.
const FRESH: Duration = Duration::from_millis(500);

/// The newest facts of the log that `pool` leads to.
#[derive(Debug)]
pub(in crate::store) struct Newest {
    pool: PgPool,
    known: Mutex<Known>,
}

/// All facts after `after` and up to `seen`.
#[derive(Debug, Default)]
struct Known {
    after: Position,
    seen: Position,
    head: Position,
    facts: VecDeque<Sealed>,
    /// How often news had been told before they were read, and when that was.
    read: Option<(u64, Instant)>,
}

impl Newest {
    pub(in crate::store) fn new(pool: PgPool) -> Self {
        Self {
            pool,
            known: Mutex::default(),
        }
    }

    /// The next facts after `after` that pass `filter`, read after the last news that `told` has seen, see [`page`]. None where the reader
    /// has to look by itself: it begins before what is known, or the log does not go on from there. The filter names no tenant.
    pub(in crate::store) async fn page(
        &self,
        told: &watch::Receiver<u64>,
        after: Position,
        filter: &Filter,
        limits: Limits,
    ) -> Option<Page> {
        let (least, asked) = (*told.borrow(), Instant::now());
        let mut known = self.known.lock().await;
        if after > known.seen {
            *known = Known::from(after);
        }
        if after < known.after {
            return None;
        }
        if !known.is_fresh(least, asked) {
            // Whoever goes away meanwhile leaves nothing known.
            let before = std::mem::take(&mut *known);
            let read = (*told.borrow(), Instant::now());
            *known = before.read_on(&self.pool, read).await?;
        }
        Some(known.page(after, filter, limits))
    }
}

impl Known {
    /// Nothing yet, of what comes after this.
    fn from(after: Position) -> Self {
        Self {
            after,
            seen: after,
            ..Self::default()
        }
    }

    /// Whether it was read after news had been told so often, and lately or after it was asked for.
    fn is_fresh(&self, told: u64, asked: Instant) -> bool {
        self.read
            .is_some_and(|(then, at)| then >= told && (at >= asked || at.elapsed() < FRESH))
    }

    /// The same and what comes next. None where that cannot be read or is no continuation, as of a log that was restored and has become
    /// another: readers look for themselves then, and meet what is wrong.
    async fn read_on(mut self, pool: &PgPool, read: (u64, Instant)) -> Option<Self> {
        // The last one once more: is it the same?
        let last = self.facts.pop_back();
        let from = last
            .as_ref()
            .map_or(self.seen, |last| Position(last.position.0 - 1));
        let next = page(pool, from, &Filter::default(), LIMITS).await.ok()?;
        let again = next.facts.first().map(|fact| fact.event_id);
        if last.is_some_and(|last| again != Some(last.event_id)) {
            return None;
        }
        if next.head < next.seen {
            return None;
        }
        self.add(next);
        self.read = Some(read);
        Some(self)
    }

    /// Adds what comes next. Of what was there before, as much is kept as may be read at a time.
    fn add(&mut self, page: Page) {
        let (mut facts, mut bytes) = (LIMITS.facts, LIMITS.bytes);
        let kept = self.facts.iter().rev().take_while(|fact| {
            facts -= 1;
            bytes -= size(fact);
            facts >= 0 && bytes >= 0
        });
        let gone = self.facts.len() - kept.count();
        if let Some(last) = self.facts.drain(..gone).next_back() {
            self.after = last.position;
        }
        self.facts.extend(page.facts);
        (self.seen, self.head) = (page.seen, page.head);
    }

    fn page(&self, after: Position, filter: &Filter, limits: Limits) -> Page {
        let end = Position(after.0.saturating_add(limits.positions.max(1))).min(self.seen);
        let from = self.facts.partition_point(|fact| fact.position <= after);
        let in_reach = self.facts.range(from..);
        let in_reach = in_reach.take_while(|fact| fact.position <= end);
        let (mut facts, mut bytes, mut seen) = (vec![], 0, end);
        for fact in in_reach.filter(|fact| filter.passes(fact)) {
            facts.push(fact.clone());
            bytes += size(fact);
            if i64::try_from(facts.len()) == Ok(limits.facts) || bytes >= limits.bytes {
                seen = fact.position;
                break;
            }
        }
        Page {
            facts,
            seen,
            head: self.head,
        }
    }
}

fn size(fact: &Sealed) -> i64 {
    i64::try_from(fact.payload.len()).unwrap_or(i64::MAX)
}
