//! Paths that are nearly right: folders, links, and models split over several files.

use super::error::Fault;
use super::parse::Parsed;
use super::{GgufError, GgufFile};
use std::fs;
use std::path::{Path, PathBuf};

/// What to give in place of the folder `path`, to be appended to the message.
pub(super) fn directory_hint(path: &Path) -> String {
    let files = |extension: &str| {
        let entries = fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
        let mut files: Vec<String> = entries
            .filter(|file| file.extension().is_some_and(|found| found == extension))
            .map(|file| file.display().to_string())
            .collect();
        files.sort();
        files
    };
    let models = files("gguf");
    match models.len() {
        0 if !files("safetensors").is_empty() => {
            "; its weights are safetensors: convert a model with llama.cpp's convert_hf_to_gguf.py, an adapter with \
             convert_lora_to_gguf.py"
                .to_owned()
        }
        0 => "; give the path of the file".to_owned(),
        1 => format!("; did you mean {}?", models[0]),
        n => format!("; give one of its {n} GGUF files, such as {}", models[0]),
    }
}

/// How a file that is not there was meant.
pub(super) fn not_found(path: &Path) -> GgufError {
    let path = path.to_path_buf();
    let text = path.to_string_lossy();
    if text.contains("://") || text.starts_with("hf.co/") || text.starts_with("huggingface.co/") {
        return GgufError::Remote { path };
    }
    match fs::read_link(&path) {
        Ok(target) => GgufError::DanglingLink { path, target },
        Err(_) => GgufError::NotFound { path },
    }
}

/// A file's place among the parts of a split model.
struct Split {
    /// From 0.
    part: u64,
    n_parts: u64,
}

impl Split {
    /// Of a model that is split.
    fn of(parsed: &Parsed) -> Option<Self> {
        let number = |key| parsed.index.get(key).and_then(|i| parsed.metadata[*i].1.as_u64());
        let n_parts = number("split.count").filter(|n| *n > 1)?;
        Some(Self { part: number("split.no").unwrap_or(0), n_parts })
    }

    /// The path of each part, by the names that llama.cpp looks for: `<prefix>-00002-of-00004.gguf`.
    fn path(&self, path: &Path, part: u64) -> Option<PathBuf> {
        let name = path.file_name()?.to_string_lossy();
        let prefix = name.strip_suffix(&self.ending(self.part))?;
        Some(path.with_file_name(format!("{prefix}{}", self.ending(part))))
    }

    fn ending(&self, part: u64) -> String {
        format!("-{:05}-of-{:05}.gguf", part.saturating_add(1), self.n_parts)
    }
}

/// Whether it is one file of several.
pub(super) fn is_split(parsed: &Parsed) -> bool {
    Split::of(parsed).is_some()
}

/// Refuses a later part of a split model, which has nothing but tensors.
pub(super) fn check_is_first(path: &Path, parsed: &Parsed) -> Result<(), GgufError> {
    let Some(split) = Split::of(parsed).filter(|split| split.part > 0) else { return Ok(()) };
    let first = match split.path(path, 0) {
        Some(first) if first.exists() => first.display().to_string(),
        Some(first) => format!("{}, which is not beside it", first.display()),
        None => format!("whose name ends in {}", split.ending(0)),
    };
    let (part, n_parts) = (split.part.saturating_add(1), split.n_parts);
    Err(GgufError::NotFirstPart { path: path.to_path_buf(), part, n_parts, first })
}

/// The paths of all parts: one, where the model is not split.
pub(super) fn paths(file: &GgufFile) -> Vec<PathBuf> {
    let others = |split: Split| (1..split.n_parts).filter_map(|part| split.path(&file.path, part)).collect::<Vec<_>>();
    let others = Split::of(&file.parsed).map(others);
    std::iter::once(file.path.clone()).chain(others.unwrap_or_default()).collect()
}

/// Checks that all other parts lie beside the first, each of them whole. Returns what they hold.
pub(super) fn rest(file: &GgufFile) -> Result<Vec<Parsed>, GgufError> {
    /// More files than any model is split into: a damaged count.
    const PARTS_MAX: u64 = 99_999;
    let Some(split) = Split::of(&file.parsed) else { return Ok(Vec::new()) };
    let (path, n_parts) = (file.path.clone(), split.n_parts);
    if n_parts > PARTS_MAX {
        return Err(Fault::bad_key("split.count", format!("{n_parts} parts are too many")).at(path, file.size));
    }
    let others = paths(file).split_off(1);
    if (others.len() as u64).saturating_add(1) < n_parts {
        return Err(GgufError::PartName { path, n_parts, ending: split.ending(0) });
    }
    let missing: Vec<_> = others.iter().filter(|other| !other.exists()).cloned().collect();
    if !missing.is_empty() {
        return Err(GgufError::MissingPart { path, missing, n_parts });
    }
    let whole = |(part, path): (u64, PathBuf)| {
        let (size, _, parsed) = GgufFile::parse(&path)?;
        match Split::of(&parsed) {
            Some(found) if (found.part, found.n_parts) == (part, n_parts) => Ok(parsed),
            _ => {
                let what = format!("it is not part {} of {n_parts}, as its name says", part.saturating_add(1));
                Err(Fault::Corrupt(what).at(path, size))
            }
        }
    };
    (1..n_parts).zip(others).map(whole).collect()
}
