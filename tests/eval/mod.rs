//! Scores, sweeps, comparisons and their pictures, as a user gets them.

mod browser;
mod compare;
mod duel;
mod judge;
mod pairs;
mod score;
mod sweep;

use std::path::PathBuf;

use crate::support::binary::{failure, genarm, json, model as demo, stdout};

fn file(folder: &tempfile::TempDir, name: &str, text: &str) -> String {
    let path: PathBuf = folder.path().join(name);
    std::fs::write(&path, text).expect("a file");
    path.display().to_string()
}
