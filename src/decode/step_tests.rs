//! One loop, plain and speculative.

use std::sync::{Arc, Mutex};

use super::*;
use crate::TableExpert;
use crate::decode::draft::LookupDrafter;
use crate::decode::{Chain, Distribution, Greedy};
use crate::guidance::{Arm, Contract, Guide, Tail, Weights};

/// After token t comes t + 1, round 5.
fn counter() -> TableExpert {
    counter_of(12)
}

/// The same in a context of this size.
fn counter_of(n_ctx: usize) -> TableExpert {
    TableExpert::new(5, n_ctx, |history, logits| {
        logits.fill(0.0);
        logits[(history[history.len() - 1] as usize + 1) % 5] = 1.0;
    })
}

fn run(
    expert: &mut TableExpert,
    prompt: &[Token],
    n: usize,
    eog: Token,
    stop: Token,
) -> Result<Generated, DecodeError> {
    let mut each = |step: Step<'_>| if step.token == stop { Flow::Stop } else { Flow::Continue };
    generate(expert, &mut Greedy, None, prompt, n, &|t| t == eog, &mut each)
}

#[test]
fn each_way_to_end_is_told_apart() {
    for (n, eog, stop, tokens, finish) in [
        (3, -1, -1, vec![1, 2, 3], Finish::Length),
        (100, 4, -1, vec![1, 2, 3], Finish::Eos),
        (100, -1, 2, vec![1, 2], Finish::Stop),
        (0, -1, -1, vec![], Finish::Length),
    ] {
        let generated = run(&mut counter(), &[0], n, eog, stop).unwrap();
        assert_eq!((generated.tokens, generated.finish), (tokens, finish));
    }
}

#[test]
fn a_full_context_ends_the_text_and_not_the_program() {
    let generated = run(&mut counter(), &[0, 1], 100, -1, -1).unwrap();
    assert_eq!((generated.tokens.len(), generated.finish), (11, Finish::Length));
}

#[test]
fn a_prompt_longer_than_the_context_and_an_empty_one_are_refused() {
    let refused = run(&mut counter(), &[0; 13], 1, -1, -1).unwrap_err();
    assert_eq!(refused, DecodeError::PromptTooLong { n_prompt: 13, n_ctx: 12 });
    assert_eq!(run(&mut counter(), &[], 1, -1, -1).unwrap_err(), DecodeError::EmptyPrompt);
}

#[test]
fn each_token_costs_one_and_a_second_text_reuses_the_prompt() {
    let mut expert = counter();
    run(&mut expert, &[0, 1, 2, 3], 4, -1, -1).unwrap();
    assert_eq!(expert.n_decoded(), 4 + 3);
    run(&mut expert, &[0, 1, 2, 3], 1, -1, -1).unwrap();
    assert_eq!(expert.n_decoded(), 4 + 3 + 1, "only the last token of the prompt is read again");
}

/// An expert that writes down, in a log that several share, when it starts and when it is asked for rows.
struct Recorded {
    name: &'static str,
    expert: TableExpert,
    on_device: bool,
    log: Arc<Mutex<Vec<String>>>,
}

impl Recorded {
    fn note(&self, what: &str) {
        self.log.lock().unwrap().push(format!("{} {what}", self.name));
    }
}

impl Expert for Recorded {
    fn n_vocab(&self) -> usize {
        self.expert.n_vocab()
    }

    fn n_ctx(&self) -> usize {
        self.expert.n_ctx()
    }

    fn advance(&mut self, history: &[Token], k: usize) -> Result<&[f32], ExpertError> {
        self.note("advance");
        self.expert.advance(history, k)
    }

    fn prepare(&mut self, history: &[Token], k: usize) {
        self.expert.prepare(history, k);
    }

    fn start(&mut self) -> bool {
        if self.on_device {
            self.note("start");
        }
        self.on_device
    }

    fn n_cached(&self, history: &[Token]) -> usize {
        self.expert.n_cached(history)
    }

    fn read(&mut self) -> Result<(), ExpertError> {
        self.note("read");
        self.expert.read()
    }

    fn forget(&mut self) {
        self.expert.forget();
    }

    fn n_decoded(&self) -> u64 {
        self.expert.n_decoded()
    }
}

/// What base and ARM do in one step, in this order.
fn order_of_work(base_on_device: bool, arm_on_device: bool, speculates: bool) -> Vec<String> {
    let log = Arc::new(Mutex::new(Vec::new()));
    let recorded = |name, on_device| Recorded { name, expert: counter(), on_device, log: Arc::clone(&log) };
    let mut base = recorded("base", base_on_device);
    let contract = Contract { n_common: 5, tail: Tail::None };
    let arm = Arm::new("arm", Box::new(recorded("arm", arm_on_device)), contract);
    let guide = Guide::new(vec![arm], Weights::new([("arm".to_owned(), 1.0)]));
    let mut chain = Steered(guide);
    let mut speculator = speculates.then(|| Speculator::new(vec![Box::new(LookupDrafter)], Policy::Fixed(2)));
    let mut text = Text::begin(&base, &mut chain, &[0, 1, 2, 3, 4, 0, 1], 9).unwrap();
    let mut step = |text: &mut Text, base: &mut Recorded| {
        text.step(base, &mut chain, speculator.as_mut(), &|_| false, &mut |_| Flow::Continue).unwrap();
    };
    step(&mut text, &mut base); // the prompt
    log.lock().unwrap().clear();
    step(&mut text, &mut base);
    assert_eq!(text.response().len(), if speculates { 4 } else { 2 }, "the draft of two tokens is kept");
    let mut order = std::mem::take(&mut *log.lock().unwrap());
    order.dedup();
    order
}

/// Guidance over a greedy draw.
struct Steered(Guide);

impl Chain for Steered {
    fn accept(&mut self, _: Token, _: bool) {}

    fn sample(&mut self, logits: &[f32]) -> Result<Token, ChainFault> {
        Greedy.sample(logits)
    }

    fn target_distribution(&mut self, logits: &[f32], out: &mut Distribution) -> Result<(), ChainFault> {
        Greedy.target_distribution(logits, out)
    }

    fn draft_distribution(&mut self, logits: &[f32], out: &mut Distribution) -> Result<(), ChainFault> {
        Greedy.draft_distribution(logits, out)
    }
}

impl Guided for Steered {
    fn prepare(&mut self, history: &[Token], k: usize) {
        self.0.prepare(history, k);
    }

    fn start(&mut self) {
        self.0.start();
    }

    fn prepare_chunk(&mut self, history: &[Token], max: usize) -> bool {
        self.0.prepare_chunk(history, max)
    }

    fn read(&mut self) -> Result<(), ChainFault> {
        Ok(self.0.read()?)
    }

    fn verify(&mut self, history: &[Token], _: &[f32], k: usize) -> Result<(), ChainFault> {
        Ok(self.0.advance(history, k)?)
    }

    fn room(&mut self, len: usize) -> usize {
        self.0.room(len)
    }

    fn guide(&mut self, history: &[Token], logits: &mut [f32]) -> Result<(), ChainFault> {
        Ok(self.0.add(history, 1, logits)?)
    }

    fn arm_row(&mut self, index: usize, history: &[Token], each: &mut dyn FnMut(&[f32])) -> Result<(), ChainFault> {
        Ok(self.0.expert_row(index, history).map(each)?)
    }
}

#[test]
fn devices_start_before_anything_waits_with_and_without_drafts() {
    for speculates in [false, true] {
        for (base, arm, order) in [
            (false, false, vec!["base advance"]), // nothing starts early on one processor
            (false, true, vec!["arm start", "base advance"]), // the ARM computes while the CPU reads the base
            (true, false, vec!["base start", "arm read", "base advance"]), // the CPU reads the ARM while the base computes
            (true, true, vec!["arm start", "base start", "arm read", "base advance"]), // both compute at once
        ] {
            let found = order_of_work(base, arm, speculates);
            assert_eq!(found[..order.len()], order, "base on a device: {base}, ARM: {arm}, drafts: {speculates}");
        }
    }
}

#[test]
fn no_step_crosses_a_pause_and_one_ends_there() {
    for pause in 2..9 {
        let guide = Guide::new(Vec::new(), Weights::new([]));
        let (mut base, mut chain) = (counter_of(64), Steered(guide));
        let mut speculator = Speculator::new(vec![Box::new(LookupDrafter)], Policy::Fixed(5));
        let mut text = Text::begin(&base, &mut chain, &[0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0], 30).unwrap();
        text.pause_at(Some(pause));
        let mut ends = Vec::new();
        while text.finish().is_none() {
            text.step(&mut base, &mut chain, Some(&mut speculator), &|_| false, &mut |_| Flow::Continue).unwrap();
            ends.push(text.response().len());
        }
        assert!(ends.contains(&pause), "{pause}: {ends:?}");
        assert!(ends.len() < 12, "drafts go on behind it: {ends:?}");
    }
}

#[test]
fn a_text_that_has_ended_takes_no_further_step() {
    let mut expert = counter();
    let mut text = Text::begin(&expert, &mut Greedy, &[0], 1).unwrap();
    let mut n_seen = 0;
    for _ in 0..3 {
        let mut each = |_: Step<'_>| {
            n_seen += 1;
            Flow::Continue
        };
        text.step(&mut expert, &mut Greedy, None, &|_| false, &mut each).unwrap();
    }
    assert_eq!((n_seen, text.response(), text.finish()), (1, &[1][..], Some(Finish::Length)));
}

#[test]
fn a_text_that_was_left_before_its_end_counts_as_interrupted() {
    let mut expert = counter();
    let mut text = Text::begin(&expert, &mut Greedy, &[0], 5).unwrap();
    text.step(&mut expert, &mut Greedy, None, &|_| false, &mut |_| Flow::Continue).unwrap();
    let generated = text.into_generated();
    assert_eq!((generated.tokens, generated.finish), (vec![1], Finish::Interrupted));
}
