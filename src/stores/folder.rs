//! The GGUFs below a folder.

use std::fs;
use std::path::{Path, PathBuf};

/// Folders within folders that are read; deeper ones are no store.
const DEPTH: usize = 6;

/// The GGUFs below `folder` that can be opened, by their paths within it with `/` between, in the order of their names.
/// Links are followed; those that lead nowhere are left out.
pub fn ggufs(folder: &Path) -> Vec<String> {
    let mut all = Vec::new();
    read(folder, "", DEPTH, &mut Vec::new(), &mut all);
    all.sort();
    all
}

/// `above` are the folders that this one is in: a link may lead back to one of them.
fn read(folder: &Path, within: &str, depth: usize, above: &mut Vec<PathBuf>, all: &mut Vec<String>) {
    let Ok(real) = folder.canonicalize() else { return };
    if above.contains(&real) {
        return;
    }
    above.push(real);
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let Some(name) = typed(&entry) else { continue };
        let (path, within) = (entry.path(), format!("{within}{name}"));
        let is_gguf = name.len() > 5 && name.rsplit_once('.').is_some_and(|(_, end)| end.eq_ignore_ascii_case("gguf"));
        if path.is_dir() {
            if depth > 0 && !name.starts_with('.') {
                read(&path, &format!("{within}/"), depth - 1, above, all);
            }
        } else if is_gguf && path.is_file() {
            all.push(within);
        }
    }
    above.pop();
}

/// The name of a file, if it can be typed: UTF-8 without control characters.
fn typed(entry: &fs::DirEntry) -> Option<String> {
    entry.file_name().into_string().ok().filter(|name| !name.contains(char::is_control))
}

/// The names of the folders in `folder`, in their order, without hidden ones.
pub fn folders(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().filter(|entry| entry.path().is_dir());
    let mut all: Vec<_> = entries.filter_map(|entry| typed(&entry)).collect();
    all.retain(|name| !name.starts_with('.'));
    all.sort();
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn a_link_that_leads_back_is_read_once_and_one_that_leads_elsewhere_is_followed() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        fs::create_dir_all(root.join("sub")).unwrap();
        fs::create_dir_all(folder.path().join("disk")).unwrap();
        for file in ["root/sub/x.gguf", "root/sub/x.txt", "root/.gguf", "root/a\nb.gguf", "disk/y.GGUF"] {
            fs::write(folder.path().join(file), "").unwrap();
        }
        std::os::unix::fs::symlink("..", root.join("sub/back")).unwrap();
        std::os::unix::fs::symlink("../disk", root.join("disk")).unwrap();
        assert_eq!(ggufs(&root), ["disk/y.GGUF", "sub/x.gguf"]);
        assert!(ggufs(&root.join("absent")).is_empty());
    }
}
