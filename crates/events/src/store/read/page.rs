//! Reading from any position, forwards or backwards, a page at a time, by type, lane, subject or tenant. A page is bounded
//! three ways: by how far it looks, so that a rare type costs no endless statement, by facts, and by bytes, so that it
//! fits in memory.

use futures::TryStreamExt;
use sqlx::{AssertSqlSafe, PgExecutor, Row};
use uuid::Uuid;

use super::{COLUMNS, Log, LogError, Reader, Tail, sealed_from};
use crate::envelope::Sealed;
use crate::id::{Lane, Position, TenantId, UserId};
use crate::store::Wake;

/// Which facts a reader wants. By default all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only of these types; none named: of all.
    pub types: Vec<String>,
    /// Only in these lanes; none named: in all.
    pub lanes: Vec<Lane>,
    /// Only about this.
    pub about: About,
    /// Only of this tenant.
    pub tenant: Option<TenantId>,
}

/// What facts may be about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum About {
    /// Whatever.
    #[default]
    Anything,
    /// This subject.
    Subject(String),
    /// This person: what they did, and what is about them alone or about them and another.
    Person(UserId),
}

impl About {
    fn subject(&self) -> Option<&str> {
        match self {
            Self::Subject(subject) => Some(subject),
            _ => None,
        }
    }

    fn person(&self) -> Option<UserId> {
        match self {
            Self::Person(person) => Some(*person),
            _ => None,
        }
    }

    fn fits(&self, fact: &Sealed) -> bool {
        match self {
            Self::Anything => true,
            Self::Subject(subject) => *subject == fact.subject,
            Self::Person(person) => {
                let about = || fact.subject.contains(&person.to_string());
                fact.meta.actor == *person || !fact.subject.starts_with("post-") && about()
            }
        }
    }
}

impl Filter {
    /// Whether every fact passes.
    pub fn is_all(&self) -> bool {
        *self == Self::default()
    }

    /// Whether this fact passes.
    pub fn passes(&self, fact: &Sealed) -> bool {
        (self.types.is_empty() || self.types.contains(&fact.fact_type))
            && (self.lanes.is_empty() || self.lanes.contains(&fact.lane))
            && self.about.fits(fact)
            && self.tenant.is_none_or(|tenant| tenant == fact.tenant)
    }
}

/// How much one page may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Positions looked at.
    pub positions: i64,
    /// Facts in the page.
    pub facts: i64,
    /// Bytes of payload in the page, as text and as stored, of all facts but the last: one fact always fits.
    pub bytes: i64,
}

impl Limits {
    /// For reading everything: a page that fits in memory and takes a fraction of a second.
    pub const BULK: Self = Self {
        positions: 10_000,
        facts: 10_000,
        bytes: 8 << 20,
    };

    /// The same, and at most `positions`.
    #[must_use]
    pub fn within(self, positions: i64) -> Self {
        Self {
            positions: self.positions.min(positions),
            ..self
        }
    }
}

/// A page of the log.
#[derive(Clone, Debug, PartialEq)]
pub struct Page {
    /// The facts that passed, in order.
    pub facts: Vec<Sealed>,
    /// How far was looked: whatever passes up to here, or down to here, is in this page or was before it.
    pub seen: Position,
    /// The last position in the log as this page saw it.
    pub head: Position,
}

/// Which log it is and what it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The log.
    pub log_id: Uuid,
    /// The lowest position kept.
    pub floor: i64,
    /// The last position in it; just below the floor when there is none.
    pub head: Position,
}

/// The bounds of the log.
pub async fn bounds(executor: impl PgExecutor<'_>) -> Result<Bounds, LogError> {
    let (log_id, floor, head) =
        sqlx::query_as("SELECT log_id, floor, COALESCE(log.head(), floor - 1) FROM log.log")
            .fetch_one(executor)
            .await?;
    Ok(Bounds {
        log_id,
        floor,
        head,
    })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Forwards,
    Backwards,
}

impl Order {
    // One statement, so one snapshot: floor and head are those of the rows. The left join keeps one row when there are no
    // facts. Rows come in the order of the inner query, which is proved below: sorting them again would cost a copy of
    // each. `stored` looks at sizes only, so facts beyond it are never put together.
    fn sql(self) -> String {
        let (low, high, order) = match self {
            Self::Forwards => ("$1", "$1 + $2", "ASC"),
            Self::Backwards => (
                "GREATEST(LEAST($1, h.head) - $2, l.floor - 1)",
                "$1",
                "DESC",
            ),
        };
        format!(
            "SELECT l.floor, h.head, e.*
             FROM log.log l
             CROSS JOIN LATERAL (
                 SELECT COALESCE(log.head(), l.floor - 1) AS head
             ) h
             LEFT JOIN LATERAL (
                 SELECT {COLUMNS}, e.stored
                 FROM (
                     SELECT e.*, sum(pg_column_size(e.payload))
                                     OVER (ORDER BY e.position {order} ROWS UNBOUNDED PRECEDING) AS stored
                     FROM log.events e
                     WHERE e.position > {low} AND e.position <= {high}
                       AND ($5::text[] IS NULL OR e.type = ANY ($5))
                       AND ($6::smallint[] IS NULL OR e.lane = ANY ($6))
                       AND ($7::text IS NULL OR e.subject = $7)
                       AND ($8::uuid IS NULL OR e.tenant = $8)
                       AND ($9::uuid IS NULL OR e.meta->>'actor' = $9::text
                            OR e.subject NOT LIKE 'post-%' AND strpos(e.subject, $9::text) > 0)
                     ORDER BY e.position {order}
                     LIMIT $3
                 ) e
                 WHERE e.stored - pg_column_size(e.payload) < $4
             ) e ON true"
        )
    }
}

/// The next facts after `after` that pass `filter`, forwards. Refuses to begin below the floor, and proves by itself
/// that an unfiltered page has no gap.
pub async fn page(
    executor: impl PgExecutor<'_>,
    after: Position,
    filter: &Filter,
    limits: Limits,
) -> Result<Page, LogError> {
    look(executor, Order::Forwards, after, filter, limits).await
}

/// The next facts before `before` that pass `filter`, backwards: the newest first. From the end of the log with
/// [`Position::END`]; on from [`Page::seen`], until that is the first position. Refuses to begin below the floor.
pub async fn page_back(
    executor: impl PgExecutor<'_>,
    before: Position,
    filter: &Filter,
    limits: Limits,
) -> Result<Page, LogError> {
    let from = Position(before.0 - 1);
    look(executor, Order::Backwards, from, filter, limits).await
}

async fn look(
    executor: impl PgExecutor<'_>,
    order: Order,
    from: Position,
    filter: &Filter,
    limits: Limits,
) -> Result<Page, LogError> {
    let from = from.min(Position::END);
    let lanes: Vec<i16> = filter.lanes.iter().map(|lane| lane.number()).collect();
    // Sums with positions must be numbers.
    let positions = limits.positions.clamp(1, i64::from(u32::MAX));
    let mut rows = sqlx::query(AssertSqlSafe(order.sql()))
        .bind(from)
        .bind(positions)
        .bind(limits.facts)
        .bind(limits.bytes)
        .bind(Some(&filter.types).filter(|types| !types.is_empty()))
        .bind(Some(lanes).filter(|lanes| !lanes.is_empty()))
        .bind(filter.about.subject())
        .bind(filter.tenant)
        .bind(filter.about.person())
        .fetch(executor);
    let first = rows.try_next().await?.ok_or(sqlx::Error::RowNotFound)?;
    let (floor, head): (i64, Position) = (first.try_get("floor")?, first.try_get("head")?);
    let range = Range {
        order,
        from,
        floor,
        head,
    };
    range.refuse_below_the_floor()?;
    let (mut facts, mut bytes, mut whole) = (vec![], 0, true);
    let mut row = first.try_get::<Option<i64>, _>("position")?.map(|_| first);
    while let Some(fact) = row {
        let stored: i64 = fact.try_get("stored")?;
        let fact = sealed_from(&fact)?;
        bytes += i64::try_from(fact.payload.len()).unwrap_or(i64::MAX);
        facts.push(fact);
        whole = stored.max(bytes) < limits.bytes;
        row = if whole { rows.try_next().await? } else { None };
    }
    drop(rows);
    whole &= i64::try_from(facts.len()) != Ok(limits.facts);
    let seen = match facts.last() {
        Some(last) if !whole => last.position,
        _ => range.looked(positions),
    };
    range.prove(seen, &facts, filter.is_all())?;
    Ok(Page { facts, seen, head })
}

/// What was asked of which log.
pub(super) struct Range {
    pub(super) order: Order,
    /// Forwards the position before the first one, backwards the first one.
    pub(super) from: Position,
    pub(super) floor: i64,
    pub(super) head: Position,
}

impl Range {
    pub(super) fn refuse_below_the_floor(&self) -> Result<(), LogError> {
        let asked = match self.order {
            Order::Forwards => self.from.0 + 1,
            // Before the first position is nothing to miss.
            Order::Backwards if self.from < Position(1) => return Ok(()),
            Order::Backwards => self.from.0,
        };
        if asked < self.floor {
            let floor = self.floor;
            return Err(LogError::TooOld { asked, floor });
        }
        Ok(())
    }

    /// How far a page without other limits looks.
    pub(super) fn looked(&self, positions: i64) -> Position {
        match self.order {
            Order::Forwards => Position(self.from.0 + positions)
                .min(self.head)
                .max(self.from),
            Order::Backwards => Position(
                (self.from.min(self.head).0 - positions + 1)
                    .max(self.floor)
                    .max(1),
            ),
        }
    }

    /// The facts are in order, and when they are `all`, then those of every position.
    pub(super) fn prove(
        &self,
        seen: Position,
        facts: &[Sealed],
        all: bool,
    ) -> Result<(), LogError> {
        let step = match self.order {
            Order::Forwards => 1,
            Order::Backwards => -1,
        };
        let mut due = match self.order {
            Order::Forwards => self.from.0 + 1,
            Order::Backwards => self.from.min(self.head).0,
        };
        for fact in facts {
            let passed = (fact.position.0 - due) * step;
            if passed < 0 || (all && passed > 0) {
                return Err(LogError::Gap { missing: due });
            }
            due = fact.position.0 + step;
        }
        if all && (seen.0 - due) * step >= 0 {
            return Err(LogError::Gap { missing: due });
        }
        Ok(())
    }
}

impl Log {
    /// The next facts after `after` that pass `filter`, see [`Reader::page`].
    pub async fn page(
        &self,
        after: Position,
        filter: &Filter,
        limits: Limits,
    ) -> Result<Page, LogError> {
        self.reader().page(after, filter, limits).await
    }

    /// The next facts after `after` that pass `filter`, and those that come.
    pub fn tail(&self, wake: Wake, filter: Filter, limits: Limits, after: Position) -> Tail {
        Tail::new(self.reader(), wake, filter, limits, after)
    }

    fn reader(&self) -> Reader {
        Reader::new(self.pool.clone(), self.archive.clone())
    }

    /// The next facts before `before` that pass `filter`, the newest first, see [`page_back`].
    pub async fn page_back(
        &self,
        before: Position,
        filter: &Filter,
        limits: Limits,
    ) -> Result<Page, LogError> {
        page_back(&self.pool, before, filter, limits).await
    }
}
