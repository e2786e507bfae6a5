//! The names of downloaded contents: `snapshots/COMMIT/FILE` leads to `blobs/ETAG`, `refs/BRANCH` holds the commit.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::error::HubError;
use crate::files::{temporary, write_whole};
use crate::stores::huggingface::RepoFolder;

/// Gives `blob` its name in a commit's folder, and returns that.
///
/// # Errors
///
/// [`HubError::Io`].
pub fn link(folder: &RepoFolder, commit: &str, file: &str, etag: &str) -> Result<PathBuf, HubError> {
    let (blob, named) = (folder.blob(etag), folder.snapshot(commit).join(file));
    if crate::files::same(&blob, &named) {
        return Ok(named);
    }
    let below = named.parent().unwrap_or(&named);
    fs::create_dir_all(below).map_err(HubError::io(below))?;
    // From the file's folder up to the repository's: snapshots, the commit, and the folders within it.
    let ups = "../".repeat(2 + file.matches('/').count());
    let target = PathBuf::from(format!("{ups}blobs/{etag}"));
    replace(&named, |new| {
        symlink(&target, new).or_else(|_| fs::hard_link(&blob, new)).or_else(|_| fs::copy(&blob, new).map(drop))
    })
    .map_err(HubError::io(&named))?;
    Ok(named)
}

/// Writes the commit of a branch or tag.
///
/// # Errors
///
/// [`HubError::Io`].
pub fn set_reference(folder: &RepoFolder, revision: &str, commit: &str) -> Result<(), HubError> {
    let path = folder.reference(revision);
    if revision == commit || fs::read_to_string(&path).is_ok_and(|there| there == commit) {
        return Ok(());
    }
    write_whole(&path, |new| fs::write(new, commit)).map_err(HubError::io(&path))
}

/// Puts what `make` makes in place of `path`, at once.
fn replace(path: &Path, make: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
    let new = temporary(path)?;
    fs::remove_file(&new)?;
    make(&new)?;
    new.persist(path).map_err(|error| error.error)
}

#[cfg(unix)]
fn symlink(target: &Path, path: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, path)
}

#[cfg(windows)]
fn symlink(target: &Path, path: &Path) -> io::Result<()> {
    let target: PathBuf = target.components().collect();
    std::os::windows::fs::symlink_file(target, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_leads_to_its_contents_from_any_depth_and_moves_with_its_commit() {
        let root = tempfile::tempdir().unwrap();
        let folder = RepoFolder::new(root.path(), "a/b");
        fs::create_dir_all(folder.blob("e1").parent().unwrap()).unwrap();
        for etag in ["e1", "e2"] {
            fs::write(folder.blob(etag), etag).unwrap();
        }
        for file in ["x.gguf", "deep/er/x.gguf"] {
            let named = link(&folder, "c1", file, "e1").unwrap();
            assert_eq!(fs::read_to_string(&named).unwrap(), "e1");
            // Again, and with other contents.
            link(&folder, "c1", file, "e1").unwrap();
            assert_eq!(fs::read_to_string(link(&folder, "c1", file, "e2").unwrap()).unwrap(), "e2");
            assert_eq!(
                fs::read_dir(named.parent().unwrap()).unwrap().filter(|f| f.as_ref().unwrap().path().is_file()).count(),
                1
            );
        }
        #[cfg(unix)]
        {
            let target = fs::read_link(folder.snapshot("c1").join("deep/er/x.gguf")).unwrap();
            assert_eq!(target, Path::new("../../../../blobs/e2"));
        }
        set_reference(&folder, "refs/pr/1", "c1").unwrap();
        assert_eq!(fs::read_to_string(folder.reference("refs/pr/1")).unwrap(), "c1");
        set_reference(&folder, "c1", "c1").unwrap();
        assert!(!folder.reference("c1").exists());
    }
}
