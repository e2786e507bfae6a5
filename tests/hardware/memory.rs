//! The memory plan against the resident memory of a process, and its advice against the loader.

use std::path::Path;
use std::process::Output;

use genarm::bench::synthetic::{Quantization, Shape, SyntheticModel, SyntheticVocabulary};
use genarm::engine::memory::MEMORY_LIMIT;

use crate::support::binary::{genarm, resident_in_chat};

/// Contexts of their own, and nobody who drafts.
const OFF: [&str; 4] = ["--share-batch", "off", "--speculate", "off"];

fn write_model(folder: &Path, name: &str, n_params: u64) {
    let vocabulary = SyntheticVocabulary::byte_level(512);
    let shape = Shape::of_size(n_params, 512).expect("a shape");
    let quantization = Quantization::Q4_K_M;
    let model =
        SyntheticModel { name, shape, quantization, vocabulary: &vocabulary, n_ctx_train: 8192, seed: n_params };
    model.write(&folder.join(format!("{name}.gguf"))).expect("the model is written");
}

/// Resident memory at its highest, in bytes, of a chat that has read a prompt longer than one batch and answered it.
fn resident(config: &str, flags: &[&str]) -> u64 {
    resident_in_chat(&[&["--config", config, "-n", "2", "--ignore-eos"], flags].concat(), &"hello ".repeat(100))
}

/// Bytes of main memory that the plan of a configuration says.
fn planned(config: &str, flags: &[&str]) -> u64 {
    let command = [&["inspect", "--plan", "--json", "--config", config], flags].concat();
    let output = genarm(&command).output().expect("the binary runs");
    let plan: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(plan["fits"], true, "{plan}");
    let need = |e: &serde_json::Value| {
        ["weights", "kv", "compute"].map(|part| e["needs"][0][part].as_u64().expect("bytes")).iter().sum::<u64>()
    };
    plan["experts"].as_array().expect("experts").iter().map(need).sum()
}

#[test]
fn the_plan_is_within_a_tenth_of_what_is_then_resident() {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, n_params) in [("tiny", 1_000_000), ("base", 160_000_000), ("arm", 60_000_000)] {
        write_model(folder.path(), name, n_params);
    }
    let lora = folder.path().join("lora.gguf");
    let base = genarm::engine::gguf::GgufFile::open_model(folder.path().join("base.gguf")).expect("a model");
    crate::cli::memory::write_lora(&base, &lora);
    // Without flash attention the scores of a whole context are reserved, and resident only as far as it is filled: a
    // small one. Read into memory instead of mapped: the system may count or drop mapped pages as it likes.
    let head = "prompt: {chat_template: raw}\nbase: {use_mmap: false, n_ubatch: 256, n_batch: 256, threads: 1, ";
    let place = |name: &str, rest: &str| {
        let path = folder.path().join(format!("{name}.yaml"));
        std::fs::write(&path, format!("{head}{rest}\n")).expect("written");
        path.display().to_string()
    };
    let tiny = place("floor", "model: tiny.gguf, n_ctx: 1024}");
    let floor = resident(&tiny, &OFF) - planned(&tiny, &OFF);
    let adapters =
        "model: base.gguf, n_ctx: 2048}\narms: {a: {lora: [{path: lora.gguf}]}, b: {lora: [{path: lora.gguf}]}}";
    let draft = format!("draft:{}", folder.path().join("arm.gguf").display());
    let with_drafter = ["--share-batch", "off", "--speculate", &draft];
    for (name, rest, flags) in [
        ("the base alone", "model: base.gguf, n_ctx: 4096}", &OFF[..]),
        ("the base and an ARM of its own", "model: base.gguf, n_ctx: 2048}\narms: {a: {model: arm.gguf}}", &OFF),
        ("two adapters on the base", adapters, &OFF),
        ("two adapters on the base as rows of one batch", adapters, &["--share-batch", "on", "--speculate", "off"]),
        ("the base and a drafter", "model: base.gguf, n_ctx: 2048}", &with_drafter),
        ("caches in 8 bits", "model: base.gguf, n_ctx: 8192, cache_type_k: q8_0, cache_type_v: q8_0}", &OFF),
        (
            "caches in 32 bits without flash attention",
            "model: base.gguf, n_ctx: 1024, cache_type_k: f32, cache_type_v: f32, flash_attn: off}",
            &OFF,
        ),
    ] {
        let config = place("placement", rest);
        let (planned, measured) = (planned(&config, flags) as f64, (resident(&config, flags) - floor) as f64);
        println!(
            "{name}: planned {:.1} MB, measured {:.1} MB ({:+.1} %)",
            planned / 1e6,
            measured / 1e6,
            (planned / measured - 1.0) * 100.0
        );
        assert!((planned / measured - 1.0).abs() <= 0.1, "{name}: planned {planned}, measured {measured}");
    }
}

fn generate(config: &str, limit: u64, change: &[&str]) -> Output {
    let args = [&["generate", "--config", config, "-n", "1", "--share-batch", "off", "hello"], change].concat();
    genarm(&args).env(MEMORY_LIMIT, limit.to_string()).output().expect("the binary runs")
}

#[test]
fn what_does_not_fit_is_refused_and_each_change_that_is_offered_loads() {
    let folder = tempfile::tempdir().expect("a folder");
    write_model(folder.path(), "base", 40_000_000);
    write_model(folder.path(), "arm", 20_000_000);
    let config = folder.path().join("prefs.yaml");
    std::fs::write(&config, "base: {model: base.gguf, n_ctx: 8192}\narms: {a: {model: arm.gguf}}\n").expect("written");
    let config = config.display().to_string();
    let whole = planned(&config, &OFF);
    assert!(generate(&config, whole, &[]).status.success(), "what fits exactly is loaded");
    let limit = whole * 9 / 10;
    let refused = generate(&config, limit, &[]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!((refused.status.code(), said.lines().count()), (Some(1), 1), "{said}");
    assert!(said.starts_with("error: not enough memory: "), "{said}");
    let offers = said.trim_end().rsplit_once("any of these would fit: ").expect("offers").1;
    let offers: Vec<_> = offers.split("; ").collect();
    assert_eq!(offers.len(), 3, "{said}");
    for offer in offers {
        let flags: Vec<_> = offer.split(' ').collect();
        assert!(flags[0].starts_with("--"), "a setting: {offer}");
        let changed = generate(&config, limit, &flags);
        assert!(changed.status.success(), "{offer}: {}", String::from_utf8_lossy(&changed.stderr));
    }
    let output = genarm(&["inspect", "--plan", "--config", &config]).env(MEMORY_LIMIT, limit.to_string()).output();
    let shown = String::from_utf8(output.expect("runs").stdout).expect("text");
    assert!(shown.contains("does not fit") && shown.contains("each of these would make it fit"), "{shown}");
}
