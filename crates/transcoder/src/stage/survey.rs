//! What is known before a plan is made: the container's claims, and what the first seconds show.

use super::Desk;
use crate::error::{JobError, Kind};
use crate::media::{AudioDecoder, Decoded, Source, Still, VideoDecoder};
use crate::plan::Survey;
use crate::probe::{Facts, Probe, upright};
use crate::profile::Profile;
use crate::timeline::Rate;

/// Packets in which the first picture or sample is looked for.
const PACKETS: u32 = 50;

/// What the container claims, and what its first seconds are.
pub(crate) fn probe(desk: &Desk<'_>) -> Result<Probe, JobError> {
    let mut source = desk.open()?;
    let claimed = facts(desk, &source)?;
    let measured = survey(desk, Profile::Fast1, &mut source, &claimed)?;
    Ok(Probe { claimed, measured })
}

/// What the container claims, and a still picture's own word on how it lies.
pub(super) fn facts(desk: &Desk<'_>, source: &Source) -> Result<Facts, JobError> {
    let mut facts = source.facts();
    let track = facts.video.and_then(|at| facts.tracks.get_mut(at));
    if let Some(track) = track.filter(|_| desk.request.still) {
        let told = match first_picture(desk, track.index, Decoded::orientation) {
            // What does not decode is told when its poster is made.
            Err(error) if error.kind == Kind::Input => None,
            told => told?.flatten(),
        };
        if let Some(picture) = &mut track.picture {
            picture.matrix = told.and_then(upright).or(picture.matrix);
        }
    }
    Ok(facts)
}

/// Reads the first seconds, as far as a profile's plan depends on them.
pub(super) fn survey(
    desk: &Desk<'_>,
    profile: Profile,
    source: &mut Source,
    facts: &Facts,
) -> Result<Survey, JobError> {
    let stream = |at: usize| facts.tracks[at].index;
    let mut survey = match facts.video {
        Some(at) => first_seconds(source, stream(at))?,
        None => Survey::default(),
    };
    survey.still = desk.request.still;
    let sound = facts.audio.map(|at| first_sound(desk, stream(at)));
    survey.sound_ns = sound.and_then(Result::ok).flatten();
    if let (Profile::Edit1, false, Some(at)) = (profile, survey.still, facts.video) {
        // Frames and timecodes are counted from the first picture that decodes.
        let fast = survey.rate.is_some_and(|rate| rate.per_second() > 30.5);
        let first = first_picture(desk, stream(at), |decoded| {
            (decoded.start_ns, decoded.timecode(fast))
        })?;
        let (first_ns, timecode) = first.unwrap_or_default();
        survey.first_ns = first_ns.or(survey.first_ns);
        survey.timecode = timecode;
    }
    Ok(survey)
}

/// Rate and start of the pictures, by the packets of the first ten seconds.
fn first_seconds(source: &mut Source, stream: usize) -> Result<Survey, JobError> {
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
        ..Survey::default()
    })
}

/// When the first sample comes out of the decoder: containers do not say how much of it is priming.
fn first_sound(desk: &Desk<'_>, stream: usize) -> Result<Option<i64>, JobError> {
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

/// What the first picture that decodes tells.
fn first_picture<T>(
    desk: &Desk<'_>,
    stream: usize,
    told: impl Fn(&Decoded<Still>) -> T,
) -> Result<Option<T>, JobError> {
    let mut source = desk.open()?;
    source.keep(&[stream]);
    let mut decoder = VideoDecoder::video(&source, stream, 1, &desk.request.limits)?;
    let mut first = None;
    for _ in 0..PACKETS {
        let packet = source.next()?;
        let last = packet.is_none();
        if packet
            .as_ref()
            .is_none_or(|packet| packet.stream() == stream)
        {
            decoder.feed(packet.as_ref(), &mut |decoded| {
                first.get_or_insert_with(|| told(&decoded));
                Ok(())
            })?;
        }
        if first.is_some() || last {
            break;
        }
    }
    Ok(first)
}
