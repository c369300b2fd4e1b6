//! Makes the outputs of one file appear in a folder, whole or not at all, with a manifest that says what they are.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::error::{JobError, Kind};
use crate::plan::Plan;
use crate::probe::{Facts, Measured};
use crate::profile::Profile;
use crate::run::{CpuTime, JobOutcome, Output, Progress, Runner, hash, is_output};
use crate::sandbox::Layer;
use crate::scratch::Scratch;
use crate::wire::Warning;

/// What names everything a run made.
const MANIFEST: &str = "manifest.json";

/// What `manifest.json` says.
#[derive(Debug, Serialize)]
pub struct Manifest {
    /// Of this format.
    pub version: u32,
    /// The input.
    pub input: InputFile,
    /// What its container claims, every track included.
    pub claimed: Facts,
    /// What decoding measured.
    pub measured: Measured,
    /// What was done, per profile.
    pub plans: Vec<(Profile, Plan)>,
    /// The files.
    pub outputs: Vec<Output>,
    /// What is missing or odd.
    pub warnings: Vec<Warning>,
    /// Layers of the sandbox that held in every child that made something.
    pub sandbox: Vec<Layer>,
}

/// The input, by content.
#[derive(Debug, Serialize)]
pub struct InputFile {
    /// Size.
    pub bytes: u64,
    /// SHA-256 in hex.
    pub sha256: String,
}

/// Runs profiles over one file and publishes what they made in `out`.
///
/// A profile may fail for the input's fault while another makes a primary output (the proxy, else the waveform, else
/// the poster): that is a warning.
pub fn publish(
    runner: &Runner,
    input: &File,
    profiles: &[Profile],
    out: &Path,
    on_progress: &mut dyn FnMut(Profile, Progress),
    cancel: &CancellationToken,
) -> Result<Manifest, JobError> {
    spare(input, out)?;
    let scratch = scratch_beside(out)?;
    let (mut outcomes, mut warnings, mut first) = (Vec::new(), Vec::new(), None);
    // In their own order, each once however often it is named.
    for profile in Profile::ALL.iter().filter(|one| profiles.contains(one)) {
        let folder = scratch.path().join(profile.name());
        fs::create_dir(&folder).map_err(|error| JobError::infra("make a scratch folder", error))?;
        match runner.run_job(
            input,
            *profile,
            &folder,
            &mut |progress| on_progress(*profile, progress),
            &CpuTime::default(),
            cancel,
        ) {
            Ok(outcome) => outcomes.push(outcome),
            Err(error) if error.kind == Kind::Input => {
                warnings.push(Warning::new(
                    "missing",
                    format!("{profile}: {}", error.message),
                ));
                first.get_or_insert(error);
            }
            Err(error) => return Err(error),
        }
    }
    if outcomes.iter().all(|outcome| outcome.outputs.is_empty()) {
        return Err(first
            .unwrap_or_else(|| JobError::input("these profiles make nothing of such an input")));
    }
    let manifest = manifest(input, outcomes, warnings)?;
    place(&manifest, scratch.path(), out)?;
    Ok(manifest)
}

fn manifest(
    input: &File,
    outcomes: Vec<JobOutcome>,
    mut warnings: Vec<Warning>,
) -> Result<Manifest, JobError> {
    let metadata = input
        .metadata()
        .map_err(|error| JobError::infra("look at the input", error))?;
    let mut manifest = Manifest {
        version: 1,
        input: InputFile {
            bytes: metadata.len(),
            sha256: hash(input)?,
        },
        claimed: Facts::default(),
        measured: Measured::default(),
        plans: Vec::new(),
        outputs: Vec::new(),
        warnings: Vec::new(),
        sandbox: Layer::wanted(),
    };
    for outcome in outcomes {
        manifest.measured = outcome.measured.with(manifest.measured);
        manifest
            .sandbox
            .retain(|layer| outcome.sandbox.contains(layer));
        manifest.claimed = outcome.claimed;
        manifest.plans.push((outcome.profile, outcome.plan));
        manifest.outputs.extend(outcome.outputs);
        for warning in outcome.warnings {
            // Of its tracks each profile may say the same.
            if !manifest.warnings.contains(&warning) {
                manifest.warnings.push(warning);
            }
        }
    }
    let names: BTreeSet<&str> = manifest
        .outputs
        .iter()
        .map(|output| &*output.name)
        .collect();
    if names.len() < manifest.outputs.len() {
        return Err(JobError::infra(
            "gather the outputs",
            "two profiles made the same one",
        ));
    }
    manifest.warnings.append(&mut warnings);
    if manifest.sandbox.len() < Layer::wanted().len() {
        manifest.warnings.push(Warning::new(
            "sandbox",
            "not every layer of the sandbox held",
        ));
    }
    Ok(manifest)
}

/// A folder on the same file system as `out`: next to it, or within it where it is a mount point.
fn scratch_beside(out: &Path) -> Result<Scratch, JobError> {
    let make = || -> io::Result<Scratch> {
        let parent = parent_of(out);
        fs::create_dir_all(parent)?;
        let mounted = match fs::metadata(out) {
            Ok(metadata) if !metadata.is_dir() => return Err(io::ErrorKind::NotADirectory.into()),
            Ok(metadata) => metadata.dev() != fs::metadata(parent)?.dev(),
            Err(_) => false,
        };
        Scratch::make(if mounted { out } else { parent }, ".cinelog-run-")
    };
    make().map_err(|error| JobError::infra("make a scratch folder beside the outputs", error))
}

/// Makes everything appear in `out`. Who sees a manifest sees all it names; a new folder appears with all that is in it.
fn place(manifest: &Manifest, scratch: &Path, out: &Path) -> Result<(), JobError> {
    let doing = |error: io::Error| JobError::infra("put the outputs in place", error);
    let mut text = serde_json::to_vec_pretty(manifest).map_err(|error| doing(error.into()))?;
    text.push(b'\n');
    let made = scratch.join("made");
    gather(manifest, &text, &made).map_err(doing)?;
    if fs::symlink_metadata(out).is_ok() {
        replace(manifest, &made, &scratch.join("old"), out).and_then(|()| sync(out))
    } else {
        fs::rename(&made, out).and_then(|()| sync(parent_of(out)))
    }
    .map_err(doing)
}

/// Moves the outputs into the folder `made`, with their manifest, and all of it to the disk.
fn gather(manifest: &Manifest, text: &[u8], made: &Path) -> io::Result<()> {
    fs::create_dir(made)?;
    fs::write(made.join(MANIFEST), text)?;
    for output in &manifest.outputs {
        fs::rename(&output.path, made.join(&output.name))?;
    }
    for name in names(manifest) {
        sync(&made.join(name))?;
    }
    sync(made)
}

/// Puts what was made in the place of what an earlier run left in `out`, which comes back when that fails. The manifest
/// goes first and comes last.
fn replace(manifest: &Manifest, made: &Path, old: &Path, out: &Path) -> io::Result<()> {
    fs::create_dir(old)?;
    let new = names(manifest);
    let mut stale = earlier(out);
    stale.extend(
        new.iter()
            .filter(|name| !stale.contains(name))
            .cloned()
            .collect::<Vec<_>>(),
    );
    move_all(&stale, out, old)?;
    let moved = move_all(&last_first(new), made, out);
    if moved.is_err() {
        move_all(&last_first(stale), old, out).ok();
    }
    moved
}

/// The names of what was made, the manifest's first.
fn names(manifest: &Manifest) -> Vec<String> {
    let outputs = manifest.outputs.iter().map(|output| output.name.clone());
    [MANIFEST.to_owned()].into_iter().chain(outputs).collect()
}

/// The names of what an earlier run has left in a folder, by its manifest, that one's first. Other files are not ours.
fn earlier(out: &Path) -> Vec<String> {
    #[derive(Deserialize)]
    struct Told {
        outputs: Vec<Named>,
    }
    #[derive(Deserialize)]
    struct Named {
        name: String,
    }
    let told = fs::read(out.join(MANIFEST)).ok();
    let told: Option<Told> = told.and_then(|text| serde_json::from_slice(&text).ok());
    let outputs = told
        .into_iter()
        .flat_map(|told| told.outputs)
        .map(|output| output.name);
    let outputs = outputs.filter(|name| is_output(name));
    [MANIFEST.to_owned()].into_iter().chain(outputs).collect()
}

/// Refuses where the input itself might be replaced.
fn spare(input: &File, out: &Path) -> Result<(), JobError> {
    let place = |metadata: &fs::Metadata| (metadata.dev(), metadata.ino());
    let own = input
        .metadata()
        .map_err(|error| JobError::infra("look at the input", error))?;
    // A folder that cannot be listed is told of when something is put there.
    let there = fs::read_dir(out).into_iter().flatten().flatten();
    let mut there = there.filter(|entry| entry.file_name().to_str().is_some_and(is_output));
    let is_own = |metadata: fs::Metadata| place(&metadata) == place(&own);
    if there.any(|entry| entry.metadata().is_ok_and(is_own)) {
        let why = "the input lies where an output may go; name another folder by --out";
        return Err(JobError::usage(why));
    }
    Ok(())
}

fn last_first(mut names: Vec<String>) -> Vec<String> {
    names.reverse();
    names
}

/// Moves these files, in this order: all of them or none.
fn move_all(names: &[String], from: &Path, to: &Path) -> io::Result<()> {
    for (count, name) in names.iter().enumerate() {
        if let Err(error) = move_one(name, from, to) {
            for name in names[..count].iter().rev() {
                move_one(name, to, from).ok();
            }
            return Err(error);
        }
    }
    Ok(())
}

fn move_one(name: &str, from: &Path, to: &Path) -> io::Result<()> {
    match fs::symlink_metadata(from.join(name)) {
        // Not ours, and it would go with the scratch folder.
        Ok(found) if found.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
        Ok(_) => fs::rename(from.join(name), to.join(name)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn sync(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

fn parent_of(path: &Path) -> &Path {
    path.parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}
