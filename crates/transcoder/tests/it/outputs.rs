//! What a good file becomes.

use std::path::{Path, PathBuf};

use serde_json::json;
use testing::clip;
use transcoder::sandbox::Layer;

use crate::{Run, brightness, decode, samples, transcoder};

const SOUND: [&str; 4] = [
    "-f",
    "lavfi",
    "-i",
    "sine=frequency=440:sample_rate=48000:duration=2",
];

fn picture(extension: &str, source: &str, options: &[&str]) -> PathBuf {
    clip::make(
        extension,
        &[&["-f", "lavfi", "-i", source], options].concat(),
    )
}

#[test]
fn the_sample_clip_becomes_a_proxy_a_waveform_and_a_poster() {
    let run = Run::of(&clip::sample()).done();
    assert_eq!(
        run.files(),
        [
            "manifest.json",
            "poster.jpg",
            "proxy.mp4",
            "sprite-001.jpg",
            "sprite.json",
            "sprite.vtt",
            "waveform.dat",
            "waveform.json",
            "waveform.png"
        ]
    );
    let video = run.stream("video");
    for (key, expected) in [
        ("codec_name", json!("h264")),
        ("profile", json!("High")),
        ("pix_fmt", json!("yuv420p")),
        ("width", json!(1280)),
        ("height", json!(720)),
        ("sample_aspect_ratio", json!("1:1")),
        ("avg_frame_rate", json!("25/1")),
        ("start_time", json!("0.000000")),
        ("nb_read_frames", json!("132")),
        ("color_space", json!("bt709")),
        ("color_transfer", json!("bt709")),
        ("color_primaries", json!("bt709")),
        ("color_range", json!("tv")),
    ] {
        assert_eq!(video[key], expected, "{key}");
    }
    let audio = run.stream("audio");
    assert_eq!(
        (
            &audio["codec_name"],
            &audio["channels"],
            &audio["start_time"]
        ),
        (&json!("aac"), &json!(2), &json!("0.000000"))
    );
    assert!(run.warnings().is_empty());
}

#[test]
fn the_index_comes_first_and_every_second_begins_with_a_keyframe() {
    let run = Run::of(&clip::video(320, 180, "25", 3)).done();
    let bytes = std::fs::read(run.proxy()).unwrap();
    let at = |name: &[u8]| bytes.windows(4).position(|window| window == name).unwrap();
    assert!(at(b"moov") < at(b"mdat"));
    let keys = std::process::Command::new("ffprobe")
        .args([
            "-v",
            "error",
            "-select_streams",
            "v",
            "-skip_frame",
            "nokey",
            "-show_entries",
            "frame=pts_time",
            "-of",
            "csv=p=0",
        ])
        .arg(run.proxy())
        .output()
        .unwrap();
    let keys = String::from_utf8(keys.stdout).unwrap();
    let keys = keys.lines().map(|line| line.trim_end_matches(','));
    let keys: Vec<_> = keys.filter(|line| !line.is_empty()).collect();
    assert_eq!(keys, ["0.000000", "1.000000", "2.000000"]);
}

#[test]
fn the_manifest_tells_size_hash_and_layers() {
    let run = Run::with(&clip::sample(), &["--profile", "fast@1"]).done();
    let manifest = run.manifest();
    let outputs = manifest["outputs"].as_array().unwrap();
    assert_eq!(outputs.len(), 4);
    for output in outputs {
        let file = std::fs::File::open(run.out.join(output["name"].as_str().unwrap())).unwrap();
        assert_eq!(output["bytes"], file.metadata().unwrap().len());
        assert_eq!(output["sha256"], transcoder::run::hash(&file).unwrap());
    }
    assert_eq!(manifest["sandbox"], json!(Layer::wanted()));
    assert_eq!(manifest["claimed"]["tracks"].as_array().unwrap().len(), 2);
}

#[test]
fn the_same_file_becomes_the_same_bytes() {
    let hashes = || {
        let manifest = Run::of(&clip::video(320, 180, "25", 2)).done().manifest();
        manifest["outputs"]
            .as_array()
            .unwrap()
            .iter()
            .map(|output| output["sha256"].clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(hashes(), hashes());
}

#[test]
fn a_large_picture_shrinks_and_a_turned_one_is_turned() {
    let upright = picture(
        "mp4",
        "color=white:s=1920x540:r=10:d=1,pad=1920:1080:0:0:black",
        &["-pix_fmt", "yuv420p"],
    );
    let turned = clip::make(
        "mp4",
        &[
            "-i",
            upright.to_str().unwrap(),
            "-c",
            "copy",
            "-metadata:s:v",
            "rotate=90",
        ],
    );
    let run = Run::of(&turned).done();
    let video = run.stream("video");
    assert_eq!(
        (&video["width"], &video["height"]),
        (&json!(720), &json!(1280))
    );
    assert!(video["side_data_list"].is_null());
    let quarters = |file: &Path| {
        decode(
            file,
            &[
                "-vf",
                "scale=2:2:flags=area,format=gray",
                "-frames:v",
                "1",
                "-f",
                "rawvideo",
            ],
        )
    };
    let dark: Vec<bool> = quarters(&run.proxy())
        .iter()
        .map(|value| *value < 128)
        .collect();
    // ffmpeg turns the source itself when it decodes.
    assert_eq!(
        dark,
        quarters(&turned)
            .iter()
            .map(|value| *value < 128)
            .collect::<Vec<_>>()
    );
    assert_eq!(
        dark,
        quarters(&run.out.join("poster.jpg"))
            .iter()
            .map(|value| *value < 128)
            .collect::<Vec<_>>()
    );
    assert!(dark.contains(&true) && dark.contains(&false));
}

#[test]
fn pixels_become_square() {
    let wide = picture(
        "mp4",
        "testsrc2=s=720x576:r=25:d=1,setsar=64/45",
        &["-pix_fmt", "yuv420p"],
    );
    let video = Run::of(&wide).done().stream("video");
    assert_eq!(
        (
            &video["width"],
            &video["height"],
            &video["sample_aspect_ratio"]
        ),
        (&json!(1024), &json!(576), &json!("1:1"))
    );
}

#[test]
fn colour_is_converted_not_only_tagged() {
    // The same red, once as BT.601 and once as full-range BT.709.
    for matrix in ["smpte170m:range=tv", "bt709:range=pc"] {
        let (space, range) = matrix.split_once(":range=").unwrap();
        let scale = format!(
            "color=0xc02020:s=320x240:r=10:d=1,scale=out_color_matrix={space}:out_range={range},format=yuv420p"
        );
        let tags = [
            "-colorspace",
            space,
            "-color_range",
            range,
            "-c:v",
            "libx264",
        ];
        let run = Run::of(&picture("mp4", &scale, &tags)).done();
        // BT.709 limited in the proxy, BT.601 full in the JPEG.
        for (made, expected) in [
            ("proxy.mp4", [73, 112, 198]),
            ("poster.jpg", [80, 101, 208]),
        ] {
            let planes = decode(&run.out.join(made), &["-frames:v", "1", "-f", "rawvideo"]);
            let (luma, chroma) = (320 * 240, 160 * 120);
            let found = [
                planes[luma / 2],
                planes[luma + chroma / 2],
                planes[luma + chroma * 3 / 2],
            ];
            let near = found
                .iter()
                .zip(expected)
                .all(|(found, expected)| found.abs_diff(expected) <= 3);
            assert!(near, "{made} of {matrix}: {found:?}");
        }
    }
}

#[test]
fn high_dynamic_range_is_tone_mapped() {
    let tags = [
        "-pix_fmt",
        "yuv420p10le",
        "-color_primaries",
        "bt2020",
        "-color_trc",
        "smpte2084",
        "-colorspace",
        "bt2020nc",
    ];
    // PQ code 0.58 is about 200 nits: a washed-out copy would leave it at 148.
    let hdr = picture("mp4", "color=0x949494:s=320x240:r=10:d=1", &tags);
    let run = Run::of(&hdr).done();
    assert_eq!(
        run.manifest()["plans"][1][1]["video"]["colour"]["hdr"],
        "smpte2084"
    );
    assert_eq!(run.stream("video")["color_transfer"], "bt709");
    let mean = brightness(&run.proxy())[0];
    assert!((165..250).contains(&mean), "{mean}");
}

#[test]
fn fields_are_woven() {
    let options = [
        "-vf",
        "interlace",
        "-flags",
        "+ilme+ildct",
        "-c:v",
        "libx264",
        "-x264-params",
        "tff=1",
        "-pix_fmt",
        "yuv420p",
    ];
    let run = Run::of(&picture("mp4", "testsrc2=s=320x240:r=50:d=2", &options)).done();
    assert_eq!(run.manifest()["plans"][1][1]["video"]["deinterlace"], true);
    let video = run.stream("video");
    assert_eq!(
        (&video["field_order"], &video["nb_read_frames"]),
        (&json!("progressive"), &json!("50"))
    );
}

#[test]
fn sound_alone_is_enough_and_mono_stays_mono() {
    let run = Run::of(&clip::tone(2)).done();
    assert_eq!(
        run.files(),
        [
            "manifest.json",
            "proxy.mp4",
            "waveform.dat",
            "waveform.json",
            "waveform.png"
        ]
    );
    assert_eq!(run.stream("audio")["channels"], 1);
    assert_eq!(run.stream("video"), serde_json::Value::Null);
}

/// Taggers put one in front of more than MP3, and a cover picture makes it long.
#[test]
fn a_tag_in_front_does_not_hide_what_a_file_is() {
    for extension in ["aac", "flac", "mp3"] {
        let bare = std::fs::read(clip::make(extension, &SOUND)).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tagged");
        let mut tagged = b"ID3\x04\0\0\0\0\x7f\x7f".to_vec();
        tagged.resize(10 + (0x7f << 7 | 0x7f), 0);
        tagged.extend(&bare);
        std::fs::write(&file, tagged).unwrap();
        let run = Run::with(&file, &["--profile", "fast@1"]).done();
        assert_eq!(
            run.files(),
            [
                "manifest.json",
                "waveform.dat",
                "waveform.json",
                "waveform.png"
            ]
        );
        let codec = &run.manifest()["claimed"]["tracks"][0]["codec"];
        assert_eq!(codec.as_str().unwrap().trim_end_matches("float"), extension);
    }
}

#[test]
fn a_picture_alone_is_enough() {
    let run = Run::of(&clip::silent_video(320, 180, "25", 1)).done();
    assert!(run.proxy().exists() && run.out.join("poster.jpg").exists());
    assert!(!run.files().iter().any(|name| name.starts_with("waveform")));
}

#[test]
fn an_attached_picture_is_not_the_video() {
    let cover = picture("jpg", "testsrc2=s=300x300:d=1", &["-frames:v", "1"]);
    let maps = [
        "-map",
        "0",
        "-map",
        "1",
        "-disposition:v",
        "attached_pic",
        "-c:v",
        "copy",
    ];
    let song = clip::make(
        "mp3",
        &[&SOUND[..], &["-i", cover.to_str().unwrap()], &maps].concat(),
    );
    let run = Run::of(&song).done();
    assert_eq!(
        run.files(),
        [
            "manifest.json",
            "proxy.mp4",
            "waveform.dat",
            "waveform.json",
            "waveform.png"
        ]
    );
}

#[test]
fn five_channels_and_a_woofer_become_two_below_full_scale() {
    let loud = "aevalsrc=exprs='0.9*sin(880*t)|0.9*sin(880*t)|0.9*sin(880*t)|0|0.9*sin(880*t)|0.9*sin(880*t)':c=5.1:d=2";
    let run = Run::of(&clip::make("wav", &["-f", "lavfi", "-i", loud])).done();
    assert_eq!(run.stream("audio")["channels"], 2);
    let peak = samples(&run.proxy(), "48000")
        .iter()
        .map(|value| value.unsigned_abs())
        .max()
        .unwrap();
    // −1 dB is 29,204; the encoder may overshoot a little.
    assert!((24_000..31_500).contains(&peak), "{peak}");
}

#[test]
fn voices_stay_where_the_number_of_channels_changes() {
    let folder = tempfile::tempdir().unwrap();
    let pieces = [
        (
            "0",
            "anullsrc=channel_layout=stereo:sample_rate=48000:duration=2",
        ),
        (
            "2",
            "aevalsrc=exprs=0|0|0.5*sin(880*t)|0|0|0:c=5.1:s=48000:d=2",
        ),
        (
            "4",
            "anullsrc=channel_layout=mono:sample_rate=48000:duration=1",
        ),
    ];
    let pieces = pieces.map(|(start, sound)| {
        let codec = ["-c:a", "ac3", "-output_ts_offset", start];
        let piece = clip::make("ts", &[&["-f", "lavfi", "-i", sound], &codec[..]].concat());
        std::fs::read(piece).unwrap()
    });
    let file = folder.path().join("broadcast.ts");
    std::fs::write(&file, pieces.concat()).unwrap();
    let run = Run::of(&file).done();
    assert_eq!(run.stream("audio")["channels"], 2);
    let heard = samples(&run.proxy(), "8000");
    let loud = |from: usize, to: usize| {
        let peak = heard[from..to].iter().map(|value| value.unsigned_abs());
        peak.max().unwrap()
    };
    assert!(loud(0, 12_000) < 100, "{}", loud(0, 12_000));
    assert!(loud(20_000, 28_000) > 4000, "{}", loud(20_000, 28_000));
}

#[test]
fn a_track_that_no_decoder_takes_is_told() {
    let picture = ["-f", "lavfi", "-i", "testsrc2=s=320x180:d=1"];
    let codecs = ["-c:v", "libx264", "-pix_fmt", "yuv420p", "-c:a", "wavpack"];
    let film = clip::make("mkv", &[&picture[..], &SOUND, &codecs].concat());
    let run = Run::of(&film).done();
    assert!(run.proxy().exists() && !run.files().contains(&"waveform.dat".to_owned()));
    let manifest = run.manifest();
    let told = manifest["warnings"][0].clone();
    assert_eq!(told["code"], "not_decoded");
    assert_eq!(
        told["message"],
        "track 1 (audio, wavpack) is left out: no decoder of ours takes it"
    );
}

#[test]
fn location_is_not_passed_on() {
    let tags = [
        "-metadata",
        "location=+48.8577+002.295/",
        "-movflags",
        "use_metadata_tags",
    ];
    let clip = clip::make("mp4", &[&SOUND[..], &tags].concat());
    assert!(
        std::fs::read(&clip)
            .unwrap()
            .windows(8)
            .any(|window| window == b"+48.8577")
    );
    let run = Run::of(&clip).done();
    assert!(
        !std::fs::read(run.proxy())
            .unwrap()
            .windows(8)
            .any(|window| window == b"+48.8577")
    );
}

#[test]
fn probe_says_what_is_claimed_and_what_is_read() {
    let output = transcoder()
        .arg("probe")
        .arg(clip::sample())
        .output()
        .unwrap();
    let probe: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(probe["claimed"]["tracks"][0]["codec"], "h264");
    assert_eq!(probe["measured"]["rate"], json!({"num": 25, "den": 1}));
    let output = transcoder().args(["probe", "--formats"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.contains("Matroska") && text.contains(" aac "),
        "{text}"
    );
}

#[test]
fn progress_comes_as_lines_and_never_falls() {
    let options = ["--json", "--profile", "fast@1,proxy720@1,edit@1"];
    // Its index is at the end.
    let run = Run::with(&clip::video(320, 180, "25", 3), &options).done();
    let lines = String::from_utf8(run.output.stdout).unwrap();
    let lines: Vec<serde_json::Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    for stage in ["waveform", "proxy", "edit"] {
        let told = lines.iter().map(|line| &line["progress"]);
        let told = told.filter(|progress| progress["stage"] == stage);
        let told: Vec<f64> = told.map(|p| p["fraction"].as_f64().unwrap()).collect();
        assert!(told.len() > 10 && told.is_sorted(), "{stage}: {told:?}");
    }
    assert_eq!(lines.last().unwrap()["done"]["version"], 1);
}
