//! What a child does with an input: a stage per output, and the checks on what was made.

mod captions;
mod check;
mod edit;
mod poster;
mod proxy;
mod sprite;
mod waveform;

use std::fs::File;
use std::thread;

pub(crate) use check::check;

use crate::error::{JobError, Kind};
use crate::media::{AudioDecoder, Source};
use crate::plan::{Plan, Survey, edit_plan, patience, plan};
use crate::probe::{Facts, Measured};
use crate::profile::Profile;
use crate::timeline::Rate;
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

    fn meter(&self, stage: &'static str) -> Meter<'_> {
        Meter {
            say: self.say,
            stage,
            said: 0.0,
        }
    }
}

/// Tells the parent how far a stage is, at steps of half a percent.
struct Meter<'a> {
    say: &'a dyn Fn(&Message),
    stage: &'static str,
    said: f64,
}

impl Meter<'_> {
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

/// What the container claims.
pub(crate) fn probe(desk: &Desk<'_>) -> Result<Facts, JobError> {
    Ok(desk.open()?.facts())
}

/// Makes all outputs of a profile that the input allows.
pub(crate) fn make(desk: &Desk<'_>, profile: Profile) -> Result<Made, JobError> {
    let mut made = begin(desk, profile)?;
    let patience_s = patience(profile, &made.facts).as_secs();
    (desk.say)(&Message::Planned { patience_s });
    match profile {
        Profile::Fast1 => fast(desk, &mut made)?,
        Profile::Proxy720V1 | Profile::Edit1 if desk.request.still => {}
        Profile::Proxy720V1 => proxy::make(desk, &mut made)?,
        Profile::Edit1 => edit::make(desk, &mut made)?,
    }
    Ok(made)
}

/// The sound on a thread of its own while the pictures are looked at: each reads the input by itself.
fn fast(desk: &Desk<'_>, made: &mut Made) -> Result<(), JobError> {
    let moves = !desk.request.still;
    let (sound, picture) = (made.plan.audio.is_some(), made.plan.video.is_some());
    let (plan, mut heard, mut shown) = (&made.plan, made.clone(), made.clone());
    let (waveform, poster, tiles) = thread::scope(|threads| {
        let listening =
            (sound && moves).then(|| threads.spawn(|| waveform::make(desk, &mut heard)));
        let poster = picture.then(|| poster::make(desk, &mut shown));
        let moving = plan.video.as_ref().filter(|_| moves);
        let tiles = moving.map(|video| sprite::collect(desk, video, plan.origin_ns));
        let waveform = listening.map(|listening| {
            listening
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        (waveform, poster, tiles)
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

/// Makes the waveform alone.
pub(crate) fn only_waveform(desk: &Desk<'_>, drawing: Drawing) -> Result<Made, JobError> {
    let mut made = begin(desk, Profile::Fast1)?;
    waveform::only(desk, &mut made, drawing)?;
    Ok(made)
}

/// Facts and plan, before anything is made.
fn begin(desk: &Desk<'_>, profile: Profile) -> Result<Made, JobError> {
    let mut source = desk.open()?;
    let facts = source.facts();
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
    let pixels = facts.video.and_then(|at| facts.tracks[at].picture.as_ref());
    let pixels = pixels.map_or(0, |picture| {
        u64::from(picture.width) * u64::from(picture.height)
    });
    if pixels > desk.request.limits.max_pixels {
        return Err(JobError::limit(format!(
            "pictures of {pixels} pixels, {} are allowed",
            desk.request.limits.max_pixels
        )));
    }
    let stream = |at: usize| facts.tracks[at].index;
    let survey = Survey {
        sound_ns: facts
            .audio
            .and_then(|at| first_sound(desk, stream(at)).ok().flatten()),
        ..match facts.video {
            Some(at) => first_pictures(&mut source, stream(at))?,
            None => Survey::default(),
        }
    };
    let mut plan: Plan = plan(&facts, survey)?;
    if profile == Profile::Edit1 && !desk.request.still {
        // The timeline of editing begins with the first picture: frames and timecodes are counted from it.
        plan.origin_ns = survey.first_ns.unwrap_or(plan.origin_ns);
        plan.edit = Some(edit_plan(&facts, &survey)?);
    }
    Ok(Made {
        facts,
        measured: Measured::default(),
        plan,
        files: Vec::new(),
        warnings: Vec::new(),
    })
}

/// Reads the first ten seconds of pictures for their rate and their start.
fn first_pictures(source: &mut Source, stream: usize) -> Result<Survey, JobError> {
    const SPAN_NS: i64 = 10_000_000_000;
    const PACKETS: usize = 1200;
    source.keep(&[stream]);
    let mut times = Vec::new();
    while let Some(packet) = source.next()? {
        let Some(ns) = source.time_ns(&packet) else {
            continue;
        };
        if packet.stream() != stream || Source::discarded(&packet) {
            continue;
        }
        times.push(ns);
        if ns.saturating_sub(times[0]) > SPAN_NS || times.len() >= PACKETS {
            break;
        }
    }
    let tick_ns = source.tick_ns(stream);
    let rate = Rate::of(&mut times, tick_ns);
    Ok(Survey {
        rate,
        steady: rate.is_some_and(|rate| rate.is_steady(&times, tick_ns)),
        first_ns: times.first().copied(),
        sound_ns: None,
    })
}

/// When the first sample comes out of the decoder: containers do not say how much of it is priming.
fn first_sound(desk: &Desk<'_>, stream: usize) -> Result<Option<i64>, JobError> {
    const PACKETS: u32 = 50;
    let mut source = desk.open()?;
    source.keep(&[stream]);
    let mut decoder = AudioDecoder::audio(&source, stream, &desk.request.limits)?;
    let mut first = None;
    for _ in 0..PACKETS {
        let Some(packet) = source.next()? else { break };
        decoder.feed(Some(&packet), &mut |decoded| {
            first = first.or(decoded.start_ns);
            Ok(())
        })?;
        if first.is_some() {
            break;
        }
    }
    Ok(first)
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
