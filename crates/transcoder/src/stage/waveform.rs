//! The waveform: the sound alone, with everything else left unread.

use super::{Desk, file, note_errors, write};
use crate::error::JobError;
use crate::format::waveform::Peaks;
use crate::media::{AudioDecoder, Decoded, Rounding};
use crate::timeline::Row;
use crate::wire::{Made, Warning};

struct Sketch {
    rate: u32,
    row: Row,
    peaks: Peaks,
}

/// Makes `waveform.dat` and `waveform.json`.
pub(super) fn make(desk: &Desk<'_>, made: &mut Made, zoom: u32) -> Result<(), JobError> {
    let Some(plan) = made.plan.audio.clone() else {
        return Ok(());
    };
    let limits = &desk.request.limits;
    let codec = made
        .facts
        .audio
        .map_or("", |at| made.facts.tracks[at].codec.as_str());
    let rounding = Rounding::of(codec);
    let mut source = desk.open()?;
    source.keep(&[plan.stream]);
    let mut decoder = AudioDecoder::audio(&source, plan.stream, limits)?;
    let mut meter = desk.meter("waveform");
    let mut sketch: Option<Sketch> = None;
    let mut changed = false;
    let origin = made.plan.origin_ns;
    let mut each = |decoded: Decoded<_>| {
        let rate = decoded.rate();
        let sketch = sketch.get_or_insert_with(|| Sketch {
            rate,
            row: Row::new(rate),
            peaks: Peaks::new(rate, zoom),
        });
        changed |= rate != sketch.rate;
        if changed || rate == 0 {
            return Ok(());
        }
        draw(
            sketch,
            &decoded,
            decoded.start_ns.map(|ns| ns.saturating_sub(origin)),
            rounding,
            limits.max_seconds,
        )
    };
    while let Some(packet) = source.next()? {
        if packet.stream() == plan.stream {
            decoder.feed(Some(&packet), &mut each)?;
        }
        let (read, bytes) = source.read();
        meter.at(read, bytes);
    }
    decoder.feed(None, &mut each)?;
    note_errors(made, "waveform", decoder.errors + source.bad_packets);
    if changed {
        made.warnings.push(Warning::new(
            "rate_changed",
            "the sound changes its sample rate; the waveform ends there",
        ));
    }
    let sketch = sketch
        .filter(|sketch| sketch.row.len > 0)
        .ok_or_else(|| JobError::input("no sound in it decodes"))?;
    finish(made, sketch)
}

fn finish(made: &mut Made, sketch: Sketch) -> Result<(), JobError> {
    let duration = sketch.row.ms();
    let waveform = sketch.peaks.finish();
    write("waveform.dat", &waveform.to_dat())?;
    write("waveform.json", waveform.to_json().as_bytes())?;
    made.measured.audio_ms = Some(duration);
    for name in ["waveform.dat", "waveform.json"] {
        let mut file = file(name);
        file.duration_ms = Some(duration);
        made.files.push(file);
    }
    Ok(())
}

fn draw(
    sketch: &mut Sketch,
    decoded: &Decoded<crate::media::Sound>,
    at_ns: Option<i64>,
    rounding: Rounding,
    max_seconds: u64,
) -> Result<(), JobError> {
    let placement = sketch.row.place(at_ns, decoded.count());
    if sketch.row.len / u64::from(sketch.rate) > max_seconds {
        return Err(JobError::limit(format!(
            "more than {max_seconds} seconds of sound"
        )));
    }
    sketch.peaks.push_silence(placement.silence);
    let mut skip = placement.skip;
    decoded.mixed(rounding, &mut |sum, channels| {
        if skip > 0 {
            skip -= 1;
        } else {
            sketch.peaks.push_mixed(sum, channels);
        }
    });
    Ok(())
}
