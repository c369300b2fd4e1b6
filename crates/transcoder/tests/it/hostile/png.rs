//! Chunks of PNG, changed into what no program would write.

/// A PNG with the packed pixels of a large one as the text of twenty chunks more.
pub(super) fn stuffed(small: &[u8], large: &[u8]) -> Vec<u8> {
    let packed: Vec<u8> = chunks(large)
        .filter(|(name, _)| *name == b"IDAT")
        .flat_map(|(_, data)| data.to_vec())
        .collect();
    let text = [b"zTXtx\0\0".as_slice(), &packed].concat();
    let length = u32::try_from(text.len() - 4).unwrap().to_be_bytes();
    let chunk = [&length, &text[..], &crc32(&text).to_be_bytes()].concat();
    // Behind the signature and the head.
    let (head, rest) = small.split_at(33);
    [head, &chunk.repeat(20), rest].concat()
}

/// Name and data of every chunk of a PNG.
fn chunks(png: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let mut rest = &png[8..];
    std::iter::from_fn(move || {
        let (length, later) = rest.split_first_chunk::<4>()?;
        let (chunk, later) = later.split_at(4 + u32::from_be_bytes(*length) as usize);
        rest = &later[4..];
        Some(chunk.split_at(4))
    })
}

/// The checksum of a chunk, name included.
pub(super) fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            crc >> 1 ^ if crc & 1 == 1 { 0xedb8_8320 } else { 0 }
        })
    })
}
