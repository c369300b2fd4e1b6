//! Waveforms: what a run makes, and the command that draws and converts them.

use std::path::{Path, PathBuf};
use std::process::Output;

use testing::clip;
use transcoder::format::waveform::{Bits, Waveform};

use crate::{Run, decode, ffprobe, transcoder};

/// Three seconds of noise in stereo, never the same in both channels.
const NOISE: &str = "anoisesrc=color=pink:seed=7:duration=3:sample_rate=44100:amplitude=0.6[a];\
    anoisesrc=color=pink:seed=8:duration=3:sample_rate=44100:amplitude=0.6[b];[a][b]amerge=inputs=2";
const RATE: u32 = 44_100;

fn noise(extension: &str) -> PathBuf {
    clip::make(extension, &["-filter_complex", NOISE])
}

/// Both channels' samples as 16 bits, in turn.
fn samples(file: &Path) -> Vec<i16> {
    let bytes = decode(file, &["-f", "s16le"]);
    bytes
        .chunks_exact(2)
        .map(|pair| i16::from_le_bytes([pair[0], pair[1]]))
        .collect()
}

/// Minima and maxima of stereo samples, point by point, straight from the rules.
fn drawn(samples: &[i16], zoom: usize, split: bool) -> Vec<i16> {
    let mut drawn = vec![];
    for point in samples.chunks(zoom * 2) {
        let mixed = point.chunks(2).map(|moment| moment[0].midpoint(moment[1]));
        let channels: Vec<Vec<i16>> = if split {
            vec![
                point.iter().step_by(2).copied().collect(),
                point.iter().skip(1).step_by(2).copied().collect(),
            ]
        } else {
            vec![mixed.collect()]
        };
        for channel in channels {
            drawn.extend([
                *channel.iter().min().unwrap(),
                *channel.iter().max().unwrap(),
            ]);
        }
    }
    drawn
}

fn command(from: &Path, to: &Path, options: &[&str]) -> Output {
    let mut command = transcoder();
    command.arg("waveform").arg(from).arg("-o").arg(to);
    command.args(options).output().unwrap()
}

/// What the command makes of a file.
#[track_caller]
fn made(from: &Path, options: &[&str]) -> Waveform {
    let folder = tempfile::tempdir().unwrap();
    let dat = folder.path().join("made.dat");
    let output = command(from, &dat, options);
    assert!(output.status.success(), "{options:?}: {output:?}");
    Waveform::from_dat(&std::fs::read(dat).unwrap()).unwrap()
}

#[test]
fn a_waveform_of_pcm_and_flac_is_exact() {
    for extension in ["wav", "flac"] {
        let clip = noise(extension);
        let samples = samples(&clip);
        let run = Run::with(&clip, &["--profile", "fast@1"]).done();
        let kept =
            Waveform::from_dat(&std::fs::read(run.out.join("waveform.dat")).unwrap()).unwrap();
        assert_eq!(kept.data, drawn(&samples, 256, false), "{extension}");
        assert_eq!(
            std::fs::read_to_string(run.out.join("waveform.json")).unwrap(),
            kept.to_json()
        );

        for (options, zoom, split) in [
            (&["--zoom", "512"][..], 512, false),
            (&["--pixels-per-second", "100"], 441, false),
            (&["--split-channels"], 256, true),
            (
                &[
                    "--split-channels",
                    "--pixels-per-second",
                    "30",
                    "--timeline",
                    "audiowaveform",
                ],
                1470,
                true,
            ),
            (&["--zoom", "auto", "--width", "700"], 189, false),
        ] {
            let made = made(&clip, options);
            assert_eq!(made.samples_per_pixel as usize, zoom, "{options:?}");
            assert_eq!(
                (made.sample_rate, made.channels),
                (RATE, if split { 2 } else { 1 })
            );
            assert_eq!(
                made.data,
                drawn(&samples, zoom, split),
                "{extension} {options:?}"
            );
        }
        let eight = made(&clip, &["--bits", "8"]);
        let expected: Vec<i16> = kept.data.iter().map(|value| value / 256).collect();
        assert_eq!((eight.bits, eight.data), (Bits::Eight, expected));
    }
}

#[test]
fn values_can_be_made_higher() {
    let clip = noise("wav");
    let plain = made(&clip, &[]);
    let times = |factor: f64| -> Vec<i16> {
        #[expect(clippy::cast_possible_truncation, reason = "saturates as it should")]
        let scaled = plain
            .data
            .iter()
            .map(|value| (f64::from(*value) * factor) as i16);
        scaled.collect()
    };
    let lowest = f64::from(*plain.data.iter().min().unwrap());
    assert_eq!(made(&clip, &["--amplitude-scale", "1.5"]).data, times(1.5));
    assert_eq!(
        made(&clip, &["--amplitude-scale", "auto"]).data,
        times(-32767.0 / lowest)
    );
    // There a number is for pictures.
    let there = ["--timeline", "audiowaveform", "--amplitude-scale", "1.5"];
    assert_eq!(made(&clip, &there), plain);
}

#[test]
fn a_stretch_can_be_cut_out() {
    let clip = noise("wav");
    let (all, cut) = (
        made(&clip, &[]),
        made(&clip, &["--start", "1", "--end", "2"]),
    );
    assert_eq!(cut.data, all.data[2 * 172..2 * 345]);
    let folder = tempfile::tempdir().unwrap();
    let output = command(
        &clip,
        &folder.path().join("a.dat"),
        &["--start", "2", "--end", "2"],
    );
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}

/// A coder puts silence before and behind the sound: the proxy has neither, audiowaveform keeps the latter, and the former too
/// where it does not know the coder.
#[test]
fn an_mp3_begins_and_ends_where_its_timeline_says() {
    let folder = tempfile::tempdir().unwrap();
    let (unknown, clip) = (noise("mp3"), folder.path().join("lame.mp3"));
    clip::by_lame(&unknown, &clip);
    let here = made(&clip, &["--zoom", "64"]);
    let there = made(&clip, &["--zoom", "64", "--timeline", "audiowaveform"]);
    assert_eq!(here.len(), (3 * RATE as usize).div_ceil(64));
    assert!(there.len() > here.len(), "{} points", there.len());
    let whole = 2 * (here.len() - 1);
    assert_eq!(here.data[..whole], there.data[..whole]);
    let all = made(&unknown, &["--zoom", "64", "--timeline", "audiowaveform"]);
    // The coder's delay, and the decoder's of 529 samples.
    let (delay, more) = (576 + 529_usize, all.len() - there.len());
    assert!((delay / 64..=delay.div_ceil(64)).contains(&more), "{more}");
    assert_eq!(made(&unknown, &["--zoom", "64"]), here);
}

#[test]
fn the_waveform_command_converts() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (dat, json) = (path("a.dat"), path("a.json"));
    let done = |from: &Path, to: &Path, options: &[&str]| {
        let output = command(from, to, options);
        assert!(output.status.success(), "{options:?}: {output:?}");
    };
    done(&clip::tone(2), &dat, &["--zoom", "512", "--bits", "8"]);
    let made = Waveform::from_dat(&std::fs::read(&dat).unwrap()).unwrap();
    assert_eq!(
        (made.samples_per_pixel, made.len(), made.bits),
        (512, 188, Bits::Eight)
    );
    done(&dat, &json, &[]);
    let read = Waveform::from_json(&std::fs::read_to_string(&json).unwrap()).unwrap();
    assert_eq!(read, made);
    done(&json, &path("b.dat"), &["--zoom", "1024", "--bits", "16"]);
    let coarse = Waveform::from_dat(&std::fs::read(path("b.dat")).unwrap()).unwrap();
    assert_eq!((coarse.len(), coarse.bits), (94, Bits::Sixteen));

    let finer = command(&dat, &path("c.dat"), &["--zoom", "256"]);
    assert_eq!(finer.status.code(), Some(2), "{finer:?}");
    assert!(!path("c.dat").exists());
}

#[test]
fn a_waveform_can_be_a_picture() {
    let folder = tempfile::tempdir().unwrap();
    let png = folder.path().join("a.png");
    let size = [
        "--width",
        "300",
        "--height",
        "80",
        "--colors",
        "ffffff,102030",
    ];
    for options in [
        &["--zoom", "auto"][..],
        &["--end", "1.5"],
        &["--start", "1", "--split-channels"],
    ] {
        let output = command(&noise("wav"), &png, &[&size, options].concat());
        assert!(output.status.success(), "{options:?}: {output:?}");
        let picture = &ffprobe(&png)["streams"][0];
        assert_eq!(
            (&picture["width"], &picture["height"]),
            (&300.into(), &80.into())
        );
        let pixels = decode(&png, &["-f", "rawvideo", "-pix_fmt", "rgb24"]);
        let waves = pixels
            .chunks(3)
            .filter(|pixel| *pixel == [0x10, 0x20, 0x30])
            .count();
        let behind = pixels.chunks(3).filter(|pixel| *pixel == [0xff; 3]).count();
        assert_eq!(waves + behind, 300 * 80);
        // Noise is somewhere in each column, and never all over it.
        assert!(
            (300..300 * 79).contains(&waves),
            "{options:?}: {waves} pixels"
        );
    }
    let output = command(&noise("wav"), &png, &["--colors", "pink"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}
