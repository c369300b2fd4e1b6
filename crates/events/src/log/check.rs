//! The start check: is the topic still the beginning of the log in Postgres, and of this log?
//!
//! A backup brought back, a topic made anew, a second installation on the same topic: each would put facts into Kafka
//! twice, or leave some out, without anybody noticing. The relay looks before it writes.

use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::OwnedMessage;
use rdkafka::{Offset, TopicPartitionList};
use uuid::Uuid;

use super::marker::Marker;
use super::{ASK_LIMIT, Kafka, Readers, from_record, topic};
use crate::id::{EventId, Lane, Position};

/// Why nothing is relayed: the topic and Postgres do not belong together. Only a person can say which one is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The topic lost its beginning.
    #[error(
        "lane {lane} of the facts topic begins at offset {offset} instead of 0: facts were deleted from it. \
         Use another TOPIC_PREFIX to fill a new topic"
    )]
    Truncated {
        /// The lane.
        lane: Lane,
        /// Where it begins.
        offset: i64,
    },
    /// There are facts and nothing says whose they are.
    #[error(
        "lane {lane} of the facts topic holds records, but the relay's marker is missing: use another TOPIC_PREFIX, \
         which fills a new topic"
    )]
    NoMarker {
        /// A lane that holds records.
        lane: Lane,
    },
    /// Something else wrote to the relay's topic.
    #[error(
        "the relay's marker does not read: something else writes to its topic. Use another TOPIC_PREFIX"
    )]
    UnreadableMarker,
    /// The topic is another log's.
    #[error(
        "the topic belongs to log {found} and this is log {expected}: use another TOPIC_PREFIX"
    )]
    ForeignLog {
        /// The log that the marker names.
        found: Uuid,
        /// This log.
        expected: Uuid,
    },
    /// Postgres lacks what the topic holds.
    #[error(
        "the topic holds facts up to position {position}, which Postgres does not have (is it a restored backup?). Two ways \
         out: `cinelog log import` takes them back into Postgres, as long as nothing was appended since; \
         `TOPIC_PREFIX=NEW cinelog log fork` gives them up and goes on as another log, in a new topic, unless a part of it was archived"
    )]
    PostgresBehind {
        /// The last position in the topic.
        position: Position,
    },
    /// What comes next is no longer in Postgres.
    #[error(
        "the topic ends at position {position}, and Postgres begins at {floor}: archived too early. \
         Restore a backup of Postgres from before that, or of the topic"
    )]
    Archived {
        /// The last position in the topic.
        position: Position,
        /// The lowest position in Postgres.
        floor: Position,
    },
    /// The same position, another fact.
    #[error(
        "position {position} is fact {postgres} in Postgres and {kafka} in the topic: two histories. \
         Something was appended after a backup was restored, so `cinelog log import` can do nothing any more. Restore it \
         once more and import before anything is appended; or `TOPIC_PREFIX=NEW cinelog log fork` goes on with what Postgres \
         has as another log, in a new topic, unless a part of it was archived"
    )]
    TwoHistories {
        /// The position.
        position: Position,
        /// The fact in Postgres.
        postgres: EventId,
        /// The fact that the marker names.
        kafka: EventId,
    },
    /// The topic does not end where the marker says.
    #[error(
        "lane {lane} of the facts topic does not end with position {position}, as the relay's marker says: something \
         else wrote to it or deleted from it. Use another TOPIC_PREFIX to fill a new topic"
    )]
    OtherTail {
        /// The marker's lane.
        lane: Lane,
        /// The marker's position.
        position: Position,
    },
}

/// A marker that does not read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Garbled;

/// What the brokers hold.
#[derive(Debug, Default)]
pub(super) struct Survey {
    truncated: Option<(Lane, i64)>,
    occupied: Option<Lane>,
    marker: Option<Result<Marker, Garbled>>,
    tail: Option<(Uuid, Position, EventId)>,
}

impl Survey {
    /// Looks. Blocks; call it after fencing, when no transaction is open any more.
    pub(super) fn take(kafka: &Kafka) -> KafkaResult<Self> {
        let reader: BaseConsumer<Readers> = kafka
            .reader("relay")
            .set("enable.partition.eof", "true")
            // The end is told only by an answer without records: the brokers shall not wait for some to come.
            .set("fetch.wait.max.ms", "10")
            .create_with_context(Readers)?;
        let mut survey = Self::default();
        if let Some(record) = last_record(&reader, &kafka.relay_topic(), 0)? {
            survey.marker = Some(Marker::read(&record));
        }
        let facts = kafka.facts_topic();
        let lanes = Lane::all().map(|lane| lane.number().into());
        for (partition, (low, high)) in topic::bounds(&reader, &facts, lanes)? {
            let lane = Lane::new(partition);
            if low > 0 {
                survey.truncated = lane.map(|lane| (lane, low));
            }
            // An aborted transaction leaves offsets without records.
            let unexplained = survey.marker.is_none() && survey.occupied.is_none() && high > low;
            if unexplained && last_record(&reader, &facts, partition)?.is_some() {
                survey.occupied = lane;
            }
        }
        if let Some(Ok(marker)) = survey.marker {
            let last = last_record(&reader, &facts, marker.lane.number().into())?;
            let fact = last.and_then(|record| from_record(&record).ok());
            survey.tail = fact.map(|(log, fact)| (log, fact.position, fact.event_id));
        }
        Ok(survey)
    }

    /// The position that the marker names, to be looked up in Postgres.
    pub(super) fn position(&self) -> Option<Position> {
        Some(self.marker?.ok()?.position)
    }

    /// Where the relay goes on, given what Postgres holds: its log id, its floor, and its fact at [`Survey::position`].
    pub(super) fn judge(
        &self,
        log_id: Uuid,
        floor: Position,
        in_postgres: Option<EventId>,
    ) -> Result<Position, Refusal> {
        if let Some((lane, offset)) = self.truncated {
            return Err(Refusal::Truncated { lane, offset });
        }
        let Some(marker) = self.marker else {
            let begin = Position::START;
            return match self.occupied {
                Some(lane) => Err(Refusal::NoMarker { lane }),
                None if floor > begin.next() => Err(Refusal::Archived {
                    position: begin,
                    floor,
                }),
                None => Ok(begin),
            };
        };
        let marker = marker.map_err(|Garbled| Refusal::UnreadableMarker)?;
        let Marker {
            position, event_id, ..
        } = marker;
        if marker.log_id != log_id {
            return Err(Refusal::ForeignLog {
                found: marker.log_id,
                expected: log_id,
            });
        }
        match in_postgres {
            None if position < floor => return Err(Refusal::Archived { position, floor }),
            None => return Err(Refusal::PostgresBehind { position }),
            Some(found) if found != event_id => {
                return Err(Refusal::TwoHistories {
                    position,
                    postgres: found,
                    kafka: event_id,
                });
            }
            Some(_) => {}
        }
        self.ends_with_marker().map(|()| position)
    }

    /// Whether the marker's lane ends with the fact that the marker names.
    pub(super) fn ends_with_marker(&self) -> Result<(), Refusal> {
        match self.marker {
            Some(Ok(marker))
                if self.tail != Some((marker.log_id, marker.position, marker.event_id)) =>
            {
                let Marker { lane, position, .. } = marker;
                Err(Refusal::OtherTail { lane, position })
            }
            _ => Ok(()),
        }
    }
}

/// The last committed record of a partition. The last offsets may hold none: commits take an offset each, and
/// compaction and aborted transactions leave holes. So it looks at ever longer stretches before the end.
pub(super) fn last_record(
    reader: &BaseConsumer<Readers>,
    topic: &str,
    partition: i32,
) -> KafkaResult<Option<OwnedMessage>> {
    let bounds = topic::bounds(reader, topic, std::iter::once(partition))?;
    let Some((low, high)) = bounds
        .get(&partition)
        .copied()
        .filter(|(low, high)| high > low)
    else {
        return Ok(None);
    };
    let mut stretch = 64;
    loop {
        let from = low.max(high - stretch);
        let last = read_to_end(reader, topic, partition, from)?;
        if last.is_some() || from == low {
            return Ok(last);
        }
        stretch *= 8;
    }
}

/// Reads a partition from `from` to its end, for the last record there.
fn read_to_end(
    reader: &BaseConsumer<Readers>,
    topic: &str,
    partition: i32,
    from: i64,
) -> KafkaResult<Option<OwnedMessage>> {
    let mut wanted = TopicPartitionList::new();
    wanted.add_partition_offset(topic, partition, Offset::Offset(from))?;
    reader.assign(&wanted)?;
    let mut deadline = Instant::now() + ASK_LIMIT;
    let mut last = None;
    while Instant::now() < deadline {
        match reader.poll(Duration::from_millis(100)) {
            Some(Ok(record)) => {
                last = Some(record.detach());
                deadline = Instant::now() + ASK_LIMIT;
            }
            Some(Err(KafkaError::PartitionEOF(_))) => {
                reader.unassign()?;
                return Ok(last);
            }
            Some(Err(error)) => return Err(error),
            None => {}
        }
    }
    Err(KafkaError::MessageConsumption(
        RDKafkaErrorCode::OperationTimedOut,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: Uuid = Uuid::from_u128(1);
    const EVENT: EventId = EventId(Uuid::from_u128(2));
    const OTHER: EventId = EventId(Uuid::from_u128(3));
    const FIRST: Position = Position(1);
    const AT: Position = Position(7);

    fn lane() -> Lane {
        Lane::new(5).expect("5 is a lane")
    }

    fn sound() -> Survey {
        let marker = Marker {
            log_id: LOG,
            position: AT,
            event_id: EVENT,
            lane: lane(),
        };
        Survey {
            marker: Some(Ok(marker)),
            tail: Some((LOG, AT, EVENT)),
            ..Survey::default()
        }
    }

    #[test]
    fn an_empty_topic_begins_at_the_start() {
        assert_eq!(
            Survey::default().judge(LOG, FIRST, None),
            Ok(Position::START)
        );
    }

    #[test]
    fn a_topic_that_agrees_goes_on_after_its_marker() {
        assert_eq!(sound().judge(LOG, FIRST, Some(EVENT)), Ok(AT));
    }

    #[track_caller]
    fn refuses(survey: &Survey, in_postgres: Option<EventId>, floor: i64, refusal: Refusal) {
        assert_eq!(
            survey.judge(LOG, Position(floor), in_postgres),
            Err(refusal)
        );
    }

    #[test]
    fn a_topic_without_a_marker_must_be_empty_and_the_log_whole() {
        let lane = lane();
        let occupied = Some(lane);
        let unmarked = Survey {
            occupied,
            ..Survey::default()
        };
        refuses(&unmarked, None, 1, Refusal::NoMarker { lane });
        let (position, floor) = (Position::START, Position(9));
        let archived = Refusal::Archived { position, floor };
        refuses(&Survey::default(), None, 9, archived);
    }

    #[test]
    fn a_marker_must_be_this_logs_and_known_to_postgres() {
        let marker = Some(Err(Garbled));
        let garbled = Survey { marker, ..sound() };
        refuses(&garbled, None, 1, Refusal::UnreadableMarker);
        let (position, floor) = (AT, Position(9));
        refuses(&sound(), None, 1, Refusal::PostgresBehind { position });
        refuses(&sound(), None, 9, Refusal::Archived { position, floor });
        let (postgres, kafka) = (OTHER, EVENT);
        let histories = Refusal::TwoHistories {
            position,
            postgres,
            kafka,
        };
        refuses(&sound(), Some(OTHER), 1, histories);
        let (found, expected) = (LOG, Uuid::nil());
        let foreign = Refusal::ForeignLog { found, expected };
        assert_eq!(sound().judge(Uuid::nil(), FIRST, Some(EVENT)), Err(foreign));
    }

    #[test]
    fn the_topic_must_be_whole_and_end_with_the_marker() {
        let (lane, position) = (lane(), AT);
        let truncated = Some((lane, 4));
        let cut = Survey {
            truncated,
            ..sound()
        };
        refuses(&cut, Some(EVENT), 1, Refusal::Truncated { lane, offset: 4 });
        let others = [
            (LOG, AT, OTHER),
            (LOG, Position(8), EVENT),
            (Uuid::nil(), AT, EVENT),
        ];
        for tail in others.into_iter().map(Some).chain([None]) {
            let other = Survey { tail, ..sound() };
            let refusal = Refusal::OtherTail { lane, position };
            refuses(&other, Some(EVENT), 1, refusal);
        }
    }
}
