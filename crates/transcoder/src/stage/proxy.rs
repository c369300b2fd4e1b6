//! The proxy: one decode, pictures and sound encoded as they come, on another thread; captions, and sprites where keyframes
//! do not suffice, on the way.

use super::captions::Captions;
use super::press::{Press, Queue};
use super::sprite::Copies;
use super::track::SoundTrack;
use super::{Desk, Meter, file, note_errors, note_jumps, warn_about_length};
use crate::error::{JobError, Kind};
use crate::limits::{DECODER_THREADS, Limits};
use crate::media::{
    AacEncoder, Coding, Movie, Packet, Pipeline, Source, Still, VideoDecoder, VideoEncoder,
};
use crate::plan::{AudioPlan, Plan, Target, VideoPlan};
use crate::profile::AUDIO_RATE;
use crate::timeline::{Cadence, Rate};
use crate::wire::{Made, Warning};

/// Makes `proxy.mp4` and what comes with it. A track that gives nothing is left out, and then the file is made again without it: MP4 wants all
/// its tracks declared first.
pub(super) fn make(desk: &Desk<'_>, made: &mut Made) -> Result<(), JobError> {
    let mut plan = made.plan.clone();
    loop {
        if plan.video.is_none() && plan.audio.is_none() {
            return Err(JobError::input("nothing in it decodes"));
        }
        match attempt(desk, made, &plan)? {
            Missing::Nothing => break,
            Missing::Video(why) => {
                plan.video = None;
                made.warnings.push(Warning::new(
                    "missing",
                    format!("no picture in the proxy: {why}"),
                ));
            }
            Missing::Audio(why) => {
                plan.audio = None;
                made.warnings.push(Warning::new(
                    "missing",
                    format!("no sound in the proxy: {why}"),
                ));
            }
        }
    }
    made.plan = plan;
    warn_about_length(made);
    Ok(())
}

enum Missing {
    Nothing,
    Video(String),
    Audio(String),
}

fn attempt(desk: &Desk<'_>, made: &mut Made, plan: &Plan) -> Result<Missing, JobError> {
    let limits = &desk.request.limits;
    let mut source = desk.open()?;
    let captions = Captions::open(&source, &made.facts);
    let streams = [
        plan.video.as_ref().map(|video| video.stream),
        plan.audio.as_ref().map(|audio| audio.stream),
    ];
    let streams = streams.into_iter().flatten().chain(captions.streams());
    source.keep(&streams.collect::<Vec<_>>());
    let mut press = Press::new(Movie::create("proxy.mp4", "mp4")?);
    let (mut video, mut audio) = (None, None);
    if let Some(part) = &plan.video {
        match VideoTrack::open(&source, part, plan.origin_ns, limits) {
            Ok(track) => video = Some(track),
            Err(error) if error.kind == Kind::Input => return Ok(Missing::Video(error.message)),
            Err(error) => return Err(error),
        }
        press.pictures = Some(VideoEncoder::open(&mut press.movie, &Coding::proxy(part))?);
    }
    if let Some(part) = &plan.audio {
        match sound(&source, part, plan.origin_ns, limits) {
            Ok(track) => audio = Some(track),
            Err(error) if error.kind == Kind::Input => return Ok(Missing::Audio(error.message)),
            Err(error) => return Err(error),
        }
        let encoder = AacEncoder::open(&mut press.movie, part.channels)?;
        press.sounds.push(Box::new(encoder));
    }
    let mut tracks = Tracks {
        video,
        audio,
        captions,
    };
    let meter = desk.meter("proxy", made);
    press.run(|queue| pump(meter, &mut source, &mut tracks, queue))?;
    if tracks.video.as_ref().is_some_and(|video| video.frames == 0) {
        return Ok(Missing::Video("none decodes".to_owned()));
    }
    if let Some(audio) = tracks.audio.as_ref().filter(|audio| audio.row.ms() == 0) {
        // Nor would a reader find less than a millisecond of AAC.
        let why = if audio.row.len == 0 {
            "none decodes"
        } else {
            "it is over at once"
        };
        return Ok(Missing::Audio(why.to_owned()));
    }
    press.finish()?;
    report(made, &tracks, source.bad_packets);
    note_jumps(made, source.jumps());
    if let Some(video) = tracks.video {
        video.copies.tiles.finish(made)?;
    }
    tracks.captions.finish(made)?;
    Ok(Missing::Nothing)
}

struct Tracks {
    video: Option<VideoTrack>,
    audio: Option<SoundTrack>,
    captions: Captions,
}

fn pump(
    mut meter: Meter<'_>,
    source: &mut Source,
    tracks: &mut Tracks,
    queue: &Queue,
) -> Result<(), JobError> {
    while let Some(packet) = source.next()? {
        if let Some(video) = tracks
            .video
            .as_mut()
            .filter(|video| video.stream == packet.stream())
        {
            video.copies.tiles.packet(source, &packet);
            video.feed(Some(&packet), queue)?;
        } else if let Some(audio) = tracks
            .audio
            .as_mut()
            .filter(|audio| audio.stream == packet.stream())
        {
            audio.feed(Some(&packet), queue)?;
        } else {
            tracks.captions.packet(&packet);
        }
        meter.packet(source, &packet);
    }
    if let Some(video) = &mut tracks.video {
        video.finish(queue)?;
    }
    if let Some(audio) = &mut tracks.audio {
        audio.feed(None, queue)?;
    }
    Ok(())
}

fn report(made: &mut Made, tracks: &Tracks, bad_packets: u64) {
    let mut file = file("proxy.mp4");
    let mut errors = bad_packets;
    if let Some(video) = &tracks.video {
        (file.width, file.height, file.rate) = (
            Some(video.plan.width),
            Some(video.plan.height),
            Some(video.plan.rate),
        );
        made.measured.video_frames = Some(video.decoder.frames);
        made.measured.video_ms = Some(
            video
                .plan
                .rate
                .ns(video.frames.cast_signed())
                .unsigned_abs()
                / 1_000_000,
        );
        errors += video.decoder.errors;
    }
    if let Some(audio) = &tracks.audio {
        file.sound = true;
        made.measured.audio_ms = Some(audio.row.ms());
        errors += audio.decoder.errors;
    }
    file.duration_ms = Some(made.measured.duration_ms());
    made.files.push(file);
    note_errors(made, "proxy", errors);
}

struct VideoTrack {
    plan: VideoPlan,
    stream: usize,
    decoder: VideoDecoder,
    pipeline: Pipeline,
    cadence: Cadence,
    held: Option<Still>,
    copies: Copies,
    clock: VideoClock,
    /// Frames of the proxy.
    frames: u64,
    max_seconds: u64,
}

/// Gives every picture a time, also those without one: nanoseconds on the container's clock.
struct VideoClock {
    origin: i64,
    frame: i64,
    end: i64,
}

impl VideoTrack {
    fn open(
        source: &Source,
        plan: &VideoPlan,
        origin_ns: i64,
        limits: &Limits,
    ) -> Result<Self, JobError> {
        Ok(Self {
            plan: plan.clone(),
            stream: plan.stream,
            decoder: VideoDecoder::video(source, plan.stream, DECODER_THREADS, limits)?,
            pipeline: Pipeline::video(plan.filters(Target::Video), limits),
            cadence: Cadence::new(plan.rate),
            held: None,
            copies: Copies::new(plan, origin_ns, limits),
            clock: VideoClock {
                origin: origin_ns,
                frame: plan.rate.ns(1),
                end: origin_ns,
            },
            frames: 0,
            max_seconds: limits.max_seconds,
        })
    }

    fn feed(&mut self, packet: Option<&Packet>, queue: &Queue) -> Result<(), JobError> {
        let Self {
            decoder,
            pipeline,
            cadence,
            held,
            copies,
            clock,
            plan,
            frames,
            max_seconds,
            ..
        } = self;
        let origin_ns = clock.origin;
        let mut show = |still: Still, ns: Option<i64>| {
            let at = ns.unwrap_or(origin_ns).saturating_sub(origin_ns);
            let repeats = cadence.show(at);
            *frames = bounded(*frames, repeats, plan.rate, *max_seconds)?;
            copies.copy(&still, ns.unwrap_or(origin_ns))?;
            if let Some(before) = held.replace(still).filter(|_| repeats > 0) {
                queue.picture(before, repeats)?;
            }
            Ok(())
        };
        decoder.feed(packet, &mut |mut decoded| {
            let start = decoded.start_ns.unwrap_or(clock.end);
            decoded.start_ns = Some(start);
            let shown = if decoded.duration_ns > 0 {
                decoded.duration_ns
            } else {
                clock.frame
            };
            clock.end = clock.end.max(start.saturating_add(shown));
            pipeline.picture(decoded, &mut show)
        })?;
        if packet.is_none() {
            pipeline.end_pictures(&mut show)?;
        }
        Ok(())
    }

    fn finish(&mut self, queue: &Queue) -> Result<(), JobError> {
        self.feed(None, queue)?;
        let repeats = self
            .cadence
            .end(self.clock.end.saturating_sub(self.clock.origin));
        self.frames = bounded(self.frames, repeats, self.plan.rate, self.max_seconds)?;
        match self.held.take() {
            Some(last) => queue.picture(last, repeats),
            None => Ok(()),
        }
    }
}

/// Frames with these added, within bounds.
fn bounded(frames: u64, more: u64, rate: Rate, max_seconds: u64) -> Result<u64, JobError> {
    let frames = frames.saturating_add(more);
    if frames / u64::from(rate.gop().max(1)) > max_seconds {
        return Err(JobError::limit(format!(
            "more than {max_seconds} seconds of pictures"
        )));
    }
    Ok(frames)
}

fn sound(
    source: &Source,
    plan: &AudioPlan,
    origin_ns: i64,
    limits: &Limits,
) -> Result<SoundTrack, JobError> {
    let filters = plan.clone();
    let pipeline = Pipeline::audio(
        move |channels, known| filters.filters(channels, known),
        limits,
    );
    SoundTrack::open(
        source,
        (plan.stream, 0),
        pipeline,
        AUDIO_RATE,
        origin_ns,
        limits,
    )
}
