//! Message authentication: HMAC-SHA256 under keys derived per purpose from one secret, so that a signed cursor can
//! never pass for a signed URL.

use hmac::{Hmac, Mac};
use sha2::Sha256;

/// A key for one purpose.
#[derive(Clone)]
pub struct MacKey(Vec<u8>);

impl MacKey {
    /// The root key. Use [`MacKey::derive`] before signing anything.
    pub fn new(secret: &[u8]) -> Self {
        Self(secret.to_vec())
    }

    /// A key for `purpose`, independent of the keys of all other purposes.
    #[must_use]
    pub fn derive(&self, purpose: &str) -> Self {
        Self(
            self.sign(&[b"cinelog/purpose", purpose.as_bytes()])
                .to_vec(),
        )
    }

    /// The tag over `parts`. Each part is preceded by its length, so no two lists of parts share a message.
    pub fn sign(&self, parts: &[&[u8]]) -> [u8; 32] {
        self.mac(parts).finalize().into_bytes().into()
    }

    /// Whether `tag` is the tag over `parts`, compared in constant time.
    pub fn verify(&self, parts: &[&[u8]], tag: &[u8]) -> bool {
        self.mac(parts).verify_slice(tag).is_ok()
    }

    fn mac(&self, parts: &[&[u8]]) -> Hmac<Sha256> {
        let mut mac = keyed(&self.0);
        for part in parts {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        mac
    }
}

/// The plain HMAC-SHA256 of `message`, as others make it.
pub fn tag(secret: &[u8], message: &[u8]) -> [u8; 32] {
    keyed(secret)
        .chain_update(message)
        .finalize()
        .into_bytes()
        .into()
}

/// Whether `tag` is the plain HMAC-SHA256 of `message`, compared in constant time.
pub fn verifies(secret: &[u8], message: &[u8], tag: &[u8]) -> bool {
    keyed(secret)
        .chain_update(message)
        .verify_slice(tag)
        .is_ok()
}

fn keyed(secret: &[u8]) -> Hmac<Sha256> {
    Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes a key of any length")
}

impl std::fmt::Debug for MacKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MacKey(***)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_do_not_run_into_each_other() {
        let key = MacKey::new(b"secret").derive("test");
        assert_ne!(key.sign(&[b"ab", b"c"]), key.sign(&[b"a", b"bc"]));
    }

    #[test]
    fn a_tag_holds_for_its_purpose_only() {
        let root = MacKey::new(b"secret");
        let tag = root.derive("cursor").sign(&[b"x"]);
        assert!(root.derive("cursor").verify(&[b"x"], &tag));
        assert!(!root.derive("position").verify(&[b"x"], &tag));
        assert!(!root.derive("cursor").verify(&[b"y"], &tag));
    }
}
