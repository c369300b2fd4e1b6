//! Moves whole partitions of the log into the archive, the oldest first.
//!
//! Each goes through the same steps: exported, read back and compared with the table fact by fact, entered in the index;
//! then the floor moves, then the partition goes. After a kill between any two, the same command goes on and comes to the
//! same end. Appends and readers go on meanwhile.

use std::time::Duration;

use rdkafka::error::KafkaError;
use service::db;
use service::retry::Backoff;
use service::shutdown::Shutdown;
use sqlx::{PgConnection, PgPool};
use storage::{Checksum, Store};

use super::read::manifest;
use super::{Archive, ArchiveError, Index, Part};
use crate::export::{self, ExportError, Format, Manifest, Place, run_into};
use crate::failpoint;
use crate::id::Position;
use crate::log::{Kafka, asking, marker};
use crate::store::{Bounds, Filter, Limits, LogError, Reader, bounds, page};

/// How long the partition's end may hold readers and appends up, each time that it is tried.
const LOCK_LIMIT: &str = "500ms";
/// How often that is tried.
const TRIES: u32 = 40;
/// Sets the archiver's lock apart from other advisory locks.
const LOCK: i64 = 7_157_201_440_953;

/// Why nothing more was archived.
#[derive(Debug, thiserror::Error)]
pub enum ArchivingError {
    /// The log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The segments.
    #[error(transparent)]
    Export(#[from] ExportError),
    /// What is in the archive.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The relay's marker.
    #[error("Kafka: {0}")]
    Kafka(#[from] KafkaError),
    /// Another one is at work.
    #[error("another `cinelog log archive` works on this log: wait for it to end")]
    Busy,
    /// The archive there lacks what has left the log.
    #[error(
        "the archive there ends at position {end} and the log begins at {floor}: what lies between is in another \
         archive, go on with that one"
    )]
    Gap {
        /// The last position in the archive.
        end: Position,
        /// The log's floor.
        floor: i64,
    },
    /// A subscription still needs the facts.
    #[error(
        "{subscription} has not taken in all facts before position {before}, in {lanes} lanes: let it catch up, or, if \
         it is a read model's build that was replaced, drop it (`cinelog migrate --drop-replaced`); nothing more was archived"
    )]
    Behind {
        /// The subscription.
        subscription: String,
        /// Lanes that lack facts.
        lanes: i64,
        /// Where the partition ends.
        before: Position,
    },
    /// The relay still needs the facts.
    #[error(
        "the relay has come to position {marker} and facts before {before} would be archived: let it catch up; nothing \
         more was archived"
    )]
    RelayBehind {
        /// How far it has come.
        marker: Position,
        /// Where the partition ends.
        before: Position,
    },
    /// What came back is not what is in the table.
    #[error(
        "position {position} reads otherwise from {folder} of the archive than from the log: nothing left the log; \
         delete that folder and repeat"
    )]
    Differs {
        /// The fact.
        position: Position,
        /// The partition's folder.
        folder: String,
    },
    /// Somebody reads for longer than can be waited for.
    #[error(
        "the floor is moved, but statements that run for long (a verify, a dump) hold the archived partition: repeat when \
         they have ended"
    )]
    Held,
    /// It was told to end.
    #[error("stopped: the same command goes on from there")]
    Stopped,
}

impl From<sqlx::Error> for ArchivingError {
    fn from(error: sqlx::Error) -> Self {
        Self::Log(error.into())
    }
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Only partitions that end before this position.
    pub before: Position,
    /// Only partitions whose facts all are older. A repeated command is answered from its facts, as long as its acceptance is
    /// kept, which is seven days.
    pub older_than: Duration,
    /// Positions in a segment.
    pub segment_rows: i64,
    /// Partitions stay as tables of their own, out of the log.
    pub keep_tables: bool,
}

/// What archiving tells while it runs.
#[derive(Clone, Copy, Debug)]
pub enum Step<'a> {
    /// A segment is written.
    Exporting(export::Step<'a>),
    /// Facts up to here came back as they are in the table.
    Compared(Position),
    /// The log begins here now.
    Floor(Position),
    /// This table has left the log.
    Detached(&'a str),
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Done {
    /// Partitions that went into the archive.
    pub partitions: usize,
    /// Where the log begins now.
    pub floor: Position,
}

/// Archives into `store` what `request` names, as the owner of the log. The partition with the log's last fact stays.
pub async fn run(
    owner: &PgPool,
    kafka: Option<&Kafka>,
    store: &Store,
    request: Request,
    tell: &(dyn Fn(Step<'_>) + Sync),
    shutdown: &Shutdown,
) -> Result<Done, ArchivingError> {
    // A connection of its own: the lock goes with it.
    let mut lock = owner.acquire().await?.detach();
    let free: bool = sqlx::query_scalar("SELECT pg_try_advisory_lock($1)")
        .bind(LOCK)
        .fetch_one(&mut lock)
        .await?;
    if !free {
        return Err(ArchivingError::Busy);
    }
    let Bounds { log_id, floor, .. } = bounds(owner).await?;
    let index = Index::load(store, log_id).await?;
    let index = index.unwrap_or(Index {
        log_id,
        parts: vec![],
    });
    if index.end().0 < floor - 1 {
        let end = index.end();
        return Err(ArchivingError::Gap { end, floor });
    }
    let mut work = Work {
        owner,
        kafka,
        store,
        request,
        tell,
        shutdown,
        index,
    };
    // What an earlier run left attached.
    work.detach().await?;
    let mut partitions = 0;
    while let Some((first, last)) = work.next_partition(&mut lock).await? {
        work.archive(first, last).await?;
        partitions += 1;
    }
    let floor = Position(bounds(owner).await?.floor);
    Ok(Done { partitions, floor })
}

struct Work<'a> {
    owner: &'a PgPool,
    kafka: Option<&'a Kafka>,
    store: &'a Store,
    request: Request,
    tell: &'a (dyn Fn(Step<'_>) + Sync),
    shutdown: &'a Shutdown,
    index: Index,
}

impl Work<'_> {
    /// The first and the last position of the oldest partition that may go.
    async fn next_partition(
        &self,
        connection: &mut PgConnection,
    ) -> Result<Option<(Position, Position)>, sqlx::Error> {
        sqlx::query_as(
            "SELECT p.first, p.next - 1 FROM log.partitions() p, log.log l
             WHERE p.first >= l.floor AND p.next <= $1
               AND EXISTS (SELECT FROM log.events e WHERE e.position >= p.next)
               AND (SELECT e.recorded_at FROM log.events e WHERE e.position = p.next - 1)
                   <= clock_timestamp() - $2::float8 * interval '1 s'
             ORDER BY p.first LIMIT 1",
        )
        .bind(self.request.before)
        .bind(self.request.older_than.as_secs_f64())
        .fetch_optional(connection)
        .await
    }

    async fn archive(&mut self, first: Position, last: Position) -> Result<(), ArchivingError> {
        let floor = last.next();
        self.refuse_if_needed(floor).await?;
        let folder = format!("facts-{:012}-{:012}", first.0, last.0);
        let exported = self.export(&folder, first, last).await?;
        failpoint::hit("archive.exported");
        let part = Part {
            folder,
            first,
            last,
            manifest_sha256: Checksum::of(exported.text().as_bytes()).to_string(),
        };
        self.compare(&part).await?;
        failpoint::hit("archive.compared");
        self.enter(part).await?;
        failpoint::hit("archive.indexed");
        self.refuse_if_needed(floor).await?;
        sqlx::query("SELECT log.move_floor($1)")
            .bind(floor)
            .execute(self.owner)
            .await?;
        failpoint::hit("archive.floor_moved");
        (self.tell)(Step::Floor(floor));
        self.detach().await
    }

    /// Lists the part that was compared just now. What is listed from there on, and is not this, is of a log that was
    /// restored since: none of it has left Postgres.
    async fn enter(&mut self, part: Part) -> Result<(), ArchiveError> {
        let listed = &mut self.index.parts;
        let at = listed.partition_point(|one| one.first < part.first);
        if listed.get(at) == Some(&part) {
            return Ok(());
        }
        listed.truncate(at);
        listed.push(part);
        self.index.save(self.store).await
    }

    /// Facts stay as long as the relay or a subscription has not come beyond them.
    async fn refuse_if_needed(&self, before: Position) -> Result<(), ArchivingError> {
        let behind: Option<(String, i64)> =
            sqlx::query_as("SELECT subscription, lanes FROM log.behind($1) LIMIT 1")
                .bind(before)
                .fetch_optional(self.owner)
                .await?;
        if let Some((subscription, lanes)) = behind {
            return Err(ArchivingError::Behind {
                subscription,
                lanes,
                before,
            });
        }
        let Some(kafka) = self.kafka.cloned() else {
            return Ok(());
        };
        let found = asking(move || marker(&kafka)).await?;
        let marker = found
            .and_then(Result::ok)
            .filter(|marker| marker.log_id == self.index.log_id)
            .map_or(Position::START, |marker| marker.position);
        if marker.next() < before {
            return Err(ArchivingError::RelayBehind { marker, before });
        }
        Ok(())
    }

    async fn export(
        &self,
        folder: &str,
        first: Position,
        last: Position,
    ) -> Result<Manifest, ArchivingError> {
        let request = export::Request {
            format: Format::Ndjson,
            from: first,
            to: Some(last),
            types: vec![],
            tenant: None,
            segment_rows: self.request.segment_rows,
        };
        let place = Place {
            store: self.store,
            folder: Some(folder),
        };
        let tell = |step: export::Step<'_>| (self.tell)(Step::Exporting(step));
        let reader = Reader::from(self.owner);
        let (manifest, _) = run_into(reader, place, &request, &tell, self.shutdown).await?;
        Ok(manifest)
    }

    /// Reads the part back from where it lies, and holds each fact against the table.
    async fn compare(&self, part: &Part) -> Result<(), ArchivingError> {
        let manifest = manifest(self.store, part).await?;
        let mut archive = Archive::new(self.store.clone(), self.index.log_id);
        let (filter, mut at) = (Filter::default(), Position(part.first.0 - 1));
        while at < part.last {
            if self.shutdown.is_cancelled() {
                return Err(ArchivingError::Stopped);
            }
            let read = archive
                .stretch(part, &manifest, at, &filter, Limits::BULK, part.last)
                .await?;
            let mut back = read.facts.into_iter();
            while at < read.seen {
                let limits = Limits::BULK.within(read.seen.0 - at.0);
                let page = page(self.owner, at, &filter, limits).await?;
                let mut kept = page.facts.into_iter();
                if let Some(fact) = kept.find(|fact| back.next().as_ref() != Some(fact)) {
                    return Err(ArchivingError::Differs {
                        position: fact.position,
                        folder: part.folder.clone(),
                    });
                }
                at = page.seen;
            }
            (self.tell)(Step::Compared(at));
        }
        Ok(())
    }

    /// Takes what lies below the floor out of the log. Readers and appends queue behind one who waits for them, so each try
    /// is short.
    async fn detach(&self) -> Result<(), ArchivingError> {
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));
        let mut tries = 0;
        loop {
            match self.detach_one().await {
                Ok(None) => return Ok(()),
                Ok(Some(table)) => {
                    failpoint::hit("archive.detached");
                    (self.tell)(Step::Detached(&table));
                    tries = 0;
                    continue;
                }
                Err(error) if !is_held(&error) => return Err(error.into()),
                Err(_) if tries == TRIES => return Err(ArchivingError::Held),
                Err(_) => tries += 1,
            }
            if !self.shutdown.sleep(backoff.next_wait()).await {
                return Err(ArchivingError::Stopped);
            }
        }
    }

    async fn detach_one(&self) -> Result<Option<String>, sqlx::Error> {
        let mut tx = db::begin(self.owner, "BEGIN").await?;
        sqlx::query("SELECT set_config('lock_timeout', $1, true)")
            .bind(LOCK_LIMIT)
            .execute(&mut *tx)
            .await?;
        let table = sqlx::query_scalar("SELECT log.detach_archived($1)")
            .bind(self.request.keep_tables)
            .fetch_one(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(table)
    }
}

/// Somebody else holds what is asked for: `lock_not_available`, or a deadlock that Postgres resolved against us.
fn is_held(error: &sqlx::Error) -> bool {
    let code = error
        .as_database_error()
        .and_then(sqlx::error::DatabaseError::code);
    code.is_some_and(|code| code == "55P03" || code == "40P01")
}
