//! Paths that are nearly right: folders, and models split over several files.

use super::{GgufError, GgufFile};
use std::fs;
use std::path::Path;

/// What to give in place of the folder `path`, to be appended to the message.
pub(super) fn directory_hint(path: &Path) -> String {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    let mut files: Vec<String> = entries
        .map(|entry| entry.path())
        .filter(|file| file.extension().is_some_and(|extension| extension == "gguf"))
        .map(|file| file.display().to_string())
        .collect();
    files.sort();
    match files.len() {
        0 => "; give the path of the file".to_owned(),
        1 => format!("; did you mean {}?", files[0]),
        n => format!("; give one of its {n} GGUF files, such as {}", files[0]),
    }
}

/// Checks that a split model is given by its first part, and that the others are beside it.
///
/// llama.cpp finds the other parts by their names, `<prefix>-00002-of-00004.gguf`.
pub(super) fn check(file: &GgufFile) -> Result<(), GgufError> {
    let (n_parts, part) = (file.u64("split.count").unwrap_or(0), file.u64("split.no").unwrap_or(0));
    if n_parts < 2 {
        return Ok(());
    }
    let path = file.path().to_path_buf();
    if part != 0 {
        return Err(GgufError::NotFirstPart { path, part: part.saturating_add(1), n_parts });
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let Some(prefix) = name.strip_suffix(&format!("-00001-of-{n_parts:05}.gguf")) else {
        return Ok(());
    };
    for part in 2..=n_parts {
        let missing = path.with_file_name(format!("{prefix}-{part:05}-of-{n_parts:05}.gguf"));
        if !missing.exists() {
            return Err(GgufError::MissingPart { path, missing, n_parts });
        }
    }
    Ok(())
}
