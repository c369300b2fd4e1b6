//! Peaks of sound in the two formats of audiowaveform: binary `.dat` (versions 1 and 2) and JSON.
//!
//! Eight bits are the value divided by 256, truncated toward zero.

use serde::{Deserialize, Serialize};

/// How many bits a value has in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bits {
    /// −128..127.
    Eight,
    /// −32768..32767.
    Sixteen,
}

/// Why bytes are not a waveform.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a waveform: {0}")]
pub struct NotAWaveform(&'static str);

/// A whole waveform: per point and channel a minimum and a maximum.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waveform {
    /// Samples per second of the sound.
    pub sample_rate: u32,
    /// Samples in a point.
    pub samples_per_pixel: u32,
    /// Bits of the values.
    pub bits: Bits,
    /// Channels in `data`.
    pub channels: u32,
    /// `min, max` per channel, point after point.
    pub data: Vec<i16>,
}

#[derive(Serialize, Deserialize)]
struct Json {
    #[serde(default = "version_two")]
    version: u32,
    #[serde(default = "one_channel")]
    channels: u32,
    sample_rate: u32,
    samples_per_pixel: u32,
    bits: u32,
    length: u64,
    data: Vec<i16>,
}

fn version_two() -> u32 {
    2
}

fn one_channel() -> u32 {
    1
}

impl Waveform {
    /// Points per channel.
    pub fn len(&self) -> usize {
        self.data.len() / 2 / self.channels.max(1) as usize
    }

    /// Whether there is no point at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The same with eight bits per value.
    #[must_use]
    pub fn to_eight_bits(mut self) -> Self {
        if self.bits == Bits::Sixteen {
            self.data.iter_mut().for_each(|value| *value /= 256);
            self.bits = Bits::Eight;
        }
        self
    }

    /// The binary format: version 1 with one channel, else version 2.
    pub fn to_dat(&self) -> Vec<u8> {
        let version: u32 = if self.channels == 1 { 1 } else { 2 };
        let flags = u32::from(self.bits == Bits::Eight);
        let length = u32::try_from(self.len()).unwrap_or(u32::MAX);
        let mut out = Vec::with_capacity(24 + self.data.len() * 2);
        for field in [
            version,
            flags,
            self.sample_rate,
            self.samples_per_pixel,
            length,
        ] {
            out.extend(field.to_le_bytes());
        }
        if version == 2 {
            out.extend(self.channels.to_le_bytes());
        }
        match self.bits {
            Bits::Sixteen => out.extend(self.data.iter().flat_map(|value| value.to_le_bytes())),
            Bits::Eight => out.extend(self.data.iter().map(|value| value.to_le_bytes()[0])),
        }
        out
    }

    /// Reads the binary format.
    pub fn from_dat(bytes: &[u8]) -> Result<Self, NotAWaveform> {
        let field = |at: usize| {
            let bytes = bytes
                .get(at * 4..at * 4 + 4)
                .ok_or(NotAWaveform("too short"))?;
            Ok(u32::from_le_bytes(
                bytes.try_into().map_err(|_| NotAWaveform("too short"))?,
            ))
        };
        let (header, channels) = match field(0)? {
            1 => (20, 1),
            2 => (24, field(5)?),
            _ => return Err(NotAWaveform("unknown version")),
        };
        let bits = if field(1)? & 1 == 1 {
            Bits::Eight
        } else {
            Bits::Sixteen
        };
        let width = if bits == Bits::Eight { 1 } else { 2 };
        let body = bytes.get(header..).ok_or(NotAWaveform("too short"))?;
        if body.len() as u64
            != u64::from(field(4)?)
                .saturating_mul(u64::from(channels))
                .saturating_mul(2 * width)
        {
            return Err(NotAWaveform("its length is not what its header says"));
        }
        let data = match bits {
            Bits::Eight => body
                .iter()
                .map(|byte| i16::from(i8::from_le_bytes([*byte])))
                .collect(),
            Bits::Sixteen => body
                .chunks_exact(2)
                .map(|pair| i16::from_le_bytes([pair[0], pair[1]]))
                .collect(),
        };
        Self {
            sample_rate: field(2)?,
            samples_per_pixel: field(3)?,
            bits,
            channels,
            data,
        }
        .checked()
    }

    /// The JSON format, always of version 2, compact, with a newline at its end.
    pub fn to_json(&self) -> String {
        let json = Json {
            version: 2,
            channels: self.channels,
            sample_rate: self.sample_rate,
            samples_per_pixel: self.samples_per_pixel,
            bits: if self.bits == Bits::Eight { 8 } else { 16 },
            length: self.len() as u64,
            data: self.data.clone(),
        };
        let mut text = serde_json::to_string(&json).unwrap_or_default();
        text.push('\n');
        text
    }

    /// Reads the JSON format; version and channels may be absent.
    pub fn from_json(text: &str) -> Result<Self, NotAWaveform> {
        let json: Json = serde_json::from_str(text).map_err(|_| NotAWaveform("not its JSON"))?;
        let bits = match json.bits {
            8 => Bits::Eight,
            16 => Bits::Sixteen,
            _ => return Err(NotAWaveform("neither 8 nor 16 bits")),
        };
        if json.data.len() as u64
            != json
                .length
                .saturating_mul(u64::from(json.channels))
                .saturating_mul(2)
        {
            return Err(NotAWaveform("its length is not what it says"));
        }
        let Json {
            sample_rate,
            samples_per_pixel,
            channels,
            data,
            ..
        } = json;
        Self {
            sample_rate,
            samples_per_pixel,
            bits,
            channels,
            data,
        }
        .checked()
    }

    fn checked(self) -> Result<Self, NotAWaveform> {
        if self.channels == 0 || self.sample_rate == 0 || self.samples_per_pixel < 2 {
            return Err(NotAWaveform("a field of its header is zero"));
        }
        let small = |value: &i16| i8::try_from(*value).is_ok();
        if self.bits == Bits::Eight && !self.data.iter().all(small) {
            return Err(NotAWaveform("a value takes more than its 8 bits"));
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_binary_header_is_as_published() {
        let waveform = Waveform {
            sample_rate: 44100,
            samples_per_pixel: 256,
            bits: Bits::Eight,
            channels: 1,
            data: vec![-1, 2],
        };
        assert_eq!(
            hex::encode(waveform.to_dat()),
            "010000000100000044ac00000001000001000000ff02"
        );
    }

    #[test]
    fn json_keys_come_in_the_published_order() {
        let waveform = Waveform {
            sample_rate: 8000,
            samples_per_pixel: 2,
            bits: Bits::Sixteen,
            channels: 1,
            data: vec![-1, 2],
        };
        let expected = r#"{"version":2,"channels":1,"sample_rate":8000,"samples_per_pixel":2,"bits":16,"length":1,"data":[-1,2]}"#;
        assert_eq!(waveform.to_json().trim_end(), expected);
    }

    #[test]
    fn old_json_without_version_or_channels_is_read() {
        let text =
            r#"{"sample_rate":8000,"samples_per_pixel":512,"bits":8,"length":1,"data":[-1,2]}"#;
        assert_eq!(Waveform::from_json(text).unwrap().channels, 1);
    }

    #[test]
    fn a_value_of_eight_bits_is_one() {
        let text = |value: i16| {
            format!(
                r#"{{"sample_rate":8000,"samples_per_pixel":512,"bits":8,"length":1,"data":[{value},0]}}"#
            )
        };
        assert!(Waveform::from_json(&text(-128)).is_ok());
        assert!(Waveform::from_json(&text(128)).is_err());
    }

    proptest! {
        #[test]
        fn both_formats_read_back_what_they_wrote(
            points in prop::collection::vec(any::<i16>(), 0..200), channels in 1_u32..4, eight in any::<bool>(),
        ) {
            let whole = points.len() / (2 * channels as usize) * 2 * channels as usize;
            let waveform = Waveform {
                sample_rate: 48000, samples_per_pixel: 256, bits: Bits::Sixteen, channels, data: points[..whole].to_vec(),
            };
            let waveform = if eight { waveform.to_eight_bits() } else { waveform };
            prop_assert_eq!(&Waveform::from_dat(&waveform.to_dat()).unwrap(), &waveform);
            prop_assert_eq!(&Waveform::from_json(&waveform.to_json()).unwrap(), &waveform);
        }

        #[test]
        fn arbitrary_bytes_are_refused_or_read(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            if let Ok(waveform) = Waveform::from_dat(&bytes) {
                prop_assert!(waveform.data.len() <= bytes.len());
            }
        }
    }
}
