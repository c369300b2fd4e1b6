//! Reading the log: dense, in order, and never silently less than was asked for.

mod bulk;
mod newest;
mod page;
mod reader;
mod stream;
mod tail;

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use metrics::counter;
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use sqlx::{PgConnection, Row};

use super::look::Wanted;
use super::{Keys, Log, LogError, StreamRow};
use crate::envelope::{Meta, Recorded, Sealed};
use crate::fact::{DecodeError, Fact};
use crate::id::{EventId, Lane, Position, TenantId};
use crate::metrics::FACTS_SKIPPED;
use crate::seal;
use crate::upcast::{self, ReadError};

pub use page::{About, Bounds, Filter, Limits, Page, bounds, page, page_back};
pub use reader::Reader;
pub use tail::Tail;

pub(super) use newest::Newest;

/// The columns that `sealed_from` reads, of `log.events e`.
pub(crate) const COLUMNS: &str = "e.position, e.lane, e.tenant, e.stream_id, e.version, e.subject, e.type, \
     e.schema_version, e.payload::text AS payload, e.meta, e.event_id, e.recorded_at";

/// A fact from a row of [`COLUMNS`].
pub(crate) fn sealed_from(row: &PgRow) -> Result<Sealed, sqlx::Error> {
    let lane: i16 = row.try_get("lane")?;
    Ok(Sealed {
        position: row.try_get("position")?,
        lane: Lane::new(lane.into())
            .ok_or_else(|| sqlx::Error::Decode(format!("lane {lane}").into()))?,
        tenant: row.try_get("tenant")?,
        stream: row.try_get("stream_id")?,
        version: row.try_get("version")?,
        subject: row.try_get("subject")?,
        fact_type: row.try_get("type")?,
        schema_version: row.try_get("schema_version")?,
        payload: row.try_get("payload")?,
        meta: row.try_get::<Json<Meta>, _>("meta")?.0,
        event_id: row.try_get::<EventId, _>("event_id")?,
        recorded_at: row.try_get::<DateTime<Utc>, _>("recorded_at")?,
    })
}

/// Opens those stored facts that are wanted with the keys of this moment. Facts of unknown types are skipped and counted.
pub(crate) async fn open(
    keys: &Keys,
    connection: &mut PgConnection,
    stored: Vec<Sealed>,
    wanted: impl Fn(&Fact) -> bool,
) -> Result<Vec<Recorded>, LogError> {
    let mut facts = Vec::with_capacity(stored.len());
    for fact in stored {
        match upcast::typed(fact) {
            Ok(fact) if wanted(&fact.fact) => facts.push(fact),
            Ok(_) => {}
            Err(ReadError::Decode(DecodeError::Unknown { fact_type, version })) => {
                tracing::warn!(fact_type, version, "a fact of an unknown type is skipped");
                counter!(FACTS_SKIPPED).increment(1);
            }
            Err(error) => return Err(error.into()),
        }
    }
    let person = |fact: &Recorded| (fact.tenant, fact.meta.actor);
    let personal = facts.iter_mut().filter(|fact| fact.fact.has_personal());
    let mut personal: Vec<_> = personal.collect();
    let persons: BTreeSet<_> = personal.iter().map(|fact| person(fact)).collect();
    if !persons.is_empty() {
        let persons: Vec<_> = persons.into_iter().collect();
        let found = keys.for_reading(connection, &persons).await?;
        for fact in &mut personal {
            let key = found.get(&person(fact));
            seal::open(&mut fact.fact, fact.event_id, key)?;
        }
    }
    Ok(facts)
}

impl Log {
    /// The next facts after `after`, at most `limit`, however large: dense and in order.
    pub async fn read(&self, after: Position, limit: i64) -> Result<Vec<Sealed>, LogError> {
        let (mut facts, mut at) = (vec![], after);
        loop {
            let left = limit - (at.0 - after.0);
            let page = self
                .page(at, &Filter::default(), Limits::BULK.within(left))
                .await?;
            facts.extend(page.facts);
            if page.seen == at || page.seen.0 - after.0 >= limit {
                return Ok(facts);
            }
            at = page.seen;
        }
    }

    /// Types and opens stored facts; those of unknown types are skipped and counted.
    pub async fn open_facts(&self, stored: Vec<Sealed>) -> Result<Vec<Recorded>, LogError> {
        let mut connection = self.pool.acquire().await?;
        open(&self.keys, &mut connection, stored, |_| true).await
    }

    /// A stream as it stands; none when nothing ever happened in it.
    pub async fn stream(
        &self,
        tenant: TenantId,
        stream: &str,
    ) -> Result<Option<StreamRow>, LogError> {
        let wanted = Wanted::stream(tenant, stream);
        let seen = self.looks.look(wanted).await?;
        Ok(seen.streams.rows.into_values().next())
    }

    /// The facts of positions `first` to `last`, opened.
    pub(super) async fn between(
        &self,
        first: Position,
        last: Position,
    ) -> Result<Vec<Recorded>, LogError> {
        self.open_facts(
            self.read(Position(first.0 - 1), last.0 - first.0 + 1)
                .await?,
        )
        .await
    }
}
