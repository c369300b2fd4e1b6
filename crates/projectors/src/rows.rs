//! The shape of every fold: read the rows that a batch touches, fold its facts in memory, write the rows that changed.
//!
//! A row belongs to one subject, or to one (key, lane), and a lane has one reader at a time, whose transaction holds the
//! lane's checkpoint: nobody else writes a row between its read and its write.

use std::collections::BTreeMap;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::{RawValue, to_raw_value};
use sqlx::types::Json;
use sqlx::{AssertSqlSafe, PgConnection};

/// A table's row, as JSON has it: field names are column names.
pub trait Row: Clone + PartialEq + Send + Serialize + DeserializeOwned + Unpin + 'static {
    /// The primary key, serialised as an array.
    type Key: Clone + Ord + Send + Sync + Serialize;
    /// Gives the rows with the keys `$1`, as JSON.
    const LOAD: &'static str;
    /// Upserts the rows `$1`.
    const STORE: &'static str;
    /// Deletes the rows with the keys `$1`.
    const REMOVE: &'static str;

    /// Its primary key.
    fn key(&self) -> Self::Key;
}

/// The rows that a batch touches, before and after it.
pub struct Rows<R: Row> {
    before: BTreeMap<R::Key, R>,
    after: BTreeMap<R::Key, Option<R>>,
}

impl<R: Row> Rows<R> {
    /// Reads the rows with these keys, as far as there are any.
    pub async fn load(
        keys: impl IntoIterator<Item = R::Key>,
        tx: &mut PgConnection,
    ) -> sqlx::Result<Self> {
        let mut after: BTreeMap<R::Key, Option<R>> =
            keys.into_iter().map(|key| (key, None)).collect();
        let mut before = BTreeMap::new();
        if !after.is_empty() {
            let keys: Vec<&R::Key> = after.keys().collect();
            let rows: Vec<Json<R>> = sqlx::query_scalar(R::LOAD)
                .bind(Json(keys))
                .fetch_all(tx)
                .await?;
            before.extend(rows.into_iter().map(|Json(row)| (row.key(), row)));
        }
        for (key, row) in &before {
            after.insert(key.clone(), Some(row.clone()));
        }
        Ok(Self { before, after })
    }

    /// The row of this key, to be changed, made or taken away.
    pub fn slot(&mut self, key: R::Key) -> &mut Option<R> {
        self.after.entry(key).or_default()
    }

    /// The row of this key, when it is there.
    pub fn get_mut(&mut self, key: R::Key) -> Option<&mut R> {
        self.slot(key).as_mut()
    }

    /// Every row that is there, to be changed.
    pub fn all_mut(&mut self) -> impl Iterator<Item = &mut R> {
        self.after.values_mut().flatten()
    }

    /// Takes away every row that is there and that `gone` says is gone.
    pub(crate) fn remove(&mut self, gone: impl Fn(&R) -> bool) {
        for slot in self.after.values_mut() {
            if slot.as_ref().is_some_and(&gone) {
                *slot = None;
            }
        }
    }

    /// Every touched row as it was and as it is.
    pub fn changes(&self) -> impl Iterator<Item = (Option<&R>, Option<&R>)> {
        self.after
            .iter()
            .map(|(key, row)| (self.before.get(key), row.as_ref()))
            .filter(|(was, is)| was != is)
    }

    /// Writes what changed, in the order of keys.
    pub async fn store(&self, tx: &mut PgConnection) -> sqlx::Result<()> {
        store(self.writes()?, tx).await
    }

    /// The statements that write what changed, each with its only parameter.
    pub(crate) fn writes(&self) -> sqlx::Result<Vec<Write>> {
        let written: Vec<&R> = self.changes().filter_map(|(_, is)| is).collect();
        let removed: Vec<R::Key> = self
            .changes()
            .filter(|(_, is)| is.is_none())
            .filter_map(|(was, _)| was.map(R::key))
            .collect();
        let mut writes = vec![];
        if !written.is_empty() {
            writes.push((R::STORE, json(&written)?));
        }
        if !removed.is_empty() {
            writes.push((R::REMOVE, json(&removed)?));
        }
        Ok(writes)
    }
}

/// A statement and its parameter `$1`.
pub(crate) type Write = (&'static str, Json<Box<RawValue>>);

fn json(rows: &impl Serialize) -> sqlx::Result<Json<Box<RawValue>>> {
    let json = to_raw_value(rows).map_err(|error| sqlx::Error::Encode(error.into()))?;
    Ok(Json(json))
}

/// Has all writes done in one round trip; no two of them are about the same row.
pub(crate) async fn store(writes: Vec<Write>, tx: &mut PgConnection) -> sqlx::Result<()> {
    let sql = match &writes[..] {
        [] => return Ok(()),
        [(one, _)] => (*one).to_owned(),
        _ => {
            let numbered = writes.iter().zip(1..);
            let each = numbered
                .map(|((sql, _), n)| format!("w{n} AS ({})", sql.replace("$1", &format!("${n}"))));
            format!("WITH {} SELECT", each.collect::<Vec<_>>().join(", "))
        }
    };
    let mut query = sqlx::query(AssertSqlSafe(sql));
    for (_, rows) in writes {
        query = query.bind(rows);
    }
    query.execute(tx).await?;
    Ok(())
}

/// A row that counts what rows of another table have, and is there as long as it counts something. Its key has the lane of those,
/// so that each lane moves its own part of the sum.
pub trait Tally: Row {
    /// The row of this key with this count.
    fn of(key: Self::Key, count: i64) -> Self;

    /// What it counts.
    fn count(&self) -> i64;
}

/// Moves tallies by what changed in `rows`: `parts` are the keys under which a row is counted.
pub async fn tally<T: Tally, R: Row, P: IntoIterator<Item = T::Key>>(
    rows: &Rows<R>,
    parts: impl Fn(&R) -> P,
    tx: &mut PgConnection,
) -> sqlx::Result<()> {
    let mut more: BTreeMap<T::Key, i64> = BTreeMap::new();
    for (was, is) in rows.changes() {
        let (was, is) = (was.map(|was| (was, -1)), is.map(|is| (is, 1)));
        for (row, one) in was.into_iter().chain(is) {
            for key in parts(row) {
                *more.entry(key).or_insert(0) += one;
            }
        }
    }
    more.retain(|_, more| *more != 0);
    let mut tallies = Rows::<T>::load(more.keys().cloned(), tx).await?;
    for (key, more) in more {
        let slot = tallies.slot(key.clone());
        let count = slot.as_ref().map_or(0, T::count) + more;
        *slot = (count > 0).then(|| T::of(key, count));
    }
    tallies.store(tx).await
}

/// Says how a struct is a table's [`Row`]: the fields of its key, the condition that the row `t` has the key `k`, and what to
/// do about a row that is there already.
#[macro_export]
macro_rules! row {
    ($row:ident in $table:literal, key ($($field:ident: $type:ty),+), $is:literal, $clash:literal) => {
        impl $crate::rows::Row for $row {
            type Key = ($($type,)+);
            // Key by key, whatever is thought of the table's size: a plan that was made for few rows is kept.
            const LOAD: &'static str = concat!(
                "SELECT to_jsonb(t) FROM jsonb_array_elements($1) k CROSS JOIN LATERAL (SELECT * FROM ", $table,
                " t WHERE ", $is, " OFFSET 0) t"
            );
            const STORE: &'static str = concat!(
                "INSERT INTO ", $table, " SELECT * FROM jsonb_populate_recordset(NULL::", $table, ", $1) ", $clash
            );
            const REMOVE: &'static str = concat!(
                "DELETE FROM ", $table, " WHERE ctid = ANY (ARRAY (SELECT t.ctid FROM jsonb_array_elements($1) k
                    CROSS JOIN LATERAL (SELECT ctid FROM ", $table, " t WHERE ", $is, " OFFSET 0) t))"
            );

            fn key(&self) -> Self::Key {
                ($(Clone::clone(&self.$field),)+)
            }
        }
    };
}
pub use row;
