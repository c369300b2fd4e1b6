//! The proxy: one decode, pictures and sound encoded as they come; captions, and sprites where keyframes do not suffice,
//! on the way.

use super::captions::Captions;
use super::sprite::Copies;
use super::{Desk, Meter, file, note_errors};
use crate::error::{JobError, Kind};
use crate::limits::{DECODER_THREADS, Limits};
use crate::media::{
    AudioDecoder, AudioEncoder, Coding, Movie, Packet, Pipeline, Source, Still, VideoDecoder,
    VideoEncoder,
};
use crate::plan::{AudioPlan, Plan, Target, VideoPlan};
use crate::profile::AUDIO_RATE;
use crate::timeline::{Cadence, Rate, Row};
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
    let mut movie = Movie::create("proxy.mp4", "mp4")?;
    let mut video = None;
    if let Some(part) = &plan.video {
        match VideoTrack::open(&source, &mut movie, part, plan.origin_ns, limits) {
            Ok(track) => video = Some(track),
            Err(error) if error.kind == Kind::Input => return Ok(Missing::Video(error.message)),
            Err(error) => return Err(error),
        }
    }
    let mut audio = None;
    if let Some(part) = &plan.audio {
        match AudioTrack::open(&source, &mut movie, part, plan.origin_ns, limits) {
            Ok(track) => audio = Some(track),
            Err(error) if error.kind == Kind::Input => return Ok(Missing::Audio(error.message)),
            Err(error) => return Err(error),
        }
    }
    movie.start()?;
    let mut tracks = Tracks {
        video,
        audio,
        captions,
    };
    pump(
        desk.meter("proxy", made),
        &mut source,
        &mut movie,
        &mut tracks,
    )?;
    if tracks
        .video
        .as_ref()
        .is_some_and(|video| video.encoder.frames() == 0)
    {
        return Ok(Missing::Video("none decodes".to_owned()));
    }
    if tracks
        .audio
        .as_ref()
        .is_some_and(|audio| audio.row.len == 0)
    {
        return Ok(Missing::Audio("none decodes".to_owned()));
    }
    movie.finish()?;
    report(made, &tracks, source.bad_packets);
    if let Some(video) = tracks.video {
        video.copies.tiles.finish(made)?;
    }
    tracks.captions.finish(made)?;
    Ok(Missing::Nothing)
}

struct Tracks {
    video: Option<VideoTrack>,
    audio: Option<AudioTrack>,
    captions: Captions,
}

fn pump(
    mut meter: Meter<'_>,
    source: &mut Source,
    movie: &mut Movie,
    tracks: &mut Tracks,
) -> Result<(), JobError> {
    while let Some(packet) = source.next()? {
        if let Some(video) = tracks
            .video
            .as_mut()
            .filter(|video| video.stream == packet.stream())
        {
            video.copies.tiles.packet(source, &packet);
            video.feed(Some(&packet), movie)?;
        } else if let Some(audio) = tracks
            .audio
            .as_mut()
            .filter(|audio| audio.stream == packet.stream())
        {
            audio.feed(Some(&packet), movie)?;
        } else {
            tracks.captions.packet(&packet);
        }
        meter.packet(source, &packet);
    }
    if let Some(video) = &mut tracks.video {
        video.finish(movie)?;
    }
    if let Some(audio) = &mut tracks.audio {
        audio.finish(movie)?;
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
        made.measured.video_ms =
            Some(video.plan.rate.ns(video.encoder.frames()).unsigned_abs() / 1_000_000);
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

/// The header's duration is a claim: say so when decoding found much less.
fn warn_about_length(made: &mut Made) {
    let (claimed, found) = (
        made.facts.duration_ms.unwrap_or(0),
        made.measured.duration_ms(),
    );
    if claimed > found + 1000 + found / 50 {
        let message = format!("the header claims {claimed} ms, {found} ms decode");
        made.warnings
            .push(Warning::new("shorter_than_claimed", message));
    }
}

struct VideoTrack {
    plan: VideoPlan,
    stream: usize,
    decoder: VideoDecoder,
    pipeline: Pipeline,
    encoder: VideoEncoder,
    cadence: Cadence,
    held: Option<Still>,
    copies: Copies,
    clock: VideoClock,
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
        movie: &mut Movie,
        plan: &VideoPlan,
        origin_ns: i64,
        limits: &Limits,
    ) -> Result<Self, JobError> {
        Ok(Self {
            plan: plan.clone(),
            stream: plan.stream,
            decoder: VideoDecoder::video(source, plan.stream, DECODER_THREADS, limits)?,
            pipeline: Pipeline::video(plan.filters(Target::Video), limits),
            encoder: VideoEncoder::open(movie, &Coding::proxy(plan))?,
            cadence: Cadence::new(plan.rate),
            held: None,
            copies: Copies::new(plan, origin_ns, limits),
            clock: VideoClock {
                origin: origin_ns,
                frame: plan.rate.ns(1),
                end: origin_ns,
            },
            max_seconds: limits.max_seconds,
        })
    }

    fn feed(&mut self, packet: Option<&Packet>, movie: &mut Movie) -> Result<(), JobError> {
        let Self {
            decoder,
            pipeline,
            encoder,
            cadence,
            held,
            copies,
            clock,
            plan,
            max_seconds,
            ..
        } = self;
        let origin_ns = clock.origin;
        let mut show = |still: Still, ns: Option<i64>| {
            let at = ns.unwrap_or(origin_ns).saturating_sub(origin_ns);
            let repeats = cadence.show(at);
            bounded(encoder, repeats, plan.rate, *max_seconds)?;
            if let Some(before) = held {
                encoder.show(movie, before, repeats)?;
            }
            copies.copy(&still, ns.unwrap_or(origin_ns))?;
            *held = Some(still);
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

    fn finish(&mut self, movie: &mut Movie) -> Result<(), JobError> {
        self.feed(None, movie)?;
        let repeats = self
            .cadence
            .end(self.clock.end.saturating_sub(self.clock.origin));
        bounded(&self.encoder, repeats, self.plan.rate, self.max_seconds)?;
        if let Some(last) = &mut self.held {
            self.encoder.show(movie, last, repeats)?;
        }
        self.encoder.finish(movie)
    }
}

fn bounded(
    encoder: &VideoEncoder,
    more: u64,
    rate: Rate,
    max_seconds: u64,
) -> Result<(), JobError> {
    let frames = encoder.frames().unsigned_abs().saturating_add(more);
    if frames / u64::from(rate.gop().max(1)) > max_seconds {
        return Err(JobError::limit(format!(
            "more than {max_seconds} seconds of pictures"
        )));
    }
    Ok(())
}

struct AudioTrack {
    stream: usize,
    decoder: AudioDecoder,
    pipeline: Pipeline,
    encoder: AudioEncoder,
    row: Row,
    origin_ns: i64,
    max_seconds: u64,
}

impl AudioTrack {
    fn open(
        source: &Source,
        movie: &mut Movie,
        plan: &AudioPlan,
        origin_ns: i64,
        limits: &Limits,
    ) -> Result<Self, JobError> {
        let filters = plan.clone();
        Ok(Self {
            stream: plan.stream,
            decoder: AudioDecoder::audio(source, plan.stream, limits)?,
            pipeline: Pipeline::audio(
                move |channels, known| filters.filters(channels, known),
                limits,
            ),
            encoder: AudioEncoder::open(movie, plan.channels)?,
            row: Row::new(AUDIO_RATE),
            origin_ns,
            max_seconds: limits.max_seconds,
        })
    }

    fn feed(&mut self, packet: Option<&Packet>, movie: &mut Movie) -> Result<(), JobError> {
        let Self {
            decoder,
            pipeline,
            encoder,
            row,
            origin_ns,
            max_seconds,
            ..
        } = self;
        let mut add = |samples: crate::media::Samples| {
            let at = samples.start_ns.map(|ns| ns.saturating_sub(*origin_ns));
            let count = samples.channels.first().map_or(0, Vec::len) as u64;
            let placement = row.place(at, count);
            if row.len / u64::from(AUDIO_RATE) > *max_seconds {
                return Err(JobError::limit(format!(
                    "more than {max_seconds} seconds of sound"
                )));
            }
            encoder.silence(movie, placement.silence)?;
            encoder.add(movie, &samples.channels, placement.skip)
        };
        decoder.feed(packet, &mut |decoded| pipeline.sound(decoded, &mut add))?;
        if packet.is_none() {
            pipeline.end_sound(&mut add)?;
        }
        Ok(())
    }

    fn finish(&mut self, movie: &mut Movie) -> Result<(), JobError> {
        self.feed(None, movie)?;
        self.encoder.finish(movie)
    }
}
