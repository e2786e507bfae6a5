//! How many tokens of prompts fit into a step beside texts that are being generated, so that none of these waits for
//! more than two steps.

/// A step with prompts aims at so many times the time of one without: the rest of two is for what is not foreseen.
const AIM: f64 = 1.7;
/// Tokens of prompts in such a step before any has been timed.
const FIRST: usize = 8;
/// Fewer would pay for reading the weights without reading much of the prompt.
const LEAST: usize = 4;
const MOST: usize = 512;
/// What the last step counts in a mean over the steps before it.
const SHARE: f64 = 0.4;

/// Times of steps.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// Texts that were being generated in the last step.
    n_generating: usize,
    /// Seconds of a step without prompts.
    plain: Option<f64>,
    /// Seconds that a token of a prompt adds.
    token: Option<f64>,
}

impl Pace {
    /// Tokens of prompts for the next step beside `n_generating` texts.
    pub fn n_tokens(&self) -> usize {
        match (self.plain, self.token) {
            (Some(plain), Some(token)) => {
                ((AIM - 1.0) * plain / token.max(1e-9)).clamp(LEAST as f64, MOST as f64) as usize
            }
            _ => FIRST,
        }
    }

    /// Takes note of a step that read `n_tokens` of prompts beside `n_generating` texts.
    pub fn record(&mut self, n_generating: usize, n_tokens: usize, seconds: f64) {
        if n_generating == 0 {
            return;
        }
        let mean = |before: Option<f64>, now: f64| before.map_or(now, |before| before + SHARE * (now - before));
        match (n_tokens, self.plain) {
            (0, before) => {
                self.plain = Some(mean(before.filter(|_| n_generating == self.n_generating), seconds));
                self.n_generating = n_generating;
            }
            (_, Some(plain)) => self.token = Some(mean(self.token, (seconds - plain).max(0.0) / n_tokens as f64)),
            (_, None) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Steps with a prompt after some without, by the time of a step of so many rows: what each takes, in plain steps.
    fn steps(n_generating: usize, n_prompt: usize, time: impl Fn(usize) -> f64) -> Vec<f64> {
        let mut pace = Pace::default();
        let plain = time(n_generating);
        (0..3).for_each(|_| pace.record(n_generating, 0, plain));
        let (mut left, mut taken) = (n_prompt, Vec::new());
        while left > 0 {
            let n = pace.n_tokens().min(left);
            let seconds = time(n_generating + n);
            pace.record(n_generating, n, seconds);
            taken.push(seconds / plain);
            left -= n;
        }
        taken
    }

    proptest! {
        #[test]
        fn no_text_waits_for_more_than_two_steps_and_the_prompt_is_read_soon(
            weights in 0.01..1.0f64,
            row in 0.001..0.02f64,
            n_generating in 1..16usize,
        ) {
            // Reading the weights, then so much a row: a row is at most a fifth of the weights, as on processors.
            let row = row.min(weights / 5.0);
            let taken = steps(n_generating, 1000, |n| weights + row * n as f64);
            let first = 1.0 + FIRST as f64 * row / (weights + row * n_generating as f64);
            prop_assert!(taken[1..].iter().all(|steps| *steps <= 2.0), "{taken:?}");
            prop_assert!(taken[0] <= first + 1e-9);
            let mean = taken[1..].iter().sum::<f64>() / (taken.len() - 1) as f64;
            prop_assert!(mean > 1.25 || taken.len() < 8, "{mean}: {taken:?}");
        }
    }

    #[test]
    fn a_step_without_prompts_of_fewer_texts_is_measured_anew() {
        let mut pace = Pace::default();
        (0..9).for_each(|_| pace.record(8, 0, 0.4));
        pace.record(8, 16, 0.4 + 16.0 * 0.01);
        assert!((27..=28).contains(&pace.n_tokens()));
        pace.record(1, 0, 0.1);
        assert!((6..=7).contains(&pace.n_tokens()));
    }

    #[test]
    fn steps_of_prompts_alone_say_nothing() {
        let mut pace = Pace::default();
        pace.record(0, 512, 5.0);
        pace.record(3, 16, 5.0);
        assert_eq!(pace.n_tokens(), FIRST);
    }

    #[test]
    fn a_prompt_is_read_however_slow_it_is() {
        let taken = steps(1, 100, |n| 0.1 + n as f64);
        assert!(taken.len() <= 100 / LEAST, "{}", taken.len());
    }
}
