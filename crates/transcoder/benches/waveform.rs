//! The peaks of twenty minutes of stereo, beside audiowaveform, which `AUDIOWAVEFORM` names; without it there is no peer. It does
//! not read AAC.

#![expect(clippy::unwrap_used, reason = "a bench that cannot go on has failed")]
#![expect(clippy::print_stdout, reason = "its table is for people")]

mod support;
#[path = "support/table.rs"]
mod table;

use testing::bench::publish;
use testing::{clip, environment};

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

fn main() {
    let peer = environment::optional("AUDIOWAVEFORM");
    let folder = tempfile::tempdir().unwrap();
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
