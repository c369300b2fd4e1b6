//! Small clips, generated once by the ffmpeg program and kept under `target/clips` by what they were made with.

use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest, Sha256};

use crate::environment;

/// The sample clip of the demo: 5 s of 720p H.264 with 5.1 AAC.
pub fn sample() -> PathBuf {
    environment::root().join("ops/demo/bigbuckbunny.mp4")
}

/// A 440 Hz tone as 16-bit PCM, mono, 48 kHz.
pub fn tone(seconds: u32) -> PathBuf {
    make(
        "wav",
        &[
            "-f",
            "lavfi",
            "-i",
            &format!("sine=frequency=440:sample_rate=48000:duration={seconds}"),
        ],
    )
}

/// A moving test picture as H.264, without sound.
pub fn silent_video(width: u32, height: u32, rate: &str, seconds: u32) -> PathBuf {
    let picture = format!("testsrc2=size={width}x{height}:rate={rate}:duration={seconds}");
    make(
        "mp4",
        &[
            "-f",
            "lavfi",
            "-i",
            &picture,
            "-c:v",
            "libx264",
            "-preset",
            "ultrafast",
            "-pix_fmt",
            "yuv420p",
        ],
    )
}

/// A moving test picture as H.264 with a tone as AAC.
pub fn video(width: u32, height: u32, rate: &str, seconds: u32) -> PathBuf {
    let picture = format!("testsrc2=size={width}x{height}:rate={rate}:duration={seconds}");
    let sound = format!("sine=frequency=440:sample_rate=48000:duration={seconds}");
    let inputs = ["-f", "lavfi", "-i", &picture, "-f", "lavfi", "-i", &sound];
    let codecs = [
        "-c:v",
        "libx264",
        "-preset",
        "ultrafast",
        "-pix_fmt",
        "yuv420p",
        "-c:a",
        "aac",
    ];
    make("mp4", &[&inputs[..], &codecs[..]].concat())
}

/// A file that says this, for ffmpeg to make something of.
///
/// # Panics
///
/// When it cannot be written.
pub fn text(extension: &str, text: &str) -> PathBuf {
    kept(extension, text, |aside| {
        std::fs::write(aside, text).expect("write a text");
    })
}

/// What `ffmpeg ARGS out.EXTENSION` makes.
///
/// # Panics
///
/// When ffmpeg is missing or fails.
pub fn make(extension: &str, args: &[&str]) -> PathBuf {
    kept(extension, &args.join("\0"), |aside| run_ffmpeg(args, aside))
}

/// The file that `make` makes of a recipe, unless it is there already.
fn kept(extension: &str, recipe: &str, make: impl FnOnce(&Path)) -> PathBuf {
    let folder = environment::root().join("target/clips");
    let name = hex::encode(&Sha256::digest(recipe)[..12]);
    let clip = folder.join(format!("{name}.{extension}"));
    if !clip.exists() {
        std::fs::create_dir_all(&folder).expect("the folder for clips");
        // Made aside and moved: another test process may want the same clip now.
        let aside = tempfile::Builder::new()
            .prefix(&name)
            .suffix(&format!(".{extension}"))
            .tempfile_in(&folder);
        let aside = aside.expect("a file aside").into_temp_path();
        make(&aside);
        aside.persist(&clip).expect("move the clip to its name");
    }
    clip
}

/// Copies an MP3 that was made here to `to`, as if LAME had coded it.
///
/// # Panics
/// If it is none, or cannot be copied.
pub fn by_lame(mp3: &Path, to: &Path) {
    let mut bytes = std::fs::read(mp3).expect("read the clip");
    let coder = bytes.windows(4).position(|four| four == b"Lavf");
    let coder = coder.expect("an MP3 that says who coded it");
    bytes[coder..coder + 4].copy_from_slice(b"LAME");
    std::fs::write(to, bytes).expect("write the copy");
}

fn run_ffmpeg(args: &[&str], to: &Path) {
    let mut command = Command::new("ffmpeg");
    command
        .args(["-nostdin", "-v", "error", "-y"])
        .args(args)
        .args(["-fflags", "+bitexact"])
        .arg(to);
    let output = command
        .output()
        .expect("ffmpeg is installed; ops/dev/setup does that");
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}
