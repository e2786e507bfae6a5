//! The memory plan of each family against what a process takes.

use std::path::Path;

use super::family::{Family, HEADS};
use super::{Check, Found};
use crate::support::binary::{json, resident_in_chat};

/// Planned bytes of caches, and of caches and buffers; and the bytes that are resident.
fn needs(model: &Path, speculate: &str, swa_full: &str, n_ctx: u32) -> [f64; 3] {
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("c.yaml");
    let model = model.display();
    let yaml = format!(
        "prompt: {{chat_template: raw}}\nspeculate: \"{speculate}\"\nbase: {{model: {model}, use_mmap: false, n_ctx: {n_ctx}, n_batch: 128, n_ubatch: 128, swa_full: {swa_full}, threads: 1}}\n"
    );
    std::fs::write(&config, yaml).expect("written");
    let config = config.display().to_string();
    let plan = json(&["inspect", "--plan", "--json", "--config", &config]);
    let of = |part: &str| plan["experts"][0]["needs"][0][part].as_f64().expect("bytes");
    let resident = resident_in_chat(&["--config", &config, "-n", "2", "--ignore-eos"], &"hello ".repeat(20));
    [of("kv"), of("kv") + of("compute"), resident as f64]
}

/// Finds the planned bytes of caches right, in million.
fn check(family: &Family, swa_full: &str) -> f64 {
    check_file(&family.path, "off", swa_full)
}

fn check_file(model: &Path, speculate: &str, swa_full: &str) -> f64 {
    // The difference of two lengths: a process that small holds much else. Buffers are resident only as far as they are filled.
    let (short, long) = (needs(model, speculate, swa_full, 1024), needs(model, speculate, swa_full, 65_536));
    let [caches, all, resident] = [0, 1, 2].map(|at| (long[at] - short[at]) / 1e6);
    assert!(resident < 1.1 * all + 1.0, "{swa_full}: {all} MB are planned, and {resident} MB taken");
    assert!(
        resident > 0.9 * caches - 1.0,
        "{swa_full}: {caches} MB of caches are planned, and {resident} MB taken in all"
    );
    caches
}

fn planned(family: &Family) -> Found {
    check(family, "on");
    Found::Works
}

#[test]
fn the_memory_plan_knows_the_caches_of_every_family() {
    Check::new(planned).works();
}

#[test]
fn windows_that_forget_take_less_memory_and_the_plan_knows_it() {
    let of =
        |swa_full| ["gemma2", "gemma3", "gemma4", "gptoss", "cohere2"].map(|name| check(Family::of(name), swa_full));
    let (kept, forgotten) = (of("on"), of("off"));
    assert!(kept.iter().zip(&forgotten).all(|(kept, forgotten)| *forgotten < 0.6 * kept), "{kept:?} {forgotten:?}");
}

#[test]
fn a_head_for_drafting_has_caches_where_it_drafts_and_the_plan_knows_it() {
    let folder = tempfile::tempdir().expect("a folder");
    for name in HEADS.into_iter().filter(|name| *name != "qwen3next") {
        let path = Family::of(name).with_head(folder.path());
        // One layer with attention of two, and the head like it.
        let (drafts, plain) = (check_file(&path, "mtp", "on"), check_file(&path, "off", "on"));
        assert!((drafts / plain - 2.0).abs() < 0.1, "{name}: {drafts} MB with the head, {plain} MB without it");
    }
}
