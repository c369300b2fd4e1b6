//! The outputs, fetched as any client would, and what they are.

use std::fs;
use std::path::Path;

use anyhow::{Context, ensure};
use serde_json::Value;
use storage::Checksum;

use super::client::Client;
use super::{items, text};
use crate::out::say;

/// What lists all of them.
const MANIFEST: &str = "manifest.json";

/// Fetches every rendition of `asset` into `folder`, checks it against what the API says, and reports it; then writes
/// one manifest of them all.
pub(super) async fn fetch(client: &Client, asset: &Value, folder: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    say(format_args!("\n{:<32} {:>10}  figures", "output", "bytes"));
    let mut manifests = vec![];
    let renditions = serde_json::json!({"items": asset["renditions"]});
    for rendition in items(&renditions) {
        let name = text(rendition, "/name")?;
        ensure!(!name.contains('/'), "an output is called {name}");
        let bytes = client.bytes(text(rendition, "/url")?).await?;
        let sha256 = Checksum::of(&bytes).to_string();
        ensure!(
            sha256 == text(rendition, "/sha256")?,
            "{name} is not what the API says it is"
        );
        let path = folder.join(name);
        fs::write(&path, &bytes).with_context(|| format!("write {}", path.display()))?;
        say(format_args!(
            "{:<32} {:>10}  {}",
            path.display(),
            bytes.len(),
            figures(rendition, name, &bytes)
        ));
        if name.starts_with("manifest-") {
            manifests.push(serde_json::from_slice(&bytes).with_context(|| format!("read {name}"))?);
        }
    }
    let whole = merged(manifests).context("no output is a manifest")?;
    let path = folder.join(MANIFEST);
    let text = format!("{whole:#}\n");
    fs::write(&path, &text).with_context(|| format!("write {}", path.display()))?;
    say(format_args!(
        "{:<32} {:>10}  of all profiles",
        path.display(),
        text.len()
    ));
    Ok(())
}

/// One manifest of the jobs' own: their lists end to end, and of what each measured the most.
fn merged(manifests: Vec<Value>) -> Option<Value> {
    manifests.into_iter().reduce(|mut whole, mut more| {
        for list in ["plans", "outputs", "warnings"] {
            if let (Some(all), Some(new)) = (whole[list].as_array_mut(), more[list].as_array_mut())
            {
                all.append(new);
            }
        }
        for (name, found) in more["measured"].as_object().into_iter().flatten() {
            let known = whole["measured"][name].as_u64();
            // A pass that looked at less has seen fewer frames and fewer errors.
            if found.as_u64() > known {
                whole["measured"][name] = found.clone();
            }
        }
        whole
    })
}

fn figures(rendition: &Value, name: &str, bytes: &[u8]) -> String {
    let mut parts = vec![];
    if let (Some(width), Some(height)) = (rendition["width"].as_i64(), rendition["height"].as_i64())
    {
        parts.push(format!("{width}×{height}"));
    }
    if let Some(ms) = rendition["duration_ms"].as_f64() {
        parts.push(format!("{:.3} s", ms / 1000.0));
    }
    if let (true, Some(peaks)) = (
        Path::new(name).extension().is_some_and(|e| e == "dat"),
        peaks(bytes),
    ) {
        parts.push(peaks);
    }
    parts.extend(rendition["profile"].as_str().map(str::to_owned));
    parts.join(", ")
}

/// Length and rate from a waveform file's header, see audiowaveform's format.
fn peaks(bytes: &[u8]) -> Option<String> {
    let field = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let (rate, zoom, length) = (field(8)?, field(12)?, field(16)?);
    let seconds = f64::from(length) * f64::from(zoom) / f64::from(rate);
    Some(format!(
        "{length} peaks of {zoom} samples at {rate} Hz = {seconds:.3} s of sound"
    ))
}
