//! Films for editing: frame for frame, track for track, from the same timecode on.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use testing::clip;

use crate::{Run, decode, ffprobe};

/// Three seconds with two tracks of sound, from a timecode on.
fn scene(rate: &str, timecode: &str, options: &[&str]) -> PathBuf {
    let picture = format!("testsrc2=size=1280x720:rate={rate}:duration=3");
    let sources = [
        &["-f", "lavfi", "-i", &picture][..],
        &[
            "-f",
            "lavfi",
            "-i",
            "sine=frequency=440:sample_rate=48000:duration=3",
        ],
        &[
            "-f",
            "lavfi",
            "-i",
            "anoisesrc=sample_rate=44100:duration=3:seed=3,pan=5.1|c0=c0|c1=c0|c2=c0|c3=c0|c4=c0|c5=c0",
        ],
    ];
    let coded = [
        "-map",
        "0",
        "-map",
        "1",
        "-map",
        "2",
        "-c:v",
        "libx264",
        "-preset",
        "ultrafast",
        "-pix_fmt",
        "yuv420p",
        "-c:a:0",
        "pcm_s16le",
        "-c:a:1",
        "pcm_s24le",
        "-timecode",
        timecode,
    ];
    clip::make("mov", &[&sources.concat()[..], &coded, options].concat())
}

fn edited(file: &Path) -> Run {
    Run::with(file, &["--profile", "edit@1"]).done()
}

fn streams(run: &Run, kind: &str) -> Vec<Value> {
    let probe = ffprobe(&run.out.join("edit.mov"));
    let streams = probe["streams"].as_array().unwrap().clone();
    streams
        .into_iter()
        .filter(|stream| stream["codec_type"] == kind)
        .collect()
}

fn frames(file: &Path) -> Value {
    let probe = ffprobe(file);
    let streams = probe["streams"].as_array().unwrap();
    streams
        .iter()
        .find(|stream| stream["codec_type"] == "video")
        .unwrap()["nb_read_frames"]
        .clone()
}

#[track_caller]
fn check(rate: &str, average: &str, timecode: &str) {
    let source = scene(rate, timecode, &[]);
    let run = edited(&source);
    let video = &streams(&run, "video")[0];
    for (key, expected) in [
        ("codec_name", json!("dnxhd")),
        ("profile", json!("DNXHR LB")),
        ("pix_fmt", json!("yuv422p")),
        ("width", json!(640)),
        ("height", json!(360)),
        ("avg_frame_rate", json!(average)),
        ("r_frame_rate", json!(average)),
        ("start_time", json!("0.000000")),
    ] {
        assert_eq!(video[key], expected, "{key}");
    }
    assert_eq!(video["tags"]["timecode"], timecode);
    assert_eq!(video["nb_read_frames"], frames(&source), "{rate}");
    assert!(run.warnings().is_empty(), "{:?}", run.warnings());
}

#[test]
fn films_of_23_976_keep_frames_and_timecode() {
    check("24000/1001", "24000/1001", "01:00:00:12");
}

#[test]
fn films_of_25_keep_frames_and_timecode() {
    check("25", "25/1", "10:59:59:24");
}

#[test]
fn films_of_29_97_keep_frames_and_drop_frame_timecode() {
    check("30000/1001", "30000/1001", "00:59:58;05");
}

#[test]
fn films_of_59_94_keep_frames_and_timecode() {
    check("60000/1001", "60000/1001", "01:00:00;40");
}

#[test]
fn every_track_of_sound_is_there_to_the_sample() {
    let source = scene("25", "01:00:00:00", &[]);
    let run = edited(&source);
    let sounds = streams(&run, "audio");
    let shape: Vec<_> = sounds
        .iter()
        .map(|sound| {
            (
                sound["codec_name"].as_str().unwrap(),
                sound["channels"].as_u64().unwrap(),
                sound["sample_rate"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        shape,
        [("pcm_s16le", 1, "48000"), ("pcm_s24le", 6, "44100")]
    );
    let made = run.out.join("edit.mov");
    for track in ["0:a:0", "0:a:1"] {
        let samples = |file: &Path| decode(file, &["-map", track, "-f", "s24le"]);
        assert!(samples(&source) == samples(&made), "{track}");
    }
}

#[test]
fn fields_stay_fields() {
    let interlaced = clip::make(
        "mov",
        &[
            "-f",
            "lavfi",
            "-i",
            "testsrc2=size=1280x720:rate=50:duration=2",
            "-vf",
            "tinterlace=interleave_top",
            "-c:v",
            "libx264",
            "-preset",
            "ultrafast",
            "-pix_fmt",
            "yuv420p",
            "-flags",
            "+ildct+ilme",
            "-x264opts",
            "tff=1",
        ],
    );
    let run = edited(&interlaced);
    assert_eq!(streams(&run, "video")[0]["nb_read_frames"], "50");
    let judged = Command::new("ffmpeg")
        .args(["-nostdin", "-hide_banner", "-i"])
        .arg(run.out.join("edit.mov"))
        .args(["-vf", "idet", "-f", "null", "-"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&judged.stderr).into_owned();
    let line = said
        .lines()
        .find(|line| line.contains("Multi frame detection"))
        .unwrap();
    let count = |name: &str| -> u32 {
        line.split(name)
            .nth(1)
            .unwrap()
            .split_whitespace()
            .next()
            .unwrap()
            .parse()
            .unwrap()
    };
    assert!(count("TFF:") >= 45, "{line}");
}

#[test]
fn hdr_keeps_its_colour_and_ten_bits() {
    let source = clip::make(
        "mov",
        &[
            "-f",
            "lavfi",
            "-i",
            "testsrc2=size=1280x720:rate=25:duration=1",
            "-c:v",
            "libx265",
            "-preset",
            "ultrafast",
            "-pix_fmt",
            "yuv420p10le",
            "-color_primaries",
            "bt2020",
            "-color_trc",
            "smpte2084",
            "-colorspace",
            "bt2020nc",
            "-x265-params",
            "log-level=none",
        ],
    );
    let video = streams(&edited(&source), "video")[0].clone();
    for (key, expected) in [
        ("profile", "DNXHR HQX"),
        ("pix_fmt", "yuv422p10le"),
        ("color_space", "bt2020nc"),
        ("color_transfer", "smpte2084"),
        ("color_primaries", "bt2020"),
    ] {
        assert_eq!(video[key], expected, "{key}");
    }
}

const CODECS: [&str; 6] = [
    "-c:v",
    "libx264",
    "-pix_fmt",
    "yuv420p",
    "-c:a",
    "pcm_s16le",
];

#[test]
fn a_track_without_sound_keeps_its_place_among_the_others() {
    let picture = ["-f", "lavfi", "-i", "testsrc2=s=320x180:r=25:d=2"];
    let tones = ["-f", "lavfi", "-i", "sine=r=48000:d=1"];
    // All of the first track lies before the first picture.
    let late = ["-itsoffset", "3"];
    let maps = ["-map", "1:v", "-map", "0:a", "-map", "2:a"];
    let args = [&tones[..], &late, &picture, &late, &tones, &maps, &CODECS].concat();
    let run = edited(&clip::make("mkv", &args));
    let tracks = streams(&run, "audio");
    let samples: Vec<_> = tracks.iter().map(|track| &track["duration_ts"]).collect();
    assert_eq!(samples, [1, 48_000]);
    assert_eq!(run.warnings(), ["missing"]);
}

#[test]
fn sound_of_more_channels_than_any_layout_has_is_there() {
    for channels in ["10", "12"] {
        let expressions = vec!["sin(440*t)"; channels.parse().unwrap()].join("|");
        let sound = format!("aevalsrc={expressions}:s=48000:d=1");
        let picture = ["-f", "lavfi", "-i", "testsrc2=s=320x180:r=25:d=1"];
        let args = [&picture[..], &["-f", "lavfi", "-i", &sound], &CODECS].concat();
        let source = clip::make("mov", &args);
        let run = edited(&source);
        assert_eq!(streams(&run, "audio")[0]["channels"].to_string(), channels);
        let samples = |file: &Path| decode(file, &["-map", "0:a", "-f", "s16le"]);
        assert!(
            samples(&source) == samples(&run.out.join("edit.mov")),
            "{channels}"
        );
    }
}

#[track_caller]
fn check_refused(file: &Path, why: &str) {
    let run = Run::with(file, &["--profile", "edit@1"]);
    assert_eq!(run.output.status.code(), Some(3), "{:?}", run.output);
    let said = String::from_utf8_lossy(&run.output.stderr).into_owned();
    assert!(said.lines().last().unwrap().contains(why), "{said}");
    assert!(run.files().is_empty());
}

#[test]
fn what_has_no_grid_of_frames_is_refused() {
    let varying = clip::make(
        "mkv",
        &[
            "-f",
            "lavfi",
            "-i",
            "testsrc2=size=640x360:rate=50:duration=4",
            "-vf",
            "select='not(mod(n,3))+lt(random(0),0.5)'",
            "-vsync",
            "vfr",
            "-c:v",
            "libx264",
            "-preset",
            "ultrafast",
            "-pix_fmt",
            "yuv420p",
        ],
    );
    check_refused(&varying, "its frame rate varies");
    check_refused(&clip::tone(1), "there is no picture");
}
