//! GGUF files, read in safe Rust before llama.cpp sees them.
//!
//! llama.cpp reports most faults of a file through its log, some as a C++ exception, and some by ending the process. A
//! file that passes [`GgufFile::open`] has sound lengths, complete tensors, and the metadata that llama.cpp asserts; a
//! file that does not is one clear [`GgufError`]. The same reader serves `genarm inspect`, and [`GgufWriter`] makes
//! adapters, synthetic models and test files.

mod adapter;
mod draft_head;
mod error;
mod fingerprint;
mod header;
mod hparams;
mod kind;
pub mod parm;
mod parse;
mod reader;
mod split;
mod tensor;
mod value;
mod vocabulary;
mod writer;

pub use error::GgufError;
pub use kind::ModelKind;
pub use parm::Parm;
#[cfg(feature = "train")]
pub(crate) use tensor::file_type_name;
pub use tensor::{TensorInfo, TensorType};
pub use value::{Array, Strings, Value};
pub use vocabulary::{SpecialIds, TokenType, Vocabulary};
pub use writer::{GgufWriter, TensorData};

use error::Fault;
use parse::Parsed;
use reader::Reader;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, ErrorKind};
use std::path::{Path, PathBuf};

/// The metadata and the tensor list of a GGUF file, checked.
#[derive(Debug)]
pub struct GgufFile {
    path: PathBuf,
    size: u64,
    version: u32,
    parsed: Parsed,
    /// The later files of a split model.
    rest: Vec<Parsed>,
    kind: ModelKind,
}

impl GgufFile {
    /// Reads and checks a file of any [kind](ModelKind).
    ///
    /// # Errors
    ///
    /// Every fault that [`GgufError`] lists but [`GgufError::WrongKind`].
    ///
    /// # Cost
    ///
    /// Reads the metadata only, once: about 30 ms for a vocabulary of 128 thousand tokens.
    pub fn open(path: impl AsRef<Path>) -> Result<GgufFile, GgufError> {
        let path = path.as_ref();
        let (size, version, parsed) = Self::parse(path)?;
        Self::checked(path.to_path_buf(), size, version, parsed)
    }

    /// Reads a file on disk, as far as it is GGUF at all: its size, version and contents.
    fn parse(path: &Path) -> Result<(u64, u32, Parsed), GgufError> {
        let io = |source: std::io::Error| match source.kind() {
            ErrorKind::NotFound => split::not_found(path),
            _ => GgufError::Io { path: path.to_path_buf(), source },
        };
        let metadata = fs::metadata(path).map_err(io)?;
        if metadata.is_dir() {
            return Err(GgufError::Directory { path: path.to_path_buf(), hint: split::directory_hint(path) });
        }
        if !metadata.is_file() {
            // A pipe has no size to check against, and llama.cpp cannot map it.
            let source = std::io::Error::new(ErrorKind::InvalidInput, "not a regular file; give a GGUF file on disk");
            return Err(GgufError::Io { path: path.to_path_buf(), source });
        }
        let file = File::open(path).map_err(io)?;
        let (version, parsed) = Self::read(path, BufReader::with_capacity(1 << 18, file), metadata.len())?;
        Ok((metadata.len(), version, parsed))
    }

    /// Reads and checks a causal language model, as a base or an ARM must be.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open), and [`GgufError::WrongKind`] for a file of another kind.
    pub fn open_model(path: impl AsRef<Path>) -> Result<GgufFile, GgufError> {
        Self::open(path)?.require(ModelKind::Model)
    }

    /// Reads and checks a LoRA adapter.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open), and [`GgufError::WrongKind`] for a file of another kind.
    pub fn open_adapter(path: impl AsRef<Path>) -> Result<GgufFile, GgufError> {
        Self::open(path)?.require(ModelKind::Adapter)
    }

    fn require(self, wanted: ModelKind) -> Result<GgufFile, GgufError> {
        match self.kind == wanted {
            true => Ok(self),
            false => Err(GgufError::WrongKind { path: self.path, found: self.kind, wanted }),
        }
    }

    /// Whether it is one file of several.
    fn is_split(&self) -> bool {
        split::is_split(&self.parsed)
    }

    /// Reads a file of `size` bytes from `source`; `path` is for messages.
    fn read(path: &Path, mut source: impl BufRead, size: u64) -> Result<(u32, Parsed), GgufError> {
        let version = match source.fill_buf() {
            Ok(head) => header::check(path, head, size)?,
            Err(source) => return Err(GgufError::Io { path: path.to_path_buf(), source }),
        };
        let parsed = parse::parse(&mut Reader::new(source, size), size);
        Ok((version, parsed.map_err(|fault| fault.at(path.to_path_buf(), size))?))
    }

    /// Judges what was read; `path` finds the other parts of a split model.
    fn checked(path: PathBuf, size: u64, version: u32, parsed: Parsed) -> Result<GgufFile, GgufError> {
        split::check_is_first(&path, &parsed)?;
        let mut file = GgufFile { path, size, version, parsed, rest: Vec::new(), kind: ModelKind::Other };
        file.kind = ModelKind::of(&file);
        match file.check() {
            Ok(()) => file.rest = split::rest(&file)?,
            Err(fault) => return Err(fault.at(file.path, size)),
        }
        Ok(file)
    }

    fn check(&self) -> Result<(), Fault> {
        // Helper files of some kinds say what they are by their type alone.
        if self.kind != ModelKind::Other && self.architecture().is_none_or(str::is_empty) {
            return Err(Fault::MissingKey("general.architecture".to_owned()));
        }
        match self.kind {
            ModelKind::Model => hparams::check(self).and_then(|()| vocabulary::check(self)),
            ModelKind::VocabOnly => vocabulary::check(self),
            ModelKind::Adapter => adapter::check(self),
            ModelKind::Embedding | ModelKind::Projector | ModelKind::Image | ModelKind::Other => Ok(()),
        }
    }

    /// The path as given.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its files: one, or those of a split model in order.
    pub fn paths(&self) -> Vec<PathBuf> {
        split::paths(self)
    }

    /// Size of the file, in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Version of the format, 2 or 3.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// What the file holds.
    pub fn kind(&self) -> ModelKind {
        self.kind
    }

    /// Tensor data starts at multiples of this, in bytes.
    pub fn alignment(&self) -> u64 {
        self.parsed.alignment
    }

    /// All metadata, in the order of the file.
    pub fn metadata(&self) -> &[(String, Value)] {
        &self.parsed.metadata
    }

    /// The value of a metadata key.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.parsed.index.get(key).map(|i| &self.parsed.metadata[*i].1)
    }

    /// The value of a metadata key, if it is text.
    pub fn str(&self, key: &str) -> Option<&str> {
        self.get(key)?.as_str()
    }

    /// The value of a metadata key, if it is an integer and not negative.
    pub fn u64(&self, key: &str) -> Option<u64> {
        self.get(key)?.as_u64()
    }

    /// The architecture, such as `llama`.
    pub fn architecture(&self) -> Option<&str> {
        self.str("general.architecture")
    }

    /// The key of a hyper-parameter of this architecture: `block_count` gives `llama.block_count`.
    pub fn hparam_key(&self, name: &str) -> String {
        format!("{}.{name}", self.architecture().unwrap_or_default())
    }

    /// A hyper-parameter by the part of its key after the architecture, such as `block_count`.
    pub fn hparam(&self, name: &str) -> Option<&Value> {
        self.get(&self.hparam_key(name))
    }

    /// A hyper-parameter, if it is an integer and not negative.
    pub fn hparam_u64(&self, name: &str) -> Option<u64> {
        self.hparam(name)?.as_u64()
    }

    /// The context length that the model was trained for, in tokens.
    pub fn n_ctx_train(&self) -> Option<u64> {
        self.hparam_u64("context_length")
    }

    /// The longest context that the model gives sense in, in tokens: what it was trained for, or what the file's RoPE
    /// scaling stretches that to.
    pub fn n_ctx_reach(&self) -> Option<u64> {
        hparams::n_ctx_reach(self)
    }

    /// Whether this adapter can be put on `model`: else why not.
    ///
    /// # Errors
    ///
    /// The first thing that does not fit, in words.
    pub fn fits(&self, model: &GgufFile) -> Result<(), String> {
        adapter::fits(self, model)
    }

    /// The first tensor that this adapter acts on and that llama.cpp multiplies without adapters, if there is one.
    pub fn inert_on(&self, model: &GgufFile) -> Option<String> {
        adapter::inert(self, model)
    }

    /// Why there is no head to draft with, as the end of a sentence that begins with the file; `None` where there is one.
    pub fn lacks_draft_head(&self) -> Option<String> {
        draft_head::lack(self)
    }

    /// Bytes that a token costs which this head drafts.
    pub fn draft_head_bytes(&self) -> u64 {
        draft_head::n_bytes(self)
    }

    /// Whether it keeps a state of its own, beside keys and values or in place of them.
    pub fn is_recurrent(&self) -> bool {
        hparams::is_recurrent(self)
    }

    /// All tensors of this file, in its order.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.parsed.tensors
    }

    /// All tensors, those of a split model's other files too.
    pub fn all_tensors(&self) -> impl Iterator<Item = &TensorInfo> {
        self.tensors().iter().chain(self.rest.iter().flat_map(|part| &part.tensors))
    }

    /// The tensor of this name, in whichever file of a split model.
    pub(crate) fn any_tensor(&self, name: &str) -> Option<&TensorInfo> {
        let mut files = std::iter::once(&self.parsed).chain(&self.rest);
        files.find_map(|file| file.tensor_index.get(name).map(|i| &file.tensors[*i]))
    }

    /// The tensor of this name.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.parsed.tensor_index.get(name).map(|i| &self.parsed.tensors[*i])
    }

    /// Number of parameters: the numbers in all tensors.
    pub fn n_params(&self) -> u64 {
        self.all_tensors().map(TensorInfo::n_elements).fold(0, u64::saturating_add)
    }

    /// Bytes of all tensors: what the weights take in memory.
    pub fn n_tensor_bytes(&self) -> u64 {
        self.all_tensors().map(|t| t.n_bytes).sum()
    }

    /// The quantisation as files are named after it, such as `Q4_K_M`; of the commonest tensor type where the file
    /// names none.
    pub fn file_type(&self) -> Option<&'static str> {
        self.u64("general.file_type").and_then(tensor::file_type_name).or_else(|| {
            let mut elements = BTreeMap::<TensorType, u64>::new();
            for tensor in self.all_tensors() {
                let sum = elements.entry(tensor.ty).or_default();
                *sum = sum.saturating_add(tensor.n_elements());
            }
            elements.into_iter().max_by_key(|(_, n)| *n).map(|(ty, _)| ty.name())
        })
    }

    /// The chat template, in Jinja.
    pub fn chat_template(&self) -> Option<&str> {
        self.str("tokenizer.chat_template")
    }

    /// The vocabulary, if the file has one.
    pub fn vocabulary(&self) -> Option<Vocabulary<'_>> {
        Vocabulary::of(self)
    }
}

#[cfg(test)]
mod tests;
