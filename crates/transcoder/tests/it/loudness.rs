//! Loudness, judged by ffmpeg's own meter, and the placeholder of the poster.

use std::path::Path;
use std::process::Command;

use base64::Engine;
use serde_json::Value;
use testing::clip;

use crate::Run;

fn measured(file: &Path) -> Value {
    Run::with(file, &["--profile", "fast@1"]).done().manifest()["measured"].clone()
}

/// Integrated loudness, range and true peak as ffmpeg's filter sums them up.
fn judged(file: &Path) -> [f64; 3] {
    let output = Command::new("ffmpeg")
        .args(["-nostdin", "-hide_banner", "-i"])
        .arg(file)
        .args([
            "-vn",
            "-af",
            "ebur128=peak=true:framelog=verbose",
            "-f",
            "null",
            "-",
        ])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let summary = said.split("Summary:").nth(1).unwrap();
    ["I:", "LRA:", "Peak:"].map(|name| {
        let value = summary
            .split(name)
            .nth(1)
            .unwrap()
            .split_whitespace()
            .next()
            .unwrap();
        value.parse().unwrap()
    })
}

#[track_caller]
fn check(source: &str, options: &[&str], extension: &str) {
    let file = clip::make(
        extension,
        &[&["-f", "lavfi", "-i", source], options].concat(),
    );
    let ours = &measured(&file)["loudness"];
    let [integrated, range, peak] = judged(&file);
    for (name, expected, allowed) in [
        ("integrated_lufs", integrated, 0.11),
        // Meters take their values at other moments; EBU Tech 3342 allows 1 LU.
        ("range_lu", range, 0.5),
        ("true_peak_dbtp", peak, 0.31),
    ] {
        let value = ours[name].as_f64().unwrap();
        assert!(
            (value - expected).abs() <= allowed,
            "{name}: {ours} against {expected}"
        );
    }
}

/// Noise that is quiet for a while and then loud, so that it has a range.
const NOISE: &str = "anoisesrc=duration=24:seed=7:amplitude=0.4:color=pink,volume='if(lt(t,12),0.3,0.9)':eval=frame";

#[test]
fn stereo_is_as_loud_as_ffmpeg_hears_it() {
    check(NOISE, &["-ac", "2"], "wav");
    check(NOISE, &["-ac", "2", "-c:a", "aac"], "m4a");
}

#[test]
fn mono_and_surround_are_as_loud_as_ffmpeg_hears_them() {
    check(NOISE, &[], "flac");
    let split = format!("{NOISE},pan=5.1|FL=c0|FR=0.5*c0|FC=0.8*c0|LFE=c0|BL=0.7*c0|BR=0.3*c0");
    check(&split, &["-c:a", "pcm_s24le"], "wav");
}

#[test]
fn silence_has_no_loudness_and_sound_alone_no_placeholder() {
    let silence = clip::make("wav", &["-f", "lavfi", "-i", "anullsrc=duration=2"]);
    let measured = measured(&silence);
    assert_eq!(
        (&measured["loudness"], &measured["thumbhash"]),
        (&Value::Null, &Value::Null)
    );
}

#[test]
fn a_picture_s_placeholder_has_its_colour_and_shape() {
    let wall = clip::make(
        "png",
        &[
            "-f",
            "lavfi",
            "-i",
            "color=0x2040ff:size=400x200",
            "-frames:v",
            "1",
        ],
    );
    let measured = measured(&wall);
    let hash = base64::engine::general_purpose::STANDARD
        .decode(measured["thumbhash"].as_str().unwrap())
        .unwrap();
    let (red, green, blue, _) = thumbhash::thumb_hash_to_average_rgba(&hash).unwrap();
    assert!(
        blue > 0.9 && red < 0.3 && green < 0.4,
        "{red} {green} {blue}"
    );
    let ratio = thumbhash::thumb_hash_to_approximate_aspect_ratio(&hash).unwrap();
    assert!((1.5..2.5).contains(&ratio), "{ratio}");
}
