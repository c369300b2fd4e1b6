//! Captions: subtitles that are text, on the proxy's timeline, a WebVTT file for each track.

use std::collections::BTreeMap;

use super::{file, note_errors, write};
use crate::error::JobError;
use crate::format::vtt::{self, Cue, cue_text};
use crate::media::{CaptionDecoder, Dialogue, Packet, Source};
use crate::probe::{Facts, Track};
use crate::wire::{Made, Warning};

/// What is kept of one track, with what each cue takes besides its text.
const MOST_BYTES: usize = 8 << 20;
const CUE_BYTES: usize = 64;
/// A packet with more is no subtitle.
const MOST_PACKET: usize = 64 << 10;
/// How long something is shown whose end nobody tells.
const SHOWN_NS: i64 = 5_000_000_000;

/// The tracks of subtitles of an input.
pub(super) struct Captions {
    tracks: Vec<Subtitles>,
    /// What cannot be read.
    refused: Vec<String>,
}

struct Subtitles {
    stream: usize,
    language: String,
    decoder: CaptionDecoder,
    said: Vec<(i64, Option<i64>, String)>,
    bytes: usize,
}

impl Captions {
    /// Those that are text and decode.
    pub(super) fn open(source: &Source, facts: &Facts) -> Self {
        let (mut tracks, mut refused) = (Vec::new(), Vec::new());
        for track in facts.tracks.iter().filter(|track| track.kind == "subtitle") {
            match CaptionDecoder::open(source, track.index) {
                Ok(decoder) if track.decodable => tracks.push(Subtitles {
                    stream: track.index,
                    language: language(track),
                    decoder,
                    said: Vec::new(),
                    bytes: 0,
                }),
                _ => refused.push(format!("track {} ({})", track.index, track.codec)),
            }
        }
        Self { tracks, refused }
    }

    /// Their streams.
    pub(super) fn streams(&self) -> impl Iterator<Item = usize> {
        self.tracks.iter().map(|track| track.stream)
    }

    /// Takes a packet, if it is of one of them.
    pub(super) fn packet(&mut self, packet: &Packet) {
        let track = self
            .tracks
            .iter_mut()
            .find(|track| track.stream == packet.stream());
        let track = track.filter(|track| track.bytes < MOST_BYTES && packet.size() <= MOST_PACKET);
        let said = track.and_then(|track| track.decoder.decode(packet).map(|said| (track, said)));
        if let Some((track, dialogue)) = said {
            track.say(&dialogue);
        }
    }

    /// Writes a file for each track that says something.
    pub(super) fn finish(self, made: &mut Made) -> Result<(), JobError> {
        let mut names: BTreeMap<String, u32> = BTreeMap::new();
        let mut errors = 0;
        for track in self.tracks {
            errors += track.decoder.errors;
            if track.bytes >= MOST_BYTES {
                made.warnings.push(Warning::new(
                    "captions_cut",
                    format!(
                        "the subtitles of track {} are too long; captions end early",
                        track.stream
                    ),
                ));
            }
            let cues = cues(track.said, made.plan.origin_ns, made.measured.duration_ms());
            if cues.is_empty() {
                continue;
            }
            let count = names.entry(track.language.clone()).or_default();
            *count += 1;
            let name = match count {
                1 => format!("captions-{}.vtt", track.language),
                count => format!("captions-{}-{count}.vtt", track.language),
            };
            write(&name, vtt::write(&cues).as_bytes())?;
            made.files.push(file(&name));
        }
        if !self.refused.is_empty() {
            let message = format!(
                "subtitles that are no text we read: {}",
                self.refused.join(", ")
            );
            made.warnings.push(Warning::new("no_captions", message));
        }
        note_errors(made, "captions", errors);
        Ok(())
    }
}

impl Subtitles {
    fn say(&mut self, dialogue: &Dialogue) {
        let lines = dialogue.lines.iter().map(|line| cue_text(line));
        let lines: Vec<String> = lines.filter(|line| !line.is_empty()).collect();
        let text = lines.join("\n");
        self.bytes += text.len() + CUE_BYTES;
        // Without text it ends what is shown until something else is.
        self.said.push((dialogue.start_ns, dialogue.end_ns, text));
    }
}

/// The language of a track as its file writes it, if that can be part of a name.
fn language(track: &Track) -> String {
    let told = track
        .language
        .as_deref()
        .unwrap_or_default()
        .to_ascii_lowercase();
    let usable =
        (2..=8).contains(&told.len()) && told.bytes().all(|byte| byte.is_ascii_lowercase());
    if usable { told } else { "und".to_owned() }
}

/// Cues in order, on the timeline, none beyond its ends.
fn cues(mut said: Vec<(i64, Option<i64>, String)>, origin_ns: i64, duration_ms: u64) -> Vec<Cue> {
    said.sort_by_key(|(start, ..)| *start);
    let ms = |ns: i64| ns.saturating_sub(origin_ns).max(0).unsigned_abs() / 1_000_000;
    let next = said
        .iter()
        .skip(1)
        .map(|(start, ..)| Some(*start))
        .chain([None]);
    let next: Vec<Option<i64>> = next.collect();
    said.into_iter()
        .zip(next)
        .map(|((start, end, text), next)| {
            let shown = start.saturating_add(SHOWN_NS);
            let end = end.unwrap_or_else(|| next.map_or(shown, |next| next.min(shown)));
            Cue {
                start_ms: ms(start),
                end_ms: ms(end).min(duration_ms),
                text,
            }
        })
        .filter(|cue| cue.start_ms < cue.end_ms && !cue.text.is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;

    fn said(start: i64, end: Option<i64>, text: &str) -> (i64, Option<i64>, String) {
        (start * SECOND, end.map(|end| end * SECOND), text.to_owned())
    }

    fn times(said: Vec<(i64, Option<i64>, String)>) -> Vec<(u64, u64)> {
        let cues = cues(said, SECOND, 20_000);
        cues.iter().map(|cue| (cue.start_ms, cue.end_ms)).collect()
    }

    #[test]
    fn cues_lie_on_the_timeline_and_not_beyond_its_ends() {
        let all = vec![
            said(19, Some(40), "c"),
            said(0, Some(3), "a"),
            said(30, Some(31), "d"),
            said(5, Some(6), "b"),
        ];
        assert_eq!(times(all), [(0, 2000), (4000, 5000), (18_000, 20_000)]);
    }

    #[test]
    fn without_an_end_a_cue_lasts_until_the_next_or_for_a_while() {
        let all = vec![said(1, None, "a"), said(3, None, ""), said(10, None, "b")];
        assert_eq!(times(all), [(0, 2000), (9000, 14_000)]);
    }

    #[test]
    fn a_language_that_is_no_word_is_not_determined() {
        let named = |told: &str| {
            language(&Track {
                language: Some(told.to_owned()),
                ..Track::default()
            })
        };
        assert_eq!(named("spa"), "spa");
        assert_eq!(named("ES"), "es");
        for odd in ["", "../../etc", "e", "muchtoolong", "es-MX"] {
            assert_eq!(named(odd), "und");
        }
    }
}
