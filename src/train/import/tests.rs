use super::*;
use crate::engine::dequantize;
use serde_json::json;
use std::collections::HashMap;

/// The small llama: 64 wide, 8 heads of 8, 4 of them for keys and values.
fn backbone() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models/stories260K.gguf")
}

/// Module, rank, columns of A, rows of B.
type Matrix = (&'static str, usize, usize, usize);

/// A folder as PEFT writes it; each number is its place.
fn peft(folder: &Path, config: serde_json::Value, tensors: &[Matrix]) {
    let mut all = HashMap::new();
    for (module, rank, n_in, n_out) in tensors {
        let numbers = |rows: usize, columns: usize| {
            let values: Vec<f32> = (0..rows * columns).map(|i| i as f32 / 64.0).collect();
            Tensor::from_vec(values, (rows, columns), &Device::Cpu).unwrap()
        };
        let name = |half: &str| format!("base_model.model.model.layers.{module}.lora_{half}.weight");
        all.insert(name("A"), numbers(*rank, *n_in));
        all.insert(name("B"), numbers(*n_out, *rank));
    }
    candle_core::safetensors::save(&all, folder.join("adapter_model.safetensors")).unwrap();
    std::fs::write(folder.join("adapter_config.json"), config.to_string()).unwrap();
}

fn plain() -> serde_json::Value {
    json!({"peft_type": "LORA", "r": 2, "lora_alpha": 8, "bias": "none", "base_model_name_or_path": "some/base"})
}

fn with(key: &str, value: serde_json::Value) -> serde_json::Value {
    let mut config = plain();
    config[key] = value;
    config
}

fn numbers(file: &GgufFile, name: &str) -> Vec<f32> {
    dequantize::read(file, file.tensor(name).unwrap()).unwrap()
}

#[test]
fn q_and_k_of_a_llama_change_the_order_of_their_rows_and_nothing_else_does() {
    let folder = tempfile::tempdir().unwrap();
    let tensors =
        [("0.self_attn.q_proj", 2, 64, 64), ("1.self_attn.k_proj", 2, 64, 32), ("1.self_attn.v_proj", 2, 64, 32)];
    peft(folder.path(), plain(), &tensors);
    let out = folder.path().join("arm.gguf");
    let about = Metadata::from([("genarm.beta".to_owned(), Value::F32(0.5))]);
    let imported =
        import(folder.path(), &backbone(), &out, ImportSettings { about, ..ImportSettings::default() }).unwrap();
    assert_eq!((imported.matrices, imported.ranks, imported.parameters), (3, [2, 2], 2 * (128 + 96 + 96)));
    let file = GgufFile::open_adapter(&out).unwrap();
    assert_eq!(file.get("adapter.lora.alpha").and_then(Value::as_f64), Some(8.0));
    assert_eq!(file.get("genarm.beta").and_then(Value::as_f64), Some(0.5));
    assert!(file.str("genarm.import.source").unwrap().ends_with("(PEFT, on some/base)"));
    // Heads of 8: row h·8 + 2j + c of the file is row h·8 + 4c + j of PEFT's.
    let permuted = |rows: usize| -> Vec<f32> {
        let row = |at: usize| {
            let (h, j, c) = (at / 8, at % 8 / 2, at % 2);
            let theirs = h * 8 + 4 * c + j;
            [theirs * 2, theirs * 2 + 1].map(|i| i as f32 / 64.0)
        };
        (0..rows).flat_map(row).collect()
    };
    assert_eq!(numbers(&file, "blk.0.attn_q.weight.lora_b"), permuted(64));
    assert_eq!(numbers(&file, "blk.1.attn_k.weight.lora_b"), permuted(32));
    let straight = |n: usize| (0..n).map(|i| i as f32 / 64.0).collect::<Vec<_>>();
    assert_eq!(numbers(&file, "blk.1.attn_v.weight.lora_b"), straight(64));
    assert_eq!(numbers(&file, "blk.0.attn_q.weight.lora_a"), straight(128));
}

#[test]
fn scales_that_one_alpha_cannot_say_go_into_b() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("arm.gguf");
    let mut config = with("use_rslora", true.into());
    config["alpha_pattern"] = json!({"layers.1.self_attn.v_proj": 2, "o_proj": 16});
    let tensors =
        [("0.self_attn.v_proj", 4, 64, 32), ("1.self_attn.v_proj", 4, 64, 32), ("0.self_attn.o_proj", 1, 64, 64)];
    peft(folder.path(), config, &tensors);
    import(folder.path(), &backbone(), &out, ImportSettings { f16: true, ..ImportSettings::default() }).unwrap();
    let file = GgufFile::open_adapter(&out).unwrap();
    // llama.cpp scales by 8 / rank; PEFT by alpha / √rank.
    for (name, rank, alpha) in
        [("blk.0.attn_v", 4.0, 8.0), ("blk.1.attn_v", 4.0, 2.0), ("blk.0.attn_output", 1.0, 16.0)]
    {
        let b = numbers(&file, &format!("{name}.weight.lora_b"));
        let scale = f64::from(b[5]) * 8.0 / rank;
        let wanted = 5.0 / 64.0 * alpha / f64::sqrt(rank);
        assert!((scale - wanted).abs() < 1e-3 * wanted, "{name}: {scale} {wanted}");
    }
}

#[test]
fn what_is_no_plain_lora_is_refused_by_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("arm.gguf");
    let q: [Matrix; 1] = [("0.self_attn.q_proj", 2, 64, 64)];
    let cases: Vec<(serde_json::Value, &[Matrix], &str)> = vec![
        (with("peft_type", "LOHA".into()), &q, "`peft_type` is LOHA"),
        (json!({"r": 2}), &q, "`peft_type` is missing"),
        (with("use_dora", true.into()), &q, "`use_dora`"),
        (with("fan_in_fan_out", true.into()), &q, "`fan_in_fan_out`"),
        (with("bias", "all".into()), &q, "`bias` is \"all\""),
        (with("modules_to_save", json!(["lm_head"])), &q, "`modules_to_save`"),
        (with("trainable_token_indices", json!([3])), &q, "`trainable_token_indices`"),
        (with("alora_invocation_tokens", json!([1, 2])), &q, "`alora_invocation_tokens`"),
        (with("init_lora_weights", "pissa_niter_4".into()), &q, "`init_lora_weights` is pissa_niter_4"),
        (with("alpha_pattern", json!({"q_.*": 3})), &q, "`alpha_pattern` has the pattern \"q_.*\""),
        (with("lora_alpha", 0.into()), &q, "`lora_alpha` is 0"),
        (plain(), &[], "holds no adapter"),
        (plain(), &[("9.self_attn.q_proj", 2, 64, 64)], "the backbone has no blk.9.attn_q.weight"),
        (
            plain(),
            &[("0.self_attn.q_proj", 2, 32, 64)],
            "adapts a matrix of 32 × 64, and the backbone's blk.0.attn_q.weight is 64 × 64",
        ),
        (plain(), &[("0.self_attn.qkv_proj", 2, 64, 64)], "has no blk.0.attn_qkv.weight"),
    ];

    for (config, tensors, part) in cases {
        peft(folder.path(), config, tensors);
        let message = import(folder.path(), &backbone(), &out, ImportSettings::default()).unwrap_err().to_string();
        assert!(message.contains(part) && !message.contains('\n'), "{part}: {message}");
        assert!(!out.exists());
    }
    // Files that are broken, or not there.
    std::fs::write(folder.path().join("adapter_config.json"), plain().to_string()).unwrap();
    for bytes in [&b""[..], b"\xff\xff\xff\xff\xff\xff\xff\x7f{}", b"not safetensors"] {
        std::fs::write(folder.path().join("adapter_model.safetensors"), bytes).unwrap();
        let message = import(folder.path(), &backbone(), &out, ImportSettings::default()).unwrap_err().to_string();
        assert!(message.contains("adapter_model.safetensors") && !message.contains('\n'), "{message}");
    }
    let message =
        import(&folder.path().join("none"), &backbone(), &out, ImportSettings::default()).unwrap_err().to_string();
    assert!(message.contains("save_pretrained"), "{message}");
}
