use super::*;
use proptest::prelude::*;

/// A small but complete model, as bytes, with changes by `edit`.
fn model(edit: impl FnOnce(GgufWriter<'static>) -> GgufWriter<'static>) -> Vec<u8> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("model.gguf");
    let tokens: Strings = ["<unk>", "<s>", "</s>", "a"].into_iter().collect();
    let writer = GgufWriter::new(&path)
        .meta("general.architecture", "llama")
        .meta("general.file_type", 0u32)
        .meta("llama.context_length", 64u32)
        .meta("llama.embedding_length", 8u32)
        .meta("llama.block_count", 1u32)
        .meta("llama.attention.head_count", 2u32)
        .meta("llama.attention.layer_norm_rms_epsilon", 1e-5f32)
        .meta("tokenizer.ggml.model", "llama")
        .meta("tokenizer.ggml.tokens", tokens)
        .meta("tokenizer.ggml.scores", vec![0.0f32; 4])
        .meta("tokenizer.ggml.token_type", vec![2, 3, 3, 1])
        .meta("tokenizer.ggml.bos_token_id", 1u32)
        .meta("tokenizer.ggml.eos_token_id", 2u32)
        .tensor("token_embd.weight", &[8, 4], TensorType::F32, vec![0u8; 128])
        .tensor("output_norm.weight", &[8], TensorType::F32, vec![0u8; 32]);
    edit(writer).finish().expect("the model is written");
    fs::read(&path).expect("the model is there")
}

fn read(bytes: &[u8]) -> Result<GgufFile, GgufError> {
    let (path, size) = (PathBuf::from("x.gguf"), bytes.len() as u64);
    let (version, parsed) = GgufFile::read(&path, bytes, size)?;
    GgufFile::checked(path, size, version, parsed)
}

fn message(bytes: &[u8]) -> String {
    read(bytes).expect_err("the file is bad").to_string()
}

#[test]
fn what_is_written_is_read_back() {
    let every_type = [
        Value::U8(1),
        Value::I8(-1),
        Value::U16(2),
        Value::I16(-2),
        Value::U32(3),
        Value::I32(-3),
        Value::F32(0.5),
        Value::Bool(true),
        Value::String("text".into()),
        Value::U64(4),
        Value::I64(-4),
        Value::F64(0.25),
        Value::Array(Array::U8(vec![1, 2])),
        Value::Array(Array::I8(vec![-1, 2])),
        Value::Array(Array::U16(vec![1, 2])),
        Value::Array(Array::I16(vec![-1, 2])),
        Value::Array(Array::U32(vec![1, 2])),
        Value::Array(Array::I32(vec![-1, 2])),
        Value::Array(Array::F32(vec![1.5])),
        Value::Array(Array::Bool(vec![true, false])),
        Value::Array(Array::Strings(["a", "", "bc"].into_iter().collect())),
        Value::Array(Array::U64(vec![1])),
        Value::Array(Array::I64(vec![-1])),
        Value::Array(Array::F64(vec![])),
    ];
    let add = |w: GgufWriter<'static>, (i, v): (usize, &Value)| w.meta(&format!("test.{i}"), v.clone());
    let file = read(&model(|w| every_type.iter().enumerate().fold(w, add))).expect("a sound file");
    for (i, value) in every_type.iter().enumerate() {
        assert_eq!(file.get(&format!("test.{i}")), Some(value));
    }
    assert_eq!(file.kind(), ModelKind::Model);
    assert_eq!((file.n_params(), file.n_tensor_bytes(), file.file_type()), (40, 160, Some("F32")));
    assert_eq!(file.tensor("output_norm.weight").map(|t| t.offset % 32), Some(0));
    let vocabulary = file.vocabulary().expect("a vocabulary");
    assert_eq!((vocabulary.n_tokens(), vocabulary.text(3), vocabulary.text(4)), (4, Some(&b"a"[..]), None));
    assert_eq!(vocabulary.token_type(1), TokenType::Control);
    assert_eq!((vocabulary.special_ids().bos, vocabulary.special_ids().pad), (Some(1), None));
}

#[test]
fn another_alignment_is_honoured() {
    let bytes = model(|w| w.meta("general.alignment", 256u32));
    let file = read(&bytes).expect("a sound file");
    assert!(file.tensors().iter().all(|t| t.offset % 256 == 0));
    assert!(message(&model(|w| w.meta("general.alignment", 48u32))).contains("power of two"));
}

#[test]
fn a_file_cut_anywhere_is_an_error_that_says_so() {
    let bytes = model(|w| w);
    let end = read(&bytes).expect("a sound file").tensors().iter().map(|t| t.offset + t.n_bytes).max();
    for cut in 0..end.expect("tensors") as usize {
        let said = message(&bytes[..cut]);
        let expected = ["empty", "incomplete", "truncated", "not a GGUF"];
        assert!(expected.iter().any(|word| said.contains(word)), "cut at {cut}: {said}");
        assert!(!said.contains('\n'), "{said}");
    }
    assert!(message(&bytes[..bytes.len() - 1]).ends_with("download it again"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn flipped_bytes_never_panic(flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
        let mut bytes = SMALL.with(Vec::clone);
        for (place, value) in flips {
            let place = place.index(bytes.len());
            bytes[place] = value;
        }
        if let Err(error) = read(&bytes) {
            prop_assert!(!error.to_string().contains('\n'));
        }
    }
}

thread_local! {
    static SMALL: Vec<u8> = model(|w| w);
}

#[test]
fn a_huge_count_takes_no_memory() {
    for place in [8, 16] {
        let mut bytes = model(|w| w);
        bytes[place..place + 8].copy_from_slice(&(u64::MAX / 2).to_le_bytes());
        assert!(message(&bytes).contains("does not fit"), "{}", message(&bytes));
    }
}

#[test]
fn what_is_not_gguf_is_named_for_what_it_is() {
    let cases: [(&[u8], &str); 20] = [
        (b"", "is empty"),
        (b"Hello, world", "starts with \"Hello, world\""),
        (b"<!DOCTYPE html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12", "git lfs pull"),
        (b"\x10\x02\0\0\0\0\0\0{\"a\":{}}", "safetensors"),
        (b"PK\x03\x04\x14\0\0\0\0\0archive/data.pkl", "PyTorch weights"),
        (b"\x80\x02}q\0X\0\0\0\0\0\0", "PyTorch weights"),
        (b"PK\x03\x04\x14\0\0\0\0\0model.gguf", "a zip archive; unpack it"),
        (b"\x1f\x8b\x08\x08\0\0\0\0", "gzip; unpack it"),
        (b"\x28\xb5\x2f\xfd\0\0\0\0", "compressed file; unpack it"),
        (b"\x04\0\0\0\x18\0\0\0blk.0.attn_q.weight", "an importance matrix"),
        (b"Entry not found", "a server's answer"),
        (b"Invalid username or password.", "a server's answer"),
        (b"{\"error\": \"gated\"}", "JSON"),
        (&[0; 64], "a download that was not finished"),
        (b"GG", "incomplete"),
        (b"lmgg\x01\0\0\0", "old ggml format"),
        (b"algg\x01\0\0\0", "old ggml format"),
        (b"7z\xbc\xaf\x27\x1c\0\x04", "unpack it"),
        (b"\xfd7zXZ\0\0\x04", "unpack it"),
    ];
    for (bytes, words) in cases {
        assert!(message(bytes).contains(words), "{}", message(bytes));
    }
    let mut bytes = model(|w| w);
    bytes[4..8].copy_from_slice(&3u32.to_be_bytes());
    assert!(message(&bytes).contains("big-endian"));
    bytes[4..8].copy_from_slice(&9u32.to_le_bytes());
    assert!(message(&bytes).contains("version 9"));
}

#[test]
fn a_key_that_llama_cpp_would_assert_on_is_an_error_that_names_it() {
    let twins: Strings = ["<unk>", "a", "</s>", "a"].into_iter().collect();
    let nul: Strings = ["<unk>", "a", "</s>", "a\0b"].into_iter().collect();
    let cases: Vec<(&str, Value, &str)> = vec![
        ("llama.block_count", 0u32.into(), "not between 1 and 512"),
        ("llama.block_count", 100_000u32.into(), "not between 1 and 512"),
        ("llama.block_count", "many".into(), "must be a count"),
        ("llama.context_length", 0u32.into(), "not between"),
        ("llama.attention.head_count", 0u32.into(), "it is 0"),
        ("llama.attention.head_count", 3u32.into(), "not a multiple"),
        ("llama.attention.head_count", vec![2, 2].into(), "2 entries for 1 layers"),
        ("llama.attention.head_count_kv", 3u32.into(), "cannot share"),
        ("llama.attention.head_count_kv", vec![0u32].into(), "no layer has attention"),
        ("llama.attention.layer_norm_rms_epsilon", f32::NAN.into(), "small positive"),
        ("llama.rope.scaling.type", "twist".into(), "none, linear"),
        ("llama.rope.dimension_count", 3u32.into(), "even"),
        ("llama.expert_used_count", 2u32.into(), "cannot be used"),
        ("tokenizer.ggml.model", "none".into(), "no vocabulary"),
        ("tokenizer.ggml.model", "gpt2".into(), "tokenizer.ggml.merges"),
        ("tokenizer.ggml.tokens", twins.into(), "\"a\" is there twice"),
        ("tokenizer.ggml.tokens", nul.into(), "\"a\" is there twice"),
        ("tokenizer.ggml.tokens", vec![1, 2].into(), "list of texts"),
        ("tokenizer.ggml.scores", vec![0.0f32; 3].into(), "3 items for 4 tokens"),
        ("tokenizer.ggml.token_type", vec![1u32; 4].into(), "list of numbers"),
        ("tokenizer.ggml.eos_token_id", 4u32.into(), "outside the vocabulary of 4"),
        ("general.architecture", "".into(), "general.architecture"),
    ];
    for (key, value, words) in cases {
        let said = message(&model(|w| w.meta(key, value)));
        assert!(said.contains(words), "{key}: {said}");
    }
    let more: Strings = ["<unk>", "<s>", "</s>", "a", "b"].into_iter().collect();
    let longer = |w: GgufWriter<'static>| {
        w.meta("tokenizer.ggml.tokens", more)
            .meta("tokenizer.ggml.scores", vec![0.0f32; 5])
            .meta("tokenizer.ggml.token_type", vec![1; 5])
    };
    assert!(message(&model(longer)).contains("has 4 rows for a vocabulary of 5 tokens"));
}

#[test]
fn the_kind_is_told_from_the_metadata() {
    let kind = |key: &'static str, value: Value| read(&model(|w| w.meta(key, value))).map(|file| file.kind());
    assert_eq!(kind("llama.pooling_type", 1u32.into()).ok(), Some(ModelKind::Embedding));
    assert_eq!(kind("llama.attention.causal", false.into()).ok(), Some(ModelKind::Embedding));
    assert_eq!(kind("general.architecture", "nomic-bert".into()).ok(), Some(ModelKind::Embedding));
    assert_eq!(kind("general.architecture", "clip".into()).ok(), Some(ModelKind::Projector));
    assert_eq!(kind("general.type", "mmproj".into()).ok(), Some(ModelKind::Projector));
    assert_eq!(kind("general.type", "imatrix".into()).ok(), Some(ModelKind::Other));
    assert_eq!(kind("general.architecture", "flux".into()).ok(), Some(ModelKind::Image));
    let said = kind("general.type", "adapter".into()).expect_err("not an adapter").to_string();
    assert!(said.contains("adapter.type"), "{said}");
}

#[test]
fn an_importance_matrix_needs_no_architecture_to_be_known() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("imatrix.gguf");
    let writer = GgufWriter::new(&path).meta("general.type", "imatrix").meta("imatrix.chunk_count", 3u32);
    writer
        .tensor("blk.0.attn_q.weight.in_sum2", &[8, 1], TensorType::F32, vec![0u8; 32])
        .finish()
        .expect("it is written");
    let said = GgufFile::open_model(&path).expect_err("no model").to_string();
    assert!(said.contains("is a helper file (importance matrix or control vector), not a language model"), "{said}");
}

#[test]
fn a_context_reaches_as_far_as_the_files_rope_scaling_stretches_it() {
    let reach = |keys: &[(&str, Value)]| {
        let add = |w: GgufWriter<'static>| keys.iter().fold(w, |w, (key, value)| w.meta(key, value.clone()));
        read(&model(add)).expect("a sound file").n_ctx_reach()
    };
    let (factor, kind, original) =
        ("llama.rope.scaling.factor", "llama.rope.scaling.type", "llama.rope.scaling.original_context_length");
    assert_eq!(reach(&[]), Some(64));
    assert_eq!(reach(&[(factor, 4.0f32.into()), (kind, "yarn".into()), (original, 64u32.into())]), Some(256));
    assert_eq!(reach(&[(factor, 4.0f32.into()), (kind, "yarn".into()), (original, 16u32.into())]), Some(64));
    assert_eq!(reach(&[(factor, 2.0f32.into())]), Some(128), "without a type it is linear");
    assert_eq!(reach(&[("llama.rope.scale_linear", 2.0f32.into())]), Some(128), "the older key");
    assert_eq!(reach(&[(factor, 4.0f32.into()), (kind, "none".into())]), Some(64));
    assert_eq!(reach(&[(factor, f32::NAN.into())]), Some(64));
}

#[test]
fn the_writer_refuses_data_of_another_length_and_leaves_the_old_file() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("old.gguf");
    fs::write(&path, "old").expect("the old file");
    let short = GgufWriter::new(&path).tensor("a", &[8], TensorType::F32, vec![0u8; 31]).finish();
    assert!(short.expect_err("too short").to_string().contains("31 bytes, but its shape takes 32"));
    let ragged = GgufWriter::new(&path).tensor("a", &[33], TensorType::Q4_0, vec![]).finish();
    assert!(ragged.expect_err("not whole blocks").to_string().contains("[33]"));
    assert_eq!(fs::read(&path).expect("the old file"), b"old");
    assert_eq!(fs::read_dir(folder.path()).expect("the folder").count(), 1, "no temporary file stays");
}

#[test]
fn an_activated_lora_is_refused_by_its_key() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("adapter.gguf");
    let adapter = |tokens: Option<Vec<u32>>| {
        let mut writer = GgufWriter::new(&path)
            .meta("general.architecture", "llama")
            .meta("general.type", "adapter")
            .meta("adapter.type", "lora")
            .meta("adapter.lora.alpha", 16.0f32);
        if let Some(tokens) = tokens {
            writer = writer.meta("adapter.alora.invocation_tokens", Value::Array(Array::U32(tokens)));
        }
        writer
            .tensor("blk.0.attn_q.weight.lora_a", &[8, 2], TensorType::F32, vec![0u8; 64])
            .tensor("blk.0.attn_q.weight.lora_b", &[2, 8], TensorType::F32, vec![0u8; 64])
            .finish()
            .expect("the adapter is written");
        GgufFile::open_adapter(&path)
    };
    assert!(adapter(None).is_ok());
    let error = adapter(Some(vec![1, 2])).expect_err("it would act everywhere").to_string();
    assert!(error.contains("adapter.alora.invocation_tokens") && error.contains("act everywhere"), "{error}");
}
