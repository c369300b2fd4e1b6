//! Judges a batch over what its streams are presumed to be; `log.append` confirms that, or `log.look` says what is so.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use uuid::Uuid;

use super::append::{Prepared, Verdict, Write};
use super::known::Epoch;

/// The most versions that are presumed of streams; more, and it begins anew.
const MAX_HEADS: usize = 1 << 16;

/// The versions that this process's writer has left streams at, by hashes of their names: which command wins depends on
/// them, and one presumed wrongly costs one more call.
#[derive(Debug, Default)]
pub(super) struct Heads {
    versions: HashMap<u64, i64>,
    hasher: RandomState,
}

impl Heads {
    fn get(&self, stream: &Stream<'_>) -> Option<i64> {
        self.versions.get(&self.hash(stream)).copied()
    }

    fn hash(&self, stream: &Stream<'_>) -> u64 {
        self.hasher
            .hash_one((stream.tenant, &stream.write.key.stream))
    }

    /// Keeps where a batch that was written has left its streams.
    pub(super) fn keep(&mut self, judged: &Judged<'_>) {
        if self.versions.len() > MAX_HEADS {
            self.forget_all();
        }
        for stream in judged.streams.iter().filter(|stream| stream.presumed) {
            self.versions.insert(self.hash(stream), stream.after);
        }
    }

    pub(super) fn forget_all(&mut self) {
        self.versions.clear();
    }
}

/// What `log.look` says.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// Of each stream, in the batch's order: its version, and whether its subject is the one named.
    pub(super) streams: Vec<(i64, bool)>,
    /// The commands that have been accepted before, by their places in the batch.
    pub(super) repeats: HashMap<usize, Verdict>,
}

/// A stream that a batch is about.
#[derive(Clone, Debug)]
pub(super) struct Stream<'a> {
    pub(super) tenant: Uuid,
    pub(super) write: &'a Write,
    /// Its presumed version.
    pub(super) before: i64,
    /// Its version after the commands judged so far.
    pub(super) after: i64,
    pub(super) state: Option<&'a str>,
    same_subject: bool,
    /// Whether a verdict rests on the version before.
    pub(super) presumed: bool,
}

/// A fact of a command that wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Winner {
    pub(super) command: usize,
    pub(super) fact: usize,
    pub(super) stream: usize,
    pub(super) version: i64,
}

/// What comes of one command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ruling {
    /// Its first fact and the one after its last, among those of the winners.
    Wins(usize, usize),
    Is(Verdict),
}

/// A batch as it is judged.
#[derive(Debug)]
pub(super) struct Judged<'a> {
    /// Sorted by bytes, in every process alike: they are locked in this order.
    pub(super) streams: Vec<Stream<'a>>,
    pub(super) rulings: Vec<Ruling>,
    pub(super) winners: Vec<Winner>,
}

impl<'a> Judged<'a> {
    /// Judges in order: a command sees what those before it have won.
    pub(super) fn new(commands: &'a [Prepared], epoch: Epoch, heads: &Heads, told: &Told) -> Self {
        let mut judged = Self {
            streams: streams(commands, heads, told),
            rulings: Vec::with_capacity(commands.len()),
            winners: Vec::with_capacity(commands.len()),
        };
        for (n, command) in commands.iter().enumerate() {
            let ruling = match told.repeats.get(&n) {
                Some(verdict) => Ruling::Is(*verdict),
                // What it was decided over may not be so any more.
                None if command.epoch != epoch => Ruling::Is(Verdict::Conflict(None)),
                None => judged.rule(n, command),
            };
            judged.rulings.push(ruling);
        }
        judged
    }

    fn rule(&mut self, n: usize, command: &'a Prepared) -> Ruling {
        let places: Vec<usize> = command
            .writes
            .iter()
            .map(|write| self.place(command, write))
            .collect();
        for (write, place) in places.iter().enumerate() {
            let (wanted, stream) = (&command.writes[write], &mut self.streams[*place]);
            if !stream.presumed {
                stream.presumed = true;
                (stream.before, stream.after) = (wanted.version, wanted.version);
            }
            if !stream.same_subject {
                return Ruling::Is(Verdict::SubjectDiffers);
            }
            if stream.after != wanted.version {
                let actual = stream.after;
                return Ruling::Is(Verdict::Conflict(Some((write, actual))));
            }
        }
        for (write, place) in command.writes.iter().zip(&places) {
            let state = write.state.as_deref();
            self.streams[*place].state = state.or(self.streams[*place].state);
        }
        let first = self.winners.len();
        for (fact, one) in command.facts.iter().enumerate() {
            let stream = places[one.write];
            self.streams[stream].after += 1;
            self.winners.push(Winner {
                command: n,
                fact,
                stream,
                version: self.streams[stream].after,
            });
        }
        Ruling::Wins(first, self.winners.len())
    }

    fn place(&self, command: &Prepared, write: &Write) -> usize {
        let wanted = (command.tenant.0, &write.key.stream);
        self.streams
            .binary_search_by(|s| (s.tenant, &s.write.key.stream).cmp(&wanted))
            .expect("every write is among the streams")
    }
}

/// The streams of a batch, each once, as what is known of them says.
fn streams<'a>(commands: &'a [Prepared], heads: &Heads, told: &Told) -> Vec<Stream<'a>> {
    let writes = commands
        .iter()
        .flat_map(|c| c.writes.iter().map(|write| (c.tenant.0, write)));
    let mut streams: Vec<Stream<'_>> = writes
        .map(|(tenant, write)| Stream {
            tenant,
            write,
            before: write.version,
            after: write.version,
            state: None,
            same_subject: true,
            presumed: false,
        })
        .collect();
    streams.sort_by(|a, b| (a.tenant, &a.write.key.stream).cmp(&(b.tenant, &b.write.key.stream)));
    streams.dedup_by(|b, a| (a.tenant, &a.write.key.stream) == (b.tenant, &b.write.key.stream));
    for (n, stream) in streams.iter_mut().enumerate() {
        let told = told.streams.get(n).copied();
        let Some((version, same_subject)) = told.or_else(|| Some((heads.get(stream)?, true)))
        else {
            continue;
        };
        (stream.before, stream.after) = (version, version);
        (stream.same_subject, stream.presumed) = (same_subject, true);
    }
    streams
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::id::{EventId, Lane, Position, StreamKey, TenantId};
    use crate::store::append::NewFact;
    use crate::store::known::Known;

    /// A command that was decided over `writes`, streams and their versions, and has a fact for each.
    fn command(id: u128, writes: &[(u8, i64)]) -> Prepared {
        let tenant = TenantId(Uuid::nil());
        let write = |(stream, version): &(u8, i64)| Write {
            key: StreamKey {
                stream: stream.to_string(),
                subject: "subject".to_owned(),
            },
            lane: Lane::of(tenant, "subject"),
            version: *version,
            state: None,
        };
        let fact = |write| NewFact {
            write,
            fact_type: "test",
            schema_version: 1,
            payload: String::new(),
            meta: String::new(),
            event_id: EventId(Uuid::nil()),
        };
        Prepared {
            tenant,
            id: Uuid::from_u128(id),
            body_hash: [0; 32],
            epoch: Known::new().epoch(),
            writes: writes.iter().map(write).collect(),
            facts: (0..writes.len()).map(fact).collect(),
        }
    }

    /// Judges until what is presumed is so, as the log would tell; gives who won and how often the log was asked.
    fn settled(
        commands: &[Prepared],
        actual: &HashMap<String, i64>,
        heads: &mut Heads,
    ) -> (Vec<bool>, usize) {
        let mut told = Told::default();
        for asked in 1.. {
            let judged = Judged::new(commands, Known::new().epoch(), heads, &told);
            let is = |stream: &Stream<'_>| actual.get(&stream.write.key.stream).map_or(0, |v| *v);
            if judged
                .streams
                .iter()
                .all(|stream| stream.before == is(stream))
            {
                heads.keep(&judged);
                let wins = |ruling: &Ruling| matches!(ruling, Ruling::Wins(..));
                return (judged.rulings.iter().map(wins).collect(), asked);
            }
            told.streams = judged
                .streams
                .iter()
                .map(|stream| (is(stream), true))
                .collect();
        }
        unreachable!()
    }

    fn writes() -> impl Strategy<Value = Vec<(u8, i64)>> {
        proptest::collection::btree_map(0..5_u8, 0..4_i64, 1..4)
            .prop_map(|map| map.into_iter().collect())
    }

    proptest! {
        #[test]
        fn a_batch_is_judged_as_its_commands_would_be_one_by_one(
            batch in proptest::collection::vec(writes(), 1..12),
            begun in proptest::collection::hash_map(0..5_u8, 1..3_i64, 0..5),
        ) {
            let begun = begun.into_iter().map(|(stream, version)| (stream.to_string(), version));
            let mut actual: HashMap<String, i64> = begun.collect();
            let commands: Vec<Prepared> = (1..).zip(&batch).map(|(id, writes)| command(id, writes)).collect();
            let mut heads = Heads::default();
            let (won, asked) = settled(&commands, &actual, &mut heads);
            prop_assert!(asked <= 2, "asked {asked} times");
            for (writes, won) in batch.iter().zip(won) {
                let stands = |(stream, version): &(u8, i64)| actual.get(&stream.to_string()).map_or(0, |v| *v) == *version;
                prop_assert_eq!(won, writes.iter().all(stands));
                for (stream, _) in writes.iter().filter(|_| won) {
                    *actual.entry(stream.to_string()).or_default() += 1;
                }
            }
            // What this process has written, it need not be told.
            let (_, asked) = settled(&commands, &actual, &mut heads);
            prop_assert_eq!(asked, 1);
        }
    }

    #[test]
    fn what_was_accepted_before_or_decided_in_another_epoch_wins_nothing() {
        let commands = [
            command(1, &[(1, 0)]),
            command(2, &[(1, 0)]),
            command(3, &[(1, 0)]),
        ];
        let repeated = Verdict::Repeated {
            first: Position(7),
            last: Position(7),
        };
        let told = Told {
            repeats: HashMap::from([(0, repeated)]),
            ..Told::default()
        };
        let heads = Heads::default();
        let known = Known::new();
        let judged = Judged::new(&commands, known.epoch(), &heads, &told);
        let conflict = Ruling::Is(Verdict::Conflict(Some((0, 1))));
        assert_eq!(
            judged.rulings,
            [Ruling::Is(repeated), Ruling::Wins(0, 1), conflict]
        );
        known.forget_all();
        let judged = Judged::new(&commands, known.epoch(), &heads, &told);
        let unknown = Ruling::Is(Verdict::Conflict(None));
        assert_eq!(judged.rulings, [Ruling::Is(repeated), unknown, unknown]);
    }
}
