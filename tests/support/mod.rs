//! What tests share: models to run on, and experts made of them.

pub mod binary;
pub mod memory;
pub mod parm;
pub mod random;
pub mod vocabularies;

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use genarm::Token;
use genarm::engine::Sequence;
use genarm::engine::llama::{Adapters, CacheType, ContextParams, FlashAttention, Model, ModelParams, Vocab};
use genarm::guidance::{Arm, Guide, Weights, check_vocabulary};
use genarm::sampling::params::SamplingParams;
use genarm::sampling::{FailurePolicy, HookState, Sampler};

/// The folder that cargo has laid `libgenarm` in: that of the test binary.
pub fn libraries() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| std::env::current_exe().expect("this test").parent().expect("a folder").to_owned())
}

/// A file that `make test` installs. Without it the test fails, unless `GENARM_WITHOUT` names it: a list with commas
/// between, such as "numpy,nginx".
pub fn tool(path: &Path, name: &str) -> Option<PathBuf> {
    let without = std::env::var("GENARM_WITHOUT").unwrap_or_default();
    let left_out = without.split(',').any(|other| other == name);
    assert!(
        path.exists() || left_out,
        "{name} is missing ({}); make test installs it, GENARM_WITHOUT={name} leaves it out",
        path.display()
    );
    path.exists().then(|| path.to_owned())
}

/// A program on the path, or in one of `further` folders; as [`tool`].
pub fn program(names: &[&str], further: &[PathBuf], name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<_> = std::env::split_paths(&path).chain(further.iter().cloned()).collect();
    let mut files = folders.iter().flat_map(|folder| names.iter().map(move |name| folder.join(name)));
    tool(&files.find(|file| file.is_file()).unwrap_or_else(|| names[0].into()), name)
}

/// `n` ordinary tokens.
pub fn tokens(start: Token, n: usize) -> Vec<Token> {
    (0..n).map(|i| 3 + (start + 37 * i as Token) % 400).collect()
}

/// A base and two ARMs of one vocabulary, trained: see tests/models/README.md.
pub struct Models {
    pub base: PathBuf,
    pub arms: [PathBuf; 2],
}

pub fn models() -> &'static Models {
    static MODELS: OnceLock<Models> = OnceLock::new();
    MODELS.get_or_init(|| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models");
        let [base, a, b] =
            ["stories260K", "arm-cheerful", "arm-dialogue"].map(|name| folder.join(format!("{name}.gguf")));
        Models { base, arms: [a, b] }
    })
}

/// A file of the demo: models of another vocabulary than [`models`].
pub fn demo(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models").join(name)
}

pub fn load(path: &Path) -> Arc<Model> {
    Model::load(path, &ModelParams::default(), &mut |_| true).expect("a sound model")
}

/// F32 caches, so that only the weights' own precision is left.
pub fn context_params() -> ContextParams {
    ContextParams {
        n_ctx: 256,
        n_seq: 1,
        n_batch: 64,
        n_ubatch: 64,
        n_threads: 1,
        n_threads_batch: 1,
        fewer_threads: false,
        type_k: CacheType::F32,
        type_v: CacheType::F32,
        flash_attention: FlashAttention::Off,
        swa_full: true,
        n_snapshots: 0,
    }
}

pub fn sequence(model: &Arc<Model>) -> Sequence {
    Sequence::alone(model, Adapters::All(Vec::new()), &context_params()).expect("a context")
}

pub fn vocab() -> Vocab {
    static BASE: OnceLock<Arc<Model>> = OnceLock::new();
    BASE.get_or_init(|| load(&models().base)).vocab()
}

/// A guide of the two ARMs, called a and b, with these weights.
pub fn guide(weights: [f32; 2]) -> Guide {
    let base = vocab();
    let arms = ["a", "b"].into_iter().zip(&models().arms).map(|(name, path)| {
        let model = load(path);
        let (base, arm) = (base.model().file().vocabulary(), model.file().vocabulary());
        let contract = check_vocabulary(&base.expect("texts"), &arm.expect("texts")).expect("one vocabulary");
        Arm::new(name, Box::new(sequence(&model)), contract)
    });
    let weights = Weights::new(["a", "b"].map(String::from).into_iter().zip(weights));
    Guide::new(arms.collect(), weights)
}

/// A sampler behind a hook with these weights, and the hook's state.
pub fn sampler(params: &SamplingParams, weights: [f32; 2]) -> (Sampler, HookState) {
    let state = HookState::new(guide(weights), FailurePolicy::Base);
    (Sampler::new(params, &vocab(), 256, Some(state.clone())).expect("a sampler"), state)
}

/// Parameters under which nothing is truncated and logits stay as they are.
pub fn open_params() -> SamplingParams {
    SamplingParams { temp: 1.0, top_k: 0, top_p: 1.0, min_p: 0.0, seed: 1, ..SamplingParams::default() }
}
