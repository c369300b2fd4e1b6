//! Reading the archive, a page at a time, as the log itself is read.

use std::fs::File;
use std::sync::Arc;

use storage::{Checksum, Expected, Store};
use tempfile::TempDir;
use uuid::Uuid;

use super::{ArchiveError, Index, Part, key};
use crate::envelope::Sealed;
use crate::export::ndjson::Reading;
use crate::export::{Manifest, Segment};
use crate::id::Position;
use crate::store::{Filter, Limits};

/// A manifest of a million segments is smaller.
const MANIFEST_LIMIT: u64 = 256 << 20;

/// The archive of one log, to be read. A clone begins anew with the segment that it has open.
#[derive(Debug)]
pub struct Archive {
    store: Store,
    log_id: Uuid,
    index: Option<Arc<Index>>,
    part: Option<Arc<(Part, Manifest)>>,
    open: Option<Open>,
}

impl Clone for Archive {
    fn clone(&self) -> Self {
        Self {
            store: self.store.clone(),
            log_id: self.log_id,
            index: self.index.clone(),
            part: self.part.clone(),
            open: None,
        }
    }
}

/// A segment that is being read.
#[derive(Debug)]
struct Open {
    name: String,
    last: Position,
    /// Everything up to here was given.
    at: Position,
    lines: Reading<File>,
}

/// Facts of one segment that passed, and how far was looked.
pub(super) struct Stretch {
    pub(super) facts: Vec<Sealed>,
    pub(super) seen: Position,
}

impl Archive {
    /// The archive of the log `log_id` in `store`. What is there is looked at when it is needed.
    pub fn new(store: Store, log_id: Uuid) -> Self {
        Self {
            store,
            log_id,
            index: None,
            part: None,
            open: None,
        }
    }

    /// The next facts after `after` that pass `filter`, from the segment that holds the next position, up to `upto` at
    /// most.
    pub(crate) async fn page(
        &mut self,
        after: Position,
        filter: &Filter,
        limits: Limits,
        upto: Position,
    ) -> Result<(Vec<Sealed>, Position), ArchiveError> {
        let part = self.part_with(after.next()).await?;
        let (part, manifest) = &*part;
        let stretch = self
            .stretch(part, manifest, after, filter, limits, upto)
            .await?;
        Ok((stretch.facts, stretch.seen))
    }

    /// The same from a part that needs not be in the index yet.
    pub(super) async fn stretch(
        &mut self,
        part: &Part,
        manifest: &Manifest,
        after: Position,
        filter: &Filter,
        limits: Limits,
        upto: Position,
    ) -> Result<Stretch, ArchiveError> {
        let open = match self.open.take() {
            Some(open) if open.at == after && open.last > after => open,
            _ => self.open_segment(part, manifest, after).await?,
        };
        let filter = filter.clone();
        let (open, stretch) = read_on(open, filter, limits, upto).await?;
        self.open = Some(open);
        Ok(stretch)
    }

    /// The part that holds `position`; looks at the index again when it knows of none.
    async fn part_with(
        &mut self,
        position: Position,
    ) -> Result<Arc<(Part, Manifest)>, ArchiveError> {
        if let Some(part) = &self.part
            && (part.0.first..=part.0.last).contains(&position)
        {
            return Ok(Arc::clone(part));
        }
        let known = |index: &Option<Arc<Index>>| index.as_ref()?.part(position).cloned();
        if known(&self.index).is_none() {
            let index = Index::load(&self.store, self.log_id).await?;
            self.index = index.map(Arc::new);
        }
        let short = || ArchiveError::Short {
            end: self
                .index
                .as_ref()
                .map_or(Position::START, |index| index.end()),
            asked: position,
        };
        let part = known(&self.index).ok_or_else(short)?;
        let manifest = manifest(&self.store, &part).await?;
        Ok(Arc::clone(self.part.insert(Arc::new((part, manifest)))))
    }

    async fn open_segment(
        &self,
        part: &Part,
        manifest: &Manifest,
        after: Position,
    ) -> Result<Open, ArchiveError> {
        let position = after.next();
        let holds = |segment: &&Segment| (segment.first..=segment.last).contains(&position);
        let short = || ArchiveError::Short {
            end: after,
            asked: position,
        };
        let segment = manifest.segments.iter().find(holds).ok_or_else(short)?;
        let key = key(&format!("{}/{}", part.folder, segment.name))?;
        let sha256: Checksum = segment
            .sha256
            .parse()
            .map_err(|error| ArchiveError::damaged(&key, &error))?;
        let folder = TempDir::new()?;
        let path = folder.path().join("segment");
        let expected = Expected {
            sha256: Some(sha256),
            etag: None,
        };
        self.store
            .download(&key, &path, segment.bytes, &expected)
            .await?;
        // The file lives as long as it is open.
        let file = File::open(&path)?;
        drop(folder);
        Ok(Open {
            name: key.to_string(),
            last: segment.last,
            at: after,
            lines: Reading::new(file)?,
        })
    }
}

/// The manifest of a part, as it was when it was archived.
pub(super) async fn manifest(store: &Store, part: &Part) -> Result<Manifest, ArchiveError> {
    let key = key(&format!(
        "{}/{}",
        part.folder,
        crate::export::manifest::NAME
    ))?;
    let text = store.read(&key, MANIFEST_LIMIT).await?;
    if Checksum::of(&text).to_string() != part.manifest_sha256 {
        return Err(ArchiveError::damaged(&key, &"its SHA-256 is another one"));
    }
    Ok(Manifest::parse(&text)?)
}

/// Goes on in a segment, where that holds nobody up.
async fn read_on(
    mut open: Open,
    filter: Filter,
    limits: Limits,
    upto: Position,
) -> Result<(Open, Stretch), ArchiveError> {
    let read = tokio::task::spawn_blocking(move || {
        let stretch = open.read(&filter, limits, upto)?;
        Ok((open, stretch))
    });
    read.await.map_err(std::io::Error::other)?
}

impl Open {
    fn read(
        &mut self,
        filter: &Filter,
        limits: Limits,
        upto: Position,
    ) -> Result<Stretch, ArchiveError> {
        let last = Position(self.at.0.saturating_add(limits.positions))
            .min(self.last)
            .min(upto);
        let (mut facts, mut bytes) = (vec![], 0);
        while self.at < last {
            let Some(fact) = self.next_fact()? else {
                return Err(self.damaged(format!("it ends after position {}", self.at)));
            };
            // Begun in the middle: what lies before was given another time.
            if fact.position <= self.at {
                continue;
            }
            if fact.position != self.at.next() {
                return Err(self.damaged(format!("position {} is missing", self.at.next())));
            }
            self.at = fact.position;
            if !filter.passes(&fact) {
                continue;
            }
            bytes += i64::try_from(fact.payload.len()).unwrap_or(i64::MAX);
            facts.push(fact);
            if bytes >= limits.bytes || i64::try_from(facts.len()) == Ok(limits.facts) {
                break;
            }
        }
        let seen = self.at;
        Ok(Stretch { facts, seen })
    }

    fn next_fact(&mut self) -> Result<Option<Sealed>, ArchiveError> {
        let next = self.lines.next_fact();
        next.map_err(|error| self.damaged(error.to_string()))
    }

    fn damaged(&self, reason: String) -> ArchiveError {
        ArchiveError::Damaged {
            name: self.name.clone(),
            reason,
        }
    }
}
