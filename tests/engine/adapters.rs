//! LoRA adapters: freed when nobody applies them, refused where they do not fit, loaded beside others.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use genarm::Expert;
use genarm::engine::gguf::GgufFile;
use genarm::engine::llama::{Adapters, Context, ContextError, Lora, Model};
use genarm::engine::share::{Probe, apart, together};
use tempfile::TempDir;

use crate::support::{self, random};

/// A model and an adapter on it.
fn family(arch: &str, rank: u64) -> (TempDir, Arc<Model>, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let [path, lora] = ["model.gguf", "lora.gguf"].map(|name| folder.path().join(name));
    random::model(&path, arch);
    random::lora(&lora, arch, rank, &["attn", "ffn"], 1, None);
    (folder, support::load(&path), lora)
}

#[test]
fn an_adapter_is_freed_with_the_last_context_that_applies_it() {
    let (_folder, model, lora) = family("llama", 4);
    let params = support::context_params();
    let experts = vec![vec![], vec![(lora.as_path(), 1.0)]];
    assert_eq!(model.n_adapters(), 0);
    let alone = apart(&model, &experts[1], &params, 2).expect("a context");
    assert_eq!(model.n_adapters(), 1);
    let rows = together(&model, &experts, &params, 1).expect("a context");
    assert_eq!(model.n_adapters(), 2, "the stack is one");
    drop(alone);
    let mut rows: Vec<_> = rows.into_iter().flatten().collect();
    rows[1].advance(&[1, 2, 3], 1).expect("the other context goes on");
    drop(rows);
    assert_eq!(model.n_adapters(), 0);
    for _ in 0..3 {
        let mut probe = Probe::new(&model, &experts, &params).expect("contexts");
        probe.check().expect("equal");
    }
    assert_eq!(model.n_adapters(), 0, "a probe leaves none behind");
}

/// Resident memory of this process, in bytes.
#[cfg(target_os = "linux")]
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("a process");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("VmRSS");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<usize>().ok()).expect("a number") * 1024
}

/// Loads and drops an adapter of 3 MB many times, in a process of its own, so that other tests do not count.
#[cfg(target_os = "linux")]
#[test]
fn opening_and_dropping_adapters_many_times_does_not_grow() {
    const NAME: &str = "engine::adapters::opening_and_dropping_adapters_many_times_does_not_grow";
    const CHILD: &str = "GENARM_TEST_ADAPTERS";
    if std::env::var_os(CHILD).is_some() {
        let (_folder, model, lora) = family("llama", 512);
        let load = |n: usize| (0..n).for_each(|_| drop(Lora::load(&model, &lora, 1.0).expect("an adapter")));
        load(5);
        let before = resident();
        load(100);
        println!("grown by {}", resident().saturating_sub(before));
        return;
    }
    let mut command = Command::new(std::env::current_exe().expect("this test"));
    let output = command.args(["--exact", NAME, "--nocapture"]).env(CHILD, "1").output().expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let grown =
        text.split_once("grown by ").and_then(|(_, rest)| rest.split_whitespace().next()?.parse::<usize>().ok());
    let grown = grown.unwrap_or_else(|| panic!("{text}{}", String::from_utf8_lossy(&output.stderr)));
    // A hundred copies would be 300 MB.
    assert!(grown < 60 << 20, "grown by {grown} bytes");
}

#[test]
fn an_adapter_of_another_model_is_refused_with_what_does_not_fit() {
    let (folder, model, lora) = family("llama", 4);
    let said = |path: &Path| Lora::load(&model, path, 1.0).expect_err("it does not fit").to_string();
    let make = |name: &str, arch: &str| {
        let path = folder.path().join(name);
        random::lora(&path, arch, 4, &["attn_q"], 1, None);
        path
    };
    let other_architecture = said(&make("qwen.gguf", "qwen2"));
    assert!(other_architecture.contains("the architecture qwen2, and the model is llama"), "{other_architecture}");

    let renamed = |name: &str, from: &str, to: &str| {
        let path = make(name, "llama");
        let bytes = std::fs::read(&path).expect("the adapter");
        let (from, to) = (from.as_bytes(), to.as_bytes());
        assert_eq!(from.len(), to.len());
        let mut changed = bytes.clone();
        for at in 0..bytes.len() - from.len() {
            if bytes[at..].starts_with(from) {
                changed[at..at + to.len()].copy_from_slice(to);
            }
        }
        std::fs::write(&path, changed).expect("written");
        path
    };
    let no_such_layer = said(&renamed("layer.gguf", "blk.1.attn_q", "blk.7.attn_q"));
    assert!(no_such_layer.contains("the model has no tensor blk.7.attn_q.weight"), "{no_such_layer}");
    let other_shape = said(&renamed("shape.gguf", "blk.0.attn_q", "blk.0.attn_k"));
    assert!(
        other_shape.contains("blk.0.attn_k.weight is 64 × 32 in the model, and 64 × 64 in the adapter"),
        "{other_shape}"
    );
    for text in [other_architecture, no_such_layer, other_shape] {
        assert!(!text.contains('\n') && text.ends_with("give the model that it was trained on"), "{text}");
    }

    let swapped = said(model.file().path());
    assert!(swapped.contains("is a language model, not a LoRA adapter: give it as a model"), "{swapped}");
    let as_model = Model::load(&lora, &Default::default(), &mut |_| true).expect_err("an adapter").to_string();
    assert!(as_model.contains("is a LoRA adapter, not a language model: give it under `lora:`"), "{as_model}");
    assert_eq!(model.n_adapters(), 0);
}

#[test]
fn an_adapter_is_applied_to_no_other_model_than_the_one_it_was_loaded_on() {
    let (_folder, model, lora) = family("llama", 4);
    let (_other_folder, other, _) = family("llama", 4);
    let lora = Lora::load(&other, &lora, 1.0).expect("equal shapes");
    let refused = Context::new(&model, Adapters::All(vec![lora]), &support::context_params());
    assert!(matches!(refused, Err(ContextError::ForeignLora { .. })), "{refused:?}");
}

#[test]
fn adapters_come_and_go_while_other_threads_decode_on_the_same_model() {
    let (_folder, model, lora) = family("llama", 4);
    let params = support::context_params();
    std::thread::scope(|scope| {
        for t in 0..3 {
            let (model, lora, params) = (&model, &lora, &params);
            scope.spawn(move || {
                for i in 0..12 {
                    let mut rows = apart(model, &[(lora, 1.0)], params, 1).expect("a context");
                    for n in 1..6 {
                        rows[0].advance(&vec![3 + t + i; n], 1).expect("a row");
                    }
                }
            });
        }
    });
    assert_eq!(model.n_adapters(), 0);
}

/// A model's header is enough: its second layer has the projections of latent attention.
#[test]
fn an_adapter_that_llama_cpp_would_not_apply_is_refused_by_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    random::model(&path("plain.gguf"), "llama");
    let latent = vec![("blk.1.attn_kv_a_mqa.weight", vec![1], vec![0; 4])];
    random::copy(&path("plain.gguf"), &path("model.gguf"), &[], latent);
    let model = GgufFile::open(path("model.gguf")).expect("a sound file");
    let inert = |target: &str| {
        random::lora(&path("lora.gguf"), "llama", 4, &[target], 1, None);
        GgufFile::open_adapter(path("lora.gguf")).expect("a sound adapter").inert_on(&model)
    };
    assert_eq!(inert("1.attn_q").as_deref(), Some("blk.1.attn_q.weight"));
    for acts in ["0.attn_q", "1.attn_output", "1.ffn_up"] {
        assert_eq!(inert(acts), None, "{acts}");
    }
}
