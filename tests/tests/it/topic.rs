//! The topic as another system reads it, against the log in Postgres.

use std::collections::BTreeMap;
use std::time::Duration;

use sqlx::PgPool;
use testing::kafka::{self, Record};
use testing::wait;

const LIMIT: Duration = Duration::from_mins(1);

/// A fact in the log: partition, id, type, key and value that its record must have.
type Wanted = (i16, String, String, String, String);

/// Waits until the topic `PREFIX.facts` holds as many records as the log holds facts, then compares: every position
/// from 1 to the head once, in the partition that is its lane, with the id, type, subject and text that Postgres has,
/// in each partition in the order of the log. Returns the records.
pub(crate) async fn equals_the_log(prefix: &str, owner: &PgPool) -> Vec<Record> {
    at_equals_the_log(&kafka::brokers(), prefix, owner).await
}

/// The same, of these brokers.
pub(crate) async fn at_equals_the_log(brokers: &str, prefix: &str, owner: &PgPool) -> Vec<Record> {
    let wanted: Vec<(i64, i16, String, String, String, String)> = sqlx::query_as(
        "SELECT position, lane, event_id::text, type, subject, payload::text FROM log.events ORDER BY position",
    )
    .fetch_all(owner)
    .await
    .unwrap();
    let head = i64::try_from(wanted.len()).unwrap();
    let wanted: BTreeMap<i64, Wanted> = wanted
        .into_iter()
        .map(|(position, lane, id, fact_type, subject, payload)| {
            (position, (lane, id, fact_type, subject, payload))
        })
        .collect();
    assert!(
        head > 0 && wanted.keys().copied().eq(1..=head),
        "positions in Postgres are dense"
    );

    let topic = format!("{prefix}.facts");
    let records = wait::until(LIMIT, "everything is in the topic", async || {
        let records = kafka::read_committed_at(brokers, &topic).await;
        (records.len() >= wanted.len()).then_some(records)
    })
    .await;

    let mut found: BTreeMap<i64, Wanted> = BTreeMap::new();
    let mut last: BTreeMap<i32, i64> = BTreeMap::new();
    for record in &records {
        let header = |name: &str| {
            record
                .header(name)
                .unwrap_or_else(|| panic!("no {name} in {record:?}"))
                .to_owned()
        };
        let position: i64 = header("ce_position").parse().unwrap();
        let before = last.insert(record.partition, position);
        assert!(
            before < Some(position),
            "partition {}: {position} after {before:?}",
            record.partition
        );
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let fact = (
            i16::try_from(record.partition).unwrap(),
            header("ce_id"),
            header("ce_type"),
            text(record.key.as_deref().unwrap_or_default()),
            text(&record.payload),
        );
        let twice = found.insert(position, fact);
        assert!(twice.is_none(), "position {position} is there twice");
    }
    assert_eq!(found, wanted);
    records
}
