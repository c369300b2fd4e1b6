//! What parent and child say to each other: one request on the child's stdin, then messages on its stdout, a line of
//! JSON each. The child may be in a stranger's hands by the time it answers: the parent believes nothing it can check.

use serde::{Deserialize, Serialize};

use crate::error::JobError;
use crate::format::scale::Scale;
use crate::limits::Limits;
use crate::plan::Plan;
use crate::probe::{Facts, Measured, Probe};
use crate::profile::Profile;
use crate::sandbox::{Layer, Level};
use crate::timeline::Rate;

/// What a child is started for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Request {
    /// The work.
    pub task: Task,
    /// The one demuxer that may read it; made files have their own.
    pub demuxer: String,
    /// Whether it is a picture that does not move.
    pub still: bool,
    /// The budget.
    pub limits: Limits,
    /// How much of the sandbox must hold.
    pub sandbox: Level,
}

/// The work of one child.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Task {
    /// Say what the input claims to be, and what its first seconds are.
    Probe,
    /// Make a profile's outputs in the working directory.
    Make(Profile),
    /// Make only a waveform.
    Waveform(Drawing),
    /// Check that made files, an input each, are what they should be.
    Check(Vec<Expectation>),
    /// Say which decoders there are.
    Formats,
}

impl Task {
    /// Whether it makes files.
    pub fn writes(&self) -> bool {
        matches!(self, Self::Make(_) | Self::Waveform(_))
    }
}

/// How a waveform is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Drawing {
    /// Samples per point.
    pub scale: Scale,
    /// Whether channels stay apart, or are mixed to one.
    pub split_channels: bool,
    /// Where it begins and ends.
    pub timeline: Timeline,
}

/// Where a waveform begins and ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
pub enum Timeline {
    /// Where the proxy does: edit lists, priming and padding are applied, late sound comes late.
    Proxy,
    /// Where audiowaveform has it: sample after sample, and an MP3 keeps what its coder put behind the sound.
    Audiowaveform,
}

/// What a made file must be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Expectation {
    /// Its name, for people.
    pub name: String,
    /// The one demuxer that may read it.
    pub demuxer: String,
    /// Size of its picture, if it has one.
    pub picture: Option<(u32, u32)>,
    /// Whether it has sound.
    pub sound: bool,
    /// How long it lasts; zero for a still.
    pub duration_ms: u64,
}

/// A line from the child.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Message {
    /// The child has given up its rights.
    Ready {
        /// Layers that hold.
        layers: Vec<Layer>,
    },
    /// What the job may take by its plan.
    Planned {
        /// Seconds until it is ended.
        patience_s: u64,
    },
    /// How far a stage is, 0 to 1.
    Progress {
        /// Name of the stage.
        stage: String,
        /// Never falls within a stage.
        fraction: f64,
    },
    /// What the input claims to be, and is.
    Probed(Box<Probe>),
    /// Decoders of this build.
    Formats(Vec<String>),
    /// The files are as expected.
    Sound,
    /// All is made.
    Made(Box<Made>),
    /// It did not work.
    Failed(JobError),
}

/// What a child made.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Made {
    /// What the container claims.
    pub facts: Facts,
    /// What decoding measured.
    pub measured: Measured,
    /// What was done.
    pub plan: Plan,
    /// The files.
    pub files: Vec<MadeFile>,
    /// What is missing or odd.
    pub warnings: Vec<Warning>,
}

/// One file in the child's working directory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MadeFile {
    /// One of the profile's names.
    pub name: String,
    /// Of a picture.
    pub width: Option<u32>,
    /// Of a picture.
    pub height: Option<u32>,
    /// Of a moving picture.
    pub rate: Option<Rate>,
    /// Of what has a duration.
    pub duration_ms: Option<u64>,
    /// Whether it has sound.
    pub sound: bool,
}

/// Something a person should know about an output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Warning {
    /// For programs.
    pub code: String,
    /// For people.
    pub message: String,
}

impl Warning {
    /// Builds a warning.
    pub fn new(code: &str, message: impl Into<String>) -> Self {
        Self {
            code: code.to_owned(),
            message: message.into(),
        }
    }
}
