//! Whatever a container claims, there is a plan within bounds or a refusal; whatever the clocks say, time adds up.

#![no_main]

use arbitrary::Arbitrary;
use fuzz::plan::{Survey, Target, plan};
use fuzz::probe::{Colour, Facts, Picture, Sound, Track, choose};
use fuzz::profile::{LONG_SIDE, Profile, SHORT_SIDE};
use fuzz::timeline::{Cadence, RATES, Rate, Row};
use libfuzzer_sys::fuzz_target;

/// What a file says.
#[derive(Arbitrary, Debug)]
struct Claims {
    tracks: Vec<Claim>,
    times_ns: Vec<i64>,
    tick_ns: u32,
    steady: bool,
    first_ns: Option<i64>,
    sound_ns: Option<i64>,
}

#[derive(Arbitrary, Debug)]
struct Claim {
    index: u8,
    is_default: bool,
    start_ns: Option<i64>,
    picture: Option<PictureClaim>,
    sound: Option<(u32, u32)>,
}

#[derive(Arbitrary, Debug)]
struct PictureClaim {
    size: (u32, u32),
    pixel_aspect: (u32, u32),
    matrix: Option<[i32; 4]>,
    interlaced: bool,
    rate: Option<(u32, u32)>,
    dolby_vision: Option<u8>,
    colour: [u8; 5],
}

fn name(names: &[&str], at: u8) -> String {
    names[usize::from(at) % names.len()].to_owned()
}

impl PictureClaim {
    fn picture(&self) -> Picture {
        let [matrix, primaries, transfer, range, format] = self.colour;
        let colour = Colour {
            matrix: name(
                &["unknown", "bt709", "bt2020nc", "smpte170m", "fcc", "gbr"],
                matrix,
            ),
            primaries: name(&["unknown", "bt709", "bt2020"], primaries),
            transfer: name(&["unknown", "bt709", "smpte2084", "arib-std-b67"], transfer),
            range: name(&["unknown", "tv", "pc"], range),
        };
        let (width, height) = self.size;
        Picture {
            width,
            height,
            pixel_aspect: self.pixel_aspect,
            format: name(&["yuv420p", "yuvj420p", "rgb24", ""], format),
            matrix: self.matrix,
            interlaced: self.interlaced,
            colour,
            rate: self.rate,
            dolby_vision: self.dolby_vision,
            ..Picture::default()
        }
    }
}

impl Claim {
    fn track(&self) -> Track {
        let sound = |(rate, channels)| Sound {
            rate,
            channels,
            ..Sound::default()
        };
        Track {
            index: usize::from(self.index),
            decodable: true,
            disposition: self
                .is_default
                .then(|| "default".to_owned())
                .into_iter()
                .collect(),
            start_ns: self.start_ns,
            picture: self.picture.as_ref().map(PictureClaim::picture),
            sound: self.sound.map(sound),
            ..Track::default()
        }
    }
}

fuzz_target!(|claims: Claims| {
    let tracks: Vec<_> = claims.tracks.iter().map(Claim::track).collect();
    let (video, audio) = choose(&tracks);
    let facts = Facts {
        tracks,
        video,
        audio,
        ..Facts::default()
    };
    let survey = Survey {
        rate: Rate::of(
            &mut claims.times_ns.clone(),
            i64::from(claims.tick_ns).max(1),
        ),
        steady: claims.steady,
        first_ns: claims.first_ns,
        sound_ns: claims.sound_ns,
        ..Survey::default()
    };
    let edited = plan(Profile::Edit1, &facts, &survey).ok();
    if let Some(edit) = edited.and_then(|plan| plan.edit) {
        assert!(edit.width % 2 == 0 && edit.height % 2 == 0, "{edit:?}");
        assert!(edit.width.max(edit.height) >= 256, "{edit:?}");
        assert!(edit.filters().contains("scale="));
    }
    let Ok(plan) = plan(Profile::Proxy720V1, &facts, &survey) else {
        return;
    };
    let mut rate = RATES[0];
    if let Some(video) = &plan.video {
        for side in [video.width, video.height] {
            assert!(side % 2 == 0 && (2..=LONG_SIDE).contains(&side), "{plan:?}");
        }
        assert!(video.width.min(video.height) <= SHORT_SIDE, "{plan:?}");
        assert!(RATES.contains(&video.rate), "{plan:?}");
        for target in [Target::Video, Target::Jpeg] {
            assert!(video.filters(target).contains("scale="));
        }
        rate = video.rate;
    }
    if let Some(audio) = &plan.audio {
        assert!((1..=2).contains(&audio.channels), "{plan:?}");
        for channels in [1, 2, 6] {
            assert!(
                [true, false]
                    .iter()
                    .all(|known| !audio.filters(channels, *known).is_empty())
            );
        }
    }
    keep_time(&claims.times_ns, plan.origin_ns, rate);
});

/// Pictures and samples at these times: what is shown and placed only ever grows.
fn keep_time(times_ns: &[i64], origin_ns: i64, rate: Rate) {
    let (mut cadence, mut row) = (Cadence::new(rate), Row::new(48_000));
    for ns in times_ns {
        let ns = ns.saturating_sub(origin_ns);
        cadence.show(ns);
        let (before, placement) = (row.len, row.place(Some(ns), 1024));
        assert!(placement.skip <= 1024 && row.len >= before);
    }
    let end = times_ns
        .last()
        .copied()
        .unwrap_or(0)
        .saturating_sub(origin_ns);
    assert!(times_ns.is_empty() || cadence.end(end) > 0);
}
