//! What a child has made: taken only under names that it may use, as whole regular files, and only when each is what it should
//! be. What we can read ourselves we read; media are read by another child, which has no folder.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{ErrorKind, Read};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::{Job, Output, hash};
use crate::error::JobError;
use crate::format::sprite::{SHEETS, Storyboard};
use crate::format::vtt;
use crate::format::waveform::Waveform;
use crate::probe::Measured;
use crate::profile::Profile;
use crate::sandbox::process;
use crate::wire::{Expectation, Made, MadeFile, Message, Task};

/// How a file is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Check {
    /// Read again by a child with this demuxer.
    Media(&'static str),
    /// A waveform.
    Peaks,
    /// The same waveform, to the byte.
    PeaksAsJson,
    /// Where tiles are, in sheets that are there.
    Tiles,
    /// The same tiles, to the byte.
    TilesAsCues,
    /// Cues of text.
    Captions,
}

/// A file that a child may make.
#[derive(Debug, Clone, Copy)]
struct Allowed {
    check: Check,
    media_type: &'static str,
    /// What it may take at the most; the limits of the job may allow less.
    most: u64,
}

const fn small(media_type: &'static str, check: Check) -> Allowed {
    Allowed {
        check,
        media_type,
        most: 256 << 20,
    }
}

/// What we read whole ourselves.
const fn text(media_type: &'static str, check: Check) -> Allowed {
    Allowed {
        most: 16 << 20,
        ..small(media_type, check)
    }
}

impl Allowed {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "proxy.mp4" => Self {
                most: u64::MAX,
                ..small("video/mp4", Check::Media("mov"))
            },
            "edit.mov" => Self {
                most: u64::MAX,
                ..small("video/quicktime", Check::Media("mov"))
            },
            "waveform.dat" => small("application/octet-stream", Check::Peaks),
            "waveform.json" => small("application/json", Check::PeaksAsJson),
            "waveform.png" => small("image/png", Check::Media("png_pipe")),
            "poster.jpg" => small("image/jpeg", Check::Media("jpeg_pipe")),
            "sprite.json" => text("application/json", Check::Tiles),
            "sprite.vtt" => text("text/vtt", Check::TilesAsCues),
            name if SHEETS.contains(&name) => small("image/jpeg", Check::Media("jpeg_pipe")),
            name if is_captions(name) => text("text/vtt", Check::Captions),
            _ => return None,
        })
    }
}

/// `captions-LANG.vtt`, or `captions-LANG-N.vtt` from the second of a language on.
fn is_captions(name: &str) -> bool {
    let Some(middle) = name
        .strip_prefix("captions-")
        .and_then(|name| name.strip_suffix(".vtt"))
    else {
        return false;
    };
    let (language, number) = middle.split_once('-').unwrap_or((middle, "2"));
    (2..=8).contains(&language.len())
        && language.bytes().all(|byte| byte.is_ascii_lowercase())
        && (1..=2).contains(&number.len())
        && number.bytes().all(|byte| byte.is_ascii_digit())
}

/// Whether a child may give a file this name.
pub(crate) fn is_output(name: &str) -> bool {
    Allowed::named(name).is_some()
}

/// Whether a file of this name is one of a profile's.
fn belongs(name: &str, profile: Profile) -> bool {
    match profile {
        Profile::Fast1 => ["waveform.", "poster.", "sprite"]
            .iter()
            .any(|start| name.starts_with(start)),
        Profile::Proxy720V1 => ["proxy.", "sprite", "captions-"]
            .iter()
            .any(|start| name.starts_with(start)),
        Profile::Edit1 => name.starts_with("edit."),
    }
}

impl Job<'_> {
    /// Takes all that was made of a profile.
    pub(super) fn take(&self, made: &Made, profile: Profile) -> Result<Vec<Output>, JobError> {
        let names: BTreeSet<&str> = made.files.iter().map(|file| &*file.name).collect();
        if names.len() < made.files.len() {
            return Err(self.lied("a file twice"));
        }
        if !names.iter().all(|name| belongs(name, profile)) {
            return Err(self.lied("a file of another profile"));
        }
        // Places in sheets, what says them to players, and the sheets: all of them or none.
        let of_sprites = names
            .iter()
            .filter(|name| name.starts_with("sprite"))
            .count();
        if of_sprites > 0 && of_sprites != 2 + self.read_tiles()?.sheets.len() {
            return Err(self.lied("sprites that are not all there"));
        }
        if !is_measure(&made.measured) {
            return Err(self.lied("no measure"));
        }
        let mut media = Vec::new();
        let files = made.files.iter();
        let outputs = files
            .map(|file| self.take_one(file, made, &mut media))
            .collect::<Result<_, _>>()?;
        self.plays(media)?;
        Ok(outputs)
    }

    /// Takes a made file: a regular file under a known name, read back and found whole, or left among the `media` to be
    /// checked.
    fn take_one(
        &self,
        file: &MadeFile,
        made: &Made,
        media: &mut Vec<(File, Expectation)>,
    ) -> Result<Output, JobError> {
        let allowed =
            Allowed::named(&file.name).ok_or_else(|| self.lied("an unknown file name"))?;
        let opened = self.open(&file.name)?;
        let bytes = opened
            .metadata()
            .map_err(|error| JobError::infra("look at an output", error))?
            .len();
        let sha256 = hash(&opened)?;
        match allowed.check {
            Check::Media(demuxer) => media.push((opened, expectation(file, demuxer))),
            Check::Peaks => drop(self.read_waveform()?),
            Check::PeaksAsJson => self.is(&file.name, &self.read_waveform()?.to_json())?,
            Check::Tiles => self.has_sheets(&self.read_tiles()?, made)?,
            Check::TilesAsCues => self.is(&file.name, &self.read_tiles()?.to_vtt())?,
            Check::Captions => self.is_captioned(&file.name)?,
        }
        Ok(Output {
            name: file.name.clone(),
            path: self.folder.join(&file.name),
            media_type: allowed.media_type,
            bytes,
            sha256,
            width: file.width,
            height: file.height,
            rate: file.rate,
            duration_ms: file.duration_ms,
        })
    }

    /// Has media read by one child.
    fn plays(&self, media: Vec<(File, Expectation)>) -> Result<(), JobError> {
        if media.is_empty() {
            return Ok(());
        }
        let (files, expected): (Vec<_>, Vec<_>) = media.into_iter().unzip();
        let files: Vec<&File> = files.iter().collect();
        let task = Task::Check(expected);
        match self.ask(&files, "none", false, task, &mut |_| ())?.0 {
            Message::Sound => Ok(()),
            _ => Err(self.lied("no verdict")),
        }
    }

    /// What `waveform.dat` holds.
    pub(super) fn read_waveform(&self) -> Result<Waveform, JobError> {
        let waveform = Waveform::from_dat(&self.read("waveform.dat")?)
            .map_err(|error| self.lied(&error.to_string()))?;
        if waveform.is_empty() {
            Err(self.lied("an empty waveform"))
        } else {
            Ok(waveform)
        }
    }

    /// What `sprite.json` holds.
    fn read_tiles(&self) -> Result<Storyboard, JobError> {
        Storyboard::from_json(&self.read("sprite.json")?).map_err(|error| self.lied(&error))
    }

    /// Whether the sheets of a storyboard are among what was made.
    fn has_sheets(&self, board: &Storyboard, made: &Made) -> Result<(), JobError> {
        let there = board.sheets.iter().all(|sheet| {
            made.files.iter().any(|file| {
                file.name == sheet.name
                    && file.width == Some(sheet.width)
                    && file.height == Some(sheet.height)
            })
        });
        if there {
            Ok(())
        } else {
            Err(self.lied("tiles without their sheet"))
        }
    }

    fn is_captioned(&self, name: &str) -> Result<(), JobError> {
        let text = String::from_utf8(self.read(name)?)
            .map_err(|_| self.lied("captions that are no text"))?;
        match vtt::read(&text) {
            Ok(cues) if cues.is_empty() => Err(self.lied("no captions")),
            Ok(_) => Ok(()),
            Err(error) => Err(self.lied(&format!("captions of which {error}"))),
        }
    }

    /// Whether a file says this, to the byte.
    fn is(&self, name: &str, expected: &str) -> Result<(), JobError> {
        if self.read(name)? == expected.as_bytes() {
            Ok(())
        } else {
            Err(self.lied(&format!("another {name}")))
        }
    }

    fn read(&self, name: &str) -> Result<Vec<u8>, JobError> {
        let mut bytes = Vec::new();
        self.open(name)?
            .read_to_end(&mut bytes)
            .map_err(|error| JobError::infra("read an output", error))?;
        Ok(bytes)
    }

    fn open(&self, name: &str) -> Result<File, JobError> {
        let most = Allowed::named(name).map_or(0, |known| known.most);
        let most = most.min(self.runner.limits.max_output_bytes);
        process::open_made(self.folder, name, most).map_err(|error| {
            // That it is not there, or a link, is the child's doing and not the disk's.
            let lied = match error.kind() {
                ErrorKind::InvalidData => true,
                ErrorKind::NotFound => self.folder.is_dir(),
                _ => error.raw_os_error() == Some(libc::ELOOP),
            };
            if lied {
                self.lied(&format!("{name}: {error}"))
            } else {
                JobError::infra(&format!("open {name}"), error)
            }
        })
    }
}

fn expectation(file: &MadeFile, demuxer: &str) -> Expectation {
    Expectation {
        name: file.name.clone(),
        demuxer: demuxer.to_owned(),
        picture: file.width.zip(file.height),
        sound: file.sound,
        duration_ms: file.duration_ms.unwrap_or(0),
    }
}

/// Whether what a child says that it measured can be a measure: it goes into facts.
fn is_measure(measured: &Measured) -> bool {
    let hash = measured.thumbhash.as_deref();
    let is_hash = |hash| {
        STANDARD
            .decode(hash)
            .is_ok_and(|hash| (5..=32).contains(&hash.len()))
    };
    let is_loudness = measured.loudness.is_none_or(|loudness| {
        let values = [
            loudness.integrated_lufs,
            loudness.range_lu,
            loudness.true_peak_dbtp,
        ];
        values.iter().all(|value| (-1000.0..1000.0).contains(value))
    });
    hash.is_none_or(is_hash) && is_loudness
}

#[cfg(test)]
mod tests {
    use super::is_output;

    #[test]
    fn only_names_that_outputs_have_are_taken() {
        for name in [
            "proxy.mp4",
            "sprite-001.jpg",
            "sprite-010.jpg",
            "captions-spa.vtt",
            "captions-es-12.vtt",
        ] {
            assert!(is_output(name), "{name}");
        }
        let odd = [
            "",
            "proxy.mp4.mp4",
            "sprite-000.jpg",
            "sprite-011.jpg",
            "captions-.vtt",
            "captions-../x.vtt",
            "captions-ES.vtt",
            "captions-es-.vtt",
            "captions-es-2-3.vtt",
            "captions-spa.vtt/",
            "manifest.json",
        ];
        for name in odd {
            assert!(!is_output(name), "{name}");
        }
    }
}
