//! The GGUFs below a folder.

use std::fs;
use std::path::Path;

/// Folders within folders that are read; deeper ones are no store.
const DEPTH: usize = 6;

/// The GGUFs below `folder` that can be opened, by their paths within it with `/` between, in the order of their names.
/// Links are followed; those that lead nowhere are left out.
pub fn ggufs(folder: &Path) -> Vec<String> {
    let mut all = Vec::new();
    read(folder, "", DEPTH, &mut all);
    all.sort();
    all
}

fn read(folder: &Path, within: &str, depth: usize, all: &mut Vec<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let Ok(name) = entry.file_name().into_string() else { continue };
        let (path, within) = (entry.path(), format!("{within}{name}"));
        let is_gguf = name.len() > 5 && name.rsplit_once('.').is_some_and(|(_, end)| end.eq_ignore_ascii_case("gguf"));
        if path.is_dir() {
            if depth > 0 && !name.starts_with('.') {
                read(&path, &format!("{within}/"), depth - 1, all);
            }
        } else if is_gguf && path.is_file() {
            all.push(within);
        }
    }
}

/// The names of the folders in `folder`, in their order, without hidden ones.
pub fn folders(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().filter(|entry| entry.path().is_dir());
    let mut all: Vec<_> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    all.retain(|name| !name.starts_with('.'));
    all.sort();
    all
}
