//! One byte range of an object, as HTTP's `Range` asks for it.

use std::ops::Range;

/// Part of an object, or all of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ByteRange {
    /// All bytes (`200`).
    Whole,
    /// These bytes (`206`).
    Part(Range<u64>),
}

/// No byte of the object is in the range asked for (`416`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the range is beyond the object's {total} bytes")]
pub struct Unsatisfiable {
    /// The object's size.
    pub total: u64,
}

impl ByteRange {
    /// What the header `value` asks for of `total` bytes. Several ranges, other units and malformed values ask for
    /// nothing in particular, so the whole is served, as HTTP allows.
    pub fn parse(value: Option<&str>, total: u64) -> Result<Self, Unsatisfiable> {
        let Some((first, last)) = value
            .and_then(|v| v.strip_prefix("bytes="))
            .and_then(|v| v.split_once('-'))
        else {
            return Ok(Self::Whole);
        };
        let range = match (number(first), number(last)) {
            (Some(first), Some(last)) if first <= last => first..last.saturating_add(1).min(total),
            (Some(first), None) if last.is_empty() => first..total,
            (None, Some(suffix)) if first.is_empty() => total.saturating_sub(suffix)..total,
            _ => return Ok(Self::Whole),
        };
        if range.is_empty() {
            Err(Unsatisfiable { total })
        } else {
            Ok(Self::Part(range))
        }
    }

    /// The bytes it covers of `total`.
    pub fn of(&self, total: u64) -> Range<u64> {
        match self {
            Self::Whole => 0..total,
            Self::Part(range) => range.clone(),
        }
    }
}

/// Digits only: `parse` alone would also take a sign.
fn number(text: &str) -> Option<u64> {
    text.bytes()
        .all(|b| b.is_ascii_digit())
        .then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(value: &str) -> Result<ByteRange, Unsatisfiable> {
        ByteRange::parse(Some(value), 10)
    }

    #[test]
    fn ranges_are_cut_to_the_object() {
        assert_eq!(parse("bytes=0-3"), Ok(ByteRange::Part(0..4)));
        assert_eq!(parse("bytes=4-"), Ok(ByteRange::Part(4..10)));
        assert_eq!(parse("bytes=-3"), Ok(ByteRange::Part(7..10)));
        assert_eq!(parse("bytes=-30"), Ok(ByteRange::Part(0..10)));
        assert_eq!(parse("bytes=8-99"), Ok(ByteRange::Part(8..10)));
        assert_eq!(
            parse("bytes=0-18446744073709551615"),
            Ok(ByteRange::Part(0..10))
        );
    }

    #[test]
    fn ranges_beyond_the_object_are_refused() {
        assert_eq!(parse("bytes=10-"), Err(Unsatisfiable { total: 10 }));
        assert_eq!(parse("bytes=11-12"), Err(Unsatisfiable { total: 10 }));
        assert_eq!(parse("bytes=-0"), Err(Unsatisfiable { total: 10 }));
    }

    #[test]
    fn what_is_no_single_range_asks_for_the_whole() {
        for value in [
            "bytes=0-1,3-4",
            "bytes=5-4",
            "bytes=-",
            "bytes=+1-3",
            "items=0-1",
            "",
            "bytes=a-b",
        ] {
            assert_eq!(parse(value), Ok(ByteRange::Whole), "{value}");
        }
        assert_eq!(ByteRange::parse(None, 10), Ok(ByteRange::Whole));
    }
}
