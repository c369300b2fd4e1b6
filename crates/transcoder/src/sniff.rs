//! Which demuxer may read a file: decided from its first bytes, by one table, before libav sees any of it.
//!
//! Playlists and other formats that open further files (HLS, DASH, concat, SDP) are not in the table, so a file cannot
//! make libav open anything else.

use std::io;

use serde::Serialize;

/// Bytes of the head that [`sniff`] wants to see.
pub const HEAD_BYTES: usize = 4096;

/// One container we read.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Container {
    /// What people call it.
    pub name: &'static str,
    /// libav's demuxer, the only one that may read such a file.
    pub demuxer: &'static str,
    /// A picture that does not move: it gets a poster and nothing else.
    pub still: bool,
    #[serde(skip)]
    matches: fn(&[u8]) -> bool,
}

const fn moving(
    name: &'static str,
    demuxer: &'static str,
    matches: fn(&[u8]) -> bool,
) -> Container {
    Container {
        name,
        demuxer,
        still: false,
        matches,
    }
}

const fn still(name: &'static str, demuxer: &'static str, matches: fn(&[u8]) -> bool) -> Container {
    Container {
        name,
        demuxer,
        still: true,
        matches,
    }
}

/// Every container we read, strongest magic first.
pub const CONTAINERS: [Container; 24] = [
    still("AVIF", "mov", |b| at(b, 4, b"ftypavif")),
    moving("MP4, MOV, M4A, 3GP", "mov", is_mov),
    moving("Matroska, WebM", "matroska", |b| {
        b.starts_with(&[0x1a, 0x45, 0xdf, 0xa3])
    }),
    moving("WAV", "wav", |b| {
        (b.starts_with(b"RIFF") || b.starts_with(b"RF64")) && at(b, 8, b"WAVE")
    }),
    moving("AVI", "avi", |b| {
        b.starts_with(b"RIFF") && at(b, 8, b"AVI ")
    }),
    moving("FLAC", "flac", |b| b.starts_with(b"fLaC")),
    moving("Ogg", "ogg", |b| b.starts_with(b"OggS")),
    moving("AIFF", "aiff", |b| {
        b.starts_with(b"FORM") && (at(b, 8, b"AIFF") || at(b, 8, b"AIFC"))
    }),
    moving("CAF", "caf", |b| b.starts_with(b"caff")),
    moving("FLV", "flv", |b| b.starts_with(b"FLV\x01")),
    moving("ASF, WMV, WMA", "asf", |b| {
        b.starts_with(&[0x30, 0x26, 0xb2, 0x75, 0x8e, 0x66, 0xcf, 0x11])
    }),
    moving("MXF", "mxf", |b| {
        b.starts_with(&[0x06, 0x0e, 0x2b, 0x34, 0x02, 0x05, 0x01, 0x01])
    }),
    moving("MPEG program stream", "mpeg", |b| {
        b.starts_with(&[0, 0, 1, 0xba])
    }),
    moving("GIF", "gif", |b| {
        b.starts_with(b"GIF87a") || b.starts_with(b"GIF89a")
    }),
    moving("AMR", "amr", |b| b.starts_with(b"#!AMR")),
    moving("YUV4MPEG2", "yuv4mpegpipe", |b| {
        b.starts_with(b"YUV4MPEG2 ")
    }),
    still("JPEG", "jpeg_pipe", |b| b.starts_with(&[0xff, 0xd8, 0xff])),
    still("PNG", "png_pipe", |b| b.starts_with(b"\x89PNG\r\n\x1a\n")),
    still("WebP", "webp_pipe", |b| {
        b.starts_with(b"RIFF") && at(b, 8, b"WEBP")
    }),
    moving("MPEG transport stream", "mpegts", |b| {
        b.first() == Some(&0x47) && at(b, 188, b"\x47") && at(b, 376, b"\x47")
    }),
    moving("M2TS", "mpegts", |b| {
        at(b, 4, b"\x47") && at(b, 196, b"\x47") && at(b, 388, b"\x47")
    }),
    moving("AAC (ADTS)", "aac", is_adts),
    moving("MP3", "mp3", is_mp3),
    still("BMP", "bmp_pipe", |b| {
        b.starts_with(b"BM") && at(b, 6, &[0, 0, 0, 0])
    }),
];

/// How many bytes an ID3 tag takes that the head begins with: what follows it says what the file is. MP3 files have it, and
/// so do ADTS and FLAC files of some taggers.
pub fn id3_bytes(head: &[u8]) -> Option<u64> {
    const FOOTER: u8 = 0x10;
    let [b'I', b'D', b'3', _, _, flags, size @ ..] = head else {
        return None;
    };
    let size = size.first_chunk::<4>()?;
    if size.iter().any(|byte| *byte > 0x7f) {
        return None;
    }
    let size = (size.iter()).fold(0, |size, byte| size << 7 | u64::from(*byte));
    Some(10 + size + if flags & FOOTER == 0 { 0 } else { 10 })
}

/// Tags in front of a file that are skipped to see what it is.
const MAX_TAGS: u32 = 8;

/// The first bytes of a file behind its tags, and how many tags there are. `read` fills a buffer from a place of the file.
pub fn behind_tags(
    read: &mut dyn FnMut(&mut [u8], u64) -> io::Result<usize>,
) -> io::Result<(Vec<u8>, u32)> {
    let mut head = vec![0; HEAD_BYTES];
    let (mut at, mut tags) = (0, 0);
    loop {
        let count = read(&mut head, at)?;
        match id3_bytes(&head[..count]) {
            Some(bytes) if tags < MAX_TAGS => (at, tags) = (at + bytes, tags + 1),
            _ => {
                head.truncate(count);
                return Ok((head, tags));
            }
        }
    }
}

/// Who coded an MP3 file, in four letters: its first frame may hold a tag (`Xing`, `Info`) in place of sound, which says so, at a
/// place that depends on version and channels.
pub fn mp3_coder(frame: &[u8]) -> Option<[u8; 4]> {
    const TAG_AT: [usize; 3] = [4 + 9, 4 + 17, 4 + 32];
    const CODER_BEHIND: usize = 4 + 116;
    let letters = |at: usize| frame.get(at..)?.first_chunk::<4>().copied();
    let tag = TAG_AT
        .into_iter()
        .find(|at| matches!(letters(*at).as_ref(), Some(b"Xing" | b"Info")))?;
    letters(tag + CODER_BEHIND)
}

/// What a file is taken for that shows nothing but a tag.
pub fn tagged() -> Option<&'static Container> {
    CONTAINERS
        .iter()
        .find(|container| container.demuxer == "mp3")
}

/// The container whose magic the head shows, if it is one we read.
pub fn sniff(head: &[u8]) -> Option<&'static Container> {
    CONTAINERS
        .iter()
        .find(|container| (container.matches)(head))
}

fn at(bytes: &[u8], offset: usize, magic: &[u8]) -> bool {
    bytes
        .get(offset..)
        .is_some_and(|rest| rest.starts_with(magic))
}

fn is_mov(bytes: &[u8]) -> bool {
    const BOXES: [&[u8]; 6] = [b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide"];
    BOXES.iter().any(|name| at(bytes, 4, name))
}

/// ADTS: twelve set bits, layer zero, and a sampling frequency that exists.
fn is_adts(bytes: &[u8]) -> bool {
    matches!(bytes, [0xff, second, third, ..] if second & 0xf6 == 0xf0 && (third >> 2) & 0xf < 13)
}

/// A frame header of MPEG audio with no reserved value in it.
fn is_mp3(bytes: &[u8]) -> bool {
    matches!(bytes, [0xff, second, third, ..]
        if second & 0xe0 == 0xe0 && (second >> 3) & 3 != 1 && (second >> 1) & 3 != 0
            && third >> 4 != 15 && third >> 4 != 0 && (third >> 2) & 3 != 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(head: &[u8], demuxer: Option<&str>) {
        assert_eq!(sniff(head).map(|container| container.demuxer), demuxer);
    }

    #[test]
    fn the_first_bytes_name_the_demuxer() {
        check(b"\0\0\0\x20ftypisom", Some("mov"));
        check(b"\0\0\0\x20ftypavif", Some("mov"));
        check(b"RIFF\x10\0\0\0WAVEfmt ", Some("wav"));
        check(b"RIFF\x10\0\0\0WEBPVP8 ", Some("webp_pipe"));
        check(&[0xff, 0xfb, 0x90, 0x64], Some("mp3"));
        check(&[0xff, 0xf1, 0x50, 0x80], Some("aac"));
    }

    #[test]
    fn a_tag_tells_its_length() {
        let tag = [b'I', b'D', b'3', 4, 0, 0, 0, 0, 2, 1];
        assert_eq!(id3_bytes(&tag), Some(10 + 257));
        let with_footer = [b'I', b'D', b'3', 4, 0, 0x10, 0, 0, 0, 1];
        assert_eq!(id3_bytes(&with_footer), Some(21));
        assert_eq!(id3_bytes(b"ID3\x04\0\0\0"), None);
        assert_eq!(id3_bytes(&[0xff, 0xf1, 0x50, 0x80]), None);
    }

    #[test]
    fn formats_that_open_other_files_are_refused() {
        check(b"#EXTM3U\n#EXT-X-VERSION:3\n", None);
        check(b"ffconcat version 1.0\nfile x.ts\n", None);
        check(b"<?xml version=\"1.0\"?><MPD", None);
        check(b"v=0\r\no=- 0 0 IN IP4 127.0.0.1", None);
    }

    #[test]
    fn text_and_nothing_are_refused() {
        check(b"", None);
        check(b"hello, world", None);
        check(&[0; 64], None);
    }
}
