//! Runs jobs: the parent's side. Never touches libav; trusts nothing that a child says beyond what it can check.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use serde::Serialize;
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

use crate::error::{JobError, Kind};
use crate::format::waveform::Waveform;
use crate::limits::Limits;
use crate::plan::Plan;
use crate::probe::{Facts, Measured};
use crate::profile::Profile;
use crate::sandbox::{Layer, Level, process};
use crate::sniff::{Container, HEAD_BYTES, sniff};
use crate::timeline::Rate;
use crate::wire::{Expectation, Made, MadeFile, Message, Request, Task, Warning};

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

/// Every name a child may give a file, with its MIME type.
const NAMES: [(&str, &str); 4] = [
    ("proxy.mp4", "video/mp4"),
    ("waveform.dat", "application/octet-stream"),
    ("waveform.json", "application/json"),
    ("poster.jpg", "image/jpeg"),
];

/// Longest line a child may say.
const MAX_LINE: u64 = 1 << 20;

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

    /// Makes a profile's outputs in an empty folder and checks each in a child of its own.
    ///
    /// Blocks until the job has ended; `cancel` kills it. On an error the folder may hold unfinished files.
    pub fn run_job(
        &self,
        input: &File,
        profile: Profile,
        scratch: &Path,
        on_progress: &mut dyn FnMut(Progress),
        cancel: &CancellationToken,
    ) -> Result<JobOutcome, JobError> {
        let container = recognise(input)?;
        let job = Job {
            runner: self,
            folder: scratch,
            deadline: profile.deadline(),
            cancel,
        };
        let (made, layers) = job.make(input, container, Task::Make(profile), on_progress)?;
        let outputs = made
            .files
            .iter()
            .map(|file| job.take(file))
            .collect::<Result<Vec<_>, _>>()?;
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

    /// Makes a waveform with so many samples per point.
    pub fn waveform(
        &self,
        input: &File,
        zoom: u32,
        scratch: &Path,
        cancel: &CancellationToken,
    ) -> Result<Waveform, JobError> {
        let container = recognise(input)?;
        let job = Job {
            runner: self,
            folder: scratch,
            deadline: Profile::Fast1.deadline(),
            cancel,
        };
        let (made, _) = job.make(input, container, Task::Waveform(zoom), &mut |_| ())?;
        let dat = made
            .files
            .iter()
            .find(|file| file.name == "waveform.dat")
            .ok_or_else(|| job.lied("no waveform"))?;
        job.take(dat)?;
        job.read_waveform(dat)
    }

    /// Says what the container claims.
    pub fn probe(&self, input: &File, cancel: &CancellationToken) -> Result<Facts, JobError> {
        let container = recognise(input)?;
        let folder = std::env::temp_dir();
        let job = Job {
            runner: self,
            folder: &folder,
            deadline: Duration::from_mins(2),
            cancel,
        };
        match job
            .ask(
                input,
                container.demuxer,
                container.still,
                Task::Probe,
                &mut |_| (),
            )?
            .0
        {
            Message::Facts(facts) => Ok(facts),
            _ => Err(job.lied("no facts")),
        }
    }

    /// Names the decoders this build has.
    pub fn formats(&self, cancel: &CancellationToken) -> Result<Vec<String>, JobError> {
        let folder = std::env::temp_dir();
        let job = Job {
            runner: self,
            folder: &folder,
            deadline: Duration::from_mins(1),
            cancel,
        };
        let nothing =
            File::open("/dev/null").map_err(|error| JobError::infra("open /dev/null", error))?;
        match job
            .ask(&nothing, "none", false, Task::Formats, &mut |_| ())?
            .0
        {
            Message::Formats(names) => Ok(names),
            _ => Err(job.lied("no formats")),
        }
    }
}

/// The container by its first bytes, or a refusal.
fn recognise(input: &File) -> Result<&'static Container, JobError> {
    let metadata = input
        .metadata()
        .map_err(|error| JobError::infra("look at the input", error))?;
    if !metadata.is_file() {
        return Err(JobError::input("not a regular file"));
    }
    if metadata.len() == 0 {
        return Err(JobError::input("the file is empty"));
    }
    let mut head = vec![0; HEAD_BYTES];
    let count = input
        .read_at(&mut head, 0)
        .map_err(|error| JobError::infra("read the input", error))?;
    sniff(&head[..count]).ok_or_else(|| {
        JobError::input("not media: its first bytes belong to no container that we read")
    })
}

/// One job's surroundings.
struct Job<'a> {
    runner: &'a Runner,
    folder: &'a Path,
    deadline: Duration,
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
        match self.ask(input, container.demuxer, container.still, task, on_progress)? {
            (Message::Made(made), layers) => Ok((*made, layers)),
            _ => Err(self.lied("no result")),
        }
    }

    /// Starts a child, watches it, and returns its answer.
    fn ask(
        &self,
        input: &File,
        demuxer: &str,
        still: bool,
        task: Task,
        on_progress: &mut dyn FnMut(Progress),
    ) -> Result<(Message, Vec<Layer>), JobError> {
        let limits = self.runner.limits;
        let request = Request {
            task,
            demuxer: demuxer.to_owned(),
            still,
            limits,
            sandbox: self.runner.sandbox,
        };
        let mut child = process::start(&self.runner.exe, input, self.folder)
            .map_err(|error| JobError::infra("start a child", error))?;
        let sent = send(&mut child, &request);
        let watched = sent.and_then(|control| {
            let result = self.watch(&mut child, on_progress);
            drop(control);
            result
        });
        if watched.is_err() {
            process::kill_group(&child);
        }
        let status = child
            .wait()
            .map_err(|error| JobError::infra("wait for the child", error))?;
        let heard = watched?;
        match heard.answer {
            Some(Message::Failed(error)) => Err(error),
            Some(answer) if status.success() => Ok((answer, heard.layers)),
            _ => Err(death(status, &heard.complaint)),
        }
    }

    /// Hears the child out, within its time.
    fn watch(
        &self,
        child: &mut Child,
        on_progress: &mut dyn FnMut(Progress),
    ) -> Result<Heard, JobError> {
        const LOOK: Duration = Duration::from_millis(50);
        let lines = listen(child);
        let complaint = listen_to_complaints(child);
        let start = Instant::now();
        let stall = Duration::from_secs(self.runner.limits.stall_seconds);
        let mut moved = CpuClock::new(child.id());
        let mut heard = Heard {
            answer: None,
            layers: Vec::new(),
            complaint: String::new(),
        };
        loop {
            if self.cancel.is_cancelled() {
                return Err(JobError::new(Kind::Cancelled, "cancelled"));
            }
            if start.elapsed() > self.deadline {
                return Err(JobError::limit(format!(
                    "not done after {} s",
                    self.deadline.as_secs()
                )));
            }
            if moved.still_for() > stall {
                return Err(JobError::limit(format!(
                    "no progress for {} s",
                    stall.as_secs()
                )));
            }
            match lines.recv_timeout(LOOK) {
                Ok(Message::Ready { layers }) => heard.layers = layers,
                Ok(Message::Progress { stage, fraction }) => on_progress(Progress {
                    stage,
                    fraction: fraction.clamp(0.0, 1.0),
                }),
                Ok(answer) => heard.answer = Some(answer),
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => break,
            }
            moved.touch();
        }
        heard.complaint = complaint
            .recv_timeout(Duration::from_secs(1))
            .unwrap_or_default();
        Ok(heard)
    }

    /// Takes a made file: a regular file under a known name, read back and found whole.
    fn take(&self, made: &MadeFile) -> Result<Output, JobError> {
        let (name, media_type) = NAMES
            .into_iter()
            .find(|(name, _)| *name == made.name)
            .ok_or_else(|| self.lied("an unknown file name"))?;
        let file = self.open(name)?;
        let bytes = file
            .metadata()
            .map_err(|error| JobError::infra("look at an output", error))?
            .len();
        let sha256 = hash(&file)?;
        self.validate(name, made, &file)?;
        Ok(Output {
            name: name.to_owned(),
            path: self.folder.join(name),
            media_type,
            bytes,
            sha256,
            width: made.width,
            height: made.height,
            rate: made.rate,
            duration_ms: made.duration_ms,
        })
    }

    fn validate(&self, name: &str, made: &MadeFile, file: &File) -> Result<(), JobError> {
        let demuxer = match name {
            "waveform.dat" => return self.read_waveform(made).map(|_| ()),
            "waveform.json" => return Ok(()),
            "poster.jpg" => "jpeg_pipe",
            _ => "mov",
        };
        let picture = made.width.zip(made.height);
        let expected = Expectation {
            picture,
            sound: made.sound,
            duration_ms: made.duration_ms.unwrap_or(0),
        };
        match self
            .ask(file, demuxer, false, Task::Check(expected), &mut |_| ())?
            .0
        {
            Message::Sound => Ok(()),
            _ => Err(self.lied("no verdict")),
        }
    }

    fn read_waveform(&self, made: &MadeFile) -> Result<Waveform, JobError> {
        let mut bytes = Vec::new();
        self.open(&made.name)?
            .read_to_end(&mut bytes)
            .map_err(|error| JobError::infra("read an output", error))?;
        let waveform = Waveform::from_dat(&bytes)
            .map_err(|error| JobError::infra("keep the waveform", error))?;
        if waveform.is_empty() {
            Err(self.lied("an empty waveform"))
        } else {
            Ok(waveform)
        }
    }

    fn open(&self, name: &str) -> Result<File, JobError> {
        let doing = |error| JobError::infra(&format!("open {name}"), error);
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NOFOLLOW)
            .open(self.folder.join(name))
            .map_err(doing)?;
        let metadata = file.metadata().map_err(doing)?;
        let plain = metadata.is_file() && metadata.nlink() == 1 && metadata.len() > 0;
        if plain {
            Ok(file)
        } else {
            Err(self.lied("a file that is empty or not plain"))
        }
    }

    #[expect(
        clippy::unused_self,
        reason = "reads as what it is: this job's child lied"
    )]
    fn lied(&self, what: &str) -> JobError {
        JobError::new(Kind::Died, format!("the child answered with {what}"))
    }
}

struct Heard {
    answer: Option<Message>,
    layers: Vec<Layer>,
    complaint: String,
}

/// When the child last said something or used CPU: long filters are silent, hangs are idle.
struct CpuClock {
    stat: PathBuf,
    used: u64,
    at: Instant,
}

impl CpuClock {
    fn new(pid: u32) -> Self {
        Self {
            stat: PathBuf::from(format!("/proc/{pid}/stat")),
            used: 0,
            at: Instant::now(),
        }
    }

    fn touch(&mut self) {
        self.at = Instant::now();
    }

    fn still_for(&mut self) -> Duration {
        let used = self.cpu_ticks().unwrap_or(self.used);
        if used > self.used {
            self.used = used;
            self.touch();
        }
        self.at.elapsed()
    }

    /// User and system time, fields 14 and 15; the name in field 2 may hold anything, so count from its end.
    fn cpu_ticks(&self) -> Option<u64> {
        let text = std::fs::read_to_string(&self.stat).ok()?;
        let mut fields = text.rsplit_once(')')?.1.split_whitespace().skip(11);
        Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
    }
}

/// Sends the request and returns the control pipe, whose end the child waits for.
fn send(child: &mut Child, request: &Request) -> Result<std::process::ChildStdin, JobError> {
    let broken = |error: &dyn std::fmt::Display| JobError::infra("send the request", error);
    let mut control = child.stdin.take().ok_or_else(|| broken(&"no pipe"))?;
    let mut line = serde_json::to_vec(request).map_err(|error| broken(&error))?;
    line.push(b'\n');
    control.write_all(&line).map_err(|error| broken(&error))?;
    Ok(control)
}

/// Messages as they come; what is not one ends the conversation.
fn listen(child: &mut Child) -> Receiver<Message> {
    let (said, heard) = channel();
    if let Some(out) = child.stdout.take() {
        std::thread::spawn(move || {
            let mut out = BufReader::new(out);
            let mut line = Vec::new();
            while matches!((&mut out).take(MAX_LINE).read_until(b'\n', &mut line), Ok(count) if count > 0)
            {
                let Ok(message) = serde_json::from_slice(&line) else {
                    return;
                };
                if said.send(message).is_err() {
                    return;
                }
                line.clear();
            }
        });
    }
    heard
}

/// The first kilobytes of stderr: libav is silent, so this is a panic or the allocator.
fn listen_to_complaints(child: &mut Child) -> Receiver<String> {
    let (said, heard) = channel();
    if let Some(mut err) = child.stderr.take() {
        std::thread::spawn(move || {
            let mut text = Vec::new();
            drop((&mut err).take(4096).read_to_end(&mut text));
            drop(std::io::copy(&mut err, &mut std::io::sink()));
            drop(said.send(String::from_utf8_lossy(&text).into_owned()));
        });
    }
    heard
}

/// What a death means. A SIGKILL that is not ours is the kernel's, for memory.
fn death(status: ExitStatus, complaint: &str) -> JobError {
    let out_of_memory = complaint.contains("memory allocation of");
    match status.signal() {
        Some(libc::SIGKILL) => JobError::new(
            Kind::Resource,
            "the child was killed from outside, for want of memory",
        ),
        Some(libc::SIGXCPU) => JobError::limit("the child used all its CPU time"),
        Some(libc::SIGXFSZ) => JobError::limit("an output grew too large"),
        Some(_) if out_of_memory => JobError::new(Kind::Resource, "the child ran out of memory"),
        Some(signal) => JobError::new(Kind::Died, format!("the child died of signal {signal}")),
        None => JobError::new(
            Kind::Died,
            format!("the child ended with {status} and no answer"),
        ),
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
