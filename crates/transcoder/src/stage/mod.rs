//! What a child does with an input: a stage per output, and the checks on what was made.

mod captions;
mod check;
mod edit;
mod poster;
mod press;
mod proxy;
mod sprite;
mod survey;
mod track;
mod waveform;

use std::fs::File;
use std::thread::{self, Scope, ScopedJoinHandle};

pub(crate) use check::check;
pub(crate) use survey::probe;

use crate::error::{JobError, Kind};
use crate::media::{Packet, Source};
use crate::plan::{patience, plan};
use crate::probe::{Measured, Picture};
use crate::profile::Profile;
use crate::wire::{Drawing, Made, MadeFile, Message, Request, Warning};

/// What a stage works with.
pub(crate) struct Desk<'a> {
    /// The input.
    pub(crate) input: &'a File,
    /// What is asked for.
    pub(crate) request: &'a Request,
    /// How to tell the parent.
    pub(crate) say: &'a (dyn Fn(&Message) + Sync),
}

impl Desk<'_> {
    fn open(&self) -> Result<Source, JobError> {
        Source::open(self.input, &self.request.demuxer, &self.request.limits)
    }

    /// Tells how far a stage of a job is.
    fn meter(&self, stage: &'static str, made: &Made) -> Meter<'_> {
        Meter {
            say: self.say,
            stage,
            said: 0.0,
            origin_ns: made.plan.origin_ns,
            duration_ms: made.facts.duration_ms.unwrap_or(0),
        }
    }
}

/// Tells the parent how far a stage is, at steps of half a percent.
struct Meter<'a> {
    say: &'a dyn Fn(&Message),
    stage: &'static str,
    said: f64,
    origin_ns: i64,
    duration_ms: u64,
}

impl Meter<'_> {
    /// A packet has been worked on: how far by its time, or by its place where the header tells no length.
    fn packet(&mut self, source: &Source, packet: &Packet) {
        // What a header says of a clock that begins anew is not how long it runs.
        let told = self.duration_ms > 0 && source.jumps() == 0;
        let (done, total) = match source.time_ns(packet).filter(|_| told) {
            Some(ns) => {
                let passed = ns.saturating_sub(self.origin_ns).max(0).unsigned_abs();
                (passed / 1_000_000, self.duration_ms)
            }
            None => source.read(),
        };
        self.at(done, total);
    }

    #[expect(clippy::cast_precision_loss, reason = "a fraction for people")]
    fn at(&mut self, done: u64, total: u64) {
        let fraction = (done as f64 / total.max(1) as f64).clamp(0.0, 1.0);
        if fraction >= self.said + 0.005 {
            self.said = fraction;
            (self.say)(&Message::Progress {
                stage: self.stage.to_owned(),
                fraction,
            });
        }
    }
}

/// Makes all outputs of a profile that the input allows.
pub(crate) fn make(desk: &Desk<'_>, profile: Profile) -> Result<Made, JobError> {
    let mut made = begin(desk, profile)?;
    match profile {
        Profile::Fast1 => fast(desk, &mut made)?,
        Profile::Proxy720V1 | Profile::Edit1 if desk.request.still => {}
        Profile::Proxy720V1 => proxy::make(desk, &mut made)?,
        Profile::Edit1 => edit::make(desk, &mut made)?,
    }
    Ok(made)
}

/// Sound, poster and tiles on a thread each: each reads the input by itself.
fn fast(desk: &Desk<'_>, made: &mut Made) -> Result<(), JobError> {
    let moves = !desk.request.still;
    let (sound, picture) = (made.plan.audio.is_some(), made.plan.video.is_some());
    let blank = || Made {
        warnings: Vec::new(),
        ..made.clone()
    };
    let (mut heard, mut shown) = (blank(), blank());
    let (waveform, poster, tiles) = thread::scope(|threads| {
        let listening =
            (sound && moves).then(|| spawned(threads, || waveform::make(desk, &mut heard)));
        let looking = picture.then(|| spawned(threads, || poster::make(desk, &mut shown)));
        let moving = made.plan.video.as_ref().filter(|_| moves);
        let tiles = moving.map(|video| sprite::collect(desk, video, made));
        let result = |thread: Result<_, _>| thread.and_then(joined);
        (listening.map(result), looking.map(result), tiles)
    });
    for part in [heard, shown] {
        let errors = made.measured.decode_errors + part.measured.decode_errors;
        made.measured = part.measured.with(made.measured.clone());
        made.measured.decode_errors = errors;
        made.files.extend(part.files);
        made.warnings.extend(part.warnings);
    }
    // Last: how long the last tile lasts depends on the sound.
    let sprite = tiles.map(|tiles| sprite::make(tiles?, made));
    let results = [
        ("waveform", waveform),
        ("poster", poster),
        ("sprite", sprite),
    ];
    settle(made, results)
}

/// Starts a thread; that there can be no more of them is not the input's fault.
fn spawned<'scope, T: Send + 'scope>(
    threads: &'scope Scope<'scope, '_>,
    work: impl FnOnce() -> T + Send + 'scope,
) -> Result<ScopedJoinHandle<'scope, T>, JobError> {
    thread::Builder::new()
        .spawn_scoped(threads, work)
        .map_err(|error| JobError::new(Kind::Resource, format!("start a thread: {error}")))
}

fn joined<T>(thread: ScopedJoinHandle<'_, T>) -> T {
    thread
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Makes the waveform alone.
pub(crate) fn only_waveform(desk: &Desk<'_>, drawing: Drawing) -> Result<Made, JobError> {
    let mut made = begin(desk, Profile::Fast1)?;
    waveform::only(desk, &mut made, drawing)?;
    Ok(made)
}

/// Facts and plan, before anything is made.
fn begin(desk: &Desk<'_>, profile: Profile) -> Result<Made, JobError> {
    let mut source = desk.open()?;
    let facts = survey::facts(desk, &source)?;
    if facts.video.is_none() && facts.audio.is_none() {
        let seen: Vec<_> = facts
            .tracks
            .iter()
            .map(|track| format!("{} ({})", track.kind, track.codec))
            .collect();
        let seen = if seen.is_empty() {
            "no tracks".to_owned()
        } else {
            seen.join(", ")
        };
        return Err(JobError::input(format!(
            "unsupported: no picture and no sound in it that we decode: {seen}"
        )));
    }
    let pixels = facts.picture().map_or(0, Picture::pixels);
    if pixels > desk.request.limits.max_pixels {
        return Err(JobError::limit(format!(
            "pictures of {pixels} pixels, {} are allowed",
            desk.request.limits.max_pixels
        )));
    }
    let survey = survey::survey(desk, profile, &mut source, &facts)?;
    let plan = plan(profile, &facts, &survey)?;
    let patience_s = patience(profile, &facts).as_secs();
    (desk.say)(&Message::Planned { patience_s });
    let lost = facts.tracks.iter().filter(|track| track.is_lost());
    let lost = lost.map(|track| {
        let message = format!(
            "track {} ({}, {}) is left out: no decoder of ours takes it",
            track.index, track.kind, track.codec
        );
        Warning::new("not_decoded", message)
    });
    let warnings = lost.collect();
    Ok(Made {
        facts,
        measured: Measured::default(),
        plan,
        files: Vec::new(),
        warnings,
    })
}

/// One output may be missing for the input's fault while another is there: that is a warning. Nothing at all is an error.
fn settle<const N: usize>(
    made: &mut Made,
    results: [(&str, Option<Result<(), JobError>>); N],
) -> Result<(), JobError> {
    let mut first = None;
    for (name, result) in results {
        let Some(Err(error)) = result else { continue };
        if error.kind != Kind::Input {
            return Err(error);
        }
        made.warnings.push(Warning::new(
            "missing",
            format!("no {name}: {}", error.message),
        ));
        first.get_or_insert(error);
    }
    match first {
        Some(error) if made.files.is_empty() => Err(error),
        _ => Ok(()),
    }
}

/// Writes a whole file into the working directory.
fn write(name: &str, bytes: &[u8]) -> Result<(), JobError> {
    std::fs::write(name, bytes).map_err(|error| JobError::infra(&format!("write {name}"), error))
}

/// The header's duration is a claim: say so when decoding found much less from where the film begins.
fn warn_about_length(made: &mut Made) {
    let starts = made.facts.tracks.iter().filter_map(|track| track.start_ns);
    let before = starts
        .min()
        .map_or(0, |first| made.plan.origin_ns.saturating_sub(first));
    let claimed = made.facts.duration_ms.unwrap_or(0);
    let claimed = claimed.saturating_sub(before.max(0).unsigned_abs() / 1_000_000);
    let found = made.measured.duration_ms();
    if claimed > found + 1000 + found / 50 {
        let message = format!("the header claims {claimed} ms, {found} ms decode");
        made.warnings
            .push(Warning::new("shorter_than_claimed", message));
    }
}

/// Says so where the source's clock began anew, or jumped.
fn note_jumps(made: &mut Made, jumps: u64) {
    if jumps > 0 {
        let message = format!(
            "the clock begins anew or jumps {jumps} times: what comes after was put behind what came before"
        );
        made.warnings.push(Warning::new("clock_jumps", message));
    }
}

/// Warns about what did not decode.
fn note_errors(made: &mut Made, stage: &str, errors: u64) {
    made.measured.decode_errors += errors;
    if errors > 0 {
        made.warnings.push(Warning::new(
            "decode_errors",
            format!("{stage}: {errors} packets or frames did not decode"),
        ));
    }
}

fn file(name: &str) -> MadeFile {
    MadeFile {
        name: name.to_owned(),
        width: None,
        height: None,
        rate: None,
        duration_ms: None,
        sound: false,
    }
}
