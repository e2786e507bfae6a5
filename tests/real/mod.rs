//! Two real models, which `scripts/real-models` fetches and `make test-real` tests: SmolLM2-135M-Instruct (Q4_1) and,
//! where it is in the cache, Gemma 3 270M (Q4_K_M). Tests of the latter have `gemma` in their names.

mod arms;
mod law;
mod parm;
mod plain;
mod train;

use std::path::{Path, PathBuf};

/// A file of the folder that `scripts/real-models --where` prints.
fn real(name: &str) -> PathBuf {
    let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache"));
    let cache = || std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(home).expect("a home");
    let folder = std::env::var_os("GENARM_MODELS").map_or_else(|| cache().join("genarm/models"), PathBuf::from);
    let path = folder.join(name);
    assert!(path.is_file(), "{} is missing; scripts/real-models --gemma fetches it", path.display());
    path
}

pub fn smollm2() -> PathBuf {
    real("SmolLM2-135M-Instruct.Q4_1.gguf")
}

pub fn gemma() -> PathBuf {
    real("gemma-3-270m-q4_k_m.gguf")
}
