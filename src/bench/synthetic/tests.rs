use super::*;
use crate::engine::gguf::GgufFile;

fn tiny(vocabulary: &SyntheticVocabulary, quantization: Quantization, seed: u64, path: &Path) -> u64 {
    let shape = Shape::of_size(2_000_000, vocabulary.n_tokens() as u64).expect("a tiny shape");
    let model = SyntheticModel { name: "tiny", shape, quantization, vocabulary, n_ctx_train: 256, seed };
    model.write(path).expect("the file is written")
}

#[test]
fn a_seed_gives_the_same_bytes_and_another_seed_others() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let vocabulary = SyntheticVocabulary::byte_level(300);
    let bytes = |seed| {
        let path = folder.path().join("tiny.gguf");
        let size = tiny(&vocabulary, Quantization::Q4_0, seed, &path);
        let bytes = std::fs::read(&path).expect("the file");
        assert_eq!(bytes.len() as u64, size);
        bytes
    };
    assert!(bytes(1) == bytes(1));
    assert!(bytes(1) != bytes(2));
}

#[test]
fn the_quantisation_mix_is_that_of_llama_quantize() {
    let types = |quantization: Quantization| (0..16).map(|i| quantization.delicate(i, 16)).collect::<Vec<_>>();
    let wide: Vec<u64> = (0..16).filter(|i| types(Quantization::Q4_K_M)[*i as usize] == TensorType::Q6_K).collect();
    // The first two of sixteen, the last two, and every third between.
    assert_eq!(wide, [0, 1, 4, 7, 10, 13, 14, 15]);
    assert!(types(Quantization::Q4_0).iter().all(|ty| *ty == TensorType::Q4_0));
    assert!("Q3_K".parse::<Quantization>().is_err());
}

#[test]
fn a_synthetic_model_passes_the_check_before_load() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("tiny.gguf");
    tiny(&SyntheticVocabulary::byte_level(512), Quantization::Q4_K_M, 1, &path);
    let file = GgufFile::open_model(&path).expect("a sound model");
    assert_eq!((file.file_type(), file.vocabulary().map(|v| v.n_tokens())), (Some("Q4_K_M"), Some(512)));
    let copied = SyntheticVocabulary::from_gguf(&path).expect("its vocabulary");
    assert_eq!(copied.n_tokens(), 512);
}
