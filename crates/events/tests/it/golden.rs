//! A stored payload of every version that ever was, and what it reads as today. `docs/event-evolution.md` says how to add
//! one; none is ever changed or taken away.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use events::envelope::{Meta, Recorded, Sealed};
use events::fact::Fact;
use events::id::{EventId, Lane, Position, TenantId, UserId};
use events::seal::{self, Key, Personal};
use events::upcast;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use testing::environment;
use uuid::Uuid;

use crate::schemas;

/// What a file of the corpus holds.
#[derive(Serialize, Deserialize)]
struct Golden {
    /// As the log has it. In a new file a personal field is `{"clear": "text"}`, which `make docs` seals once.
    stored: Value,
    /// As it reads; filled in by `make docs`.
    #[serde(default)]
    reads: Option<Reading>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Reading {
    /// The newest version.
    version: i16,
    /// The payload in that version, personal fields as stored.
    payload: Value,
    /// The personal fields' texts.
    #[serde(default)]
    personal: BTreeMap<String, String>,
}

/// The person's key and the event of every payload of the corpus.
fn key() -> Key {
    Key::from_bytes([7; 32])
}

const EVENT: EventId = EventId(Uuid::from_u128(0xC0_4F05));

fn folder() -> PathBuf {
    environment::root().join("crates/events/tests/golden")
}

/// Type, version and what the corpus has of them.
fn corpus() -> Vec<(&'static str, i16, PathBuf)> {
    let path = |t: &str, v: i16| folder().join(format!("{t}.v{v}.json"));
    let all = Fact::schemas().into_iter();
    all.map(|(t, v, _)| (t, v, path(t, v))).collect()
}

fn read(fact_type: &str, version: i16, payload: &Value) -> Recorded {
    let stored = Sealed {
        position: Position(1),
        lane: Lane::new(0).unwrap(),
        tenant: TenantId(Uuid::from_u128(1)),
        stream: "s-1".to_owned(),
        version: 1,
        subject: "s-1".to_owned(),
        fact_type: fact_type.to_owned(),
        schema_version: version,
        payload: payload.to_string(),
        meta: Meta {
            actor: UserId(Uuid::from_u128(2)),
            command: "c".to_owned(),
            correlation: None,
            cause: None,
        },
        event_id: EVENT,
        recorded_at: chrono::DateTime::UNIX_EPOCH,
    };
    upcast::read(stored, Some(&key())).unwrap_or_else(|error| panic!("{error}"))
}

fn reading(fact_type: &str, version: i16, payload: &Value) -> Reading {
    let mut fact = read(fact_type, version, payload).fact;
    let open = |(field, personal): (&'static str, &mut Personal)| {
        (field.to_owned(), personal.text().unwrap().to_owned())
    };
    let sealed = upcast::decode(fact_type, version, &payload.to_string()).unwrap();
    Reading {
        version: fact.schema_version(),
        payload: serde_json::from_str(&sealed.to_payload().unwrap()).unwrap(),
        personal: fact.personal().into_iter().map(open).collect(),
    }
}

/// The payload with every `{"clear": text}` sealed.
fn sealed(fact_type: &str, version: i16, mut stored: Value) -> Value {
    let mut clear = BTreeMap::new();
    for (field, value) in stored.as_object_mut().unwrap() {
        if let Some(text) = value.get("clear").and_then(Value::as_str) {
            clear.insert(field.clone(), text.to_owned());
            // Long enough to pass for a ciphertext.
            *value = serde_json::json!({"sealed": "A".repeat(64)});
        }
    }
    if clear.is_empty() {
        return stored;
    }
    let mut fact = upcast::decode(fact_type, version, &stored.to_string()).unwrap();
    for (field, personal) in fact.personal() {
        if let Some(text) = clear.remove(field) {
            *personal = Personal::Clear(text);
        }
    }
    seal::seal(&mut fact, EVENT, &key());
    serde_json::from_str(&fact.to_payload().unwrap()).unwrap()
}

/// Whether `all` says at least what `part` says. To a reader, null and absent are the same.
fn says(all: &Value, part: &Value) -> bool {
    match (all, part) {
        (Value::Object(all), Value::Object(part)) => part
            .iter()
            .all(|(key, part)| says(all.get(key).unwrap_or(&Value::Null), part)),
        (all, part) => all == part,
    }
}

fn same(a: &Reading, b: &Reading) -> bool {
    let payloads = says(&a.payload, &b.payload) && says(&b.payload, &a.payload);
    payloads && (a.version, &a.personal) == (b.version, &b.personal)
}

/// Whether `make docs` may write `now` where `before` was: a newer version, or the same with fields added.
fn may_follow(now: &Reading, before: &Reading) -> bool {
    now.version > before.version
        || (now.personal == before.personal && says(&now.payload, &before.payload))
}

#[test]
fn every_stored_payload_gives_its_recorded_reading_generated_where_there_is_none() {
    let update = environment::optional("UPDATE").is_some();
    let mut complaints = vec![];
    for (fact_type, version, path) in corpus() {
        let name = format!("{fact_type}.v{version}.json");
        let Ok(text) = fs::read_to_string(&path) else {
            complaints.push(format!(
                "{name} has no stored payload: add crates/events/tests/golden/{name}, see docs/event-evolution.md"
            ));
            continue;
        };
        let mut golden: Golden = serde_json::from_str(&text).unwrap();
        if update && golden.reads.is_none() {
            golden.stored = sealed(fact_type, version, golden.stored);
        }
        let now = reading(fact_type, version, &golden.stored);
        match &golden.reads {
            Some(before) if same(before, &now) => {}
            Some(before) if !may_follow(&now, before) => complaints.push(format!(
                "{name} was read as {before:?} and is now read as {now:?}: put back what read it before"
            )),
            _ if update => {
                golden.reads = Some(now);
                let text = serde_json::to_string_pretty(&golden).unwrap();
                fs::write(&path, format!("{text}\n")).unwrap();
            }
            _ => complaints.push(format!(
                "{name} reads as a newer version, or as more, than recorded: run `make docs`, and look at the difference"
            )),
        }
    }
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

#[test]
fn stored_payloads_and_their_readings_are_what_the_schemas_say() {
    let schemas: BTreeMap<String, Value> = schemas::generated().into_iter().collect();
    for (fact_type, version, path) in corpus() {
        let golden: Golden = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
        let reads = golden.reads.unwrap();
        for (version, payload) in [(version, &golden.stored), (reads.version, &reads.payload)] {
            let schema = &schemas[&format!("{fact_type}.v{version}.json")];
            let valid = jsonschema::validate(schema, payload);
            assert!(valid.is_ok(), "{fact_type} v{version}: {valid:?}");
        }
    }
}

#[test]
fn the_corpus_holds_nothing_else() {
    let wanted: BTreeSet<_> = corpus().into_iter().map(|(.., path)| path).collect();
    let there: BTreeSet<_> = fs::read_dir(folder())
        .unwrap()
        .map(|entry| folder().join(entry.unwrap().file_name()))
        .collect();
    assert_eq!(there, wanted);
}
