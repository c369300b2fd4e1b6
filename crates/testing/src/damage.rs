//! Texts that somebody changed.

/// The first half of `bytes`, for what a text is made of, and the second, for what is done to it.
pub fn halves(bytes: &[u8]) -> (&[u8], &[u8]) {
    bytes.split_at(bytes.len() / 2)
}

/// `text` after `changes` of four bytes each: where, in two, what is done there, and with which character.
pub fn damaged(text: &str, changes: &[u8]) -> String {
    let mut bytes = text.as_bytes().to_vec();
    for change in changes.chunks_exact(4) {
        let at = usize::from(u16::from_be_bytes([change[0], change[1]])) % (bytes.len() + 1);
        let character = change[3] & 0x7F;
        match change[2] % 4 {
            0 => bytes.insert(at, character),
            1 => bytes.truncate(at),
            _ if at == bytes.len() => {}
            2 => bytes[at] = character,
            _ => drop(bytes.remove(at)),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
