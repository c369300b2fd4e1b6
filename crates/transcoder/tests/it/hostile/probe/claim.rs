//! Files whose headers and indexes claim what is not so.

use testing::clip;

use super::{Probes, absolute, movie, picture, read};
use crate::hostile::boxes::{boxed, changed, put};

impl Probes {
    /// Times that are absurd, or say so.
    pub(super) fn times(&mut self) {
        let pieces = [
            "-movflags",
            "+frag_keyframe+empty_moov+default_base_moof",
            "-g",
            "5",
        ];
        let fragmented = read(&movie("mp4", &pieces));
        let claim = |payload: &mut Vec<u8>| {
            put(payload, 12, 30_000);
            put(payload, 16, u32::MAX);
        };
        let long = changed(&fragmented, &["moov", "mvhd"], &claim);
        let long = changed(&long, &["moov", "trak", "mdia", "mdhd"], &claim);
        self.file(
            "claims-long.mp4",
            "a fragmented MP4 of 1 s that says 143,165 s",
            long,
        );
        let times = ["moof", "traf", "tfdt"];
        let late = changed(&fragmented, &times, &|payload| {
            assert_eq!(payload[0], 1, "64 bits");
            put(payload, 4, 0x7fff_ffff);
            put(payload, 8, 0xffff_fff0);
        });
        self.file(
            "end-of-time.mp4",
            "a fragment that begins where time ends",
            late,
        );
        let early = changed(&fragmented, &times, &|payload| put(payload, 4, 0xc000_0000));
        self.file(
            "before-time.mp4",
            "a fragment that begins before all time",
            early,
        );
        let edits = changed(
            &read(&clip::video(64, 48, "10", 1)),
            &["moov", "trak", "edts", "elst"],
            &|payload| {
                let hole = [0x7fff_ffff_u32, u32::MAX, 0x0001_0000]
                    .map(u32::to_be_bytes)
                    .concat();
                let entries = payload.split_off(8);
                put(payload, 4, 1 + u32::try_from(entries.len() / 12).unwrap());
                payload.extend([hole, entries].concat());
            },
        );
        self.file(
            "late.mp4",
            "an MP4 whose picture comes 25 days after its sound",
            edits,
        );
    }

    /// Clocks that no camera has.
    pub(super) fn clocks(&mut self) {
        let y4m = |rate: &str, frames| {
            let head = format!("YUV4MPEG2 W2 H2 F{rate} C420jpeg\n").into_bytes();
            [head, b"FRAME\n\x80\x80\x80\x80\x80\x80".repeat(frames)].concat()
        };
        self.file(
            "slow.y4m",
            "a picture every 30 years",
            y4m("1:1000000000", 3),
        );
        self.file(
            "fast.y4m",
            "five thousand pictures in 5 µs",
            y4m("1000000000:1", 5000),
        );
        let from = |offset: &str| read(&movie("ts", &["-output_ts_offset", offset]));
        let gap = [from("0"), from("40000")].concat();
        self.file(
            "gap.ts",
            "a transport stream whose clock jumps by 11 hours",
            gap,
        );
        let jump = [from("0"), from("90000")].concat();
        self.file(
            "jump.ts",
            "a transport stream whose clock jumps by 25 hours",
            jump,
        );
    }

    /// Indexes that promise what is not there.
    pub(super) fn tables(&mut self) {
        let clip = read(&movie("mp4", &[]));
        let index = |name| ["moov", "trak", "mdia", "minf", "stbl", name];
        for (name, table, at, what) in [
            (
                "many-samples.mp4",
                "stsz",
                8,
                "an index of 4,294,967,295 samples",
            ),
            (
                "many-chunks.mp4",
                "stco",
                4,
                "an index of 4,294,967,295 chunks",
            ),
            (
                "long-samples.mp4",
                "stsz",
                4,
                "an index of samples of 4 GiB each",
            ),
            (
                "far-chunks.mp4",
                "stco",
                8,
                "an index that points behind the end",
            ),
        ] {
            let lies = changed(&clip, &index(table), &|payload| put(payload, at, u32::MAX));
            self.file(name, what, lies);
        }
    }

    /// Containers that hold too much, or nothing.
    pub(super) fn contents(&mut self) {
        let tone = absolute(&clip::tone(1));
        let tracks = clip::make(
            "mkv",
            &[&["-i", &tone, "-t", "0.1"][..], &["-map", "0"].repeat(100)].concat(),
        );
        self.file("tracks.mkv", "a Matroska of 100 tracks", read(&tracks));
        let nested = (0..5000).fold(Vec::new(), |inner, _| boxed("moov", &inner));
        let brand = boxed("ftyp", b"isom\0\0\0\0isom");
        self.file(
            "nested.mp4",
            "5,000 boxes, each within the next",
            [&brand[..], &nested].concat(),
        );
        let packed = [
            boxed("dcom", b"zlib"),
            boxed("cmvd", &[&[0x7f; 4][..], &[0; 64]].concat()),
        ]
        .concat();
        let packed = boxed("moov", &boxed("cmov", &packed));
        self.file(
            "packed.mov",
            "a packed index that says 2 GB",
            [&brand[..], &packed].concat(),
        );
        self.file(
            "no-tracks.mp4",
            "an index without tracks",
            [&brand[..], &boxed("moov", &[])].concat(),
        );
        let covered = clip::make(
            "flac",
            &[
                "-i",
                &tone,
                "-i",
                &absolute(&picture("png")),
                "-map",
                "0",
                "-map",
                "1",
                "-disposition:v",
                "attached_pic",
            ],
        );
        self.file("cover.flac", "a FLAC with a cover", read(&covered));
    }

    /// Sound that no machine plays.
    pub(super) fn sounds(&mut self) {
        let wav = |channels: u16, rate: u32, align: u16, bits: u16| {
            let mut format = [1_u16.to_le_bytes(), channels.to_le_bytes()].concat();
            format.extend(rate.to_le_bytes());
            format.extend(rate.wrapping_mul(u32::from(align)).to_le_bytes());
            format.extend([align.to_le_bytes(), bits.to_le_bytes()].concat());
            let head = b"RIFF\xff\xff\xff\xffWAVEfmt \x10\0\0\0";
            [
                head,
                &format[..],
                b"data\xff\xff\xff\xff",
                &vec![0x55; 20_000],
            ]
            .concat()
        };
        for (name, what, bytes) in [
            (
                "no-rate.wav",
                "a WAV of 0 samples a second",
                wav(1, 0, 2, 16),
            ),
            (
                "one-hertz.wav",
                "a WAV of 1 sample a second",
                wav(1, 1, 2, 16),
            ),
            (
                "fast.wav",
                "a WAV of 4,294,967,295 samples a second",
                wav(1, u32::MAX, 2, 16),
            ),
            (
                "channels.wav",
                "a WAV of 65,535 channels",
                wav(u16::MAX, 8000, 65_534, 16),
            ),
            ("wide.wav", "a WAV of 20 channels", wav(20, 8000, 40, 16)),
            (
                "no-width.wav",
                "a WAV of samples of no width",
                wav(1, 8000, 0, 0),
            ),
        ] {
            self.file(name, what, bytes);
        }
        let mut flac = read(&clip::make("flac", &["-i", &absolute(&clip::tone(1))]));
        flac[21] |= 0x0f;
        flac[22..26].copy_from_slice(&[0xff; 4]);
        self.file(
            "claims-long.flac",
            "a FLAC of 1 s that says 68,719,476,735 samples",
            flac,
        );
        let tags = b"ID3\x04\0\0\x7f\x7f\x7f\x7f".repeat(20);
        self.file("tags.mp3", "twenty ID3 tags of 256 MB each", tags);
    }
}
