//! The command line: what people type, and what they see while it works.

mod waveform;

use std::fs::{File, Permissions};
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::error::JobError;
use crate::profile::Profile;
use crate::publish::{Manifest, publish};
use crate::reprocess::ReprocessArgs;
use crate::run::{Progress, Runner};
use crate::sandbox::Level;
use crate::sniff::CONTAINERS;
use crate::worker::command::WorkerArgs;
pub use waveform::WaveformArgs;

const EXAMPLES: &str = "Examples:
  cinelog-transcoder run holiday.mov --out holiday/
  cinelog-transcoder run scene.mxf --out editing/ --profile edit@1
  cinelog-transcoder run talk.mp3 --out talk/ --profile fast@1 --json
  cinelog-transcoder waveform song.flac -o song.json --zoom 512 --bits 8
  cinelog-transcoder waveform song.dat -o song.json
  cinelog-transcoder waveform talk.m4a -o talk.png --zoom auto --width 1200 --height 120 --amplitude-scale auto
  cinelog-transcoder probe clip.mkv
  cinelog-transcoder probe --formats
  cinelog-transcoder reprocess --profile proxy720@1 --run new-encoder

Exit codes: 0 done, 2 usage, 3 input, 4 limit, 5 resource, 6 infrastructure, 7 the child died.";

/// Turns media into a proxy, a waveform and a poster, each file read by a confined child.
#[derive(Debug, Parser)]
#[command(name = "cinelog-transcoder", version, after_help = EXAMPLES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make all outputs of one file, with no service at all.
    Run(RunArgs),
    /// Make a waveform, or convert one between .dat and .json.
    Waveform(WaveformArgs),
    /// Say what a file claims to be and what its first seconds are, or which formats are read.
    Probe(ProbeArgs),
    /// Take jobs from the queue that uploads fill, for ever.
    Worker(Box<WorkerArgs>),
    /// Ask for renditions again, of one asset or of all that have a profile; a few at a time, after all other jobs.
    Reprocess(Box<ReprocessArgs>),
    /// The confined child; started by the others.
    #[command(hide = true)]
    StageChild {
        /// Numbers of the open inputs.
        #[arg(value_delimiter = ',')]
        input_fds: Vec<i32>,
    },
}

/// Options that every command has.
#[derive(Debug, Clone, Args)]
pub struct Shared {
    /// Refuse to work, or warn, where the kernel cannot confine the child: its own files only (Landlock), few system calls
    /// (seccomp), another user if this one is root, resource limits, closed descriptors, no new privileges.
    #[arg(long, value_enum, default_value = "require")]
    pub sandbox: Level,
    /// Lines of JSON for programs.
    #[arg(long)]
    pub json: bool,
}

/// Options of `run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// The media file.
    pub file: PathBuf,
    /// Where the outputs appear, whole or not at all.
    #[arg(long)]
    pub out: PathBuf,
    /// What to make: fast@1, proxy720@1, edit@1.
    #[arg(long, value_delimiter = ',', default_values_t = Profile::USUAL)]
    pub profile: Vec<Profile>,
    /// Options that every command has.
    #[command(flatten)]
    pub shared: Shared,
}

/// Options of `probe`.
#[derive(Debug, Args)]
pub struct ProbeArgs {
    /// The media file.
    #[arg(required_unless_present = "formats")]
    pub file: Option<PathBuf>,
    /// List what is read instead.
    #[arg(long)]
    pub formats: bool,
    /// Options that every command has.
    #[command(flatten)]
    pub shared: Shared,
}

impl Command {
    /// Whether it speaks to programs.
    pub fn json(&self) -> bool {
        self.shared().is_some_and(|shared| shared.json)
    }

    fn shared(&self) -> Option<&Shared> {
        match self {
            Self::Run(args) => Some(&args.shared),
            Self::Waveform(args) => Some(&args.shared),
            Self::Probe(args) => Some(&args.shared),
            Self::Worker(_) | Self::Reprocess(_) | Self::StageChild { .. } => None,
        }
    }
}

/// Runs a command to its end. Blocks; `cancel` ends it early.
pub fn execute(command: &Command, cancel: &CancellationToken) -> Result<(), JobError> {
    match command {
        Command::Run(args) => run(args, cancel),
        Command::Waveform(args) => waveform::waveform(args, cancel),
        Command::Probe(args) => probe(args, cancel),
        Command::Worker(_) | Command::Reprocess(_) | Command::StageChild { .. } => {
            Err(JobError::infra("start", "a child is started by its parent"))
        }
    }
}

/// How the process ends, its last line said.
pub fn ended(result: Result<(), JobError>, json: bool) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error, json);
            ExitCode::from(error.kind.exit_code())
        }
    }
}

fn run(args: &RunArgs, cancel: &CancellationToken) -> Result<(), JobError> {
    let runner = Runner::this_executable(args.shared.sandbox)?;
    let input = open(&args.file)?;
    let mut meter = Meter::new(args.shared.json);
    let manifest = publish(
        &runner,
        &input,
        &args.profile,
        &args.out,
        &mut |profile, progress| meter.show(profile, &progress),
        cancel,
    );
    meter.clear();
    let manifest = manifest?;
    if args.shared.json {
        return say(&format!("{}\n", json!({"done": manifest})));
    }
    say(&summary(&manifest, &args.out))
}

fn probe(args: &ProbeArgs, cancel: &CancellationToken) -> Result<(), JobError> {
    let runner = Runner::this_executable(args.shared.sandbox)?;
    let Some(file) = args.file.as_ref().filter(|_| !args.formats) else {
        let decoders = runner.formats(cancel)?;
        if args.shared.json {
            return say(&format!(
                "{}\n",
                json!({"containers": CONTAINERS, "decoders": decoders})
            ));
        }
        let containers: Vec<_> = CONTAINERS.iter().map(|container| container.name).collect();
        return say(&format!(
            "containers: {}\ndecoders: {}\n",
            containers.join("; "),
            decoders.join(" ")
        ));
    };
    let probe = runner.probe(&open(file)?, cancel)?;
    say(&format!("{:#}\n", json!(probe)))
}

fn open(path: &Path) -> Result<File, JobError> {
    File::options()
        .read(true)
        // A pipe that nobody writes to would hold the open for ever; what is not a plain file is refused later.
        .custom_flags(libc::O_NONBLOCK)
        .open(path)
        .map_err(|error| no_file(&error))
}

fn no_file(error: &io::Error) -> JobError {
    JobError::input(format!("the file cannot be opened: {error}"))
}

/// Writes beside the target and renames, so that the target is never half a file.
fn write_whole(target: &Path, bytes: &[u8]) -> Result<(), JobError> {
    let folder = target
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new()
        .permissions(Permissions::from_mode(0o666)) // less the umask, as for any new file
        .tempfile_in(folder)
        .map_err(|error| JobError::infra("write the output", error))?;
    file.write_all(bytes)
        .map_err(|error| JobError::infra("write the output", error))?;
    file.persist(target)
        .map(|_| ())
        .map_err(|error| JobError::infra("write the output", error))
}

fn summary(manifest: &Manifest, out: &Path) -> String {
    use std::fmt::Write;
    let mut text = String::new();
    for output in &manifest.outputs {
        let size = output
            .width
            .zip(output.height)
            .map(|(width, height)| format!("  {width}×{height}"))
            .unwrap_or_default();
        let rate = output
            .rate
            .map(|rate| format!("  {:.3} fps", rate.per_second()))
            .unwrap_or_default();
        let duration = output
            .duration_ms
            .map(|ms| format!("  {}.{:03} s", ms / 1000, ms % 1000))
            .unwrap_or_default();
        let _ = writeln!(
            text,
            "{}  {} bytes{size}{rate}{duration}",
            out.join(&output.name).display(),
            output.bytes
        );
    }
    for warning in &manifest.warnings {
        let _ = writeln!(text, "warning: {}", warning.message);
    }
    text
}

/// Writes to standard output. A reader that has gone away has read enough: the work goes on.
pub(crate) fn say(text: &str) -> Result<(), JobError> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(JobError::infra("write to stdout", error))
        }
        _ => Ok(()),
    }
}

#[expect(clippy::print_stderr, reason = "the command's last line")]
fn complain(error: &JobError, json: bool) {
    if json {
        eprintln!(
            "{}",
            json!({"type": error.kind.name(), "message": error.message, "retryable": error.retryable()})
        );
    } else {
        eprintln!("error: {error}");
    }
}

/// A bar on a terminal, lines with `--json`, silence otherwise.
struct Meter {
    bar: Option<ProgressBar>,
    json: bool,
}

impl Meter {
    fn new(json: bool) -> Self {
        let style = ProgressStyle::with_template("{msg:24} {bar:40} {percent:>3} %  {eta}").ok();
        let shown = !json && io::stderr().is_terminal();
        let bar = style
            .filter(|_| shown)
            .map(|style| ProgressBar::new(1000).with_style(style));
        Self { bar, json }
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a fraction of 1000"
    )]
    fn show(&mut self, profile: Profile, progress: &Progress) {
        if let Some(bar) = &self.bar {
            bar.set_message(format!("{profile} {}", progress.stage));
            bar.set_position((progress.fraction * 1000.0) as u64);
        }
        if self.json {
            // What cannot be shown does not stop the work.
            drop(say(&format!(
                "{}\n",
                json!({"progress": {"profile": profile, "stage": progress.stage, "fraction": progress.fraction}})
            )));
        }
    }

    fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
