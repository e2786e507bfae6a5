//! Vocabularies and models of a few letters, and the exact answer by enumeration.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, HashMap};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use crate::TableExpert;
use crate::expert::Token;
use crate::guidance::translate::cover::{Bounds, Care};
use crate::guidance::translate::{Lexicon, Translation, Translator, WordKind, Words};

/// How a toy cuts a text before it looks for the longest tokens.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Splitter {
    /// Not at all.
    None,
    /// As GPT-2: a word takes the space before it, and the last space of a run goes to the next word.
    Gpt2,
}

/// A vocabulary: an end, some texts, and all bytes.
#[derive(Debug, Clone)]
pub struct Toy {
    tokens: Vec<(Vec<u8>, WordKind)>,
    splitter: Splitter,
    /// The token of these bytes, a text before a byte.
    by_bytes: HashMap<Vec<u8>, Token>,
    longest: usize,
}

pub const END: Token = 0;

impl Toy {
    pub fn new(splitter: Splitter, texts: &[&str]) -> Self {
        let end = (b"<end>".to_vec(), WordKind::Control);
        let texts = texts.iter().map(|text| (text.as_bytes().to_vec(), WordKind::Text));
        let bytes = (0..=255).map(|byte| (vec![byte], WordKind::Byte));
        Self::of([end].into_iter().chain(texts).chain(bytes).collect(), splitter)
    }

    fn of(tokens: Vec<(Vec<u8>, WordKind)>, splitter: Splitter) -> Self {
        let mut by_bytes = HashMap::new();
        for (i, (bytes, kind)) in tokens.iter().enumerate() {
            match kind {
                WordKind::Text => drop(by_bytes.insert(bytes.clone(), i as Token)),
                WordKind::Byte => drop(by_bytes.entry(bytes.clone()).or_insert(i as Token)),
                _ => {}
            }
        }
        let longest = by_bytes.keys().map(Vec::len).max().unwrap_or(0);
        Self { tokens, splitter, by_bytes, longest }
    }

    /// The same tokens in another order, but for the end.
    pub fn permuted(&self) -> Self {
        let mut tokens = self.tokens.clone();
        tokens[1..].reverse();
        Self::of(tokens, self.splitter)
    }

    /// The same without one of its tokens.
    pub fn without(&self, text: &str) -> Self {
        let mut tokens = self.tokens.clone();
        tokens.retain(|(bytes, kind)| *kind != WordKind::Text || bytes != text.as_bytes());
        Self::of(tokens, self.splitter)
    }

    pub fn keep_only(&mut self, keep: impl Fn(&[u8]) -> bool) {
        let tokens = self.tokens.iter().filter(|(bytes, _)| keep(bytes)).cloned().collect();
        *self = Self::of(tokens, self.splitter);
    }

    pub fn text(&self, tokens: &[Token]) -> Vec<u8> {
        tokens.iter().filter(|t| **t != END).flat_map(|t| self.tokens[*t as usize].0.clone()).collect()
    }

    /// The tokens of a text.
    pub fn tokens(&self, text: &[u8]) -> Vec<Token> {
        let mut out = Vec::new();
        for chunk in text.utf8_chunks() {
            self.spell(chunk.valid(), &mut out);
            chunk.invalid().iter().for_each(|byte| assert!(self.longest(&[*byte], &mut out)));
        }
        out
    }

    fn longest(&self, mut rest: &[u8], out: &mut Vec<Token>) -> bool {
        while !rest.is_empty() {
            let most = rest.len().min(self.longest);
            let best = (1..=most).rev().find_map(|n| self.by_bytes.get(&rest[..n]));
            let Some(best) = best else { return false };
            out.push(*best);
            rest = &rest[self.tokens[*best as usize].0.len()..];
        }
        true
    }

    pub fn is_byte(&self, token: Token) -> bool {
        self.tokens[token as usize].1 == WordKind::Byte
    }

    /// The end of a text from the beginning of a word on, some tokens back: what is before it changes nothing after it.
    fn last_words<'a>(&self, text: &'a [Token]) -> &'a [Token] {
        let space = |token: Token, at: fn(&[u8]) -> Option<&u8>| {
            at(&self.tokens[token as usize].0).is_some_and(u8::is_ascii_whitespace)
        };
        let begins = |at: &usize| space(text[*at], <[u8]>::first) && !space(text[*at - 1], <[u8]>::last);
        let from = (1..text.len().saturating_sub(4)).rev().find(begins);
        &text[from.unwrap_or(0)..]
    }

    /// Whether its tokenizer writes `tokens`, whatever follows.
    pub fn writes(&self, tokens: &[Token]) -> bool {
        let mut text = self.text(tokens);
        let len = text.len();
        ["", "a", " a", "  ", "\na", "\n\n", "1", "'t"].iter().any(|follower| {
            text.truncate(len);
            text.extend_from_slice(follower.as_bytes());
            self.tokens(&text).starts_with(tokens)
        })
    }
}

impl Words for Toy {
    fn n_tokens(&self) -> usize {
        self.tokens.len()
    }

    fn kind(&self, token: Token) -> WordKind {
        self.tokens[token as usize].1
    }

    fn bytes(&self, token: Token, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.tokens[token as usize].0);
    }

    fn is_end(&self, token: Token) -> bool {
        token == END
    }

    fn bos(&self) -> Option<Token> {
        Some(END)
    }

    fn spell(&self, text: &str, out: &mut Vec<Token>) -> bool {
        let before = out.len();
        let spelled = match self.splitter {
            Splitter::None => self.longest(text.as_bytes(), out),
            Splitter::Gpt2 => gpt2_pieces(text).into_iter().all(|piece| self.longest(piece.as_bytes(), out)),
        };
        if !spelled {
            out.truncate(before);
        }
        spelled
    }
}

/// Cuts a text as `'t| ?letters+| ?digits+| ?others+|\s+(?!\S)|\s+` does.
fn gpt2_pieces(text: &str) -> Vec<&str> {
    let class = |c: char| match c {
        c if c.is_whitespace() => 0,
        c if c.is_alphabetic() => 1,
        c if c.is_numeric() => 2,
        _ => 3,
    };
    let (mut pieces, mut rest) = (Vec::new(), text);
    while let Some(first) = rest.chars().next() {
        let run = |from: usize, of: u8| rest[from..].find(|c| class(c) != of).map_or(rest.len(), |n| from + n);
        let len = if rest.starts_with("'t") {
            2
        } else if class(first) != 0 {
            run(0, class(first))
        } else {
            let space = run(0, 0);
            let last = rest[..space].char_indices().next_back().map_or(0, |(at, _)| at);
            match rest[space..].chars().next() {
                None => space,
                Some(next) if last == 0 && first == ' ' => run(1, class(next)),
                Some(_) if last == 0 => space,
                Some(_) => last,
            }
        };
        pieces.push(&rest[..len]);
        rest = &rest[len..];
    }
    pieces
}

/// The log-probabilities of an ARM that writes only what its tokenizer would: of any tokens, but for bytes, which are
/// most unlikely.
pub fn log_probs(toy: &Toy, history: &[Token]) -> Vec<f64> {
    let text = toy.last_words(&history[1..]); // after the prompt
    let logit = |token: Token| {
        if toy.is_byte(token) {
            return -16.0;
        }
        let last = (text.last().map(|t| &toy.tokens[*t as usize].0), &toy.tokens[token as usize].0);
        let mut hasher = DefaultHasher::new();
        last.hash(&mut hasher);
        (hasher.finish() % 1000) as f64 / 250.0
    };
    let allowed = |token: Token| match token {
        END => toy.tokens(&toy.text(text)) == text,
        // Bytes are many; what is as good as impossible need not be exact.
        _ => toy.is_byte(token) || toy.writes(&[text, &[token]].concat()),
    };
    let n = toy.n_tokens() as Token;
    let logits: Vec<_> = (0..n).map(|t| if allowed(t) { logit(t) } else { -80.0 }).collect();
    let lse = logits.iter().map(|x| x.exp()).sum::<f64>().ln();
    logits.into_iter().map(|x| x - lse).collect()
}

pub fn expert(toy: &Toy) -> TableExpert {
    let toy = toy.clone();
    TableExpert::new(toy.n_tokens(), 4096, move |history, logits| {
        log_probs(&toy, history).iter().zip(logits).for_each(|(p, logit)| *logit = *p as f32);
    })
}

pub fn translation(base: &Toy, arm: &Toy) -> Arc<Translation> {
    let lexicon = Lexicon::build(base, arm, 1).expect("both spell ASCII");
    Arc::new(Translation { base: Box::new(base.clone()), arm: Box::new(arm.clone()), lexicon })
}

/// A translator after an ARM's prompt of one token; the base's prompt is one token too.
pub fn translator(base: &Toy, arm: &Toy) -> Translator {
    let mut translator = Translator::new(Box::new(expert(arm)), translation(base, arm));
    translator.begin(Some(vec![END]), 1);
    translator
}

/// The same, leaving out next to nothing: a toy's odd texts are likelier than a model's.
pub fn careful(base: &Toy, arm: &Toy) -> Translator {
    careful_with(base, arm, 64)
}

/// The same, reading so many rows in doubt at most.
pub fn careful_with(base: &Toy, arm: &Toy, n_rows: usize) -> Translator {
    let mut translator = translator(base, arm);
    let bounds = Bounds {
        least: 1e-9,
        least_odd: 1e-9,
        least_odd_unread: 1e-9,
        least_odd_p: 1e-9,
        least_token: 1e-6,
        n_readings: 64,
        n_alike: usize::MAX,
    };
    translator.set_bounds(bounds, Care { least: 1e-9, n_rows });
    translator
}

/// For each token of the base, the probability that the base's own tokenisation of the ARM's text goes on with it after
/// `chosen`, where the ARM's text begins with the same bytes. By enumeration of all texts of `ahead` bytes more.
///
/// A token of the ARM that reaches across the end of `chosen` counts where the base's tokenisation has `chosen` too.
pub fn exact(base: &Toy, arm: &Toy, chosen: &[Token], ahead: usize) -> BTreeMap<Token, f64> {
    let wanted = base.text(chosen);
    let (mut found, mut all) = (BTreeMap::new(), 0.0);
    let mut known = HashMap::new();
    let mut open = vec![(vec![END], Vec::new(), false, 1.0)];
    while let Some((path, text, mut ends_there, mass)) = open.pop() {
        ends_there |= text.len() == wanted.len();
        let ended = path.len() > 1 && path.last() == Some(&END);
        if ended || text.len() >= wanted.len() + ahead {
            let mut spelled = base.tokens(&text);
            spelled.extend(ended.then_some(END));
            let next = spelled.strip_prefix(chosen).and_then(<[Token]>::first);
            next.into_iter().for_each(|next| *found.entry(*next).or_insert(0.0) += mass);
            if ends_there || next.is_some() {
                all += mass;
            }
            continue;
        }
        let words = [&[END], arm.last_words(&path[1..])].concat();
        let row = known.entry(words).or_insert_with(|| log_probs(arm, &path)).clone();
        for (token, p) in row.into_iter().enumerate().filter(|(_, p)| *p > -14.0) {
            let token = token as Token;
            let text = [&text[..], &arm.text(&[token])].concat();
            let agrees = text.starts_with(&wanted) || wanted.starts_with(&text);
            if agrees && (token != END || text.len() >= wanted.len()) {
                open.push(([&path[..], &[token]].concat(), text, ends_there, mass * p.exp()));
            }
        }
    }
    found.values_mut().for_each(|mass| *mass /= all);
    found
}

/// ln of the probability that the ARM writes a text and ends: its own tokens of it, one after the other.
pub fn log_prob(arm: &Toy, text: &[u8]) -> f64 {
    let tokens = [arm.tokens(text), vec![END]].concat();
    let mut history = vec![END];
    let mut sum = 0.0;
    for token in tokens {
        sum += log_probs(arm, &history)[token as usize];
        history.push(token);
    }
    sum
}
