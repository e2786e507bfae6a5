//! However a text ends, text and caches are those of a plain run: both are continued, and go on alike.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use genarm::decode::draft::{ArmDrafter, BaseDrafter, Drafter, LookupDrafter, ModelDrafter};
use genarm::decode::{Finish, Flow, Generated, Policy, Speculator, Step, generate};
use genarm::{Expert, ExpertError, TableExpert, Token};

use super::world::{EVERYBODY, TableChain, Who, guide};

const N: usize = 7;
const PROMPT: [Token; 6] = [0, 1, 2, 0, 1, 2];

/// Logits that depend on the last two tokens: text repeats itself for a while, and then does not.
fn row(salt: u32) -> impl Fn(&[Token], &mut [f32]) + Send + 'static {
    move |history, logits| {
        let [.., a, b] = *history else { return logits.fill(0.0) };
        let mut x = (a as u32 * 31 + b as u32 * 7 + salt).wrapping_mul(0x9E37_79B9);
        for logit in logits.iter_mut() {
            x = x.wrapping_mul(0x85EB_CA6B).rotate_left(13);
            *logit = (x >> 8) as f32 / 1e7;
        }
    }
}

/// An expert that is interrupted at the n-th call of all that share the counter, as by Ctrl-C: where it is the
/// drafter's, in the middle of a draft.
struct Interruptible(TableExpert, Arc<AtomicI64>);

impl Expert for Interruptible {
    fn n_vocab(&self) -> usize {
        self.0.n_vocab()
    }
    fn n_ctx(&self) -> usize {
        self.0.n_ctx()
    }
    fn advance(&mut self, history: &[Token], k: usize) -> Result<&[f32], ExpertError> {
        if self.1.fetch_sub(1, Ordering::Relaxed) == 1 {
            return Err(ExpertError::Interrupted);
        }
        self.0.advance(history, k)
    }
    fn prepare(&mut self, history: &[Token], k: usize) {
        self.0.prepare(history, k);
    }
    fn start(&mut self) -> bool {
        self.0.start()
    }
    fn n_cached(&self, history: &[Token]) -> usize {
        self.0.n_cached(history)
    }
    fn read(&mut self) -> Result<(), ExpertError> {
        self.0.read()
    }
    fn forget(&mut self) {
        self.0.forget();
    }
    fn n_decoded(&self) -> u64 {
        self.0.n_decoded()
    }
}

/// A base and a chain at temperature 0, speculating or not.
struct Run {
    base: Interruptible,
    chain: TableChain,
    speculator: Option<Speculator>,
    calls: Arc<AtomicI64>,
    eog: Token,
    stop: Option<usize>,
    n_predict: usize,
}

impl Run {
    fn new(who: Option<(Who, usize)>) -> Self {
        let expert = |salt, n_ctx| TableExpert::new(N, n_ctx, row(salt));
        let calls = Arc::new(AtomicI64::new(i64::MAX));
        let mut guide = guide(vec![expert(5, 60)], &[0.4]);
        guide.keep_rows();
        let mut chain = TableChain::new(guide);
        chain.temp = 0.0;
        let interruptible = |n_ctx| Box::new(Interruptible(expert(1, n_ctx), Arc::clone(&calls)));
        let drafter = |who| -> Box<dyn Drafter> {
            match who {
                Who::Lookup => Box::new(LookupDrafter),
                Who::Draft => Box::new(ModelDrafter::new("draft", interruptible(50), false)),
                Who::Backbone => Box::new(ModelDrafter::new("backbone", interruptible(60), true)),
                Who::Base => Box::new(BaseDrafter),
                Who::Arm => Box::new(ArmDrafter::new(0, "arm0")),
            }
        };
        let speculator = who.map(|(who, k)| Speculator::new(vec![drafter(who)], Policy::Fixed(k)));
        let base = Interruptible(expert(1, 60), Arc::clone(&calls));
        Self { base, chain, speculator, calls, eog: -1, stop: None, n_predict: 20 }
    }

    fn go(&mut self, prompt: &[Token]) -> Generated {
        self.chain.reset(0);
        let (eog, stop, mut seen) = (self.eog, self.stop, 0);
        let mut each = |_: Step<'_>| {
            seen += 1;
            if stop == Some(seen) { Flow::Stop } else { Flow::Continue }
        };
        let is_eog = |token| token == eog;
        let Self { base, chain, n_predict, .. } = self;
        let speculator = self.speculator.as_mut();
        generate(base, chain, speculator, prompt, *n_predict, &is_eog, &mut each).expect("a text")
    }
}

/// Runs plainly and with every drafter, sets the text up with `set`, and compares it and its continuation.
fn alike(set: impl Fn(&mut Run), finish: Finish) {
    let mut plain = Run::new(None);
    set(&mut plain);
    let expected = plain.go(&PROMPT);
    assert_eq!(expected.finish, finish);
    for who in EVERYBODY {
        for k in [1, 2, 3, 5, 8] {
            let mut run = Run::new(Some((who, k)));
            set(&mut run);
            let found = run.go(&PROMPT);
            assert_eq!((&found.tokens, found.finish), (&expected.tokens, finish), "{who:?}, {k}");
            // The first token is drawn plainly, and the last has nothing to draft for.
            let may = expected.tokens.len() > 2 && who != Who::Lookup;
            assert!(found.speculation.drafted > 0 || !may, "{who:?}, {k} drafted");
            // The next turn: the text so far, and a word of the user.
            let next = [&PROMPT[..], &expected.tokens, &[3]].concat();
            if next.len() > 60 {
                continue;
            }
            for run in [&mut plain, &mut run] {
                (run.eog, run.stop, run.n_predict) = (-1, None, 12);
            }
            let (a, b) = (plain.go(&next), run.go(&next));
            assert_eq!((a.tokens, a.finish), (b.tokens, b.finish), "{who:?}, {k}, continued");
            // And what the caches hold answers for itself.
            let (a, b) =
                (plain.base.advance(&next, 2).map(<[f32]>::to_vec), run.base.advance(&next, 2).map(<[f32]>::to_vec));
            assert_eq!(a, b);
        }
    }
}

#[test]
fn the_wanted_number_of_tokens_may_be_reached_in_the_middle_of_a_draft() {
    for n in 0..9 {
        alike(|run| run.n_predict = n, Finish::Length);
    }
}

#[test]
fn an_end_of_text_inside_a_draft_ends_the_text_there() {
    let tokens = Run::new(None).go(&PROMPT).tokens;
    // Each token at its first occurrence: the text ends before it.
    for eog in 0..N as Token {
        let finish = if tokens.contains(&eog) { Finish::Eos } else { Finish::Length };
        alike(|run| run.eog = eog, finish);
    }
}

#[test]
fn a_caller_that_has_seen_enough_gets_no_more() {
    for n in 1..9 {
        alike(|run| run.stop = Some(n), Finish::Stop);
    }
}

#[test]
fn a_full_context_ends_the_text_at_the_same_token() {
    // Base and ARM have room for 60 tokens, one of the drafters for 50 only.
    alike(|run| run.n_predict = 1000, Finish::Length);
    let mut run = Run::new(Some((Who::Draft, 5)));
    run.n_predict = 1000;
    assert_eq!(run.go(&PROMPT).tokens.len(), 60 - PROMPT.len() + 1);
}

#[test]
fn a_draft_that_is_forbidden_as_a_whole_costs_time_and_nothing_else() {
    let likely = Run::new(None).go(&PROMPT).tokens;
    let forbidden: Vec<_> = (0..N as Token).filter(|t| likely[..4].contains(t)).collect();
    alike(|run| run.chain.forbidden.clone_from(&forbidden), Finish::Length);
}

#[test]
fn an_interrupted_text_is_a_beginning_of_the_whole_one_and_goes_on_as_it_would_have() {
    let whole = Run::new(None).go(&PROMPT).tokens;
    for who in EVERYBODY {
        for at in 1..24 {
            let mut run = Run::new(Some((who, 3)));
            run.calls.store(at, Ordering::Relaxed);
            let first = run.go(&PROMPT);
            if first.finish != Finish::Interrupted {
                assert_eq!(first.tokens, whole, "{who:?}: there are fewer calls");
                continue;
            }
            assert!(whole.starts_with(&first.tokens), "{who:?}, {at}: {:?}", first.tokens);
            run.n_predict -= first.tokens.len();
            let rest = run.go(&[&PROMPT[..], &first.tokens].concat());
            assert_eq!([first.tokens, rest.tokens].concat(), whole, "{who:?}, {at}");
        }
    }
}

#[test]
fn no_token_is_read_twice_but_for_the_rejected_ones() {
    // The base drafts for itself: all its tokens are kept by a chain without a heard ARM, and every one is decoded
    // once.
    let mut run = Run::new(Some((Who::Base, 4)));
    run.chain.guide.weights().set("arm0", 0.0).expect("a weight");
    let generated = run.go(&PROMPT);
    assert_eq!(generated.speculation.accepted, generated.speculation.drafted);
    assert_eq!(run.base.n_decoded() as usize, PROMPT.len() + generated.tokens.len() - 1);
}
