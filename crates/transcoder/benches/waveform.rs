//! The peaks of twenty minutes of stereo, beside audiowaveform, which `AUDIOWAVEFORM` names; without it there is no peer. It does
//! not read AAC. Where it is there, its files of twenty seconds are compared with ours first, value by value.

#![expect(clippy::unwrap_used, reason = "a bench that cannot go on has failed")]
#![expect(clippy::print_stdout, reason = "its table is for people")]

mod support;
#[path = "support/table.rs"]
mod table;

use std::path::Path;

use testing::bench::publish;
use testing::{clip, environment};
use transcoder::format::waveform::Waveform;

use support::{cost, transcoder};
use table::rows;

const ROUNDS: usize = 7;
/// Sound that no coder finds easy.
const SOUND: &str = "anoisesrc=duration=1200:seed=1:color=pink:sample_rate=48000,aformat=channel_layouts=stereo,\
                     volume='0.1+0.8*abs(sin(t/7))':eval=frame";
const FILES: [(&str, &str, &[&str]); 4] = [
    ("wav", "wav", &["-c:a", "pcm_s16le"]),
    ("flac", "flac", &["-c:a", "flac"]),
    ("mp3", "mp3", &["-c:a", "libmp3lame", "-b:a", "192k"]),
    ("aac", "m4a", &["-c:a", "aac", "-b:a", "192k"]),
];

/// What must agree, and the share of values that may differ, by 1: coded sound is decoded by another library.
const AGREE: [(&str, &str, &[&str], f64); 7] = [
    ("wav, 16 bits", "wav", &["-c:a", "pcm_s16le"], 0.0),
    ("wav, 24 bits", "wav", &["-c:a", "pcm_s24le"], 0.0),
    ("wav, 8 bits", "wav", &["-c:a", "pcm_u8"], 0.0),
    ("wav, float", "wav", &["-c:a", "pcm_f32le"], 0.0),
    ("flac", "flac", &["-c:a", "flac"], 0.0),
    ("mp3", "mp3", &["-c:a", "libmp3lame"], 0.01),
    ("vorbis", "ogg", &["-c:a", "libvorbis"], 0.01),
];
/// Options, and by how much values may differ: by 1 before they are multiplied, which the loudest allows by less than 4.
const WAYS: [(&str, u16); 11] = [
    ("", 1),
    ("--bits 8", 1),
    ("--split-channels", 1),
    ("--bits 8 --split-channels", 1),
    ("--zoom 1000", 1),
    ("--zoom 512 --split-channels", 1),
    ("--pixels-per-second 50", 1),
    ("--pixels-per-second 33 --bits 8", 1),
    ("--amplitude-scale 1.5", 2),
    ("--amplitude-scale auto", 4),
    ("--amplitude-scale auto --bits 8", 1),
];

fn main() {
    let peer = environment::optional("AUDIOWAVEFORM");
    let folder = tempfile::tempdir().unwrap();
    for (name, extension, options, most) in AGREE {
        let short = ["-f", "lavfi", "-t", "20", "-i", SOUND];
        let file = clip::make(extension, &[&short, options].concat());
        let Some(peer) = &peer else { continue };
        println!("{name}: {}", agree(folder.path(), &file, peer, most));
        if name == "mp3" {
            // Of LAME audiowaveform takes that it puts silence before the sound.
            let lame = folder.path().join("lame.mp3");
            clip::by_lame(&file, &lame);
            println!(
                "{name} by LAME: {}",
                agree(folder.path(), &lame, peer, most)
            );
        }
    }
    let mut table = vec![];
    for (name, extension, options) in FILES {
        let file = clip::make(
            extension,
            &[&["-f", "lavfi", "-i", SOUND], options].concat(),
        );
        let file = file.to_str().unwrap();
        let ours = format!(
            "{} waveform {file} -o ours.dat --timeline audiowaveform",
            transcoder()
        );
        let theirs = peer.as_ref().filter(|_| name != "aac");
        let theirs = theirs.map(|peer| format!("{peer} -i {file} -o theirs.dat"));
        let (mut us, mut them) = (vec![], vec![]);
        for _ in 0..ROUNDS {
            us.push(cost(folder.path(), &ours));
            them.extend(theirs.as_ref().map(|theirs| cost(folder.path(), theirs)));
        }
        table.extend(rows(
            name,
            &us,
            "audiowaveform",
            theirs.is_some().then_some(&*them),
        ));
    }
    println!("{}", publish("waveform", &table).unwrap());
}

/// Draws one file in every way by both, and tells how far they agree; more than `most` of the values may not differ, and none by
/// more than 1, or by what becomes of 1 where all are multiplied.
fn agree(folder: &Path, file: &Path, peer: &str, most: f64) -> String {
    let (mut same, mut values, mut off) = (0, 0, 0);
    for (options, by) in WAYS {
        let file = file.to_str().unwrap();
        let ours = format!(
            "{} waveform {file} -o ours.dat --timeline audiowaveform",
            transcoder()
        );
        cost(folder, &format!("{ours} {options}"));
        cost(folder, &format!("{peer} -i {file} -o theirs.dat {options}"));
        let read = |name: &str| std::fs::read(folder.join(name)).unwrap();
        let (ours, theirs) = (read("ours.dat"), read("theirs.dat"));
        same += usize::from(ours == theirs);
        let (ours, theirs) = (
            Waveform::from_dat(&ours).unwrap(),
            Waveform::from_dat(&theirs).unwrap(),
        );
        assert_eq!(ours.data.len(), theirs.data.len(), "{file} {options}");
        for (one, other) in ours.data.iter().zip(&theirs.data) {
            assert!(
                one.abs_diff(*other) <= by,
                "{file} {options}: {one} and {other}"
            );
            off += usize::from(one != other);
        }
        values += ours.data.len();
    }
    let share = off as f64 / values as f64;
    assert!(
        share <= most,
        "{}: {share} of the values differ",
        file.display()
    );
    format!(
        "{same} of {} files are the same byte for byte; {off} of {values} values differ",
        WAYS.len()
    )
}
