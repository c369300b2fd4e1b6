//! Runs jobs: the parent's side. Never touches libav; trusts nothing that a child says beyond what it can check.

mod outputs;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::Serialize;
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

use crate::error::{JobError, Kind};
use crate::format::waveform::Waveform;
use crate::limits::Limits;
use crate::plan::Plan;
use crate::probe::{Facts, Measured, Probe};
use crate::profile::Profile;
use crate::sandbox::{Layer, Level, process};
use crate::size;
use crate::sniff::{Container, behind_tags, sniff, tagged};
use crate::supervise::Errand;
use crate::timeline::Rate;
use crate::wire::{Drawing, Made, Message, Request, Task, Warning};
pub(crate) use outputs::is_output;

/// How jobs are run.
#[derive(Debug, Clone)]
pub struct Runner {
    /// The executable whose `stage-child` is the child.
    pub exe: PathBuf,
    /// How much of the sandbox must hold.
    pub sandbox: Level,
    /// The budget of each child.
    pub limits: Limits,
}

/// How far a job is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Progress {
    /// Name of the stage: `waveform`, `poster`, `proxy`.
    pub stage: String,
    /// Of the stage, 0 to 1, never falling.
    pub fraction: f64,
}

/// CPU time that children have taken.
#[derive(Debug, Clone, Default)]
pub struct CpuTime(Arc<AtomicU64>);

impl CpuTime {
    pub(crate) fn add(&self, more: Duration) {
        let more = u64::try_from(more.as_millis()).unwrap_or(u64::MAX);
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// In milliseconds, as exact as the kernel's clock ticks.
    pub fn ms(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// One output, whole and validated.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Output {
    /// File name, fixed by the profile.
    pub name: String,
    /// Where it lies now.
    #[serde(skip)]
    pub path: PathBuf,
    /// Its MIME type.
    pub media_type: &'static str,
    /// Size.
    pub bytes: u64,
    /// SHA-256 in hex.
    pub sha256: String,
    /// Of a picture.
    pub width: Option<u32>,
    /// Of a picture.
    pub height: Option<u32>,
    /// Of a moving picture.
    pub rate: Option<Rate>,
    /// Of what has a duration.
    pub duration_ms: Option<u64>,
}

/// A job that ended well.
#[derive(Debug, Clone, Serialize)]
pub struct JobOutcome {
    /// What was asked for.
    pub profile: Profile,
    /// What the container claims.
    pub claimed: Facts,
    /// What decoding measured.
    pub measured: Measured,
    /// What was done.
    pub plan: Plan,
    /// The files; empty if the profile has nothing for such an input (a proxy of a still).
    pub outputs: Vec<Output>,
    /// What is missing or odd.
    pub warnings: Vec<Warning>,
    /// Layers of the sandbox that held.
    pub sandbox: Vec<Layer>,
}

/// The demuxers of what may follow a tag.
const TAGGED: [&str; 3] = ["mp3", "aac", "flac"];

/// Where children work that make no files.
const NOWHERE: &str = "/";

impl Runner {
    /// A runner whose children are this very executable.
    pub fn this_executable(sandbox: Level) -> Result<Self, JobError> {
        let exe = std::env::current_exe()
            .map_err(|error| JobError::infra("find the executable", error))?;
        Ok(Self {
            exe,
            sandbox,
            limits: Limits::default(),
        })
    }

    /// Makes a profile's outputs in an empty folder and checks them in a child of its own.
    ///
    /// Blocks until the job has ended; `cancel` kills it. On an error the folder may hold unfinished files. What its children
    /// take is added to `spent`, however they end.
    pub fn run_job(
        &self,
        input: &File,
        profile: Profile,
        scratch: &Path,
        on_progress: &mut dyn FnMut(Progress),
        spent: &CpuTime,
        cancel: &CancellationToken,
    ) -> Result<JobOutcome, JobError> {
        let container = recognise(input, &self.limits)?;
        let job = Job {
            runner: self,
            folder: scratch,
            deadline: Instant::now() + profile.deadline(),
            spent,
            cancel,
        };
        let (made, layers) = job.make(input, container, Task::Make(profile), on_progress)?;
        let outputs = job.take(&made, profile)?;
        let Made {
            facts,
            measured,
            plan,
            warnings,
            ..
        } = made;
        Ok(JobOutcome {
            profile,
            claimed: facts,
            measured,
            plan,
            outputs,
            warnings,
            sandbox: layers,
        })
    }

    /// Makes a waveform.
    pub fn waveform(
        &self,
        input: &File,
        drawing: Drawing,
        scratch: &Path,
        cancel: &CancellationToken,
    ) -> Result<Waveform, JobError> {
        let container = recognise(input, &self.limits)?;
        let job = Job {
            runner: self,
            folder: scratch,
            deadline: Instant::now() + Profile::Fast1.deadline(),
            spent: &CpuTime::default(),
            cancel,
        };
        let (made, _) = job.make(input, container, Task::Waveform(drawing), &mut |_| ())?;
        if made.files.iter().all(|file| file.name != "waveform.dat") {
            return Err(job.lied("no waveform"));
        }
        job.read_waveform()
    }

    /// Says what the input claims to be, and what its first seconds are.
    pub fn probe(&self, input: &File, cancel: &CancellationToken) -> Result<Probe, JobError> {
        let container = recognise(input, &self.limits)?;
        let job = Job {
            runner: self,
            folder: NOWHERE.as_ref(),
            deadline: Instant::now() + Duration::from_mins(2),
            spent: &CpuTime::default(),
            cancel,
        };
        match job
            .ask(
                &[input],
                container.demuxer,
                container.still,
                Task::Probe,
                &mut |_| (),
            )?
            .0
        {
            Message::Probed(probe) => Ok(*probe),
            _ => Err(job.lied("no facts")),
        }
    }

    /// Names the decoders this build has.
    pub fn formats(&self, cancel: &CancellationToken) -> Result<Vec<String>, JobError> {
        let job = Job {
            runner: self,
            folder: NOWHERE.as_ref(),
            deadline: Instant::now() + Duration::from_mins(1),
            spent: &CpuTime::default(),
            cancel,
        };
        let nothing =
            File::open("/dev/null").map_err(|error| JobError::infra("open /dev/null", error))?;
        match job
            .ask(&[&nothing], "none", false, Task::Formats, &mut |_| ())?
            .0
        {
            Message::Formats(names) => Ok(names),
            _ => Err(job.lied("no formats")),
        }
    }
}

/// The container by its first bytes, or a refusal.
fn recognise(input: &File, limits: &Limits) -> Result<&'static Container, JobError> {
    let metadata = input
        .metadata()
        .map_err(|error| JobError::infra("look at the input", error))?;
    if !metadata.is_file() {
        return Err(JobError::input("not a regular file"));
    }
    if metadata.len() == 0 {
        return Err(JobError::input("the file is empty"));
    }
    if metadata.len() > limits.max_input_bytes {
        return Err(JobError::limit(format!(
            "{} bytes, {} are allowed",
            metadata.len(),
            limits.max_input_bytes
        )));
    }
    let (head, tags) = behind_tags(&mut |buffer, at| input.read_at(buffer, at))
        .map_err(|error| JobError::infra("read the input", error))?;
    let found = sniff(&head).or_else(|| tagged().filter(|_| tags > 0));
    let found = found.filter(|container| tags == 0 || TAGGED.contains(&container.demuxer));
    let found = found.ok_or_else(|| {
        JobError::input("not media: its first bytes belong to no container that we read")
    })?;
    let claimed = size::claimed(&mut |buffer, at| input.read_at(buffer, at))
        .map_err(|error| JobError::infra("read the input", error))?;
    let pixels = claimed.map_or(0, |(width, height)| u64::from(width) * u64::from(height));
    if pixels > limits.max_pixels {
        return Err(JobError::limit(format!(
            "pictures of {pixels} pixels, {} are allowed",
            limits.max_pixels
        )));
    }
    Ok(found)
}

/// One job's surroundings.
struct Job<'a> {
    runner: &'a Runner,
    folder: &'a Path,
    /// Of all its children together.
    deadline: Instant,
    spent: &'a CpuTime,
    cancel: &'a CancellationToken,
}

impl Job<'_> {
    fn make(
        &self,
        input: &File,
        container: &Container,
        task: Task,
        on_progress: &mut dyn FnMut(Progress),
    ) -> Result<(Made, Vec<Layer>), JobError> {
        match self.ask(
            &[input],
            container.demuxer,
            container.still,
            task,
            on_progress,
        )? {
            (Message::Made(made), layers) => Ok((*made, layers)),
            _ => Err(self.lied("no result")),
        }
    }

    /// Has a child do one task.
    fn ask(
        &self,
        inputs: &[&File],
        demuxer: &str,
        still: bool,
        task: Task,
        on_progress: &mut dyn FnMut(Progress),
    ) -> Result<(Message, Vec<Layer>), JobError> {
        let Runner {
            exe,
            sandbox,
            limits,
        } = self.runner;
        let sizes = inputs.iter().map(|input| Ok(input.metadata()?.len()));
        let bytes = sizes
            .sum::<std::io::Result<u64>>()
            .map_err(|error| JobError::infra("look at the input", error))?;
        let request = Request {
            task,
            demuxer: demuxer.to_owned(),
            still,
            limits: limits.for_input(bytes),
            sandbox: *sandbox,
        };
        let folder = if request.task.writes() {
            match (process::give(self.folder), sandbox) {
                (Err(error), Level::Require) => {
                    return Err(JobError::infra("give the scratch folder to nobody", error));
                }
                _ => self.folder,
            }
        } else {
            NOWHERE.as_ref()
        };
        let errand = Errand {
            exe,
            inputs,
            folder,
            request: &request,
            deadline: self.deadline.saturating_duration_since(Instant::now()),
            spent: self.spent,
            cancel: self.cancel,
        };
        errand.run(on_progress)
    }

    #[expect(
        clippy::unused_self,
        reason = "reads as what it is: this job's child lied"
    )]
    fn lied(&self, what: &str) -> JobError {
        JobError::new(Kind::Died, format!("the child answered with {what}"))
    }
}

/// SHA-256 of a file in hex.
pub fn hash(file: &File) -> Result<String, JobError> {
    let (mut digest, mut at, mut block) = (Sha256::new(), 0, vec![0; 1 << 20]);
    loop {
        let count = file
            .read_at(&mut block, at)
            .map_err(|error| JobError::infra("read a file", error))?;
        if count == 0 {
            return Ok(hex::encode(digest.finalize()));
        }
        digest.update(&block[..count]);
        at += count as u64;
    }
}
