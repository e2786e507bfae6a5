//! Two real models, which `scripts/real-models` fetches and `make test-real` tests: SmolLM2-135M-Instruct (Q4_1) and, where it is in
//! the cache, Gemma 3 270M (Q4_K_M). Tests of the latter have `gemma` in their names.

mod law;
mod plain;
mod train;

use std::path::{Path, PathBuf};

use genarm::engine::gguf::{GgufFile, GgufWriter, TensorType};

use crate::support::random::Noise;

/// A file of the folder that `scripts/real-models --where` prints.
fn real(name: &str) -> PathBuf {
    let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache"));
    let cache = || std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(home).expect("a home");
    let folder = std::env::var_os("GENARM_MODELS").map_or_else(|| cache().join("genarm/models"), PathBuf::from);
    let path = folder.join(name);
    assert!(path.is_file(), "{} is missing; scripts/real-models --gemma fetches it", path.display());
    path
}

fn smollm2() -> PathBuf {
    real("SmolLM2-135M-Instruct.Q4_1.gguf")
}

fn gemma() -> PathBuf {
    real("gemma-3-270m-q4_k_m.gguf")
}

/// Writes a LoRA of random numbers on the attention of a model.
fn lora(model: &Path, path: &Path, seed: u64) {
    const RANK: u64 = 4;
    let file = GgufFile::open_model(model).expect("a model");
    let mut noise = Noise(seed);
    let mut writer = GgufWriter::new(path)
        .meta("general.architecture", file.architecture().expect("an architecture"))
        .meta("general.type", "adapter")
        .meta("adapter.type", "lora")
        .meta("adapter.lora.alpha", 2.0 * RANK as f32);
    let matrices = ["attn_q.weight", "attn_k.weight", "attn_v.weight", "attn_output.weight"];
    for tensor in file.tensors().iter().filter(|tensor| matrices.iter().any(|name| tensor.name.ends_with(name))) {
        let (a, b) = ([tensor.dims[0], RANK], [RANK, tensor.dims[1]]);
        for (half, dims) in [("lora_a", a), ("lora_b", b)] {
            let name = format!("{}.{half}", tensor.name);
            writer = writer.tensor(&name, &dims, TensorType::F32, noise.bytes(&dims, 0.0, 0.05));
        }
    }
    writer.finish().expect("the adapter is written");
}
