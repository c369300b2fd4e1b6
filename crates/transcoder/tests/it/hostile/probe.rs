//! Files that strangers could send, built here: what each is, and where it lies. The table has the endings.

mod claim;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;
use testing::clip;

use super::boxes::{alias, boxed, changed, put};
use super::png::{crc32, stuffed};

/// One file to run.
pub(super) struct Probe {
    pub(super) file: PathBuf,
    pub(super) what: &'static str,
}

/// All of them, in a folder that goes with this.
pub(super) struct Probes {
    folder: TempDir,
    pub(super) all: Vec<Probe>,
}

impl Probes {
    pub(super) fn build() -> Self {
        let mut probes = Self {
            folder: tempfile::tempdir().unwrap(),
            all: Vec::new(),
        };
        probes.lists();
        probes.references();
        probes.sizes();
        probes.films();
        probes.times();
        probes.clocks();
        probes.tables();
        probes.contents();
        probes.sounds();
        probes.heads();
        probes.places();
        probes.names();
        probes
    }

    fn path(&mut self, name: impl AsRef<Path>, what: &'static str) -> PathBuf {
        let file = self.folder.path().join(name);
        self.all.push(Probe {
            file: file.clone(),
            what,
        });
        file
    }

    fn file(&mut self, name: &str, what: &'static str, bytes: impl AsRef<[u8]>) {
        fs::write(self.path(name, what), bytes).unwrap();
    }

    /// Text by which a player would open other files.
    fn lists(&mut self) {
        let clip = absolute(&clip::sample());
        let hls = format!("#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\n{clip}\n#EXT-X-ENDLIST\n");
        let dash = format!(
            "<?xml version=\"1.0\"?>\n<MPD xmlns=\"urn:mpeg:dash:schema:mpd:2011\" type=\"static\"><Period><AdaptationSet>\
             <Representation id=\"1\"><BaseURL>{clip}</BaseURL></Representation></AdaptationSet></Period></MPD>\n"
        );
        let sdp = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=video 9 RTP/AVP 96\r\n\
                   a=rtpmap:96 H264/90000\r\n";
        let svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\"><image href=\"file://{clip}\"/></svg>\n"
        );
        let tag = [
            b"ID3\x04\0\0\0\0\0\x0a".as_slice(),
            &[0; 10],
            hls.as_bytes(),
        ]
        .concat();
        let brand = [&boxed("ftyp", b"isom\0\0\0\0isom"), hls.as_bytes()].concat();
        let concat = format!("ffconcat version 1.0\nfile '{clip}'\n");
        self.file(
            "hls.mp4",
            "an HLS playlist that names a clip here by its path",
            &hls,
        );
        self.file("hls-behind-a-tag.mp3", "the same behind an ID3 tag", tag);
        self.file(
            "hls-behind-a-box.mp4",
            "the same behind the first box of an MP4",
            brand,
        );
        self.file(
            "dash.mp4",
            "a DASH manifest that names a clip here by its path",
            dash,
        );
        self.file(
            "ffconcat.mp4",
            "a list for ffmpeg's concat that names a clip here",
            concat,
        );
        self.file(
            "sdp.mp4",
            "an SDP description of a stream at 127.0.0.1",
            sdp,
        );
        self.file("svg.png", "an SVG with a picture by its path", svg);
    }

    /// Containers whose media are elsewhere.
    fn references(&mut self) {
        let picture = read(&movie("mov", &[]));
        let elsewhere = absolute(&movie("mov", &[]));
        let dref = ["moov", "trak", "mdia", "minf", "dinf", "dref"];
        let moved = changed(&picture, &dref, &|payload| *payload = alias(&elsewhere));
        self.file(
            "alias.mov",
            "a MOV whose pictures are in another file, by its path",
            moved,
        );
        let url = "http://127.0.0.1:9/clip.mov\0";
        let length = u32::try_from(url.len()).unwrap().to_be_bytes();
        let rdrf = boxed(
            "rdrf",
            &[&[0; 4], b"url ".as_slice(), &length, url.as_bytes()].concat(),
        );
        let moov = boxed("moov", &boxed("rmra", &boxed("rmda", &rdrf)));
        let movie = [boxed("ftyp", b"qt  \0\0\0\0qt  "), moov].concat();
        self.file(
            "reference.mov",
            "a reference movie, which is a link to http://127.0.0.1",
            movie,
        );
    }

    /// Pictures that are too large, or say so.
    fn sizes(&mut self) {
        let black = |size: &str, extension: &str, options: &[&str]| {
            let source = format!("color=black:size={size}:rate=1,format=gray");
            let input = ["-f", "lavfi", "-i", &source, "-frames:v", "1"];
            read(&clip::make(extension, &[&input[..], options].concat()))
        };
        let large = black("16384x8640", "png", &["-pix_fmt", "monob"]);
        let small = black("64x48", "jpg", &["-pix_fmt", "yuvj420p"]);
        let mut huge = large.clone();
        put(&mut huge, 16, 30_000);
        put(&mut huge, 20, 30_000);
        let crc = crc32(&huge[12..29]);
        put(&mut huge, 29, crc);
        self.file("large.png", "a PNG of 16384×8640 black pixels", &large);
        self.file("huge.png", "a PNG that says 900 megapixels", huge);
        self.file(
            "text.png",
            "a PNG of 64×48 with 350 MB of text, packed into 350 kB",
            stuffed(&read(&picture("png")), &large),
        );
        let mut wide = small;
        let sof = wide
            .windows(2)
            .position(|marker| marker == [0xff, 0xc0])
            .unwrap();
        wide[sof + 5..sof + 9].copy_from_slice(&[0x21, 0xc0, 0x40, 0]);
        self.file("large.jpg", "a JPEG that says 16384×8640", wide);
        let canvas = [
            b"GIF89a".as_slice(),
            &[0xff; 4],
            &[0x80, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff],
        ]
        .concat();
        let frame = [0x2c, 0, 0, 0, 0, 1, 0, 1, 0, 0, 2, 2, 0x44, 1, 0, 0x3b];
        self.file(
            "large.gif",
            "a GIF of 65535×65535 with one pixel in it",
            [canvas, frame.to_vec()].concat(),
        );
    }

    /// Moving pictures that are too large, or say so, or will not stay as they are.
    fn films(&mut self) {
        let y4m = b"YUV4MPEG2 W16384 H8640 F25:1 C420jpeg\nFRAME\n\0\0\0\0";
        self.file("large.y4m", "a YUV4MPEG2 that says 16384×8640", y4m);
        let entry = ["moov", "trak", "mdia", "minf", "stbl", "stsd"];
        let claims = changed(&read(&movie("mp4", &[])), &entry, &|payload| {
            put(payload, 40, 0x4000_21c0);
        });
        self.file(
            "claims-large.mp4",
            "an MP4 whose index says 16384×8640 of pictures of 64×48",
            claims,
        );
        let part = |width| {
            read(&movie_of(
                &format!("testsrc2=size={width}x48:rate=10:duration=1"),
                "ts",
                &[],
            ))
        };
        let changing: Vec<_> = (0..30).flat_map(|at| part(64 + at % 2 * 16)).collect();
        self.file(
            "changing.ts",
            "pictures that change their size every second",
            changing,
        );
    }

    /// Every container's first bytes, and then noise.
    fn heads(&mut self) {
        let noise: Vec<u8> = (0..50_000_u32)
            .map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8)
            .collect();
        let heads: [(&str, &[u8]); 18] = [
            ("noise.mp4", b"\0\0\0\x14ftypisom\0\0\0\0isom"),
            ("noise.mkv", b"\x1a\x45\xdf\xa3"),
            ("noise.wav", b"RIFF\0\0\0\0WAVEfmt "),
            ("noise.avi", b"RIFF\0\0\0\0AVI LIST"),
            ("noise.flac", b"fLaC"),
            ("noise.ogg", b"OggS"),
            ("noise.aiff", b"FORM\0\0\0\0AIFFCOMM"),
            ("noise.caf", b"caff\0\x01\0\0desc"),
            ("noise.flv", b"FLV\x01\x05\0\0\0\x09\0\0\0\0"),
            (
                "noise.wmv",
                b"\x30\x26\xb2\x75\x8e\x66\xcf\x11\xa6\xd9\0\xaa\0\x62\xce\x6c",
            ),
            (
                "noise.mxf",
                b"\x06\x0e\x2b\x34\x02\x05\x01\x01\x0d\x01\x02\x01\x01\x02\x04\0",
            ),
            ("noise.mpg", b"\0\0\x01\xba"),
            ("noise.gif", b"GIF89a"),
            ("noise.amr", b"#!AMR\n"),
            ("noise.jpg", b"\xff\xd8\xff\xe0"),
            ("noise.webp", b"RIFF\0\0\0\0WEBPVP8 "),
            ("noise.aac", b"\xff\xf1\x50\x80"),
            ("noise.bmp", b"BM\0\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0"),
        ];
        for (name, head) in heads {
            self.file(name, "its first bytes, then noise", [head, &noise].concat());
        }
        let packets: Vec<u8> = noise
            .chunks(187)
            .flat_map(|rest| [&[0x47], rest].concat())
            .collect();
        self.file("noise.ts", "packets of noise", packets);
        self.file("empty.mp4", "nothing", []);
        self.file("byte.mp4", "one byte", b"G");
    }

    /// What is not a plain file.
    fn places(&mut self) {
        fs::create_dir(self.path("folder.mp4", "a folder")).unwrap();
        let pipe = self.path("pipe.mp4", "a FIFO that nobody writes to");
        assert!(Command::new("mkfifo").arg(pipe).status().unwrap().success());
        // The name outlives the listener.
        drop(UnixListener::bind(self.path("socket.mp4", "a socket")).unwrap());
        symlink(
            absolute(&clip::tone(1)),
            self.path("link.wav", "a symlink to a clip"),
        )
        .unwrap();
        symlink(
            "nowhere.mp4",
            self.path("dangling.mp4", "a symlink to nothing"),
        )
        .unwrap();
        symlink("circle.mp4", self.path("circle.mp4", "a symlink to itself")).unwrap();
        symlink("/dev/zero", self.path("zero.mp4", "a symlink to /dev/zero")).unwrap();
    }

    /// Names that a careless program would take for something else.
    fn names(&mut self) {
        let clip = clip::tone(1);
        for (name, what) in [
            (&b"-i.wav"[..], "a name that begins with a dash"),
            (b"--out.wav", "a name that is an option"),
            (b"two\nlines.wav", "a name of two lines"),
            (b"\xff\xfe.wav", "a name that is not UTF-8"),
            (b"concat:a.wav|b.wav", "a name that is a protocol of FFmpeg"),
            (b"%03d.wav", "a name that is a pattern"),
            (b"$(id);'\".wav", "a name that is a line for a shell"),
            (&[b'n'; 255], "a name of 255 letters"),
        ] {
            let file = self.path(OsStr::from_bytes(name), what);
            fs::copy(&clip, file).unwrap();
        }
    }
}

fn read(file: &Path) -> Vec<u8> {
    fs::read(file).unwrap()
}

fn absolute(file: &Path) -> String {
    fs::canonicalize(file).unwrap().to_str().unwrap().to_owned()
}

/// A second of pictures of 64×48 as H.264.
fn movie(extension: &str, options: &[&str]) -> PathBuf {
    movie_of("testsrc2=size=64x48:rate=10:duration=1", extension, options)
}

fn movie_of(source: &str, extension: &str, options: &[&str]) -> PathBuf {
    let input = ["-f", "lavfi", "-i", source];
    let codec = [
        "-c:v",
        "libx264",
        "-preset",
        "ultrafast",
        "-pix_fmt",
        "yuv420p",
        "-threads",
        "1",
    ];
    clip::make(extension, &[&input[..], &codec, options].concat())
}

fn picture(extension: &str) -> PathBuf {
    clip::make(
        extension,
        &["-f", "lavfi", "-i", "testsrc2=size=64x48", "-frames:v", "1"],
    )
}
