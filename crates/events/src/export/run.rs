//! Makes the files: the plan first, then segment after segment, each put whole and then entered in the manifest.
//!
//! A segment that was put and not entered is made again by the next run, from the same facts into the same bytes, which
//! the store takes for what it has. So there is nothing to repair after a kill, at any moment.

use std::fs::File;
use std::io::BufWriter;

use service::shutdown::Shutdown;
use storage::{Key, Store};
use tempfile::NamedTempFile;

use super::manifest::{self, Manifest, Segment};
use super::ndjson::Lines;
use super::parquet::Columns;
use super::plan::{Format, Plan, Request, Span};
use super::{ExportError, ZSTD_LEVEL};
use crate::envelope::Sealed;
use crate::failpoint;
use crate::id::Position;
use crate::store::{Limits, Reader};

/// A manifest of a million segments is smaller.
const MANIFEST_LIMIT: u64 = 256 << 20;

/// What an export tells while it runs.
#[derive(Clone, Copy, Debug)]
pub enum Step<'a> {
    /// This is what will be there, and what of it is there already.
    Planned(&'a Manifest),
    /// Facts up to here have been read.
    Read(Position),
    /// This segment is there.
    Sealed(&'a Segment),
}

/// Where an export's files go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    pub(crate) store: &'a Store,
    /// The folder in it; none: the store itself.
    pub(crate) folder: Option<&'a str>,
}

impl Place<'_> {
    fn key(self, name: &str) -> Result<Key, ExportError> {
        let path = match self.folder {
            Some(folder) => format!("{folder}/{name}"),
            None => name.to_owned(),
        };
        path.parse()
            .map_err(|_| ExportError::Manifest(format!("{path} is no name for an object")))
    }
}

/// Exports what `request` asks for into `store`, or goes on with what was begun there. Returns the manifest and whether
/// all of it had been there before.
pub async fn run(
    reader: impl Into<Reader>,
    store: &Store,
    request: &Request,
    tell: &(dyn Fn(Step<'_>) + Sync),
    shutdown: &Shutdown,
) -> Result<(Manifest, bool), ExportError> {
    let place = Place {
        store,
        folder: None,
    };
    run_into(reader.into(), place, request, tell, shutdown).await
}

/// The same into a folder of a store.
pub(crate) async fn run_into(
    mut reader: Reader,
    place: Place<'_>,
    request: &Request,
    tell: &(dyn Fn(Step<'_>) + Sync),
    shutdown: &Shutdown,
) -> Result<(Manifest, bool), ExportError> {
    let mut manifest = begin(&reader, place, request).await?;
    tell(Step::Planned(&manifest));
    if manifest.complete {
        return Ok((manifest, true));
    }
    for span in manifest.missing() {
        let file = NamedTempFile::new()?;
        let rows = write(&mut reader, &manifest, span, &file, tell, shutdown).await?;
        failpoint::hit("export.before_put");
        let segment = put(place, &manifest.plan, span, rows, &file).await?;
        failpoint::hit("export.before_manifest");
        tell(Step::Sealed(&segment));
        manifest.add(segment);
        save(place, &manifest).await?;
        failpoint::hit("export.after_manifest");
    }
    manifest.complete = true;
    save(place, &manifest).await?;
    Ok((manifest, false))
}

/// The manifest that is there, or a new one with the log's end pinned.
async fn begin(
    reader: &Reader,
    place: Place<'_>,
    request: &Request,
) -> Result<Manifest, ExportError> {
    let log = reader.bounds().await?;
    let key = place.key(manifest::NAME)?;
    match place.store.read(&key, MANIFEST_LIMIT).await {
        Ok(text) => {
            let manifest = Manifest::parse(&text)?;
            manifest.accepts(request, log.log_id)?;
            Ok(manifest)
        }
        Err(storage::Error::Missing(_)) => {
            let manifest = Manifest::begin(request.pin(log)?);
            save(place, &manifest).await?;
            Ok(manifest)
        }
        Err(error) => Err(error.into()),
    }
}

async fn save(place: Place<'_>, manifest: &Manifest) -> Result<(), ExportError> {
    let text = manifest.text().into();
    let key = place.key(manifest::NAME)?;
    Ok(place.store.replace(&key, text, "application/json").await?)
}

/// Writes the facts of `span` into `file`; returns how many there are.
async fn write(
    reader: &mut Reader,
    manifest: &Manifest,
    span: Span,
    file: &NamedTempFile,
    tell: &(dyn Fn(Step<'_>) + Sync),
    shutdown: &Shutdown,
) -> Result<i64, ExportError> {
    let filter = manifest.plan.filter();
    let mut out = Writer::new(manifest.plan.format, file.reopen()?)?;
    let (mut after, mut rows) = (Position(span.first.0 - 1), 0);
    while after < span.last {
        let limits = Limits::BULK.within(span.last.0 - after.0);
        let page = tokio::select! {
            // Pages that were read ahead are there at once: who stops is heard before them.
            biased;
            () = shutdown.cancelled() => {
                let segments = manifest.segments.len();
                return Err(ExportError::Stopped { segments });
            }
            page = reader.page(after, &filter, limits) => page?,
        };
        if page.seen == after {
            // A log that was restored may end before the plan does.
            return Err(ExportError::Ahead {
                to: span.last,
                head: page.head,
            });
        }
        (after, rows) = (page.seen, rows + page.facts.len());
        out.push(page.facts)?;
        failpoint::hit("export.page");
        tell(Step::Read(after));
    }
    out.finish()?;
    Ok(i64::try_from(rows).unwrap_or(i64::MAX))
}

async fn put(
    place: Place<'_>,
    plan: &Plan,
    span: Span,
    rows: i64,
    file: &NamedTempFile,
) -> Result<Segment, ExportError> {
    let name = span.name(plan.format);
    let (key, media_type) = (place.key(&name)?, plan.format.media_type());
    let facts = match place.store.upload_file(&key, file.path(), media_type).await {
        Err(storage::Error::Exists(_)) => {
            return Err(ExportError::Manifest(format!(
                "{name} is there with other bytes than this log and this program make: choose another --out"
            )));
        }
        put => put?,
    };
    Ok(Segment {
        name,
        first: span.first,
        last: span.last,
        rows,
        bytes: facts.bytes,
        sha256: facts.sha256.map(|sum| sum.to_string()).unwrap_or_default(),
    })
}

/// A segment in the making, in either form.
enum Writer {
    Ndjson(Lines<File>),
    Parquet(Box<Columns<BufWriter<File>>>),
}

impl Writer {
    fn new(format: Format, file: File) -> Result<Self, ExportError> {
        Ok(match format {
            Format::Ndjson => Self::Ndjson(Lines::new(file, ZSTD_LEVEL)?),
            Format::Parquet => Self::Parquet(Box::new(Columns::new(BufWriter::new(file))?)),
        })
    }

    fn push(&mut self, facts: Vec<Sealed>) -> Result<(), ExportError> {
        match self {
            Self::Ndjson(lines) => Ok(lines.push(&facts)?),
            Self::Parquet(columns) => Ok(columns.push(facts)?),
        }
    }

    fn finish(self) -> Result<(), ExportError> {
        match self {
            Self::Ndjson(lines) => Ok(lines.finish()?),
            Self::Parquet(columns) => Ok(columns.finish()?),
        }
    }
}
