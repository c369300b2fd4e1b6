//! Waveforms as wavesurfer.js takes them: `peaks`, a list per channel of numbers from -1 to 1, and `duration` in seconds.
//! Made from `waveform.dat` (audiowaveform's data format, versions 1 and 2).

use serde::Serialize;
use utoipa::ToSchema;

/// The largest waveform that is read, bytes: eight hours of stereo at the finest zoom.
pub(crate) const READ_MAX: u64 = 64 << 20;

/// Points of a channel, unless asked otherwise, and at most.
pub(crate) const POINTS: (usize, usize) = (2_000, 20_000);

/// No recording has more channels.
const CHANNELS_MAX: usize = 64;

/// What a player draws.
#[derive(Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct Peaks {
    /// Of each channel the loudest sample of each part, with its sign.
    peaks: Vec<Vec<f32>>,
    /// Seconds.
    duration: f64,
}

/// The number at `at`, little-endian.
fn number(dat: &[u8], at: usize) -> Option<u32> {
    let bytes = dat.get(at..at + 4)?.try_into().ok()?;
    Some(u32::from_le_bytes(bytes))
}

/// At most `points` of each channel; none of what is no waveform.
pub(crate) fn peaks(dat: &[u8], points: usize) -> Option<Peaks> {
    let (version, flags) = (number(dat, 0)?, number(dat, 4)?);
    let (rate, zoom, length) = (number(dat, 8)?, number(dat, 12)?, number(dat, 16)?);
    let (channels, header) = match version {
        1 => (1, 20),
        2 => (number(dat, 20)?, 24),
        _ => return None,
    };
    let (length, channels) = (
        usize::try_from(length).ok()?,
        usize::try_from(channels).ok()?,
    );
    let eight_bits = flags & 1 == 1;
    let size = if eight_bits { 1 } else { 2 };
    let data = dat.get(header..)?;
    if rate == 0
        || zoom == 0
        || !(1..=CHANNELS_MAX).contains(&channels)
        || data.len() < length.checked_mul(channels)?.checked_mul(2 * size)?
    {
        return None;
    }
    let value = |at: usize| -> f32 {
        if eight_bits {
            f32::from(data[at].cast_signed()) / 128.0
        } else {
            f32::from(i16::from_le_bytes([data[2 * at], data[2 * at + 1]])) / 32_768.0
        }
    };
    // A pair of the smallest and the largest for each pixel of each channel.
    let loudest = |pixel: usize, channel: usize| {
        let at = 2 * (pixel * channels + channel);
        louder(value(at), value(at + 1))
    };
    let points = points.min(length);
    let part = |point: usize| (point * length / points)..((point + 1) * length / points);
    let of_channel = |channel| {
        let point = |point| {
            part(point)
                .map(|pixel| loudest(pixel, channel))
                .fold(0.0, louder)
        };
        (0..points).map(point).collect()
    };
    Some(Peaks {
        peaks: (0..channels).map(of_channel).collect(),
        duration: length as f64 * f64::from(zoom) / f64::from(rate),
    })
}

fn louder(one: f32, other: f32) -> f32 {
    if other.abs() > one.abs() { other } else { one }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dat(version: u32, flags: u32, channels: u32, length: u32, data: &[u8]) -> Vec<u8> {
        let mut numbers = vec![version, flags, 48_000, 480, length];
        numbers.extend((version == 2).then_some(channels));
        let header = numbers.iter().flat_map(|number| number.to_le_bytes());
        header.chain(data.iter().copied()).collect()
    }

    #[test]
    fn the_loudest_of_each_part_is_drawn() {
        let data = [(-128i8, 64i8), (-32, 64), (0, 0), (-1, 127)];
        let bytes: Vec<u8> = data
            .iter()
            .flat_map(|(low, high)| [low.cast_unsigned(), high.cast_unsigned()])
            .collect();
        let drawn = peaks(&dat(1, 1, 1, 4, &bytes), 2).unwrap();
        assert_eq!(drawn.peaks, [[-1.0, 127.0 / 128.0]]);
        assert!((drawn.duration - 0.04).abs() < 1e-9);
        assert_eq!(
            peaks(&dat(1, 1, 1, 4, &bytes), 100).unwrap().peaks[0].len(),
            4
        );
    }

    #[test]
    fn channels_stay_apart() {
        let data: Vec<u8> = [-16_384i16, 0, 0, 8_192]
            .iter()
            .flat_map(|sample| sample.to_le_bytes())
            .collect();
        let drawn = peaks(&dat(2, 0, 2, 1, &data), 10).unwrap();
        assert_eq!(drawn.peaks, [[-0.5], [0.25]]);
    }

    #[test]
    fn what_is_no_waveform_or_ends_early_is_none() {
        assert_eq!(peaks(b"", 10), None);
        assert_eq!(peaks(&dat(3, 1, 1, 1, &[0, 0]), 10), None);
        assert_eq!(peaks(&dat(2, 1, 2, 2, &[0; 7]), 10), None);
        assert_eq!(peaks(&dat(2, 1, 0, 2, &[]), 10), None);
        assert_eq!(peaks(&dat(2, 0, u32::MAX, u32::MAX, &[0; 64]), 10), None);
        assert_eq!(
            peaks(&dat(1, 1, 1, 0, &[]), 10).unwrap().peaks,
            [Vec::<f32>::new()]
        );
    }
}
