//! Odd files from the wild, where there are some: each ends in whole outputs or in one typed error.

use std::path::{Path, PathBuf};

use testing::environment;

use crate::{Run, ffprobe};

#[test]
fn every_odd_file_ends_in_whole_outputs_or_one_typed_error() {
    let Some(folder) = environment::optional("CORPUS_DIR") else {
        println!("skipped: CORPUS_DIR names no folder of media");
        return;
    };
    let mut files = Vec::new();
    collect(Path::new(&folder), &mut files);
    assert!(!files.is_empty());
    for file in files {
        let run = Run::of(&file);
        let stderr = String::from_utf8_lossy(&run.output.stderr).into_owned();
        match run.output.status.code() {
            Some(0) => {
                for output in run.manifest()["outputs"].as_array().unwrap() {
                    assert!(output["bytes"].as_u64().unwrap() > 0, "{}", file.display());
                }
                if run.proxy().exists() {
                    ffprobe(&run.proxy());
                }
            }
            Some(3 | 4) => assert!(
                stderr.lines().last().unwrap().starts_with("error: "),
                "{}: {stderr}",
                file.display()
            ),
            _ => panic!("{}: {:?}", file.display(), run.output),
        }
    }
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_none_or(|ending| ending != "md") {
            files.push(path);
        }
    }
}
