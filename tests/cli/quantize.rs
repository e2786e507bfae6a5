//! `genarm quantize`, and what `inspect` says of types.

use std::path::Path;

use super::{json, model, run, stdout};
use crate::support::binary::failure;

/// A file in a folder, as an argument.
fn path(folder: &tempfile::TempDir, name: &str) -> String {
    folder.path().join(name).display().to_string()
}

fn names(folder: &tempfile::TempDir) -> Vec<String> {
    let entries = std::fs::read_dir(folder.path()).expect("a folder");
    entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn a_model_is_written_in_the_type_that_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let (base, out) = (model("base.gguf"), path(&folder, "q.gguf"));
    let line = stdout(&["quantize", &base, &out, "q8_0"]);
    assert!(line.starts_with(&format!("{out}: Q8_0, ")) && line.contains("bits per weight (before: F16, "), "{line}");
    let shown = json(&["inspect", "--json", &out]);
    assert_eq!((shown[0]["quantisation"].as_str(), shown[0]["parameters"].as_u64()), (Some("Q8_0"), Some(2_016_960)));
    assert!(!stdout(&["generate", "--base", &out, "-n", "8", "--temp", "0", "Once upon a time"]).is_empty());
    let sizes = json(&["quantize", "--json", "-t", "1", &base, &path(&folder, "q4.gguf"), "Q4_0"]);
    assert!(sizes["to"]["bytes"].as_u64() < sizes["from"]["bytes"].as_u64(), "{sizes}");
    assert_eq!(names(&folder).len(), 2);
}

#[test]
fn what_is_quantised_already_needs_a_flag() {
    let folder = tempfile::tempdir().expect("a folder");
    let (q8, q4) = (path(&folder, "q8.gguf"), path(&folder, "q4.gguf"));
    stdout(&["quantize", &model("base.gguf"), &q8, "Q8_0"]);
    let (line, code) = failure(&["quantize", &q8, &q4, "Q4_0"]);
    assert!(line.contains("quantised already (Q8_0)") && line.contains("--allow-requantize"), "{line}");
    assert_eq!((code, names(&folder).len()), (Some(1), 1));
    stdout(&["quantize", "--allow-requantize", &q8, &q4, "Q4_0"]);
}

#[test]
fn nothing_is_written_for_a_wrong_command_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = path(&folder, "out.gguf");
    let base = path(&folder, "base.gguf");
    std::fs::copy(model("base.gguf"), &base).expect("a copy");
    let before = std::fs::read(&base).expect("the model");
    for (args, code, words) in [
        ([&*base, &base, "Q8_0"], 2, "written over IN"),
        ([&base, &out, "Q9"], 2, "known: F32, F16, Q4_0"),
        ([&base, &out, "IQ2_XS"], 2, "importance matrix"),
        ([&model("arm-plain.gguf"), &out, "Q8_0"], 1, "adapter"),
        ([&path(&folder, "missing.gguf"), &out, "Q8_0"], 1, "no such file"),
    ] {
        let (line, found) = failure(&[&["quantize"], &args[..]].concat());
        assert!(line.contains(words) && found == Some(code), "{args:?}: {found:?} {line}");
    }
    assert_eq!(names(&folder), ["base.gguf"]);
    assert_eq!(std::fs::read(&base).expect("the model"), before);
}

#[test]
#[cfg(unix)]
fn an_interrupted_quantisation_leaves_nothing() {
    use genarm::bench::synthetic::{Architecture, Quantization, Shape, SyntheticModel, SyntheticVocabulary};
    let folder = tempfile::tempdir().expect("a folder");
    let input = tempfile::tempdir().expect("a folder");
    let file = path(&input, "large.gguf");
    let vocabulary = SyntheticVocabulary::byte_level(2048);
    let architecture = Architecture::Llama;
    let shape = Shape { architecture, n_layer: 24, n_embd: 512, n_ff: 2048, n_head: 8, n_head_kv: 8, tied: true };
    let large = SyntheticModel {
        name: "large",
        shape,
        quantization: Quantization::Q4_0,
        vocabulary: &vocabulary,
        n_ctx_train: 512,
        seed: 1,
    };
    large.write(Path::new(&file)).expect("a model");
    // IQ4_NL searches for the best scale of each block: minutes for this model on one thread.
    let args = ["quantize", "--allow-requantize", "-t", "1", &file, &path(&folder, "out.gguf"), "IQ4_NL"];
    let child = super::genarm(&args).stderr(std::process::Stdio::piped()).spawn().expect("the binary runs");
    while names(&folder).is_empty() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    std::thread::sleep(std::time::Duration::from_millis(100));
    let killed = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(killed.expect("kill runs").success());
    let output = child.wait_with_output().expect("the end");
    assert_eq!((output.status.code(), names(&folder)), (Some(130), Vec::new()));
}

#[test]
fn inspect_names_a_type_that_is_faster_here() {
    let folder = tempfile::tempdir().expect("a folder");
    let (slow, fast) = (path(&folder, "slow.gguf"), path(&folder, "fast.gguf"));
    stdout(&["quantize", &model("base.gguf"), &slow, "Q5_1"]);
    stdout(&["quantize", &model("base.gguf"), &fast, "Q8_0"]);
    let version = String::from_utf8(run(&["--version", "-v"]).stdout).expect("UTF-8");
    let says = stdout(&["inspect", &slow]).contains("no fast kernels for batches on this processor; ");
    assert_eq!(says, version.contains("AVX2") || version.contains("NEON"), "{version}");
    assert!(!stdout(&["inspect", &fast]).contains("no fast kernels"));
}
