//! Older versions of an asset's facts.

use schemars::{JsonSchema, Schema, schema_for};
use serde_json::{Value, json};

use crate::id::{AssetId, JobId};

/// `asset.probed` in version 1. Only its schema is still needed: the step works on the payload itself, so that it need
/// never change with the types of today.
#[derive(JsonSchema)]
#[schemars(description = "What the file really is, as measured while decoding.")]
#[expect(dead_code, reason = "a shape that is read nowhere")]
struct AssetProbed1 {
    /// The asset.
    asset: AssetId,
    /// The job that looked.
    job: JobId,
    /// The measurements.
    media: MediaFacts1,
}

#[derive(Default, serde::Serialize, JsonSchema)]
#[serde(default)]
#[schemars(
    rename = "MediaFacts",
    description = "Measured properties of a media file; what it does not have is absent."
)]
struct MediaFacts1 {
    /// Container format, e.g. `mov,mp4`.
    container: String,
    /// Length, milliseconds.
    duration_ms: Option<u64>,
    /// Picture width as displayed, pixels.
    width: Option<u32>,
    /// Picture height as displayed, pixels.
    height: Option<u32>,
    /// Frames per second.
    frame_rate: Option<f64>,
    /// Codec of the chosen video track.
    video_codec: Option<String>,
    /// Codec of the chosen audio track.
    audio_codec: Option<String>,
    /// Sample rate of the chosen audio track, Hz.
    sample_rate: Option<u32>,
    /// Channels of the chosen audio track.
    channels: Option<u16>,
}

pub(super) fn probed_1() -> Schema {
    schema_for!(AssetProbed1)
}

/// The rates that cameras and transcoders really use. The transcoder has a list like it, which may grow; this one must
/// not, or the same stored fact would read differently from one release to the next.
const NOMINAL: [(u32, u32); 15] = [
    (5, 1),
    (10, 1),
    (12, 1),
    (25, 2),
    (15, 1),
    (20, 1),
    (24_000, 1001),
    (24, 1),
    (25, 1),
    (30_000, 1001),
    (30, 1),
    (48, 1),
    (50, 1),
    (60_000, 1001),
    (60, 1),
];

/// How far, relatively, a float may be from the nominal rate that it means: 23.976 and 24 are twice as far apart.
const NEAR: f64 = 0.0005;

/// `media.frame_rate` becomes a fraction; all else stays.
pub(super) fn probed_1_to_2(mut payload: Value) -> Result<Value, String> {
    let Some(rate) = payload.pointer_mut("/media/frame_rate") else {
        return Ok(payload);
    };
    if !rate.is_null() {
        let per_second = rate
            .as_f64()
            .ok_or_else(|| format!("media.frame_rate is {rate} and not a number"))?;
        *rate =
            fraction(per_second).map_or(Value::Null, |(num, den)| json!({"num": num, "den": den}));
    }
    Ok(payload)
}

/// The rate that a float was written for; none where it is none at all.
fn fraction(per_second: f64) -> Option<(u32, u32)> {
    let value = |(num, den): (u32, u32)| f64::from(num) / f64::from(den);
    let distance = |rate: (u32, u32)| (value(rate) - per_second).abs();
    let nearest = |a: &(u32, u32), b: &(u32, u32)| distance(*a).total_cmp(&distance(*b));
    let nominal = NOMINAL.into_iter().min_by(nearest)?;
    if distance(nominal) <= per_second * NEAR {
        return Some(nominal);
    }
    let numerator = |den: u32| {
        let num = (per_second * f64::from(den)).round();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "whole and within the limits of u32"
        )]
        (1.0..=f64::from(u32::MAX))
            .contains(&num)
            .then_some((num as u32, den))
    };
    let (num, den) = [1000, 1001]
        .into_iter()
        .filter_map(numerator)
        .min_by(nearest)?;
    let common = gcd(num, den);
    Some((num / common, den / common))
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_float_becomes_the_rate_it_was_written_for() {
        for (float, rate) in [
            (23.976, (24_000, 1001)),
            (24_000.0 / 1001.0, (24_000, 1001)),
            (24.0, (24, 1)),
            (29.97, (30_000, 1001)),
            (30.01, (30, 1)),
            (12.5, (25, 2)),
            (59.94, (60_000, 1001)),
            (7.0, (7, 1)),
            (120.0, (120, 1)),
            (119.88, (2997, 25)),
            (120_000.0 / 1001.0, (120_000, 1001)),
            (0.001, (1, 1000)),
        ] {
            assert_eq!(fraction(float), Some(rate), "{float}");
        }
    }

    #[test]
    fn a_float_that_is_no_rate_becomes_none() {
        for float in [0.0, -25.0, 1e-9, 1e12] {
            assert_eq!(fraction(float), None, "{float}");
        }
    }

    #[test]
    fn only_the_frame_rate_changes_and_its_absence_stays() {
        let up = |payload: &Value| probed_1_to_2(payload.clone()).unwrap();
        let there = json!({"asset": 1, "media": {"frame_rate": 25.0, "width": 2}, "new": 3});
        let rate = json!({"num": 25, "den": 1});
        assert_eq!(
            up(&there),
            json!({"asset": 1, "media": {"frame_rate": rate, "width": 2}, "new": 3})
        );
        for absent in [json!({"media": {}}), json!({"media": {"frame_rate": null}})] {
            assert_eq!(up(&absent), absent);
        }
    }

    proptest! {
        #[test]
        fn no_rate_moves_by_more_than_a_nominal_rates_tolerance(per_second in 1.0..1000.0_f64) {
            let (num, den) = fraction(per_second).unwrap();
            let moved = (f64::from(num) / f64::from(den) / per_second - 1.0).abs();
            prop_assert!(moved <= NEAR * 1.001, "{per_second} became {num}/{den}");
        }
    }
}
