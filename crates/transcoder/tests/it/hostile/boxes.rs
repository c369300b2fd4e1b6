//! Boxes of MP4 and MOV, changed into what no program would write.

/// A box.
pub(super) fn boxed(name: &str, payload: &[u8]) -> Vec<u8> {
    let size = u32::try_from(8 + payload.len()).unwrap();
    [&size.to_be_bytes(), name.as_bytes(), payload].concat()
}

/// Boxes with the payload of the first one at `path` changed; those around it take its new size.
///
/// The index must come last in the file where the size changes: it holds offsets.
pub(super) fn changed(boxes: &[u8], path: &[&str], change: &dyn Fn(&mut Vec<u8>)) -> Vec<u8> {
    let [name, inner @ ..] = path else {
        let mut payload = boxes.to_vec();
        change(&mut payload);
        return payload;
    };
    let mut at = 0;
    loop {
        let size: [u8; 4] = boxes[at..at + 4].try_into().unwrap();
        let end = at + u32::from_be_bytes(size) as usize;
        if &boxes[at + 4..at + 8] == name.as_bytes() {
            let made = boxed(name, &changed(&boxes[at + 8..end], inner, change));
            return [&boxes[..at], &made, &boxes[end..]].concat();
        }
        at = end;
    }
}

/// Writes a number of 32 bits over what is there.
pub(super) fn put(payload: &mut [u8], at: usize, value: u32) {
    payload[at..at + 4].copy_from_slice(&value.to_be_bytes());
}

/// A data reference to another file by its absolute path: an alias record of the Macintosh, as libav reads it.
pub(super) fn alias(path: &str) -> Vec<u8> {
    let mut record = vec![0; 150];
    let padded = [path.as_bytes(), &[0][..path.len() % 2]].concat();
    let length = u16::try_from(path.len()).unwrap();
    // Tag 2 is the absolute path, tag −1 the end.
    record.extend([2_u16.to_be_bytes(), length.to_be_bytes()].concat());
    record.extend(padded);
    record.extend([0xff, 0xff, 0, 0]);
    let entry = boxed("alis", &[&[0; 4], &record[..]].concat());
    [&[0; 4], &1_u32.to_be_bytes(), &entry[..]].concat()
}
