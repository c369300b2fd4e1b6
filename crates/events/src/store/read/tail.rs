//! The log as it is and as it grows, in one go: what is there first, then what comes, without a seam.

use std::time::Duration;

use super::{Filter, Limits, LogError, Page, Reader};
use crate::id::Position;
use crate::store::Wake;

/// Follows the log from a position. Dropping [`Tail::next`] loses nothing: a page counts once it was given.
#[derive(Debug)]
pub struct Tail {
    reader: Reader,
    wake: Wake,
    filter: Filter,
    limits: Limits,
    seen: Position,
    /// Whether the last page ended with the log.
    level: bool,
}

impl Tail {
    /// Follows what `reader` gives after `after`, told by `wake` when there is news.
    pub fn new(
        reader: Reader,
        wake: Wake,
        filter: Filter,
        limits: Limits,
        after: Position,
    ) -> Self {
        Self {
            reader,
            wake,
            filter,
            limits,
            seen: after,
            level: false,
        }
    }

    /// Everything that passes up to here was given.
    pub fn seen(&self) -> Position {
        self.seen
    }

    /// Whether the last page ended with the log.
    pub fn is_level(&self) -> bool {
        self.level
    }

    /// The next pages hold no more than `facts`.
    pub fn at_most(&mut self, facts: usize) {
        self.limits.facts = i64::try_from(facts).unwrap_or(i64::MAX);
    }

    /// The next page, which may hold nothing. At the end of the log it waits for news first, at most for `wait`.
    pub async fn next(&mut self, wait: Duration) -> Result<Page, LogError> {
        let (after, filter, limits) = (self.seen, &self.filter, self.limits);
        let mut newest = None;
        if self.level {
            self.wake.wait(wait).await;
            if filter.tenant.is_none() {
                newest = self.wake.page(after, filter, limits).await;
            }
        }
        let page = match newest {
            Some(page) => page,
            None => self.reader.page(after, filter, limits).await?,
        };
        self.seen = page.seen;
        self.level = page.seen >= page.head;
        Ok(page)
    }
}
