//! What a run reads it never writes over, and what spoils its numbers leaves no file.

use super::*;
use crate::train::{TrainError, train};
use std::sync::atomic::AtomicBool;

fn run(wire: Wire) -> Result<crate::train::Outcome, TrainError> {
    train(&settings(wire), &AtomicBool::new(false))
}

fn refusal(wire: Wire) -> String {
    match run(wire) {
        Err(TrainError::Setting(message)) => message,
        other => panic!("{other:?}"),
    }
}

#[test]
fn no_output_is_written_over_an_input() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::copy(small_llama(), at("base.gguf")).unwrap();
    std::fs::write(at("chat.jinja"), "{{ messages[0].content }}").unwrap();
    let wire = || Wire {
        backbone: Some(at("base.gguf")),
        template: Some(at("chat.jinja").display().to_string()),
        ..quick(folder.path(), "arm.gguf")
    };
    let before = std::fs::read(at("base.gguf")).unwrap();
    let mut over = vec![
        (at("base.gguf"), "the backbone"),
        (at("../").join(folder.path().file_name().unwrap()).join("base.gguf"), "the backbone"),
        (at("pairs.jsonl"), "the pairs"),
        (at("chat.jinja"), "the template"),
    ];
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(at("base.gguf"), at("soft.gguf")).unwrap();
        std::fs::hard_link(at("base.gguf"), at("hard.gguf")).unwrap();
        over.extend([(at("soft.gguf"), "the backbone"), (at("hard.gguf"), "the backbone")]);
    }
    for (out, what) in over {
        let message = refusal(Wire { out: Some(out), ..wire() });
        assert!(message.contains("--out would be written over") && message.contains(what), "{message}");
    }
    // Not the files beside the result either.
    for (pairs, what) in
        [("arm.log.jsonl", "the log"), ("arm.svg", "the curves"), ("arm.gguf.checkpoint", "the checkpoint")]
    {
        std::fs::copy(at("pairs.jsonl"), at(pairs)).unwrap();
        let message = refusal(Wire { pairs: Some(vec![at(pairs).into()]), ..wire() });
        assert!(message.contains(&format!("{what} would be written over the pairs")), "{message}");
        assert_eq!(std::fs::read(at(pairs)).unwrap(), std::fs::read(at("pairs.jsonl")).unwrap());
        std::fs::remove_file(at(pairs)).unwrap();
    }
    let recipe = Settings { recipe: Some(at("arm.svg")), ..settings(wire()) };
    std::fs::write(at("arm.svg"), "lr: 1").unwrap();
    let message = train(&recipe, &AtomicBool::new(false)).unwrap_err().to_string();
    assert!(message.contains("the recipe"), "{message}");
    assert!(before == std::fs::read(at("base.gguf")).unwrap());
}

#[test]
fn a_name_that_is_no_file_s_or_another_run_s_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let wire = |out: &str| Wire { max_steps: Some(1), ..quick(folder.path(), out) };
    std::fs::create_dir(folder.path().join("sub")).unwrap();
    for out in ["", "sub", "new/", "arm.gguf.checkpoint", "arm.log.jsonl"] {
        assert!(refusal(wire(out)).contains("--out"), "{out}");
    }
    run(wire("arm.gguf")).unwrap();
    assert!(refusal(wire("arm")).contains("share its log"));
    run(wire("arm.gguf")).unwrap();
}

#[test]
fn runs_whose_names_end_in_numbers_keep_their_own_logs() {
    let folder = tempfile::tempdir().unwrap();
    for (out, steps) in [("arm-0.05", 1), ("arm-0.1", 2)] {
        run(Wire { max_steps: Some(steps), ..quick(folder.path(), out) }).unwrap();
    }
    let lines = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap().lines().count();
    assert_eq!((lines("arm-0.05.log.jsonl"), lines("arm-0.1.log.jsonl")), (2, 3));
    assert!(folder.path().join("arm-0.05.svg").exists() && folder.path().join("arm-0.1.svg").exists());
}

#[test]
fn an_update_that_spoils_the_weights_writes_neither_adapter_nor_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    // The last update alone spoils them: infinite numbers, or such as give none in the next pass.
    for (lr, held_out) in [(3e38, 0.0), (1e30, 0.0), (1e30, 0.2)] {
        let wire = |out: &str| Wire {
            lr: Some(lr),
            held_out: Some(held_out),
            warmup: Some(0),
            checkpoint_every: Some(1),
            ..quick(folder.path(), out)
        };
        std::fs::write(at("last.gguf"), "an older adapter").unwrap();
        let error = run(Wire { max_steps: Some(1), ..wire("last.gguf") }).unwrap_err();
        assert!(matches!(error, TrainError::NotANumber { step: 1, checkpoint: None, .. }), "{error}");
        assert!(error.to_string().contains("nothing was written"), "{error}");
        assert_eq!(std::fs::read_to_string(at("last.gguf")).unwrap(), "an older adapter");
        // A good checkpoint stays as it is.
        std::fs::write(at("mid.gguf.checkpoint"), "an older checkpoint").unwrap();
        let error = run(Wire { max_steps: Some(3), ..wire("mid.gguf") }).unwrap_err();
        assert!(matches!(error, TrainError::NotANumber { .. }), "{error}");
        assert_eq!(std::fs::read_to_string(at("mid.gguf.checkpoint")).unwrap(), "an older checkpoint");
    }
}

#[test]
fn an_interrupted_run_leaves_what_it_has_learned() {
    let folder = tempfile::tempdir().unwrap();
    let wire = || quick(folder.path(), "arm.gguf");
    let error = train(&settings(wire()), &AtomicBool::new(true)).unwrap_err();
    assert!(matches!(error, TrainError::Interrupted { step: 1, total: 16, .. }), "{error}");
    let tokens = [1, 403, 407, 261];
    let adapter = folder.path().join("arm.gguf");
    let adapted = llama_cpp_logits(&small_llama(), Some(&adapter), &tokens);
    assert!(largest_difference(&adapted, &llama_cpp_logits(&small_llama(), None, &tokens)) > 0.0);
    let file = crate::engine::gguf::GgufFile::open_adapter(&adapter).unwrap();
    assert_eq!(file.u64("genarm.steps"), Some(1));
    assert!(folder.path().join("arm.gguf.checkpoint").exists());
}

#[test]
fn a_run_that_is_stopped_again_and_again_never_replaces_an_earlier_result() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let wire = |resume| Wire { resume, ..quick(folder.path(), "arm.gguf") };
    train(&settings(wire(false)), &AtomicBool::new(false)).unwrap();
    let finished = std::fs::read(at("arm.gguf")).unwrap();
    for resume in [false, true] {
        train(&settings(wire(resume)), &AtomicBool::new(true)).unwrap_err();
        assert_eq!(std::fs::read(at("arm.gguf")).unwrap(), finished, "resume {resume}");
        assert!(at("arm.interrupted.gguf").exists());
    }
    train(&settings(wire(true)), &AtomicBool::new(false)).unwrap();
    assert!(!at("arm.interrupted.gguf").exists(), "a finished run takes its place");
}

#[test]
fn a_fingerprint_names_settings_data_and_weights() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("base.gguf");
    std::fs::copy(small_llama(), &path).unwrap();
    let wire = || Wire { backbone: Some(path.clone()), resume: true, ..quick(folder.path(), "arm.gguf") };
    let stop = AtomicBool::new(true);
    train(&settings(wire()), &stop).unwrap_err();
    let stored = candle_core::safetensors::load(folder.path().join("arm.gguf.checkpoint"), &Device::Cpu).unwrap();
    assert_eq!(stored["fingerprint"].elem_count(), 64, "SHA-256 in hexadecimal");
    // Other weights in the same shape.
    let info = Backbone::load(&path, &Device::Cpu, None).unwrap();
    let at = info.file.tensor("blk.1.ffn_up.weight").unwrap().offset as usize;
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[at] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let error = train(&settings(wire()), &stop).unwrap_err();
    assert!(error.to_string().contains("backbone"), "{error}");
}
