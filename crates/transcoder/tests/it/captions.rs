//! Captions: subtitles that are text, on the proxy's timeline.

use std::path::PathBuf;

use testing::clip;

use crate::Run;

const SPANISH: &str = "1\n00:00:00,500 --> 00:00:01,250\n<i>Hola</i>, mundo & <b>más</b>\nsegunda línea\n\n\
                       2\n00:00:02,000 --> 00:00:09,000\n1 < 2 --> 3\n";

fn film(extension: &str, subtitles: &[(&str, &str)], codec: &str) -> PathBuf {
    let files: Vec<PathBuf> = subtitles
        .iter()
        .map(|(_, text)| clip::text("srt", text))
        .collect();
    let video = clip::silent_video(320, 180, "25", 3);
    let mut arguments: Vec<String> = vec!["-i".into(), video.to_str().unwrap().into()];
    for file in &files {
        arguments.extend(["-i".into(), file.to_str().unwrap().into()]);
    }
    arguments.extend(["-map".into(), "0".into()]);
    for (at, (language, _)) in subtitles.iter().enumerate() {
        arguments.extend(["-map".into(), format!("{}:s", at + 1)]);
        arguments.extend([
            format!("-metadata:s:s:{at}"),
            format!("language={language}"),
        ]);
    }
    arguments.extend(["-c".into(), "copy".into(), "-c:s".into(), codec.into()]);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    clip::make(extension, &arguments)
}

#[track_caller]
fn check(film: &std::path::Path) {
    let run = Run::with(film, &["--profile", "proxy720@1"]).done();
    let captions = std::fs::read_to_string(run.out.join("captions-spa.vtt")).unwrap();
    assert_eq!(
        captions,
        "WEBVTT\n\n00:00:00.500 --> 00:00:01.250\n<i>Hola</i>, mundo &amp; <b>más</b>\nsegunda línea\n\n\
         00:00:02.000 --> 00:00:03.000\n1 &lt; 2 --&gt; 3\n"
    );
    // The last cue claims nine seconds.
    assert_eq!(run.warnings(), ["shorter_than_claimed"]);
}

#[test]
fn subrip_in_matroska_becomes_webvtt() {
    check(&film("mkv", &[("spa", SPANISH)], "srt"));
}

#[test]
fn timed_text_in_mp4_becomes_webvtt() {
    check(&film("mp4", &[("spa", SPANISH)], "mov_text"));
}

#[test]
fn substation_alpha_becomes_webvtt() {
    check(&film("mkv", &[("spa", SPANISH)], "ass"));
}

#[test]
fn each_track_has_a_file_and_is_in_the_manifest() {
    let again = "1\n00:00:01,000 --> 00:00:02,000\nHello\n";
    let film = film(
        "mkv",
        &[
            ("eng", again),
            ("spa", SPANISH),
            ("eng", again),
            ("", again),
        ],
        "srt",
    );
    let run = Run::with(&film, &["--profile", "proxy720@1"]).done();
    let files = run.files();
    let captions: Vec<_> = files
        .iter()
        .filter(|name| name.starts_with("captions-"))
        .collect();
    assert_eq!(
        captions,
        [
            "captions-eng-2.vtt",
            "captions-eng.vtt",
            "captions-spa.vtt",
            "captions-und.vtt"
        ]
    );
    let tracks = run.manifest()["claimed"]["tracks"].clone();
    let kinds = tracks
        .as_array()
        .unwrap()
        .iter()
        .map(|track| track["kind"].as_str().unwrap());
    assert_eq!(kinds.filter(|kind| *kind == "subtitle").count(), 4);
}

#[test]
fn what_an_earlier_run_captioned_is_gone_after_the_next() {
    let with = film("mkv", &[("spa", SPANISH)], "srt");
    let run = Run::with(&with, &["--profile", "proxy720@1"]).done();
    assert!(run.files().contains(&"captions-spa.vtt".to_owned()));
    let again = crate::transcoder()
        .arg("run")
        .arg(clip::video(320, 180, "25", 1))
        .arg("--out")
        .arg(&run.out)
        .output()
        .unwrap();
    assert!(again.status.success(), "{again:?}");
    assert!(!run.files().contains(&"captions-spa.vtt".to_owned()));
}

#[test]
fn webvtt_and_its_braces_stay_what_they_are() {
    let text = "1\n00:00:00,500 --> 00:00:01,250\n{risas} a\n";
    let film = film("mkv", &[("spa", text)], "webvtt");
    let run = Run::with(&film, &["--profile", "proxy720@1"]).done();
    let captions = std::fs::read_to_string(run.out.join("captions-spa.vtt")).unwrap();
    assert!(
        captions.ends_with("00:00:00.500 --> 00:00:01.250\n{risas} a\n"),
        "{captions}"
    );
}

#[test]
fn files_of_others_stay_and_an_input_is_not_replaced() {
    let with = film("mkv", &[("spa", SPANISH)], "srt");
    let folder = tempfile::tempdir().unwrap();
    let run = |file: &std::path::Path, profile: &str| {
        let mut command = crate::transcoder();
        command
            .arg("run")
            .arg(file)
            .args(["--profile", profile, "--out"])
            .arg(folder.path());
        command.output().unwrap()
    };
    let theirs = folder.path().join("captions-eng.vtt");
    std::fs::write(&theirs, "theirs").unwrap();
    assert!(run(&with, "proxy720@1").status.success());
    assert_eq!(std::fs::read_to_string(&theirs).unwrap(), "theirs");
    let input = folder.path().join("edit.mov");
    std::fs::copy(&with, &input).unwrap();
    let refused = run(&input, "proxy720@1");
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    assert!(input.exists() && theirs.exists());
}
