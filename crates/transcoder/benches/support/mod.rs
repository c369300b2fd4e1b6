//! What the benches of media share: whole processes, with all that they start, in seconds of wall and of processor.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

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
