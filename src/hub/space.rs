//! Room on the disk.

use std::path::Path;

use super::error::HubError;

/// Refuses a download that does not fit. `path` is a file in the folder that it goes to.
///
/// # Errors
///
/// [`HubError::Full`].
pub fn check_space(path: &Path, file: &str, needed: u64) -> Result<(), HubError> {
    match free(path) {
        Some(free) if free < needed => Err(full(path, file, needed)),
        _ => Ok(()),
    }
}

/// The error where the disk is full.
pub fn full(path: &Path, file: &str, needed: u64) -> HubError {
    let folder = path.parent().unwrap_or(path).to_owned();
    HubError::Full { file: file.to_owned(), needed, free: free(path).unwrap_or(0), folder }
}

/// The bytes that are free for this user; `None` where the system does not say.
#[cfg(unix)]
fn free(path: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(path.parent()?).ok()?;
    Some(disk.f_bavail.saturating_mul(disk.f_frsize))
}

#[cfg(not(unix))]
fn free(_: &Path) -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn a_file_larger_than_the_disk_is_refused_with_what_is_free() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        check_space(&path, "x.gguf", 1).unwrap();
        let error = check_space(&path, "x.gguf", u64::MAX).unwrap_err().to_string();
        assert!(error.starts_with("x.gguf needs 16.00 EiB more, and ") && error.contains("make room"), "{error}");
    }
}
