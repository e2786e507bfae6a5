//! The head for drafting of a sequence: which tokens it has read, and the states of the model that it still needs.
//!
//! At position p the head reads the token of p and the model's state of p − 1, and guesses the token of p + 1. While it
//! drafts there are no such states yet; it goes on with its own.

use crate::engine::llama::DraftHead;
use crate::expert::{ExpertError, Token, common_prefix};

/// States that are kept before the head reads: a prompt is read in such pieces, and what is not drafted after, in few.
const N_STATES: usize = 64;

pub(super) struct Head {
    ctx: DraftHead,
    /// The tokens that it has read, but for those before `first`.
    cached: Vec<Token>,
    first: usize,
    /// Those before this one were read with the model's own states.
    n_sure: usize,
    /// The model's states of the positions from `first_state` on, one after the other.
    states: Vec<f32>,
    first_state: usize,
    /// The state of the token that the head read last, or none.
    own: Vec<f32>,
    /// In the place of a state that is missing.
    none: Vec<f32>,
}

impl Head {
    pub(super) fn new(ctx: DraftHead) -> Self {
        let none = vec![0.0; ctx.n_embd()];
        let (cached, states, own) = (Vec::new(), Vec::new(), Vec::new());
        Self { ctx, cached, first: 0, n_sure: 0, states, first_state: 0, own, none }
    }

    /// Where the states end that there are.
    fn end_state(&self) -> usize {
        self.first_state + self.states.len() / self.ctx.n_embd()
    }

    /// Forgets the states of positions that are no longer in the model's memory.
    pub(super) fn keep(&mut self, n: usize) {
        let n_states = n.saturating_sub(self.first_state);
        self.states.truncate(n_states * self.ctx.n_embd());
    }

    /// Notes the states of the positions from `start` on; `text` is all that the model has read.
    pub(super) fn note(&mut self, start: usize, states: &[f32], text: &[Token]) {
        self.keep(start);
        if start < self.first {
            // The model reads again what the head lacks.
            self.begin_at(0);
        }
        if self.end_state() < start {
            // What lies between was read without the head.
            self.states.clear();
        }
        if self.states.is_empty() {
            self.first_state = start;
        }
        self.states.extend_from_slice(states);
        if self.end_state() - self.first_state > N_STATES && self.read(text, false).is_err() {
            // It drafts badly for a while; the text does not depend on it.
            self.states.clear();
        }
    }

    /// Forgets all that it has read, and the states, to the last number.
    pub(super) fn empty(&mut self) {
        self.states.clear();
        self.begin_at(0);
        self.ctx.clear();
    }

    /// Begins anew with the token at `first`.
    fn begin_at(&mut self, first: usize) {
        self.ctx.truncate(0);
        self.cached.clear();
        self.own.clear();
        (self.first, self.n_sure) = (first, 0);
    }

    /// The logits of the token after `text`, of which the model has read the first `n_read` tokens. `None` where the text
    /// is empty.
    pub(super) fn row_after(&mut self, text: &[Token], n_read: usize) -> Result<Option<&[f32]>, ExpertError> {
        self.keep(n_read);
        let Some((&token, before)) = text.split_last() else { return Ok(None) };
        let goes_on = !self.own.is_empty() && self.cached == before && self.end_state() < before.len();
        if goes_on {
            let decoded = self.ctx.decode_last(token, before.len(), &self.own);
            self.own.clear();
            decoded.inspect_err(|_| self.ctx.truncate(before.len()))?;
            self.cached.push(token);
        } else {
            self.read(text, true)?;
        }
        self.own.extend_from_slice(self.ctx.state().unwrap_or_default());
        Ok(self.ctx.row())
    }

    /// Reads `text` with the model's states, as far as they reach. With `row`, it reads all, and leaves the logits after
    /// the last token.
    fn read(&mut self, text: &[Token], row: bool) -> Result<(), ExpertError> {
        self.own.clear();
        let n_embd = self.ctx.n_embd();
        let (first_state, end_state) = (self.first_state, self.end_state());
        let end = if row { text.len() } else { text.len().min(end_state) };
        let mut start = common_prefix(&self.cached, text).min(self.n_sure);
        start = start.min(end.saturating_sub(usize::from(row)));
        // The state before the first one is missing after a jump. Where more is missing, it begins anew.
        if start < self.first || start < first_state {
            start = (first_state + 1).min(end.saturating_sub(usize::from(row)));
            self.begin_at(start);
        }
        self.ctx.truncate(start);
        self.cached.truncate(start);
        self.n_sure = self.n_sure.min(start);
        let Self { ctx, states, none, .. } = &mut *self;
        let state_before = |at: usize| {
            let known = (at > first_state && at <= end_state).then(|| (at - 1 - first_state) * n_embd);
            known.map_or(&none[..], |from| &states[from..from + n_embd])
        };
        let mut decode_all = || {
            let n_along = end - usize::from(row);
            for (at, &token) in text.iter().enumerate().take(n_along).skip(start) {
                ctx.push(token, at, state_before(at));
                let n = at + 1 - start;
                if at + 1 == n_along || n.is_multiple_of(ctx.n_batch()) {
                    ctx.decode()?;
                }
            }
            if row { ctx.decode_last(text[end - 1], end - 1, state_before(end - 1)) } else { Ok(()) }
        };
        decode_all().inspect_err(|_| self.ctx.truncate(start))?;
        self.cached.clear();
        self.cached.extend_from_slice(&text[..end]);
        self.n_sure = end.min(end_state + 1);
        // The last state is of use for the next token.
        let n_read = end.min(end_state).saturating_sub(first_state + 1);
        self.states.drain(..n_read * n_embd);
        self.first_state += n_read;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::path::Path;
    use std::sync::Arc;

    use super::super::SharedContext;
    use crate::engine::llama::{Adapters, CacheType, ContextParams, Driver, FlashAttention, Model, ModelParams};
    use crate::expert::Token;

    const N_DRAFT: usize = 4;

    /// A tiny model with a head, of scripts/tiny-heads.
    fn model(name: &str) -> (tempfile::TempDir, Arc<Model>) {
        let packed = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/families/models/{name}.mtp.gguf.gz"));
        let mut bytes = Vec::new();
        let file = std::fs::File::open(packed).expect("a model");
        flate2::read::GzDecoder::new(file).read_to_end(&mut bytes).expect("gzip");
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("model.gguf");
        std::fs::write(&path, bytes).expect("written");
        let params = ModelParams { n_gpu_layers: Some(0), ..ModelParams::default() };
        (folder, Model::load(&path, &params, &mut |_| true).expect("a model"))
    }

    /// In which only the model's own numbers are left.
    fn params() -> ContextParams {
        let (type_k, type_v, flash_attention) = (CacheType::F32, CacheType::F32, FlashAttention::Off);
        ContextParams { type_k, type_v, flash_attention, n_snapshots: 8, ..ContextParams::small(256) }
    }

    fn likeliest(row: &[f32]) -> Token {
        (0..row.len()).max_by(|a, b| row[*a].total_cmp(&row[*b])).expect("a vocabulary") as Token
    }

    fn context(model: &Arc<Model>) -> SharedContext {
        SharedContext::new(model, Adapters::All(Vec::new()), &params(), &[None]).expect("a context")
    }

    fn text() -> Vec<Token> {
        (0..150).map(|i| (40 + i * 7919 % 300) as Token).collect()
    }

    #[test]
    fn a_head_that_begins_late_drafts_and_after_forgetting_it_drafts_as_a_new_one() {
        let (_folder, model) = model("qwen35");
        let text = text();
        let mut rows = [vec![0.0; 384], vec![0.0; 384], vec![0.0; 384]];
        let mut new = context(&model);
        new.open_head(0).expect("a head");
        new.advance(0, &text[..100], 1).expect("rows");
        assert!(new.draft_row(0, &text[..101], &mut rows[0]).expect("drafted"));
        let mut late = context(&model);
        late.advance(0, &text[..60], 1).expect("rows");
        late.open_head(0).expect("a head");
        late.advance(0, &text[..100], 1).expect("rows");
        assert!(late.draft_row(0, &text[..101], &mut rows[1]).expect("drafted"));
        assert_ne!(rows[0], rows[1], "it cannot know the beginning");
        late.forget(0);
        late.advance(0, &text[..100], 1).expect("rows");
        assert!(late.draft_row(0, &text[..101], &mut rows[2]).expect("drafted"));
        assert_eq!(rows[0], rows[2]);
        late.close_head(0);
        assert!(!late.draft_row(0, &text[..101], &mut rows[2]).expect("none"));
    }

    #[test]
    fn a_head_drafts_what_the_driver_of_llama_cpp_drafts_with_it() {
        for name in ["qwen35", "qwen35moe", "qwen3next"] {
            let (_folder, model) = model(name);
            let mut context = context(&model);
            context.open_head(0).expect("a head");
            let mut row = vec![0.0; context.context().n_vocab()];
            let text = text();
            let mut drivers: Vec<_> = (1..=N_DRAFT).map(|n| Driver::new(&model, &params(), n as i32)).collect();
            // A prompt of many batches, steps of one token, and drafts of which a part is kept.
            let mut n_read = 0;
            for n in [100, 101, 102, 105, 109, 110, 111, 115] {
                context.advance(0, &text[..n], 1).expect("rows");
                let mut drafted = text[..n + 1].to_vec();
                for driver in &mut drivers {
                    for start in (n_read..n).step_by(32) {
                        driver.read(&text[..n.min(start + 32)], start);
                    }
                    let expected = driver.draft(&text[..n + 1]);
                    assert!(context.draft_row(0, &drafted, &mut row).expect("drafted"), "no head");
                    let own = &context.seqs[0].head.as_ref().expect("a head").own;
                    let far = own.iter().zip(driver.state()).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                    assert!(far < 1e-3, "{name}, {} after {n} tokens: {far}", expected.len());
                    let expected = *expected.last().expect("a token");
                    let gap = row[likeliest(&row) as usize] - row[expected as usize];
                    assert!(gap < 1e-3, "{name}: it drafts another token than {expected}, by {gap}");
                    drafted.push(expected);
                }
                n_read = n;
                // The model reads the draft and takes it back.
                context.advance(0, &drafted, drafted.len() - n).expect("rows");
            }
        }
    }
}
