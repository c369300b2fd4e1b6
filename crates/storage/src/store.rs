//! One store, whichever it is.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::{StreamExt, TryStreamExt};
use object_store::{ObjectStore, ObjectStoreExt};
use service::mac::MacKey;
use tokio::fs::File;
use tokio::io::AsyncReadExt;
use url::Url;

use crate::checksum::Checksum;
use crate::config::{Config, Location};
use crate::error::Error;
use crate::folder::Folder;
use crate::key::Key;
use crate::metrics::observed;
use crate::s3::Bucket;
use crate::terms::{Presentation, PutTerms, SignedRequest};
use crate::transfer;

/// Where objects are: put once, never changed, deleted when forgotten.
#[derive(Clone, Debug)]
pub struct Store(pub(crate) Kind);

#[derive(Clone, Debug)]
pub(crate) enum Kind {
    Folder(Folder),
    // A box: it is five times the size of the other.
    S3(Box<Bucket>),
}

/// What is known of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectFacts {
    /// Its size.
    pub bytes: u64,
    /// Its `ETag`, with quotes; opaque.
    pub etag: Option<String>,
    /// Its checksum, when the store attests one or we read all its bytes.
    pub sha256: Option<Checksum>,
}

/// What a download must turn out to be.
#[derive(Clone, Debug, Default)]
pub struct Expected {
    /// The `ETag` recorded when the object was verified.
    pub etag: Option<String>,
    /// Its checksum.
    pub sha256: Option<Checksum>,
}

/// What to put.
pub(crate) enum Body<'a> {
    Bytes(Bytes),
    File(&'a Path),
}

impl Store {
    /// The store that `config` names, without the means to sign a folder's URLs. A folder must be a store already: one
    /// that is not mounted yet must not pass for an empty one.
    pub fn open(config: &Config) -> Result<Self, Error> {
        Self::find(config, Folder::open_at)
    }

    /// The same, and makes a folder that is not there: for the process that owns it.
    pub fn open_or_make(config: &Config) -> Result<Self, Error> {
        Self::find(config, Folder::make_at)
    }

    fn find(
        config: &Config,
        folder_at: impl Fn(PathBuf, Url) -> Result<Folder, Error>,
    ) -> Result<Self, Error> {
        let url = config
            .storage_url
            .as_deref()
            .ok_or_else(|| Error::Config("set STORAGE_URL".into()))?;
        Ok(Self(match Location::parse(url)? {
            Location::Folder(root) => Kind::Folder(folder_at(root, config.public_url()?)?),
            Location::Bucket(at) => Kind::S3(Box::new(Bucket::open(at, config)?)),
        }))
    }

    /// With the installation's key, so that a folder's URLs can be signed and checked. A bucket has keys of its own.
    #[must_use]
    pub fn with_signing(self, key: &MacKey) -> Self {
        match self.0 {
            Kind::Folder(folder) => Self(Kind::Folder(folder.with_signing(key))),
            kind @ Kind::S3(_) => Self(kind),
        }
    }

    /// The folder, when it is one: the API has to serve it.
    pub fn folder(&self) -> Option<&Folder> {
        match &self.0 {
            Kind::Folder(folder) => Some(folder),
            Kind::S3(_) => None,
        }
    }

    /// The key of the object that the bucket calls `name`, if it is one of ours.
    pub fn key_named(&self, name: &str) -> Option<Key> {
        match &self.0 {
            Kind::Folder(_) => name.parse().ok(),
            Kind::S3(bucket) => name.strip_prefix(bucket.prefix())?.parse().ok(),
        }
    }

    /// A request by which a client puts what `terms` say, once. Which terms the store itself enforces depends on the
    /// store; [`Store::verify`] enforces them all.
    pub fn sign_put(
        &self,
        terms: &PutTerms,
        expires: Duration,
        now: DateTime<Utc>,
    ) -> Result<SignedRequest, Error> {
        match &self.0 {
            Kind::Folder(folder) => folder.sign_put(terms, expires, now),
            Kind::S3(bucket) => bucket.sign_put(terms, expires, now),
        }
    }

    /// A URL by which anyone who has it reads the object until it expires.
    pub fn sign_get(
        &self,
        key: &Key,
        expires: Duration,
        now: DateTime<Utc>,
        presentation: &Presentation,
    ) -> Result<Url, Error> {
        match &self.0 {
            Kind::Folder(folder) => folder.sign_get(key, expires, now, presentation),
            Kind::S3(bucket) => bucket.sign_get(key, expires, now, presentation),
        }
    }

    /// What a bucket's CORS rules would have to allow so that pages of `origin` can put what we sign; nothing when they do. A folder has
    /// none: the API answers for it.
    pub async fn cors_lacks(
        &self,
        origin: &str,
        terms: &PutTerms,
        now: DateTime<Utc>,
    ) -> Result<Vec<String>, Error> {
        match &self.0 {
            Kind::Folder(_) => Ok(vec![]),
            Kind::S3(bucket) => bucket.cors_lacks(origin, terms, now).await,
        }
    }

    /// What the store knows of the object, none when there is no such object.
    pub async fn head(&self, key: &Key) -> Result<Option<ObjectFacts>, Error> {
        self.observed("head", async {
            match &self.0 {
                Kind::Folder(folder) => {
                    transfer::head(folder.objects(), &self.path(key)?, key).await
                }
                Kind::S3(bucket) => bucket.head(key).await,
            }
        })
        .await
    }

    /// Makes sure that the object is what was agreed: by the checksum that the store attests, else by reading it all. The one with the
    /// `ETag` `refused`, which was found to have another checksum before, is not read again.
    pub async fn verify(
        &self,
        key: &Key,
        bytes: u64,
        sha256: &Checksum,
        refused: Option<&str>,
    ) -> Result<ObjectFacts, Error> {
        let mut facts = self
            .head(key)
            .await?
            .ok_or_else(|| Error::Missing(key.clone()))?;
        if facts.bytes != bytes {
            return Err(Error::SizeDiffers {
                key: key.clone(),
                expected: bytes,
                found: facts.bytes,
            });
        }
        let known = refused.is_some() && facts.etag.as_deref() == refused;
        if facts.sha256.is_none() && !known {
            let mut nowhere = tokio::io::sink();
            let read = self.copy(key, facts.etag.clone(), bytes, &mut nowhere);
            facts.sha256 = self.observed("hash", read).await?.sha256;
        }
        if facts.sha256 == Some(*sha256) {
            Ok(facts)
        } else {
            Err(Error::ChecksumDiffers {
                key: key.clone(),
                etag: facts.etag,
            })
        }
    }

    /// Downloads the object to the new file `to`, at most `limit` bytes, and checks it as it comes. On failure there is
    /// no file.
    pub async fn download(
        &self,
        key: &Key,
        to: &Path,
        limit: u64,
        expected: &Expected,
    ) -> Result<ObjectFacts, Error> {
        self.observed("download", async {
            let mut file = File::create_new(to).await?;
            let copied = self
                .copy(key, expected.etag.clone(), limit, &mut file)
                .await;
            let checked = copied.and_then(|facts| match expected.sha256 {
                Some(sha256) if facts.sha256 != Some(sha256) => Err(Error::ChecksumDiffers {
                    key: key.clone(),
                    etag: facts.etag,
                }),
                _ => Ok(facts),
            });
            if checked.is_err() {
                tokio::fs::remove_file(to).await?;
            }
            checked
        })
        .await
    }

    /// The object's bytes, at most `limit`.
    pub async fn read(&self, key: &Key, limit: u64) -> Result<Bytes, Error> {
        self.observed("read", async {
            let mut bytes = Vec::new();
            self.copy(key, None, limit, &mut bytes).await?;
            Ok(bytes.into())
        })
        .await
    }

    /// Creates the object from a file. When it is there already with the same bytes, that is as good.
    pub async fn upload_file(
        &self,
        key: &Key,
        path: &Path,
        media_type: &str,
    ) -> Result<ObjectFacts, Error> {
        self.observed("upload", async {
            let (bytes, sha256) = transfer::hash_file(path).await?;
            let terms = PutTerms {
                key: key.clone(),
                bytes,
                media_type: media_type.to_owned(),
                sha256,
            };
            self.create(&terms, Body::File(path)).await
        })
        .await
    }

    /// Creates a small object. When it is there already with the same bytes, that is as good.
    pub async fn put(
        &self,
        key: &Key,
        bytes: Bytes,
        media_type: &str,
    ) -> Result<ObjectFacts, Error> {
        self.observed("put", async {
            let (key, media_type, sha256) =
                (key.clone(), media_type.to_owned(), Checksum::of(&bytes));
            let terms = PutTerms {
                key,
                bytes: bytes.len() as u64,
                media_type,
                sha256,
            };
            self.create(&terms, Body::Bytes(bytes)).await
        })
        .await
    }

    /// Puts a small object in the place of whatever is there. Readers see the old one or the new one, never a part. For
    /// objects that say how far something has come; what clients and renditions put is created once.
    pub async fn replace(&self, key: &Key, bytes: Bytes, media_type: &str) -> Result<(), Error> {
        self.observed("replace", async {
            match &self.0 {
                Kind::Folder(folder) => folder.replace(key, bytes).await,
                Kind::S3(bucket) => bucket.replace(key, bytes, media_type).await,
            }
        })
        .await
    }

    /// Deletes the object; one that is not there is as good as deleted.
    pub async fn delete(&self, key: &Key) -> Result<(), Error> {
        self.observed("delete", async {
            match self
                .objects()
                .delete(&self.path(key)?)
                .await
                .map_err(|error| Error::from_store(key, error))
            {
                Err(Error::Missing(_)) => Ok(()),
                result => result,
            }
        })
        .await
    }

    /// Deletes every object whose key begins with the segments of `folder`; returns how many there were.
    pub async fn delete_under(&self, folder: &Key) -> Result<u64, Error> {
        self.observed("delete_under", async {
            let found = self.objects().list(Some(&self.path(folder)?));
            let found = found.map_ok(|object| object.location).boxed();
            let deleted = self.objects().delete_stream(found);
            deleted
                .try_fold(0, async |count, _| Ok(count + 1))
                .await
                .map_err(|error| Error::from_store(folder, error))
        })
        .await
    }

    /// Does what a bucket is to do, unless it is left alone just now, and records how it went.
    pub(crate) async fn observed<T>(
        &self,
        operation: &'static str,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        // In a box: it would be in each future of those who call, and theirs.
        let work = Box::pin(work);
        let Kind::S3(bucket) = &self.0 else {
            return observed(operation, work).await;
        };
        let asking = bucket.breaker().ask(operation, Instant::now())?;
        let result = observed(operation, work).await;
        asking.saw(Instant::now(), &result);
        result
    }

    async fn create(&self, terms: &PutTerms, body: Body<'_>) -> Result<ObjectFacts, Error> {
        let created = match &self.0 {
            Kind::Folder(folder) => write(folder, terms, &body).await,
            Kind::S3(bucket) => bucket.create(terms, &body).await,
        };
        match created {
            Ok(()) => {
                let facts = self
                    .head(&terms.key)
                    .await?
                    .ok_or_else(|| Error::Missing(terms.key.clone()))?;
                Ok(ObjectFacts {
                    sha256: Some(terms.sha256),
                    ..facts
                })
            }
            // Ours, if an earlier try got further than its answer.
            Err(Error::Exists(key)) => {
                let there = self.verify(&key, terms.bytes, &terms.sha256, None);
                match there.await {
                    Err(Error::SizeDiffers { .. } | Error::ChecksumDiffers { .. }) => {
                        Err(Error::Exists(key))
                    }
                    result => result,
                }
            }
            Err(error) => Err(error),
        }
    }

    async fn copy(
        &self,
        key: &Key,
        etag: Option<String>,
        limit: u64,
        sink: &mut (impl tokio::io::AsyncWrite + Unpin + Send),
    ) -> Result<ObjectFacts, Error> {
        transfer::copy(self.objects(), (&self.path(key)?, key), etag, limit, sink).await
    }

    fn objects(&self) -> &Arc<dyn ObjectStore> {
        match &self.0 {
            Kind::Folder(folder) => folder.objects(),
            Kind::S3(bucket) => bucket.objects(),
        }
    }

    fn path(&self, key: &Key) -> Result<object_store::path::Path, Error> {
        match &self.0 {
            Kind::Folder(_) => transfer::path("", key),
            Kind::S3(bucket) => transfer::path(bucket.prefix(), key),
        }
    }
}

/// Puts a body into the folder as a client's PUT does.
async fn write(folder: &Folder, terms: &PutTerms, body: &Body<'_>) -> Result<(), Error> {
    let mut incoming = folder.begin_put(terms.clone()).await?;
    match body {
        Body::Bytes(bytes) => incoming.write(bytes).await?,
        Body::File(path) => {
            let mut file = File::open(path).await?;
            let mut buffer = vec![0; 256 * 1024];
            loop {
                match file.read(&mut buffer).await? {
                    0 => break,
                    read => incoming.write(&buffer[..read]).await?,
                }
            }
        }
    }
    incoming.finish().await.map(drop)
}

/// When a request signed at `now` for `expires` ends.
pub(crate) fn expiry(expires: Duration, now: DateTime<Utc>) -> DateTime<Utc> {
    chrono::Duration::from_std(expires)
        .ok()
        .and_then(|expires| now.checked_add_signed(expires))
        .unwrap_or(DateTime::<Utc>::MAX_UTC)
}
