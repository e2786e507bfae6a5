//! Whole runs: learning, resuming, exporting.

use super::*;
use crate::engine::gguf::GgufFile;
use crate::train::settings::{Adapt, Keep, ObjectiveName, OutType};
use crate::train::{TrainError, train};
use std::sync::atomic::{AtomicBool, Ordering};

fn go(wire: Wire) -> crate::train::Outcome {
    train(&settings(wire), &AtomicBool::new(false)).unwrap()
}

#[test]
fn a_short_run_learns_and_reports() {
    let folder = tempfile::tempdir().unwrap();
    let outcome = go(quick(folder.path(), "arm.gguf"));
    assert_eq!((outcome.steps, outcome.held_out, outcome.counts.used), (16, 8, 40));
    assert!(outcome.held_out_accuracy.unwrap() >= 0.75, "{outcome:?}");
    assert!(outcome.start_loss > outcome.held_out_loss && outcome.start_accuracy.is_some(), "{outcome:?}");
    let log = std::fs::read_to_string(folder.path().join("arm.log.jsonl")).unwrap();
    // Before the first update, and after each.
    assert_eq!(log.lines().count(), 17);
    let table = std::fs::read_to_string(folder.path().join("arm.csv")).unwrap();
    let cells: Vec<usize> = table.lines().map(|line| line.split(',').count()).collect();
    assert_eq!((cells.len(), cells.iter().all(|n| *n == 9)), (18, true), "{table}");
    assert!(std::fs::read_to_string(folder.path().join("arm.svg")).unwrap().contains("pair accuracy"));
    assert!(!folder.path().join("arm.gguf.checkpoint").exists());
}

#[test]
fn a_resumed_run_ends_with_the_same_bytes_as_an_uninterrupted_one() {
    for full in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let wire = |out: &str| Wire {
            full,
            lora_dropout: (!full).then_some(0.1),
            checkpoint_every: Some(5),
            // The best weights so far are in the checkpoint, too.
            eval_every: Some(3),
            keep: Some(Keep::Best),
            resume: true,
            out_type: full.then_some(OutType::F32),
            ..quick(folder.path(), out)
        };
        go(wire("whole.gguf"));
        // A copy of the checkpoint as it lies on disk after step 5, 10 … is all that kill -9 leaves.
        let stop = AtomicBool::new(true);
        for _ in 0..3 {
            let error = train(&settings(wire("pieces.gguf")), &stop).unwrap_err();
            assert!(matches!(error, TrainError::Interrupted { .. }), "{error}");
        }
        stop.store(false, Ordering::Relaxed);
        train(&settings(wire("pieces.gguf")), &stop).unwrap();
        let read = |name: &str| std::fs::read(folder.path().join(name)).unwrap();
        assert!(read("whole.gguf") == read("pieces.gguf"), "full: {full}");
        let lines = |name: &str| String::from_utf8(read(name)).unwrap().lines().count();
        assert_eq!(lines("whole.log.jsonl"), lines("pieces.log.jsonl"));
    }
}

#[test]
fn a_checkpoint_of_another_run_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let wire = Wire { resume: true, ..quick(folder.path(), "arm.gguf") };
    let _ = train(&settings(wire.clone()), &AtomicBool::new(true)).unwrap_err();
    let error = train(&settings(Wire { lr: Some(1e-5), ..wire }), &AtomicBool::new(false)).unwrap_err();
    assert!(error.to_string().contains("made with other settings"), "{error}");
}

#[test]
fn exported_files_load_in_llama_cpp_and_give_the_trained_logits() {
    let folder = tempfile::tempdir().unwrap();
    let tokens = [1, 403, 407, 261, 378, 100, 33, 45, 260, 300];
    let file = |name: &str| folder.path().join(name);
    let targets = ["q", "k", "v", "o", "gate", "up", "down"].map(String::from).to_vec();
    let wire = |out: &str, out_type| Wire {
        out_type: Some(out_type),
        lora_targets: Some(targets.clone()),
        ..quick(folder.path(), out)
    };
    go(wire("lora.gguf", OutType::Adapter));
    go(wire("f32.gguf", OutType::F32));
    let trained = our_logits(&Backbone::load(&file("f32.gguf"), &Device::Cpu, None).unwrap(), &tokens);
    let base = our_logits(&Backbone::load(&small_llama(), &Device::Cpu, None).unwrap(), &tokens);
    assert!(largest_difference(&trained, &base) > 0.5, "training must have changed the model");
    let exact = small_llama().ends_with("stories260K.gguf");
    let adapted = llama_cpp_logits(&small_llama(), Some(&file("lora.gguf")), &tokens);
    assert!(largest_difference(&trained, &adapted) < if exact { 2e-3 } else { 0.3 });
    assert!(largest_difference(&trained, &llama_cpp_logits(&file("f32.gguf"), None, &tokens)) < 2e-3);
    for (out_type, allowed) in [(OutType::F16, 0.05), (OutType::Q8_0, 0.5), (OutType::Q4_0, 6.0), (OutType::Q4KM, 6.0)]
    {
        let name = format!("{out_type:?}.gguf");
        go(wire(&name, out_type));
        let difference = largest_difference(&trained, &llama_cpp_logits(&file(&name), None, &tokens));
        assert!(difference < allowed, "{out_type:?}: {difference}");
        let sizes = |n: &str| std::fs::metadata(file(n)).unwrap().len();
        assert!(sizes(&name) < sizes("f32.gguf"), "{out_type:?}");
    }
}

#[test]
fn an_exported_file_says_how_it_was_made() {
    let folder = tempfile::tempdir().unwrap();
    go(quick(folder.path(), "lora.gguf"));
    let file = GgufFile::open_adapter(folder.path().join("lora.gguf")).unwrap();
    let text = |key: &str| file.str(key).unwrap().to_string();
    assert_eq!(text("genarm.objective"), "arm");
    assert_eq!(text("genarm.data.file"), "pairs.jsonl");
    assert_eq!(text("adapter.type"), "lora");
    assert_eq!(file.u64("genarm.data.examples"), Some(32));
    assert!(file.get("genarm.held_out.accuracy").and_then(Value::as_f64).unwrap() > 0.0);
    assert_eq!(text("genarm.vocab.hash").len(), 16);
}

#[test]
fn dpo_and_sft_train_too() {
    let folder = tempfile::tempdir().unwrap();
    let dpo = go(Wire { objective: Some(ObjectiveName::Dpo), ..quick(folder.path(), "dpo.gguf") });
    assert!(dpo.held_out_accuracy.unwrap() > 0.5, "{dpo:?}");
    let sft = |steps| Wire {
        objective: Some(ObjectiveName::Sft),
        beta: None,
        max_steps: Some(steps),
        ..quick(folder.path(), "sft.gguf")
    };
    let (short, long) = (go(sft(1)), go(sft(16)));
    assert!(long.held_out_loss < short.held_out_loss, "{long:?}");
}

#[test]
fn a_loss_that_is_no_number_stops_with_step_and_hint() {
    let folder = tempfile::tempdir().unwrap();
    let wire = Wire { lr: Some(1e30), max_grad_norm: Some(0.0), full: true, ..quick(folder.path(), "arm.gguf") };
    let message = train(&settings(wire), &AtomicBool::new(false)).unwrap_err().to_string();
    assert!(message.contains("at step 2") && message.contains("lower the learning rate"), "{message}");
    assert!(!folder.path().join("arm.gguf").exists());
}

/// Held-out losses by step, as the log has them.
fn held_out_losses(folder: &Path, name: &str) -> Vec<(u64, f64)> {
    let log = std::fs::read_to_string(folder.join(name)).unwrap();
    let lines = log.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    lines.filter_map(|r| Some((r["step"].as_u64()?, r["held_out_loss"].as_f64()?))).collect()
}

#[test]
fn the_weights_with_the_lowest_held_out_loss_are_written_and_an_adapter_goes_on_from_there() {
    let folder = tempfile::tempdir().unwrap();
    // A learning rate at which a few pairs are learned by heart.
    let wire = |out: &str| Wire {
        lr: Some(0.02),
        eval_every: Some(1),
        schedule: Some(crate::train::schedule::Schedule::Constant),
        ..quick(folder.path(), out)
    };
    let best = go(wire("best.gguf"));
    let measured = held_out_losses(folder.path(), "best.log.jsonl");
    let (step, loss) = measured[1..].iter().copied().min_by(|a, b| a.1.total_cmp(&b.1)).unwrap();
    let last = measured.last().unwrap().1.min(best.held_out_loss.unwrap());
    assert!(loss >= last && best.held_out_loss == Some(last), "{best:?} {measured:?}");
    assert!(best.kept_step as u64 == step || best.kept_step == best.steps, "{best:?}");
    let file = GgufFile::open_adapter(folder.path().join("best.gguf")).unwrap();
    assert_eq!(file.u64("genarm.steps"), Some(best.kept_step as u64));
    // The last weights, where they are asked for.
    let kept = go(Wire { keep: Some(Keep::Last), ..wire("last.gguf") });
    assert_eq!(kept.kept_step, kept.steps);
    assert!(kept.held_out_loss >= best.held_out_loss);

    let init = Some(folder.path().join("best.gguf"));
    let next = go(Wire { init: init.clone(), max_steps: Some(1), ..wire("next.gguf") });
    let (start, end) = (next.start_loss.unwrap(), best.held_out_loss.unwrap());
    assert!((start - end).abs() < 1e-6, "{start} {end}");
    let refused = Settings::try_from(Wire { init: init.clone(), lora_rank: Some(4), ..wire("next.gguf") }).unwrap_err();
    assert!(refused.to_string().contains("--lora-rank has no effect"), "{refused}");
    let other = folder.path().join("other.gguf");
    random_model(&other, "qwen2");
    let refused = train(&settings(Wire { init, backbone: Some(other), ..wire("next.gguf") }), &AtomicBool::new(false));
    assert!(refused.unwrap_err().to_string().contains("is it another model?"));
    for (init, part) in [("pairs.jsonl", "--init"), ("absent.gguf", "--init")] {
        let wire = Wire { init: Some(folder.path().join(init)), ..wire("next.gguf") };
        let refused = Settings::try_from(wire).unwrap_err().to_string();
        assert!(refused.contains(part) && !refused.contains('\n'), "{refused}");
    }
}

#[test]
fn an_adapter_for_responses_says_so_and_other_files_cannot() {
    let folder = tempfile::tempdir().unwrap();
    let wire = |out: &str| Wire { adapt: Some(Adapt::Response), max_steps: Some(2), ..quick(folder.path(), out) };
    go(wire("arm.gguf"));
    let file = GgufFile::open_adapter(folder.path().join("arm.gguf")).unwrap();
    assert_eq!(file.str("genarm.adapt"), Some("response"));
    go(Wire { adapt: None, ..wire("all.gguf") });
    assert_eq!(GgufFile::open_adapter(folder.path().join("all.gguf")).unwrap().str("genarm.adapt"), None);
    for (wire, part) in [
        (Wire { out_type: Some(OutType::F16), ..wire("x.gguf") }, "cannot be merged"),
        (Wire { full: true, ..wire("x.gguf") }, "--adapt has no effect"),
        (Wire { keep: Some(Keep::Best), held_out: Some(0.0), ..wire("x.gguf") }, "--keep has no effect"),
        (Wire { full: true, adapt: None, out_type: Some(OutType::AdapterF16), ..wire("x.gguf") }, "drop --out-type"),
    ] {
        let error = Settings::try_from(wire).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
    go(Wire { out_type: Some(OutType::AdapterF16), ..wire("half.gguf") });
    let size = |name: &str| std::fs::metadata(folder.path().join(name)).unwrap().len();
    assert!(size("half.gguf") * 10 < size("arm.gguf") * 7, "{} {}", size("half.gguf"), size("arm.gguf"));
}
