//! A film for editing: the source's frames, one for one, and its sound, track for track.

use super::press::{Press, Queue};
use super::track::SoundTrack;
use super::{Desk, Meter, file, note_errors, note_jumps, warn_about_length};
use crate::error::JobError;
use crate::limits::{DECODER_THREADS, Limits};
use crate::media::{
    Coding, Movie, Packet, PcmEncoder, Pipeline, Source, Still, VideoDecoder, VideoEncoder,
};
use crate::plan::EditPlan;
use crate::timeline::Cadence;
use crate::wire::{Made, Warning};

/// Of so many frames one may be missing in the source; it is held. More is a rate that varies.
const MISSING: u64 = 50;
const VARIES: &str = "unsupported for editing: its frame rate varies";

/// What a sample takes in the file, at the least.
const SAMPLE_BYTES: u64 = 2;

/// Makes `edit.mov`.
pub(super) fn make(desk: &Desk<'_>, made: &mut Made) -> Result<(), JobError> {
    let Some(plan) = made.plan.edit.clone() else {
        return Ok(());
    };
    let limits = &desk.request.limits;
    let timecode = plan.timecode.as_deref().map(|told| counted(told, &plan));
    let mut source = desk.open()?;
    let sounds = plan.sounds.iter().map(|sound| sound.stream);
    source.keep(&sounds.chain([plan.stream]).collect::<Vec<_>>());
    let mut press = Press::new(Movie::create("edit.mov", "mov")?);
    let mut pictures = Pictures::open(&source, &plan, made.plan.origin_ns, limits)?;
    let coding = Coding::edit(&plan, timecode.as_deref());
    press.pictures = Some(VideoEncoder::open(&mut press.movie, &coding)?);
    let mut tracks = Vec::with_capacity(plan.sounds.len());
    let channels = plan.sounds.iter().map(|sound| u64::from(sound.channels));
    let most = limits.max_output_bytes / (SAMPLE_BYTES * channels.sum::<u64>().max(1));
    for sound in &plan.sounds {
        let place = (sound.stream, tracks.len());
        // Where a track changes its rate it keeps the one it began with.
        let filters = format!("aresample={}:osf=fltp,aformat=sample_fmts=fltp", sound.rate);
        let pipeline = Pipeline::audio(move |_, _| filters.clone(), limits);
        let origin_ns = made.plan.origin_ns;
        let track = SoundTrack::open(&source, place, pipeline, sound.rate, origin_ns, limits)?;
        tracks.push(track.at_most(most));
        let encoder = PcmEncoder::open(&mut press.movie, sound)?;
        press.sounds.push(Box::new(encoder));
    }
    let meter = desk.meter("edit", made);
    press.run(|queue| pump(meter, &mut source, &mut pictures, &mut tracks, queue))?;
    for (track, sound) in tracks.iter().zip(&mut press.sounds) {
        if track.row.len == 0 {
            // A track without a sample would not be there, and those behind it would not be where they were.
            sound.silence(&mut press.movie, 1)?;
            let why = format!(
                "no sound of stream {} in the edit: none decodes",
                track.stream
            );
            made.warnings.push(Warning::new("missing", why));
        }
    }
    press.finish()?;
    report(made, &plan, &pictures, &tracks, source.bad_packets);
    note_jumps(made, source.jumps());
    warn_about_length(made);
    Ok(())
}

fn pump(
    mut meter: Meter<'_>,
    source: &mut Source,
    pictures: &mut Pictures,
    tracks: &mut [SoundTrack],
    queue: &Queue,
) -> Result<(), JobError> {
    while let Some(packet) = source.next()? {
        if packet.stream() == pictures.stream {
            pictures.feed(Some(&packet), queue)?;
        } else if let Some(track) = tracks
            .iter_mut()
            .find(|track| track.stream == packet.stream())
        {
            track.feed(Some(&packet), queue)?;
        }
        meter.packet(source, &packet);
    }
    pictures.finish(queue)?;
    for track in tracks {
        track.feed(None, queue)?;
    }
    Ok(())
}

fn report(
    made: &mut Made,
    plan: &EditPlan,
    pictures: &Pictures,
    tracks: &[SoundTrack],
    bad_packets: u64,
) {
    let mut file = file("edit.mov");
    (file.width, file.height, file.rate) = (Some(plan.width), Some(plan.height), Some(plan.rate));
    file.sound = !tracks.is_empty();
    let frames = pictures.frames.cast_signed();
    made.measured.video_frames = Some(pictures.decoder.frames);
    made.measured.video_ms = Some(plan.rate.ns(frames).unsigned_abs() / 1_000_000);
    made.measured.audio_ms = tracks.iter().map(|track| track.row.ms()).max();
    file.duration_ms = Some(made.measured.duration_ms());
    made.files.push(file);
    if pictures.odd > 0 {
        made.warnings.push(Warning::new(
            "frames_held",
            format!(
                "{} frames of the source are missing or lie between others",
                pictures.odd
            ),
        ));
    }
    let errors = tracks.iter().map(|track| track.decoder.errors).sum::<u64>();
    note_errors(made, "edit", errors + pictures.decoder.errors + bad_packets);
}

/// A timecode as its rate allows: numbers are left out at 29.97 and 59.94 frames a second only.
fn counted(told: &str, plan: &EditPlan) -> String {
    let may_drop = plan.rate.den == 1001 && plan.rate.num.is_multiple_of(30_000);
    let (clock, frames) = told.split_at(told.len().saturating_sub(3));
    let drops = may_drop && frames.starts_with([';', '.']);
    let frames = frames.get(1..).unwrap_or_default();
    format!("{clock}{}{frames}", if drops { ';' } else { ':' })
}

struct Pictures {
    stream: usize,
    decoder: VideoDecoder,
    pipeline: Pipeline,
    cadence: Cadence,
    held: Option<Still>,
    origin_ns: i64,
    end_ns: i64,
    frame_ns: i64,
    /// Frames of the film.
    frames: u64,
    max_frames: u64,
    /// Pictures with no frame of their own, and frames without a picture.
    odd: u64,
}

impl Pictures {
    fn open(
        source: &Source,
        plan: &EditPlan,
        origin_ns: i64,
        limits: &Limits,
    ) -> Result<Self, JobError> {
        Ok(Self {
            stream: plan.stream,
            decoder: VideoDecoder::video(source, plan.stream, DECODER_THREADS, limits)?,
            pipeline: Pipeline::video(plan.filters(), limits),
            cadence: Cadence::new(plan.rate),
            held: None,
            origin_ns,
            end_ns: origin_ns,
            frame_ns: plan.rate.ns(1),
            frames: 0,
            max_frames: limits
                .max_seconds
                .saturating_mul(u64::from(plan.rate.gop().max(1))),
            odd: 0,
        })
    }

    fn feed(&mut self, packet: Option<&Packet>, queue: &Queue) -> Result<(), JobError> {
        let Self {
            decoder,
            pipeline,
            cadence,
            held,
            origin_ns,
            end_ns,
            frame_ns,
            frames,
            max_frames,
            odd,
            ..
        } = self;
        let mut show = |still: Still, ns: Option<i64>| {
            let at = ns.unwrap_or(*origin_ns).saturating_sub(*origin_ns);
            let repeats = cadence.show(at);
            let Some(before) = held.replace(still) else {
                return Ok(());
            };
            *odd += repeats.abs_diff(1);
            steady(*odd, *frames)?;
            *frames += repeats;
            if *frames > *max_frames {
                return Err(JobError::limit("too many pictures"));
            }
            if repeats > 0 {
                queue.picture(before, repeats)?;
            }
            Ok(())
        };
        decoder.feed(packet, &mut |mut decoded| {
            let start = decoded.start_ns.unwrap_or(*end_ns);
            decoded.start_ns = Some(start);
            *end_ns = (*end_ns).max(start.saturating_add(*frame_ns));
            pipeline.picture(decoded, &mut show)
        })?;
        if packet.is_none() {
            pipeline.end_pictures(&mut show)?;
        }
        Ok(())
    }

    fn finish(&mut self, queue: &Queue) -> Result<(), JobError> {
        self.feed(None, queue)?;
        let repeats = self.cadence.end(self.end_ns.saturating_sub(self.origin_ns));
        self.odd += repeats.saturating_sub(1);
        steady(self.odd, self.frames)?;
        self.frames += repeats;
        match self.held.take() {
            Some(last) => queue.picture(last, repeats),
            None => Err(JobError::input("no picture in it decodes")),
        }
    }
}

/// Whether the rate is one, by what was odd in so many frames.
fn steady(odd: u64, frames: u64) -> Result<(), JobError> {
    if odd > 2 + frames / MISSING {
        return Err(JobError::input(VARIES));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Turn;
    use crate::probe::Colour;
    use crate::timeline::Rate;

    #[track_caller]
    fn check(num: u32, den: u32, told: &str, expected: &str) {
        let plan = EditPlan {
            stream: 0,
            width: 960,
            height: 540,
            pixel_aspect: (1, 1),
            rate: Rate { num, den },
            turn: Turn::None,
            interlaced: false,
            deep: false,
            full_range: false,
            colour: Colour::default(),
            sounds: vec![],
            timecode: None,
        };
        assert_eq!(counted(told, &plan), expected);
    }

    #[test]
    fn numbers_are_left_out_where_the_rate_has_too_few_frames() {
        check(30_000, 1001, "01:00:00;02", "01:00:00;02");
        check(60_000, 1001, "01:00:00.02", "01:00:00;02");
        check(25, 1, "01:00:00;02", "01:00:00:02");
        check(24_000, 1001, "01:00:00;02", "01:00:00:02");
        check(25, 1, "10:11:12:13", "10:11:12:13");
    }
}
