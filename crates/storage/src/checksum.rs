//! SHA-256, the one checksum that client, store and fact agree on.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The SHA-256 of an object's bytes. Text form: 64 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Checksum([u8; 32]);

/// A text that is no SHA-256.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a SHA-256 is 64 hex digits or their 32 bytes in base64")]
pub struct ChecksumError;

impl Checksum {
    /// The checksum of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// As S3 writes it in `x-amz-checksum-sha256`.
    pub fn base64(&self) -> String {
        STANDARD.encode(self.0)
    }

    /// From what S3 writes. A multipart object's composite checksum (`…-3`) is no SHA-256 of the object and is refused.
    pub fn from_base64(text: &str) -> Result<Self, ChecksumError> {
        let bytes = STANDARD.decode(text).map_err(|_| ChecksumError)?;
        bytes.try_into().map(Self).map_err(|_| ChecksumError)
    }

    /// The raw bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// A checksum of bytes that come in pieces.
#[derive(Clone, Debug, Default)]
pub struct Hashing(Sha256);

impl Hashing {
    /// Takes in the next piece.
    pub fn update(&mut self, piece: &[u8]) {
        self.0.update(piece);
    }

    /// The checksum of all pieces.
    pub fn finish(self) -> Checksum {
        Checksum(self.0.finalize().into())
    }
}

impl FromStr for Checksum {
    type Err = ChecksumError;

    fn from_str(text: &str) -> Result<Self, ChecksumError> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| ChecksumError)?;
        Ok(Self(bytes))
    }
}

impl TryFrom<String> for Checksum {
    type Error = ChecksumError;

    fn try_from(text: String) -> Result<Self, ChecksumError> {
        text.parse()
    }
}

impl From<Checksum> for String {
    fn from(checksum: Checksum) -> Self {
        checksum.to_string()
    }
}

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Checksum({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_hash_like_the_whole() {
        let mut hashing = Hashing::default();
        hashing.update(b"cine");
        hashing.update(b"log");
        assert_eq!(hashing.finish(), Checksum::of(b"cinelog"));
    }

    #[test]
    fn both_text_forms_come_back() {
        let sum = Checksum::of(b"abc");
        assert_eq!(
            sum.to_string(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(sum.to_string().parse(), Ok(sum));
        assert_eq!(Checksum::from_base64(&sum.base64()), Ok(sum));
        assert_eq!(
            Checksum::from_base64(&format!("{}-3", sum.base64())),
            Err(ChecksumError)
        );
        assert_eq!("ba78".parse::<Checksum>(), Err(ChecksumError));
    }
}
