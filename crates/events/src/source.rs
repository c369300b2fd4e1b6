//! Where readers get facts from: the topic when there is a broker, else the log in Postgres. Same facts, same order in
//! each lane, so a subscription may change from one to the other at any time.

use std::collections::BTreeMap;
use std::time::Duration;

use sqlx::PgPool;
use uuid::Uuid;

use crate::envelope::Sealed;
use crate::id::{Lane, Position};
use crate::log::{Kafka, KafkaTail, TailError};
use crate::store::{Filter, Limits, LogError, Reader, Tail, Wake};

/// Why a source gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The log in Postgres.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The topic.
    #[error(transparent)]
    Topic(#[from] TailError),
}

/// Where a lane's reader begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneStart {
    /// The lane.
    pub lane: Lane,
    /// Facts up to here are known.
    pub after: Position,
    /// Where in the lane's partition to look; a hint.
    pub offset: i64,
}

/// One way to tail the log. After an error or a dropped [`Source::next`], [`Source::assign`] must come before the next.
pub enum Source {
    /// The log in Postgres.
    Postgres(Box<PostgresTail>),
    /// The topic.
    Kafka(Box<KafkaTail>),
}

impl Source {
    /// The source for the subscription `name`: the topic where there is a broker, else the log `log_id` in Postgres and,
    /// where the reader has one, its archive.
    pub fn open(
        kafka: Option<&Kafka>,
        reader: impl Into<Reader>,
        wake: &Wake,
        log_id: Uuid,
        name: &str,
    ) -> Result<Self, SourceError> {
        Ok(match kafka {
            Some(kafka) => Self::Kafka(Box::new(KafkaTail::new(kafka, name, log_id)?)),
            None => Self::postgres(reader, wake.clone()),
        })
    }

    /// Tails the log in Postgres.
    pub fn postgres(reader: impl Into<Reader>, wake: Wake) -> Self {
        Self::Postgres(Box::new(PostgresTail {
            reader: reader.into(),
            wake,
            lanes: BTreeMap::new(),
            seen: Position::START,
            tail: None,
        }))
    }

    /// Reads these lanes from now on, and no others.
    pub async fn assign(&mut self, lanes: Vec<LaneStart>) -> Result<(), SourceError> {
        match self {
            Self::Postgres(tail) => tail.assign(&lanes).await,
            Self::Kafka(tail) => Ok(tail.assign(lanes).await?),
        }
    }

    /// The next facts of the lanes, each with the offset to go on from; none when there were none for `wait`. Facts of
    /// one lane come in order, each once.
    pub async fn next(
        &mut self,
        most: usize,
        wait: Duration,
    ) -> Result<Vec<(Sealed, i64)>, SourceError> {
        match self {
            Self::Postgres(tail) => tail.next(most, wait).await,
            Self::Kafka(tail) => Ok(tail.next_batch(most, wait).await?),
        }
    }

    /// Tells lag tools how far the subscription has come, where there are any. Nothing depends on it.
    pub(crate) fn applied(&mut self, offsets: &[(Lane, i64)]) {
        if let Self::Kafka(tail) = self {
            tail.commit(offsets);
        }
    }
}

/// Tails the log in Postgres, all lanes of the reader in one scan.
pub struct PostgresTail {
    reader: Reader,
    wake: Wake,
    /// What each lane's reader knows already.
    lanes: BTreeMap<Lane, Position>,
    seen: Position,
    /// From there on; none until it is asked.
    tail: Option<Tail>,
}

impl PostgresTail {
    async fn assign(&mut self, lanes: &[LaneStart]) -> Result<(), SourceError> {
        self.tail = None;
        self.lanes = lanes
            .iter()
            .map(|start| (start.lane, start.after))
            .collect();
        self.seen = level(self.reader.pool(), &self.lanes)
            .await
            .map_err(LogError::from)?;
        Ok(())
    }

    async fn next(
        &mut self,
        most: usize,
        wait: Duration,
    ) -> Result<Vec<(Sealed, i64)>, SourceError> {
        if self.lanes.is_empty() {
            tokio::time::sleep(wait).await;
            return Ok(vec![]);
        }
        let tail = self.tail.get_or_insert_with(|| {
            let filter = Filter {
                lanes: self.lanes.keys().copied().collect(),
                ..Filter::default()
            };
            Tail::new(
                self.reader.clone(),
                self.wake.clone(),
                filter,
                Limits::BULK,
                self.seen,
            )
        });
        tail.at_most(most);
        loop {
            let page = tail.next(wait).await?;
            let known = |fact: &Sealed| {
                self.lanes
                    .get(&fact.lane)
                    .is_none_or(|after| fact.position <= *after)
            };
            let news = page.facts.into_iter().filter(|fact| !known(fact));
            let news: Vec<_> = news.map(|fact| (fact, 0)).collect();
            if !news.is_empty() || page.seen >= page.head {
                return Ok(news);
            }
        }
    }
}

/// Up to where each of these lanes knows all of its facts: just before the first one that any of them does not know, the head when
/// they know all. Where such a fact was archived, the lane's own start: only the archive knows more.
pub(crate) async fn level(
    pool: &PgPool,
    lanes: &BTreeMap<Lane, Position>,
) -> Result<Position, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT COALESCE(min(CASE WHEN a.position > u.after THEN u.after ELSE e.position - 1 END),
                         log.head(), 0)
         FROM unnest($1::smallint[], $2::bigint[]) AS u(lane, after)
         LEFT JOIN log.archived a ON a.lane = u.lane
         LEFT JOIN LATERAL (
             SELECT position FROM log.events e WHERE e.lane = u.lane AND e.position > u.after ORDER BY position LIMIT 1
         ) e ON true",
    )
    .bind(lanes.keys().map(|lane| lane.number()).collect::<Vec<_>>())
    .bind(lanes.values().map(|after| after.0).collect::<Vec<_>>())
    .fetch_one(pool)
    .await
}
