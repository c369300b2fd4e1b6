//! A decided command on its way into the log: facts named, folded into their streams' states, sealed and measured.

use std::io::{self, Write};

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use serde_json::ser::Formatter;
use uuid::Uuid;

use super::append::{self, MAX_ENVELOPE_BYTES, NewFact, Prepared};
use super::execute::{Accepted, Command, Emit, Streams};
use super::known::Left;
use super::{ExecuteError, LogError};
use crate::decide::{self, Refusal};
use crate::envelope::{Meta, Recorded, Sealed};
use crate::fact::Fact;
use crate::id::{EventId, Lane, Position, StreamKey};
use crate::seal::{self, Key, Personal};

/// Why a text is refused that Postgres could not hold.
const NUL: &str = "a text holds the character NUL";
/// Facts whose texts take less than this are not measured: there is room for what comes with them.
const SMALL: usize = MAX_ENVELOPE_BYTES / 16;

/// A command on its way into the log, and its facts as they will be read.
pub(super) struct Draft {
    pub(super) prepared: Prepared,
    facts: Vec<Recorded>,
    /// What each stream's facts amount to, in the order of the writes.
    states: Vec<Value>,
}

impl Draft {
    /// Names, folds, seals and measures `emits`, decided over `streams`. `key` is the actor's; needed where a fact has
    /// personal fields.
    pub(super) fn new(
        command: &Command,
        streams: &Streams,
        emits: Vec<Emit>,
        key: Option<&Key>,
    ) -> Result<Self, ExecuteError> {
        let meta = Meta {
            actor: command.id.actor,
            command: command.id.key.clone(),
            correlation: command.correlation.clone(),
            cause: command.cause,
        };
        let meta_text = serde_json::to_string(&meta).map_err(|error| unrepresentable(&error))?;
        let mut draft = Self {
            prepared: Prepared {
                tenant: command.id.tenant,
                id: command.id.hash(),
                body_hash: command.body_hash,
                epoch: streams.epoch,
                writes: vec![],
                facts: Vec::with_capacity(emits.len()),
            },
            facts: Vec::with_capacity(emits.len()),
            states: vec![],
        };
        for Emit { stream, mut fact } in emits {
            let event_id = EventId(Uuid::now_v7());
            let write = draft.place(command, &stream, streams)?;
            let before = std::mem::take(&mut draft.states[write]);
            draft.states[write] = decide::fold(&stream.stream, before, event_id, &fact)
                .map_err(|source| LogError::state(&stream.stream, source))?;
            draft.record(command, write, &meta, event_id, fact.clone());
            seal_in(&mut fact, event_id, key)?;
            let payload = fact.to_payload().map_err(|error| unrepresentable(&error))?;
            if has_nul(&payload) || has_nul(&meta_text) {
                return Err(ExecuteError::Unrepresentable(NUL.to_owned()));
            }
            if payload.len() + meta_text.len() + stream.stream.len() + stream.subject.len() > SMALL
            {
                let recorded = draft.facts.last().expect("it was recorded above");
                measure(recorded, &payload)?;
            }
            let (fact_type, schema_version) = (fact.fact_type(), fact.schema_version());
            let meta = meta_text.clone();
            draft.prepared.facts.push(NewFact {
                write,
                fact_type,
                schema_version,
                payload,
                meta,
                event_id,
            });
        }
        for (write, state) in draft.prepared.writes.iter_mut().zip(&draft.states) {
            write.state = Some(state.to_string().into());
        }
        Ok(draft)
    }

    /// The streams as they stand once the command is accepted.
    pub(super) fn left(&self) -> Vec<Left> {
        let writes = self.prepared.writes.iter();
        let mut left: Vec<_> = writes
            .map(|write| Left {
                stream: write.key.stream.clone(),
                subject: write.key.subject.clone(),
                version: write.version,
                state: write.state.clone().unwrap_or_default(),
            })
            .collect();
        for fact in &self.prepared.facts {
            left[fact.write].version += 1;
        }
        left
    }

    /// What the writer needs; the rest stays until the verdict is there.
    pub(super) fn take(&mut self) -> Prepared {
        Prepared {
            tenant: self.prepared.tenant,
            id: self.prepared.id,
            body_hash: self.prepared.body_hash,
            epoch: self.prepared.epoch,
            writes: std::mem::take(&mut self.prepared.writes),
            facts: std::mem::take(&mut self.prepared.facts),
        }
    }

    /// Gives the facts the place that the log gave them.
    pub(super) fn recorded(self, first: Position, at: DateTime<Utc>) -> Accepted {
        let (mut facts, mut position) = (self.facts, first);
        for fact in &mut facts {
            fact.position = position;
            fact.recorded_at = at;
            position = position.next();
        }
        Accepted {
            facts,
            repeated: false,
        }
    }

    /// The index of `stream` among the writes, added with its state when it is new.
    fn place(
        &mut self,
        command: &Command,
        stream: &StreamKey,
        streams: &Streams,
    ) -> Result<usize, ExecuteError> {
        let writes = &mut self.prepared.writes;
        if let Some(place) = writes.iter().position(|w| w.key.stream == stream.stream) {
            if writes[place].key.subject != stream.subject {
                return Err(Refusal::WrongState("the stream has another subject").into());
            }
            return Ok(place);
        }
        let row = streams.row(stream);
        writes.push(append::Write {
            key: stream.clone(),
            lane: Lane::of(command.id.tenant, &stream.subject),
            version: row.map_or(0, |row| row.version),
            state: None,
        });
        self.states
            .push(row.map_or(Value::Null, |row| row.state.clone()));
        Ok(writes.len() - 1)
    }

    fn record(
        &mut self,
        command: &Command,
        write: usize,
        meta: &Meta,
        event_id: EventId,
        fact: Fact,
    ) {
        let place = &self.prepared.writes[write];
        let earlier = self
            .prepared
            .facts
            .iter()
            .filter(|fact| fact.write == write)
            .count();
        self.facts.push(Recorded {
            position: Position::START,
            lane: place.lane,
            tenant: command.id.tenant,
            stream: place.key.stream.clone(),
            version: place.version + i64::try_from(earlier).unwrap_or(i64::MAX) + 1,
            subject: place.key.subject.clone(),
            meta: meta.clone(),
            event_id,
            recorded_at: DateTime::UNIX_EPOCH,
            fact,
        });
    }
}

fn seal_in(fact: &mut Fact, event_id: EventId, key: Option<&Key>) -> Result<(), ExecuteError> {
    // Sealed, it would pass every later check and then stop the read models.
    let nul = |(_, text): &(_, &mut Personal)| text.text().is_some_and(|text| text.contains('\0'));
    if fact.personal().iter().any(nul) {
        return Err(ExecuteError::Unrepresentable(NUL.to_owned()));
    }
    if let Some(key) = key {
        seal::seal(fact, event_id, key);
    }
    Ok(())
}

fn unrepresentable(error: &serde_json::Error) -> ExecuteError {
    ExecuteError::Unrepresentable(error.to_string())
}

/// Refuses before the log what would be too large for Kafka, however high its position.
fn measure(recorded: &Recorded, payload: &str) -> Result<(), ExecuteError> {
    let sealed = Sealed {
        position: Position::END,
        lane: recorded.lane,
        tenant: recorded.tenant,
        stream: recorded.stream.clone(),
        version: recorded.version,
        subject: recorded.subject.clone(),
        fact_type: recorded.fact.fact_type().to_owned(),
        schema_version: recorded.fact.schema_version(),
        payload: stored(payload).map_err(|error| unrepresentable(&error))?,
        meta: recorded.meta.clone(),
        event_id: recorded.event_id,
        recorded_at: DateTime::from_timestamp_nanos(1_000),
    };
    let (bytes, limit) = (sealed.encoded_bytes(), MAX_ENVELOPE_BYTES);
    if bytes > limit {
        return Err(ExecuteError::TooLarge { bytes, limit });
    }
    Ok(())
}

/// JSON text as jsonb gives it back: a space behind colons and commas, numbers in plain digits.
fn stored(json: &str) -> Result<String, serde_json::Error> {
    struct AsStored;
    impl Formatter for AsStored {
        fn begin_array_value<W: ?Sized + Write>(
            &mut self,
            out: &mut W,
            first: bool,
        ) -> io::Result<()> {
            out.write_all(if first { b"" } else { b", " })
        }
        fn begin_object_key<W: ?Sized + Write>(
            &mut self,
            out: &mut W,
            first: bool,
        ) -> io::Result<()> {
            out.write_all(if first { b"" } else { b", " })
        }
        fn begin_object_value<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
            out.write_all(b": ")
        }
        fn write_f64<W: ?Sized + Write>(&mut self, out: &mut W, value: f64) -> io::Result<()> {
            // With a fraction, as it was written, but never with an exponent.
            let point = if value.fract() == 0.0 && value.abs() < 1e16 {
                ".0"
            } else {
                ""
            };
            write!(out, "{value}{point}")
        }
    }
    let value: Value = serde_json::from_str(json)?;
    let mut out = Vec::with_capacity(json.len());
    value.serialize(&mut serde_json::Serializer::with_formatter(
        &mut out, AsStored,
    ))?;
    Ok(String::from_utf8(out).expect("JSON text is UTF-8"))
}

/// Whether JSON text holds an escaped NUL, which jsonb does not take: `\u0000` behind an even number of backslashes.
fn has_nul(json: &str) -> bool {
    json.match_indices("\\u0000").any(|(at, _)| {
        let backslashes = json.as_bytes()[..at]
            .iter()
            .rev()
            .take_while(|b| **b == b'\\')
            .count();
        backslashes % 2 == 0
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_escaped_nul_is_told_from_an_escaped_backslash() {
        let nul = serde_json::to_string("a\0b").unwrap();
        let text = serde_json::to_string("a\\u0000b").unwrap();
        assert!(has_nul(&nul));
        assert!(!has_nul(&text));
        assert!(has_nul(&serde_json::to_string("\\\0").unwrap()));
    }
}
