//! How large a picture says it is, read from its head without decoding: of what is too large, libav says only that it does
//! not decode.

use std::io;

/// Segments of a JPEG that are skipped to find its size: of a few kinds, a few each.
const MAX_SEGMENTS: u32 = 200;

/// Width and height as a PNG, GIF, BMP, WebP or JPEG claims them; none where another format or nonsense is read. `read`
/// fills a buffer from an offset on and says how far it came.
pub fn claimed(
    read: &mut dyn FnMut(&mut [u8], u64) -> io::Result<usize>,
) -> io::Result<Option<(u32, u32)>> {
    let mut head = [0; 30];
    read(&mut head, 0)?;
    let le16 = |at: usize| u32::from(u16::from_le_bytes([head[at], head[at + 1]]));
    let le24 = |at: usize| le16(at) | u32::from(head[at + 2]) << 16;
    let le32 = |at: usize| le16(at) | le16(at + 2) << 16;
    Ok(match &head {
        [0xff, 0xd8, ..] => return claimed_by_jpeg(read),
        [0x89, b'P', b'N', b'G', ..] => Some((le32(16).swap_bytes(), le32(20).swap_bytes())),
        [b'G', b'I', b'F', ..] => Some((le16(6), le16(8))),
        // The first kind of BMP has narrower fields; in later ones the height is negative where lines go downwards.
        [b'B', b'M', ..] if le32(14) == 12 => Some((le16(18), le16(20))),
        [b'B', b'M', ..] => Some((le32(18), le32(22).cast_signed().unsigned_abs())),
        [b'R', b'I', b'F', b'F', ..] => match &head[8..16] {
            b"WEBPVP8X" => Some((le24(24) + 1, le24(27) + 1)),
            b"WEBPVP8L" => Some(((le32(21) & 0x3fff) + 1, (le32(21) >> 14 & 0x3fff) + 1)),
            b"WEBPVP8 " => Some((le16(26) & 0x3fff, le16(28) & 0x3fff)),
            _ => None,
        },
        _ => None,
    })
}

/// Goes from segment to segment to the one that begins the frame.
fn claimed_by_jpeg(
    read: &mut dyn FnMut(&mut [u8], u64) -> io::Result<usize>,
) -> io::Result<Option<(u32, u32)>> {
    let mut at = 2;
    for _ in 0..MAX_SEGMENTS {
        let mut segment = [0; 9];
        read(&mut segment, at)?;
        let [mark, kind, length @ .., _, high, low, wide, narrow] = segment;
        at += match (mark, kind) {
            // Fill bytes.
            (0xff, 0xff) => 1,
            (0xff, 0xc0..=0xc3 | 0xc5..=0xc7 | 0xc9..=0xcb | 0xcd..=0xcf) => {
                let side = |high, low| u32::from(u16::from_be_bytes([high, low]));
                return Ok(Some((side(wide, narrow), side(high, low))));
            }
            (0xff, 0x01 | 0xd0..=0xd8) => 2,
            (0xff, 0x02..=0xfe) => 2 + u64::from(u16::from_be_bytes(length)),
            _ => return Ok(None),
        };
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(bytes: &[u8], expected: Option<(u32, u32)>) {
        let mut read = |buffer: &mut [u8], at: u64| {
            let rest = bytes
                .get(usize::try_from(at).unwrap()..)
                .unwrap_or_default();
            let count = rest.len().min(buffer.len());
            buffer[..count].copy_from_slice(&rest[..count]);
            Ok(count)
        };
        assert_eq!(claimed(&mut read).unwrap(), expected);
    }

    #[test]
    fn each_format_tells_its_size_in_its_way() {
        check(
            b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\x40\0\0\0\x21\xc0",
            Some((16_384, 8640)),
        );
        check(b"GIF89a\x40\x01\xf0\0", Some((320, 240)));
        check(
            b"BM\0\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0\x40\x01\0\0\x10\xff\xff\xff",
            Some((320, 240)),
        );
        check(
            b"BM\0\0\0\0\0\0\0\0\x1a\0\0\0\x0c\0\0\0\x40\x01\xf0\0",
            Some((320, 240)),
        );
        check(
            b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0\x3f\x01\0\xef\0\0",
            Some((320, 240)),
        );
        check(
            b"RIFF\0\0\0\0WEBPVP8L\0\0\0\0\x2f\x3f\xc1\x3b\0",
            Some((320, 240)),
        );
        check(
            b"RIFF\0\0\0\0WEBPVP8 \0\0\0\0\0\0\0\x9d\x01\x2a\x40\x01\xf0\0",
            Some((320, 240)),
        );
    }

    #[test]
    fn the_frame_of_a_jpeg_may_come_late_or_never() {
        let head = b"\xff\xd8\xff\xe0\0\x10JFIF\0\x01\x01\0\0\x01\0\x01\0\0";
        let notes = [b"\xff\xe1\xea\x60".as_slice(), &vec![0; 59_998]].concat();
        let frame = b"\xff\xff\xc2\0\x11\x08\0\xf0\x01\x40\x03";
        check(
            &[&head[..], &notes.repeat(9), frame].concat(),
            Some((320, 240)),
        );
        check(&[&head[..], &notes].concat(), None);
        check(&[&head[..], &b"\xff\xe1\0\0".repeat(5000)].concat(), None);
    }

    #[test]
    fn what_is_no_picture_tells_no_size() {
        check(b"", None);
        check(b"RIFF\0\0\0\0WAVEfmt ", None);
        check(b"\0\0\0\x20ftypisom", None);
    }
}
