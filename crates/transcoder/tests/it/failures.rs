//! What a bad file becomes: one typed error, and nothing else.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;
use testing::clip;

use crate::{Run, transcoder};

#[track_caller]
fn check(file: &Path, code: i32, kind: &str) {
    let run = Run::of(file);
    assert_eq!(run.output.status.code(), Some(code), "{:?}", run.output);
    let stderr = String::from_utf8(run.output.stderr.clone()).unwrap();
    assert!(
        stderr
            .lines()
            .last()
            .unwrap()
            .starts_with(&format!("error: {kind}: ")),
        "{stderr}"
    );
    assert!(run.files().is_empty());
    assert_eq!(
        std::fs::read_dir(run.out.parent().unwrap())
            .unwrap()
            .count(),
        0,
        "scratch is left"
    );
    let run = Run::with(file, &["--json"]);
    let stderr = String::from_utf8(run.output.stderr).unwrap();
    let error: Value = serde_json::from_str(stderr.lines().last().unwrap()).unwrap();
    assert_eq!(
        (error["type"].as_str(), error["retryable"].as_bool()),
        (Some(kind), Some(false))
    );
}

fn file_of(bytes: &[u8], suffix: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::Builder::new().suffix(suffix).tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

#[test]
fn text_under_a_media_name_is_refused() {
    check(
        file_of(b"not a film, only a story\n", ".mp4").path(),
        3,
        "input",
    );
}

#[test]
fn nothing_is_refused() {
    check(file_of(b"", ".mp4").path(), 3, "input");
    check(Path::new("/nonexistent/film.mp4"), 3, "input");
    check(Path::new("/dev/zero"), 3, "input");
}

#[test]
fn a_header_with_nothing_behind_it_is_refused() {
    let whole = std::fs::read(clip::sample()).unwrap();
    check(file_of(&whole[..40], ".mp4").path(), 3, "input");
    let noise: Vec<u8> = (0..50_000_u32)
        .map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    check(
        file_of(&[b"RIFF\0\0\0\0WAVEfmt ", &noise[..]].concat(), ".wav").path(),
        3,
        "input",
    );
    check(
        file_of(&[&[0x1a, 0x45, 0xdf, 0xa3][..], &noise].concat(), ".mkv").path(),
        3,
        "input",
    );
    check(
        file_of(&[b"OggS", &noise[..]].concat(), ".ogg").path(),
        3,
        "input",
    );
}

/// A WAV of one channel of floats at 48 kHz.
fn floats(samples: &[f32]) -> tempfile::NamedTempFile {
    let bytes: Vec<u8> = samples
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    let size = u32::try_from(bytes.len()).unwrap();
    let mut wav = b"RIFF".to_vec();
    wav.extend((size + 36).to_le_bytes());
    wav.extend(b"WAVEfmt \x10\0\0\0\x03\0\x01\0");
    wav.extend(48_000_u32.to_le_bytes());
    wav.extend(192_000_u32.to_le_bytes());
    wav.extend(b"\x04\0\x20\0data");
    wav.extend(size.to_le_bytes());
    file_of(&[wav, bytes].concat(), ".wav")
}

#[test]
fn samples_far_beyond_full_scale_are_no_fault_of_ours() {
    let mut samples = vec![0.1; 96_000];
    (samples[40_000], samples[60_000]) = (1e30, -f32::INFINITY);
    let run = Run::of(floats(&samples).path()).done();
    assert_eq!(run.stream("audio")["codec_name"], "aac");
}

#[test]
fn sound_that_is_over_at_once_is_refused() {
    let short = Run::with(floats(&[0.5; 20]).path(), &["--profile", "proxy720@1"]);
    assert_eq!(short.output.status.code(), Some(3), "{:?}", short.output);
    assert!(short.files().is_empty());
    let run = Run::of(floats(&[0.5; 480]).path()).done();
    assert_eq!(run.stream("audio")["codec_name"], "aac");
}

#[test]
fn half_a_clip_is_made_as_far_as_it_goes_and_says_so() {
    let whole = std::fs::read(clip::make(
        "mkv",
        &[
            "-i",
            clip::video(320, 180, "25", 4).to_str().unwrap(),
            "-c",
            "copy",
        ],
    ))
    .unwrap();
    let run = Run::of(file_of(&whole[..whole.len() / 2], ".mkv").path()).done();
    assert!(
        run.warnings().contains(&"shorter_than_claimed".to_owned()),
        "{:?}",
        run.warnings()
    );
    let edit = Run::with(
        file_of(&whole[..whole.len() / 2], ".mkv").path(),
        &["--profile", "edit@1"],
    );
    assert!(
        edit.done()
            .warnings()
            .contains(&"shorter_than_claimed".to_owned())
    );
    let frames: u32 = run.stream("video")["nb_read_frames"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    assert!((30..80).contains(&frames), "{frames}");
}

#[test]
fn a_picture_that_does_not_decode_leaves_the_sound() {
    let clip = clip::make(
        "mkv",
        &[
            "-i",
            clip::video(320, 180, "25", 2).to_str().unwrap(),
            "-c",
            "copy",
            "-bsf:v",
            "noise=amount=1",
        ],
    );
    let run = Run::of(&clip).done();
    assert!(run.files().contains(&"waveform.dat".to_owned()));
    assert!(!run.warnings().is_empty());
}

#[test]
fn outputs_join_what_is_in_the_folder_already() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("mine.txt"), "kept").unwrap();
    let status = transcoder()
        .arg("run")
        .arg(clip::tone(1))
        .arg("--out")
        .arg(folder.path())
        .status()
        .unwrap();
    assert!(status.success());
    assert!(
        folder.path().join("mine.txt").exists() && folder.path().join("manifest.json").exists()
    );
}

#[test]
fn a_second_run_takes_the_place_of_the_first_or_leaves_it_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let run = |clip: &Path, out: &Path| {
        let output = transcoder()
            .arg("run")
            .arg(clip)
            .arg("--out")
            .arg(out)
            .output();
        output.unwrap().status.code()
    };
    let out = folder.path().join("out");
    assert_eq!(run(&clip::video(320, 180, "25", 1), &out), Some(0));
    assert!(out.join("poster.jpg").exists());
    assert_eq!(run(&clip::tone(1), &out), Some(0));
    assert!(!out.join("poster.jpg").exists(), "the first run's poster");
    let waveform = std::fs::read(out.join("waveform.dat")).unwrap();

    // What is in the way is not ours to move.
    std::fs::create_dir_all(out.join("poster.jpg/mine")).unwrap();
    assert_eq!(run(&clip::video(320, 180, "25", 1), &out), Some(6));
    assert!(out.join("poster.jpg/mine").exists());
    assert!(out.join("manifest.json").exists());
    assert_eq!(std::fs::read(out.join("waveform.dat")).unwrap(), waveform);
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1);
}

#[test]
fn a_waveform_is_read_from_a_plain_file_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let made = Command::new("mkfifo").arg(path("pipe.dat")).status();
    assert!(made.unwrap().success());
    std::os::unix::fs::symlink("/dev/zero", path("zero.json")).unwrap();
    std::fs::create_dir(path("folder.dat")).unwrap();
    for name in ["pipe.dat", "zero.json", "folder.dat"] {
        let output = transcoder()
            .arg("waveform")
            .arg(path(name))
            .arg("-o")
            .arg(path("made.json"))
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(3), "{name}: {output:?}");
        assert!(!path("made.json").exists());
    }
}

#[test]
fn an_ending_that_no_waveform_has_is_wrong_usage_and_nothing_is_read() {
    let output = transcoder()
        .args(["waveform", "/nonexistent/song.flac", "-o", "song.wavx"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(
        stderr.lines().last().unwrap().starts_with("error: usage: "),
        "{stderr}"
    );
}

#[test]
fn a_worker_without_its_settings_is_wrong_usage() {
    let settings = [
        ("DATABASE_URL", "postgres:///nowhere"),
        ("STORAGE_URL", "/nowhere"),
    ];
    for (given, missing) in [(0, "DATABASE_URL"), (1, "STORAGE_URL")] {
        let mut worker = transcoder();
        for (name, _) in settings {
            worker.env_remove(name);
        }
        let output = worker
            .arg("worker")
            .envs(settings[..given].iter().copied())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(
            stderr.lines().last(),
            Some(&*format!("error: usage: set {missing}"))
        );
    }
}

#[test]
fn a_reader_that_goes_away_does_not_stop_the_work() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let mut run = transcoder()
        .arg("run")
        .arg(clip::tone(1))
        .arg("--out")
        .arg(&out)
        .arg("--json")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    drop(run.stdout.take());
    assert!(run.wait().unwrap().success());
    assert!(out.join("manifest.json").exists());
}

#[test]
fn a_profile_named_twice_is_made_once() {
    let run = Run::with(&clip::tone(1), &["--profile", "fast@1,fast@1"]).done();
    assert_eq!(run.manifest()["plans"].as_array().unwrap().len(), 1);
}

#[test]
fn wrong_usage_is_two() {
    let status = transcoder()
        .args(["run", "x.mp4", "--out", "y", "--profile", "huge@9"])
        .output()
        .unwrap()
        .status;
    assert_eq!(status.code(), Some(2));
}
