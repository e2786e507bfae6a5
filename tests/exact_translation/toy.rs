//! A base and an ARM over the characters a, b and space, with different vocabularies.

use std::collections::BTreeMap;

use genarm::{Expert, TableExpert, Token};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::reading::Next;
use super::token_bytes::TokenBytes;

/// A tokenizer by merges.
#[derive(Debug)]
pub struct Base {
    texts: Vec<String>,
    /// Whether tokens stop at words, as GPT-2's do.
    words: bool,
}

impl Base {
    /// `merges` are the texts that are joined, in the order in which that happens. Each is a join of two before it.
    pub fn new(merges: &[&str], words: bool) -> Self {
        Self { texts: ["a", "b", " "].iter().chain(merges).map(ToString::to_string).collect(), words }
    }

    pub fn vocabulary(&self) -> TokenBytes {
        TokenBytes::new(self.texts.iter().map(|text| text.as_bytes().to_vec()).collect(), &[])
    }

    pub fn text(&self, tokens: &[Token]) -> String {
        tokens.iter().map(|token| &self.texts[*token as usize][..]).collect()
    }

    /// The tokens of a text, or `None` where it has other characters.
    pub fn spell(&self, text: &str) -> Option<Vec<Token>> {
        let known = |c: char| self.texts[..3].iter().any(|text| text.starts_with(c));
        if !text.chars().all(known) {
            return None;
        }
        let words = if self.words { words(text) } else { vec![text.to_owned()] };
        Some(words.iter().flat_map(|word| self.join(word)).collect())
    }

    fn join(&self, word: &str) -> Vec<Token> {
        let mut parts: Vec<String> = word.chars().map(String::from).collect();
        for merged in &self.texts[3..] {
            let mut at = 0;
            while at + 1 < parts.len() {
                if format!("{}{}", parts[at], parts[at + 1]) == *merged {
                    parts.splice(at..at + 2, [merged.clone()]);
                }
                at += 1;
            }
        }
        let id = |part: &String| self.texts.iter().position(|text| text == part).expect("a token") as Token;
        parts.iter().map(id).collect()
    }
}

/// A word takes the space before it; further spaces are a word of their own.
fn words(text: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut before = None;
    for c in text.chars() {
        match (c, before) {
            (' ', Some(' ')) | ('a' | 'b', Some('a' | 'b')) => words.last_mut().expect("a word").push(c),
            ('a' | 'b', Some(' ')) => {
                let spaces = words.last_mut().expect("a word");
                spaces.pop();
                if spaces.is_empty() {
                    words.pop();
                }
                words.push(format!(" {c}"));
            }
            _ => words.push(c.to_string()),
        }
        before = Some(c);
    }
    words
}

/// All characters that a text may go on with.
pub const CONTINUATIONS: [&str; 3] = ["a", "b", " "];

/// The prompt of every ARM here.
pub const PROMPT: [Token; 1] = [0];

/// An ARM whose texts have few tokens, so that all can be listed. Its last token ends the text.
pub struct Arm {
    pub vocabulary: TokenBytes,
    pub expert: TableExpert,
    pub n_vocab: usize,
}

impl Arm {
    /// Any texts, with any probabilities after any token.
    pub fn new(texts: &[&str], n_tokens: usize, seed: u64) -> Self {
        let n_vocab = texts.len() + 1;
        let end = n_vocab - 1;
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let table: Vec<f32> = (0..n_vocab * n_vocab).map(|_| random.random_range(-2.0..2.0)).collect();
        let expert = TableExpert::new(n_vocab, usize::MAX, move |history, logits| {
            let last = history[history.len() - 1] as usize;
            logits.copy_from_slice(&table[last * n_vocab..][..n_vocab]);
            if history.len() == n_tokens + PROMPT.len() {
                logits[..end].fill(f32::NEG_INFINITY);
            }
        });
        let bytes = texts.iter().map(|text| text.as_bytes().to_vec()).chain([Vec::new()]).collect();
        Self { vocabulary: TokenBytes::new(bytes, &[end as Token]), expert, n_vocab }
    }

    pub fn p(&mut self, history: &[Token]) -> Vec<f64> {
        let row = self.expert.advance(history, 1).expect("a row");
        let sum: f64 = row.iter().map(|logit| f64::from(*logit).exp()).sum();
        row.iter().map(|logit| f64::from(*logit).exp() / sum).collect()
    }

    /// Every text that it can write, with the text's probability.
    pub fn texts(&mut self) -> BTreeMap<String, f64> {
        let mut texts = BTreeMap::new();
        let mut paths = vec![(PROMPT.to_vec(), String::new(), 1.0)];
        while let Some((history, text, mass)) = paths.pop() {
            for (token, p) in self.p(&history).into_iter().enumerate().filter(|(_, p)| *p > 0.0) {
                if token + 1 == self.n_vocab {
                    *texts.entry(text.clone()).or_default() += mass * p;
                    continue;
                }
                let mut history = history.clone();
                history.push(token as Token);
                let piece = String::from_utf8_lossy(self.vocabulary.bytes(token as Token)).into_owned();
                paths.push((history, format!("{text}{piece}"), mass * p));
            }
        }
        texts
    }

    /// The ARM's tokens of a text: the longest that fits, again and again.
    pub fn usual(&self, text: &str) -> Vec<Token> {
        let mut tokens = Vec::new();
        let mut at = 0;
        while let Some(token) = self.vocabulary.within(&text.as_bytes()[at..]).last() {
            at += self.vocabulary.bytes(*token).len();
            tokens.push(*token);
        }
        tokens
    }
}

/// q by its definition: of the texts that the base reads as the chosen tokens and more, the share of each next token.
pub fn q_of_texts(texts: &BTreeMap<String, f64>, base: &Base, chosen: &[Token]) -> BTreeMap<Next, f64> {
    let mut q: BTreeMap<Next, f64> = BTreeMap::new();
    for (text, mass) in texts {
        let tokens = base.spell(text).expect("a text of a, b and space");
        if let Some(rest) = tokens.strip_prefix(chosen) {
            *q.entry(rest.first().map_or(Next::End, |token| Next::Token(*token))).or_default() += mass;
        }
    }
    let whole: f64 = q.values().sum();
    q.values_mut().for_each(|mass| *mass /= whole);
    q
}
