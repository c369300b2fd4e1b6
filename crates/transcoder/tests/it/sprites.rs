//! Sprites: from keyframes where these are dense, else from the proxy's pictures, and never twice.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use testing::clip;

use crate::{Run, decode};

/// A clip whose light tells the second, with a keyframe every so many frames of 25 a second.
fn stairs(seconds: u32, gop: u32, options: &[&str]) -> PathBuf {
    let source = format!(
        "color=gray:size=320x180:rate=25:duration={seconds},geq=lum='20+20*floor(T)':cb=128:cr=128"
    );
    let gop = gop.to_string();
    let coded = [
        "-c:v",
        "libx264",
        "-preset",
        "ultrafast",
        "-g",
        &gop,
        "-keyint_min",
        &gop,
        "-sc_threshold",
        "0",
    ];
    clip::make(
        "mp4",
        &[
            &["-f", "lavfi", "-i", &source],
            &coded[..],
            &["-pix_fmt", "yuv420p"],
            options,
        ]
        .concat(),
    )
}

fn board(run: &Run) -> Value {
    serde_json::from_slice(&std::fs::read(run.out.join("sprite.json")).unwrap()).unwrap()
}

/// The second that each tile shows, by its light.
fn shown(run: &Run) -> Vec<i64> {
    let board = board(run);
    let tiles = board["tiles"].as_array().unwrap();
    tiles
        .iter()
        .map(|tile| light(&run.out, &board, tile))
        .collect()
}

#[expect(clippy::cast_possible_truncation, reason = "a byte")]
fn light(out: &Path, board: &Value, tile: &Value) -> i64 {
    let crop = format!(
        "crop={}:{}:{}:{},scale=1:1:flags=area,format=gray",
        board["tile_width"], board["tile_height"], tile["x"], tile["y"]
    );
    let sheet = out.join(tile["sheet"].as_str().unwrap());
    let luma = decode(&sheet, &["-vf", &crop, "-f", "rawvideo"])[0];
    // The clip's light is in limited range; a JPEG's is not.
    let limited = 16.0 + f64::from(luma) * 219.0 / 255.0;
    ((limited - 20.0) / 20.0).round() as i64
}

#[test]
fn dense_keyframes_alone_make_a_tile_for_each_second() {
    let clip = stairs(10, 25, &[]);
    let run = Run::with(&clip, &["--profile", "fast@1"]).done();
    assert_eq!(shown(&run), (0..10).collect::<Vec<_>>());
    let board = board(&run);
    assert_eq!(
        (&board["interval_ms"], &board["duration_ms"]),
        (&json!(1000), &json!(10_000))
    );
    let cues = std::fs::read_to_string(run.out.join("sprite.vtt")).unwrap();
    assert!(
        cues.ends_with("00:00:09.000 --> 00:00:10.000\nsprite-001.jpg#xywh=1440,0,160,90\n"),
        "{cues}"
    );
    let run = Run::with(&clip, &["--profile", "proxy720@1"]).done();
    assert_eq!(run.files(), ["manifest.json", "proxy.mp4"]);
}

#[test]
fn where_keyframes_are_sparse_the_proxy_s_pictures_make_the_tiles() {
    let clip = stairs(12, 250, &[]);
    let run = Run::with(&clip, &["--profile", "fast@1"]).done();
    assert_eq!(run.files(), ["manifest.json", "poster.jpg"]);
    let run = Run::of(&clip).done();
    assert_eq!(shown(&run), (0..12).collect::<Vec<_>>());
    assert_eq!(
        board(&run)["sheets"],
        json!([{"name": "sprite-001.jpg", "width": 1600, "height": 180}])
    );
    assert!(run.warnings().is_empty());
}

#[test]
fn tiles_of_an_upright_film_are_upright() {
    let turned = clip::make(
        "mp4",
        &[
            "-i",
            stairs(2, 25, &[]).to_str().unwrap(),
            "-c",
            "copy",
            "-metadata:s:v:0",
            "rotate=90",
        ],
    );
    let run = Run::with(&turned, &["--profile", "fast@1"]).done();
    let board = board(&run);
    assert_eq!(
        (&board["tile_width"], &board["tile_height"]),
        (&json!(90), &json!(160))
    );
    assert_eq!(shown(&run), [0, 1]);
}

#[test]
fn the_last_tile_lasts_as_long_as_the_sound() {
    let clip = stairs(2, 25, &[]);
    let with_sound = clip::make(
        "mp4",
        &[
            "-i",
            clip.to_str().unwrap(),
            "-f",
            "lavfi",
            "-i",
            "sine=duration=5",
            "-c:v",
            "copy",
        ],
    );
    let run = Run::with(&with_sound, &["--profile", "fast@1"]).done();
    let board = board(&run);
    assert_eq!(board["tiles"].as_array().unwrap().len(), 2);
    let end = board["tiles"][1]["end_ms"].as_u64().unwrap();
    assert!((4990..5100).contains(&end), "{end}");
}

/// Wherever keyframes are, and however a container tells of them, one of the two jobs makes the sprites.
#[test]
fn one_job_makes_the_sprites_in_every_container() {
    let picture = "testsrc2=size=320x180:rate=25:duration=6";
    for extension in ["mp4", "mkv", "ts", "flv", "avi"] {
        for options in [
            ["-g", "25", "-x264opts", "bframes=3"],
            ["-g", "25", "-x264opts", "open-gop=1:bframes=3:scenecut=0"],
            ["-g", "250", "-x264opts", "bframes=0"],
            ["-g", "40", "-x264opts", "bframes=2"],
        ] {
            let coded = [
                "-f", "lavfi", "-i", picture, "-c:v", "libx264", "-preset", "veryfast", "-pix_fmt",
                "yuv420p",
            ];
            let clip = clip::make(extension, &[&coded[..], &options].concat());
            let run = Run::of(&clip).done();
            let names = run.manifest()["outputs"].clone();
            let names = names
                .as_array()
                .unwrap()
                .iter()
                .map(|output| output["name"].clone());
            let boards = names.filter(|name| name == "sprite.json").count();
            assert_eq!(boards, 1, "{extension} {options:?}");
            let tiles = board(&run)["tiles"].as_array().unwrap().len();
            // AVI tells the order of decoding only, which ends a little later.
            let most = if extension == "avi" { 7 } else { 6 };
            assert!(
                (6..=most).contains(&tiles),
                "{extension} {options:?}: {tiles}"
            );
        }
    }
}
