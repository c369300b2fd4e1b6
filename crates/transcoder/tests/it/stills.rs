//! Pictures that do not move.

use std::path::Path;

use serde_json::json;
use testing::clip;

use crate::{Run, decode, ffprobe, transcoder};

#[track_caller]
fn check_size(file: &Path, expected: (u32, u32)) {
    let run = Run::of(file).done();
    assert_eq!(run.files(), ["manifest.json", "poster.jpg"]);
    let stream = &ffprobe(&run.out.join("poster.jpg"))["streams"][0];
    assert_eq!(
        (&stream["width"], &stream["height"]),
        (&json!(expected.0), &json!(expected.1))
    );
}

#[test]
fn a_still_becomes_a_poster() {
    let picture = ["-f", "lavfi", "-i", "testsrc2=s=1000x800:d=1"];
    let one = ["-frames:v", "1"];
    for extension in ["png", "jpg", "bmp", "webp"] {
        let still = clip::make(extension, &[&picture[..], &one].concat());
        check_size(&still, (900, 720));
    }
    let avif = [
        "-c:v",
        "libaom-av1",
        "-still-picture",
        "1",
        "-cpu-used",
        "8",
    ];
    let avif = [&picture[..], &one, &["-pix_fmt", "yuv420p"], &avif].concat();
    check_size(&clip::make("avif", &avif), (900, 720));
}

/// Four quarters of 160×90, by rows.
const QUARTERS: [(u8, &str); 4] = [
    (40, "0x282828"),
    (100, "0x646464"),
    (160, "0xa0a0a0"),
    (220, "0xdcdcdc"),
];

/// A photograph whose camera lay so: a JPEG with EXIF's tag `Orientation`.
fn photograph(folder: &Path, orientation: u8) -> std::path::PathBuf {
    let colours = QUARTERS.map(|(_, colour)| format!("color=c={colour}:s=160x90:d=1"));
    let inputs = colours
        .iter()
        .flat_map(|c| ["-f", "lavfi", "-i", c.as_str()]);
    let put = "[0:v][1:v]hstack[a];[2:v][3:v]hstack[b];[a][b]vstack";
    let options = ["-filter_complex", put, "-frames:v", "1", "-q:v", "2"];
    let upright = clip::make("jpg", &inputs.chain(options).collect::<Vec<_>>());
    let bytes = std::fs::read(upright).unwrap();
    let (start, rest) = bytes.split_at(2);
    let exif = [
        b"\xff\xe1\0\x22Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0".as_slice(),
        &[orientation, 0, 0, 0, 0, 0, 0],
    ];
    let file = folder.join(format!("{orientation}.jpg"));
    std::fs::write(&file, [start, &exif.concat(), rest].concat()).unwrap();
    file
}

/// As the standard has it: which side of what is seen the first row and the first column are.
#[test]
fn a_photograph_stands_upright() {
    let folder = tempfile::tempdir().unwrap();
    for (orientation, expected) in [
        (1, [40, 100, 160, 220]),
        (2, [100, 40, 220, 160]),
        (3, [220, 160, 100, 40]),
        (4, [160, 220, 40, 100]),
        (5, [40, 160, 100, 220]),
        (6, [160, 40, 220, 100]),
        (7, [220, 100, 160, 40]),
        (8, [100, 220, 40, 160]),
    ] {
        let file = photograph(folder.path(), orientation);
        let run = Run::of(&file).done();
        let poster = run.out.join("poster.jpg");
        let (width, height) = if orientation > 4 {
            (180, 320)
        } else {
            (320, 180)
        };
        let stream = &ffprobe(&poster)["streams"][0];
        assert_eq!(
            (&stream["width"], &stream["height"]),
            (&json!(width), &json!(height)),
            "{orientation}"
        );
        let small = "scale=2:2:flags=area:out_range=pc,format=gray";
        let seen = decode(&poster, &["-vf", small, "-f", "rawvideo"]);
        let near = |(seen, expected): (&u8, u8)| seen.abs_diff(expected) < 12;
        assert!(
            seen.iter().zip(expected).all(near),
            "{orientation}: {seen:?} instead of {expected:?}"
        );
    }
}

#[test]
fn probe_tells_how_a_photograph_lies() {
    let folder = tempfile::tempdir().unwrap();
    let file = photograph(folder.path(), 6);
    let output = transcoder().arg("probe").arg(file).output().unwrap();
    let probe: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let matrix = &probe["claimed"]["tracks"][0]["picture"]["matrix"];
    assert_eq!(*matrix, json!([0, 65536, -65536, 0]));
    assert_eq!(probe["measured"]["still"], true);
}

#[test]
fn what_shines_through_lies_on_white() {
    for (opacity, expected) in [
        ("0.0", [255, 255, 255]),
        ("0.5", [255, 128, 128]),
        ("1.0", [254, 0, 0]),
    ] {
        let red = format!("color=red@{opacity}:s=320x240,format=rgba");
        let still = clip::make("png", &["-f", "lavfi", "-i", &red, "-frames:v", "1"]);
        let run = Run::of(&still).done();
        let pixel = decode(
            &run.out.join("poster.jpg"),
            &["-vf", "scale=1:1,format=rgb24", "-f", "rawvideo"],
        );
        let near = pixel
            .iter()
            .zip(expected)
            .all(|(found, expected)| found.abs_diff(expected) <= 3);
        assert!(near && pixel.len() == 3, "{opacity}: {pixel:?}");
    }
}
