//! One token at a time.

use std::time::{Duration, Instant};

use super::{Chain, ChainFault};
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

/// Continues `prompt` by up to `n_predict` tokens. `chain` is at the beginning of a text.
///
/// A full context, the base's or an ARM's, ends the text with [`Finish::Length`]; an interruption with
/// [`Finish::Interrupted`]. In both cases what was generated is there.
///
/// # Errors
///
/// [`DecodeError`]. Tokens that `each` has seen remain valid.
pub fn generate(
    base: &mut dyn Expert,
    chain: &mut dyn Chain,
    prompt: &[Token],
    n_predict: usize,
    is_eog: &dyn Fn(Token) -> bool,
    each: &mut dyn FnMut(Step<'_>) -> Flow,
) -> Result<Generated, DecodeError> {
    let n_prompt = prompt.len();
    if n_prompt == 0 {
        return Err(DecodeError::EmptyPrompt);
    }
    if n_prompt > base.n_ctx() {
        return Err(DecodeError::PromptTooLong { n_prompt, n_ctx: base.n_ctx() });
    }
    prompt.iter().for_each(|token| chain.accept(*token, false));
    let mut history = Vec::with_capacity(n_prompt + n_predict.min(base.n_ctx()));
    history.extend_from_slice(prompt);
    let (mut times, mut finish) = ([Duration::ZERO; 2], Finish::Length);
    while history.len() - n_prompt < n_predict {
        let start = Instant::now();
        chain.prepare(&history, 1);
        let logits = match base.advance(&history, 1) {
            Ok(logits) => logits,
            Err(ExpertError::ContextFull { .. }) => break,
            Err(ExpertError::Interrupted) => {
                finish = Finish::Interrupted;
                break;
            }
            Err(error) => return Err(error.into()),
        };
        times[usize::from(history.len() > n_prompt)] += start.elapsed();
        let token = match chain.sample(logits) {
            Ok(token) => token,
            Err(ChainFault::Guide(fault)) => match fault.source {
                ExpertError::ContextFull { n_ctx, wanted } if history.len() == n_prompt => {
                    return Err(DecodeError::PromptTooLong { n_prompt: wanted, n_ctx });
                }
                ExpertError::ContextFull { .. } => break,
                ExpertError::Interrupted => {
                    finish = Finish::Interrupted;
                    break;
                }
                _ => return Err(ChainFault::Guide(fault).into()),
            },
            Err(fault) => return Err(fault.into()),
        };
        if is_eog(token) {
            finish = Finish::Eos;
            break;
        }
        let flow = each(Step { token, history: &history, logits });
        chain.accept(token, true);
        history.push(token);
        if flow == Flow::Stop {
            finish = Finish::Stop;
            break;
        }
    }
    let tokens = history.split_off(n_prompt);
    Ok(Generated { tokens, finish, prompt: times[0], base: times[1] })
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
