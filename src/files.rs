//! Files that a command writes: whole or not at all, and never over one that it reads.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// `path` with `ending` after its whole name. `Path::with_extension` would take `.05` of `arm-0.05` for an extension.
pub(crate) fn appended(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// The name of a model's file without its folder and `.gguf`; all of it, where it ends otherwise.
pub(crate) fn model_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
    match name.len().checked_sub(5).filter(|at| *at > 0).and_then(|at| name.split_at_checked(at)) {
        Some((stem, ending)) if ending.eq_ignore_ascii_case(".gguf") => stem.to_owned(),
        _ => name,
    }
}

/// Whether two paths lead to one file: by other spellings, symbolic links or hard links.
pub(crate) fn same(a: &Path, b: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let id = |path: &Path| std::fs::metadata(path).ok().map(|file| (file.dev(), file.ino()));
        if id(a).is_some_and(|a| Some(a) == id(b)) {
            return true;
        }
    }
    match (resolved(a), resolved(b)) {
        (Some(a), Some(b)) => a == b,
        _ => a == b,
    }
}

/// The path without links and dots; of a file that is not there yet, its folder's and its own name.
fn resolved(path: &Path) -> Option<PathBuf> {
    if let Ok(path) = path.canonicalize() {
        return Some(path);
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Some(folder.canonicalize().ok()?.join(path.file_name()?))
}

/// What is wrong with writing `outputs` while reading `inputs`, each named by its flag or by what it is: an output that
/// would overwrite an input, or another output.
pub(crate) fn conflict(outputs: &[(&str, &Path)], inputs: &[(&str, &Path)]) -> Option<String> {
    for (i, (what, output)) in outputs.iter().enumerate() {
        if let Some((read, _)) = inputs.iter().find(|(_, input)| same(output, input)) {
            let name = output.display();
            return Some(format!("{what} would be written over {read}, {name}; choose another name"));
        }
        if let Some((other, _)) = outputs[..i].iter().find(|(_, other)| same(output, other)) {
            return Some(format!("{what} and {other} would be one file, {}; choose another name", output.display()));
        }
    }
    None
}

/// Writes a file whole or not at all: `fill` writes a temporary neighbour, which is renamed over `path` once it is on
/// disk.
///
/// # Errors
///
/// What `fill` returns, and what the system says.
pub(crate) fn write_whole<E: From<io::Error>>(path: &Path, fill: impl FnOnce(&Path) -> Result<(), E>) -> Result<(), E> {
    let temporary = temporary(path)?;
    fill(&temporary)?;
    // Windows syncs only what is open for writing.
    std::fs::OpenOptions::new().write(true).open(&temporary)?.sync_all()?;
    temporary.persist(path).map_err(|e| e.error)?;
    Ok(())
}

/// An empty file beside `path`, whose folder is made where it is missing. It is removed when dropped.
///
/// # Errors
///
/// What the system says.
pub(crate) fn temporary(path: &Path) -> io::Result<tempfile::TempPath> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)?;
    remove_leftovers(folder);
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    {
        // As any new file, in place of the owner-only mode of temporary files.
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    Ok(builder.prefix(BEGINNING).suffix(ENDING).tempfile_in(folder)?.into_temp_path())
}

/// What the names of temporary files begin and end with.
const BEGINNING: &str = ".genarm-";
const ENDING: &str = ".tmp";
/// A temporary file that has not been written to for so long is what a killed process has left.
const A_DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Removes the temporary files that killed processes have left in a folder. What cannot be removed stays.
fn remove_leftovers(folder: &Path) {
    let is_temporary = |name: &str| name.starts_with(BEGINNING) && name.ends_with(ENDING);
    let is_old = |file: &std::fs::Metadata| {
        !file.is_dir() && file.modified().is_ok_and(|time| time.elapsed().is_ok_and(|age| age > A_DAY))
    };
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_name().to_str().is_some_and(is_temporary) && entry.metadata().is_ok_and(|file| is_old(&file)) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ending_is_put_after_the_whole_name() {
        assert_eq!(appended(Path::new("x/arm-0.05"), ".svg"), Path::new("x/arm-0.05.svg"));
        let names = ["x/arm-0.05", "x/arm-0.05.gguf", "arm.GGUF", ".gguf", "a"].map(|p| model_name(Path::new(p)));
        assert_eq!(names, ["arm-0.05", "arm-0.05", "arm", ".gguf", "a"]);
    }

    #[test]
    fn one_file_is_known_under_all_its_names() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| folder.path().join(name);
        std::fs::write(file("a"), "").unwrap();
        std::fs::create_dir(file("sub")).unwrap();
        assert!(same(&file("a"), &file("sub/../a")) && !same(&file("a"), &file("b")));
        // Neither is there yet.
        assert!(same(&file("new"), &file("sub/../new")) && !same(&file("new"), &file("sub/new")));
        #[cfg(unix)]
        {
            std::fs::hard_link(file("a"), file("hard")).unwrap();
            std::os::unix::fs::symlink("a", file("soft")).unwrap();
            assert!(same(&file("a"), &file("hard")) && same(&file("soft"), &file("hard")));
        }
    }

    #[test]
    fn a_write_removes_what_a_killed_one_has_left_more_than_a_day_ago() {
        let folder = tempfile::tempdir().unwrap();
        let two_days_ago = std::time::SystemTime::now() - 2 * A_DAY;
        let leave = |path: &Path| std::fs::File::options().write(true).open(path)?.set_modified(two_days_ago);
        for name in [".genarm-notes", "results.tmp"] {
            std::fs::write(folder.path().join(name), "the user's own").unwrap();
            leave(&folder.path().join(name)).unwrap();
        }
        let names = || {
            let mut names: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|f| f.unwrap().file_name()).collect();
            names.sort();
            names
        };
        let killed = temporary(&folder.path().join("a")).unwrap().keep().unwrap();
        write_whole(&folder.path().join("b"), |new| std::fs::write(new, "")).unwrap();
        let mut kept = [".genarm-notes", "b", "results.tmp"].map(Into::into).to_vec();
        kept.push(killed.file_name().unwrap().to_owned());
        kept.sort();
        assert_eq!(names(), kept, "it may be in use");
        leave(&killed).unwrap();
        write_whole(&folder.path().join("b"), |new| std::fs::write(new, "")).unwrap();
        assert_eq!(names(), [".genarm-notes", "b", "results.tmp"]);
    }

    #[test]
    fn a_failed_write_leaves_the_old_file_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/arm-0.05");
        write_whole(&path, |temporary| std::fs::write(temporary, "old")).unwrap();
        let failed = write_whole(&path, |temporary| {
            std::fs::write(temporary, "half")?;
            Err(io::Error::other("no"))
        });
        assert!(failed.is_err());
        let names: Vec<_> =
            std::fs::read_dir(path.parent().unwrap()).unwrap().map(|f| f.unwrap().file_name()).collect();
        assert_eq!((names, std::fs::read_to_string(&path).unwrap()), (vec!["arm-0.05".into()], "old".to_owned()));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = |p: &Path| std::fs::metadata(p).unwrap().permissions().mode();
            let ordinary = folder.path().join("ordinary");
            std::fs::write(&ordinary, "").unwrap();
            assert_eq!(mode(&path), mode(&ordinary));
        }
    }
}
