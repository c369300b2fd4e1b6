//! What holds of texts that prove something: each is the only text of what it says. Tried on chance here, and by a fuzzer
//! in `fuzz/fuzz_targets`.

use testing::damage::{damaged, halves};
use uuid::Uuid;

use crate::token::Token;

/// Of API keys, and all that is written as they are.
pub(crate) fn token(bytes: &[u8]) {
    let (content, changes) = halves(bytes);
    let mut parts = [0; 64];
    let known = content.len().min(parts.len());
    parts[..known].copy_from_slice(&content[..known]);
    let part = |at| <[u8; 16]>::try_from(&parts[at..at + 16]).expect("16 bytes");
    let token = Token {
        tenant: Uuid::from_bytes(part(0)),
        id: Uuid::from_bytes(part(16)),
        secret: parts[32..].try_into().expect("32 bytes"),
    };
    let text = token.text();
    let read = Token::read(&text).expect("what was written reads");
    assert_eq!(
        (read.tenant, read.id, read.hash()),
        (token.tenant, token.id, token.hash())
    );
    for text in [
        damaged(&text, changes),
        String::from_utf8_lossy(bytes).into(),
    ] {
        if let Some(read) = Token::read(&text) {
            assert_eq!(read.text(), text);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_text_is_the_only_one_of_what_it_says(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            super::token(&bytes);
        }
    }
}
