//! The waveform and how loud it is: the sound alone, with everything else left unread.

use std::fs::File;
use std::os::unix::fs::FileExt;

use super::{Desk, file, note_errors, note_jumps, write};
use crate::error::{JobError, Kind};
use crate::format::loudness::Meter;
use crate::format::peaks::Peaks;
use crate::format::picture::{Colours, HEIGHT, WIDTH, png};
use crate::format::scale::Scale;
use crate::format::waveform::Waveform;
use crate::media::{AudioDecoder, Decoded, Rounding, Sound, Trim};
use crate::plan::AudioPlan;
use crate::profile::WAVEFORM;
use crate::sniff::{behind_tags, mp3_coder};
use crate::timeline::Row;
use crate::wire::{Drawing, Made, Timeline, Warning};

/// Samples per point where only the number of samples matters.
const COARSE: Scale = Scale::Zoom(1 << 20);

/// Makes `waveform.dat`, `waveform.json` and `waveform.png`, and measures loudness.
pub(super) fn make(desk: &Desk<'_>, made: &mut Made) -> Result<(), JobError> {
    let Some((waveform, duration)) = draw(desk, made, WAVEFORM, true)? else {
        return Ok(());
    };
    write("waveform.json", waveform.to_json().as_bytes())?;
    keep_dat(made, &waveform, duration)?;
    let doing = |error: &dyn std::fmt::Display| JobError::infra("draw the waveform", error);
    let points = u32::try_from(waveform.len()).unwrap_or(u32::MAX);
    let zoom = waveform
        .samples_per_pixel
        .saturating_mul(points.div_ceil(WIDTH).max(1));
    let coarse = waveform.coarser(zoom).map_err(|error| doing(&error))?;
    let picture =
        png(&coarse, (WIDTH, HEIGHT), Colours::AUDACITY).map_err(|error| doing(&error))?;
    write("waveform.png", &picture)?;
    let mut json = file("waveform.json");
    json.duration_ms = Some(duration);
    let mut png = file("waveform.png");
    (png.width, png.height) = (Some(WIDTH), Some(HEIGHT));
    made.files.extend([json, png]);
    Ok(())
}

/// Makes `waveform.dat` alone, as it is asked for.
pub(super) fn only(desk: &Desk<'_>, made: &mut Made, drawing: Drawing) -> Result<(), JobError> {
    match draw(desk, made, drawing, false)? {
        Some((waveform, duration)) => keep_dat(made, &waveform, duration),
        None => Err(JobError::input("there is no sound in it that we decode")),
    }
}

fn keep_dat(made: &mut Made, waveform: &Waveform, duration: u64) -> Result<(), JobError> {
    write("waveform.dat", &waveform.to_dat())?;
    let mut dat = file("waveform.dat");
    dat.duration_ms = Some(duration);
    made.files.push(dat);
    Ok(())
}

/// The waveform and how long it lasts in ms, if there is sound. Its loudness is measured where that is asked for.
fn draw(
    desk: &Desk<'_>,
    made: &mut Made,
    drawing: Drawing,
    measures: bool,
) -> Result<Option<(Waveform, u64)>, JobError> {
    let Some(plan) = made.plan.audio.clone() else {
        return Ok(None);
    };
    let samples = if drawing.scale.needs_length() {
        let coarse = Drawing {
            scale: COARSE,
            ..drawing
        };
        Sketch::new(desk, made, coarse, 0).heard(&plan)?.row.len
    } else {
        0
    };
    let mut sketch = Sketch::new(desk, made, drawing, samples);
    sketch.measures = measures;
    let sketch = sketch.heard(&plan)?;
    let duration = sketch.row.ms();
    note_errors(made, "waveform", sketch.errors);
    note_jumps(made, sketch.jumps);
    if sketch.changed {
        made.warnings.push(Warning::new(
            "sound_changed",
            "the sound changes its sample rate or its channels; the waveform ends there",
        ));
    }
    made.measured.audio_ms = Some(duration);
    made.measured.loudness = sketch.meter.and_then(Meter::finish);
    let waveform = sketch.peaks.map(Peaks::finish);
    let waveform = waveform.filter(|waveform| !waveform.is_empty());
    waveform
        .map(|waveform| Some((waveform, duration)))
        .ok_or_else(|| JobError::input("no sound in it decodes"))
}

/// Coders of MP3 that audiowaveform believes how many samples they put before the sound.
const KNOWN: [[u8; 4]; 2] = [*b"LAME", *b"Lavc"];

/// Who coded an MP3, as its first frame has it, behind whatever tags.
fn coder(input: &File) -> Option<[u8; 4]> {
    let (head, _) = behind_tags(&mut |buffer, at| input.read_at(buffer, at)).ok()?;
    mp3_coder(&head)
}

/// A waveform as its sound is heard.
struct Sketch<'a> {
    desk: &'a Desk<'a>,
    drawing: Drawing,
    /// Samples in all, where that matters.
    samples: u64,
    origin_ns: i64,
    codec: String,
    /// Once the first sound has told its rate.
    peaks: Option<Peaks>,
    row: Row,
    rate: u32,
    channels: usize,
    block: Vec<i16>,
    /// Whether loudness is measured, of what, and with what.
    measures: bool,
    floats: Vec<f32>,
    meter: Option<Meter>,
    /// Whether what an MP3's coder put before the sound is left out, and how many samples of it still are.
    skips: bool,
    skip: u64,
    changed: bool,
    errors: u64,
    /// How often the container's clock began anew.
    jumps: u64,
    progress: super::Meter<'a>,
}

impl<'a> Sketch<'a> {
    fn new(desk: &'a Desk<'a>, made: &Made, drawing: Drawing, samples: u64) -> Self {
        let audio = made
            .facts
            .audio
            .map(|at| made.facts.tracks[at].codec.clone());
        Self {
            desk,
            drawing,
            samples,
            origin_ns: made.plan.origin_ns,
            codec: audio.unwrap_or_default(),
            peaks: None,
            row: Row::new(0),
            rate: 0,
            channels: 0,
            block: Vec::new(),
            measures: false,
            floats: Vec::new(),
            meter: None,
            skips: false,
            skip: 0,
            changed: false,
            errors: 0,
            jumps: 0,
            progress: desk.meter("waveform", made),
        }
    }

    fn heard(mut self, plan: &AudioPlan) -> Result<Self, JobError> {
        let limits = &self.desk.request.limits;
        let mut source = self.desk.open()?;
        source.keep(&[plan.stream]);
        let trim = match self.drawing.timeline {
            Timeline::Audiowaveform if self.codec == "mp3" => Trim::Told,
            _ => Trim::Done,
        };
        self.skips =
            trim == Trim::Told && coder(self.desk.input).is_some_and(|c| KNOWN.contains(&c));
        let mut decoder = AudioDecoder::trimmed(&source, plan.stream, trim, limits)?;
        while let Some(packet) = source.next()? {
            if packet.stream() == plan.stream {
                decoder.feed(Some(&packet), &mut |decoded| self.add(&decoded))?;
            }
            self.progress.packet(&source, &packet);
        }
        decoder.feed(None, &mut |decoded| self.add(&decoded))?;
        self.errors = decoder.errors + source.bad_packets;
        self.jumps = source.jumps();
        Ok(self)
    }

    fn add(&mut self, decoded: &Decoded<Sound>) -> Result<(), JobError> {
        let (rate, channels) = (decoded.rate(), decoded.channels());
        if self.peaks.is_none() && rate > 0 && channels > 0 {
            self.begin(rate, channels)?;
            let meter = || Meter::new(rate, channels, decoded.layout());
            self.meter = self.measures.then(meter).flatten();
        }
        let split = self.drawing.split_channels;
        self.changed |= rate != self.rate || (split && channels != self.channels);
        let Some(peaks) = self.peaks.as_mut().filter(|_| !self.changed) else {
            return Ok(());
        };
        if self.skips {
            self.skip += decoded.skip();
        }
        let left_out = self.skip.min(decoded.count());
        self.skip -= left_out;
        let at_ns = match self.drawing.timeline {
            Timeline::Proxy => decoded.start_ns.map(|ns| ns.saturating_sub(self.origin_ns)),
            Timeline::Audiowaveform => None,
        };
        let placement = self.row.place(at_ns, decoded.count() - left_out);
        let most = self.desk.request.limits.max_seconds;
        if self.row.len / u64::from(rate) > most {
            return Err(JobError::limit(format!(
                "more than {most} seconds of sound"
            )));
        }
        peaks.push_silence(placement.silence);
        decoded.to_sixteen(Rounding::of(&self.codec), &mut self.block);
        let skipped = usize::try_from(left_out + placement.skip).unwrap_or(usize::MAX);
        let heard = self.block.get(skipped.saturating_mul(channels)..);
        peaks.push(heard.unwrap_or_default(), channels);
        // A mix goes on where the number of channels changes, loudness does not.
        if let Some(meter) = self.meter.as_mut().filter(|_| channels == self.channels) {
            decoded.to_floats(&mut self.floats);
            let heard = self.floats.get_mut(skipped.saturating_mul(channels)..);
            meter.add(heard.unwrap_or_default());
        }
        Ok(())
    }

    fn begin(&mut self, rate: u32, channels: usize) -> Result<(), JobError> {
        let zoom = self.drawing.scale.samples_per_pixel(rate, self.samples);
        if zoom < 2 {
            let few = "a point would have fewer than two samples: ask for fewer points";
            return Err(JobError::new(Kind::Usage, few));
        }
        let kept = if self.drawing.split_channels {
            u32::try_from(channels).unwrap_or(u32::MAX)
        } else {
            1
        };
        (self.rate, self.channels) = (rate, channels);
        (self.row, self.peaks) = (Row::new(rate), Some(Peaks::new(rate, zoom, kept)));
        Ok(())
    }
}
