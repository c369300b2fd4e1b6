//! Positions as text: how far each lane of a log had come, under a tag.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use service::mac::MacKey;
use uuid::Uuid;

/// A log's id.
const LOG: usize = 16;
/// A lane and a position in it.
const STEP: usize = 1 + 8;
/// A signature.
const TAG: usize = 32;

/// Signs and checks position tokens.
pub(crate) struct Positions {
    key: MacKey,
    log: Uuid,
}

/// Why a text is no place in this log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoPlace {
    /// We did not give it out.
    Invalid,
    /// We did, for a log that is no longer this one.
    OfAnotherLog,
}

impl Positions {
    pub(crate) fn new(key: MacKey, log: Uuid) -> Self {
        Self { key, log }
    }

    /// The token for these lanes' positions.
    pub(crate) fn seal(&self, steps: impl IntoIterator<Item = (u8, i64)>) -> String {
        let mut bytes = self.log.as_bytes().to_vec();
        for (lane, position) in steps {
            bytes.push(lane);
            bytes.extend(position.to_be_bytes());
        }
        bytes.extend(self.key.sign(&[&bytes]));
        BASE64.encode(bytes)
    }

    /// The lanes' positions of a token.
    pub(crate) fn open(&self, token: &[u8]) -> Result<Vec<(u8, i64)>, NoPlace> {
        let bytes = BASE64.decode(token).map_err(|_| NoPlace::Invalid)?;
        let (message, tag) = bytes.split_last_chunk::<TAG>().ok_or(NoPlace::Invalid)?;
        if !self.key.verify(&[message], tag) {
            return Err(NoPlace::Invalid);
        }
        let (log, steps) = message.split_first_chunk::<LOG>().ok_or(NoPlace::Invalid)?;
        if log != self.log.as_bytes() {
            return Err(NoPlace::OfAnotherLog);
        }
        let steps = steps.chunks(STEP).map(step).collect::<Option<_>>();
        steps.ok_or(NoPlace::Invalid)
    }
}

fn step(bytes: &[u8]) -> Option<(u8, i64)> {
    let (&lane, position) = bytes.split_first()?;
    Some((lane, i64::from_be_bytes(position.try_into().ok()?)))
}
