//! docs/hostile-media.md: how each probe, and each odd file from the wild, ends.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use testing::environment;

use super::probe::Probes;
use super::{Ending, judge, two_at_a_time};

/// Every profile.
const ALL: [&str; 2] = ["--profile", "fast@1,proxy720@1,edit@1"];
const WILD: &str = "\n## From the wild\n";

#[test]
fn the_generated_table_of_hostile_media_is_what_happens() {
    let path = environment::root().join("docs/hostile-media.md");
    let kept = fs::read_to_string(&path).unwrap_or_default();
    let (_, kept_wild) = kept.split_once(WILD).unwrap_or_default();
    let wild = from_the_wild(kept_wild).unwrap_or_else(|why| {
        println!("{why}");
        kept_wild.to_owned()
    });
    let made = format!("{}\n## Probes\n{}{WILD}{wild}", head(), of_probes());
    if environment::optional("UPDATE").is_some() {
        fs::write(&path, &made).unwrap();
    } else if !kept.starts_with(&head()) {
        println!(
            "the table is not compared: it was made with another FFmpeg than {}",
            ffmpeg()
        );
    } else {
        assert!(
            kept == made,
            "docs/hostile-media.md is out of date, run `make docs`: {}",
            first_change(&kept, &made)
        );
    }
}

fn head() -> String {
    format!(
        "# Hostile media\n\n\
         Generated: `make docs` runs `cinelog-transcoder run` on each of these files, with all profiles, and writes down how it\n\
         ends. The tests do so too, and see that every end keeps the law: outputs that ffprobe and a full decode accept, or one\n\
         typed error and nothing in `--out`, within 60 s. `edit.mov` is made of films with a steady rate only.\n\n\
         Made with FFmpeg {}; others may refuse more, or less.\n",
        ffmpeg()
    )
}

/// Its version, without what does not change a decoder.
fn ffmpeg() -> String {
    let said = Command::new("ffmpeg")
        .arg("-version")
        .output()
        .unwrap()
        .stdout;
    let said = String::from_utf8_lossy(&said).into_owned();
    let version = said.split_whitespace().nth(2).unwrap_or_default();
    version.split('.').take(2).collect::<Vec<_>>().join(".")
}

fn of_probes() -> String {
    let probes = Probes::build();
    let rows = two_at_a_time(&probes.all, |probe| {
        let name = shown(&probe.file.file_name().unwrap().to_string_lossy());
        let ending = judge(&probe.file, &ALL).map_err(|wrong| format!("{name}: {wrong}"))?;
        Ok(format!("| {name} | {} | {} |\n", probe.what, told(&ending)))
    });
    format!(
        "\nBuilt by `crates/transcoder/tests/it/hostile/probe.rs`.\n\n| input | what it is | end |\n|---|---|---|\n{}",
        lawful(rows)
    )
}

/// The odd files of `CORPUS_DIR`; or why their rows stay as they are kept.
fn from_the_wild(kept: &str) -> Result<String, &'static str> {
    let folder = environment::optional("CORPUS_DIR");
    let folder = PathBuf::from(folder.ok_or("skipped: CORPUS_DIR names no folder of media")?);
    let mut files = Vec::new();
    collect(&folder, &mut files);
    files.sort();
    assert!(!files.is_empty(), "{} is empty", folder.display());
    let rows = two_at_a_time(&files, |file| {
        let name = shown(&file.strip_prefix(&folder).unwrap().to_string_lossy());
        let ending = judge(file, &ALL).map_err(|wrong| format!("{name}: {wrong}"))?;
        Ok(format!(
            "| {name} | {} | {} |\n",
            claimed(&ending),
            told(&ending)
        ))
    });
    let made = format!(
        "\nWhat the tests find in `CORPUS_DIR`.\n\n| input | what it says it is | end |\n|---|---|---|\n{}",
        lawful(rows)
    );
    let name = |row: &str| row.split(" | ").next().unwrap_or_default().to_owned();
    let names: BTreeSet<String> = kept
        .lines()
        .filter(|row| row.starts_with("| `"))
        .map(name)
        .collect();
    if names.is_empty() || made.lines().any(|row| names.contains(&name(row))) {
        Ok(made)
    } else {
        Err("CORPUS_DIR names other files than the table: they keep the law")
    }
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_none_or(|ending| ending != "md") {
            files.push(path);
        }
    }
}

#[track_caller]
fn lawful(rows: Vec<Result<String, String>>) -> String {
    let broken: Vec<_> = rows
        .iter()
        .filter_map(|row| row.as_ref().err())
        .map(String::as_str)
        .collect();
    assert!(
        broken.is_empty(),
        "{} break the law:\n{}",
        broken.len(),
        broken.join("\n")
    );
    rows.into_iter().flatten().collect()
}

/// How it ended, without what another machine or another output would change.
fn told(ending: &Ending) -> String {
    let manifest = match ending {
        Ending::Refused { kind, code } => return format!("error `{kind}`, exit code {code}"),
        Ending::Done { manifest } => manifest,
    };
    let texts = |list: &Value, key: &str| -> BTreeSet<String> {
        let items = list.as_array().into_iter().flatten();
        items
            .map(|item| item[key].as_str().unwrap().to_owned())
            .collect()
    };
    let made = texts(&manifest["outputs"], "name");
    let primary = ["proxy.mp4", "waveform.dat", "poster.jpg"]
        .into_iter()
        .find(|name| made.contains(*name));
    let mut text = format!(
        "done: `{}`",
        primary.expect("one of them makes a run a success")
    );
    if made.contains("edit.mov") {
        text.push_str(" and `edit.mov`");
    }
    let warnings = manifest["warnings"].as_array().into_iter().flatten();
    // That it is not edited, the end says.
    let told = |warning: &&Value| !warning["message"].as_str().unwrap().starts_with("edit@1: ");
    let warnings = texts(&warnings.filter(told).cloned().collect(), "code");
    if !warnings.is_empty() {
        let warnings: Vec<_> = warnings.iter().map(|code| format!("`{code}`")).collect();
        write!(text, "; warnings {}", warnings.join(", ")).unwrap();
    }
    text
}

/// The tracks that a container says it has.
fn claimed(ending: &Ending) -> String {
    let Ending::Done { manifest } = ending else {
        return "—".to_owned();
    };
    let tracks = manifest["claimed"]["tracks"]
        .as_array()
        .into_iter()
        .flatten();
    let tracks = tracks.map(|track| {
        let (picture, sound) = (&track["picture"], &track["sound"]);
        let codec = track["codec"].as_str().unwrap_or_default();
        match (picture["width"].as_u64(), sound["channels"].as_u64()) {
            (Some(width), _) => format!("{codec} {width}×{}", picture["height"]),
            (_, Some(channels)) => format!("{codec} of {channels} at {} Hz", sound["rate"]),
            _ => codec.to_owned(),
        }
    });
    tracks.collect::<Vec<_>>().join(", ")
}

/// A name as a cell of a table, short.
fn shown(name: &str) -> String {
    let short: String = name.chars().take(60).collect();
    let dots = if short.len() < name.len() { "…" } else { "" };
    format!(
        "`{}{dots}`",
        short
            .escape_debug()
            .to_string()
            .replace('|', "\\|")
            .replace("\\'", "'")
            .replace("\\\"", "\"")
    )
}

fn first_change(kept: &str, made: &str) -> String {
    let change = kept
        .lines()
        .zip(made.lines())
        .find(|(kept, made)| kept != made);
    change.map_or("its length".to_owned(), |(kept, made)| {
        format!("{kept:?} is {made:?} now")
    })
}
