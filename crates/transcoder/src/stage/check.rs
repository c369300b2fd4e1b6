//! Checks made files by reading them again, in a child of its own: an output is whole, or it is not there.

use std::fs::File;

use crate::error::{JobError, Kind};
use crate::limits::Limits;
use crate::media::{AudioDecoder, Packet, Source, VideoDecoder};
use crate::wire::Expectation;

/// What the container and the encoders may add or lose at the ends.
const SLACK_MS: u64 = 150;
/// Packets of sound decoded at the end.
const LAST_SOUND: usize = 4;

/// Streams, sizes, duration, and that the end decodes.
pub(crate) fn check(
    files: &[File],
    expected: &[Expectation],
    limits: &Limits,
) -> Result<(), JobError> {
    if files.len() != expected.len() {
        return Err(JobError::infra("check outputs", "some are not there"));
    }
    for (file, expected) in files.iter().zip(expected) {
        is_whole(file, expected, limits).map_err(|error| wrong(&expected.name, &error))?;
    }
    Ok(())
}

fn is_whole(file: &File, expected: &Expectation, limits: &Limits) -> Result<(), JobError> {
    let mut source = Source::open(file, &expected.demuxer, limits)?;
    let facts = source.facts();
    let picture = facts
        .picture()
        .map(|picture| (picture.width, picture.height));
    if picture != expected.picture || facts.audio.is_some() != expected.sound {
        let found = (picture, facts.audio.is_some());
        let wanted = (expected.picture, expected.sound);
        return Err(JobError::input(format!(
            "its picture and whether it has sound are {found:?}, not {wanted:?}"
        )));
    }
    let stream = |at: Option<usize>| at.map(|at| facts.tracks[at].index);
    let (video, audio) = (stream(facts.video), stream(facts.audio));
    let tail = read_through(&mut source, video, audio)?;
    let ms = tail.end_ns.max(0).unsigned_abs() / 1_000_000;
    if expected.duration_ms > 0 && ms.abs_diff(expected.duration_ms) > SLACK_MS {
        return Err(JobError::input(format!(
            "it lasts {ms} ms, not {}",
            expected.duration_ms
        )));
    }
    if let Some(stream) = video {
        let mut decoder = VideoDecoder::video(&source, stream, 1, limits)?;
        for packet in tail.pictures.iter().map(Some).chain([None]) {
            decoder.feed(packet, &mut |_| Ok(()))?;
        }
        decodes("picture", decoder.frames, decoder.errors)?;
    }
    if let Some(stream) = audio {
        let mut decoder = AudioDecoder::audio(&source, stream, limits)?;
        for packet in tail.sounds.iter().map(Some).chain([None]) {
            decoder.feed(packet, &mut |_| Ok(()))?;
        }
        decodes("sound", decoder.frames, decoder.errors)?;
    }
    Ok(())
}

struct Tail {
    /// Since the last keyframe.
    pictures: Vec<Packet>,
    sounds: Vec<Packet>,
    end_ns: i64,
}

fn read_through(
    source: &mut Source,
    video: Option<usize>,
    audio: Option<usize>,
) -> Result<Tail, JobError> {
    let mut tail = Tail {
        pictures: Vec::new(),
        sounds: Vec::new(),
        end_ns: 0,
    };
    while let Some(packet) = source.next()? {
        tail.end_ns = tail.end_ns.max(source.end_ns(&packet).unwrap_or(0));
        if Some(packet.stream()) == video {
            if packet.is_key() {
                tail.pictures.clear();
            }
            tail.pictures.push(packet);
        } else if Some(packet.stream()) == audio {
            tail.sounds.push(packet);
            if tail.sounds.len() > LAST_SOUND {
                tail.sounds.remove(0);
            }
        }
    }
    Ok(tail)
}

fn decodes(what: &str, frames: u64, errors: u64) -> Result<(), JobError> {
    if frames == 0 || errors > 0 {
        return Err(JobError::input(format!("the last {what} does not decode")));
    }
    Ok(())
}

/// A bad output is our fault, not the input's.
fn wrong(name: &str, error: &JobError) -> JobError {
    let kind = match error.kind {
        Kind::Input => Kind::Infra,
        kind => kind,
    };
    JobError::new(kind, format!("could not keep {name}: {}", error.message))
}
