//! Why a GGUF file cannot be used, in words that say what to do about it.

use super::ModelKind;
use std::io;
use std::path::PathBuf;
use thiserror::Error;

/// Why a GGUF file cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum GgufError {
    /// There is no such file.
    #[error("{path}: no such file; check the path", path = path.display())]
    NotFound {
        /// The path as given.
        path: PathBuf,
    },
    /// A link to a file that is not there, as in a cache whose download was not finished.
    #[error("{path} is a link to {target}, which does not exist; download the file again", path = path.display(), target = target.display())]
    DanglingLink {
        /// The path as given.
        path: PathBuf,
        /// What the link names.
        target: PathBuf,
    },
    /// An address on the web.
    #[error("{path}: only files on this machine can be read; download the file and give its path, or name it as hf:USER/REPO[:QUANT]", path = path.display())]
    Remote {
        /// The path as given.
        path: PathBuf,
    },
    /// The path is a folder.
    #[error("{path} is a directory, not a GGUF file{hint}", path = path.display())]
    Directory {
        /// The path as given.
        path: PathBuf,
        /// What to give instead, ready to be appended.
        hint: String,
    },
    /// The file has no bytes.
    #[error("{path} is empty (0 bytes); download it again", path = path.display())]
    Empty {
        /// The path as given.
        path: PathBuf,
    },
    /// The file starts with something else than `GGUF`.
    #[error("{path} is not a GGUF file: it starts with \"{starts_with}\" instead of \"GGUF\"{hint}", path = path.display())]
    NotGguf {
        /// The path as given.
        path: PathBuf,
        /// The first bytes, escaped.
        starts_with: String,
        /// What the file seems to be and what to do, ready to be appended.
        hint: &'static str,
    },
    /// A GGUF version that llama.cpp does not read.
    #[error("{path} is GGUF version {version}, but only versions 2 and 3 can be read; convert the model again with a current llama.cpp", path = path.display())]
    Version {
        /// The path as given.
        path: PathBuf,
        /// The version in the header.
        version: u32,
    },
    /// The file was written for a machine of the other byte order.
    #[error("{path} is a big-endian GGUF file, and this machine is little-endian; get the little-endian file, or convert it with gguf_convert_endian.py", path = path.display())]
    BigEndian {
        /// The path as given.
        path: PathBuf,
    },
    /// Tensor data is missing at the end.
    #[error("{path} is truncated: {actual} bytes of {expected}; download it again", path = path.display())]
    Truncated {
        /// The path as given.
        path: PathBuf,
        /// Smallest size that holds all tensors, in bytes.
        expected: u64,
        /// Size of the file, in bytes.
        actual: u64,
    },
    /// The file ends before its metadata does, or a length in the metadata is wrong.
    #[error("{path} is incomplete or damaged: the {what} at byte {offset} does not fit in a file of {size} bytes; download it again", path = path.display())]
    Incomplete {
        /// The path as given.
        path: PathBuf,
        /// What was being read.
        what: String,
        /// Where, in bytes from the start.
        offset: u64,
        /// Size of the file, in bytes.
        size: u64,
    },
    /// The bytes are there, but mean nothing.
    #[error("{path} is damaged: {what}; download or convert it again", path = path.display())]
    Corrupt {
        /// The path as given.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// A key that every file of this kind must have is absent.
    #[error("{path} lacks the metadata key {key}; convert the model again", path = path.display())]
    MissingKey {
        /// The path as given.
        path: PathBuf,
        /// The absent key.
        key: String,
    },
    /// A key has a value that llama.cpp cannot work with.
    #[error("{path} has a bad value for the metadata key {key}: {problem}; convert the model again", path = path.display())]
    BadKey {
        /// The path as given.
        path: PathBuf,
        /// The key.
        key: String,
        /// What is wrong with its value.
        problem: String,
    },
    /// A sound file, but of another kind than was asked for.
    #[error("{path} is {found}, not {wanted}: {}", found.advice(*wanted), path = path.display())]
    WrongKind {
        /// The path as given.
        path: PathBuf,
        /// What the file is.
        found: ModelKind,
        /// What was asked for.
        wanted: ModelKind,
    },
    /// A model split over several files, of which some are absent.
    #[error("{path} is one of {n_parts} parts, and {missing} beside it; download all parts into one folder", path = path.display(), missing = absent(missing))]
    MissingPart {
        /// The path as given.
        path: PathBuf,
        /// The absent parts.
        missing: Vec<PathBuf>,
        /// How many parts there are.
        n_parts: u64,
    },
    /// A later part of a split model was given in place of its first.
    #[error("{path} is part {part} of a model of {n_parts} files; give the first part, {first}", path = path.display())]
    NotFirstPart {
        /// The path as given.
        path: PathBuf,
        /// Which part it is, from 1.
        part: u64,
        /// How many parts there are.
        n_parts: u64,
        /// Where the first part is, in words.
        first: String,
    },
    /// The first part of a split model under a name from which the others cannot be found.
    #[error("{path} is the first of {n_parts} parts, and the others are found by its name, which must end in {ending}; give the parts their own names again", path = path.display())]
    PartName {
        /// The path as given.
        path: PathBuf,
        /// How many parts there are.
        n_parts: u64,
        /// The end of the name that it should have.
        ending: String,
    },
    /// The operating system refused to read or write.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The path as given.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// What was to be written does not make a GGUF file.
    #[error("cannot write {path}: {problem}", path = path.display())]
    Write {
        /// The path to be written.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
}

/// The names of absent files, a few of them, with their verb.
fn absent(missing: &[PathBuf]) -> String {
    const SHOWN: usize = 5;
    let names = missing.iter().take(SHOWN).map(|path| path.file_name().unwrap_or_default().display().to_string());
    let names = names.collect::<Vec<_>>().join(", ");
    match missing.len() {
        1 => format!("{names} is not"),
        n if n <= SHOWN => format!("{names} are not"),
        n => format!("{names} and {} more are not", n - SHOWN),
    }
}

/// What the inner readers report; [`GgufFile::open`](super::GgufFile::open) adds the path.
#[derive(Debug)]
pub(super) enum Fault {
    Incomplete { offset: u64, what: String },
    Truncated { expected: u64 },
    Corrupt(String),
    MissingKey(String),
    BadKey { key: String, problem: String },
    Io(io::Error),
}

impl Fault {
    pub(super) fn bad_key(key: impl Into<String>, problem: impl Into<String>) -> Self {
        Fault::BadKey { key: key.into(), problem: problem.into() }
    }

    pub(super) fn at(self, path: PathBuf, size: u64) -> GgufError {
        match self {
            Fault::Incomplete { offset, what } => GgufError::Incomplete { path, what: line(what), offset, size },
            Fault::Truncated { expected } => GgufError::Truncated { path, expected, actual: size },
            Fault::Corrupt(what) => GgufError::Corrupt { path, what: line(what) },
            Fault::MissingKey(key) => GgufError::MissingKey { path, key: line(key) },
            Fault::BadKey { key, problem } => GgufError::BadKey { path, key: line(key), problem: line(problem) },
            Fault::Io(source) => GgufError::Io { path, source },
        }
    }
}

/// Names in a damaged file may hold anything: a message stays one line, without control characters.
fn line(text: String) -> String {
    const CHARS_MAX: usize = 200;
    let cut = text.chars().count() > CHARS_MAX;
    let shown = text.chars().take(CHARS_MAX).map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c });
    shown.chain(cut.then_some('…')).collect()
}
