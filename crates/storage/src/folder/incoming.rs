//! An object on its way into the folder.

use std::io::Write;
use std::path::Path;

use bytes::Bytes;
use object_store::ObjectStore;
use tempfile::{NamedTempFile, TempPath};
use tokio::fs::File;
use tokio::io::AsyncWriteExt;

use super::{ASIDE, Folder};
use crate::checksum::Hashing;
use crate::error::Error;
use crate::key::Key;
use crate::metrics;
use crate::store::ObjectFacts;
use crate::terms::PutTerms;
use crate::transfer;

/// Takes in the bytes of one object. Dropped before [`Incoming::finish`], it leaves nothing.
#[derive(Debug)]
pub struct Incoming {
    folder: Folder,
    terms: PutTerms,
    file: File,
    aside: TempPath,
    hashing: Hashing,
    written: u64,
}

impl Folder {
    /// Begins to take in what [`Folder::check_put`] allowed. Refuses at once when the object is there already.
    pub async fn begin_put(&self, terms: PutTerms) -> Result<Incoming, Error> {
        let path = transfer::path("", &terms.key)?;
        if transfer::head(&self.objects, &path, &terms.key)
            .await?
            .is_some()
        {
            return Err(Error::Exists(terms.key));
        }
        let aside = self.root.join(ASIDE);
        let aside = blocking(move || NamedTempFile::new_in(aside)).await?;
        let (file, aside) = aside.into_parts();
        let file = File::from_std(file);
        Ok(Incoming {
            folder: self.clone(),
            terms,
            file,
            aside,
            hashing: Hashing::default(),
            written: 0,
        })
    }
}

impl Folder {
    /// Puts a small object in the place of whatever is at `key`, in one step.
    pub(crate) async fn replace(&self, key: &Key, bytes: Bytes) -> Result<(), Error> {
        let (root, target) = (self.root.clone(), self.file_of(key));
        blocking(move || {
            let mut aside = NamedTempFile::new_in(root.join(ASIDE))?;
            aside.write_all(&bytes)?;
            aside.as_file().sync_all()?;
            give_name(&root, &target, || Ok(aside.persist(&target).map(drop)?))
        })
        .await?;
        Ok(())
    }
}

impl Incoming {
    /// Takes in the next bytes; more than agreed are refused as they come.
    pub async fn write(&mut self, piece: &[u8]) -> Result<(), Error> {
        self.written += piece.len() as u64;
        if self.written > self.terms.bytes {
            return Err(self.size_differs());
        }
        self.hashing.update(piece);
        self.file.write_all(piece).await?;
        metrics::moved("in", piece.len());
        Ok(())
    }

    /// Makes it an object, if it is what was agreed and nobody was quicker.
    pub async fn finish(mut self) -> Result<ObjectFacts, Error> {
        if self.written != self.terms.bytes {
            return Err(self.size_differs());
        }
        let Self {
            folder,
            terms,
            mut file,
            aside,
            hashing,
            ..
        } = self;
        if hashing.finish() != terms.sha256 {
            let (key, etag) = (terms.key, None);
            return Err(Error::ChecksumDiffers { key, etag });
        }
        file.flush().await?;
        file.sync_all().await?;
        let (root, target) = (folder.root.clone(), folder.file_of(&terms.key));
        blocking(move || link(aside, &root, &target))
            .await
            .map_err(|error| match error.kind() {
                std::io::ErrorKind::AlreadyExists => Error::Exists(terms.key.clone()),
                _ => Error::Disk(error),
            })?;
        let meta = folder
            .objects
            .get_opts(&transfer::path("", &terms.key)?, transfer::head_only())
            .await;
        let meta = meta
            .map_err(|error| Error::from_store(&terms.key, error))?
            .meta;
        Ok(ObjectFacts {
            bytes: meta.size,
            etag: meta.e_tag,
            sha256: Some(terms.sha256),
        })
    }

    fn size_differs(&mut self) -> Error {
        Error::SizeDiffers {
            key: self.terms.key.clone(),
            expected: self.terms.bytes,
            found: self.written,
        }
    }
}

/// Gives the file its name unless it is taken.
fn link(aside: TempPath, root: &Path, target: &Path) -> std::io::Result<()> {
    give_name(root, target, || Ok(aside.persist_noclobber(target)?))
}

/// Names a file by `name`, and makes the name survive a power failure: every folder on the way may be new.
fn give_name(
    root: &Path,
    target: &Path,
    name: impl FnOnce() -> std::io::Result<()>,
) -> std::io::Result<()> {
    let folder = target.parent().unwrap_or(root);
    std::fs::create_dir_all(folder)?;
    name()?;
    for folder in folder
        .ancestors()
        .take_while(|folder| folder.starts_with(root))
    {
        std::fs::File::open(folder)?.sync_all()?;
    }
    Ok(())
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> std::io::Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(std::io::Error::other)?
}
