//! Reading from any position, a page at a time, by type, lane, subject or tenant. A page is bounded three ways: by how
//! far it looks, so that a rare type costs no endless statement, by facts, and by bytes, so that it fits in memory.

use sqlx::postgres::PgRow;
use sqlx::{PgPool, Row};
use uuid::Uuid;

use super::{Log, LogError, dense, sealed_from};
use crate::envelope::Sealed;
use crate::id::{Lane, Position, TenantId};

/// Which facts a reader wants. By default all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only of these types; none named: of all.
    pub types: Vec<String>,
    /// Only in these lanes; none named: in all.
    pub lanes: Vec<Lane>,
    /// Only about this.
    pub subject: Option<String>,
    /// Only of this tenant.
    pub tenant: Option<TenantId>,
}

impl Filter {
    /// Whether every fact passes.
    pub fn is_all(&self) -> bool {
        *self == Self::default()
    }
}

/// How much one page may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Positions looked at.
    pub positions: i64,
    /// Facts in the page.
    pub facts: i64,
    /// Bytes of payload in the page, of all facts but the last: one fact always fits.
    pub bytes: i64,
}

impl Limits {
    /// For reading everything: a page that fits in memory and takes a fraction of a second.
    pub const BULK: Self = Self {
        positions: 10_000,
        facts: 10_000,
        bytes: 8 << 20,
    };
}

/// A page of the log.
#[derive(Clone, Debug, PartialEq)]
pub struct Page {
    /// The facts that passed, in order.
    pub facts: Vec<Sealed>,
    /// How far was looked: whatever passes up to here is in this page or was before it.
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

/// The bounds of the log that `pool` leads to.
pub async fn bounds(pool: &PgPool) -> Result<Bounds, LogError> {
    let (log_id, floor, head) = sqlx::query_as(
        "SELECT log_id, floor, COALESCE((SELECT position FROM log.events ORDER BY position DESC LIMIT 1), floor - 1)
         FROM log.log",
    )
    .fetch_one(pool)
    .await?;
    Ok(Bounds {
        log_id,
        floor,
        head,
    })
}

// One statement, so one snapshot: floor and head are those of the rows. `found` is counted before the bytes are, so it
// tells whether they cut the page. The left join keeps one row when there are no facts.
const PAGE: &str = "SELECT l.floor, GREATEST(h.head, $1) AS head, e.*
     FROM log.log l
     CROSS JOIN LATERAL (
         SELECT COALESCE((SELECT position FROM log.events ORDER BY position DESC LIMIT 1), 0) AS head
     ) h
     LEFT JOIN (
         SELECT w.*
         FROM (
             SELECT f.*, count(*) OVER () AS found,
                    sum(octet_length(f.payload)) OVER (ORDER BY f.position ROWS UNBOUNDED PRECEDING)
                        - octet_length(f.payload) AS before
             FROM (
                 SELECT e.position, e.lane, e.tenant, e.stream_id, e.version, e.subject, e.type, e.schema_version,
                        e.payload::text AS payload, e.meta, e.event_id, e.recorded_at
                 FROM log.events e
                 WHERE e.position > $1 AND e.position <= $2
                   AND ($5::text[] IS NULL OR e.type = ANY ($5))
                   AND ($6::smallint[] IS NULL OR e.lane = ANY ($6))
                   AND ($7::text IS NULL OR e.subject = $7)
                   AND ($8::uuid IS NULL OR e.tenant = $8)
                 ORDER BY e.position
                 LIMIT $3
             ) f
         ) w
         WHERE w.before < $4
     ) e ON true
     ORDER BY e.position";

/// The next facts after `after` that pass `filter`, forwards. Refuses to begin below the floor, and proves by itself
/// that an unfiltered page has no gap.
pub async fn page(
    pool: &PgPool,
    after: Position,
    filter: &Filter,
    limits: Limits,
) -> Result<Page, LogError> {
    let lanes: Vec<i16> = filter.lanes.iter().map(|lane| lane.number()).collect();
    let rows = sqlx::query(PAGE)
        .bind(after)
        .bind(after.0.saturating_add(limits.positions))
        .bind(limits.facts)
        .bind(limits.bytes)
        .bind(Some(&filter.types).filter(|types| !types.is_empty()))
        .bind(Some(lanes).filter(|lanes| !lanes.is_empty()))
        .bind(&filter.subject)
        .bind(filter.tenant)
        .fetch_all(pool)
        .await?;
    let page = page_from(&rows, after, limits)?;
    if filter.is_all() {
        dense(after, page.seen, &page.facts)?;
    }
    Ok(page)
}

fn page_from(rows: &[PgRow], after: Position, limits: Limits) -> Result<Page, LogError> {
    let first = rows.first().ok_or(sqlx::Error::RowNotFound)?;
    let (floor, head): (i64, Position) = (first.try_get("floor")?, first.try_get("head")?);
    if after.0 + 1 < floor {
        return Err(LogError::TooOld {
            asked: after.0 + 1,
            floor,
        });
    }
    let looked = Position(after.0.saturating_add(limits.positions).min(head.0));
    let Some(found) = first.try_get::<Option<i64>, _>("found")? else {
        return Ok(Page {
            facts: vec![],
            seen: looked,
            head,
        });
    };
    let facts: Vec<Sealed> = rows.iter().map(sealed_from).collect::<Result<_, _>>()?;
    let whole = i64::try_from(facts.len()) == Ok(found) && found < limits.facts;
    let seen = match facts.last() {
        Some(last) if !whole => last.position,
        _ => looked,
    };
    Ok(Page { facts, seen, head })
}

impl Log {
    /// The next facts after `after` that pass `filter`, see [`page`].
    pub async fn page(
        &self,
        after: Position,
        filter: &Filter,
        limits: Limits,
    ) -> Result<Page, LogError> {
        page(&self.pool, after, filter, limits).await
    }
}
