//! The forward pass agrees with llama.cpp.

use super::*;
use crate::engine::gguf::Array;
use crate::train::TrainError;

const TOKENS: [u32; 24] =
    [1, 403, 407, 261, 378, 100, 33, 45, 260, 300, 301, 302, 310, 288, 99, 410, 411, 12, 77, 5, 6, 7, 403, 261];

#[test]
fn the_forward_pass_agrees_with_llama_cpp_on_a_trained_llama() {
    let path = small_llama();
    let backbone = Backbone::load(&path, &Device::Cpu, None).unwrap();
    let difference = largest_difference(&our_logits(&backbone, &TOKENS), &llama_cpp_logits(&path, None, &TOKENS));
    // The repository's own base is quantised, and llama.cpp then multiplies in 8 bits.
    let allowed = if path.ends_with("stories260K.gguf") { 1e-3 } else { 0.3 };
    assert!(difference <= allowed, "{difference}");
}

#[test]
fn the_forward_pass_agrees_with_llama_cpp_on_every_architecture() {
    let folder = tempfile::tempdir().unwrap();
    for arch in ["llama", "qwen2", "qwen3"] {
        let path = folder.path().join(format!("{arch}.gguf"));
        random_model(&path, arch);
        let backbone = Backbone::load(&path, &Device::Cpu, None).unwrap();
        let difference = largest_difference(&our_logits(&backbone, &TOKENS), &llama_cpp_logits(&path, None, &TOKENS));
        assert!(difference <= 1e-3, "{arch}: {difference}");
    }
}

#[test]
fn the_forward_pass_of_gemma_3_agrees_with_llama_cpp_beyond_its_window() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gemma3.gguf");
    // Of the two layers the first one sees five tokens, the other one all.
    let window = [("attention.sliding_window", Value::U32(5)), ("attention.sliding_window_pattern", Value::U32(2))];
    for keys in [&window[..], &[]] {
        RandomModel::with("gemma3", keys).write(&path);
        let backbone = Backbone::load(&path, &Device::Cpu, None).unwrap();
        let difference = largest_difference(&our_logits(&backbone, &TOKENS), &llama_cpp_logits(&path, None, &TOKENS));
        assert!(difference <= 1e-3, "{} keys: {difference}", keys.len());
    }
    for (key, value, part) in [
        ("final_logit_softcapping", Value::F32(30.0), "final_logit_softcapping"),
        (
            "attention.sliding_window_pattern",
            Value::Array(Array::Bool(vec![true, false])),
            "differs from layer to layer",
        ),
    ] {
        RandomModel::with("gemma3", &[(key, value)]).write(&path);
        let error = Backbone::load(&path, &Device::Cpu, None).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn packed_sequences_do_not_see_each_other() {
    let backbone = Backbone::load(&small_llama(), &Device::Cpu, None).unwrap();
    let mut packed = Packed::default();
    packed.push(&[1, 403, 407, 261, 0], 1);
    packed.push(&TOKENS, 1);
    let both = backbone.logits(&packed).unwrap().narrow(0, 4, TOKENS.len() - 1).unwrap();
    let both = both.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let alone = our_logits(&backbone, &TOKENS[..TOKENS.len() - 1]);
    assert!(largest_difference(&both, &alone) < 1e-4);
}

#[test]
fn a_model_of_another_graph_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("odd.gguf");
    random_model(&path, "gemma9");
    let error = Backbone::load(&path, &Device::Cpu, None).unwrap_err();
    assert!(matches!(&error, TrainError::Architecture { arch, .. } if arch == "gemma9"), "{error}");
}

#[test]
fn a_file_that_is_no_model_is_refused_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("text.gguf");
    std::fs::write(&text, "GGUF is what I am not").unwrap();
    let whole = std::fs::read(small_llama()).unwrap();
    let cut = folder.path().join("cut.gguf");
    std::fs::write(&cut, &whole[..whole.len() / 2]).unwrap();
    for path in [text.as_path(), &cut, folder.path(), &folder.path().join("absent.gguf")] {
        let message = Backbone::load(path, &Device::Cpu, None).unwrap_err().to_string();
        assert!(message.contains(path.to_str().unwrap()) && !message.contains('\n'), "{message}");
    }
}
