//! From a command to facts in the log: look the command up, read the streams, decide, seal, append.

use std::collections::HashMap;

use sqlx::{Postgres, Transaction};
use uuid::Uuid;

use super::append::{Expected, Verdict};
use super::draft::Draft;
use super::failure::Failure;
use super::judge::Heads;
use super::known::Epoch;
use super::look::{Wanted, find};
use super::{ExecuteError, Log, StreamRow, batch};
use crate::decide::{Refusal, State};
use crate::envelope::Recorded;
use crate::fact::Fact;
use crate::id::{CommandId, Position, StreamKey, TenantId, UserId};
use crate::seal::Key;

/// How often a command is decided anew when others change the same streams.
const MAX_TRIES: usize = 16;
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

/// A command, the streams that it is decided over, and how.
#[derive(Debug)]
pub struct Undecided<'a, D> {
    /// The command.
    pub command: &'a Command,
    /// The streams.
    pub streams: &'a [StreamKey],
    /// What it does to them.
    pub decide: D,
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

/// Facts for a stream, on condition of where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Append {
    /// The stream.
    pub stream: StreamKey,
    /// Where it must stand.
    pub expected: Expected,
    /// The facts, in order.
    pub facts: Vec<Fact>,
}

/// The streams that a command asked for, as they stand.
#[derive(Clone, Debug, Default)]
pub struct Streams {
    pub(super) rows: HashMap<String, StreamRow>,
    /// When they were read, at the earliest.
    pub(super) epoch: Epoch,
}

impl Streams {
    /// None, as of `epoch`.
    pub(super) fn none(epoch: Epoch) -> Self {
        Self {
            rows: HashMap::new(),
            epoch,
        }
    }

    /// The state of a stream; of one in which nothing happened, the state before everything.
    pub fn get<S: State>(&self, key: &StreamKey) -> S {
        self.rows
            .get(&key.stream)
            .map(StreamRow::state)
            .unwrap_or_default()
    }

    /// The stream's row, when anything happened in it.
    pub fn row(&self, key: &StreamKey) -> Option<&StreamRow> {
        self.rows.get(&key.stream)
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
    fn nothing() -> Self {
        Self {
            facts: vec![],
            repeated: false,
        }
    }

    /// The last of its facts. Facts in other lanes may reach a reader after it.
    pub fn last(&self) -> Option<&Recorded> {
        self.facts.last()
    }
}

enum Submitted {
    Accepted(Accepted),
    /// A stream was not as it was read; which one, if it is known, and its version.
    Conflict(Option<(String, i64)>),
}

enum Looked {
    Before(Accepted),
    Now(Streams),
}

/// Whether the log will judge all that was decided over: each stream that was looked at gets facts, and so its version is
/// checked. Only then may it have been a remembered one.
fn judged_by_the_log(emits: &Result<Vec<Emit>, Refusal>, streams: &[StreamKey]) -> bool {
    let gets_facts = |emits: &[Emit], key: &StreamKey| emits.iter().any(|e| e.stream == *key);
    emits
        .as_ref()
        .is_ok_and(|emits| !emits.is_empty() && streams.iter().all(|key| gets_facts(emits, key)))
}

/// The first stream that does not stand as expected.
fn differs(known: &Streams, streams: &[StreamKey], expected: &[Expected]) -> Option<ExecuteError> {
    streams.iter().zip(expected).find_map(|(key, expected)| {
        let actual = known.row(key).map_or(0, |row| row.version);
        conflict(key, *expected, actual)
    })
}

/// Why a stream of version `actual` is not as expected.
fn conflict(key: &StreamKey, expected: Expected, actual: i64) -> Option<ExecuteError> {
    (!expected.meets(actual)).then(|| ExecuteError::Conflict {
        stream: key.stream.clone(),
        expected,
        actual,
    })
}

fn personal(emits: &[Emit]) -> bool {
    emits.iter().any(|emit| emit.fact.has_personal())
}

impl Log {
    /// Decides `command` over `streams` and appends what the decider wants; again, when others were faster. Streams
    /// that get facts must stand as they were read; the others are read without a lock.
    ///
    /// A caller that stops waiting does not stop the command: repeating its id tells what became of it.
    pub async fn execute<D>(
        &self,
        command: &Command,
        streams: &[StreamKey],
        mut decide: D,
    ) -> Result<Accepted, ExecuteError>
    where
        D: FnMut(&Streams) -> Result<Vec<Emit>, Refusal> + Send,
    {
        let tenant = command.id.tenant;
        let mut remembered = self.known.all(tenant, streams).await;
        for _ in 0..MAX_TRIES {
            let (known, emits) = match remembered.take() {
                Some(known) => {
                    let emits = decide(&known);
                    if !judged_by_the_log(&emits, streams) {
                        continue;
                    }
                    (known, emits?)
                }
                None => match self.look(command, streams).await? {
                    Looked::Before(accepted) => return Ok(accepted),
                    Looked::Now(known) => {
                        let emits = decide(&known)?;
                        (known, emits)
                    }
                },
            };
            if emits.is_empty() {
                return Ok(Accepted::nothing());
            }
            let key = self.writing_key(command, &emits).await?;
            let draft = Draft::new(command, &known, emits, key.as_ref())?;
            match self.submit(command, draft).await? {
                Submitted::Accepted(accepted) => return Ok(accepted),
                Submitted::Conflict(_) => self.known.forget(tenant, streams).await,
            }
        }
        Err(ExecuteError::Contended)
    }

    /// Appends facts to streams that stand as expected, all of them or none; each stream must get one at least. What the
    /// facts say is not decided over: that is the caller's.
    pub async fn append(
        &self,
        command: &Command,
        appends: Vec<Append>,
    ) -> Result<Accepted, ExecuteError> {
        if appends.is_empty() || appends.iter().any(|append| append.facts.is_empty()) {
            return Err(ExecuteError::Unrepresentable(
                "every stream of an append needs a fact".to_owned(),
            ));
        }
        let streams: Vec<StreamKey> = appends.iter().map(|a| a.stream.clone()).collect();
        let expected: Vec<Expected> = appends.iter().map(|a| a.expected).collect();
        let new = expected.iter().all(|e| *e == Expected::NoStream);
        let mut emits = vec![];
        for append in appends {
            emits.extend(Emit::all(&append.stream, append.facts));
        }
        // Of a stream that must not be there, nothing needs to be known.
        let mut remembered = if new {
            Some(Streams::none(self.known.epoch()))
        } else {
            self.known.all(command.id.tenant, &streams).await
        };
        for _ in 0..MAX_TRIES {
            let known = match remembered.take() {
                Some(known) if differs(&known, &streams, &expected).is_none() => known,
                _ => match self.look(command, &streams).await? {
                    Looked::Before(accepted) => return Ok(accepted),
                    Looked::Now(known) => known,
                },
            };
            if let Some(conflict) = differs(&known, &streams, &expected) {
                return Err(conflict);
            }
            let key = self.writing_key(command, &emits).await?;
            let draft = Draft::new(command, &known, emits.clone(), key.as_ref())?;
            match self.submit(command, draft).await? {
                Submitted::Accepted(accepted) => return Ok(accepted),
                Submitted::Conflict(found) => {
                    self.known.forget(command.id.tenant, &streams).await;
                    let found = found.and_then(|(stream, actual)| {
                        let n = streams.iter().position(|key| key.stream == stream)?;
                        conflict(&streams[n], expected[n], actual)
                    });
                    if let Some(conflict) = found {
                        return Err(conflict);
                    }
                }
            }
        }
        Err(ExecuteError::Contended)
    }

    /// Like [`Log::execute`] for each of `commands`, but inside the caller's transaction, which it commits: their facts are in
    /// the log if and only if the caller's rows are. Holds the log's lock until the commit, so keep it to cold paths. A
    /// conflict with another writer, or between two of the commands, is [`ExecuteError::Contended`]; after any error the
    /// transaction is rolled back.
    pub async fn append_in<D>(
        &self,
        mut tx: Transaction<'static, Postgres>,
        commands: Vec<Undecided<'_, D>>,
    ) -> Result<(), ExecuteError>
    where
        D: FnOnce(&Streams) -> Result<Vec<Emit>, Refusal> + Send,
    {
        let epoch = self.known.epoch();
        let mut prepared = Vec::with_capacity(commands.len());
        for Undecided {
            command,
            streams,
            decide,
        } in commands
        {
            let wanted = Wanted::by(&command.id, streams);
            let seen = find(&mut tx, &[&wanted], epoch).await?.of(&wanted)?;
            match seen.accepted {
                Some((_, _, hash)) if hash == command.body_hash => continue,
                Some(_) => return Err(ExecuteError::KeyReused),
                None => {}
            }
            let emits = decide(&seen.streams)?;
            if emits.is_empty() {
                continue;
            }
            let (tenant, actor) = (command.id.tenant, command.id.actor);
            let key = if personal(&emits) {
                Some(self.keys.for_writing(&mut tx, tenant, actor).await?)
            } else {
                None
            };
            prepared.push(Draft::new(command, &seen.streams, emits, key.as_ref())?.prepared);
        }
        if !prepared.is_empty() {
            let mut heads = Heads::default();
            let verdicts = batch::append(&mut tx, &prepared, epoch, &mut heads, Position::START);
            for verdict in verdicts.await.map_err(again)? {
                match verdict {
                    Verdict::Accepted { .. } => {}
                    Verdict::KeyReused => return Err(ExecuteError::KeyReused),
                    // Judged against what another committed meanwhile: the caller's rows must be thought over too.
                    _ => return Err(ExecuteError::Contended),
                }
            }
        }
        Ok(tx.commit().await?)
    }

    /// Hands a draft to the writer.
    async fn submit(&self, command: &Command, mut draft: Draft) -> Result<Submitted, ExecuteError> {
        let mut left = draft.left();
        let prepared = draft.take();
        let epoch = prepared.epoch;
        Ok(match self.writer.submit(prepared).await? {
            Verdict::Accepted { first, at } => {
                self.known.remember(command.id.tenant, epoch, left).await;
                Submitted::Accepted(draft.recorded(first, at))
            }
            Verdict::Repeated { first, last } => {
                Submitted::Accepted(Box::pin(self.repeated(first, last)).await?)
            }
            Verdict::KeyReused => return Err(ExecuteError::KeyReused),
            Verdict::SubjectDiffers => {
                return Err(Refusal::WrongState("the stream has another subject").into());
            }
            Verdict::Conflict(found) => Submitted::Conflict(
                found.map(|(write, actual)| (std::mem::take(&mut left[write].stream), actual)),
            ),
        })
    }

    /// The actor's key, where `emits` have something to seal.
    async fn writing_key(
        &self,
        command: &Command,
        emits: &[Emit],
    ) -> Result<Option<Key>, ExecuteError> {
        if !personal(emits) {
            return Ok(None);
        }
        let (tenant, actor) = (command.id.tenant, command.id.actor);
        if let Some(key) = self.keys.cached(tenant, actor).await {
            return Ok(Some(key));
        }
        Ok(Some(Box::pin(self.kept_key(tenant, actor)).await?))
    }

    /// The key of `actor` from the table, made if there is none.
    async fn kept_key(&self, tenant: TenantId, actor: UserId) -> Result<Key, ExecuteError> {
        let epoch = self.keys.epoch();
        let mut connection = self.pool.acquire().await?;
        let key = self
            .keys
            .for_writing(&mut connection, tenant, actor)
            .await?;
        self.keys.cache(tenant, actor, epoch, key.clone()).await;
        Ok(key)
    }

    /// What became of the command before, or the streams as they stand.
    async fn look(&self, command: &Command, streams: &[StreamKey]) -> Result<Looked, ExecuteError> {
        let wanted = Wanted::by(&command.id, streams);
        let seen = self.looks.look(wanted).await?;
        Ok(match seen.accepted {
            Some((first, last, hash)) if hash == command.body_hash => {
                Looked::Before(Box::pin(self.repeated(first, last)).await?)
            }
            Some(_) => return Err(ExecuteError::KeyReused),
            None => Looked::Now(seen.streams),
        })
    }

    /// What came of a command whose facts have been there before.
    async fn repeated(&self, first: Position, last: Position) -> Result<Accepted, ExecuteError> {
        Ok(Accepted {
            facts: self.between(first, last).await?,
            repeated: true,
        })
    }
}

/// What an append in the caller's transaction failed on: where another writer was faster, the caller begins again.
fn again(error: sqlx::Error) -> ExecuteError {
    match Failure::of(&error) {
        Failure::Repeat => ExecuteError::Contended,
        _ => error.into(),
    }
}
