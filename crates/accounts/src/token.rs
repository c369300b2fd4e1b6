//! Texts that prove something: what is behind them, a tenant and an id, and a secret of 256 bits.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use rand::Rng;
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// Secret bits.
pub(crate) type Bits = [u8; 32];

/// Whose and which, and the secret that proves it.
#[derive(Clone, Copy)]
pub(crate) struct Token {
    pub(crate) tenant: Uuid,
    pub(crate) id: Uuid,
    pub(crate) secret: Bits,
}

impl Token {
    /// As it is given out.
    pub(crate) fn text(&self) -> String {
        let parts: [&[u8]; 3] = [self.tenant.as_bytes(), self.id.as_bytes(), &self.secret];
        BASE64.encode(parts.concat())
    }

    /// A text that was given out, if it is one.
    pub(crate) fn read(text: &str) -> Option<Self> {
        let bytes = BASE64.decode(text).ok()?;
        let (tenant, rest) = bytes.split_first_chunk::<16>()?;
        let (id, secret) = rest.split_first_chunk::<16>()?;
        Some(Self {
            tenant: Uuid::from_bytes(*tenant),
            id: Uuid::from_bytes(*id),
            secret: secret.try_into().ok()?,
        })
    }

    /// What of it is kept.
    pub(crate) fn hash(&self) -> Bits {
        Sha256::digest(self.secret).into()
    }
}

/// Bits that nobody can guess.
pub(crate) fn chance() -> Bits {
    rand::rng().random()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_reads_as_what_was_written_and_no_other_length_does() {
        let token = Token {
            tenant: Uuid::from_u128(1),
            id: Uuid::from_u128(2),
            secret: chance(),
        };
        let text = token.text();
        let read = Token::read(&text).unwrap();
        assert_eq!(
            (read.tenant, read.id, read.secret),
            (token.tenant, token.id, token.secret)
        );
        assert!(Token::read(&text[..80]).is_none());
        assert!(Token::read(&format!("{text}AAAA")).is_none());
        assert!(Token::read("*").is_none());
    }
}
