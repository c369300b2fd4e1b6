//! First bytes: whatever they are, the head alone tells a container or none, and text that names other files is none.

#![no_main]

use fuzz::size;
use fuzz::sniff::{HEAD_BYTES, id3_bytes, sniff};
use libfuzzer_sys::fuzz_target;

/// How formats begin that open other files.
const LISTS: [&[u8]; 4] = [b"#EXTM3U\n", b"ffconcat", b"<?xml ve", b"[playlist]"];

fuzz_target!(|bytes: &[u8]| {
    let found = sniff(bytes).map(|container| container.demuxer);
    let head = &bytes[..bytes.len().min(HEAD_BYTES)];
    assert_eq!(
        found,
        sniff(head).map(|container| container.demuxer),
        "the head tells all"
    );
    assert!(found.is_none() || LISTS.iter().all(|list| !bytes.starts_with(list)));
    let claimed = size::claimed(&mut |buffer, at| {
        let rest = usize::try_from(at)
            .ok()
            .and_then(|at| bytes.get(at..))
            .unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    });
    assert!(claimed.is_ok(), "only reading fails");
    if let Some(tag) = id3_bytes(bytes) {
        // A tag says at most 28 bits, so eight of them lead no further than a file can be long.
        assert!((10..=20 + (1 << 28)).contains(&tag));
    }
});
