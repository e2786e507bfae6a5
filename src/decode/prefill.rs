//! Prompts in chunks: a long one is read beside texts that are being generated, and stalls none of them.

use super::{DecodeError, Guided, Text};
use crate::expert::{Expert, ExpertError};

impl Text {
    /// Announces the next `max` tokens of the prompt to every model that lacks more than that. Returns whether any does: then
    /// [`read_chunk`](Self::read_chunk) follows, otherwise [`prepare`](Self::prepare) and [`step`](Self::step).
    ///
    /// Each model goes on from what it has in memory, so those that have read the prompt before wait for those that have not.
    pub fn prepare_chunk(&self, base: &mut dyn Expert, chain: &mut dyn Guided, max: usize) -> bool {
        if self.finish().is_some() {
            return false;
        }
        let history = self.history();
        let arms_lack = chain.prepare_chunk(history, max);
        let end = base.n_cached(history) + max;
        let base_lacks = end < history.len();
        if base_lacks {
            base.prepare(&history[..end], 1);
        }
        arms_lack || base_lacks
    }

    /// Reads what [`prepare_chunk`](Self::prepare_chunk) announced.
    ///
    /// # Errors
    ///
    /// When a model fails. A model whose context is too small for the prompt says so at the first [`step`](Self::step).
    pub fn read_chunk(&self, base: &mut dyn Expert, chain: &mut dyn Guided) -> Result<(), DecodeError> {
        let read = base.read().map_err(DecodeError::Base).and_then(|()| chain.read().map_err(DecodeError::Chain));
        match read {
            // The next step ends the text as interrupted.
            Err(DecodeError::Base(ExpertError::Interrupted)) => Ok(()),
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::{Flow, Greedy, generate};
    use crate::{TableExpert, Token};

    fn expert() -> TableExpert {
        TableExpert::new(5, 40, |history, logits| {
            logits.fill(0.0);
            logits[(history.iter().sum::<Token>() % 5) as usize] = 1.0;
        })
    }

    const PROMPT: [Token; 11] = [1, 2, 3, 4, 0, 1, 2, 3, 4, 0, 1];

    #[test]
    fn a_prompt_in_chunks_gives_the_text_of_a_prompt_at_once() {
        let whole =
            generate(&mut expert(), &mut Greedy, None, &PROMPT, 6, &|_| false, &mut |_| Flow::Continue).unwrap();
        let mut base = expert();
        let mut text = Text::begin(&base, &mut Greedy, &PROMPT, 6).unwrap();
        let mut read = Vec::new();
        while text.prepare_chunk(&mut base, &mut Greedy, 4) {
            text.read_chunk(&mut base, &mut Greedy).unwrap();
            read.push(base.n_decoded());
        }
        assert_eq!(read, [4, 8]);
        while text.finish().is_none() {
            text.prepare(&mut base, &mut Greedy);
            text.step(&mut base, &mut Greedy, None, &|_| false, &mut |_| Flow::Continue).unwrap();
        }
        assert_eq!(text.response(), whole.tokens);
        assert_eq!(base.n_decoded(), 11 + 5, "nothing is read twice");
    }

    #[test]
    fn what_is_in_memory_is_not_read_in_chunks_again() {
        let mut base = expert();
        base.advance(&PROMPT[..9], 1).unwrap();
        let text = Text::begin(&base, &mut Greedy, &PROMPT, 1).unwrap();
        assert!(!text.prepare_chunk(&mut base, &mut Greedy, 4));
        base.forget();
        assert!(text.prepare_chunk(&mut base, &mut Greedy, 4));
    }
}
