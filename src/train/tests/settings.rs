//! What is refused before a run begins, by the name of the flag; and the names of matrices.

use super::*;
use crate::train::TrainError;
use crate::train::settings::{ObjectiveName, OutType};

fn base() -> Wire {
    Wire {
        backbone: Some("b".into()),
        pairs: Some(vec!["p".parse().unwrap()]),
        out: Some("o".into()),
        ..Wire::default()
    }
}

fn refusal(wire: Wire) -> String {
    match Settings::try_from(wire.clone()) {
        Err(TrainError::Setting(message)) => message,
        other => panic!("{wire:?} gives {other:?}"),
    }
}

#[test]
fn a_number_that_is_none_or_out_of_range_is_refused_by_its_flag() {
    type Set = fn(&mut Wire, f64);
    let sets: [(&str, Set); 9] = [
        ("--lr", |w, x| w.lr = Some(x)),
        ("--beta", |w, x| w.beta = Some(x)),
        ("--gamma", |w, x| w.gamma = Some(x)),
        ("--label-smoothing", |w, x| w.label_smoothing = Some(x)),
        ("--lora-alpha", |w, x| w.lora_alpha = Some(x as f32)),
        ("--lora-dropout", |w, x| w.lora_dropout = Some(x as f32)),
        ("--weight-decay", |w, x| w.weight_decay = Some(x)),
        ("--max-grad-norm", |w, x| w.max_grad_norm = Some(x)),
        ("--held-out", |w, x| w.held_out = Some(x)),
    ];
    for (flag, set) in sets {
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1e-3] {
            // A margin may be negative.
            if flag == "--gamma" && value == -1e-3 {
                continue;
            }
            let mut wire = base();
            set(&mut wire, value);
            let message = refusal(wire);
            assert!(message.starts_with(&format!("{flag} must be ")), "{message}");
        }
    }
    for (flag, set) in &sets[..2] {
        for value in [0.0, 1e-60, 1e60] {
            let mut wire = base();
            set(&mut wire, value);
            assert!(refusal(wire).starts_with(flag));
        }
    }
}

#[test]
fn a_count_of_nothing_is_refused_by_its_flag() {
    type Set = fn(&mut Wire, usize);
    let sets: [(&str, Set); 10] = [
        ("--lora-rank", |w, n| w.lora_rank = Some(n)),
        ("--batch", |w, n| w.batch = Some(n)),
        ("--micro-batch", |w, n| w.micro_batch = Some(n)),
        ("--epochs", |w, n| w.epochs = Some(n)),
        ("--max-steps", |w, n| w.max_steps = Some(n)),
        ("--eval-every", |w, n| w.eval_every = Some(n)),
        ("--checkpoint-every", |w, n| w.checkpoint_every = Some(n)),
        ("--max-prompt", |w, n| w.max_prompt = Some(n)),
        ("--max-len", |w, n| w.max_len = Some(n)),
        ("--threads", |w, n| w.threads = Some(n)),
    ];
    for (flag, set) in sets {
        let mut wire = base();
        set(&mut wire, 0);
        let message = refusal(wire);
        assert!(message.starts_with(&format!("{flag} must be at least ")), "{message}");
    }
    assert!(refusal(Wire { max_len: Some(1), ..base() }).contains("--max-len"));
    assert!(refusal(Wire { threads: Some(usize::MAX), ..base() }).contains("--threads"));
}

#[test]
fn an_option_without_effect_is_refused_by_its_flag_and_what_ignores_it() {
    let sft = || Wire { objective: Some(ObjectiveName::Sft), ..base() };
    let dpo = || Wire { objective: Some(ObjectiveName::Dpo), ..base() };
    let full = || Wire { full: true, ..base() };
    let cases = [
        (Wire { beta: Some(0.1), ..sft() }, "--beta", "sft"),
        (Wire { gamma: Some(0.1), ..sft() }, "--gamma", "sft"),
        (Wire { hinge: true, ..sft() }, "--hinge", "sft"),
        (Wire { label_smoothing: Some(0.1), ..sft() }, "--label-smoothing", "sft"),
        (Wire { gamma: Some(0.1), ..dpo() }, "--gamma", "dpo"),
        (Wire { hinge: true, ..dpo() }, "--hinge", "dpo"),
        (Wire { hinge: true, label_smoothing: Some(0.1), ..base() }, "--label-smoothing", "hinge"),
        (Wire { lora_rank: Some(4), ..full() }, "--lora-rank", "--full"),
        (Wire { lora_alpha: Some(4.0), ..full() }, "--lora-alpha", "--full"),
        (Wire { lora_dropout: Some(0.1), ..full() }, "--lora-dropout", "--full"),
        (Wire { lora_targets: Some(vec!["q".into()]), ..full() }, "--lora-targets", "--full"),
        (Wire { out_type: Some(OutType::Adapter), ..full() }, "--out-type", "--full"),
    ];
    for (wire, flag, why) in cases {
        let message = refusal(wire);
        assert!(message.contains(flag) && message.contains(why), "{message}");
    }
    assert!(Settings::try_from(Wire { beta: Some(0.1), label_smoothing: Some(0.1), ..dpo() }).is_ok());
    assert!(Settings::try_from(Wire { beta: Some(0.1), gamma: Some(-1.0), hinge: true, ..base() }).is_ok());
}

#[test]
fn what_is_needed_is_asked_for_by_its_flag() {
    assert!(refusal(Wire { backbone: None, ..base() }).contains("--backbone"));
    assert!(refusal(Wire { pairs: None, ..base() }).contains("--pairs"));
    assert!(refusal(Wire { out: None, ..base() }).contains("--out"));
}

#[test]
fn matrices_are_known_by_every_name_that_people_use() {
    let targets = |list: &str| {
        let wire: Wire = serde_saphyr::from_str(&format!("{{lora_targets: {list}}}")).unwrap();
        let lora = Settings::try_from(Wire { lora_targets: wire.lora_targets, ..base() }).unwrap().lora.unwrap();
        lora.targets.join(" ")
    };
    let all = "attn_q attn_k attn_v attn_output ffn_gate ffn_up ffn_down";
    assert_eq!(targets("[q, k, v, o, gate, up, down]"), all);
    assert_eq!(targets("[q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj]"), all);
    assert_eq!(targets("[wq, wk, wv, wo, w1, w3, w2]"), all);
    assert_eq!(targets("all-linear"), all);
    assert_eq!(targets("[qkv_proj, o_proj, gate_up_proj, down_proj]"), all);
    assert_eq!(targets("'q_proj, v_proj'"), "attn_q attn_v");
    assert_eq!(targets("[model.layers.0.self_attn.q_proj, Q, attn_q.weight]"), "attn_q", "each once");
    assert_eq!(Settings::try_from(base()).unwrap().lora.unwrap().targets.join(" "), "attn_q attn_k attn_v");
    for (name, hint) in [("lm_head", "--full"), ("query_key_value", "all-linear"), ("", "all-linear")] {
        let message = refusal(Wire { lora_targets: Some(vec![name.into()]), ..base() });
        assert!(message.contains("--lora-targets") && message.contains(hint), "{message}");
    }
    assert!(refusal(Wire { lora_targets: Some(Vec::new()), ..base() }).contains("--lora-targets"));
}

#[test]
fn a_rank_that_no_matrix_can_have_is_refused_before_memory_is_taken() {
    let mut backbone = Backbone::load(&small_llama(), &Device::Cpu, None).unwrap();
    let lora = Settings::try_from(Wire { lora_rank: Some(usize::MAX / 8), ..base() }).unwrap().lora.unwrap();
    let message = backbone.train_lora(lora, 0).unwrap_err().to_string();
    assert!(message.contains("--lora-rank"), "{message}");
}
