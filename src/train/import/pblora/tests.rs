//! Made-up PBLoRA checkpoints, against the authors' definition.

use crate::engine::dequantize;
use crate::engine::gguf::{Array, GgufFile, Value};
use crate::train::import::{ImportSettings, import};
use candle_core::{Device, Tensor};
use serde_json::json;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// The small llama: 64 wide, 8 heads of 8, 4 of them for keys and values.
fn backbone() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models/stories260K.gguf")
}

const R1: usize = 2;
const R2: usize = 3;
const K: usize = 2;

fn config() -> serde_json::Value {
    json!({
        "peft_type": "PBLORA", "r1": R1, "r2": R2, "obj_num": K, "lora_alpha": 6, "bias": "none",
        "pref_vec_init": null, "base_model_name_or_path": "some/base"
    })
}

/// A number for each place of a matrix, another in each.
fn number(seed: usize, row: usize, column: usize) -> f64 {
    ((seed * 31 + row * 17 + column * 7 + row * column) % 23) as f64 / 8.0 - 1.0
}

fn matrix(seed: usize, rows: usize, columns: usize) -> Tensor {
    let all = (0..rows).flat_map(|i| (0..columns).map(move |j| number(seed, i, j) as f32)).collect::<Vec<_>>();
    Tensor::from_vec(all, (rows, columns), &Device::Cpu).unwrap()
}

/// The seeds of A, B, W1 and W2 of a matrix.
const SEEDS: [usize; 4] = [1, 2, 3, 4];

fn checkpoint(modules: &[(&str, usize, usize)]) -> HashMap<String, Tensor> {
    let mut all = HashMap::new();
    for (module, n_in, n_out) in modules {
        let name = |part: &str| format!("base_model.model.model.layers.{module}.pblora_{part}");
        let [a, b, w1, w2] = SEEDS;
        all.insert(name("A"), matrix(a, R1 + R2, *n_in));
        all.insert(name("B"), matrix(b, *n_out, R1 + R2));
        all.insert(name("W1"), matrix(w1, R1, R1));
        all.insert(name("W2"), matrix(w2, K, R2 * R2));
    }
    all
}

fn write(folder: &Path, config: &serde_json::Value, tensors: &HashMap<String, Tensor>) {
    candle_core::safetensors::save(tensors, folder.join("adapter_model.safetensors")).unwrap();
    std::fs::write(folder.join("adapter_config.json"), config.to_string()).unwrap();
}

fn named(names: &[&str]) -> ImportSettings {
    ImportSettings { objectives: names.iter().map(|n| (*n).to_owned()).collect(), ..ImportSettings::default() }
}

/// ΔW(α) at a row and column, by the authors' definition; `turned` reads each M_i column by column.
fn by_definition(row: usize, column: usize, alpha: [f64; K], turned: bool) -> f64 {
    let [a, b, w1, w2] = SEEDS;
    let mut sum = 0.0;
    for i in 0..R1 {
        for j in 0..R1 {
            sum += number(b, row, i) * number(w1, i, j) * number(a, j, column);
        }
    }
    for i in 0..R2 {
        for j in 0..R2 {
            let place = if turned { j * R2 + i } else { i * R2 + j };
            let m: f64 = (0..K).map(|k| alpha[k] * number(w2, k, place)).sum();
            sum += number(b, row, R1 + i) * m * number(a, R1 + j, column);
        }
    }
    6.0 / R2 as f64 * sum
}

#[test]
fn a_pblora_becomes_a_lora_for_each_objective_and_one_for_all() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("parm.gguf");
    let modules = [("0.self_attn.q_proj", 64, 64), ("1.self_attn.k_proj", 64, 32), ("1.self_attn.v_proj", 64, 32)];
    write(folder.path(), &config(), &checkpoint(&modules));
    let imported = import(folder.path(), &backbone(), &out, named(&["harmless", "helpful"])).unwrap();
    assert_eq!((imported.matrices, imported.ranks), (3, [8, 8]));
    assert_eq!(imported.objectives, ["harmless", "helpful"]);
    let file = GgufFile::open_adapter(&out).unwrap();
    assert_eq!(file.get("adapter.lora.alpha").and_then(Value::as_f64), Some(8.0));
    assert_eq!(file.get("genarm.parm.ranks"), Some(&Value::Array(Array::U32(vec![2, 3, 3]))));
    let numbers = |name: &str| dequantize::read(&file, file.tensor(name).unwrap()).unwrap();
    for (gguf, rows, heads_permuted) in
        [("blk.0.attn_q", 64, true), ("blk.1.attn_k", 32, true), ("blk.1.attn_v", 32, false)]
    {
        let (a, b) = (numbers(&format!("{gguf}.weight.lora_a")), numbers(&format!("{gguf}.weight.lora_b")));
        assert_eq!((a.len(), b.len()), (8 * 64, rows * 8));
        for alpha in [[1.0, 0.0], [0.0, 1.0], [0.3, 0.5]] {
            let factor = |r: usize| if r < R1 { 1.0 } else { alpha[(r - R1) / R2] };
            let (mut most, mut turned) = (0.0f64, 0.0f64);
            for row in 0..rows {
                // Heads of 8: row h·8 + 2j + c of the file is row h·8 + 4c + j of PEFT's.
                let (h, j, c) = (row / 8, row % 8 / 2, row % 2);
                let theirs = if heads_permuted { h * 8 + 4 * c + j } else { row };
                for column in [0, 5, 63] {
                    let terms = (0..8).map(|r| factor(r) * f64::from(b[row * 8 + r]) * f64::from(a[r * 64 + column]));
                    let got: f64 = terms.sum();
                    most = most.max((got - by_definition(theirs, column, alpha, false)).abs());
                    turned = turned.max((got - by_definition(theirs, column, alpha, true)).abs());
                }
            }
            assert!(most < 1e-3, "{gguf} {alpha:?}: {most}");
            assert!(turned > 0.1, "{gguf} {alpha:?}: columns read as rows must not pass");
        }
    }
}

#[test]
fn objectives_are_named_by_the_flag_or_by_the_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("parm.gguf");
    let tensors = checkpoint(&[("0.self_attn.v_proj", 64, 32)]);
    let mut own = config();
    own["objectives"] = json!(["calm", "short"]);
    write(folder.path(), &own, &tensors);
    let names = |settings| import(folder.path(), &backbone(), &out, settings).unwrap().objectives;
    assert_eq!(names(named(&[])), ["calm", "short"]);
    assert_eq!(names(named(&["x", "y"])), ["x", "y"]);
}

#[test]
fn what_cannot_be_imported_is_refused_in_a_line() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("parm.gguf");
    let good = || checkpoint(&[("0.self_attn.q_proj", 64, 64)]);
    let part = |part: &str| format!("base_model.model.model.layers.0.self_attn.q_proj.pblora_{part}");
    let with = |key: &str, value: serde_json::Value| {
        let mut config = config();
        config[key] = value;
        config
    };
    let without = |name: &str| {
        let mut tensors = good();
        tensors.remove(&part(name));
        tensors
    };
    let other = |name: &str, tensor: Tensor| {
        let mut tensors = good();
        tensors.insert(name.to_owned(), tensor);
        tensors
    };
    let two: &[&str] = &["harmless", "helpful"];
    type Case<'a> = (serde_json::Value, HashMap<String, Tensor>, &'a [&'a str], &'a str);
    let cases: Vec<Case<'_>> = vec![
        (config(), good(), &[], "the adapter has 2 objectives, and 0 are named"),
        (config(), good(), &["one"], "the adapter has 2 objectives, and 1 are named"),
        (config(), good(), &["one", "one"], "named twice"),
        (config(), good(), &["one", "so so"], "cannot be called \"so so\""),
        (with("r2", json!(null)), good(), two, "`r2` is missing"),
        (with("r1", json!(3)), good(), two, "its rank should be 6"),
        (with("obj_num", json!(1)), good(), &["one"], "pblora_W2 [2, 9]"),
        (with("fan_in_fan_out", json!(true)), good(), two, "`fan_in_fan_out`"),
        (with("peft_type", json!("LORA")), good(), two, "leave --objectives out"),
        (config(), without("W2"), two, "pblora_W2 is missing"),
        (config(), HashMap::new(), two, "holds no adapter"),
        (config(), other(&part("C"), matrix(1, 2, 2)), two, "no part of a PBLoRA"),
        (config(), other(&part("W1"), matrix(1, 2, 3)), two, "pblora_W1 is [2, 3]"),
        (config(), other(&part("A"), matrix(1, 5, 32)), two, "the backbone's blk.0.attn_q.weight is 64 × 64"),
        (config(), other(&part("B"), (matrix(1, 64, 5) / 0.0).unwrap()), two, "not finite"),
    ];
    for (config, tensors, names, reason) in cases {
        write(folder.path(), &config, &tensors);
        let message = import(folder.path(), &backbone(), &out, named(names)).unwrap_err().to_string();
        assert!(message.contains(reason) && !message.contains('\n'), "{reason}: {message}");
        assert!(!out.exists());
    }
}
