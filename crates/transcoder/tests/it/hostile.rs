//! The law for strangers' files: each ends in outputs that other programs play, or in one typed error and nothing else,
//! within a minute.

mod boxes;
mod child;
mod damage;
mod png;
mod probe;
mod table;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use transcoder::error::Kind;
use transcoder::format::waveform::Waveform;

use crate::transcoder;

/// What one file may take.
const WALL: Duration = Duration::from_mins(1);

/// How a run ended that kept the law.
#[derive(Debug)]
enum Ending {
    Done {
        manifest: Value,
    },
    Refused {
        /// TYPE of the last line on stderr.
        kind: &'static str,
        code: u8,
    },
}

/// Runs a file in a fresh folder, under its name alone; says which part of the law was broken, if one was.
fn judge(file: &Path, options: &[&str]) -> Result<Ending, String> {
    let place = tempfile::tempdir().unwrap();
    let (outer, said) = (place.path().join("outer"), place.path().join("stderr"));
    fs::create_dir(&outer).unwrap();
    let mut run = transcoder();
    run.arg("run")
        .args(options)
        .arg("--out")
        .arg(outer.join("out"))
        .arg("--")
        .arg(file.file_name().unwrap())
        .current_dir(file.parent().unwrap())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(File::create(&said).unwrap());
    let status = ends_in_time(&mut run)?;
    let said = fs::read(&said).unwrap();
    let said = String::from_utf8_lossy(&said);
    match status.code() {
        Some(0) => whole(&outer),
        Some(code) => refused(code, &said, &outer),
        None => Err(format!("{status}: {said}")),
    }
}

fn ends_in_time(command: &mut Command) -> Result<ExitStatus, String> {
    let mut child = command.spawn().unwrap();
    let start = Instant::now();
    while start.elapsed() < WALL {
        if let Some(status) = child.try_wait().unwrap() {
            return Ok(status);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    Err(format!("it takes more than {} s", WALL.as_secs()))
}

/// Everything that the manifest names is there as it says, plays elsewhere, and nothing else is there.
fn whole(outer: &Path) -> Result<Ending, String> {
    let out = outer.join("out");
    let manifest = fs::read(out.join("manifest.json")).map_err(|error| error.to_string())?;
    let manifest: Value = serde_json::from_slice(&manifest).map_err(|error| error.to_string())?;
    let mut named = BTreeSet::from(["manifest.json".to_owned()]);
    let mut media = Vec::new();
    for output in manifest["outputs"].as_array().into_iter().flatten() {
        let name = output["name"].as_str().unwrap_or_default();
        let path = out.join(name);
        is_as_told(&path, output).map_err(|wrong| format!("{name}: {wrong}"))?;
        named.insert(name.to_owned());
        let kind = output["media_type"].as_str().unwrap_or_default();
        if ["video/", "image/", "audio/"]
            .iter()
            .any(|one| kind.starts_with(one))
        {
            media.push(path);
        }
    }
    if named.len() < 2 {
        return Err("done, and nothing is made".to_owned());
    }
    if (names(outer), names(&out)) != (BTreeSet::from(["out".to_owned()]), named) {
        return Err(format!(
            "{:?} and {:?} lie there",
            names(outer),
            names(&out)
        ));
    }
    play(&media)?;
    Ok(Ending::Done { manifest })
}

fn is_as_told(path: &Path, output: &Value) -> Result<(), String> {
    let file = File::open(path).map_err(|error| error.to_string())?;
    let bytes = file.metadata().map_err(|error| error.to_string())?.len();
    let sha256 = transcoder::run::hash(&file).map_err(|error| error.to_string())?;
    if bytes == 0 || output["bytes"] != bytes || output["sha256"] != sha256 {
        return Err(format!(
            "{bytes} bytes with SHA-256 {sha256}: not what {output} says"
        ));
    }
    if path.ends_with("waveform.dat") {
        let read = Waveform::from_dat(&fs::read(path).unwrap());
        if read.map_err(|error| error.to_string())?.is_empty() {
            return Err("no point in it".to_owned());
        }
    }
    Ok(())
}

/// Whether ffprobe, and a decode of all of them to their end, find no fault.
fn play(media: &[PathBuf]) -> Result<(), String> {
    let probes = media.iter().filter(|file| {
        file.extension()
            .is_some_and(|ending| ending == "mp4" || ending == "mov")
    });
    let mut programs: Vec<_> = probes
        .map(|file| {
            let mut probe = Command::new("ffprobe");
            probe
                .args(["-v", "error", "-show_streams", "-of", "json"])
                .arg(file);
            probe
        })
        .collect();
    let mut decode = Command::new("ffmpeg");
    decode.args(["-nostdin", "-v", "error", "-xerror"]);
    for file in media {
        decode.arg("-i").arg(file);
    }
    for at in 0..media.len() {
        decode.args(["-map", &at.to_string()]);
    }
    decode.args(["-f", "null", "-"]);
    // Of waveforms alone there is nothing to decode.
    programs.extend((!media.is_empty()).then_some(decode));
    for mut program in programs {
        let output = program.output().unwrap();
        if !output.status.success() || !output.stderr.is_empty() {
            return Err(format!("{program:?}: {output:?}"));
        }
    }
    Ok(())
}

/// An error for the input's fault, told in the last line, and nothing is left.
fn refused(code: i32, said: &str, outer: &Path) -> Result<Ending, String> {
    let wrong = |what: &str| Err(format!("exit code {code}, {what}: {said}"));
    let allowed = [Kind::Input, Kind::Limit, Kind::Resource];
    let Some(kind) = allowed
        .into_iter()
        .find(|kind| i32::from(kind.exit_code()) == code)
    else {
        return wrong("which is never the input's fault");
    };
    let last = said.lines().last().unwrap_or_default();
    let message = last.strip_prefix(&format!("error: {}: ", kind.name()));
    if message.is_none_or(str::is_empty) {
        return wrong("without its line");
    }
    if !names(outer).is_empty() {
        return wrong(&format!("and it leaves {:?}", names(outer)));
    }
    Ok(Ending::Refused {
        kind: kind.name(),
        code: kind.exit_code(),
    })
}

fn names(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    entries
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect()
}

/// Works on every item, two at a time; what comes of them is in their order.
fn two_at_a_time<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let worker = || {
        let mut done = Vec::new();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(at) else {
                return done;
            };
            done.push((at, work(item)));
        }
    };
    let mut done = std::thread::scope(|scope| {
        let workers = [scope.spawn(worker), scope.spawn(worker)];
        let done = workers
            .into_iter()
            .flat_map(|worker| worker.join().unwrap());
        done.collect::<Vec<_>>()
    });
    done.sort_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, made)| made).collect()
}
