//! One child from start to end: it is sent a request, heard out, and ended when its time, its patience or its caller's
//! interest is over. A child in a stranger's hands may say anything, say nothing, or never end.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ExitStatus};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel, sync_channel};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::error::{JobError, Kind};
use crate::run::{CpuTime, Progress};
use crate::sandbox::{Layer, Level, process};
use crate::wire::{Message, Request};

/// Longest line a child may say.
const MAX_LINE: u64 = 1 << 20;
/// How often cancellation, deadline and progress are looked at.
const LOOK: Duration = Duration::from_millis(50);
/// Most threads of a child: the coders take a few each.
const MAX_THREADS: u64 = 64;
/// How long a child may look at its input before it has a plan.
const UNPLANNED: Duration = Duration::from_mins(2);
/// Longest text in what a child says, in characters.
const MAX_TEXT: usize = 300;
/// How long a child may live on after its last word.
const LAST_BREATH: Duration = Duration::from_secs(10);

/// One task for one child.
pub(crate) struct Errand<'a> {
    pub(crate) exe: &'a Path,
    pub(crate) inputs: &'a [&'a File],
    pub(crate) folder: &'a Path,
    pub(crate) request: &'a Request,
    pub(crate) deadline: Duration,
    pub(crate) spent: &'a CpuTime,
    pub(crate) cancel: &'a CancellationToken,
}

struct Heard {
    answer: Option<Message>,
    layers: Option<Vec<Layer>>,
    complaint: String,
}

impl Errand<'_> {
    /// Starts the child, watches it, and returns its answer with the layers of the sandbox that held.
    pub(crate) fn run(
        &self,
        on_progress: &mut dyn FnMut(Progress),
    ) -> Result<(Message, Vec<Layer>), JobError> {
        let mut child = process::start(self.exe, self.inputs, self.folder)
            .map_err(|error| JobError::infra("start a child", error))?;
        let mut vitals = Vitals::new(child.id());
        let heard = send(&mut child, self.request).and_then(|control| {
            let heard = self.watch(&mut child, &mut vitals, on_progress);
            drop(control);
            heard
        });
        // Before it is waited for: then the kernel knows it no more.
        vitals.look();
        self.spent.add(vitals.cpu_time());
        let status = end(&mut child, heard.is_ok())?;
        let heard = heard?;
        match (heard.answer, status) {
            (Some(Message::Failed(error)), _) => Err(believable(error)),
            (_, None) => Err(JobError::limit("the child did not end")),
            (Some(answer), Some(status)) if status.success() => {
                Ok((answer, heard.layers.unwrap_or_default()))
            }
            (_, Some(status)) => Err(death(status, &heard.complaint)),
        }
    }

    /// Hears the child out, within its time.
    fn watch(
        &self,
        child: &mut Child,
        vitals: &mut Vitals,
        on_progress: &mut dyn FnMut(Progress),
    ) -> Result<Heard, JobError> {
        let lines = listen(child);
        let complaint = listen_to_complaints(child);
        let start = Instant::now();
        let plans = self.request.task.writes();
        let mut patience = if plans {
            self.deadline.min(UNPLANNED)
        } else {
            self.deadline
        };
        let mut heard = Heard {
            answer: None,
            layers: None,
            complaint: String::new(),
        };
        loop {
            self.still_wanted(start, patience, vitals)?;
            match lines.recv_timeout(LOOK) {
                Ok(Message::Ready { layers }) => self.confined(&mut heard, layers)?,
                // A plan may ask for less time than its profile allows, not for more.
                Ok(Message::Planned { patience_s }) => {
                    patience = self.deadline.min(Duration::from_secs(patience_s));
                }
                Ok(Message::Progress { stage, fraction }) => on_progress(Progress {
                    stage,
                    fraction: fraction.clamp(0.0, 1.0),
                }),
                Ok(answer) => heard.answer = Some(answer),
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => break,
            }
            vitals.touch();
        }
        heard.complaint = complaint.recv_timeout(LOOK * 20).unwrap_or_default();
        Ok(heard)
    }

    /// Keeps what the child says first, before it has read a stranger's byte.
    fn confined(&self, heard: &mut Heard, layers: Vec<Layer>) -> Result<(), JobError> {
        if heard.layers.is_some() || heard.answer.is_some() {
            return Err(JobError::new(
                Kind::Died,
                "the child says twice how it is confined",
            ));
        }
        if self.request.sandbox == Level::Require && layers != Layer::wanted() {
            return Err(JobError::infra(
                "confine the child",
                "not every layer holds",
            ));
        }
        heard.layers = Some(layers);
        Ok(())
    }

    fn still_wanted(
        &self,
        start: Instant,
        patience: Duration,
        vitals: &mut Vitals,
    ) -> Result<(), JobError> {
        if self.cancel.is_cancelled() {
            return Err(JobError::new(Kind::Cancelled, "cancelled"));
        }
        if start.elapsed() > patience {
            return Err(JobError::limit(format!(
                "not done after {} s",
                patience.as_secs()
            )));
        }
        vitals.look();
        if vitals.threads > MAX_THREADS {
            return Err(JobError::limit("it starts too many threads"));
        }
        if self.request.task.writes() && written(self.folder) > self.request.limits.max_output_bytes
        {
            return Err(JobError::limit("its outputs grow too large"));
        }
        let most = self.request.limits.max_resident_bytes;
        if vitals.resident_bytes().is_some_and(|bytes| bytes > most) {
            return Err(JobError::limit(format!(
                "it takes more than {} MiB of memory",
                most >> 20
            )));
        }
        let stall = self.request.limits.stall_seconds;
        if vitals.at.elapsed() > Duration::from_secs(stall) {
            return Err(JobError::limit(format!("no progress for {stall} s")));
        }
        Ok(())
    }
}

/// What the kernel says of the child: when it last said something or used CPU (long filters are silent, hangs are idle),
/// its threads and its memory.
struct Vitals {
    folder: PathBuf,
    used: u64,
    threads: u64,
    at: Instant,
}

impl Vitals {
    fn new(pid: u32) -> Self {
        Self {
            folder: PathBuf::from(format!("/proc/{pid}")),
            used: 0,
            threads: 0,
            at: Instant::now(),
        }
    }

    fn touch(&mut self) {
        self.at = Instant::now();
    }

    fn cpu_time(&self) -> Duration {
        Duration::from_millis(self.used * 1000 / rustix::param::clock_ticks_per_second())
    }

    /// Reads CPU time and threads; without an answer they stay as they were.
    fn look(&mut self) {
        let Some((used, threads)) = self.stat() else {
            return;
        };
        if used > self.used {
            self.used = used;
            self.touch();
        }
        self.threads = threads;
    }

    /// Resident pages, field 2.
    fn resident_bytes(&self) -> Option<u64> {
        let text = std::fs::read_to_string(self.folder.join("statm")).ok()?;
        let pages: u64 = text.split_whitespace().nth(1)?.parse().ok()?;
        Some(pages * rustix::param::page_size() as u64)
    }

    /// User and system time, fields 14 and 15, and threads, field 20; the name in field 2 may hold anything, so they are
    /// counted from its end.
    fn stat(&self) -> Option<(u64, u64)> {
        let text = std::fs::read_to_string(self.folder.join("stat")).ok()?;
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
        let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
        Some((number(11)? + number(12)?, number(17)?))
    }
}

/// What lies in a folder of plain files, in bytes.
fn written(folder: &Path) -> u64 {
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let sizes = files.filter_map(|file| Some(file.metadata().ok()?.blocks() * 512));
    sizes.sum()
}

/// What a child says of its end, which may be in a stranger's hands: nothing that only we can know.
fn believable(error: JobError) -> JobError {
    match error.kind {
        Kind::Cancelled => {
            JobError::new(Kind::Died, format!("the child gave up: {}", error.message))
        }
        _ => error,
    }
}

/// Waits for the end of a child that has said its last word, or kills it; none: we killed it.
fn end(child: &mut Child, heard_out: bool) -> Result<Option<ExitStatus>, JobError> {
    let waiting = |error| JobError::infra("wait for the child", error);
    let start = Instant::now();
    while heard_out && start.elapsed() < LAST_BREATH {
        if let Some(status) = child.try_wait().map_err(waiting)? {
            return Ok(Some(status));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    process::kill_group(child).map_err(|error| JobError::infra("kill the child", error))?;
    let status = child.wait().map_err(waiting)?;
    // It may have died of something else in the last moment.
    Ok(Some(status).filter(|status| status.signal() != Some(libc::SIGKILL)))
}

/// Sends the request and returns the control pipe, whose end the child waits for.
fn send(child: &mut Child, request: &Request) -> Result<ChildStdin, JobError> {
    let broken = |error: &dyn std::fmt::Display| JobError::infra("send the request", error);
    let mut control = child.stdin.take().ok_or_else(|| broken(&"no pipe"))?;
    let mut line = serde_json::to_vec(request).map_err(|error| broken(&error))?;
    line.push(b'\n');
    control.write_all(&line).map_err(|error| broken(&error))?;
    Ok(control)
}

/// Messages that may wait to be read; a child that says more waits.
const UNREAD: usize = 64;

/// Messages as they come; what is not one ends the conversation.
fn listen(child: &mut Child) -> Receiver<Message> {
    let (said, heard) = sync_channel(UNREAD);
    if let Some(out) = child.stdout.take() {
        std::thread::spawn(move || {
            let mut out = BufReader::new(out);
            let mut line = Vec::new();
            while matches!((&mut out).take(MAX_LINE).read_until(b'\n', &mut line), Ok(count) if count > 0)
            {
                let Some(message) = understood(&line) else {
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

/// A message, its texts shortened: names in a file may be of any length and hold anything.
fn understood(line: &[u8]) -> Option<Message> {
    let mut said = serde_json::from_slice(line).ok()?;
    shorten(&mut said);
    serde_json::from_value(said).ok()
}

fn shorten(said: &mut Value) {
    match said {
        Value::String(text) => {
            let shown = text.chars().filter(|c| !c.is_control());
            *text = shown.take(MAX_TEXT).collect();
        }
        Value::Array(parts) => parts.iter_mut().for_each(shorten),
        Value::Object(parts) => parts.values_mut().for_each(shorten),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
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
        Some(
            signal @ (libc::SIGSEGV
            | libc::SIGBUS
            | libc::SIGILL
            | libc::SIGFPE
            | libc::SIGABRT
            | libc::SIGSYS
            // It went on talking after it had said what is no message.
            | libc::SIGPIPE),
        ) => JobError::new(Kind::Died, format!("the child died of signal {signal}")),
        Some(signal) => JobError::infra("keep the child", format_args!("signal {signal}")),
        None => JobError::new(
            Kind::Died,
            format!("the child ended with {status} and no answer"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::{Facts, Probe};

    #[test]
    fn a_death_is_told_by_its_signal() {
        let kind = |signal: i32| death(ExitStatus::from_raw(signal), "").kind;
        for signal in [
            libc::SIGSEGV,
            libc::SIGBUS,
            libc::SIGILL,
            libc::SIGFPE,
            libc::SIGABRT,
            libc::SIGSYS,
        ] {
            assert_eq!(kind(signal), Kind::Died, "{signal}");
        }
        assert_eq!(kind(libc::SIGXCPU), Kind::Limit);
        assert_eq!(kind(libc::SIGXFSZ), Kind::Limit);
        assert_eq!(kind(libc::SIGKILL), Kind::Resource);
        assert_eq!(kind(libc::SIGTERM), Kind::Infra);
    }

    #[test]
    fn texts_of_a_child_are_short_and_plain() {
        let facts = Facts {
            container: format!("m\u{1b}[2Jkv{}", "x".repeat(1000)),
            ..Facts::default()
        };
        let probe = Probe {
            claimed: facts,
            ..Probe::default()
        };
        let line = serde_json::to_vec(&Message::Probed(Box::new(probe))).unwrap();
        let Some(Message::Probed(probe)) = understood(&line) else {
            panic!("not understood");
        };
        let facts = probe.claimed;
        assert!(facts.container.starts_with("m[2Jkvx"));
        assert_eq!(facts.container.chars().count(), MAX_TEXT);
        assert!(understood(b"{\"probed\": 1}").is_none());
    }

    #[test]
    fn an_allocation_that_failed_is_not_the_input_s_fault() {
        let aborted = ExitStatus::from_raw(libc::SIGABRT);
        let told = "memory allocation of 8 bytes failed";
        assert_eq!(death(aborted, told).kind, Kind::Resource);
    }
}
