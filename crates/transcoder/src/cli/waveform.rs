//! `waveform`: from media or another waveform to a waveform or its picture.

use std::io::Read;
use std::path::{Path, PathBuf};

use clap::Args;
use tokio_util::sync::CancellationToken;

use super::{Shared, no_file, open, write_whole};
use crate::error::JobError;
use crate::format::picture::{Colours, HEIGHT, MAX_SIDE, WIDTH, png};
use crate::format::scale::Scale;
use crate::format::waveform::Waveform;
use crate::profile::WAVEFORM;
use crate::run::Runner;
use crate::scratch::Scratch;
use crate::wire::{Drawing, Timeline};

/// Options of `waveform`.
#[derive(Debug, Args)]
pub struct WaveformArgs {
    /// Media, or a waveform as .dat or .json.
    pub file: PathBuf,
    /// Where to; the ending names the format: .dat, .json or .png.
    #[arg(short, long)]
    pub output: PathBuf,
    /// Samples per point, or `auto`: as many as make all of it `--width` points [default: 256, or what a waveform has].
    #[arg(long, value_name = "N|auto", value_parser = zoom, conflicts_with = "pixels_per_second")]
    pub zoom: Option<Zoom>,
    /// Points per second instead.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub pixels_per_second: Option<u32>,
    /// Bits per value, 8 or 16 [default: 16, or what a waveform has].
    #[arg(long, value_parser = ["8", "16"])]
    pub bits: Option<String>,
    /// Keep channels apart instead of mixing them.
    #[arg(long)]
    pub split_channels: bool,
    /// What values are multiplied by, or `auto`: so that the highest fills the range.
    #[arg(long, value_name = "X|auto", value_parser = amplitude)]
    pub amplitude_scale: Option<Amplitude>,
    /// Leave out what comes before, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 0.0, value_parser = seconds)]
    pub start: f64,
    /// Leave out what comes after, in seconds. A picture without a zoom shows what is left on all its width.
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub end: Option<f64>,
    /// Begin and end where the proxy does, or draw what audiowaveform would: sample after sample, an MP3 with what its coder
    /// put behind the sound, and a number as `--amplitude-scale` in pictures only.
    #[arg(long, value_enum, default_value = "proxy")]
    pub timeline: Timeline,
    /// Of a picture.
    #[arg(long, default_value_t = WIDTH, value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_SIDE)))]
    pub width: u32,
    /// Of a picture.
    #[arg(long, default_value_t = HEIGHT, value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_SIDE)))]
    pub height: u32,
    /// Of a picture: `audacity`, `audition`, or `rrggbb,rrggbb`, behind and the waveform.
    #[arg(long, default_value = "audacity")]
    pub colors: Colours,
    /// Options that every command has.
    #[command(flatten)]
    pub shared: Shared,
}

/// `--zoom`.
#[derive(Debug, Clone, Copy)]
pub enum Zoom {
    /// All in the width.
    Auto,
    /// Samples per point.
    Samples(u32),
}

/// `--amplitude-scale`.
#[derive(Debug, Clone, Copy)]
pub enum Amplitude {
    /// The highest fills the range.
    Auto,
    /// A factor.
    Times(f64),
}

fn zoom(text: &str) -> Result<Zoom, &'static str> {
    match text {
        "auto" => Ok(Zoom::Auto),
        number => number
            .parse()
            .ok()
            .filter(|samples| *samples >= 2)
            .map(Zoom::Samples)
            .ok_or("`auto`, or a number of samples from 2 on"),
    }
}

fn amplitude(text: &str) -> Result<Amplitude, &'static str> {
    match text {
        "auto" => Ok(Amplitude::Auto),
        number => positive(number)
            .map(Amplitude::Times)
            .ok_or("`auto`, or a number that is not negative"),
    }
}

fn seconds(text: &str) -> Result<f64, &'static str> {
    positive(text).ok_or("a number of seconds that is not negative")
}

fn positive(text: &str) -> Option<f64> {
    let number: f64 = text.parse().ok()?;
    (number.is_finite() && number >= 0.0).then_some(number)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    Dat,
    Json,
    Png,
}

impl Format {
    fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()?.to_lowercase().as_str() {
            "dat" => Some(Self::Dat),
            "json" => Some(Self::Json),
            "png" => Some(Self::Png),
            _ => None,
        }
    }
}

pub(super) fn waveform(args: &WaveformArgs, cancel: &CancellationToken) -> Result<(), JobError> {
    let format = Format::of(&args.output)
        .ok_or_else(|| JobError::usage("the output's ending is none of .dat, .json and .png"))?;
    if args.end.is_some_and(|end| end <= args.start) {
        return Err(JobError::usage("`--end` does not come after `--start`"));
    }
    let read = args.read(format, cancel)?;
    let shown = args.show(read, format);
    let bytes = match format {
        Format::Dat => shown.to_dat(),
        Format::Json => shown.to_json().into_bytes(),
        Format::Png => png(&shown, (args.width, args.height), args.colors)
            .map_err(|error| JobError::infra("draw the waveform", error))?,
    };
    write_whole(&args.output, &bytes)
}

impl WaveformArgs {
    /// Samples per point, if any are asked for.
    fn scale(&self, format: Format) -> Option<Scale> {
        match (self.zoom, self.pixels_per_second, self.end) {
            (Some(Zoom::Auto), ..) => Some(Scale::Whole(self.width)),
            (Some(Zoom::Samples(samples)), ..) => Some(Scale::Zoom(samples)),
            (None, Some(points), _) => Some(Scale::PerSecond(points)),
            (None, None, Some(end)) if format == Format::Png => {
                Some(Scale::Span(end - self.start, self.width))
            }
            _ => None,
        }
    }

    /// The waveform with the points that are asked for.
    fn read(&self, format: Format, cancel: &CancellationToken) -> Result<Waveform, JobError> {
        let bad = |error: &dyn std::fmt::Display| JobError::input(error.to_string());
        let read = || {
            let file = open(&self.file)?;
            // What never ends is no waveform, whatever its name.
            if !file.metadata().is_ok_and(|metadata| metadata.is_file()) {
                return Err(JobError::input("not a regular file"));
            }
            let mut bytes = Vec::new();
            (&file)
                .read_to_end(&mut bytes)
                .map_err(|error| no_file(&error))?;
            Ok(bytes)
        };
        let kept = match Format::of(&self.file) {
            Some(Format::Dat) => Waveform::from_dat(&read()?).map_err(|error| bad(&error))?,
            Some(Format::Json) => Waveform::from_json(&String::from_utf8_lossy(&read()?))
                .map_err(|error| bad(&error))?,
            _ => return self.draw(format, cancel),
        };
        let Some(scale) = self.scale(format) else {
            return Ok(kept);
        };
        let samples = kept.len() as u64 * u64::from(kept.samples_per_pixel);
        kept.coarser(scale.samples_per_pixel(kept.sample_rate, samples))
            .map_err(|error| JobError::usage(error.to_string()))
    }

    /// The waveform of media.
    fn draw(&self, format: Format, cancel: &CancellationToken) -> Result<Waveform, JobError> {
        let input = open(&self.file)?;
        let scratch = Scratch::make(&std::env::temp_dir(), "cinelog-run-")
            .map_err(|error| JobError::infra("make a scratch folder", error))?;
        let drawing = Drawing {
            scale: self.scale(format).unwrap_or(WAVEFORM.scale),
            split_channels: self.split_channels,
            timeline: self.timeline,
        };
        let runner = Runner::this_executable(self.shared.sandbox)?;
        runner.waveform(&input, drawing, scratch.path(), cancel)
    }

    /// What of it is shown, as high as it is asked to be.
    fn show(&self, waveform: Waveform, format: Format) -> Waveform {
        let mut shown = waveform.between(self.start, self.end);
        if format == Format::Png {
            let values = self.width as usize * 2 * shown.channels as usize;
            shown.data.truncate(values);
        }
        let as_there = self.timeline == Timeline::Audiowaveform && format != Format::Png;
        let shown = match self.amplitude_scale {
            Some(Amplitude::Auto) => {
                let factor = shown.full_scale();
                shown.scaled(factor)
            }
            Some(Amplitude::Times(factor)) if !as_there => shown.scaled(factor),
            _ => shown,
        };
        match self.bits.as_deref() {
            Some("8") => shown.to_eight_bits(),
            Some(_) => shown.to_sixteen_bits(),
            None => shown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_make_no_sense_are_refused() {
        assert!(matches!(zoom("auto"), Ok(Zoom::Auto)));
        assert!(matches!(zoom("2"), Ok(Zoom::Samples(2))));
        for wrong in ["1", "0", "-5", "x", ""] {
            assert!(zoom(wrong).is_err(), "{wrong}");
        }
        for wrong in ["-1", "NaN", "inf", "x"] {
            assert!(amplitude(wrong).is_err(), "{wrong}");
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }
}
