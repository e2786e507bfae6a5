//! What is read again when a history changes: by steps, drafts, another turn, an edit, a saved state.

use genarm::sampling::params::SamplingParams;
use genarm::{Expert, ExpertError, Flow, Token};

use super::family::{Family, N_CTX, distance};
use super::{Check, Found};
use crate::support;

pub static ROLLBACK: Check = Check::new(rollback);
pub static EDITED: Check = Check::new(edited);

/// Brings a sequence to a history, compares the row with a fresh context's, and returns the tokens decoded.
fn read(family: &Family, sequence: &mut impl Expert, history: &[Token], what: &str) -> usize {
    let before = sequence.n_decoded();
    let found = distance(sequence.advance(history, 1).expect("a row"), &family.fresh(history));
    assert!(found < family.noise(), "{what}: {found:e}");
    (sequence.n_decoded() - before) as usize
}

fn prefix(family: &Family) -> Found {
    let tokens = &family.golden.tokens;
    let mut sequence = family.alone(false);
    assert_eq!(read(family, &mut sequence, &tokens[..40], "a prompt"), 40);
    assert_eq!(read(family, &mut sequence, &tokens[..68], "the next turn"), 28);
    assert_eq!(read(family, &mut sequence, &tokens[..69], "a step"), 1);
    assert_eq!(read(family, &mut sequence, &tokens[..69], "the same again"), 0);
    Found::Works
}

#[test]
fn a_history_that_goes_on_is_not_read_again() {
    Check::new(prefix).works();
}

fn rollback(family: &Family) -> Found {
    let tokens = &family.golden.tokens;
    let mut sequence = family.alone(false);
    let mut costs = Vec::new();
    for n in [1, 5, tokens.len()] {
        // A prompt longer than the window, then steps.
        for end in 60..=tokens.len() {
            sequence.advance(&tokens[..end], 1).expect("a row");
        }
        let history = [&tokens[..tokens.len() - n], &family.other(7)].concat();
        costs.push(read(family, &mut sequence, &history, &format!("{n} tokens taken back")) - 7);
        read(family, &mut sequence, tokens, "and forth again");
    }
    assert_eq!(costs[2], 0, "nothing is left to read again");
    match costs[..2] {
        [0, 0] => Found::Works,
        _ => Found::At(format!("reads {} tokens again to take back 1, {} for 5", costs[0], costs[1])),
    }
}

#[test]
fn tokens_that_are_taken_back_leave_no_trace() {
    ROLLBACK.run();
}

fn edited(family: &Family) -> Found {
    let tokens = &family.golden.tokens;
    let mut sequence = family.alone(false);
    for end in [24, 48, 72] {
        read(family, &mut sequence, &tokens[..end], "a turn");
    }
    let last = [&tokens[..48], &family.other(10)].concat();
    let first = [&tokens[..24], &family.other(10), &tokens[48..]].concat();
    let of_last = read(family, &mut sequence, &last, "the last of three messages is edited");
    for end in [48, 72] {
        read(family, &mut sequence, &tokens[..end], "the turns again");
    }
    let of_second = read(family, &mut sequence, &first, "the second of three messages is edited");
    match (of_last, of_second) {
        (10, 34) => Found::Works,
        _ => Found::At(format!(
            "reads {of_last} tokens for the last of three messages of 24 tokens, where 10 are new; {of_second} for the second, where 34 are"
        )),
    }
}

#[test]
fn an_edited_message_gives_what_a_fresh_context_gives() {
    EDITED.run();
}

fn full(family: &Family) -> Found {
    let long: Vec<Token> = family.golden.tokens.iter().copied().cycle().take(N_CTX + 1).collect();
    let mut sequence = family.alone(false);
    sequence.advance(&long[..N_CTX], 1).expect("a row of the whole context");
    let error = sequence.advance(&long, 1).expect_err("it does not fit");
    assert_eq!(error, ExpertError::ContextFull { wanted: N_CTX + 1, n_ctx: N_CTX });
    read(family, &mut sequence, &family.golden.tokens[..50], "a shorter one afterwards");
    let mut session = family.session("", "speculate: \"off\"").expect("a session");
    let mut sampler =
        session.sampler(&SamplingParams { ignore_eos: true, ..support::open_params() }).expect("a sampler");
    // The last token is drawn, and not read.
    let prompt = session.token_prompt(long[..N_CTX - 3].to_vec()).expect("a prompt");
    let generated = session.generate(&mut sampler, &prompt, 100, &mut |_| Flow::Continue).expect("a text");
    assert_eq!((generated.finish, generated.tokens.len()), (genarm::decode::Finish::Length, 4));
    Found::Works
}

#[test]
fn a_full_context_ends_the_text_and_what_follows_is_right() {
    Check::new(full).works();
}

pub static SAVED: Check = Check::new(saved);

fn saved(family: &Family) -> Found {
    let tokens = &family.golden.tokens;
    let mut first = family.alone(false);
    for end in [40, 68, 69] {
        first.advance(&tokens[..end], 1).expect("a row");
    }
    let state = match first.save() {
        Ok(state) => state,
        Err(error) => return family.refused(error),
    };
    let mut second = family.alone(false);
    second.advance(&family.other(30), 1).expect("a row");
    second.restore(&state).expect("it fits");
    let before = second.n_decoded();
    for end in 70..=tokens.len() {
        let expected = first.advance(&tokens[..end], 1).expect("a row").to_vec();
        let found = distance(second.advance(&tokens[..end], 1).expect("a row"), &expected);
        // The cells of a window are in another order.
        assert!(found < family.noise() / 10.0, "token {end} after a restored state: {found:e}");
    }
    assert_eq!(second.n_decoded() - before, 3, "nothing is read again");
    read(family, &mut second, &[&tokens[..50], &family.other(4)].concat(), "taken back beyond what was restored");
    Found::Works
}

#[test]
fn a_restored_state_goes_on_as_if_it_had_not_been_interrupted() {
    SAVED.run();
}

pub static RETRIED: Check = Check::new(retried);

fn retried(family: &Family) -> Found {
    let mut session = family.session(&family.arm(), "speculate: \"off\"").expect("a session");
    let params = SamplingParams { temp: 0.0, ignore_eos: true, ..support::open_params() };
    let mut sampler = session.sampler(&params).expect("a sampler");
    let prompt = session.token_prompt(family.golden.tokens[..64].to_vec()).expect("a prompt");
    let mut answer = |n_decoded: &mut u64| {
        let tokens = session.generate(&mut sampler, &prompt, 12, &mut |_| Flow::Continue).expect("a text").tokens;
        *n_decoded = session.n_decoded();
        tokens
    };
    let (mut after_first, mut after_second) = (0, 0);
    let first = answer(&mut after_first);
    assert_eq!(answer(&mut after_second), first);
    // The prompt's last token, for its logits, and the answer but for its last token.
    match after_second - after_first {
        12 => Found::Works,
        n => Found::At(format!("reads {n} tokens for another answer of 12 to a prompt of 64")),
    }
}

#[test]
fn a_second_answer_is_the_first() {
    RETRIED.run();
}
