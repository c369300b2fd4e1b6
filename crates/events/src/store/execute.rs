//! From a command to facts in the log: look the command up, read the streams, decide, seal, append.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::{PgConnection, Postgres, Transaction};
use uuid::Uuid;

use super::append::{self, Expected, MAX_ENVELOPE_BYTES, NewFact, Prepared, Verdict, Write};
use super::{ExecuteError, Log, StreamRow};
use crate::decide::{self, Refusal, State};
use crate::envelope::{Meta, Recorded};
use crate::fact::Fact;
use crate::id::{CommandId, EventId, Lane, Position, StreamKey};
use crate::seal::{self, Personal};

/// How often a command is decided anew when others change the same streams.
const MAX_TRIES: usize = 16;
/// Why a text is refused that Postgres could not hold.
const NUL: &str = "a text holds the character NUL";
/// What an envelope takes besides payload, meta, stream and subject, as Kafka headers; generously.
const HEADER_BYTES: usize = 1024;

/// A wish to change something, with a name so that asking again changes nothing.
#[derive(Clone, Debug)]
pub struct Command {
    /// Its name.
    pub id: CommandId,
    /// Hash of what is asked: the same id with another hash is refused.
    pub body_hash: [u8; 32],
    /// Groups everything that came from one request.
    pub correlation: Option<String>,
    /// The fact that led to this command.
    pub cause: Option<Uuid>,
}

/// A fact that a decider wants in a stream.
#[derive(Clone, Debug, PartialEq)]
pub struct Emit {
    /// The stream.
    pub stream: StreamKey,
    /// The fact.
    pub fact: Fact,
}

impl Emit {
    /// All of `facts` into one stream.
    pub fn all(stream: &StreamKey, facts: Vec<Fact>) -> Vec<Self> {
        facts
            .into_iter()
            .map(|fact| Self {
                stream: stream.clone(),
                fact,
            })
            .collect()
    }
}

/// The streams that a command asked for, as they stand.
#[derive(Clone, Debug, Default)]
pub struct Streams(HashMap<String, StreamRow>);

impl Streams {
    /// The state of a stream; of one in which nothing happened, the state before everything.
    pub fn get<S: State>(&self, key: &StreamKey) -> S {
        self.0
            .get(&key.stream)
            .map(StreamRow::state)
            .unwrap_or_default()
    }

    /// The stream's row, when anything happened in it.
    pub fn row(&self, key: &StreamKey) -> Option<&StreamRow> {
        self.0.get(&key.stream)
    }
}

/// What came of a command that was accepted.
#[derive(Clone, Debug, PartialEq)]
pub struct Accepted {
    /// Its facts, in order, readable; none when nothing had to change.
    pub facts: Vec<Recorded>,
    /// Whether it had been accepted before.
    pub repeated: bool,
}

impl Accepted {
    /// The last of its facts: a reader that has seen it has seen them all.
    pub fn last(&self) -> Option<&Recorded> {
        self.facts.last()
    }
}

struct Looked {
    streams: Streams,
    /// Positions and body hash of an earlier acceptance.
    accepted: Option<(Position, Position, Vec<u8>)>,
}

impl Log {
    /// Decides `command` over `streams` and appends what the decider wants; again, when others were faster. Streams
    /// that get facts must stand as they were read; the others are read without a lock.
    pub async fn execute<D>(
        &self,
        command: &Command,
        streams: &[StreamKey],
        mut decide: D,
    ) -> Result<Accepted, ExecuteError>
    where
        D: FnMut(&Streams) -> Result<Vec<Emit>, Refusal> + Send,
    {
        for _ in 0..MAX_TRIES {
            let mut connection = self.pool.acquire().await?;
            let looked = look(&mut connection, &command.id, streams).await?;
            if let Some((first, last, hash)) = looked.accepted {
                drop(connection);
                return self.accepted_before(command, first, last, &hash).await;
            }
            let emits = decide(&looked.streams)?;
            if emits.is_empty() {
                return Ok(Accepted {
                    facts: vec![],
                    repeated: false,
                });
            }
            let draft = self
                .draft(&mut connection, command, &looked.streams, emits)
                .await?;
            drop(connection);
            match self.writer.submit(draft.prepared).await? {
                Verdict::Accepted { first, at } => return Ok(recorded(draft.facts, first, at)),
                Verdict::Repeated { first, last } => {
                    return Ok(Accepted {
                        facts: self.between(first, last).await?,
                        repeated: true,
                    });
                }
                Verdict::KeyReused => return Err(ExecuteError::KeyReused),
                Verdict::SubjectDiffers => {
                    return Err(Refusal::WrongState("the stream has another subject").into());
                }
                Verdict::Conflict => {}
            }
        }
        Err(ExecuteError::Contended)
    }

    /// Like [`Log::execute`], but inside the caller's transaction, which it commits: the facts are in the log if and
    /// only if the caller's rows are. Holds the log's lock until the commit, so keep it to cold paths. A conflict with
    /// another writer is [`ExecuteError::Contended`], and the transaction is rolled back.
    pub async fn append_in<D>(
        &self,
        mut tx: Transaction<'static, Postgres>,
        command: &Command,
        streams: &[StreamKey],
        decide: D,
    ) -> Result<Accepted, ExecuteError>
    where
        D: FnOnce(&Streams) -> Result<Vec<Emit>, Refusal> + Send,
    {
        let looked = look(&mut tx, &command.id, streams).await?;
        if let Some((first, last, hash)) = looked.accepted {
            tx.commit().await?;
            return self.accepted_before(command, first, last, &hash).await;
        }
        let emits = decide(&looked.streams)?;
        if emits.is_empty() {
            tx.commit().await?;
            return Ok(Accepted {
                facts: vec![],
                repeated: false,
            });
        }
        let draft = self.draft(&mut tx, command, &looked.streams, emits).await?;
        match append::append(
            &mut tx,
            std::slice::from_ref(&draft.prepared),
            Position::START,
        )
        .await?[..]
        {
            [Verdict::Accepted { first, at }] => {
                tx.commit().await?;
                Ok(recorded(draft.facts, first, at))
            }
            [Verdict::KeyReused] => Err(ExecuteError::KeyReused),
            // Judged against what another writer committed meanwhile: the caller's rows must be thought over too.
            _ => Err(ExecuteError::Contended),
        }
    }

    async fn accepted_before(
        &self,
        command: &Command,
        first: Position,
        last: Position,
        hash: &[u8],
    ) -> Result<Accepted, ExecuteError> {
        if hash != command.body_hash {
            return Err(ExecuteError::KeyReused);
        }
        Ok(Accepted {
            facts: self.between(first, last).await?,
            repeated: true,
        })
    }

    /// Names, folds, seals and measures what the decider wants.
    async fn draft(
        &self,
        connection: &mut PgConnection,
        command: &Command,
        streams: &Streams,
        emits: Vec<Emit>,
    ) -> Result<Draft, ExecuteError> {
        let tenant = command.id.tenant;
        let meta = Meta {
            actor: command.id.actor,
            command: command.id.key.clone(),
            correlation: command.correlation.clone(),
            cause: command.cause,
        };
        let meta_text = serde_json::to_string(&meta).map_err(|error| unrepresentable(&error))?;
        let mut draft = Draft {
            prepared: Prepared {
                id: command.id.clone(),
                body_hash: command.body_hash,
                writes: vec![],
                facts: Vec::with_capacity(emits.len()),
            },
            facts: Vec::with_capacity(emits.len()),
        };
        let mut states: Vec<Value> = vec![];
        for Emit { stream, mut fact } in emits {
            let event_id = EventId(Uuid::now_v7());
            let write = draft.place(command, &stream, streams, &mut states);
            states[write] = decide::fold(
                &stream.stream,
                std::mem::take(&mut states[write]),
                event_id,
                &fact,
            );
            draft.record(command, write, &meta, event_id, fact.clone());
            // Sealed, it would pass every later check and then stop the read models.
            let nul = |(_, text): &(_, &mut Personal)| {
                text.text().is_some_and(|text| text.contains('\0'))
            };
            if fact.personal().iter().any(nul) {
                return Err(ExecuteError::Unrepresentable(NUL.to_owned()));
            }
            if !fact.personal().is_empty() {
                let key = self
                    .keys
                    .for_writing(connection, tenant, command.id.actor)
                    .await?;
                seal::seal(&mut fact, event_id, &key);
            }
            let payload = fact.to_payload().map_err(|error| unrepresentable(&error))?;
            check(&payload, &meta_text, &stream)?;
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
        for (write, state) in draft.prepared.writes.iter_mut().zip(states) {
            write.state = Some(state.to_string());
        }
        Ok(draft)
    }
}

/// A command on its way into the log, and its facts as they will be read.
struct Draft {
    prepared: Prepared,
    facts: Vec<Recorded>,
}

impl Draft {
    /// The index of `stream` among the writes, added with its state when it is new.
    fn place(
        &mut self,
        command: &Command,
        stream: &StreamKey,
        streams: &Streams,
        states: &mut Vec<Value>,
    ) -> usize {
        let writes = &mut self.prepared.writes;
        if let Some(place) = writes.iter().position(|write| write.key == *stream) {
            return place;
        }
        let row = streams.row(stream);
        writes.push(Write {
            key: stream.clone(),
            lane: Lane::of(command.id.tenant, &stream.subject),
            expected: Expected::version(row.map_or(0, |row| row.version)),
            state: None,
        });
        states.push(row.map_or(Value::Null, |row| row.state.clone()));
        writes.len() - 1
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
        let before = match place.expected {
            Expected::Exact(version) => version,
            Expected::Any | Expected::NoStream => 0,
        };
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
            version: before + i64::try_from(earlier).unwrap_or(i64::MAX) + 1,
            subject: place.key.subject.clone(),
            meta: meta.clone(),
            event_id,
            recorded_at: DateTime::UNIX_EPOCH,
            fact,
        });
    }
}

/// Gives the facts the place that the log gave them.
fn recorded(mut facts: Vec<Recorded>, first: Position, at: DateTime<Utc>) -> Accepted {
    let mut position = first;
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

fn unrepresentable(error: &serde_json::Error) -> ExecuteError {
    ExecuteError::Unrepresentable(error.to_string())
}

/// Refuses before the log what the log or Kafka could not take.
fn check(payload: &str, meta: &str, stream: &StreamKey) -> Result<(), ExecuteError> {
    let bytes =
        payload.len() + meta.len() + stream.stream.len() + stream.subject.len() + HEADER_BYTES;
    if bytes > MAX_ENVELOPE_BYTES {
        return Err(ExecuteError::TooLarge {
            bytes,
            limit: MAX_ENVELOPE_BYTES,
        });
    }
    if has_nul(payload) || has_nul(meta) {
        return Err(ExecuteError::Unrepresentable(NUL.to_owned()));
    }
    Ok(())
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

/// The command's earlier acceptance, if any, and the streams, in one round trip and one snapshot.
async fn look(
    connection: &mut PgConnection,
    id: &CommandId,
    streams: &[StreamKey],
) -> Result<Looked, sqlx::Error> {
    type Row = (
        Option<String>,
        Option<String>,
        Option<i64>,
        Option<Value>,
        Option<i64>,
        Option<i64>,
        Option<Vec<u8>>,
    );
    let names: Vec<&str> = streams.iter().map(|key| key.stream.as_str()).collect();
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT t.stream_id, t.subject, t.version, t.state, c.first_position, c.last_position, c.body_hash
         FROM (SELECT) one
         LEFT JOIN log.commands c ON c.tenant = $1 AND c.actor = $2 AND c.route = $3 AND c.key = $4
         LEFT JOIN log.streams t ON t.tenant = $1 AND t.stream_id = ANY ($5)",
    )
    .bind(id.tenant)
    .bind(id.actor)
    .bind(&id.route)
    .bind(&id.key)
    .bind(names)
    .fetch_all(connection)
    .await?;
    let accepted = rows
        .first()
        .and_then(|row| Some((Position(row.4?), Position(row.5?), row.6.clone()?)));
    let streams = rows
        .into_iter()
        .filter_map(|(stream, subject, version, state, ..)| {
            Some((
                stream?,
                StreamRow {
                    subject: subject?,
                    version: version?,
                    state: state?,
                },
            ))
        });
    Ok(Looked {
        streams: Streams(streams.collect()),
        accepted,
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
