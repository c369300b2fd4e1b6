//! A transcoder's outputs, judged by tools and readers that share nothing with it.

use std::fs;
use std::path::Path;

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::program::tool;

/// The demo's clip: its sound is the longer track.
const SECONDS: f64 = 5.312;

/// Checks every output in `folder`.
pub(crate) fn check(folder: &Path) {
    let name = |name: &str| folder.join(name).to_string_lossy().into_owned();
    plays(&name("proxy.mp4"));
    starts_at_once(&fs::read(name("proxy.mp4")).unwrap());
    waveform_is_as_long_as_the_sound(&fs::read(name("waveform.dat")).unwrap());
    // The tenth and the ninetieth percentile of brightness; most of a waveform's picture is behind it.
    shows_something(&name("poster.jpg"), ["YLOW", "YHIGH"]);
    shows_something(&name("waveform.png"), ["YMIN", "YMAX"]);
    let clip = hex::encode(Sha256::digest(fs::read(testing::clip::sample()).unwrap()));
    let fast = [
        "poster.jpg",
        "waveform.dat",
        "waveform.json",
        "waveform.png",
    ];
    lists(folder, "manifest-fast-1.json", &clip, &fast);
    // The clip's keyframes are too far apart for sprites of them alone.
    let proxy = ["proxy.mp4", "sprite-001.jpg", "sprite.json", "sprite.vtt"];
    lists(folder, "manifest-proxy720-1.json", &clip, &proxy);
    shows_something(&name("sprite-001.jpg"), ["YLOW", "YHIGH"]);
    let mut all = proxy.to_vec();
    all.extend(fast);
    all.sort_unstable();
    lists(folder, "manifest.json", &clip, &all);
}

/// A manifest is about the clip and lists exactly these outputs, each as it lies in the folder.
fn lists(folder: &Path, manifest: &str, clip: &str, expected: &[&str]) {
    let manifest: Value =
        serde_json::from_slice(&fs::read(folder.join(manifest)).unwrap()).unwrap();
    assert_eq!(manifest["input"]["sha256"], clip, "{manifest}");
    let mut listed = vec![];
    for output in manifest["outputs"].as_array().unwrap() {
        let name = output["name"].as_str().unwrap();
        let bytes = fs::read(folder.join(name)).unwrap();
        assert_eq!(output["bytes"], bytes.len(), "{name}");
        assert_eq!(
            output["sha256"],
            hex::encode(Sha256::digest(bytes)),
            "{name}"
        );
        listed.push(name);
    }
    listed.sort_unstable();
    assert_eq!(listed, expected, "{manifest}");
}

/// The proxy is H.264 in 720p at most, with AAC, as long as the clip.
fn plays(proxy: &str) {
    let probed = tool(
        "ffprobe",
        &[
            "-v",
            "error",
            "-show_streams",
            "-show_format",
            "-of",
            "json",
            proxy,
        ],
    );
    let probed: Value = serde_json::from_str(&probed).unwrap();
    let streams = probed["streams"].as_array().unwrap();
    let codec = |kind: &str| {
        let mut of = streams.iter().filter(|stream| stream["codec_type"] == kind);
        let stream = of.next().unwrap_or_else(|| panic!("no {kind}: {probed}"));
        assert!(of.next().is_none(), "one track of {kind}: {probed}");
        stream
    };
    let (video, audio) = (codec("video"), codec("audio"));
    assert_eq!(video["codec_name"], "h264");
    assert_eq!(audio["codec_name"], "aac");
    let (width, height) = (
        video["width"].as_i64().unwrap(),
        video["height"].as_i64().unwrap(),
    );
    assert!(
        (2..=1280).contains(&width) && (2..=720).contains(&height),
        "{width}×{height}"
    );
    let seconds: f64 = probed["format"]["duration"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    assert!((seconds - SECONDS).abs() < 0.1, "{seconds} s");
    // It decodes to its end without a word of complaint.
    let complaints = tool(
        "ffmpeg",
        &[
            "-nostdin", "-v", "error", "-xerror", "-i", proxy, "-f", "null", "-",
        ],
    );
    assert_eq!(complaints, "");
}

/// The index comes before the media, so that a player need not read to the end first.
fn starts_at_once(mp4: &[u8]) {
    let (mut boxes, mut at) = (vec![], 0);
    while at < mp4.len() {
        let size = u32::from_be_bytes(mp4[at..at + 4].try_into().unwrap());
        let name = String::from_utf8_lossy(&mp4[at + 4..at + 8]).into_owned();
        let size = match size {
            0 => mp4.len() - at,
            1 => {
                let size = u64::from_be_bytes(mp4[at + 8..at + 16].try_into().unwrap());
                usize::try_from(size).unwrap()
            }
            size => usize::try_from(size).unwrap(),
        };
        assert!(size >= 8, "box {name} of {size} bytes");
        boxes.push(name);
        at += size;
    }
    assert_eq!(at, mp4.len(), "the last box ends with the file: {boxes:?}");
    let place = |name: &str| boxes.iter().position(|found| found == name);
    assert_eq!(boxes.first().map(String::as_str), Some("ftyp"));
    assert!(
        place("moov").is_some() && place("moov") < place("mdat"),
        "{boxes:?}"
    );
}

/// audiowaveform's format, version 1 or 2: header, then a minimum and a maximum per bucket and channel.
fn waveform_is_as_long_as_the_sound(dat: &[u8]) {
    let field = |n: usize| u32::from_le_bytes(dat[n * 4..n * 4 + 4].try_into().unwrap());
    let (version, flags, rate, zoom, length) = (field(0), field(1), field(2), field(3), field(4));
    let (header, channels) = match version {
        1 => (20, 1),
        2 => (24, field(5)),
        other => panic!("version {other}"),
    };
    let bytes = if flags & 1 == 1 { 1 } else { 2 };
    assert_eq!(
        dat.len(),
        usize::try_from(header + length * channels * 2 * bytes).unwrap()
    );
    let bucket = f64::from(zoom) / f64::from(rate);
    let seconds = f64::from(length) * bucket;
    assert!(
        (seconds - SECONDS).abs() <= bucket,
        "{length} buckets of {bucket} s are {seconds} s, not {SECONDS} s"
    );
    let peaks = &dat[usize::try_from(header).unwrap()..];
    assert!(
        peaks.iter().any(|byte| *byte != peaks[0]),
        "the clip is not silent"
    );
}

/// A picture decodes, and is not of one colour: two figures of its brightness differ.
fn shows_something(picture: &str, [low, high]: [&str; 2]) {
    let told = tool(
        "ffmpeg",
        &[
            "-nostdin",
            "-v",
            "error",
            "-xerror",
            "-i",
            picture,
            "-vf",
            "signalstats,metadata=print:file=-",
            "-f",
            "null",
            "-",
        ],
    );
    let figure = |name: &str| -> f64 {
        let line = told
            .lines()
            .find_map(|line| line.strip_prefix(&format!("lavfi.signalstats.{name}=")));
        line.unwrap_or_else(|| panic!("no {name}: {told}"))
            .parse()
            .unwrap()
    };
    let (low, high) = (figure(low), figure(high));
    assert!(high - low > 20.0, "brightness from {low} to {high}");
}
