use super::*;
use crate::TableExpert;
use crate::guidance::{Contract, Tail};

fn counting_arm(name: &str, n_ctx: usize) -> Arm {
    let expert = TableExpert::new(4, n_ctx, |history, logits| {
        logits.fill(0.0);
        logits[history.len() % 4] = 1.0;
    });
    Arm::new(name, Box::new(expert), Contract { n_common: 4, tail: Tail::None })
}

fn guide(weights: &[f32]) -> Guide {
    let names: Vec<_> = (0..weights.len()).map(|i| format!("arm{i}")).collect();
    let arms = names.iter().map(|name| counting_arm(name, 100)).collect();
    Guide::new(arms, Weights::new(names.into_iter().zip(weights.iter().copied())))
}

#[test]
fn weight_zero_evaluates_no_arm_and_changes_nothing() {
    let mut guide = guide(&[0.0, 0.0]);
    let mut logits = [1.0, -2.0, 3.5, 0.0];
    guide.add(&[0, 1, 2], 1, &mut logits).unwrap();
    assert_eq!((logits, guide.n_decoded(), guide.is_active()), ([1.0, -2.0, 3.5, 0.0], 0, false));
}

#[test]
fn each_step_decodes_one_token_an_arm() {
    let mut guide = guide(&[1.0, 0.5]);
    guide.add(&[0, 1, 2], 1, &mut [0.0; 4]).unwrap();
    assert_eq!(guide.n_decoded(), 6);
    let mut logits = [0.0; 4];
    guide.add(&[0, 1, 2, 3], 1, &mut logits).unwrap();
    assert_eq!((guide.n_decoded(), logits), (8, [1.5, 0.0, 0.0, 0.0]));
    guide.add(&[0, 1, 2, 3], 1, &mut logits).unwrap();
    assert_eq!(guide.n_decoded(), 8);
}

#[test]
fn an_arm_that_forgets_reads_again_what_was_kept_for_drafts() {
    let mut guide = guide(&[1.0]);
    guide.keep_rows();
    guide.add(&[0, 1, 2], 1, &mut [0.0; 4]).unwrap();
    guide.add(&[0, 1, 2], 1, &mut [0.0; 4]).unwrap();
    assert_eq!(guide.n_decoded(), 3);
    guide.experts()[0].forget();
    guide.add(&[0, 1, 2], 1, &mut [0.0; 4]).unwrap();
    assert_eq!(guide.n_decoded(), 6);
}

#[test]
fn a_changed_weight_reads_nothing_again() {
    let mut guide = guide(&[1.0]);
    guide.add(&[0, 1, 2], 1, &mut [0.0; 4]).unwrap();
    guide.weights().set("arm0", -1.0).unwrap();
    let mut logits = [0.0; 4];
    guide.add(&[0, 1, 2], 1, &mut logits).unwrap();
    assert_eq!((logits, guide.n_decoded()), ([0.0, 0.0, 0.0, -1.0], 3));
}

#[test]
fn an_arm_reads_its_own_prompt_and_the_common_response() {
    let mut guide = guide(&[1.0]);
    guide.begin(2, vec![Some(vec![3, 3, 3, 3, 3])]);
    let mut logits = [0.0; 4];
    guide.add(&[0, 1, 2], 1, &mut logits).unwrap();
    assert_eq!((logits, guide.n_decoded()), ([0.0, 0.0, 1.0, 0.0], 6));
}

#[test]
fn a_prefix_is_read_before_the_text_and_after_the_token_that_begins_it() {
    for (history, reads) in [(&[0, 1, 2][..], [0, 3, 3, 1, 2]), (&[1, 2, 1], [3, 3, 1, 2, 1])] {
        let expert = TableExpert::new(4, 100, move |read, logits| {
            logits.fill(0.0);
            logits[usize::from(read == reads)] = 1.0;
        });
        let arm = Arm::new("a", Box::new(expert), Contract { n_common: 4, tail: Tail::None });
        let arms = vec![arm.with_prefix(vec![3, 3], Some(0))];
        let mut guide = Guide::new(arms, Weights::new([("a".to_owned(), 1.0)]));
        let mut logits = [0.0; 4];
        guide.add(history, 1, &mut logits).unwrap();
        assert_eq!((logits, guide.room(history.len())), ([0.0, 1.0, 0.0, 0.0], 95));
    }
}

#[test]
fn several_rows_are_added_at_once() {
    let mut guide = guide(&[2.0]);
    let mut logits = [0.0; 8];
    guide.add(&[0, 1, 2], 2, &mut logits).unwrap();
    assert_eq!(logits, [0.0, 0.0, 2.0, 0.0, 0.0, 0.0, 0.0, 2.0]);
}

#[test]
fn long_prompts_are_read_in_chunks_by_those_that_lack_them() {
    let mut guide = guide(&[1.0, 0.0]);
    guide.begin(2, vec![Some(vec![3; 10]), Some(vec![3; 20])]);
    let chunks = |guide: &mut Guide| {
        let mut n = 0;
        while guide.prepare_chunk(&[0, 1], 4) {
            guide.read().unwrap();
            n += 1;
        }
        n
    };
    assert_eq!((chunks(&mut guide), guide.n_decoded()), (2, 8));
    guide.read_all(true);
    assert_eq!((chunks(&mut guide), guide.n_decoded()), (4, 8 + 16), "the ARM without a weight reads too");
    guide.begin(2, vec![Some(vec![3; 101]), None]);
    assert_eq!(chunks(&mut guide), 0, "what does not fit is left to the step to refuse");
}

#[test]
fn a_full_arm_is_named() {
    let weights = Weights::new([("small".to_owned(), 1.0)]);
    let mut guide = Guide::new(vec![counting_arm("small", 2)], weights);
    let full = guide.add(&[0, 1, 2], 1, &mut [0.0; 4]).unwrap_err();
    assert_eq!(full.source, ExpertError::ContextFull { wanted: 3, n_ctx: 2 });
    assert!(full.to_string().contains("\"small\""));
}

/// An ARM whose logits after two tokens are these.
fn arm_of(name: &str, row: [f32; 4]) -> Arm {
    let expert = TableExpert::new(4, 100, move |history, logits| {
        logits.copy_from_slice(if history.len() == 2 { &row } else { &[0.0; 4] });
    });
    Arm::new(name, Box::new(expert), Contract { n_common: 4, tail: Tail::None })
}

#[test]
fn logits_that_are_no_numbers_are_refused_with_their_arm_and_change_nothing() {
    let names = ["sound", "broken"];
    for (row, weight, what) in [
        ([0.0, f32::NAN, 0.0, 0.0], 1.0, "NaN"),
        ([0.0, f32::INFINITY, 0.0, 0.0], -1.0, "+inf"),
        ([0.0, 3e38, 0.0, 0.0], 2.0, "+inf"),
    ] {
        let arms = vec![arm_of("sound", [1.0; 4]), arm_of("broken", row)];
        let weights = Weights::new(names.map(str::to_owned).into_iter().zip([1.0, weight]));
        let mut guide = Guide::new(arms, weights);
        let mut logits = [0.0; 4];
        let refused = guide.add(&[0, 1], 1, &mut logits).unwrap_err();
        assert_eq!((refused.arm.as_str(), logits), ("broken", [0.0; 4]));
        assert_eq!(refused.source, ExpertError::NotFinite { what, token: 1 });
        guide.add(&[0, 1, 2], 1, &mut logits).expect("another step is sound");
        guide.weights().set("broken", 0.0).expect("a weight");
        guide.add(&[0, 1], 1, &mut [0.0; 4]).expect("an ARM of weight 0 is not evaluated");
    }
    let forbidding = arm_of("strict", [0.0, f32::NEG_INFINITY, 0.0, 0.0]);
    let mut guide = Guide::new(vec![forbidding], Weights::new([("strict".to_owned(), -1.0)]));
    guide.add(&[0, 1], 1, &mut [0.0; 4]).expect("a forbidden token is no fault");
}

#[test]
fn the_base_is_called_the_base() {
    let error = GuideError::of_base(ExpertError::Interrupted);
    assert_eq!((error.to_string().as_str(), error.is_of_base()), ("base: interrupted", true));
}

#[test]
fn tokens_that_an_arm_does_not_have_get_its_smallest_logit() {
    let expert = TableExpert::new(2, 100, |_, logits| logits.copy_from_slice(&[-3.0, 1.0]));
    let arm = Arm::new("arm0", Box::new(expert), Contract { n_common: 2, tail: Tail::Base(1) });
    let mut guide = Guide::new(vec![arm], Weights::new([("arm0".to_owned(), 2.0)]));
    let mut logits = [0.0; 3];
    guide.add(&[0], 1, &mut logits).unwrap();
    assert_eq!(logits, [-6.0, 2.0, -6.0]);
    assert_eq!(guide.expert_logits(&[0], &[], 3).unwrap(), [[-3.0, 1.0, -3.0]]);
}

#[test]
fn the_room_of_a_text_is_that_of_the_fullest_arm_with_a_weight() {
    let arms = [("arm0", 10), ("arm1", 6)].map(|(name, n_ctx)| counting_arm(name, n_ctx));
    let weights = Weights::new([("arm0".to_owned(), 1.0), ("arm1".to_owned(), 1.0)]);
    let mut guide = Guide::new(arms.into(), weights.clone());
    assert_eq!(guide.room(4), 2);
    weights.set("arm1", 0.0).unwrap();
    assert_eq!(guide.room(4), 6);
    weights.set("arm0", 0.0).unwrap();
    assert_eq!(guide.room(4), usize::MAX, "no ARM bounds the text of the base alone");
}

#[test]
fn the_room_of_an_arm_with_a_prompt_of_its_own_counts_that_and_the_response() {
    let mut guide = Guide::new(vec![counting_arm("arm0", 10)], Weights::new([("arm0".to_owned(), 1.0)]));
    guide.begin(5, vec![Some(vec![0, 1, 2])]);
    assert_eq!(guide.room(7), 10 - 3 - 2);
}

#[test]
fn a_chunk_is_announced_where_the_first_of_two_arms_lacks_more_than_the_second() {
    let mut guide = guide(&[1.0, 1.0]);
    let history = [0, 1, 2, 3, 0, 1];
    guide.expert_row(1, &history).unwrap();
    assert!(guide.prepare_chunk(&history, 2), "the first ARM has read nothing");
    guide.expert_row(0, &history).unwrap();
    assert!(!guide.prepare_chunk(&history, 2));
}

#[test]
fn only_steps_that_the_gate_left_to_the_base_are_counted() {
    let mut guide = guide(&[1.0]);
    [true, false, true].into_iter().for_each(|sure| guide.count_gated(sure));
    assert_eq!(guide.n_gated(), 2);
}
