//! The one primitive on llama.cpp: prefixes are reused, rows are those of a fresh run.

use genarm::{Expert, ExpertError};

use crate::support;

fn assert_close(found: &[f32], expected: &[f32], what: &str) {
    let worst = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    // Batches of other sizes round differently.
    assert!(worst < 2e-3, "{what}: {worst}");
}

#[test]
fn only_new_tokens_are_decoded_and_the_logits_are_those_of_a_fresh_run() {
    let model = support::load(&support::models().base);
    let mut expert = support::sequence(&model);
    let text: Vec<i32> = (3..43).collect();
    let mut decoded = 0;
    for (history, k, cost) in [
        (text[..10].to_vec(), 1, 10),                  // a prompt
        (text[..11].to_vec(), 1, 1),                   // a step
        (text[..11].to_vec(), 1, 0),                   // the same again
        (text[..15].to_vec(), 5, 4 + 1),               // four drafts: the row before them is needed again
        (text[..13].to_vec(), 1, 0),                   // a rejection: that row is there already
        ([&text[..13], &[99]].concat(), 1, 1),         // and another token
        ([&text[..5], &text[20..30]].concat(), 1, 10), // an edited turn
        (text[..40].to_vec(), 3, 35),                  // a longer text
        (text[..2].to_vec(), 2, 2),                    // rows that are gone are computed again
    ] {
        let found = expert.advance(&history, k).expect("rows").to_vec();
        decoded += cost;
        assert_eq!(expert.n_decoded(), decoded, "{history:?}, k = {k}");
        let fresh = support::sequence(&model).advance(&history, k).expect("rows").to_vec();
        assert_close(&found, &fresh, &format!("{history:?}, k = {k}"));
    }
}

#[test]
fn prompts_longer_than_a_batch_are_read_in_pieces() {
    let model = support::load(&support::models().base);
    let text: Vec<i32> = (0..150).map(|i| 3 + i % 200).collect();
    let mut expert = support::sequence(&model);
    let rows = expert.advance(&text, 40).expect("rows").to_vec();
    assert_eq!((rows.len(), expert.n_decoded()), (40 * expert.n_vocab(), 150));
    let mut step = support::sequence(&model);
    for n in [100, 111, 130, 150] {
        let row = step.advance(&text[..n], 1).expect("a row").to_vec();
        if n > 110 {
            assert_close(&rows[(n - 111) * row.len()..][..row.len()], &row, &format!("row {n}"));
        }
    }
}

#[test]
fn wrong_requests_are_refused_and_the_next_one_works() {
    let mut expert = support::sequence(&support::load(&support::models().base));
    let n_vocab = expert.n_vocab();
    let long = vec![5; 257];
    assert_eq!(expert.advance(&[], 1), Err(ExpertError::BadRows { k: 1, len: 0 }));
    assert_eq!(expert.advance(&long, 1), Err(ExpertError::ContextFull { wanted: 257, n_ctx: 256 }));
    assert_eq!(expert.advance(&[1, -1], 1), Err(ExpertError::BadToken { token: -1, n_vocab }));
    assert_eq!(expert.advance(&long[..100], 65), Err(ExpertError::TooManyRows { k: 65, max: 64 }));
    assert!(expert.advance(&long[..256], 1).is_ok(), "a full context");
}
