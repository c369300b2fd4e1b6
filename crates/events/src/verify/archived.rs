//! What has left Postgres: looked at like the rest, and put aside lane by lane for the comparison of streams, since the
//! archive can only be read in the order of positions.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::sync::Arc;

use super::facts::Facts;
use super::streams::{Name, Stream};
use super::{Differences, VerifyError};
use crate::archive::Archive;
use crate::envelope::Sealed;
use crate::export::ndjson::{Lines, Reading};
use crate::id::{Lane, Position};
use crate::store::{Filter, Limits, LogError};

/// Sixty-four are written at once: at this level each takes about a megabyte.
const ZSTD_LEVEL: i32 = 1;

/// The facts before the floor, in files that have no name and go with this.
pub(super) struct Archived {
    archive: Archive,
    at: Position,
    lanes: BTreeMap<Lane, Aside>,
}

/// One lane's archived facts, as they come.
pub(super) struct Aside {
    file: File,
    lines: Lines<File>,
}

impl Archived {
    pub(super) fn new(archive: Archive) -> Result<Self, VerifyError> {
        let lane = |lane| Ok((lane, Aside::new()?));
        Ok(Self {
            archive,
            at: Position::START,
            lanes: Lane::all().map(lane).collect::<io::Result<_>>()?,
        })
    }

    /// Reads on to the last position before `floor`.
    pub(super) async fn read_to(
        mut self,
        floor: Position,
        facts: &mut Facts<'_>,
    ) -> Result<Self, VerifyError> {
        let (all, last) = (Filter::default(), Position(floor.0 - 1));
        while self.at < last {
            let page = self.archive.page(self.at, &all, Limits::BULK, last).await;
            let (page, seen) = page.map_err(LogError::from)?;
            self.at = seen;
            let page = Arc::new(page);
            let (mut lanes, aside) = (self.lanes, Arc::clone(&page));
            self.lanes = blocking(move || {
                put_aside(&mut lanes, &aside)?;
                Ok(lanes)
            })
            .await?;
            for fact in Arc::unwrap_or_clone(page) {
                facts.take(fact);
            }
        }
        Ok(self)
    }

    /// What has been put aside, lane by lane in their order.
    pub(super) fn lanes(self) -> impl Iterator<Item = Aside> {
        self.lanes.into_values()
    }
}

fn put_aside(lanes: &mut BTreeMap<Lane, Aside>, page: &[Sealed]) -> io::Result<()> {
    for fact in page {
        let lane = lanes.get_mut(&fact.lane).ok_or(io::ErrorKind::NotFound)?;
        lane.lines.push(std::slice::from_ref(fact))?;
    }
    Ok(())
}

/// Streams as far as they have been read, and what was wrong on the way.
pub(super) type Folded = (HashMap<Name, Stream>, Differences);

impl Aside {
    fn new() -> io::Result<Self> {
        let file = tempfile::tempfile()?;
        let lines = Lines::new(file.try_clone()?, ZSTD_LEVEL)?;
        Ok(Self { file, lines })
    }

    /// Folds them stream by stream.
    pub(super) async fn fold(self) -> Result<Folded, VerifyError> {
        blocking(move || self.read()).await
    }

    fn read(self) -> io::Result<Folded> {
        self.lines.finish()?;
        let mut file = self.file;
        file.seek(SeekFrom::Start(0))?;
        let mut reading = Reading::new(file)?;
        let (mut streams, mut differences) = (HashMap::new(), Differences::default());
        while let Some(fact) = reading.next_fact()? {
            streams
                .entry(Name::of(&fact))
                .or_insert_with(|| Stream::begin(&fact, true))
                .take(fact, &mut differences);
        }
        Ok((streams, differences))
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, VerifyError> {
    let done = tokio::task::spawn_blocking(work).await;
    Ok(done.map_err(io::Error::other)??)
}
