//! Whatever the user gives: one clear line that says what to do, the right exit code, no panic and no abort.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use genarm::bench::synthetic::{Quantization, Shape, SyntheticModel, SyntheticVocabulary};
use genarm::engine::gguf::{GgufWriter, Strings, TensorType};

use super::{demo, fed, genarm, model, run};
use crate::support::binary::failure;

/// Asserts that a command fails with `code` and one line that has all of `words`.
fn refused(args: &[&str], code: i32, words: &[&str]) {
    let output = run(args);
    let talk = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{args:?}: {talk}");
    for word in words {
        assert!(talk.contains(word), "{args:?}: no {word:?} in {talk}");
    }
    assert!(!talk.contains("panicked") && !talk.contains("terminate called"), "{args:?}: {talk}");
    // A cause is named once.
    let parts: Vec<_> = talk.trim_end().split(": ").collect();
    assert!(parts.windows(2).all(|pair| pair[0] != pair[1]), "{args:?}: {talk}");
    if code == 1 {
        assert_eq!(talk.trim_end().lines().count(), 1, "{args:?}: {talk}");
        assert!(talk.starts_with("error: "), "{args:?}: {talk}");
    }
    assert!(output.stdout.is_empty(), "{args:?}");
}

#[test]
fn a_long_value_is_repeated_in_parts_only() {
    let long = "x".repeat(100_000);
    for args in [
        vec!["generate", "--temp", &long, "Hi"],
        vec!["generate", "--samplers", &long, "Hi"],
        vec!["generate", "--base", "b.gguf", "--profile", &long, "Hi"],
        vec!["generate", "--logit-bias", &long, "Hi"],
        vec![&*format!("--{long}")],
        vec![&long],
    ] {
        let (line, code) = failure(&args);
        let chars = line.chars().count();
        assert!(chars < 1_000 && code == Some(2), "{}: {chars} characters, exit code {code:?}", args[0].len());
    }
}

#[test]
fn files_that_are_no_models() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).display().to_string();
    let good = fs::read(model("base.gguf")).expect("the demo base");
    fs::write(path("empty.gguf"), b"").expect("written");
    fs::write(path("text.gguf"), b"Once upon a time there was a file.").expect("written");
    fs::write(path("cut.gguf"), &good[..good.len() / 2]).expect("written");
    let mut corrupt = good.clone();
    corrupt[16..24].copy_from_slice(&u64::MAX.to_le_bytes()); // the number of metadata entries
    fs::write(path("corrupt.gguf"), corrupt).expect("written");
    let here = folder.path().display().to_string();
    for (file, words) in [
        (path("missing.gguf"), "no such file"),
        (here, "directory"),
        (path("empty.gguf"), "empty"),
        (path("text.gguf"), "GGUF"),
        (path("cut.gguf"), "cut.gguf"),
        (path("corrupt.gguf"), "corrupt.gguf"),
        // A LoRA, and of another model.
        (model("arm-plain.gguf"), "adapter"),
    ] {
        refused(&["generate", "--base", &file, "-n", "1", "x"], 1, &["base: ", words]);
        let arm = format!("a={file}");
        refused(
            &["generate", "--base", &model("base.gguf"), "--arm", &arm, "-n", "1", "x"],
            1,
            &["ARM \"a\": ", words],
        );
    }
}

/// A tiny model with this vocabulary.
fn write_model(path: &Path, vocabulary: &SyntheticVocabulary) {
    let shape = Shape::of_size(1_000_000, vocabulary.n_tokens() as u64).expect("a tiny shape");
    let quantization = Quantization::Q4_0;
    let model = SyntheticModel { name: "tiny", shape, quantization, vocabulary, n_ctx_train: 128, seed: 1 };
    model.write(path).expect("the model is written");
}

#[test]
fn files_of_another_kind() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    let vocabulary = SyntheticVocabulary::byte_level(512);
    let with_vocabulary = |writer: GgufWriter<'static>| {
        vocabulary.metadata().iter().fold(writer, |writer, (key, value)| writer.meta(key, value.clone()))
    };
    let vocab_only = GgufWriter::new(path("vocab.gguf")).meta("general.architecture", "llama");
    with_vocabulary(vocab_only).finish().expect("a vocabulary");
    let embedding = GgufWriter::new(path("embedding.gguf")).meta("general.architecture", "bert");
    let embedding = embedding.tensor("token_embd.weight", &[32, 512], TensorType::F32, vec![0; 32 * 512 * 4]);
    with_vocabulary(embedding).finish().expect("an embedding model");
    let projector = GgufWriter::new(path("projector.gguf")).meta("general.architecture", "clip");
    projector.finish().expect("a projector");
    for (file, words) in [
        ("vocab.gguf", ["a vocabulary without weights", "give the file that has the weights"]),
        ("embedding.gguf", ["an embedding model", "give a causal language model"]),
        ("projector.gguf", ["a multimodal projector", "give the language model"]),
    ] {
        let file = path(file).display().to_string();
        refused(&["generate", "--base", &file, "x"], 1, &[&words[..], &["base: "]].concat());
        let arm = format!("a={file}");
        let words = [&words[..], &["ARM \"a\": "]].concat();
        refused(&["generate", "--base", &model("base.gguf"), "--arm", &arm, "x"], 1, &words);
    }
    let adapter = path("prefs.yaml");
    fs::write(&adapter, format!("base: {{model: {0}, lora: [{{path: {0}}}]}}", model("base.gguf"))).expect("written");
    let words = ["a language model, not a LoRA adapter"];
    refused(&["generate", "--config", &adapter.display().to_string(), "x"], 1, &words);
}

#[test]
fn vocabularies_that_do_not_fit() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).display().to_string();
    write_model(Path::new(&path("other.gguf")), &SyntheticVocabulary::byte_level(2048));
    let arm = format!("small={}", path("other.gguf"));
    let words = ["ARM \"small\"", "the vocabularies differ", "--translate small"];
    refused(&["generate", "--base", &model("base.gguf"), "--arm", &arm, "x"], 1, &words);

    // A sentencepiece vocabulary of a few characters and no bytes: llama.cpp would end the process at any other.
    let tokens: Strings = ["<unk>", "<s>", "</s>", "\u{2581}", "a", "b", "n"].into_iter().map(str::to_owned).collect();
    let n = tokens.len();
    GgufWriter::new(path("vocab.gguf"))
        .meta("general.architecture", "llama")
        .meta("tokenizer.ggml.model", "llama")
        .meta("tokenizer.ggml.tokens", tokens)
        .meta("tokenizer.ggml.scores", (0..n).map(|i| -(i as f32)).collect::<Vec<_>>())
        .meta("tokenizer.ggml.token_type", vec![2, 3, 3, 1, 1, 1, 1])
        .finish()
        .expect("a vocabulary");
    let few = SyntheticVocabulary::from_gguf(Path::new(&path("vocab.gguf"))).expect("a vocabulary");
    write_model(Path::new(&path("few.gguf")), &few);
    let words = ["no token for 'ï'", "character 3", "leave it out"];
    refused(&["generate", "--base", &path("few.gguf"), "naïve 猫"], 1, &words);
    assert_eq!(run(&["generate", "--base", &path("few.gguf"), "-n", "1", "banana"]).status.code(), Some(0));
}

#[test]
fn what_is_refused_is_left_as_it_was() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).display().to_string();
    let good = fs::read(model("base.gguf")).expect("the demo base");
    let cut = &good[..good.len() / 2];
    fs::write(path("cut.gguf"), cut).expect("written");
    fs::write(path("talk.json"), "not a conversation").expect("written");
    refused(&["generate", "--base", &path("cut.gguf"), "x"], 1, &["cut.gguf"]);
    let config = demo();
    let chat = ["chat", "--config", &config, "--chat-template", "raw", "--load", &path("talk.json")];
    refused(&chat, 1, &["talk.json"]);
    let data = path("talk.json");
    let (backbone, out) = (model("small.gguf"), path("arm.gguf"));
    refused(&["train", "--backbone", &backbone, "--pairs", &data, "--out", &out], 1, &["talk.json:1"]);
    assert_eq!(fs::read(path("cut.gguf")).expect("still there"), cut);
    assert_eq!(fs::read_to_string(path("talk.json")).expect("still there"), "not a conversation");
    let left: Vec<_> = fs::read_dir(folder.path()).expect("a folder").flatten().map(|e| e.file_name()).collect();
    assert_eq!(left.len(), 2, "nothing half written is left: {left:?}");
}

#[test]
fn prompts_that_cannot_be_read() {
    let config = demo();
    let long = "a story ".repeat(400);
    refused(&["generate", "--config", &config, &long], 1, &["the prompt has", "context", "--n-ctx"]);
    refused(
        &["generate", "--config", &config, "--prompt-tokens", "1,99999"],
        1,
        &["token 99999 is outside the vocabulary"],
    );
    let output = fed(&mut genarm(&["generate", "--config", &config]), b"caf\xe9");
    let talk = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(talk.contains("standard input is not UTF-8 (byte 3)"), "{talk}");
}

#[test]
fn options_that_contradict_each_other() {
    let (config, base) = (demo(), model("base.gguf"));
    refused(&["generate", "--config", &config, "--prompt-tokens", "1", "a prompt"], 2, &["cannot be used with"]);
    refused(&["generate", "--config", &config, "--logprobs", "3", "x"], 2, &["--json"]);
    refused(&["generate", "--config", &config, "--weight", "cheerfull=1", "x"], 2, &["cheerful"]);
    refused(&["generate", "--config", &config, "--weight", "cheerful=nan", "x"], 2, &["finite"]);
    refused(&["generate", "--config", &config, "--profile", "hapy", "x"], 2, &["happy"]);
    refused(&["generate", "--base", &base, "--top-p", "1.5", "x"], 2, &["--top-p", "between 0 and 1"]);
    refused(
        &["generate", "--base", &base, "--grammar", "root ::= \"a\"", "--json-schema", "{}", "x"],
        2,
        &["contradicts grammar"],
    );
    refused(&["generate", "x"], 2, &["--base"]);
    refused(&["bench", "--synthetic", "base=1M", "--base", &base], 2, &["--synthetic"]);
    refused(&["chat", "--base", &base], 1, &["chat template", "--chat-template"]);
}

#[test]
fn grammars_and_schemas_that_cannot_be_followed() {
    let config = demo();
    let nested = format!("root ::= {}\"a\"{}", "(".repeat(8000), ")".repeat(8000));
    for (flag, text, words) in [
        ("--grammar", nested.as_str(), &["grammar: ", "nested more than 200 deep"][..]),
        ("--grammar", "root ::= e root | \"a\"\ne ::= \"\"", &["grammar: ", "left recursion", "\"root\""]),
        ("--grammar", "root :=", &["grammar: ", "line 1, column 6"]),
        ("--json-schema", "{\"not\": {}}", &["json_schema: ", "\"not\" is not enforced"]),
        ("--json-schema", "{\"allOf\": [{\"$ref\": \"#\"}]}", &["json_schema: ", "refers to itself"]),
    ] {
        refused(&["generate", "--config", &config, flag, text, "x"], 1, words);
    }
}

#[test]
fn more_memory_than_there_is() {
    refused(
        &["generate", "--base", &model("base.gguf"), "-c", "2000000000", "x"],
        1,
        &["not enough memory", "--n-ctx"],
    );
}

#[test]
#[cfg(unix)]
fn ctrl_c_prints_what_there_is_and_exits_with_130() {
    use std::io::Read;
    let config = demo();
    let mut child = genarm(&["generate", "--config", &config, "--ignore-eos", "--n-ctx", "100000", "Once upon a time"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let mut first = [0; 8];
    child.stdout.as_mut().expect("a pipe").read_exact(&mut first).expect("a beginning");
    let pid = child.id().to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &pid]).status().expect("kill").success());
    let output = child.wait_with_output().expect("output");
    assert_eq!(output.status.code(), Some(130), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stdout.ends_with(b"\n"));
}
