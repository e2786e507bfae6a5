//! Real models: their vocabularies and rows.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, ensure};
use genarm::engine::Sequence;
use genarm::engine::llama::{Adapters, CacheType, ContextParams, FlashAttention, Model, ModelParams, Vocab};
use genarm::{Expert, Token};

use super::token_bytes::TokenBytes;

pub fn open(path: &Path) -> Result<Arc<Model>> {
    Ok(Model::load(path, &ModelParams::default(), &mut |_| true)?)
}

pub fn token_bytes(vocab: &Vocab) -> TokenBytes {
    let piece = |token| {
        let mut bytes = Vec::new();
        vocab.piece(token, false, &mut bytes);
        bytes
    };
    let ends: Vec<_> = vocab.eog_tokens().collect();
    TokenBytes::new((0..vocab.n_tokens() as Token).map(piece).collect(), &ends)
}

/// A sequence of a model. It computes one token at a time: the rounding of other batches moves logits of small models
/// by tenths, and would be taken for a fault of the translation.
pub fn sequence(model: &Arc<Model>, n_threads: u32) -> Result<Sequence> {
    let params = ContextParams {
        n_ctx: 512,
        n_seq: 1,
        n_batch: 512,
        n_ubatch: 1,
        n_threads,
        n_threads_batch: n_threads,
        type_k: CacheType::F32,
        type_v: CacheType::F32,
        flash_attention: FlashAttention::Off,
        swa_full: true,
        n_snapshots: 0,
        fewer_threads: false,
    };
    Ok(Sequence::alone(model, Adapters::All(Vec::new()), &params)?)
}

/// The logits after a history.
pub fn row(sequence: &mut Sequence, history: &[Token]) -> Result<Vec<f32>> {
    Ok(sequence.advance(history, 1)?.to_vec())
}

/// How the base reads the texts that begin with a response.
pub struct Spelling {
    vocab: Vocab,
    /// The beginning of the response up to a word, and the base's tokens of it. They do not depend on what follows.
    head: String,
    tokens: Vec<Token>,
}

/// What follows the head is at least so long.
const N_TAIL: usize = 16;

impl Spelling {
    /// # Errors
    ///
    /// Where the base's tokens of the response do not spell it.
    pub fn new(vocab: &Vocab, response: &str) -> Result<Self> {
        let read = |text: &str| vocab.tokenize(text, false, false);
        let tokens = read(response)?;
        let mut bytes = Vec::new();
        let mut ends = Vec::new();
        for token in &tokens {
            vocab.piece(*token, false, &mut bytes);
            ends.push(bytes.len());
        }
        ensure!(bytes == response.as_bytes(), "the base's tokens of the response do not spell it");
        // Only before a space between two words.
        let is_border = |at: &usize| {
            let letter = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_alphabetic);
            at + N_TAIL <= bytes.len() && bytes[*at] == b' ' && letter(at - 1) && letter(at + 1)
        };
        for n in (1..=tokens.len()).rev().filter(|n| is_border(&ends[n - 1])) {
            let (head, tail) = response.split_at(ends[n - 1]);
            if read(head)? == tokens[..n] && read(tail)? == tokens[n..] {
                return Ok(Self { vocab: vocab.clone(), head: head.to_owned(), tokens: tokens[..n].to_vec() });
            }
        }
        Ok(Self { vocab: vocab.clone(), head: String::new(), tokens: Vec::new() })
    }

    /// The base's tokens of a text.
    pub fn tokens(&self, text: &str) -> Option<Vec<Token>> {
        let (head, tail) = match text.strip_prefix(&self.head) {
            Some(tail) => (&self.tokens[..], tail),
            None => (&[][..], text),
        };
        let mut tokens = head.to_vec();
        self.vocab.spell(tail, &mut tokens).ok()?;
        Some(tokens)
    }
}
