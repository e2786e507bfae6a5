//! A family: its files, and what transformers and llama.cpp compute with them.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::{MAIN_SEPARATOR, Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};

use flate2::read::GzDecoder;
use genarm::config::{Config, Overrides};
use genarm::engine::Sequence;
use genarm::engine::llama::{ContextParams, Model};
use genarm::engine::share::apart;
use genarm::session::{Session, SessionError};
use genarm::{Expert, Token};
use serde::Deserialize;
use tempfile::TempDir;

use super::Found;
use crate::support;

/// All families of tests/families/models.
pub const FAMILIES: [&str; 31] = [
    "llama",
    "mistral",
    "smollm3",
    "qwen2",
    "qwen3",
    "qwen3moe",
    "qwen3next",
    "qwen35",
    "qwen35moe",
    "gemma2",
    "gemma3",
    "gemma4",
    "phi3",
    "granite",
    "granitemoe",
    "granitehybrid",
    "lfm2",
    "lfm2moe",
    "falconh1",
    "nemotronh",
    "mamba",
    "mamba2",
    "gptoss",
    "deepseek2",
    "deepseek3",
    "glm4",
    "cohere2",
    "exaone4",
    "ernie45",
    "seedoss",
    "olmo2",
];

/// Those of which scripts/tiny-heads makes models with a head for drafting.
pub const HEADS: [&str; 3] = ["qwen3next", "qwen35", "qwen35moe"];

/// Room of every context here.
pub const N_CTX: usize = 256;

/// The head of a golden file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Golden {
    /// Four times the window of the families that have one, and more.
    pub tokens: Vec<Token>,
    /// Of the rows that the file has.
    pub positions: Vec<usize>,
    /// The first of the tokens, and the greedy text that llama.cpp's own tool writes after them.
    pub prompt: String,
    pub n_greedy: usize,
    pub greedy: String,
}

pub struct Family {
    pub name: &'static str,
    _folder: TempDir,
    pub path: PathBuf,
    pub lora: PathBuf,
    pub model: Arc<Model>,
    pub golden: Golden,
    /// By transformers: of the base, and of the base with its LoRA; a row for each of the positions.
    pub rows: [Vec<Vec<f32>>; 2],
}

/// The files of the models.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/families/models")
}

fn unpacked(name: &str) -> Vec<u8> {
    let path = folder().join(name);
    let file = File::open(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut bytes = Vec::new();
    GzDecoder::new(file).read_to_end(&mut bytes).expect("gzip");
    bytes
}

impl Family {
    /// The family of this name, opened once.
    pub fn of(name: &'static str) -> &'static Self {
        static ALL: OnceLock<Mutex<HashMap<&'static str, &'static Family>>> = OnceLock::new();
        let mut all = ALL.get_or_init(Mutex::default).lock().expect("no panic");
        all.entry(name).or_insert_with(|| Box::leak(Box::new(Self::open(name))))
    }

    fn open(name: &'static str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let [path, lora] = ["gguf", "lora.gguf"].map(|end| {
            let path = folder.path().join(format!("{name}.{end}"));
            std::fs::write(&path, unpacked(&format!("{name}.{end}.gz"))).expect("written");
            path
        });
        let golden = unpacked(&format!("{name}.golden.gz"));
        let end = golden.iter().position(|byte| *byte == b'\n').expect("a line");
        let (head, numbers) = (&golden[..end], &golden[end + 1..]);
        let head: Golden = serde_json::from_slice(head).expect("the head");
        let numbers: Vec<_> = numbers.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        let rows: Vec<_> = numbers.chunks(numbers.len() / head.positions.len() / 2).map(<[f32]>::to_vec).collect();
        let (base, adapted) = rows.split_at(head.positions.len());
        let rows = [base.to_vec(), adapted.to_vec()];
        Self { name, model: support::load(&path), path, lora, golden: head, rows, _folder: folder }
    }

    /// How far logits may be from those of transformers, or of batches of another size: what sums in another order make of
    /// F32. llama.cpp looks GELU up in a table of F16.
    pub fn noise(&self) -> f32 {
        if self.name.starts_with("gemma") { 1e-2 } else { 1e-3 }
    }

    /// A refusal, which must be one line; without the folders of this run, and with "…" for what the family is called, so that
    /// it is the same for all families.
    pub fn refused(&self, error: impl std::fmt::Display) -> Found {
        let line = error.to_string();
        assert!(!line.trim().is_empty() && !line.contains('\n'), "not a line: {line:?}");
        let folders = [self._folder.path(), support::models().base.parent().expect("a folder")];
        let line = folders
            .iter()
            .fold(line, |line, folder| line.replace(&format!("{}{MAIN_SEPARATOR}", folder.display()), ""));
        let line = line.replace(&format!("{}.", self.name), "….");
        let arch = self.model.file().architecture().expect("an architecture");
        Found::Refused(line.replace(&format!("`{arch}"), "`…"))
    }

    /// A sequence on a context of its own, with the LoRA or without.
    pub fn alone(&self, with_lora: bool) -> Sequence {
        let adapters = if with_lora { vec![(self.lora.as_path(), 1.0)] } else { Vec::new() };
        apart(&self.model, &adapters, &params(), 1).expect("a context").remove(0)
    }

    /// A context of its own with these settings.
    pub fn with(&self, params: &ContextParams) -> Sequence {
        apart(&self.model, &[], params, 1).expect("a context").remove(0)
    }

    /// Logits after a history, of a context that has read nothing else.
    pub fn fresh(&self, history: &[Token]) -> Vec<f32> {
        self.alone(false).advance(history, 1).expect("a row").to_vec()
    }

    /// `n` tokens that are no prefix of the golden ones.
    pub fn other(&self, n: usize) -> Vec<Token> {
        let n_vocab = self.rows[0][0].len() as Token;
        (0..n as Token).map(|i| 4 + (91 + 37 * i) % (n_vocab - 4)).collect()
    }

    /// The model with a head for drafting, as a file in this folder.
    pub fn with_head(&self, folder: &Path) -> PathBuf {
        let path = folder.join(format!("{}.mtp.gguf", self.name));
        std::fs::write(&path, unpacked(&format!("{}.mtp.gguf.gz", self.name))).expect("written");
        path
    }

    /// A session on the model with `arms` and further settings, in YAML.
    pub fn session(&self, arms: &str, more: &str) -> Result<Session, SessionError> {
        let path = self.path.display();
        let yaml = format!("base: {{model: {path}, {SETTINGS}}}\narms: {{{arms}}}\n{more}\n");
        open(&yaml)
    }

    /// The LoRA as an ARM, in YAML.
    pub fn arm(&self) -> String {
        self.arm_on(&self.path)
    }

    /// The same on a file with the model's bytes.
    pub fn arm_on(&self, model: &Path) -> String {
        let [model, lora] = [model, &self.lora].map(Path::display);
        format!("a: {{model: {model}, {SETTINGS}, lora: [{{path: {lora}}}], reference: base, weight: 0.7}}")
    }
}

/// Settings of a model under which only the model's own numbers are left.
pub const SETTINGS: &str =
    "n_ctx: 256, n_batch: 128, n_ubatch: 128, threads: 1, cache_type_k: f32, cache_type_v: f32, flash_attn: off";

/// A session on a configuration in YAML.
pub fn open(yaml: &str) -> Result<Session, SessionError> {
    let config = Config::parse(yaml, Path::new("prefs.yaml"), &Overrides::default()).expect("a configuration");
    Session::open(config, &mut |_, _| true)
}

pub fn params() -> ContextParams {
    ContextParams { n_ctx: N_CTX as u32, n_batch: 128, n_ubatch: 128, ..support::context_params() }
}

/// The largest difference of two rows.
pub fn distance(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn every_file_of_the_folder_belongs_to_a_family() {
    let entries = std::fs::read_dir(folder()).expect("the folder");
    let mut found: Vec<_> = entries.map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    let ends = ["gguf.gz", "golden.gz", "lora.gguf.gz"];
    let mut wanted: Vec<_> = FAMILIES.iter().flat_map(|name| ends.map(|end| format!("{name}.{end}"))).collect();
    wanted.extend(HEADS.map(|name| format!("{name}.mtp.gguf.gz")));
    found.sort();
    wanted.sort();
    assert_eq!(found, wanted);
}
