//! One token at a time.

use std::time::{Duration, Instant};

use super::{Chain, ChainFault, Speculation};
use crate::expert::{Expert, ExpertError, Token};

/// Why a text ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Finish {
    /// A stop string, or the caller, ended it.
    Stop,
    /// The wanted number of tokens is reached, or a context is full.
    Length,
    /// The model drew an end-of-generation token.
    Eos,
    /// The user interrupted it.
    Interrupted,
}

/// Whether to go on after a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// Draw another.
    Continue,
    /// End with [`Finish::Stop`].
    Stop,
}

/// A token, just drawn.
pub struct Step<'a> {
    /// The token.
    pub token: Token,
    /// The history that it follows.
    pub history: &'a [Token],
    /// The base's raw logits that it was drawn from.
    pub logits: &'a [f32],
}

/// What was generated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generated {
    /// The tokens, without the end-of-generation token.
    pub tokens: Vec<Token>,
    /// Why it ended.
    pub finish: Finish,
    /// Time that the base took to read the prompt and give its first logits.
    pub prompt: Duration,
    /// Time that the base took for all later tokens.
    pub base: Duration,
    /// What speculation did; nothing in a plain run.
    pub speculation: Speculation,
}

/// Why decoding failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// There is nothing to continue.
    #[error("the prompt is empty, and this model has no token that begins a text; give at least one token")]
    EmptyPrompt,
    /// The prompt does not fit.
    #[error("the prompt has {n_prompt} tokens and the context only {n_ctx}; shorten it or give a larger --n-ctx")]
    PromptTooLong {
        /// Tokens of the prompt.
        n_prompt: usize,
        /// Tokens that fit.
        n_ctx: usize,
    },
    /// The base failed.
    #[error("base: {0}")]
    Base(#[from] ExpertError),
    /// Guidance or sampling failed.
    #[error(transparent)]
    Chain(#[from] ChainFault),
}

/// One text while it is being generated: its history, and why it has ended.
///
/// Several texts are generated at once by [preparing](Self::prepare) all of them, then taking a [step](Self::step) with each:
/// experts that share a context are then decoded in one batch.
///
/// [`cycle`](Self::cycle) takes several tokens at once instead; steps and cycles may follow each other in any order.
#[derive(Debug, Clone)]
pub struct Text {
    pub(super) history: Vec<Token>,
    pub(super) n_prompt: usize,
    pub(super) n_predict: usize,
    pub(super) finish: Option<Finish>,
    pub(super) prompt: Duration,
    pub(super) base: Duration,
    pub(super) speculation: Speculation,
}

impl Text {
    /// A text that continues `prompt` by up to `n_predict` tokens. `chain` is at the beginning of a text, and is told the prompt.
    ///
    /// # Errors
    ///
    /// [`DecodeError::EmptyPrompt`], [`DecodeError::PromptTooLong`].
    pub fn begin(
        base: &dyn Expert,
        chain: &mut dyn Chain,
        prompt: &[Token],
        n_predict: usize,
    ) -> Result<Self, DecodeError> {
        check(base, prompt)?;
        let n_prompt = prompt.len();
        prompt.iter().for_each(|token| chain.accept(*token, false));
        let mut history = Vec::with_capacity(n_prompt + n_predict.min(base.n_ctx()));
        history.extend_from_slice(prompt);
        let finish = (n_predict == 0).then_some(Finish::Length);
        let (prompt, base, speculation) = (Duration::ZERO, Duration::ZERO, Speculation::default());
        Ok(Self { history, n_prompt, n_predict, finish, prompt, base, speculation })
    }

    /// What speculation has done for it.
    pub fn speculation(&self) -> &Speculation {
        &self.speculation
    }

    /// Why it has ended, if it has.
    pub fn finish(&self) -> Option<Finish> {
        self.finish
    }

    /// Prompt and response so far.
    pub fn history(&self) -> &[Token] {
        &self.history
    }

    /// The response so far.
    pub fn response(&self) -> &[Token] {
        &self.history[self.n_prompt..]
    }

    /// Announces the next [`step`](Self::step) to everybody who takes part in it.
    pub fn prepare(&self, base: &mut dyn Expert, chain: &mut dyn Chain) {
        if self.finish.is_none() {
            chain.prepare(&self.history, 1);
            base.prepare(&self.history, 1);
        }
    }

    /// Draws the next token, or ends the text. Does nothing once it has ended.
    ///
    /// A full context, the base's or an ARM's, ends the text with [`Finish::Length`]; an interruption with
    /// [`Finish::Interrupted`]. In both cases what was generated is there.
    ///
    /// # Errors
    ///
    /// [`DecodeError`]. Tokens that `each` has seen remain valid.
    pub fn step(
        &mut self,
        base: &mut dyn Expert,
        chain: &mut dyn Chain,
        is_eog: &dyn Fn(Token) -> bool,
        each: &mut dyn FnMut(Step<'_>) -> Flow,
    ) -> Result<(), DecodeError> {
        if self.finish.is_some() {
            return Ok(());
        }
        let start = Instant::now();
        // Twice, as the first time only what is on devices starts: the base is among them, and the rest computes meanwhile.
        chain.prepare(&self.history, 1);
        base.prepare(&self.history, 1);
        chain.prepare(&self.history, 1);
        let logits = match base.advance(&self.history, 1) {
            Ok(logits) => logits,
            Err(ExpertError::ContextFull { .. }) => return self.end(Finish::Length),
            Err(ExpertError::Interrupted) => return self.end(Finish::Interrupted),
            Err(error) => return Err(error.into()),
        };
        *(if self.response().is_empty() { &mut self.prompt } else { &mut self.base }) += start.elapsed();
        let token = match chain.sample(logits) {
            Ok(token) => token,
            Err(fault) => {
                let finish = ending(fault, self.response().is_empty())?;
                return self.end(finish);
            }
        };
        if is_eog(token) {
            return self.end(Finish::Eos);
        }
        let flow = each(Step { token, history: &self.history, logits });
        chain.accept(token, true);
        self.history.push(token);
        if flow == Flow::Stop {
            self.finish = Some(Finish::Stop);
        } else if self.response().len() >= self.n_predict {
            self.finish = Some(Finish::Length);
        }
        Ok(())
    }

    fn end(&mut self, finish: Finish) -> Result<(), DecodeError> {
        self.finish = Some(finish);
        Ok(())
    }

    /// What was generated. A text that has not ended counts as interrupted.
    pub fn into_generated(mut self) -> Generated {
        let tokens = self.history.split_off(self.n_prompt);
        let finish = self.finish.unwrap_or(Finish::Interrupted);
        Generated { tokens, finish, prompt: self.prompt, base: self.base, speculation: self.speculation }
    }
}

/// Continues `prompt` by up to `n_predict` tokens. `chain` is at the beginning of a text.
///
/// # Errors
///
/// As [`Text::begin`] and [`Text::step`].
pub fn generate(
    base: &mut dyn Expert,
    chain: &mut dyn Chain,
    prompt: &[Token],
    n_predict: usize,
    is_eog: &dyn Fn(Token) -> bool,
    each: &mut dyn FnMut(Step<'_>) -> Flow,
) -> Result<Generated, DecodeError> {
    let mut text = Text::begin(base, chain, prompt, n_predict)?;
    while text.finish().is_none() {
        text.step(base, chain, is_eog, each)?;
    }
    Ok(text.into_generated())
}

/// Refuses a prompt that nobody can continue.
fn check(base: &dyn Expert, prompt: &[Token]) -> Result<(), DecodeError> {
    let (n_prompt, n_ctx) = (prompt.len(), base.n_ctx());
    match n_prompt {
        0 => Err(DecodeError::EmptyPrompt),
        _ if n_prompt > n_ctx => Err(DecodeError::PromptTooLong { n_prompt, n_ctx }),
        _ => Ok(()),
    }
}

/// How a text ends of which no further token could be drawn.
pub(super) fn ending(fault: ChainFault, at_prompt: bool) -> Result<Finish, DecodeError> {
    let source = match &fault {
        ChainFault::Guide(fault) => &fault.source,
        ChainFault::Draft(source) => source,
        ChainFault::Base(source) => return Err(DecodeError::Base(source.clone())),
        ChainFault::NoCandidate | ChainFault::Grammar { .. } => return Err(fault.into()),
    };
    match *source {
        ExpertError::ContextFull { n_ctx, wanted } if at_prompt => {
            Err(DecodeError::PromptTooLong { n_prompt: wanted, n_ctx })
        }
        ExpertError::ContextFull { .. } => Ok(Finish::Length),
        ExpertError::Interrupted => Ok(Finish::Interrupted),
        _ => Err(fault.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TableExpert;
    use crate::decode::Greedy;

    /// After token t comes t + 1, round 5.
    fn counter() -> TableExpert {
        TableExpert::new(5, 12, |history, logits| {
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
        generate(expert, &mut Greedy, prompt, n, &|t| t == eog, &mut each)
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
}
