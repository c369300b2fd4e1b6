//! Sound and picture keep their distance: a flash and a beep, found again in the proxy.

use std::path::{Path, PathBuf};

use testing::clip;
use transcoder::format::waveform::Waveform;

use crate::{Run, brightness, ffprobe, samples};

const FLASH: &str =
    "color=black:s=320x180:r=25:d=3,drawbox=c=white:t=fill:enable='between(t,1,1.19)'";
const BEEP: &str = "aevalsrc='if(between(t,1,1.2),0.9*sin(2*PI*1000*t),0)':s=48000:d=3";

/// A flash at 1 s and a beep at 1 s, each moved by an offset.
fn flash_and_beep(
    extension: &str,
    flash_offset: &str,
    beep_offset: &str,
    codecs: &[&str],
) -> PathBuf {
    let flash = ["-itsoffset", flash_offset, "-f", "lavfi", "-i", FLASH];
    let beep = ["-itsoffset", beep_offset, "-f", "lavfi", "-i", BEEP];
    clip::make(extension, &[&flash[..], &beep, codecs].concat())
}

/// Seconds by which the beep comes after the flash.
#[expect(clippy::cast_precision_loss, reason = "counts of a three-second clip")]
fn distance(file: &Path) -> f64 {
    let probe = ffprobe(file);
    let rate = probe["streams"][0]["r_frame_rate"].as_str().unwrap();
    let (num, den) = rate.split_once('/').unwrap();
    let frames = brightness(file);
    let flash = frames.iter().position(|value| *value > 128).unwrap() as f64
        * den.parse::<f64>().unwrap()
        / num.parse::<f64>().unwrap();
    let sound = samples(file, "48000");
    let beep = sound
        .iter()
        .position(|value| value.unsigned_abs() > 6000)
        .unwrap() as f64
        / 48_000.0;
    beep - flash
}

#[track_caller]
fn check(clip: &Path, expected: f64) -> Run {
    check_in(clip, expected, &["proxy.mp4", "edit.mov"])
}

#[track_caller]
fn check_in(clip: &Path, expected: f64, outputs: &[&str]) -> Run {
    let run = Run::with(clip, &["--profile", "fast@1,proxy720@1,edit@1"]).done();
    for output in outputs {
        let found = distance(&run.out.join(output));
        assert!(
            (found - expected).abs() <= 0.005,
            "{found} instead of {expected} in {output}"
        );
    }
    run
}

const EXACT: [&str; 6] = ["-c:v", "libx264", "-pix_fmt", "yuv420p", "-c:a", "flac"];
const USUAL: [&str; 6] = ["-c:v", "libx264", "-pix_fmt", "yuv420p", "-c:a", "aac"];

#[test]
fn together_they_stay_together() {
    check(&flash_and_beep("mkv", "0", "0", &EXACT), 0.0);
    check(&flash_and_beep("mp4", "0", "0", &USUAL), 0.0);
    let webm = ["-c:v", "libvpx", "-deadline", "realtime", "-c:a", "libopus"];
    // FFmpeg 5.1 writes the picture 7 ms late when it makes room for the priming of Opus.
    check(&flash_and_beep("webm", "0", "0", &webm), -0.007);
    check(&flash_and_beep("ts", "0", "0", &USUAL), 0.0);
}

#[test]
fn late_sound_is_led_in_by_silence() {
    let run = check(&flash_and_beep("mkv", "0", "0.5", &EXACT), 0.5);
    assert_eq!(run.stream("audio")["start_time"], "0.000000");
    let waveform =
        Waveform::from_dat(&std::fs::read(run.out.join("waveform.dat")).unwrap()).unwrap();
    let first = waveform
        .data
        .iter()
        .position(|value| value.unsigned_abs() > 6000)
        .unwrap()
        / 2;
    assert!(first.abs_diff(1500 * 48 / 256) <= 1, "{first}");
}

#[test]
fn before_a_late_picture_its_first_frame_is_held() {
    // 0.31 s is not a whole number of frames.
    let run = check(&flash_and_beep("mkv", "0.32", "0.01", &EXACT), -0.31);
    assert_eq!(run.stream("video")["start_time"], "0.000000");
    assert_eq!(run.stream("video")["nb_read_frames"], "83");
}

#[test]
fn an_edit_list_cuts_both_alike() {
    let long = ["-g", "250", "-bf", "2"];
    let whole = flash_and_beep("mp4", "0", "0", &[&USUAL[..], &long].concat());
    // The only keyframe is before the cut, so a list says from where on it is shown.
    let inputs = ["-ss", "0.52", "-i", whole.to_str().unwrap(), "-c", "copy"];
    check(&clip::make("mp4", &inputs), 0.0);
}

#[test]
fn sound_whose_clock_runs_apart_stays_together() {
    let flash = "color=black:s=320x180:r=25:d=23,drawbox=c=white:t=fill:enable='gte(t,21)'";
    // At 21 s by the packets' times, which pass 0.07 % slower than samples do: 14.7 ms by then.
    let beep = "aevalsrc='if(gte(t,20.98531),0.9*sin(2*PI*1000*t),0)':s=48000:d=23";
    let slower = ["-bsf:a", "setts=pts=PTS*1.0007:dts=DTS*1.0007"];
    let inputs = ["-f", "lavfi", "-i", flash, "-f", "lavfi", "-i", beep];
    check(
        &clip::make("mkv", &[&inputs[..], &EXACT, &slower].concat()),
        0.0,
    );
}

#[test]
fn a_rate_that_varies_becomes_constant() {
    // Every fifth picture is missing.
    let flash = format!("{FLASH},select='mod(n,5)'");
    let inputs = [
        "-f", "lavfi", "-i", &flash, "-f", "lavfi", "-i", BEEP, "-vsync", "vfr",
    ];
    let clip = clip::make("mkv", &[&inputs[..], &EXACT].concat());
    let run = check_in(&clip, 0.0, &["proxy.mp4"]);
    assert_eq!(run.stream("video")["avg_frame_rate"], "25/1");
}

/// When the flashes of a proxy begin, and its beeps, in seconds.
#[expect(clippy::cast_precision_loss, reason = "counts of a short clip")]
fn beginnings(file: &Path) -> (Vec<f64>, Vec<f64>) {
    let frames = brightness(file);
    let flashes = frames.windows(2).enumerate();
    let flashes = flashes.filter(|(_, pair)| pair[0] <= 128 && pair[1] > 128);
    let sound = samples(file, "48000");
    // Blocks of 5 ms, louder than what a coder leaves of silence.
    let loud: Vec<bool> = sound
        .chunks(240)
        .map(|block| block.iter().any(|value| value.unsigned_abs() > 6000))
        .collect();
    let beeps = loud.windows(2).enumerate();
    let beeps = beeps.filter(|(_, pair)| !pair[0] && pair[1]);
    (
        flashes.map(|(at, _)| (at + 1) as f64 / 25.0).collect(),
        beeps.map(|(at, _)| (at + 1) as f64 / 200.0).collect(),
    )
}

#[test]
fn parts_of_a_stream_follow_one_another_wherever_their_clocks_begin() {
    let folder = tempfile::tempdir().unwrap();
    let joined = folder.path().join("joined.ts");
    let parts = ["0", "0", "120"].map(|offset| {
        let part = flash_and_beep("ts", offset, offset, &USUAL);
        std::fs::read(part).unwrap()
    });
    std::fs::write(&joined, parts.concat()).unwrap();
    let run = Run::with(&joined, &["--profile", "fast@1,proxy720@1,edit@1"]).done();
    assert!(
        run.warnings().contains(&"clock_jumps".to_owned()),
        "{:?}",
        run.warnings()
    );
    for output in ["proxy.mp4", "edit.mov"] {
        let (flashes, beeps) = beginnings(&run.out.join(output));
        for (at, expected) in [1.0, 4.0, 7.0].into_iter().enumerate() {
            assert!(
                (flashes[at] - expected).abs() < 0.09,
                "{output}: {flashes:?}"
            );
            // A block of 5 ms, and 5 ms that may be between them.
            assert!(
                (beeps[at] - flashes[at]).abs() <= 0.01,
                "{output}: {flashes:?} {beeps:?}"
            );
        }
        assert_eq!((flashes.len(), beeps.len()), (3, 3));
    }
    let waveform = std::fs::read(run.out.join("waveform.dat")).unwrap();
    let seconds = Waveform::from_dat(&waveform).unwrap().len() * 256 / 48_000;
    assert_eq!(seconds, 9);
}

#[test]
fn in_joined_parts_sound_and_picture_stay_together_whichever_ends_first() {
    let folder = tempfile::tempdir().unwrap();
    for (name, flash, beep) in [("sound.ts", "3", "2.4"), ("picture.ts", "2.4", "3")] {
        let inputs = [
            "-f", "lavfi", "-t", flash, "-i", FLASH, "-f", "lavfi", "-t", beep, "-i", BEEP,
        ];
        let part = std::fs::read(clip::make("ts", &[&inputs[..], &USUAL].concat())).unwrap();
        let joined = folder.path().join(name);
        std::fs::write(&joined, part.repeat(3)).unwrap();
        let run = Run::with(&joined, &["--profile", "fast@1,proxy720@1"]).done();
        let (flashes, beeps) = beginnings(&run.out.join("proxy.mp4"));
        assert_eq!((flashes.len(), beeps.len()), (3, 3), "{name}");
        for (flash, beep) in flashes.iter().zip(&beeps) {
            assert!(
                (beep - flash).abs() <= 0.01,
                "{name}: {flashes:?} {beeps:?}"
            );
        }
        // The waveform has the same clock.
        let waveform = std::fs::read(run.out.join("waveform.dat")).unwrap();
        let peaks = Waveform::from_dat(&waveform).unwrap().data;
        let loud: Vec<_> = peaks.chunks(2).map(|pair| pair[1] > 6000).collect();
        let begins = loud
            .windows(2)
            .enumerate()
            .filter(|(_, pair)| !pair[0] && pair[1]);
        for ((at, _), beep) in begins.zip(&beeps) {
            let seconds = f64::from(u32::try_from(at + 1).unwrap()) * 256.0 / 48_000.0;
            assert!((seconds - beep).abs() <= 0.011, "{name}: {seconds} {beep}");
        }
    }
}
