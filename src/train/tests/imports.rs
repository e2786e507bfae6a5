//! Imported adapters against transformers and PEFT: the files of `tests/train/import` are written by
//! `scripts/golden-peft`.

use super::*;
use crate::train::import::{ImportSettings, import};

#[derive(serde::Deserialize)]
struct Golden {
    tokens: Vec<u32>,
    base: Vec<Vec<f32>>,
    adapted: Vec<Vec<f32>>,
}

#[test]
fn an_imported_adapter_gives_the_logits_of_transformers_and_peft() {
    let folder = tempfile::tempdir().unwrap();
    for arch in ["llama", "mistral", "qwen2", "qwen3", "gemma3", "phi3"] {
        let peft = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/train/import").join(arch);
        let golden = std::fs::read_to_string(peft.join("logits.json")).unwrap();
        let golden: Golden = serde_json::from_str(&golden).unwrap();
        let model = peft.join("model.gguf");
        let out = folder.path().join(format!("{arch}.gguf"));
        import(&peft, &model, &out, ImportSettings::default()).unwrap();
        // ggml's table of GELU has 16 bits, and PyTorch's has 32.
        let allowed = if arch == "gemma3" { 3e-3 } else { 1e-4 };
        let difference = |lora: Option<&Path>, wanted: &[Vec<f32>]| {
            largest_difference(&llama_cpp_logits(&model, lora, &golden.tokens), &wanted.concat())
        };
        let (base, adapted) = (difference(None, &golden.base), difference(Some(&out), &golden.adapted));
        println!("{arch}: {base:e} {adapted:e}");
        assert!(base <= allowed && adapted <= allowed, "{arch}: base {base}, adapted {adapted}");
        assert!(difference(Some(&out), &golden.base) > 0.1, "{arch}: the adapter must matter");
    }
}
