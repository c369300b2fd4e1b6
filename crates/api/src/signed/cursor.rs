//! Opaque cursors as text: where a page ended, under a tag that binds it to a scope.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use serde::Serialize;
use serde::de::DeserializeOwned;
use service::mac::MacKey;

/// Changes when a cursor's meaning does; older ones are then refused instead of misread.
const VERSION: u8 = 1;
const TAG: usize = 32;

/// Seals and opens cursors.
pub(crate) struct Cursors(MacKey);

impl Cursors {
    pub(crate) fn new(key: MacKey) -> Self {
        Self(key)
    }

    pub(crate) fn seal<C: Serialize>(
        &self,
        scope: &str,
        cursor: &C,
    ) -> Result<String, serde_json::Error> {
        let mut bytes = vec![VERSION];
        serde_json::to_writer(&mut bytes, cursor)?;
        bytes.extend(self.0.sign(&[scope.as_bytes(), &bytes]));
        Ok(BASE64.encode(bytes))
    }

    pub(crate) fn open<C: DeserializeOwned>(&self, scope: &str, text: &str) -> Option<C> {
        let bytes = BASE64.decode(text).ok()?;
        let (message, tag) = bytes.split_at_checked(bytes.len().checked_sub(TAG)?)?;
        if message.first() != Some(&VERSION) || !self.0.verify(&[scope.as_bytes(), message], tag) {
            return None;
        }
        serde_json::from_slice(&message[1..]).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_opens_where_it_was_made_and_nowhere_else() {
        let cursors = Cursors::new(MacKey::new(b"secret"));
        let sealed = cursors.seal("/v1/feed", &(7, "x")).unwrap();
        assert_eq!(
            cursors.open::<(i64, String)>("/v1/feed", &sealed),
            Some((7, "x".to_owned()))
        );
        assert_eq!(
            cursors.open::<(i64, String)>("/v1/search?q=x", &sealed),
            None
        );
        assert_eq!(
            Cursors::new(MacKey::new(b"other")).open::<(i64, String)>("/v1/feed", &sealed),
            None
        );
        for text in ["", "AQ", "not base64!", &sealed[1..]] {
            assert_eq!(cursors.open::<(i64, String)>("/v1/feed", text), None);
        }
    }
}
