//! Laws that hold for every pair of vocabularies.

use super::toys::{END, Splitter, Toy, careful, expert, log_prob, translation, translator};
use crate::expert::{ExpertError, Token};
use crate::guidance::translate::cover::{Bounds, Care};
use crate::guidance::translate::{Hopeless, Lexicon, Translator, Words};
use crate::guidance::{Arm, Contract, Guide, Tail, Weights, log_softmax};
use crate::{Expert, TableExpert};

fn spm() -> Toy {
    let texts = [
        "a",
        "the",
        " the",
        " cat",
        "cat",
        " ",
        "  ",
        "   ",
        "    ",
        "\n",
        "\n\n",
        "don",
        "'",
        "'t",
        "1",
        "12",
        "123",
        " 12",
        "def",
        " f",
        "():",
        "    return",
        "é",
        "ü",
        " Stra",
        "ß",
        "e",
        "h",
        "t",
        " s",
        "sat",
        ".",
        ".\n",
    ];
    Toy::new(Splitter::None, &texts)
}

fn gpt2() -> Toy {
    let texts = [
        "a", "th", "the", " the", " c", "at", " ", "  ", "   ", "\n", "\n\n", "\n   ", "do", "n", "'t", "'", "1", "2",
        "3", " def", "def", "():", "return", " return", "é", " St", "ra", "e", "h", "t", " s", " sat", "c", ".", "s",
        "f",
    ];
    Toy::new(Splitter::Gpt2, &texts)
}

const GOLDEN: [&str; 14] = [
    "the cat sat.",
    "sat.\n\nthe cat",
    "\n\n",
    "the\n\n\nthe",
    "a a  a   a    a     a      a",
    "         a",
    "don't don't",
    "123 12 1 321",
    "Straße é ü",
    "def f():\n    return a\n",
    "def f():\n    return 12\n\n\ndef f():\n        return\n",
    " the",
    "a \n a",
    "cat  \n\n  the",
];

fn rewards(translator: &mut Translator, text: &[Token]) -> Vec<f32> {
    let (history, mut rewards) = ([&[END], text].concat(), Vec::new());
    translator.rewards(&history, text.len(), &mut rewards).expect("rewards");
    rewards
}

#[test]
fn rewards_add_up_to_the_probability_of_the_text() {
    for (base, arm) in [(spm(), gpt2()), (gpt2(), spm()), (spm(), spm())] {
        for text in GOLDEN {
            let chosen = [base.tokens(text.as_bytes()), vec![END]].concat();
            let sum: f64 = rewards(&mut careful(&base, &arm), &chosen).iter().map(|r| f64::from(*r)).sum();
            let exact = log_prob(&arm, text.as_bytes());
            assert!((sum - exact).abs() < 0.02, "{text:?}: {sum} for {exact}");
        }
    }
}

#[test]
fn a_text_cut_inside_a_character_is_read() {
    let (base, arm) = (spm().without("é").without("ü"), gpt2());
    let text = "é ü the é";
    let chosen = [base.tokens(text.as_bytes()), vec![END]].concat();
    let sum: f64 = rewards(&mut translator(&base, &arm), &chosen).iter().map(|r| f64::from(*r)).sum();
    let exact = log_prob(&arm, text.as_bytes());
    assert!((sum - exact).abs() < 0.05, "{sum} for {exact}");
}

#[test]
fn equal_vocabularies_give_the_arms_own_row() {
    for toy in [spm(), gpt2()] {
        let mut translator = translator(&toy, &toy);
        for text in GOLDEN {
            let history = [&[END], &toy.tokens(text.as_bytes())[..]].concat();
            let mut own = expert(&toy);
            for len in 1..=history.len() {
                let history = &history[..len];
                let base: Vec<_> = (0..translator.n_base()).map(|i| (i % 7) as f32).collect();
                let found = log_softmax(translator.rows(history, 1, &base).expect("a row"), 1.0);
                let row = log_softmax(own.advance(history, 1).expect("a row"), 1.0);
                for (token, (found, row)) in found.iter().zip(&row).enumerate() {
                    assert!((found - row).abs() < 1e-5, "{text:?} {len} token {token}: {found} for {row}");
                }
            }
        }
    }
}

#[test]
fn probabilities_add_up_to_at_most_one() {
    for (base, arm) in [(spm(), gpt2()), (gpt2(), spm())] {
        let mut translator = translator(&base, &arm);
        for text in GOLDEN {
            let chosen = base.tokens(text.as_bytes());
            for len in 0..=chosen.len() {
                let history = [&[END], &chosen[..len]].concat();
                let row = translator.rows(&history, 1, &[]).expect("a row");
                let sum: f64 = row.iter().map(|x| f64::from(*x).exp()).sum();
                assert!(sum <= 1.0 + 1e-6, "{text:?} {len}: {sum}");
            }
        }
    }
}

#[test]
fn the_ids_of_the_arms_tokens_do_not_matter() {
    let (base, arm) = (spm(), gpt2());
    let (mut one, mut other) = (translator(&base, &arm), translator(&base, &arm.permuted()));
    for text in GOLDEN {
        let history = [&[END], &base.tokens(text.as_bytes())[..]].concat();
        let one = one.rows(&history, 1, &[]).expect("a row").to_vec();
        let other = other.rows(&history, 1, &[]).expect("a row");
        one.iter().zip(other).for_each(|(a, b)| assert!((a - b).abs() < 1e-4, "{text:?}: {a} {b}"));
    }
}

#[test]
fn a_rolled_back_text_is_a_fresh_one() {
    let (base, arm) = (spm(), gpt2());
    let mut kept = translator(&base, &arm);
    for pair in GOLDEN.windows(2) {
        for text in pair {
            let tokens = base.tokens(text.as_bytes());
            for len in [tokens.len(), tokens.len() / 2, tokens.len()] {
                let history = [&[END], &tokens[..len]].concat();
                let mut fresh = translator(&base, &arm);
                let kept = kept.rows(&history, 1, &[]).expect("a row");
                let fresh = fresh.rows(&history, 1, &[]).expect("a row");
                kept.iter().zip(fresh).for_each(|(a, b)| assert!((a - b).abs() < 1e-3, "{text:?} {len}: {a} {b}"));
            }
        }
    }
}

/// An expert that fails once.
struct Failing {
    expert: TableExpert,
    /// Calls until it does.
    left: usize,
}

impl Expert for Failing {
    fn n_vocab(&self) -> usize {
        self.expert.n_vocab()
    }

    fn n_ctx(&self) -> usize {
        self.expert.n_ctx()
    }

    fn advance(&mut self, history: &[Token], k: usize) -> Result<&[f32], ExpertError> {
        self.left = self.left.wrapping_sub(1);
        if self.left == 0 { Err(ExpertError::Interrupted) } else { self.expert.advance(history, k) }
    }

    fn prepare(&mut self, history: &[Token], k: usize) {
        self.expert.prepare(history, k);
    }

    fn start(&mut self) -> bool {
        self.expert.start()
    }

    fn n_cached(&self, history: &[Token]) -> usize {
        self.expert.n_cached(history)
    }

    fn read(&mut self) -> Result<(), ExpertError> {
        self.expert.read()
    }

    fn forget(&mut self) {
        self.expert.forget();
    }

    fn n_decoded(&self) -> u64 {
        self.expert.n_decoded()
    }
}

#[test]
fn a_text_goes_on_after_an_error_of_the_arm() {
    // Rare characters and rare words, so that what was left out is looked for.
    let (base, arm) = (spm().without("é"), gpt2());
    let tokens = base.tokens("é the catsat 123 é\n\n():".as_bytes());
    let history = [&[END], &tokens[..]].concat();
    let fresh = translator(&base, &arm).rows(&history, 1, &[]).expect("a row").to_vec();
    for left in 1.. {
        let failing = Failing { expert: expert(&arm), left };
        let mut translator = Translator::new(Box::new(failing), translation(&base, &arm));
        translator.begin(Some(vec![END]), 1);
        if translator.rows(&history, 1, &[]).is_ok() {
            assert!(left > 3, "the text is read in {left} calls");
            break;
        }
        let row = translator.rows(&history, 1, &[]).expect("a row");
        row.iter().zip(&fresh).for_each(|(a, b)| assert!((a - b).abs() < 1e-3, "call {left} failed: {a} for {b}"));
    }
}

#[test]
fn rows_of_a_batch_are_those_of_single_steps() {
    let (base, arm) = (spm(), gpt2());
    for text in GOLDEN {
        let tokens = base.tokens(text.as_bytes());
        let history = [&[END], &tokens[..]].concat();
        let (mut at_once, mut step_by_step) = (translator(&base, &arm), translator(&base, &arm));
        let k = tokens.len() + 1;
        let rows = at_once.rows(&history, k, &[]).expect("rows").to_vec();
        for (i, row) in rows.chunks_exact(at_once.n_base()).enumerate() {
            let single = step_by_step.rows(&history[..=i], 1, &[]).expect("a row");
            row.iter().zip(single).for_each(|(a, b)| assert!((a - b).abs() < 1e-3, "{text:?} {i}: {a} {b}"));
        }
    }
}

#[test]
fn a_long_text_keeps_few_readings_and_does_not_drift() {
    let (base, arm) = (spm(), gpt2());
    let text = GOLDEN.concat().repeat(12);
    let tokens = base.tokens(text.as_bytes());
    assert!(tokens.len() > 1000);
    let mut kept = translator(&base, &arm);
    for len in (1..=tokens.len()).filter(|len| len % 7 == 0 || len % 100 == 0) {
        let history = [&[END], &tokens[..len]].concat();
        let row = kept.rows(&history, 1, &[]).expect("a row").to_vec();
        assert!(kept.n_readings() <= 6);
        if len % 300 == 0 {
            let mut fresh = translator(&base, &arm);
            let fresh = fresh.rows(&history, 1, &[]).expect("a row");
            row.iter().zip(fresh).for_each(|(a, b)| assert!((a - b).abs() < 1e-3, "{len}: {a} {b}"));
        }
    }
}

#[test]
fn a_reading_that_was_left_out_comes_back_where_the_word_goes_on_as_it_expects() {
    let base = Toy::new(Splitter::None, &["ab", "cd", "e"]);
    let arm = Toy::new(Splitter::None, &["ab", "abc", "cd", "d", "e"]);
    // It writes "ab" far more often than "abc", but hardly "cd" after it.
    let [ab, abc, d, e] = ["ab", "abc", "d", "e"].map(|text| arm.tokens(text.as_bytes())[0]);
    let next = move |history: &[Token]| match history.last() {
        Some(last) if *last == abc => vec![(d, 0.0)],
        Some(last) if *last == d => vec![(e, 0.0)],
        Some(last) if *last == ab => vec![(ab, 0.0)],
        _ => vec![(ab, 0.0), (abc, -9.0)],
    };
    let text = base.tokens(b"abcde");
    assert_eq!(text.len(), 3, "ab, cd, e");
    let share = share_of_last(&base, &arm, next, &text);
    assert!(share > 0.9, "the ARM has read abc, d: {share}");
}

#[test]
fn a_control_token_ends_a_word() {
    let toy = Toy::new(Splitter::None, &["ab", "cd", "e", "f"]);
    // It writes no end after "ab", and "cd" far more often after "ab" than after an end.
    let [ab, cd, e, f] = ["ab", "cd", "e", "f"].map(|text| toy.tokens(text.as_bytes())[0]);
    let next = move |history: &[Token]| match history {
        [.., END, last] if *last == cd => vec![(f, 0.0)],
        [.., last] if *last == cd => vec![(e, 0.0)],
        [.., last] if *last == ab => vec![(cd, 0.0)],
        _ => vec![(ab, 0.0)],
    };
    let share = share_of_last(&toy, &toy, next, &[ab, END, cd, f]);
    assert!(share > 0.9, "the ARM has read ab, an end, cd: {share}");
}

/// The share of the last token after the others, where the ARM writes what `next` names and hardly anything else.
fn share_of_last(
    base: &Toy,
    arm: &Toy,
    next: impl Fn(&[Token]) -> Vec<(Token, f32)> + Send + 'static,
    text: &[Token],
) -> f32 {
    let expert = TableExpert::new(arm.n_tokens(), 64, move |history, logits| {
        logits.fill(-30.0);
        next(history).into_iter().for_each(|(token, logit)| logits[token as usize] = logit);
    });
    let mut translator = Translator::new(Box::new(expert), translation(base, arm));
    translator.begin(Some(vec![END]), 1);
    let [before @ .., last] = text else { return 0.0 };
    let row = translator.rows(&[&[END], before].concat(), 1, &[]).expect("a row").to_vec();
    row[*last as usize].exp() / row.iter().map(|ln_q| ln_q.exp()).sum::<f32>()
}

#[test]
fn two_spellings_of_a_word_long_ago_do_not_make_the_arm_read_the_text_again_and_again() {
    let [base, arm] = [&["a", "b", " "][..], &["a", "b", " ", "ab"]].map(|texts| Toy::new(Splitter::None, texts));
    let tokens = base.tokens(b"ab a b a b a b a b a b a b a b a b a b a b");
    let decoded = |n_alike| {
        // It writes "a" "b" a quarter as often as "ab", and forgets that it has.
        let n_tokens = arm.n_tokens();
        let byte: Vec<bool> = (0..n_tokens as Token).map(|token| arm.is_byte(token)).collect();
        let expert = TableExpert::new(n_tokens, 4096, move |_, logits| {
            logits.iter_mut().zip(&byte).for_each(|(logit, byte)| *logit = if *byte { -16.0 } else { 0.0 });
        });
        let mut translator = Translator::new(Box::new(expert), translation(&base, &arm));
        translator.begin(Some(vec![END]), 1);
        translator.set_bounds(Bounds { least_odd: 0.0, n_alike, ..Bounds::DEFAULT }, Care::DEFAULT);
        for len in 0..=tokens.len() {
            translator.rows(&[&[END], &tokens[..len]].concat(), 1, &[]).expect("a row");
        }
        translator.n_decoded()
    };
    let (joined, apart) = (decoded(Bounds::DEFAULT.n_alike), decoded(usize::MAX));
    assert!(joined < 3 * tokens.len() as u64 && apart > 10 * tokens.len() as u64, "{joined} {apart}");
}

#[test]
fn an_arm_of_equal_vocabulary_decodes_one_token_a_step() {
    let toy = spm();
    let tokens = toy.tokens(b"the cat sat. the cat sat. the cat sat.\n\nthe cat");
    let mut translator = translator(&toy, &toy);
    // A toy writes odd texts more often than a model does.
    let bounds = Bounds { least_odd: f64::INFINITY, least_odd_unread: f64::INFINITY, ..Bounds::DEFAULT };
    translator.set_bounds(bounds, Care::DEFAULT);
    for len in 0..=tokens.len() {
        let history = [&[END], &tokens[..len]].concat();
        translator.prepare(&history);
        translator.rows(&history, 1, &[]).expect("a row");
        assert_eq!(translator.n_decoded(), len as u64 + 1);
    }
}

#[test]
fn the_arm_reads_the_bases_prompt_where_it_has_none_of_its_own() {
    let (base, arm) = (spm(), gpt2());
    let prompt = [&[END], &base.tokens(b"the cat sat.\n\nthe")[..]].concat();
    let mut own = translator(&base, &arm);
    own.begin(None, prompt.len());
    let history = [&prompt[..], &base.tokens(b" cat")].concat();
    let found = own.rows(&history, 1, &[]).expect("a row").to_vec();
    let mut translator = translator(&base, &arm);
    let row = translator.rows(&history, 1, &[]).expect("a row");
    found.iter().zip(row).for_each(|(a, b)| assert!((a - b).abs() < 1e-3, "{a} {b}"));
}

#[test]
fn an_arm_that_cannot_spell_plain_text_is_hopeless() {
    let mut toy = spm();
    toy.keep_only(|bytes| bytes != b"~");
    assert_eq!(Lexicon::build(&spm(), &toy, 2).err(), Some(Hopeless::Ascii('~')));
}

#[test]
fn a_lexicon_is_kept_in_a_file() {
    let (base, arm) = (spm(), gpt2());
    let built = Lexicon::build(&base, &arm, 2).expect("a lexicon");
    let bytes = built.to_bytes();
    let read = Lexicon::from_bytes(&bytes, &base, &arm).expect("the same vocabularies");
    assert_eq!((read.to_bytes(), read.overlap()), (bytes.clone(), built.overlap()));
    assert!(Lexicon::from_bytes(&bytes, &arm, &base).is_none(), "other vocabularies");
    for broken in [&bytes[..bytes.len() - 4], &bytes[..7], &[]] {
        assert!(Lexicon::from_bytes(broken, &base, &arm).is_none());
    }
    let mut wild = bytes.clone();
    let at = wild.len() - 4;
    wild[at..].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(Lexicon::from_bytes(&wild, &base, &arm).is_none(), "a token that there is not");
}

#[test]
fn a_translated_arm_guides_as_the_law_says() {
    let (base, arm) = (spm(), gpt2());
    let weights = Weights::new([("a".to_owned(), 0.5)]);
    let translated = Arm::translated("a", Box::new(expert(&arm)), translation(&base, &arm));
    let mut guide = Guide::new(vec![translated], weights);
    let history = [&[END], &base.tokens(b"the cat")[..]].concat();
    guide.begin(1, vec![Some(vec![END])]);
    let n_base = crate::guidance::translate::Words::n_tokens(&base);
    let row: Vec<_> = (0..n_base).map(|i| (i % 5) as f32).collect();
    let mut guided = row.clone();
    guide.add(&history, 1, &mut guided).expect("guided");
    let mut translator = translator(&base, &arm);
    let q = translator.rows(&history, 1, &row).expect("a row");
    for ((guided, base), q) in guided.iter().zip(&row).zip(q) {
        assert!((guided - (base + 0.5 * q)).abs() < 1e-4);
    }
}

#[test]
fn an_arm_of_the_same_vocabulary_is_untouched_by_translation() {
    let toy = spm();
    let contract = Contract { n_common: crate::guidance::translate::Words::n_tokens(&toy), tail: Tail::None };
    let arm = Arm::new("a", Box::new(expert(&toy)), contract);
    assert!(!arm.is_translated());
    let mut guide = Guide::new(vec![arm], Weights::new([("a".to_owned(), 1.0)]));
    assert!(!guide.translates());
    let mut logits = vec![0.0; contract.n_common];
    guide.add(&[END], 1, &mut logits).expect("guided");
    assert_eq!(logits, expert(&toy).advance(&[END], 1).expect("a row"));
}
