//! Object keys. A [`Key`] is safe in a path and in a URL by construction, so nobody downstream has to check it again.

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

use crate::checksum::Checksum;

/// The longest key, in bytes: S3's own limit.
const LONGEST: usize = 1024;

/// Where an object is: segments of `A-Z a-z 0-9 . _ - @`, none empty and none that begins with a dot, joined by `/`.
/// So no key can climb (`..`), hide (`.incoming`) or need escaping in a URL's path.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(String);

/// A text that is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// A segment is empty or begins with a dot, or a character is not allowed.
    #[error("not an object key: segments are of A-Z a-z 0-9 . _ - @ and do not begin with a dot")]
    Malformed,
    /// Longer than any store accepts.
    #[error("an object key has at most {LONGEST} bytes")]
    TooLong,
}

impl Key {
    /// Where a client puts an asset's original, before anyone has looked at it.
    pub fn original(tenant: Uuid, asset: Uuid) -> Self {
        Self(format!("incoming/{tenant}/{asset}"))
    }

    /// Whose original is there, tenant and asset, if it is the place of one.
    pub fn of_original(&self) -> Option<(Uuid, Uuid)> {
        let (tenant, asset) = self.0.strip_prefix("incoming/")?.split_once('/')?;
        let ids = (tenant.parse().ok()?, asset.parse().ok()?);
        // A UUID can be written in several ways, and only one of them is the key.
        (Self::original(ids.0, ids.1) == *self).then_some(ids)
    }

    /// Where an output with this content goes. The content names it, so a job that runs twice writes the same object
    /// or another one, never over one.
    pub fn rendition(
        tenant: Uuid,
        asset: Uuid,
        profile: &str,
        sha256: &Checksum,
        extension: &str,
    ) -> Result<Self, KeyError> {
        format!("{tenant}/{asset}/{profile}/{sha256}.{extension}").parse()
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Key {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        if text.len() > LONGEST {
            return Err(KeyError::TooLong);
        }
        if text.split('/').all(is_segment) {
            Ok(Self(text.to_owned()))
        } else {
            Err(KeyError::Malformed)
        }
    }
}

fn is_segment(segment: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-@".contains(&byte);
    !segment.is_empty() && !segment.starts_with('.') && segment.bytes().all(allowed)
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_cannot_climb_hide_or_need_escaping() {
        for text in [
            "",
            "/",
            "/a",
            "a/",
            "a//b",
            "..",
            "a/../b",
            "a/..",
            ".incoming/x",
            "a/.b",
            "a b",
            "a%2fb",
            "a\\b",
            "a\0b",
            "ä",
            "a?b",
            "a#b",
            "a:b",
        ] {
            assert_eq!(text.parse::<Key>(), Err(KeyError::Malformed), "{text:?}");
        }
        assert_eq!("a".repeat(1025).parse::<Key>(), Err(KeyError::TooLong));
        assert!("a/b..c/proxy720@1/D-e_f.mp4".parse::<Key>().is_ok());
    }

    #[test]
    fn keys_of_originals_and_renditions_are_keys() {
        let (tenant, asset) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let original = Key::original(tenant, asset);
        assert_eq!(original.as_str().parse(), Ok(original.clone()));
        assert_eq!(
            original.as_str(),
            "incoming/00000000-0000-0000-0000-000000000001/00000000-0000-0000-0000-000000000002"
        );
        assert_eq!(original.of_original(), Some((tenant, asset)));
        let written_otherwise = original.as_str().replace('-', "");
        assert_eq!(
            written_otherwise.parse::<Key>().unwrap().of_original(),
            None
        );
        let sha256 = Checksum::of(b"");
        let rendition = Key::rendition(tenant, asset, "proxy720@1", &sha256, "mp4").unwrap();
        assert!(
            rendition
                .as_str()
                .ends_with(&format!("/proxy720@1/{sha256}.mp4"))
        );
        assert_eq!(
            Key::rendition(tenant, asset, "../x", &sha256, "mp4"),
            Err(KeyError::Malformed)
        );
    }
}
