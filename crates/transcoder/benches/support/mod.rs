//! What the benches of media share: whole processes, with all that they start, in seconds of wall and of processor; and clips
//! long enough to measure.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use testing::bench::Row;
use testing::clip;

/// What a command took, with all that it started.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cost {
    pub(crate) wall: f64,
    pub(crate) cpu: f64,
}

impl std::ops::Add for Cost {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            wall: self.wall + other.wall,
            cpu: self.cpu + other.cpu,
        }
    }
}

/// Runs a command line in a folder, in a shell that counts its time.
pub(crate) fn cost(folder: &Path, command: &str) -> Cost {
    let timed = format!("TIMEFORMAT='%U %S'; time {{ {command}; }} >/dev/null 2>said");
    let begun = Instant::now();
    let output = Command::new("bash")
        .args(["-c", &timed])
        .current_dir(folder)
        .output()
        .unwrap();
    let wall = begun.elapsed().as_secs_f64();
    let said = std::fs::read_to_string(folder.join("said")).unwrap_or_default();
    assert!(output.status.success(), "{command}: {said}");
    let times = String::from_utf8(output.stderr).unwrap();
    let cpu = times
        .split_whitespace()
        .map(|seconds| seconds.parse::<f64>().unwrap())
        .sum();
    Cost { wall, cpu }
}

/// Ours.
pub(crate) fn transcoder() -> &'static str {
    env!("CARGO_BIN_EXE_cinelog-transcoder")
}

/// A row of seconds of wall and one of processor: ours and a peer's, round by round; none where it is not installed.
pub(crate) fn rows(what: &str, ours: &[Cost], peer: &'static str, theirs: Option<&[Cost]>) -> [Row; 2] {
    let row = |name: &str, of: fn(&Cost) -> f64| Row {
        case: format!("{name} {what}"),
        unit: "s",
        ours: ours.iter().map(of).collect(),
        peer: (peer, theirs.map(|theirs| theirs.iter().map(of).collect())),
        ceiling: ("none", None),
    };
    [row("wall", |cost| cost.wall), row("cpu", |cost| cost.cpu)]
}

/// A minute of the sample clip at 1080p, a keyframe each second, with its sound.
pub(crate) fn minute() -> PathBuf {
    let sample = clip::sample();
    clip::make(
        "mp4",
        &[
            "-stream_loop", "12", "-i", sample.to_str().unwrap(), "-t", "60", "-vf", "scale=1920:1080:flags=bicubic", "-c:v",
            "libx264", "-preset", "veryfast", "-crf", "20", "-g", "25", "-pix_fmt", "yuv420p", "-c:a", "aac", "-ac", "2", "-b:a",
            "160k",
        ],
    )
}
