//! Moving an object's bytes: counted, hashed and never waited for without end.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use object_store::path::Path as StorePath;
use object_store::{GetOptions, ObjectStore};
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::checksum::{Checksum, Hashing};
use crate::error::Error;
use crate::key::Key;
use crate::metrics;
use crate::store::ObjectFacts;

/// How long the next piece of an object may be in coming.
const STALL: Duration = Duration::from_mins(1);

/// The object's path in the store, below `prefix`.
pub(crate) fn path(prefix: &str, key: &Key) -> Result<StorePath, Error> {
    StorePath::parse(format!("{prefix}{key}")).map_err(|error| Error::Refused(error.to_string()))
}

pub(crate) fn head_only() -> GetOptions {
    GetOptions {
        head: true,
        ..GetOptions::default()
    }
}

/// What the store knows without reading the object.
pub(crate) async fn head(
    objects: &Arc<dyn ObjectStore>,
    path: &StorePath,
    key: &Key,
) -> Result<Option<ObjectFacts>, Error> {
    match objects.get_opts(path, head_only()).await {
        Ok(found) => Ok(Some(ObjectFacts {
            bytes: found.meta.size,
            etag: found.meta.e_tag,
            sha256: None,
        })),
        Err(error) => match Error::from_store(key, error) {
            Error::Missing(_) => Ok(None),
            error => Err(error),
        },
    }
}

/// Copies the object to `sink`, at most `limit` bytes of it and only while its `ETag` is `etag`, and returns what it was.
pub(crate) async fn copy(
    objects: &Arc<dyn ObjectStore>,
    (path, key): (&StorePath, &Key),
    etag: Option<String>,
    limit: u64,
    sink: &mut (impl AsyncWrite + Unpin + Send),
) -> Result<ObjectFacts, Error> {
    let options = GetOptions {
        if_match: etag.clone(),
        ..GetOptions::default()
    };
    let got = timely(objects.get_opts(path, options))
        .await?
        .map_err(|error| Error::from_store(key, error))?;
    // Some stores do not look at If-Match on a GET.
    if etag.is_some() && got.meta.e_tag != etag {
        return Err(Error::Changed(key.clone()));
    }
    let etag = got.meta.e_tag.clone();
    let too_large = || Error::LimitReached {
        key: key.clone(),
        limit,
    };
    if got.meta.size > limit {
        return Err(too_large());
    }
    let (mut stream, mut hashing, mut bytes) = (got.into_stream(), Hashing::default(), 0);
    while let Some(piece) = timely(stream.try_next())
        .await?
        .map_err(|error| Error::from_store(key, error))?
    {
        bytes += piece.len() as u64;
        if bytes > limit {
            return Err(too_large());
        }
        hashing.update(&piece);
        sink.write_all(&piece).await?;
        metrics::moved("in", piece.len());
    }
    sink.flush().await?;
    Ok(ObjectFacts {
        bytes,
        etag,
        sha256: Some(hashing.finish()),
    })
}

/// Size and checksum of a file on this machine.
pub(crate) async fn hash_file(path: &Path) -> Result<(u64, Checksum), Error> {
    let (mut file, mut hashing, mut bytes) = (File::open(path).await?, Hashing::default(), 0);
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let read = file.read(&mut buffer).await?;
        if read == 0 {
            return Ok((bytes, hashing.finish()));
        }
        hashing.update(&buffer[..read]);
        bytes += read as u64;
    }
}

async fn timely<T>(work: impl Future<Output = T>) -> Result<T, Error> {
    tokio::time::timeout(STALL, work)
        .await
        .map_err(|elapsed| Error::Unavailable(Box::new(elapsed)))
}
