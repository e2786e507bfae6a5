//! Preference-conditioned ARMs: gradients, data, whole runs, and what is written.

use super::*;
use crate::engine::dequantize;
use crate::engine::gguf::{Array, GgufFile};
use crate::train::export;
use crate::train::lora::{LoraSettings, Steered};
use crate::train::objective::{Objective, PairLogProbs};
use crate::train::parm::Mixture;
use crate::train::settings::{Adapt, Beta, Keep, ObjectiveName, OutType, PairsFile};
use crate::train::{Outcome, TrainError, train};
use candle_core::Var;
use std::sync::atomic::{AtomicBool, Ordering};

const TOKENS: [u32; 8] = [1, 403, 407, 261, 378, 100, 33, 45];

/// A conditioned backbone in which nothing is zero.
fn conditioned(targets: &[&str]) -> Backbone {
    let mut backbone = Backbone::load(&small_llama(), &Device::Cpu, Some(64)).unwrap();
    let lora = LoraSettings {
        rank: 2,
        alpha: 6.0,
        steered: Some(Steered { rank: 3, objectives: 2 }),
        dropout: 0.0,
        targets: targets.iter().map(|target| (*target).to_owned()).collect(),
    };
    backbone.train_lora(lora, 3).unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    for (_, var) in backbone.trainable().iter().filter(|(name, _)| name.ends_with("lora_b")) {
        let numbers: Vec<f32> = (0..var.elem_count()).map(|_| rng.random_range(-0.3..0.3)).collect();
        var.set(&Tensor::from_vec(numbers, var.dims(), &Device::Cpu).unwrap()).unwrap();
    }
    backbone
}

fn moved(var: &Var, original: &Tensor, step: &Tensor, sign: f64) {
    var.set(&(original + (step * sign).unwrap()).unwrap()).unwrap();
}

#[test]
fn the_gradients_of_all_four_factors_agree_with_finite_differences() {
    let mut backbone = conditioned(&["attn_q", "attn_v", "ffn_up"]);
    backbone.set_preferences(&[0.3, 0.7]);
    let mut packed = Packed::default();
    packed.push(&[1, 403, 407, 261, 378, 100], 3);
    packed.push(&[1, 403, 407, 33, 45], 3);
    let losses = [Objective::arm(0.5), Objective::arm(0.2)];
    let signs = [1, -1];
    let loss_of = |values: &[f32]| {
        let sum = |values: &[f32]| values.iter().map(|v| f64::from(*v)).sum::<f64>();
        let (chosen, rejected) = values.split_at(packed.scored[0]);
        let mixture = Mixture { losses: &losses, weights: vec![0.3, 0.7], signs: vec![&signs] };
        mixture.pair(0, PairLogProbs { chosen: sum(chosen), rejected: sum(rejected), ..PairLogProbs::default() })
    };
    let weigh = |logprobs: &Tensor| {
        let d = loss_of(&logprobs.detach().to_vec1::<f32>()?).d_chosen as f32;
        let coefficients = [vec![d; packed.scored[0]], vec![-d; packed.scored[1]]].concat();
        (logprobs * Tensor::new(coefficients, &Device::Cpu)?)?.sum_all()
    };
    let store = weigh(&backbone.logprobs(&packed).unwrap()).unwrap().backward().unwrap();
    let mut grads = BTreeMap::new();
    backbone.collect(&store, &mut grads).unwrap();
    let pieces = backbone.clone().checkpointed_gradients(&packed, weigh).unwrap();
    let loss = |b: &Backbone| loss_of(&b.logprobs(&packed).unwrap().detach().to_vec1().unwrap()).loss;
    for matrix in ["blk.0.attn_q", "blk.1.attn_v", "blk.0.ffn_up"] {
        for part in ["lora_a", "lora_b", "parm_w1", "parm_w2"] {
            let name = format!("{matrix}.weight.{part}");
            let (var, g) = (&backbone.trainable()[&name], &grads[&name]);
            let original = var.as_detached_tensor().copy().unwrap();
            let norm = f64::from(g.sqr().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap()).sqrt();
            // A step along the gradient: the steepest direction stands out of F32's rounding.
            let step = (g * (2e-2 / norm)).unwrap();
            moved(var, &original, &step, 1.0);
            let up = loss(&backbone);
            moved(var, &original, &step, -1.0);
            let down = loss(&backbone);
            var.set(&original).unwrap();
            let slope = (up - down) / 4e-2;
            assert!((slope - norm).abs() < 0.03 * norm, "{name}: {slope} against {norm}");
            let flat = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            assert!(largest_difference(&flat(g), &flat(&pieces[&name])) < 1e-4, "{name}");
        }
    }
}

#[test]
fn a_written_adapter_is_the_trained_one_for_llama_cpp_with_all_preferences_at_one() {
    let folder = tempfile::tempdir().unwrap();
    let mut backbone = conditioned(&["attn_q", "attn_k", "ffn_down"]);
    let out = folder.path().join("parm.gguf");
    export::export(&backbone, OutType::Adapter, &out, Metadata::new()).unwrap();
    let written = llama_cpp_logits(&small_llama(), Some(&out), &TOKENS);
    backbone.set_preferences(&[1.0, 1.0]);
    assert!(largest_difference(&our_logits(&backbone, &TOKENS), &written) < 2e-3);
    backbone.set_preferences(&[1.0, 0.0]);
    assert!(largest_difference(&our_logits(&backbone, &TOKENS), &written) > 0.1, "preferences must matter");
    let file = GgufFile::open_adapter(&out).unwrap();
    assert_eq!(file.get("adapter.lora.alpha").and_then(Value::as_f64), Some(8.0), "the rank: 2 + 2 · 3");
    let rank = file.tensor("blk.0.attn_q.weight.lora_a").unwrap().dims[1];
    assert_eq!((rank, file.tensor("blk.0.attn_q.weight.lora_b").unwrap().dims[0]), (8, 8));
    assert!(file.tensors().iter().all(|tensor| !tensor.name.contains("parm")));
}

#[test]
fn each_block_of_a_written_adapter_weighs_as_the_preference_of_its_objective() {
    let folder = tempfile::tempdir().unwrap();
    let mut backbone = conditioned(&["attn_q", "attn_v"]);
    let out = folder.path().join("parm.gguf");
    export::export(&backbone, OutType::Adapter, &out, Metadata::new()).unwrap();
    let file = GgufFile::open_adapter(&out).unwrap();
    for alpha in [[1.0, 0.0], [0.0, 1.0], [0.25, 0.6]] {
        // The same file with the columns of B multiplied as an engine that reads preferences would do it.
        let factor = |column: usize| [1.0, alpha[0], alpha[1]][[0, 0, 1, 1, 1, 2, 2, 2][column]];
        let mut tensors = BTreeMap::new();
        for info in file.tensors() {
            let mut numbers = dequantize::read(&file, info).unwrap();
            let dims: Vec<usize> = info.dims.iter().rev().map(|n| *n as usize).collect();
            if info.name.ends_with("lora_b") {
                numbers.iter_mut().enumerate().for_each(|(i, x)| *x *= factor(i % 8) as f32);
            }
            tensors.insert(info.name.clone(), Tensor::from_vec(numbers, dims, &Device::Cpu).unwrap());
        }
        let fixed = folder.path().join("fixed.gguf");
        export::write_adapter(&fixed, "llama", 8.0, Metadata::new(), &tensors, false).unwrap();
        backbone.set_preferences(&alpha);
        let difference = largest_difference(
            &our_logits(&backbone, &TOKENS),
            &llama_cpp_logits(&small_llama(), Some(&fixed), &TOKENS),
        );
        assert!(difference < 2e-3, "{alpha:?}: {difference}");
    }
}

/// Pairs that differ in mood and in animal, in all four ways; `a` and `b` change places.
fn rows() -> Vec<[String; 5]> {
    let happy = ["was very happy", "smiled and played", "loved the sun", "had a good day"];
    let sad = ["was very sad", "cried and fell", "hated the rain", "had a bad day"];
    let text = |i: usize, cheerful: bool, dog: bool| {
        let mood = if cheerful { happy[i % 4] } else { sad[(i + i / 4) % 4] };
        format!(" {mood} with the {}.", if dog { "big dog" } else { "little cat" })
    };
    let row = |i: usize| {
        let (first, second) = [((true, true), (false, false)), ((true, false), (false, true))][i / 2 % 2];
        let (a, b) = if i.is_multiple_of(2) { (first, second) } else { (second, first) };
        let names = ["Tom", "Lily", "Ben", "A bird", "Mom"];
        let label = |a: bool| if a { "a" } else { "b" }.to_owned();
        let prompt = format!("{} number {i}", names[i % 5]);
        [prompt, text(i, a.0, a.1), text(i, b.0, b.1), label(a.0), label(a.1)]
    };
    (0..64).map(row).collect()
}

/// A run of a few seconds with two objectives in one file.
fn quick_parm(folder: &Path, out: &str) -> Wire {
    let line = |[prompt, a, b, mood, animal]: [String; 5]| {
        let preferred = serde_json::json!({"cheerful": mood, "dogs": animal});
        serde_json::json!({"prompt": prompt, "a": a, "b": b, "preferred": preferred}).to_string() + "\n"
    };
    let pairs = folder.join("both.jsonl");
    std::fs::write(&pairs, rows().into_iter().map(line).collect::<String>()).unwrap();
    Wire {
        objective: Some(ObjectiveName::Parm),
        pairs: Some(vec![pairs.into()]),
        prefer: Some("cheerful,dogs".into()),
        lr: Some(5e-3),
        micro_batch: Some(2),
        epochs: Some(6),
        held_out: Some(0.25),
        ..quick(folder, out)
    }
}

fn go(wire: Wire) -> Outcome {
    train(&settings(wire), &AtomicBool::new(false)).unwrap()
}

#[test]
fn one_arm_learns_two_objectives_and_follows_the_preferences_among_them() {
    let folder = tempfile::tempdir().unwrap();
    let outcome = go(quick_parm(folder.path(), "parm.gguf"));
    assert_eq!((outcome.counts.used, outcome.held_out), (64, 16));
    let labelled: Vec<(&str, usize)> = outcome.counts.labelled.iter().map(|(name, n)| (name.as_str(), *n)).collect();
    assert_eq!(labelled, [("cheerful", 64), ("dogs", 64)]);
    println!("{:?}", outcome.objectives);
    for objective in &outcome.objectives {
        let (own, others) = (objective.own_corner.unwrap(), objective.other_corners.unwrap());
        assert!(own >= 0.75 && own > others + 0.2 && objective.start.is_some(), "{objective:?}");
    }
    assert!(outcome.held_out_loss < outcome.start_loss, "{outcome:?}");
    // The control reads preferences that say nothing of its losses.
    let control = go(Wire { shuffle_preferences: true, ..quick_parm(folder.path(), "control.gguf") });
    println!("{:?}", control.objectives);
    let gain = |outcome: &Outcome| -> f64 {
        outcome.objectives.iter().map(|o| o.own_corner.unwrap() - o.other_corners.unwrap()).sum()
    };
    assert!(gain(&outcome) > gain(&control) + 0.3, "{} {}", gain(&outcome), gain(&control));
}

#[test]
fn a_written_arm_says_which_objectives_it_has_and_of_which_blocks_it_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let wire = |out: &str| Wire { max_steps: Some(2), adapt: Some(Adapt::Response), ..quick_parm(folder.path(), out) };
    go(wire("parm.gguf"));
    let file = GgufFile::open_adapter(folder.path().join("parm.gguf")).unwrap();
    let Some(Value::Array(Array::Strings(names))) = file.get("genarm.parm.objectives") else { panic!() };
    assert_eq!(names.iter().collect::<Vec<_>>(), [b"cheerful".as_slice(), b"dogs"]);
    assert_eq!(file.get("genarm.parm.ranks"), Some(&Value::Array(Array::U32(vec![4, 4, 4]))));
    let number = |key: &str| file.get(key).and_then(Value::as_f64);
    assert_eq!([number("genarm.parm.alpha_min"), number("genarm.parm.alpha_max")], [Some(0.0), Some(1.0)]);
    assert_eq!((number("adapter.lora.alpha"), number("genarm.beta")), (Some(12.0), Some(f64::from(0.2f32))));
    assert_eq!((file.str("genarm.objective"), file.str("genarm.adapt")), (Some("parm"), Some("response")));
    // Objectives with rewards of different scales have no common one.
    let betas = Some(vec![Beta("dogs".into(), 0.5)]);
    go(Wire { betas, parm_rank: Some(2), lora_rank: Some(3), ..wire("scales.gguf") });
    let file = GgufFile::open_adapter(folder.path().join("scales.gguf")).unwrap();
    assert_eq!(file.get("genarm.parm.ranks"), Some(&Value::Array(Array::U32(vec![3, 2, 2]))));
    assert_eq!(file.get("genarm.parm.betas"), Some(&Value::Array(Array::F32(vec![0.2, 0.5]))));
    assert_eq!(file.get("genarm.beta"), None);
}

#[test]
fn a_resumed_run_ends_with_the_same_bytes_as_an_uninterrupted_one() {
    let folder = tempfile::tempdir().unwrap();
    let wire = |out: &str| Wire {
        lora_dropout: Some(0.1),
        checkpoint_every: Some(3),
        eval_every: Some(2),
        keep: Some(Keep::Best),
        max_steps: Some(8),
        resume: true,
        ..quick_parm(folder.path(), out)
    };
    let whole = go(wire("whole.gguf"));
    let stop = AtomicBool::new(true);
    for _ in 0..2 {
        let error = train(&settings(wire("pieces.gguf")), &stop).unwrap_err();
        assert!(matches!(error, TrainError::Interrupted { .. }), "{error}");
    }
    // Other draws of the preferences are another run.
    let other = train(&settings(Wire { dirichlet: Some(1.0), ..wire("pieces.gguf") }), &stop).unwrap_err();
    assert!(other.to_string().contains("made with other settings"), "{other}");
    stop.store(false, Ordering::Relaxed);
    let pieces = train(&settings(wire("pieces.gguf")), &stop).unwrap();
    let read = |name: &str| std::fs::read(folder.path().join(name)).unwrap();
    assert!(read("whole.gguf") == read("pieces.gguf"));
    // A run that is stopped at once does not measure its start.
    assert!(whole.kept_step > 0 && whole.objectives.iter().all(|objective| objective.start.is_some()));
    let end = |outcome: Outcome| outcome.objectives.into_iter().map(|o| [o.own_corner, o.middle, o.other_corners]);
    assert!(end(whole).eq(end(pieces)));
}

fn named(name: &str, path: &Path) -> PairsFile {
    PairsFile { objective: Some(name.into()), path: path.into() }
}

#[test]
fn a_file_per_objective_trains_the_same_bytes_as_one_file_with_labels() {
    let folder = tempfile::tempdir().unwrap();
    let wire = |out: &str| Wire { max_steps: Some(3), ..quick_parm(folder.path(), out) };
    let joint = go(wire("joint.gguf"));
    let write = |name: &str, label: usize| {
        let line = |row: [String; 5]| {
            let (chosen, rejected) = if row[label] == "a" { (&row[1], &row[2]) } else { (&row[2], &row[1]) };
            serde_json::json!({"prompt": row[0], "chosen": chosen, "rejected": rejected}).to_string() + "\n"
        };
        let path = folder.path().join(name);
        std::fs::write(&path, rows().into_iter().map(line).collect::<String>()).unwrap();
        path
    };
    let (mood, animal) = (write("mood.jsonl", 3), write("animal.jsonl", 4));
    let pairs = Some(vec![named("cheerful", &mood), named("dogs", &animal)]);
    let apart = go(Wire { pairs, prefer: None, ..wire("apart.gguf") });
    assert_eq!(joint.counts, apart.counts, "the same two responses are one example");
    let tensors = |name: &str| {
        let file = GgufFile::open_adapter(folder.path().join(name)).unwrap();
        file.tensors().iter().map(|info| dequantize::read(&file, info).unwrap()).collect::<Vec<_>>()
    };
    assert!(tensors("joint.gguf") == tensors("apart.gguf"));
}

#[test]
fn objectives_may_have_examples_of_their_own() {
    let wire = |pairs| Wire {
        objective: Some(ObjectiveName::Parm),
        pairs: Some(pairs),
        backbone: Some("b".into()),
        out: Some("o".into()),
        ..Wire::default()
    };
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, lines: &[&str]| {
        let path = folder.path().join(name);
        std::fs::write(&path, lines.join("\n")).unwrap();
        path
    };
    let kind = file(
        "kind.jsonl",
        &[
            r#"{"prompt":"Hi","chosen":" yes","rejected":" no"}"#,
            r#"{"prompt":"Hi","chosen":" b","rejected":" a"}"#,
            r#"{"prompt":"Hi","chosen":" yes","rejected":" no"}"#,
        ],
    );
    let short = file(
        "short.jsonl",
        &[
            r#"{"prompt":"Hi","chosen":" no","rejected":" yes"}"#,
            r#"{"prompt":"Ho","response":" long","short":1}"#,
            r#"{"prompt":"Ho","response":" s","short":3}"#,
            r#"{"prompt":"Hu","response_0":"x","response_1":"y","short":"tie"}"#,
        ],
    );
    let read = |wire: Wire| {
        let template = crate::train::render::template("auto", None).unwrap();
        crate::train::pairs::load(&settings(wire), &super::data::Characters, &template, 60)
    };
    let (examples, counts) = read(wire(vec![named("kind", &kind), named("short", &short)])).unwrap();
    let signs: Vec<(String, String, Vec<i8>)> = examples
        .iter()
        .map(|e| (super::data::text(&e.chosen), super::data::text(&e.rejected), e.signs.clone()))
        .collect();
    let want = [(" no", " yes", vec![-1, 1]), (" a", " b", vec![-1, 0]), (" long", " s", vec![0, -1])];
    assert_eq!(signs, want.map(|(a, b, signs)| (a.to_owned(), b.to_owned(), signs)));
    assert_eq!((counts.duplicate, counts.tied), (1, 1));
    assert_eq!(counts.labelled.values().copied().collect::<Vec<_>>(), [2, 2]);
    // A name that the data has nothing for, and a file of two objectives that says `chosen`.
    let both = file("both.jsonl", &[r#"{"prompt":"Hi","a":"x","b":"y","preferred":{"kind":"a","calm":null}}"#]);
    let of_one = |prefer: &str, path: &Path| {
        let wire = Wire { prefer: Some(prefer.into()), ..wire(vec![path.to_path_buf().into()]) };
        read(wire).unwrap_err().to_string()
    };
    assert!(of_one("kind,calm", &both).contains("none has a preference for the objective calm"));
    assert!(of_one("kind,short", &kind).contains("kind.jsonl:1:"), "{}", of_one("kind,short", &kind));
}

#[test]
fn an_objective_with_nothing_to_train_on_is_refused_before_the_first_step() {
    let folder = tempfile::tempdir().unwrap();
    let wire = |seed| Wire {
        max_steps: Some(1),
        seed: Some(seed),
        held_out: Some(0.8),
        ..quick_parm(folder.path(), "x.gguf")
    };
    let lines = std::fs::read_to_string(wire(0).pairs.unwrap()[0].path.clone()).unwrap();
    let without = |line: &str| line.replace("\"dogs\":", "\"unheard\":");
    // One pair in ten has a preference for both; with most seeds it is held out.
    let few: String =
        lines.lines().take(10).enumerate().map(|(i, l)| if i == 0 { l.into() } else { without(l) } + "\n").collect();
    let refused = (0..20).find_map(|seed| {
        let wire = wire(seed);
        std::fs::write(&wire.pairs.as_ref().unwrap()[0].path, &few).unwrap();
        train(&settings(wire), &AtomicBool::new(false)).err()
    });
    assert!(refused.unwrap().to_string().contains("all examples of the objective dogs are held out"));
}

#[test]
fn what_several_objectives_need_is_asked_for_in_a_line() {
    let base = || Wire {
        objective: Some(ObjectiveName::Parm),
        backbone: Some("b".into()),
        pairs: Some(vec!["kind=k.jsonl".parse().unwrap(), "short=s.jsonl".parse().unwrap()]),
        out: Some("o".into()),
        ..Wire::default()
    };
    let parm = settings(base()).parm.unwrap();
    assert_eq!((parm.names.join(" "), parm.dirichlet, parm.losses[0].beta()), ("kind short".into(), 0.5, 0.05));
    let lora = settings(base()).lora.unwrap();
    assert_eq!((lora.rank, lora.alpha, lora.scale(), lora.rows()), (4, 8.0, 2.0, 8));
    let one = |path: &str| Some(vec![path.parse::<PairsFile>().unwrap()]);
    let cases = [
        (Wire { pairs: one("p.jsonl"), ..base() }, "--pairs NAME=FILE"),
        (Wire { pairs: Some(vec!["kind=k".parse().unwrap()]), ..base() }, "two objectives or more"),
        (Wire { pairs: one("p.jsonl"), prefer: Some("kind".into()), ..base() }, "two objectives or more"),
        (Wire { pairs: one("p.jsonl"), prefer: Some("kind,kind".into()), ..base() }, "kind is named twice"),
        (Wire { pairs: one("p.jsonl"), prefer: Some("kind,so so".into()), ..base() }, "\"so so\""),
        (Wire { prefer: Some("kind".into()), ..base() }, "--prefer has no effect"),
        (Wire { full: true, ..base() }, "drop --full"),
        (Wire { out_type: Some(OutType::F16), ..base() }, "drop --out-type"),
        (Wire { init: Some("x.gguf".into()), ..base() }, "drop --init"),
        (Wire { dirichlet: Some(0.0), ..base() }, "--dirichlet must be a positive number"),
        (Wire { parm_rank: Some(0), ..base() }, "--parm-rank must be at least 1"),
        (Wire { betas: Some(vec![Beta("knd".into(), 1.0)]), ..base() }, "did you mean \"kind\""),
        (Wire { betas: Some(vec![Beta("kind".into(), -1.0)]), ..base() }, "--betas kind must be a positive number"),
        (Wire { objective: None, ..base() }, "--objective parm"),
        (
            Wire { objective: None, pairs: one("p"), dirichlet: Some(1.0), ..base() },
            "--dirichlet has no effect on the objective arm",
        ),
        (Wire { objective: None, pairs: one("p"), parm_rank: Some(1), ..base() }, "--parm-rank has no effect"),
    ];
    for (wire, part) in cases {
        let message = Settings::try_from(wire).unwrap_err().to_string();
        assert!(message.contains(part) && !message.contains('\n'), "{part}: {message}");
    }
    // Only objectives have names: elsewhere a file may be called so.
    let file = settings(Wire { objective: None, pairs: Some(vec!["lr=0.5.jsonl".parse().unwrap()]), ..base() });
    assert_eq!(file.pairs[0].path, Path::new("lr=0.5.jsonl"));
    // A recipe has a mapping.
    let recipe = "{objective: parm, pairs: {kind: k.jsonl, short: s.jsonl}, betas: {short: 0.5}, backbone: b, out: o}";
    let recipe = settings(serde_saphyr::from_str(recipe).unwrap());
    assert_eq!(recipe.pairs[1].path, Path::new("s.jsonl"));
    assert_eq!(recipe.parm.unwrap().losses.iter().map(|loss| loss.beta()).collect::<Vec<_>>(), [0.05, 0.5]);
}
