//! Where the files of an installation lie, as seen from the running program.

use std::path::{Path, PathBuf};

/// The folder of the running program, with links resolved.
///
/// Read from `/proc` on Linux. Where that is not mounted, taken from the name under which the program was started: a
/// path, or a word that is looked up in `PATH`.
pub(crate) fn folder() -> Option<PathBuf> {
    let program = std::env::current_exe().ok().or_else(started_as)?;
    let program = program.canonicalize().unwrap_or(program);
    Some(program.parent()?.to_owned())
}

/// What `argv[0]` names.
fn started_as() -> Option<PathBuf> {
    let name = PathBuf::from(std::env::args_os().next()?);
    if name.components().count() > 1 {
        return Some(name);
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(&name)).find(|file| file.is_file())
}

/// The name of a folder beside [`folder`], in which a release keeps what is only for genarm: from `bin` to
/// `lib/genarm`.
const LIBRARIES: &str = "../lib/genarm";

/// Folders in which `name` may lie: beside the program, as cargo builds it, and in `lib/genarm`, as a release has it.
pub(crate) fn candidates(name: &str) -> Vec<PathBuf> {
    folder().map(|folder| vec![folder.join(name), folder.join(LIBRARIES).join(name)]).unwrap_or_default()
}

/// Folders in which a library for other programs may lie, best first. Under `lib` beside `bin`, a release has copies
/// for newer processors where glibc's loader looks for them.
pub(crate) fn libraries(program: &Path) -> Vec<PathBuf> {
    let newer = is_v3().then_some("../lib/glibc-hwcaps/x86-64-v3");
    // Cargo's own folder first, where tests have the newest.
    ["deps", ""].into_iter().chain(newer).chain(["../lib"]).map(|beside| program.join(beside)).collect()
}

/// Whether the processor has what the level x86-64-v3 stands for: AVX2 and its kind.
fn is_v3() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::is_x86_feature_detected as has;
        has!("avx2") && has!("bmi1") && has!("bmi2") && has!("f16c") && has!("fma") && has!("lzcnt") && has!("movbe")
    }
    #[cfg(not(target_arch = "x86_64"))]
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_of_this_test_is_found() {
        let folder = folder().expect("a program has a folder");
        assert!(folder.ends_with("deps"), "{}", folder.display());
    }

    #[test]
    fn a_release_is_looked_for_in_lib_beside_bin() {
        let folders = libraries(Path::new("/opt/genarm/bin"));
        assert_eq!(folders.last(), Some(&PathBuf::from("/opt/genarm/bin/../lib")));
        assert!(candidates("backends").iter().any(|folder| folder.ends_with("../lib/genarm/backends")));
    }
}
