//! Where llama.cpp keeps the states of the last tokens, drafts are taken back.

use genarm::decode::draft::{Draft, Drafter, Work};
use genarm::decode::{ChainFault, Flow, Greedy, Policy, Speculator, generate};
use genarm::engine::llama::ContextParams;
use genarm::engine::rollback::takes_back;
use genarm::engine::share::{apart, together};
use genarm::{Expert, Token};

use super::{FAMILIES, Family, reads, reads_rows, worst};
use crate::support::{self, random, tokens as text};

#[test]
fn llama_cpp_takes_back_the_state_of_lfm2_and_not_that_of_mamba() {
    let found = FAMILIES.map(|arch| takes_back(&Family::new(arch).model, &support::context_params()));
    assert_eq!(found, [false, false, true]);
}

/// With snapshots of its last 7 tokens.
fn with_snapshots() -> ContextParams {
    ContextParams { n_snapshots: 7, ..support::context_params() }
}

#[test]
fn a_draft_is_taken_back_and_nothing_is_read_again() {
    let family = Family::new("lfm2");
    let mut slots = together(&family.model, &family.experts(), &with_snapshots(), 1).expect("one context");
    let mut rows: Vec<_> = slots.iter_mut().map(|slots| &mut slots[0]).collect();
    assert!(rows.iter().all(|row| row.n_undo_max() == 7));
    let mut apart = family.apart();
    let mut history = text(3, 30);
    assert!(worst(&mut rows, &mut apart, &vec![history.clone(); 3], 1) < 1e-3);
    for (i, (n_drafted, n_kept)) in
        [(3, 1), (7, 0), (7, 7), (1, 0), (5, 4), (0, 0), (7, 3), (2, 0)].into_iter().enumerate()
    {
        history.push(40 + i as Token);
        let len = history.len();
        history.extend(text(i as Token, n_drafted));
        let before: Vec<_> = rows.iter().map(|row| row.n_decoded()).collect();
        let worst = worst(&mut rows, &mut apart, &vec![history.clone(); 3], n_drafted + 1);
        assert!(worst < 1e-3, "{n_kept} of {n_drafted}: {worst}");
        let n_read = rows.iter().zip(before).map(|(row, before)| row.n_decoded() - before);
        assert!(n_read.into_iter().all(|n| n == n_drafted as u64 + 1), "{n_kept} of {n_drafted}");
        history.truncate(len + n_kept);
    }
}

/// Snapshots are of the tokens of one batch: llama.cpp would also take a state back further, to one that is not there.
#[test]
fn what_was_read_in_other_batches_is_not_taken_back_by_snapshots() {
    let family = Family::new("lfm2");
    let mut expert = apart(&family.model, &[], &with_snapshots(), 1).expect("a context").remove(0);
    let mut fresh = family.apart().remove(0);
    let mut history = text(3, 30);
    reads(&mut expert, &mut fresh, &history, "the prompt");
    for n_dropped in [2, 1, 3, 7] {
        for token in 60..68 {
            history.push(token);
            expert.advance(&history, 1).expect("a row");
        }
        history.truncate(history.len() - n_dropped);
        history.push(n_dropped as Token + 90);
        reads(&mut expert, &mut fresh, &history, "steps that are dropped");
    }
    // Twice in a row: the second time nothing has been read since.
    history.extend(text(1, 6));
    expert.advance(&history, 6).expect("rows");
    history.truncate(history.len() - 2);
    history.push(5);
    expert.prepare(&history, 1);
    history.truncate(history.len() - 3);
    history.push(6);
    reads(&mut expert, &mut fresh, &history, "once more");
}

#[test]
fn slots_take_back_drafts_each_of_its_own() {
    let family = Family::new("lfm2");
    let mut slots = apart(&family.model, &[], &with_snapshots(), 3).expect("a context");
    let mut fresh: Vec<_> = (0..3).map(|_| family.apart().remove(0)).collect();
    let mut histories: Vec<_> = (0..3).map(|i| text(i, 20 + i as usize)).collect();
    let mut noise = random::Noise(3);
    for step in 0..60 {
        // One drafts alone, then all read in one batch.
        let at = step % 3;
        histories[at].extend(text(step as Token, 5));
        reads_rows(&mut slots[at], &mut fresh[at], &histories[at], 4);
        let n = histories[at].len() - ((noise.next() + 1.0) * 2.5) as usize;
        histories[at].truncate(n);
        if step % 2 == 0 {
            histories.iter_mut().for_each(|history| history.push(step as Token + 3));
            slots.iter_mut().zip(&histories).for_each(|(slot, history)| slot.prepare(history, 1));
            for ((slot, fresh), history) in slots.iter_mut().zip(&mut fresh).zip(&histories) {
                reads_rows(slot, fresh, history, 1);
            }
        }
    }
}

/// Drafts the text that is to come, with a wrong token now and then.
struct Oracle {
    text: Vec<Token>,
    n_drafted: usize,
}

impl Drafter for Oracle {
    fn name(&self) -> &str {
        "oracle"
    }

    fn draft(&mut self, work: &mut Work<'_>, k: usize, draft: &mut Draft) -> Result<(), ChainFault> {
        for token in self.text.iter().skip(work.history.len()).take(k).copied().collect::<Vec<_>>() {
            self.n_drafted += 1;
            let token = if self.n_drafted.is_multiple_of(5) { token + 1 } else { token };
            draft.push(token).set([(token, 1.0)]);
            work.history.push(token);
        }
        Ok(())
    }
}

#[test]
fn speculation_on_a_hybrid_gives_the_text_of_plain_decoding() {
    let family = Family::new("lfm2");
    let prompt = text(3, 20);
    let continued = |speculator: Option<&mut Speculator>| {
        let mut base = apart(&family.model, &[], &with_snapshots(), 1).expect("a context").remove(0);
        let found = generate(&mut base, &mut Greedy, speculator, &prompt, 120, &|_| false, &mut |_| Flow::Continue);
        let found = found.expect("a text");
        (found.tokens, found.speculation, base.n_decoded())
    };
    let (plain, ..) = continued(None);
    for n in [1, 3, 7] {
        let oracle = Oracle { text: [&prompt[..], &plain].concat(), n_drafted: 0 };
        let (tokens, found, n_decoded) =
            continued(Some(&mut Speculator::new(vec![Box::new(oracle)], Policy::Fixed(n))));
        assert_eq!(tokens, plain, "drafts of {n}");
        assert!(found.drafted > found.accepted && found.accepted > 40, "{found:?}");
        assert!(n_decoded <= (20 + 120) + found.drafted, "nothing is read again: {n_decoded}, {found:?}");
    }
}
