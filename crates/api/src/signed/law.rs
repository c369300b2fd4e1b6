//! What holds of all that we sign, whatever it is made of and whatever is done to it: it reads back, where it belongs; and
//! nothing else is read at all. Tried on chance here, and by a fuzzer in `fuzz/fuzz_targets`.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use service::mac::MacKey;
use testing::damage::{damaged, halves};
use uuid::Uuid;

use super::cursor::Cursors;
use super::jwt::{Claims, ISSUER, Tokens};
use super::position::{NoPlace, Positions};

fn key() -> MacKey {
    MacKey::new(b"a secret that only laws have")
}

/// Of cursors.
pub(crate) fn cursor(bytes: &[u8]) {
    let (content, changes) = halves(bytes);
    let (cursors, content) = (Cursors::new(key()), String::from_utf8_lossy(content));
    let open = |list: &str, text: &str| cursors.open::<String>(list, text);
    let sealed = cursors.seal("list", &content).expect("a text serialises");
    assert_eq!(open("list", &sealed).as_deref(), Some(&*content));
    assert_eq!(open("another list", &sealed), None);
    // What another list's cursors are made of is no reason to fail either.
    assert_eq!(cursors.open::<(i64, Uuid)>("list", &sealed), None);
    let changed = damaged(&sealed, changes);
    assert_eq!(open("list", &changed).is_some(), changed == sealed);
    assert_eq!(open("list", &BASE64.encode(bytes)), None);
    // A fuzzer copies what it saw us compare: what is read then is what we would write.
    let text = String::from_utf8_lossy(bytes);
    if let Some(read) = open("list", &text) {
        assert_eq!(cursors.seal("list", &read).ok().as_deref(), Some(&*text));
    }
}

/// Of positions.
pub(crate) fn position(bytes: &[u8]) {
    let (content, changes) = halves(bytes);
    let log = Uuid::from_u128(1);
    let ours = Positions::new(key(), log);
    let steps = content.chunks_exact(9).map(|step| {
        let (lane, position) = step.split_first().expect("nine bytes");
        let position = position.try_into().expect("eight bytes");
        (*lane, i64::from_be_bytes(position))
    });
    let steps: Vec<_> = steps.collect();
    let sealed = ours.seal(steps.iter().copied());
    assert_eq!(ours.open(sealed.as_bytes()), Ok(steps));
    let later = Positions::new(key(), Uuid::from_u128(2));
    let gone = Err(NoPlace::OfAnotherLog);
    assert_eq!(later.open(sealed.as_bytes()), gone);
    let changed = damaged(&sealed, changes);
    if changed != sealed {
        assert_eq!(ours.open(changed.as_bytes()), Err(NoPlace::Invalid));
    }
    if let Ok(steps) = ours.open(bytes) {
        assert_eq!(ours.seal(steps).as_bytes(), bytes);
    }
    // Had we signed whatever this is, it would still be read whole or not at all.
    let message = [log.as_bytes(), bytes].concat();
    let tag = key().sign(&[&message]);
    let signed = BASE64.encode([&*message, &tag].concat());
    if let Ok(steps) = ours.open(signed.as_bytes()) {
        assert_eq!(ours.seal(steps), signed);
    }
}

/// Of tokens.
pub(crate) fn jwt(bytes: &[u8]) {
    let (content, changes) = halves(bytes);
    let ours = Tokens::new(&[7; 32]);
    let claims = Claims {
        iss: ISSUER.to_owned(),
        sub: String::from_utf8_lossy(content).into_owned(),
        tenant: Uuid::from_u128(1),
        roles: vec!["member".to_owned()],
        exp: i64::from_ne_bytes([content.first().copied().unwrap_or_default(); 8]).max(0),
        sid: content.first().map(|byte| Uuid::from_bytes([*byte; 16])),
    };
    let signed = ours.sign(&claims);
    assert_eq!(ours.read(&signed).as_ref(), Some(&claims));
    assert_eq!(Tokens::new(&[8; 32]).read::<String>(&signed), None);
    let strange = Claims {
        iss: "somebody else".to_owned(),
        ..claims
    };
    assert_eq!(ours.read::<String>(&ours.sign(&strange)), None);
    let changed = damaged(&signed, changes);
    assert_eq!(ours.read::<String>(&changed).is_some(), changed == signed);
    let text = String::from_utf8_lossy(bytes);
    if let Some(read) = ours.read::<String>(&text) {
        assert_eq!(ours.sign(&read), text);
    }
    // Whatever algorithm and key a header names, it is not ours.
    let (_, rest) = signed.split_once('.').expect("a token has three parts");
    let other = format!("{}.{rest}", BASE64.encode(bytes));
    assert_eq!(ours.read::<String>(&other), None);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_we_sign_reads_back_and_nothing_else_does(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            super::cursor(&bytes);
            super::position(&bytes);
            super::jwt(&bytes);
        }
    }
}
