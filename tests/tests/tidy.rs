//! The order of the house: who may depend on whom, and what every file owes its reader.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Our crates, each with those of ours that it may use, besides `testing` in its tests. Anything else is an edge that
/// the architecture does not have.
const EDGES: &[(&str, &[&str])] = &[
    ("service", &[]),
    ("storage", &["service"]),
    ("events", &["service", "storage"]),
    ("projectors", &["service", "storage", "events"]),
    ("accounts", &["service"]),
    (
        "api",
        &["service", "storage", "events", "projectors", "accounts"],
    ),
    (
        "cli",
        &[
            "service",
            "storage",
            "events",
            "projectors",
            "accounts",
            "api",
        ],
    ),
    ("transcoder", &["service", "storage", "events"]),
    ("testing", &["service"]),
    ("e2e", &[]),
];

/// Crates of others that belong to few of ours, in tests too. `testing` has a consumer of its own, to look at Kafka
/// without our code.
const KEPT: &[(&str, &[&str])] = &[
    ("ffmpeg-next", &["transcoder"]),
    ("rdkafka", &["events", "testing"]),
    ("axum", &["api", "service"]),
];

const FILE_LINES: usize = 500;
const ADR_LINES: usize = 60;
const ARCHITECTURE_WORDS: usize = 1500;

fn root() -> PathBuf {
    fs::canonicalize(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).unwrap()
}

/// A file of the repository, by its path from the root.
struct File {
    path: String,
    text: String,
}

/// Every text file that is ours: what builds and runs leave behind is in folders that are named here or hidden.
fn files() -> Vec<File> {
    let (root, mut found) = (root(), vec![]);
    walk(&root, &mut found);
    let files: Vec<File> = found
        .into_iter()
        .filter_map(|path| {
            let text = String::from_utf8(fs::read(&path).unwrap()).ok()?;
            let path = path.strip_prefix(&root).unwrap();
            Some(File {
                path: path.to_string_lossy().into_owned(),
                text,
            })
        })
        .collect();
    assert!(
        files.iter().any(|file| file.path == "tests/tests/tidy.rs"),
        "this very file is not found"
    );
    files
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let kind = entry.file_type().unwrap();
        let left_behind = ["target", "demo-out", "node_modules"].contains(&&*name);
        let hidden = name.starts_with('.') && name != ".github";
        if kind.is_dir() && !left_behind && !hidden {
            walk(&entry.path(), found);
        } else if kind.is_file() {
            found.push(entry.path());
        }
    }
}

fn sources() -> impl Iterator<Item = File> {
    files().into_iter().filter(|file| is(file, "rs"))
}

fn is(file: &File, extension: &str) -> bool {
    Path::new(&file.path)
        .extension()
        .is_some_and(|e| e == extension)
}

/// A word that must not be written in this file either.
fn word(parts: [&str; 2]) -> String {
    parts.concat()
}

#[track_caller]
fn assert_tidy(complaints: &[String]) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

/// Package name → its dependencies as (name, kind); the kind of a plain one is "normal".
fn dependencies() -> BTreeMap<String, Vec<(String, String)>> {
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--offline",
            "--format-version",
            "1",
            "--no-deps",
        ])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "cargo metadata: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap().iter();
    packages
        .map(|package| {
            let edges = package["dependencies"].as_array().unwrap().iter();
            let edges = edges.map(|edge| {
                (
                    edge["name"].as_str().unwrap().to_owned(),
                    edge["kind"].as_str().unwrap_or("normal").to_owned(),
                )
            });
            (
                package["name"].as_str().unwrap().to_owned(),
                edges.collect(),
            )
        })
        .collect()
}

#[test]
fn dependencies_run_one_way() {
    let mut complaints = vec![];
    let ours = |name: &str| EDGES.iter().find(|(ours, _)| *ours == name);
    let packages = dependencies();
    for (package, edges) in &packages {
        let Some((_, allowed)) = ours(package) else {
            complaints.push(format!("{package}: add it to the edges in tidy.rs"));
            continue;
        };
        for (used, kind) in edges.iter().filter(|(used, _)| ours(used).is_some()) {
            let fine = match (package.as_str(), kind.as_str()) {
                ("e2e", kind) => kind == "dev",
                (_, "dev") if used == "testing" => true,
                _ => allowed.contains(&used.as_str()),
            };
            if !fine {
                complaints.push(format!(
                    "{package} may not use {used} ({kind}): arrows run service → storage → events → projectors → api → \
                     cli and events → transcoder, and testing is for tests"
                ));
            }
        }
    }
    for (name, _) in EDGES {
        if !packages.contains_key(*name) {
            complaints.push(format!("{name}: there is no such crate any more"));
        }
    }
    assert_tidy(&complaints);
}

#[test]
fn some_crates_of_others_are_kept_in_few_of_ours() {
    let mut complaints = vec![];
    let packages = dependencies();
    for (name, keepers) in KEPT {
        let users = |(_, edges): &(&String, &Vec<(String, String)>)| {
            edges.iter().any(|(used, _)| used == name)
        };
        let users: Vec<_> = packages
            .iter()
            .filter(users)
            .map(|(package, _)| package.as_str())
            .collect();
        let strangers = users.iter().filter(|user| !keepers.contains(user));
        complaints
            .extend(strangers.map(|user| format!("{user} uses {name}, which is for {keepers:?}")));
        if users.is_empty() {
            complaints.push(format!("nobody uses {name}: is it called otherwise now?"));
        }
    }
    assert_tidy(&complaints);
}

#[test]
fn the_api_holds_no_sql() {
    let calls = [
        "query(",
        "query_as(",
        "query_scalar(",
        "raw_sql(",
        "query!(",
        "query_as!(",
    ];
    let mut complaints = vec![];
    for file in sources().filter(|file| file.path.starts_with("crates/api/src/")) {
        for (n, line) in file.text.lines().enumerate() {
            if calls
                .iter()
                .any(|call| line.contains(&format!("sqlx::{call}")))
            {
                complaints.push(format!(
                    "{}:{}: SQL belongs to projectors/<model>/query",
                    file.path,
                    n + 1
                ));
            }
        }
    }
    assert_tidy(&complaints);
}

#[test]
fn every_source_file_is_short_finished_and_says_what_it_is_for() {
    let unfinished = [
        word(["tod", "o!("]),
        word(["unimple", "mented!("]),
        word(["#[ign", "ore"]),
        word(["#![al", "low("]),
        word(["#[al", "low("]),
    ];
    let mut complaints = vec![];
    for File { path, text } in sources() {
        let lines = text.lines().count();
        if lines > FILE_LINES {
            complaints.push(format!("{path}: {lines} lines, at most {FILE_LINES}"));
        }
        if !text.starts_with("//! ") {
            complaints.push(format!(
                "{path}: does not begin with `//!` and what it is for"
            ));
        }
        let found = unfinished.iter().filter(|word| text.contains(*word));
        complaints.extend(found.map(|word| format!("{path}: holds `{word}…`")));
    }
    assert_tidy(&complaints);
}

#[test]
fn every_crate_has_the_lints_of_the_workspace() {
    let manifests = files()
        .into_iter()
        .filter(|file| file.path.ends_with("/Cargo.toml"));
    let loose = manifests.filter(|file| {
        let ours = file.path.starts_with("crates/") || file.path == "tests/Cargo.toml";
        ours && !file.text.contains("[lints]\nworkspace = true")
    });
    let complaints: Vec<_> = loose
        .map(|file| format!("{}: lacks `[lints] workspace = true`", file.path))
        .collect();
    assert_tidy(&complaints);
}

#[test]
fn nothing_names_the_machine_it_was_written_on() {
    let places = [
        word(["/ro", "ot/"]),
        word(["/wo", "rk/"]),
        word(["/ho", "me/"]),
        word(["/Us", "ers/"]),
    ];
    let mut complaints = vec![];
    for File { path, text } in files() {
        for (n, line) in text.lines().enumerate() {
            let found = places.iter().filter(|place| line.contains(*place));
            complaints.extend(found.map(|place| format!("{path}:{}: holds {place}", n + 1)));
        }
    }
    assert_tidy(&complaints);
}

/// Whoever builds this gets the same crates from the same place.
#[test]
fn crates_come_from_crates_io() {
    let lock = fs::read_to_string(root().join("Cargo.lock")).unwrap();
    let elsewhere = lock.lines().filter(|line| {
        line.starts_with("source = ")
            && *line != "source = \"registry+https://github.com/rust-lang/crates.io-index\""
    });
    let complaints: Vec<_> = elsewhere
        .map(|line| format!("Cargo.lock: {line}"))
        .collect();
    assert_tidy(&complaints);
}

#[test]
fn decisions_fit_a_page_and_the_architecture_a_sitting() {
    let mut complaints = vec![];
    let files = files();
    for file in files
        .iter()
        .filter(|file| file.path.starts_with("docs/adr/") && is(file, "md"))
    {
        let lines = file.text.lines().count();
        if lines > ADR_LINES {
            complaints.push(format!("{}: {lines} lines, at most {ADR_LINES}", file.path));
        }
    }
    match files.iter().find(|file| file.path == "ARCHITECTURE.md") {
        None => complaints.push("ARCHITECTURE.md is missing".to_owned()),
        Some(file) => {
            let words = file.text.split_whitespace().count();
            if words >= ARCHITECTURE_WORDS {
                complaints.push(format!(
                    "ARCHITECTURE.md: {words} words, less than {ARCHITECTURE_WORDS} are allowed"
                ));
            }
        }
    }
    assert_tidy(&complaints);
}

#[test]
fn the_read_model_that_the_documentation_adds_is_the_one_that_is_tested() {
    let read = |path: &str| std::fs::read_to_string(root().join(path)).unwrap();
    let shown = read("docs/add-a-read-model.md");
    let (_, shown) = shown.split_once("```rust\n").unwrap();
    let (shown, _) = shown.split_once("```\n").unwrap();
    assert!(
        shown == read("crates/projectors/tests/it/example.rs"),
        "docs/add-a-read-model.md shows other code than crates/projectors/tests/it/example.rs: copy it"
    );
}
