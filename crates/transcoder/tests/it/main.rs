//! The binary on small clips, judged by the ffmpeg and ffprobe programs.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod captions;
mod edit;
mod failures;
mod hostile;
mod limits;
mod loudness;
mod outputs;
#[cfg(target_os = "linux")]
mod sandbox;
mod sprites;
mod stills;
mod timeline;
mod waveform;
mod worker;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

/// What one `run` left behind.
struct Run {
    output: Output,
    /// Holds `out`.
    _folder: TempDir,
    out: PathBuf,
}

impl Run {
    fn of(file: &Path) -> Self {
        Self::with(file, &[])
    }

    fn with(file: &Path, options: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out");
        let output = transcoder()
            .arg("run")
            .arg(file)
            .arg("--out")
            .arg(&out)
            .args(options)
            .output()
            .unwrap();
        Self {
            output,
            _folder: folder,
            out,
        }
    }

    /// Asserts that it went well.
    #[track_caller]
    fn done(self) -> Self {
        assert!(self.output.status.success(), "{:?}", self.output);
        self
    }

    fn manifest(&self) -> Value {
        serde_json::from_slice(&std::fs::read(self.out.join("manifest.json")).unwrap()).unwrap()
    }

    fn files(&self) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(&self.out) else {
            return Vec::new();
        };
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn warnings(&self) -> Vec<String> {
        let manifest = self.manifest();
        let warnings = manifest["warnings"].as_array().unwrap().clone();
        warnings
            .iter()
            .map(|warning| warning["code"].as_str().unwrap().to_owned())
            .collect()
    }

    fn proxy(&self) -> PathBuf {
        self.out.join("proxy.mp4")
    }

    /// ffprobe's view of the proxy's first stream of a kind.
    fn stream(&self, kind: &str) -> Value {
        let probe = ffprobe(&self.proxy());
        let streams = probe["streams"].as_array().unwrap();
        streams
            .iter()
            .find(|stream| stream["codec_type"] == kind)
            .cloned()
            .unwrap_or(Value::Null)
    }
}

fn transcoder() -> Command {
    Command::new(env!("CARGO_BIN_EXE_cinelog-transcoder"))
}

fn ffprobe(file: &Path) -> Value {
    let arguments = [
        "-v",
        "error",
        "-show_streams",
        "-show_format",
        "-count_frames",
        "-of",
        "json",
    ];
    let output = Command::new("ffprobe")
        .args(arguments)
        .arg(file)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Raw bytes that ffmpeg decodes a file to.
fn decode(file: &Path, options: &[&str]) -> Vec<u8> {
    let output = Command::new("ffmpeg")
        .args(["-nostdin", "-v", "error", "-i"])
        .arg(file)
        .args(options)
        .arg("-")
        .output();
    let output = output.unwrap();
    assert!(output.status.success(), "{output:?}");
    output.stdout
}

/// Mono samples at a rate.
fn samples(file: &Path, rate: &str) -> Vec<i16> {
    let bytes = decode(file, &["-vn", "-ac", "1", "-ar", rate, "-f", "s16le"]);
    bytes
        .chunks_exact(2)
        .map(|pair| i16::from_le_bytes([pair[0], pair[1]]))
        .collect()
}

/// Every frame as one mean brightness.
fn brightness(file: &Path) -> Vec<u8> {
    let frames = decode(
        file,
        &[
            "-an",
            "-vf",
            "scale=8:8:flags=area,format=gray",
            "-f",
            "rawvideo",
        ],
    );
    frames
        .chunks_exact(64)
        .map(|frame| frame.iter().map(|value| u32::from(*value)).sum::<u32>() / 64)
        .map(|mean| u8::try_from(mean).unwrap_or(u8::MAX))
        .collect()
}
