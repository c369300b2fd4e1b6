//! Objects as files under one folder, for one machine. The API serves it: this module checks the signed requests,
//! takes in and opens files; it knows nothing of HTTP but header and query syntax.
//!
//! An object appears whole, checked and on disk, or not at all: it is written aside, in a folder that no [`Key`] can
//! name, and linked to its name in one step that fails when the name is taken.

mod incoming;
#[cfg(test)]
mod law;
mod sign;

use std::io::SeekFrom;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use object_store::ObjectStore;
use object_store::local::LocalFileSystem;
use reqwest::header::HeaderMap;
use service::mac::MacKey;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt, Take};
use url::Url;

pub use incoming::Incoming;
pub use sign::SignatureError;

use self::sign::Signer;
use crate::error::Error;
use crate::key::Key;
use crate::range::ByteRange;
use crate::store::expiry;
use crate::terms::{Presentation, PutTerms, SignedRequest};
use crate::transfer;

/// Where files are written before they are objects. A key's segment never begins with a dot.
const ASIDE: &str = ".incoming";
/// A file aside that nobody has written to for so long belongs to a process that died.
const ABANDONED: Duration = Duration::from_hours(24);

/// A folder store.
#[derive(Clone, Debug)]
pub struct Folder {
    root: PathBuf,
    public_url: Url,
    /// Only the process that signs and serves URLs has it.
    signing: Option<Signer>,
    objects: Arc<dyn ObjectStore>,
}

/// An object that is open for reading.
#[derive(Debug)]
pub struct OpenObject {
    /// Its size.
    pub bytes: u64,
    /// Its `ETag`, with quotes.
    pub etag: Option<String>,
    file: File,
}

impl Folder {
    pub(crate) fn make_at(root: PathBuf, public_url: Url) -> Result<Self, Error> {
        std::fs::create_dir_all(root.join(ASIDE))?;
        Self::open_at(root, public_url)
    }

    pub(crate) fn open_at(root: PathBuf, public_url: Url) -> Result<Self, Error> {
        let aside = root.join(ASIDE);
        if !aside.is_dir() {
            return Err(Error::Config(format!(
                "{} is not a store: mount it, or let `cinelog api` or `cinelog up` make it",
                root.display()
            )));
        }
        remove_abandoned(&aside)?;
        let objects = LocalFileSystem::new_with_prefix(&root)
            .map_err(|error| Error::Config(error.to_string()))?;
        Ok(Self {
            root,
            public_url,
            signing: None,
            objects: Arc::new(objects),
        })
    }

    pub(crate) fn with_signing(mut self, key: &MacKey) -> Self {
        self.signing = Some(Signer::new(key.derive("storage-url")));
        self
    }

    pub(crate) fn sign_put(
        &self,
        terms: &PutTerms,
        expires: Duration,
        now: DateTime<Utc>,
    ) -> Result<SignedRequest, Error> {
        let url = self.url_of(&terms.key)?;
        Ok(self.signer()?.put(url, terms, expiry(expires, now)))
    }

    pub(crate) fn sign_get(
        &self,
        key: &Key,
        expires: Duration,
        now: DateTime<Utc>,
        presentation: &Presentation,
    ) -> Result<Url, Error> {
        let (url, until) = (self.url_of(key)?, expiry(expires, now));
        Ok(self.signer()?.get(url, key, presentation, until))
    }

    /// What a `PUT /storage/{key}?{query}` was allowed to put and until when, if it still is and the headers announce just
    /// that.
    pub fn check_put(
        &self,
        key: &str,
        query: &str,
        headers: &HeaderMap,
        now: DateTime<Utc>,
    ) -> Result<(PutTerms, DateTime<Utc>), SignatureError> {
        // Without a key of our own, no tag can be ours.
        let signer = self.signing.as_ref().ok_or(SignatureError::Forged)?;
        signer.check_put(key, query, headers, now)
    }

    /// What a `GET` or `HEAD /storage/{key}?{query}` may read, and as what it is to be presented.
    pub fn check_get(
        &self,
        key: &str,
        query: &str,
        now: DateTime<Utc>,
    ) -> Result<(Key, Presentation), SignatureError> {
        let signer = self.signing.as_ref().ok_or(SignatureError::Forged)?;
        signer.check_get(key, query, now)
    }

    fn signer(&self) -> Result<&Signer, Error> {
        self.signing
            .as_ref()
            .ok_or_else(|| Error::Config("this process holds no key to sign URLs with".into()))
    }

    fn url_of(&self, key: &Key) -> Result<Url, Error> {
        let base = self.public_url.as_str().trim_end_matches('/');
        Url::parse(&format!("{base}/storage/{key}"))
            .map_err(|error| Error::Config(format!("public URL: {error}")))
    }

    pub(crate) fn objects(&self) -> &Arc<dyn ObjectStore> {
        &self.objects
    }

    /// Opens the object at `key`.
    pub async fn open(&self, key: &Key) -> Result<OpenObject, Error> {
        let facts = transfer::head(&self.objects, &transfer::path("", key)?, key).await?;
        let facts = facts.ok_or_else(|| Error::Missing(key.clone()))?;
        let file = File::open(self.file_of(key))
            .await
            .map_err(|error| match error.kind() {
                // Deleted since.
                std::io::ErrorKind::NotFound => Error::Missing(key.clone()),
                _ => Error::Disk(error),
            })?;
        Ok(OpenObject {
            bytes: facts.bytes,
            etag: facts.etag,
            file,
        })
    }

    fn file_of(&self, key: &Key) -> PathBuf {
        self.root.join(key.as_str())
    }
}

impl OpenObject {
    /// Its bytes in `range`, which was parsed against [`OpenObject::bytes`].
    pub async fn read(mut self, range: &ByteRange) -> Result<Take<File>, Error> {
        let range = range.of(self.bytes);
        self.file.seek(SeekFrom::Start(range.start)).await?;
        Ok(self.file.take(range.end - range.start))
    }
}

fn remove_abandoned(aside: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(aside)? {
        let entry = entry?;
        // Another process may be doing the same, or just have finished with the file.
        let Ok(modified) = entry.metadata().and_then(|metadata| metadata.modified()) else {
            continue;
        };
        if modified.elapsed().is_ok_and(|age| age > ABANDONED) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
    Ok(())
}
