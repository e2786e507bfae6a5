//! Prompts in chunks: a long one is read beside texts that are being generated, and stalls none of them.

use super::{ChainFault, DecodeError, Finish, Guided, Text};
use crate::expert::{Expert, ExpertError};

impl Text {
    /// Announces the next `max` tokens of the prompt to every model that lacks more than that. Returns whether any
    /// does: then [`read_chunk`](Self::read_chunk) follows, otherwise [`prepare`](Self::prepare) and
    /// [`step`](Self::step).
    ///
    /// Each model goes on from what it has in memory, so those that have read the prompt before wait for those that
    /// have not.
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

    /// Reads what [`prepare_chunk`](Self::prepare_chunk) announced. An interruption ends the text with
    /// [`Finish::Interrupted`], as in a [`step`](Self::step).
    ///
    /// # Errors
    ///
    /// When a model fails. A model whose context is too small for the prompt is reported by the first
    /// [`step`](Self::step).
    pub fn read_chunk(&mut self, base: &mut dyn Expert, chain: &mut dyn Guided) -> Result<(), DecodeError> {
        let read = base.read().map_err(DecodeError::Base).and_then(|()| chain.read().map_err(DecodeError::Chain));
        let source = match &read {
            Err(DecodeError::Base(source)) => Some(source),
            Err(DecodeError::Chain(ChainFault::Guide(fault))) => Some(&fault.source),
            _ => None,
        };
        if source == Some(&ExpertError::Interrupted) {
            self.finish = Some(Finish::Interrupted);
            return Ok(());
        }
        read
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::{Flow, Greedy, generate};
    use crate::guidance::GuideError;
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

    /// ARMs that the user interrupts while they read.
    struct InterruptedArms;

    impl Guided for InterruptedArms {
        fn prepare(&mut self, _: &[Token], _: usize) {}

        fn start(&mut self) {}

        fn prepare_chunk(&mut self, _: &[Token], _: usize) -> bool {
            true
        }

        fn read(&mut self) -> Result<(), ChainFault> {
            Err(GuideError { arm: "arm".into(), source: ExpertError::Interrupted }.into())
        }

        fn verify(&mut self, _: &[Token], _: &[f32], _: usize) -> Result<(), ChainFault> {
            Ok(())
        }

        fn room(&mut self, _: usize) -> usize {
            usize::MAX
        }

        fn guide(&mut self, _: &[Token], _: &mut [f32]) -> Result<(), ChainFault> {
            Ok(())
        }

        fn arm_row(&mut self, _: usize, _: &[Token], _: &mut dyn FnMut(&[f32])) -> Result<(), ChainFault> {
            Err(ChainFault::NoCandidate)
        }
    }

    #[test]
    fn an_interruption_ends_the_reading_of_a_prompt() {
        let mut base = expert();
        let mut text = Text::begin(&base, &mut Greedy, &PROMPT, 6).unwrap();
        assert!(text.prepare_chunk(&mut base, &mut InterruptedArms, 4));
        text.read_chunk(&mut base, &mut InterruptedArms).unwrap();
        assert_eq!(text.finish(), Some(Finish::Interrupted));
        assert!(!text.prepare_chunk(&mut base, &mut InterruptedArms, 4));
    }
}
