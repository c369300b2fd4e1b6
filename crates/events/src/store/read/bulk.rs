//! Everything, fast: by binary COPY, and ahead of who reads, so that Postgres reads while a page is worked on.

use bytes::{Buf, Bytes, BytesMut};
use chrono::{DateTime, Utc};
use futures::TryStreamExt;
use sqlx::{PgConnection, PgPool};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::page::{Order, Range};
use super::{Bounds, Filter, Limits, LogError, Page, bounds, page};
use crate::envelope::Sealed;
use crate::id::{EventId, Lane, Position, TenantId};

/// What a binary COPY begins with: a signature, flags and no extension.
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// Positions in the first page; fewer are not worth a page ahead.
const WORTH: i64 = 1_000;
/// Microseconds from 1970 to 2000, where Postgres counts from.
const EPOCH: i64 = 946_684_800_000_000;

/// Pages in order, some of them ahead.
#[derive(Debug, Default)]
pub(super) struct Bulk {
    /// What is left of the last page, and the position before it.
    rest: Option<(Position, Page)>,
    ahead: Option<Ahead>,
}

/// The pages that are read ahead: one that waits, and one on its way.
#[derive(Debug)]
struct Ahead {
    /// The position before the next one.
    after: Position,
    pages: mpsc::Receiver<Result<Page, LogError>>,
    /// Who reads; gives up when this is dropped.
    _task: JoinSet<()>,
}

impl Bulk {
    /// The next page after `after`. Refuses to begin below the floor, and proves by itself that it has no gap.
    pub(super) async fn page(
        &mut self,
        pool: &PgPool,
        after: Position,
        positions: i64,
    ) -> Result<Page, LogError> {
        let positions = positions.max(1);
        let mut page = match self.rest.take().filter(|(at, _)| *at == after) {
            Some((_, rest)) => rest,
            None => self.next(pool, after, positions).await?,
        };
        let most = usize::try_from(positions).unwrap_or(usize::MAX);
        if page.facts.len() > most {
            let (facts, head) = (page.facts.split_off(most), page.head);
            let seen = std::mem::replace(&mut page.seen, Position(after.0 + positions));
            self.rest = Some((page.seen, Page { facts, seen, head }));
        }
        Ok(page)
    }

    /// The page that was read ahead. The first one is small and read as any other; who is behind by more than that gets
    /// the rest by COPY.
    async fn next(
        &mut self,
        pool: &PgPool,
        after: Position,
        positions: i64,
    ) -> Result<Page, LogError> {
        if let Some(mut ahead) = self.ahead.take().filter(|ahead| ahead.after == after)
            && let Some(page) = ahead.pages.recv().await
        {
            match page {
                Ok(page) => {
                    ahead.after = page.seen;
                    self.ahead = Some(ahead);
                    return Ok(page);
                }
                Err(error @ (LogError::TooOld { .. } | LogError::Gap { .. })) => return Err(error),
                // The connection was lost while a page was worked on, say. What lasts, the next statement finds too.
                Err(error) => tracing::debug!(%error, "not read ahead"),
            }
        }
        let limits = Limits::BULK.within(positions.min(WORTH));
        let page = page(pool, after, &Filter::default(), limits).await?;
        if positions >= WORTH && page.seen < page.head {
            let (sender, pages) = mpsc::channel(1);
            let mut task = JoinSet::new();
            task.spawn(read_ahead(pool.clone(), page.seen, sender));
            self.ahead = Some(Ahead {
                after: page.seen,
                pages,
                _task: task,
            });
        }
        Ok(page)
    }
}

/// Reads pages from `at` on into `pages`, until one reaches the head or fails, or nobody wants them.
async fn read_ahead(pool: PgPool, mut at: Position, pages: mpsc::Sender<Result<Page, LogError>>) {
    let (mut connection, mut positions) = (None, WORTH);
    loop {
        let page = copy(&pool, &mut connection, at, positions).await;
        let more = page.as_ref().ok().filter(|page| page.seen < page.head);
        let more = more.map(|page| (page.seen, fitting(&page.facts).unwrap_or(positions)));
        if pages.send(page).await.is_err() {
            return;
        }
        let Some(next) = more else { return };
        (at, positions) = next;
    }
}

/// Positions in a page whose facts are like these: a quarter of its bytes is left for larger ones.
fn fitting(facts: &[Sealed]) -> Option<i64> {
    let bytes: i64 = facts.iter().map(size).sum();
    let each = bytes.checked_div(i64::try_from(facts.len()).ok()?)?;
    let fit = Limits::BULK.bytes / 4 * 3 / each.max(1);
    Some(fit.clamp(1, Limits::BULK.positions))
}

fn size(fact: &Sealed) -> i64 {
    i64::try_from(fact.payload.len()).unwrap_or(i64::MAX)
}

/// A page by COPY, on a connection of its own. Whatever fails or is given up takes the connection with it.
async fn copy(
    pool: &PgPool,
    spare: &mut Option<PgConnection>,
    after: Position,
    positions: i64,
) -> Result<Page, LogError> {
    let mut connection = match spare.take() {
        Some(connection) => connection,
        None => pool.acquire().await?.detach(),
    };
    let range = range(&mut connection, after).await?;
    let (last, head) = (range.looked(positions), range.head);
    let (facts, whole) = rows(&mut connection, after, last).await?;
    let seen = match facts.last() {
        Some(fact) if !whole => fact.position,
        _ => last,
    };
    if let Err(gap) = range.prove(seen, &facts, true) {
        // The floor may have moved between the two statements.
        let _ = self::range(&mut *pool.acquire().await?, after).await?;
        return Err(gap);
    }
    // Else half a COPY is still on its way.
    if whole {
        *spare = Some(connection);
    }
    Ok(Page { facts, seen, head })
}

/// Everything after `after`, unless that begins below the floor.
async fn range(connection: &mut PgConnection, after: Position) -> Result<Range, LogError> {
    let Bounds { floor, head, .. } = bounds(connection).await?;
    let range = Range {
        order: Order::Forwards,
        from: after,
        floor,
        head,
    };
    range.refuse_below_the_floor()?;
    Ok(range)
}

/// The facts after `after` up to `last`, and whether those are all: not where they are too large for a page.
async fn rows(
    connection: &mut PgConnection,
    after: Position,
    last: Position,
) -> Result<(Vec<Sealed>, bool), LogError> {
    // Two numbers, nothing else, come in from outside.
    let sql = format!(
        "COPY (SELECT position, lane, tenant, stream_id, version, subject, type, schema_version, payload, meta, event_id,
                      recorded_at
               FROM log.events WHERE position > {after} AND position <= {last} ORDER BY position) TO STDOUT (FORMAT binary)"
    );
    let mut parts = connection.copy_out_raw(&sql).await?;
    let (mut text, mut begun, mut bytes) = (BytesMut::new(), false, 0);
    let mut facts = Vec::with_capacity(usize::try_from(last.0 - after.0).unwrap_or(0));
    while let Some(part) = parts.try_next().await? {
        if bytes >= Limits::BULK.bytes {
            return Ok((facts, false));
        }
        // Postgres sends a row a message, the header with the first; that rows are whole is a habit, no promise.
        let mut row = part;
        if !text.is_empty() {
            text.extend_from_slice(&row);
            row = text.split().freeze();
        }
        if !begun && row.starts_with(HEADER) {
            begun = true;
            row.advance(HEADER.len());
        }
        while let Some(fact) = take(&mut row)? {
            bytes += size(&fact);
            facts.push(fact);
        }
        text.extend_from_slice(&row);
    }
    Ok((facts, true))
}

/// The fields of a row in binary format: each its length and its bytes.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    /// The next field; none when it has not come yet.
    fn next(&mut self) -> Result<Option<&'a [u8]>, sqlx::Error> {
        let Some((length, rest)) = self.0.split_first_chunk() else {
            return Ok(None);
        };
        // -1 would be null, and nothing in the log is.
        let length =
            usize::try_from(i32::from_be_bytes(*length)).map_err(|_| malformed("a null"))?;
        let Some((field, rest)) = rest.split_at_checked(length) else {
            return Ok(None);
        };
        self.0 = rest;
        Ok(Some(field))
    }
}

/// Takes a fact off the front of `text`; none: it is not all there yet, or none will come.
fn take(text: &mut Bytes) -> Result<Option<Sealed>, sqlx::Error> {
    let Some((count, rest)) = text.split_first_chunk() else {
        return Ok(None);
    };
    match i16::from_be_bytes(*count) {
        -1 => {
            text.clear();
            return Ok(None);
        }
        12 => {}
        _ => return Err(malformed("a row")),
    }
    let mut fields = Fields(rest);
    let mut found: [&[u8]; 12] = [&[]; 12];
    for field in &mut found {
        match fields.next()? {
            Some(bytes) => *field = bytes,
            None => return Ok(None),
        }
    }
    let used = text.len() - fields.0.len();
    let [
        position,
        lane,
        tenant,
        stream,
        version,
        subject,
        fact_type,
        schema,
        payload,
        meta,
        event,
        at,
    ] = found;
    let fact = Sealed {
        position: Position(number(position)?),
        lane: Lane::new(i16::from_be_bytes(fixed(lane)?).into())
            .ok_or_else(|| malformed("a lane"))?,
        tenant: TenantId(Uuid::from_bytes(fixed(tenant)?)),
        stream: string(stream)?,
        version: number(version)?,
        subject: string(subject)?,
        fact_type: string(fact_type)?,
        schema_version: i16::from_be_bytes(fixed(schema)?),
        payload: string(json(payload)?)?,
        meta: serde_json::from_slice(json(meta)?)
            .map_err(|error| sqlx::Error::Decode(error.into()))?,
        event_id: EventId(Uuid::from_bytes(fixed(event)?)),
        recorded_at: DateTime::<Utc>::from_timestamp_micros(number(at)?.saturating_add(EPOCH))
            .ok_or_else(|| malformed("a time"))?,
    };
    text.advance(used);
    Ok(Some(fact))
}

fn malformed(what: &str) -> sqlx::Error {
    sqlx::Error::Decode(format!("a COPY of the log holds {what} that makes no sense").into())
}

fn fixed<const N: usize>(field: &[u8]) -> Result<[u8; N], sqlx::Error> {
    field.try_into().map_err(|_| malformed("a field"))
}

fn number(field: &[u8]) -> Result<i64, sqlx::Error> {
    Ok(i64::from_be_bytes(fixed(field)?))
}

fn string(field: &[u8]) -> Result<String, sqlx::Error> {
    let text = std::str::from_utf8(field).map_err(|error| sqlx::Error::Decode(error.into()))?;
    Ok(text.to_owned())
}

/// The text of a jsonb: behind a 1, the version of its format.
fn json(field: &[u8]) -> Result<&[u8], sqlx::Error> {
    field.strip_prefix(&[1]).ok_or_else(|| malformed("a jsonb"))
}
