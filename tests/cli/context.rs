//! A context that is longer than a model's training is said once, by whoever makes it.

use std::path::Path;

use genarm::engine::gguf::GgufFile;

use super::run;
use crate::support::random;

/// The warnings of a command that must succeed.
fn warnings(args: &[&str]) -> Vec<String> {
    let output = run(args);
    let talk = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{args:?}: {talk}");
    talk.lines().filter(|line| line.contains("longer than the")).map(str::to_owned).collect()
}

#[test]
fn a_context_beyond_the_training_is_warned_of_once_for_each_model() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).display().to_string();
    // Models that were trained for 512 tokens. Two ARMs and the base stand on one file.
    for name in ["base.gguf", "other.gguf"] {
        random::model(Path::new(&path(name)), "llama");
    }
    random::lora(Path::new(&path("lora.gguf")), "llama", 4, &["attn_q"], 1, None);
    let yaml = "base: {model: base.gguf}\narms:\n  a: {lora: [{path: lora.gguf}]}\n  b: {model: base.gguf}\n  c: {model: other.gguf}\n";
    std::fs::write(path("c.yaml"), yaml).expect("written");
    let config = path("c.yaml");
    for command in [&["generate", "-n", "2"][..], &["score"]] {
        let with = |n_ctx: &str| {
            let given = ["-f", &config, "--n-ctx", n_ctx, "Once"];
            let response: &[&str] = if command[0] == "score" { &[" upon"] } else { &[] };
            warnings(&[command, &given, response].concat())
        };
        let long = with("513");
        assert_eq!(long.len(), 2, "{command:?}: {long:?}");
        for name in ["base.gguf", "other.gguf"] {
            let words =
                format!("{name}: a context of 513 tokens is longer than the 512 that the model was trained for");
            let of_model: Vec<_> = long.iter().filter(|line| line.contains(&words)).collect();
            assert!(of_model.len() == 1 && of_model[0].contains("give --n-ctx 512 or less"), "{long:?}");
        }
        assert_eq!(with("512"), [] as [String; 0], "{command:?}");
    }
}

#[test]
fn rope_scaling_stretches_what_a_model_was_trained_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("yarn.gguf");
    let plain = folder.path().join("plain.gguf");
    random::model(&plain, "llama");
    let keys = [("llama.rope.scaling.type", "yarn".into()), ("llama.rope.scaling.factor", 4.0f32.into())];
    random::copy_with(&plain, &path, &keys);
    assert_eq!(GgufFile::open_model(&path).expect("a model").n_ctx_reach(), Some(2048));
    let path = path.display().to_string();
    let with = |n_ctx| warnings(&["generate", "--base", &path, "--n-ctx", n_ctx, "-n", "1", "Once"]).len();
    assert_eq!((with("2048"), with("2049")), (0, 1));
}
