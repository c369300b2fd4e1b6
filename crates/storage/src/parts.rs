//! Large objects that come in parts: each part is put by a signed request of its own, and what has come stays when the client goes
//! away, so that it can go on where it stopped. A folder takes objects in one piece.

use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::error::Error;
use crate::key::Key;
use crate::store::{Kind, Store};
use crate::terms::SignedRequest;

/// S3 takes at most so many parts of one object.
pub const PARTS_MAX: u32 = 10_000;
/// And no part but the last may be smaller, bytes.
pub const PART_MIN: u64 = 5 << 20;

/// An object that comes in parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parts {
    /// Where it will be.
    pub key: Key,
    /// What the store calls the upload.
    pub upload: String,
    /// Size of the whole object.
    pub bytes: u64,
    /// Size of each part but the last.
    pub part_bytes: u64,
}

/// A part that the store has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// Which; the first is 1.
    pub(crate) number: u32,
    /// Its size.
    pub(crate) bytes: u64,
    /// Its `ETag`, with quotes; opaque.
    pub(crate) etag: String,
}

impl Parts {
    /// The size of parts for an object of `bytes`: `wanted`, or as much more as S3's largest number of parts needs.
    pub fn size(bytes: u64, wanted: u64) -> u64 {
        wanted
            .max(PART_MIN)
            .max(bytes.div_ceil(u64::from(PARTS_MAX)))
    }

    /// How many there are.
    pub fn count(&self) -> u32 {
        u32::try_from(self.bytes.div_ceil(self.part_bytes)).unwrap_or(u32::MAX)
    }

    /// How many bytes part `number` has, none when there is no such part.
    pub fn bytes_of(&self, number: u32) -> Option<u64> {
        let before = u64::from(number.checked_sub(1)?) * self.part_bytes;
        let left = self.bytes.checked_sub(before).filter(|&left| left > 0)?;
        Some(left.min(self.part_bytes))
    }

    /// Those of `there` that are as they should be, in order.
    fn right(&self, mut there: Vec<Part>) -> Vec<Part> {
        there.retain(|part| self.bytes_of(part.number) == Some(part.bytes));
        there.sort_by_key(|part| part.number);
        there.dedup_by_key(|part| part.number);
        there
    }
}

impl Store {
    /// Begins an object that comes in parts, and returns what the store calls the upload; none: this store takes objects in one
    /// piece. One that is neither joined nor given up stays, and is paid for.
    pub async fn begin_parts(&self, key: &Key, media_type: &str) -> Result<Option<String>, Error> {
        match &self.0 {
            Kind::Folder(_) => Ok(None),
            Kind::S3(bucket) => self
                .observed("begin_parts", bucket.begin_parts(key, media_type))
                .await
                .map(Some),
        }
    }

    /// A request by which a client puts part `number`: as many bytes as it has, as often as it likes until the parts are joined.
    pub fn sign_part(
        &self,
        parts: &Parts,
        number: u32,
        expires: Duration,
        now: DateTime<Utc>,
    ) -> Result<SignedRequest, Error> {
        self.parted()?.sign_part(parts, number, expires, now)
    }

    /// Numbers of the parts that are there and as large as they should be; of an object that was made of its parts, all.
    pub async fn parts(&self, parts: &Parts) -> Result<Vec<u32>, Error> {
        let bucket = self.parted()?;
        self.observed("parts", async {
            match bucket.parts(&parts.key, &parts.upload).await {
                Ok(there) => Ok(parts.right(there).iter().map(|part| part.number).collect()),
                Err(Error::Missing(key)) => match bucket.head(&key).await? {
                    Some(_) => Ok((1..=parts.count()).collect()),
                    None => Ok(vec![]),
                },
                Err(error) => Err(error),
            }
        })
        .await
    }

    /// Makes the object of its parts. Doing so twice is doing so once.
    pub async fn join_parts(&self, parts: &Parts) -> Result<(), Error> {
        let bucket = self.parted()?;
        self.observed("join_parts", async {
            if bucket.head(&parts.key).await?.is_some() {
                return Ok(());
            }
            let there = parts.right(bucket.parts(&parts.key, &parts.upload).await?);
            let missing: Vec<u32> = (1..=parts.count())
                .filter(|number| {
                    there
                        .binary_search_by_key(number, |part| part.number)
                        .is_err()
                })
                .collect();
            if !missing.is_empty() {
                let key = parts.key.clone();
                return Err(Error::PartsMissing { key, missing });
            }
            match bucket.join_parts(&parts.key, &parts.upload, &there).await {
                // Somebody else was faster.
                Err(Error::Missing(_) | Error::Exists(_))
                    if bucket.head(&parts.key).await?.is_some() =>
                {
                    Ok(())
                }
                result => result,
            }
        })
        .await
    }

    /// Gives an object in parts up: what has come of it goes. Of one that is not there any more nothing is left to go, and a folder has
    /// none.
    pub async fn give_up_parts(&self, key: &Key, upload: &str) -> Result<(), Error> {
        match &self.0 {
            Kind::Folder(_) => Ok(()),
            Kind::S3(bucket) => {
                let given_up = bucket.give_up_parts(key, upload);
                self.observed("give_up_parts", given_up).await
            }
        }
    }

    fn parted(&self) -> Result<&crate::s3::Bucket, Error> {
        match &self.0 {
            Kind::S3(bucket) => Ok(bucket),
            Kind::Folder(_) => Err(Error::Config("a folder takes objects in one piece".into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(bytes: u64, part_bytes: u64) -> Parts {
        Parts {
            key: "a/b".parse().unwrap(),
            upload: "u".into(),
            bytes,
            part_bytes,
        }
    }

    #[test]
    fn parts_make_the_whole() {
        for (bytes, part_bytes) in [(1, 5), (5, 5), (6, 5), (10, 5), (11, 5)] {
            let parts = parts(bytes, part_bytes);
            let sizes = (1..=parts.count()).map(|number| parts.bytes_of(number).unwrap());
            assert_eq!(sizes.sum::<u64>(), bytes, "{parts:?}");
            assert_eq!(parts.bytes_of(0), None);
            assert_eq!(parts.bytes_of(parts.count() + 1), None);
        }
        assert_eq!(parts(11, 5).bytes_of(u32::MAX), None);
    }

    #[test]
    fn there_are_never_more_than_s3_takes() {
        assert_eq!(Parts::size(1, 0), PART_MIN);
        assert_eq!(Parts::size(50 << 30, 64 << 20), 64 << 20);
        let most = 5 << 40;
        assert_eq!(parts(most, Parts::size(most, 64 << 20)).count(), PARTS_MAX);
    }

    #[test]
    fn only_whole_parts_count() {
        let part = |number, bytes| Part {
            number,
            bytes,
            etag: String::new(),
        };
        let there = vec![part(3, 1), part(1, 4), part(2, 5), part(4, 5)];
        assert_eq!(parts(11, 5).right(there), [part(2, 5), part(3, 1)]);
    }
}
