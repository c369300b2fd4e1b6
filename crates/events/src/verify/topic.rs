//! The topic against Postgres: a digest per lane and stretch of positions on both sides; where two differ, record by
//! record.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use sqlx::PgConnection;
use uuid::Uuid;

use super::digest::{Digests, Place, fact_digest};
use super::{Difference, Differences, Report, TopicReport, VerifyError, facts};
use crate::archive::Archive;
use crate::envelope::Sealed;
use crate::id::{Lane, Position};
use crate::log::{Found, Kafka, asking, marker, partitions, scan};

/// The most places that are looked at record by record; where more differ, the topic as a whole is wrong.
const MOST_PLACES: usize = 16;

/// How far the relay says that it has come; none: it says nothing.
pub(super) async fn relayed(
    kafka: &Kafka,
    log_id: Uuid,
    differences: &mut Differences,
) -> Result<Option<Position>, VerifyError> {
    let facts = kafka.facts_topic();
    if partitions(kafka, &facts).await? == 0 {
        return Err(VerifyError::NoTopic(facts));
    }
    let kafka = kafka.clone();
    Ok(match asking(move || marker(&kafka)).await? {
        Some(Ok(marker)) => {
            if marker.log_id != log_id {
                let why = format!("the marker is of log {}, this is {log_id}", marker.log_id);
                differences.add(Difference::Topic(why));
            }
            Some(marker.position)
        }
        Some(Err(_)) => {
            let why = "the relay's marker does not read".to_owned();
            differences.add(Difference::Topic(why));
            None
        }
        None => None,
    })
}

/// The topic, as far as it is compared.
pub(super) struct Topic<'a> {
    pub(super) kafka: &'a Kafka,
    pub(super) log_id: Uuid,
    pub(super) first: Position,
    /// The marker's position.
    pub(super) marker: Option<Position>,
    pub(super) upto: Position,
    /// What holds the facts before `floor`.
    pub(super) archive: Option<Archive>,
    pub(super) floor: Position,
}

/// A record in a place that differs.
struct Seen {
    offset: i64,
    position: Position,
    digest: [u8; 32],
}

impl Topic<'_> {
    /// Compares the topic with the digests of what Postgres holds.
    pub(super) async fn compare(
        &self,
        postgres: &Digests,
        connection: &mut PgConnection,
        report: &mut Report,
    ) -> Result<(), VerifyError> {
        if self.upto > report.head {
            report.differences.add(Difference::Topic(format!(
                "it goes up to position {}, and Postgres only to {}",
                self.upto, report.head
            )));
        }
        let relayed = self.marker.unwrap_or_default();
        if relayed.next() < self.floor {
            report.differences.add(Difference::Topic(format!(
                "it goes up to position {relayed}, and facts before {} have left Postgres: is it another topic, or made anew?",
                self.floor
            )));
        }
        let (digests, records) = self.read(&mut report.differences).await?;
        if self.marker.is_none() && records > 0 {
            let why = "it holds records, and the relay's marker is missing".to_owned();
            report.differences.add(Difference::Topic(why));
        }
        report.topic = Some(TopicReport {
            upto: self.upto,
            records,
            stretches: digests.count() as u64,
        });
        let mut lanes: BTreeMap<Lane, Vec<Place>> = BTreeMap::new();
        let differing = digests.differing(postgres);
        for place in differing.iter().take(MOST_PLACES) {
            lanes.entry(place.lane).or_default().push(*place);
        }
        for (lane, places) in lanes {
            let mut records = self.records(lane, places.clone()).await?;
            for place in places {
                let (first, last) = place.bounds();
                let bounds = (first.max(self.first), last.min(self.upto));
                let archive = self.archive.clone();
                let facts = facts::of_lane(connection, archive, self.floor, lane, bounds).await?;
                let seen = records.remove(&place).unwrap_or_default();
                tell_apart(lane, &facts, &seen, &mut report.differences);
            }
        }
        if differing.len() > MOST_PLACES {
            let why = format!("{} stretches of lanes differ in all", differing.len());
            report.differences.add(Difference::Topic(why));
        }
        Ok(())
    }

    /// Reads all of it once: its digests, and the number of records.
    async fn read(&self, differences: &mut Differences) -> Result<(Digests, u64), VerifyError> {
        let (kafka, log_id, first, upto) = (self.kafka.clone(), self.log_id, self.first, self.upto);
        let (digests, records, strange) = asking(move || {
            let (mut digests, mut records) = (Digests::default(), 0);
            let mut strange = Differences::default();
            let mut latest: BTreeMap<Lane, Position> = BTreeMap::new();
            scan(&kafka, Lane::all(), |Found { lane, offset, fact }| {
                records += 1;
                match fact {
                    Ok((log, fact)) if log == log_id => {
                        let position = fact.position;
                        let before = latest.entry(lane).or_default();
                        // Within a stretch its digest tells; readers drop whatever comes late, so this is told too.
                        if position < *before
                            && Place::of(lane, position) != Place::of(lane, *before)
                        {
                            strange.add(Difference::Reordered {
                                lane,
                                position,
                                offset,
                            });
                        }
                        *before = position.max(*before);
                        // What the relay has added since its marker was read is looked at the next time.
                        if (first..=upto).contains(&fact.position) {
                            digests.add(&fact);
                        }
                    }
                    Ok((log, _)) => {
                        let reason = format!("a fact of log {log}, and this is log {log_id}");
                        strange.add(Difference::Foreign {
                            lane,
                            offset,
                            reason,
                        });
                    }
                    Err(reason) => strange.add(Difference::Foreign {
                        lane,
                        offset,
                        reason: reason.to_string(),
                    }),
                }
                ControlFlow::Continue(())
            })?;
            Ok((digests, records, strange))
        })
        .await?;
        differences.append(strange);
        Ok((digests, records))
    }

    /// The records of one lane in some places.
    async fn records(
        &self,
        lane: Lane,
        places: Vec<Place>,
    ) -> Result<BTreeMap<Place, Vec<Seen>>, VerifyError> {
        let (kafka, log_id, first, upto) = (self.kafka.clone(), self.log_id, self.first, self.upto);
        let read = asking(move || {
            let mut records: BTreeMap<Place, Vec<Seen>> = BTreeMap::new();
            scan(
                &kafka,
                std::iter::once(lane),
                |Found { offset, fact, .. }| {
                    if let Ok((log, fact)) = fact
                        && log == log_id
                        && (first..=upto).contains(&fact.position)
                    {
                        let place = Place::of(lane, fact.position);
                        if places.contains(&place) {
                            records.entry(place).or_default().push(Seen {
                                offset,
                                position: fact.position,
                                digest: fact_digest(&fact),
                            });
                        }
                    }
                    ControlFlow::Continue(())
                },
            )?;
            Ok(records)
        });
        Ok(read.await?)
    }
}

/// Names what differs in one place.
fn tell_apart(lane: Lane, facts: &[Sealed], seen: &[Seen], differences: &mut Differences) {
    let mut times: BTreeMap<Position, Vec<&Seen>> = BTreeMap::new();
    let mut latest = Position::START;
    for record in seen {
        let before = times.entry(record.position).or_default();
        before.push(record);
        if record.position < latest && before.len() == 1 {
            differences.add(Difference::Reordered {
                lane,
                position: record.position,
                offset: record.offset,
            });
        }
        latest = latest.max(record.position);
    }
    for fact in facts {
        let position = fact.position;
        let Some(records) = times.remove(&position) else {
            differences.add(Difference::NotInTopic { lane, position });
            continue;
        };
        if let [.., last] = records[..]
            && records.len() > 1
        {
            differences.add(Difference::Doubled {
                lane,
                position,
                times: records.len(),
                offset: last.offset,
            });
        }
        let digest = fact_digest(fact);
        for record in records.iter().filter(|record| record.digest != digest) {
            differences.add(Difference::Altered {
                lane,
                position,
                offset: record.offset,
            });
        }
    }
    for record in times.into_values().flatten() {
        differences.add(Difference::NotInPostgres {
            lane,
            position: record.position,
            offset: record.offset,
        });
    }
}
