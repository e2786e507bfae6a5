//! Every way to stretch a rotation, against llama.cpp's logits.

use super::*;

/// As many tokens as the test context holds: far beyond the original context of the stretched models.
fn tokens() -> Vec<u32> {
    (0..100).map(|i| (3 + i * 37 % 400) as u32).collect()
}

fn f32(key: &'static str, value: f32) -> (&'static str, Value) {
    (key, Value::F32(value))
}

fn kind(name: &str) -> (&'static str, Value) {
    ("rope.scaling.type", Value::String(name.into()))
}

fn original(n: u32) -> (&'static str, Value) {
    ("rope.scaling.original_context_length", Value::U32(n))
}

fn assert_agrees(model: &RandomModel, what: &str) -> Vec<f32> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    model.write(&path);
    let ours = our_logits(&Backbone::load(&path, &Device::Cpu, None).unwrap(), &tokens());
    let difference = largest_difference(&ours, &llama_cpp_logits(&path, None, &tokens()));
    assert!(difference <= 2e-3, "{} {what}: {difference}", model.arch);
    ours
}

#[test]
fn every_rope_scaling_agrees_with_llama_cpp_on_every_architecture() {
    for arch in ["llama", "qwen2", "qwen3"] {
        let logits = |what: &str, keys: &[(&'static str, Value)]| assert_agrees(&RandomModel::with(arch, keys), what);
        let plain = logits("plain", &[]);
        let linear = logits("linear", &[kind("linear"), f32("rope.scaling.factor", 4.0)]);
        assert!(largest_difference(&plain, &linear) > 0.1, "{arch}: the factor must matter");
        let same = |what: &str, want: &[f32], keys: &[(&'static str, Value)]| {
            assert!(largest_difference(&logits(what, keys), want) < 1e-4, "{arch} {what}");
        };
        same("a factor without a type is linear", &linear, &[f32("rope.scaling.factor", 4.0)]);
        same("an old file's factor", &linear, &[f32("rope.scale_linear", 4.0)]);
        let both = [f32("rope.scaling.factor", 4.0), f32("rope.scale_linear", 2.0)];
        same("the new key goes before the old one", &linear, &both);
        same("a factor of 0 is none", &plain, &[f32("rope.scaling.factor", 0.0)]);
        same("the type none", &plain, &[kind("none"), f32("rope.scaling.factor", 4.0)]);
        logits("yarn", &[kind("yarn"), f32("rope.scaling.factor", 4.0), original(32)]);
        logits("yarn from the trained context", &[kind("yarn"), f32("rope.scaling.factor", 2.0)]);
        logits("yarn that shrinks", &[kind("yarn"), f32("rope.scaling.factor", 0.5), original(32)]);
        logits(
            "yarn with a low base",
            &[kind("yarn"), f32("rope.scaling.factor", 8.0), original(64), f32("rope.freq_base", 500.0)],
        );
        let weakened =
            [kind("yarn"), f32("rope.scaling.factor", 4.0), original(32), f32("rope.scaling.attn_factor", 0.8)];
        logits("yarn with an attention factor", &weakened);
        logits("an attention factor alone", &[f32("rope.scaling.attn_factor", 1.3)]);
        logits("another base", &[f32("rope.freq_base", 10_000.0)]);
    }
}

#[test]
fn factors_per_frequency_agree_with_llama_cpp() {
    let factors = |first: f32| (0..8).map(|i| first + i as f32 * 0.7).collect::<Vec<f32>>();
    let llama3 = RandomModel { tensors: vec![("rope_freqs.weight", factors(1.0))], ..RandomModel::new("llama") };
    let stretched = assert_agrees(&llama3, "llama 3's factors");
    assert!(largest_difference(&stretched, &assert_agrees(&RandomModel::new("llama"), "none")) > 0.1);
    let sets = || vec![("rope_factors_long.weight", factors(1.5)), ("rope_factors_short.weight", factors(1.0))];
    let longrope = |keys: &[(&'static str, Value)]| {
        let all = [&[kind("longrope"), f32("rope.scaling.attn_factor", 1.2)], keys].concat();
        RandomModel { tensors: sets(), ..RandomModel::with("llama", &all) }
    };
    // The models' own context is longer than the original one, or not.
    let long = assert_agrees(&longrope(&[original(64), ("context_length", Value::U32(256))]), "long factors");
    let short = assert_agrees(&longrope(&[original(256), ("context_length", Value::U32(256))]), "short factors");
    assert!(largest_difference(&long, &short) > 0.1);
}

#[test]
fn heads_of_another_size_agree_with_llama_cpp() {
    for arch in ["llama", "qwen3"] {
        let mut model = RandomModel::new(arch);
        model.width = 128;
        assert_agrees(&model, "wide heads");
    }
}

#[test]
fn a_scaling_that_makes_no_rotation_is_refused_by_its_key() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("odd.gguf");
    let cases = [
        (f32("rope.scaling.factor", f32::NAN), "rope.scaling.factor"),
        (f32("rope.scaling.factor", -2.0), "rope.scaling.factor"),
        (f32("rope.freq_base", 0.0), "rope.freq_base"),
        (f32("rope.scaling.attn_factor", f32::INFINITY), "rope.scaling.attn_factor"),
        (kind("su"), "rope.scaling.type"),
        (("rope.dimension_count", Value::U32(8)), "rope.dimension_count"),
        (("attention.value_length", Value::U32(8)), "attention.value_length"),
    ];
    for (key, named) in cases {
        RandomModel::with("llama", &[key]).write(&path);
        let message = Backbone::load(&path, &Device::Cpu, None).unwrap_err().to_string();
        assert!(message.contains(named) && !message.contains('\n'), "{message}");
    }
    let short = RandomModel { tensors: vec![("rope_freqs.weight", vec![1.0; 3])], ..RandomModel::new("llama") };
    short.write(&path);
    let message = Backbone::load(&path, &Device::Cpu, None).unwrap_err().to_string();
    assert!(message.contains("rope_freqs.weight"), "{message}");
}
