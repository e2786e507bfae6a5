//! Ways to answer a prompt: guided, the best of several, or ARGS.

use serde::{Deserialize, Serialize};

use crate::decode::text_generator::{GenerateError, GeneratedText, TextGenerator, TextRequest, seed_of};
use crate::guidance::score::Totals;

/// How to make a text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Strategy {
    /// One weight an ARM: of its guidance, or, where the best of several is taken, of its reward.
    pub weights: Vec<f32>,
    /// The preferences of the ARMs' objectives; empty leaves them as configured.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub preferences: Vec<f32>,
    /// Draw this many from the base alone, and keep the one with the largest Σ weight · reward.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub best_of: Option<usize>,
    /// Guide only among the base's k likeliest tokens (ARGS).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidates: Option<usize>,
}

impl Strategy {
    /// Guidance by these weights; all 0 is the base alone.
    pub fn guided(weights: Vec<f32>) -> Self {
        Self { weights, preferences: Vec::new(), best_of: None, candidates: None }
    }

    /// The same from a configuration's numbers: the weights of `n_arms` ARMs, then preferences.
    pub fn guided_by(numbers: &[f32], n_arms: usize) -> Self {
        let (weights, preferences) = numbers.split_at(n_arms.min(numbers.len()));
        Self { preferences: preferences.to_vec(), ..Self::guided(weights.to_vec()) }
    }

    /// Its preferences behind these weights.
    fn numbers(&self, weights: &[f32]) -> Vec<f32> {
        [weights, &self.preferences].concat()
    }

    /// Whether it is the base alone.
    pub fn is_base(&self) -> bool {
        self.best_of.is_none() && self.candidates.is_none() && self.weights.iter().all(|w| *w == 0.0)
    }
}

/// A text with its sums.
#[derive(Debug, Clone, PartialEq)]
pub struct Made {
    /// The text.
    pub text: GeneratedText,
    /// What the models say about it, under the guidance that made it.
    pub totals: Totals,
    /// How far it is from the base, in nats. Of guidance Σ KL(guided ‖ base) over its steps; of the best of n what n
    /// draws can move at most, ln n − (n − 1)/n.
    pub kl: f64,
}

/// Makes and scores a text for each (prompt, strategy). `each` is called whenever one is done.
///
/// # Errors
///
/// As [`TextGenerator`]'s.
pub fn make(
    generator: &mut dyn TextGenerator,
    items: &[(usize, &Strategy)],
    seed: u32,
    each: &mut dyn FnMut(),
) -> Result<Vec<Made>, GenerateError> {
    let n_copies = |strategy: &Strategy| strategy.best_of.unwrap_or(1).max(1);
    let requests: Vec<TextRequest> =
        items.iter().flat_map(|(prompt, strategy)| requests(*prompt, strategy, seed)).collect();
    // Reported by the item, not by the draw.
    let ends: Vec<usize> = items
        .iter()
        .scan(0, |n, (_, strategy)| {
            *n += n_copies(strategy);
            Some(*n)
        })
        .collect();
    let (mut n_done, mut n_told) = (0, 0);
    let mut texts = generator
        .generate(&requests, &mut || {
            n_done += 1;
            while ends.get(n_told).is_some_and(|end| *end <= n_done) {
                n_told += 1;
                each();
            }
        })?
        .into_iter();
    let mut made = Vec::with_capacity(items.len());
    for (prompt, strategy) in items {
        let copies: Vec<GeneratedText> = texts.by_ref().take(n_copies(strategy)).collect();
        made.push(match strategy.best_of {
            None => guided(generator, *prompt, strategy, copies)?,
            Some(n) => best(generator, *prompt, strategy, copies, n)?,
        });
    }
    Ok(made)
}

fn requests(prompt: usize, strategy: &Strategy, seed: u32) -> Vec<TextRequest> {
    let weights = match strategy.best_of {
        Some(_) => vec![0.0; strategy.weights.len()],
        None => strategy.weights.clone(),
    };
    let request = |copy| TextRequest {
        prompt,
        weights: strategy.numbers(&weights),
        seed: seed_of(seed, prompt, copy),
        candidates: strategy.candidates,
    };
    (0..strategy.best_of.unwrap_or(1).max(1)).map(request).collect()
}

fn guided(
    generator: &mut dyn TextGenerator,
    prompt: usize,
    strategy: &Strategy,
    copies: Vec<GeneratedText>,
) -> Result<Made, GenerateError> {
    let text = copies.into_iter().next().expect("one text a request");
    let totals = totals(generator, prompt, &text, strategy, &strategy.weights)?;
    Ok(Made { kl: totals.kl, text, totals })
}

fn best(
    generator: &mut dyn TextGenerator,
    prompt: usize,
    strategy: &Strategy,
    copies: Vec<GeneratedText>,
    n: usize,
) -> Result<Made, GenerateError> {
    let alone = vec![0.0; strategy.weights.len()];
    let mut best: Option<(f64, Made)> = None;
    for text in copies {
        let totals = totals(generator, prompt, &text, strategy, &alone)?;
        let reward: f64 = strategy.weights.iter().zip(&totals.arms).map(|(w, r)| f64::from(*w) * r).sum();
        if best.as_ref().is_none_or(|(most, _)| reward > *most) {
            let n = n.max(1) as f64;
            best = Some((reward, Made { text, totals, kl: n.ln() - (n - 1.0) / n }));
        }
    }
    Ok(best.expect("at least one text").1)
}

fn totals(
    generator: &mut dyn TextGenerator,
    prompt: usize,
    text: &GeneratedText,
    strategy: &Strategy,
    weights: &[f32],
) -> Result<Totals, GenerateError> {
    Ok(Totals::of(&generator.score(prompt, &text.tokens, &strategy.numbers(weights))?, weights.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::Finish;
    use crate::expert::Token;
    use crate::guidance::score::TokenScore;

    /// Says its seed, and is scored by the last digit of its only token.
    struct Fake;

    impl TextGenerator for Fake {
        fn generate(
            &mut self,
            requests: &[TextRequest],
            each: &mut dyn FnMut(),
        ) -> Result<Vec<GeneratedText>, GenerateError> {
            let make = |request: &TextRequest| {
                each();
                let token = request.seed as Token;
                GeneratedText { tokens: vec![token], text: format!("{:?}", request.weights), finish: Finish::Length }
            };
            Ok(requests.iter().map(make).collect())
        }

        fn score(&mut self, _: usize, response: &[Token], _: &[f32]) -> Result<Vec<TokenScore>, GenerateError> {
            let token = response[0];
            let arms = vec![(token % 10) as f32];
            Ok(vec![TokenScore::of_arms(token, arms)])
        }
    }

    #[test]
    fn the_best_of_n_is_drawn_from_the_base_and_has_the_largest_reward() {
        let strategy = Strategy { best_of: Some(16), ..Strategy::guided(vec![2.0]) };
        let mut n_told = 0;
        let made = make(&mut Fake, &[(0, &strategy), (1, &strategy)], 5, &mut || n_told += 1).unwrap();
        for (prompt, made) in made.iter().enumerate() {
            let most = (0..16).map(|copy| seed_of(5, prompt, copy) % 10).max().unwrap();
            assert_eq!((made.totals.arms[0], made.text.text.as_str()), (f64::from(most), "[0.0]"));
            assert!((made.kl - (16f64.ln() - 15.0 / 16.0)).abs() < 1e-12);
        }
        assert_eq!(n_told, 2);
        // A negative weight wants the least.
        let least = Strategy { best_of: Some(16), ..Strategy::guided(vec![-1.0]) };
        let made = make(&mut Fake, &[(0, &least)], 5, &mut || ()).unwrap();
        assert_eq!(made[0].totals.arms[0], f64::from((0..16).map(|c| seed_of(5, 0, c) % 10).min().unwrap()));
    }

    #[test]
    fn a_guided_text_has_the_divergence_of_its_steps() {
        let made = make(&mut Fake, &[(3, &Strategy::guided(vec![0.7]))], 5, &mut || ()).unwrap();
        assert_eq!((made[0].kl, made[0].text.text.as_str()), (0.5, "[0.7]"));
    }
}
