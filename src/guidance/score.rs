//! The reward of every token of a given response, and what guidance would have done there.

use serde::Serialize;

use super::arm::ArmRows;
use super::combine::floor_within;
use super::report::argmax;
use super::tilt::add_divergences;
use super::{Guide, GuideError, Source, add_weighted, kl_divergence, log_softmax, log_sum_exp};
use crate::expert::{Expert, ExpertError, Token, check_finite};

/// What each model gives one token of a response. Logarithms are natural, at temperature 1.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct TokenScore {
    /// The token.
    pub token: Token,
    /// Its log-probability under the base.
    pub base: f32,
    /// Its log-probability under the guided distribution.
    pub guided: f32,
    /// Its log-probability under each ARM.
    pub arms: Vec<f32>,
    /// That under each ARM's reference, where the ARM has one.
    #[serde(skip_serializing_if = "no_references")]
    pub references: Vec<Option<f32>>,
    /// KL(guided ‖ base) at this position, in nats.
    pub kl: f32,
    /// Entropy of the base here, in nats.
    pub entropy: f32,
    /// Probability of the token that the base likes most here.
    pub top_p: f32,
    /// The token that the base likes most here.
    pub base_best: Token,
    /// The token that the guided distribution likes most here.
    pub guided_best: Token,
}

fn no_references(references: &[Option<f32>]) -> bool {
    references.iter().all(Option::is_none)
}

#[cfg(all(test, feature = "eval"))]
impl TokenScore {
    /// A score that only a test's ARMs make different.
    pub(crate) fn of_arms(token: Token, arms: Vec<f32>) -> Self {
        Self {
            token,
            base: -1.0,
            guided: -1.0,
            references: vec![None; arms.len()],
            arms,
            kl: 0.5,
            entropy: 1.0,
            top_p: 0.5,
            base_best: 0,
            guided_best: 0,
        }
    }
}

impl TokenScore {
    /// Its reward under an ARM, but for the factor β_r: the log-probability, less that of the reference if there is
    /// one.
    pub fn reward(&self, arm: usize) -> f32 {
        self.arms[arm] - self.references[arm].unwrap_or(0.0)
    }

    /// Whether guidance changes the likeliest token.
    pub fn flipped(&self) -> bool {
        self.base_best != self.guided_best
    }
}

/// The sums over a response.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Totals {
    /// Tokens of the response.
    pub n_tokens: usize,
    /// Σ log π of the base, in nats.
    pub base: f64,
    /// Σ log p of the guided distribution, in nats.
    pub guided: f64,
    /// Σ log π of each ARM, less that of its reference if it has one, in nats: times β_r, its reward.
    pub arms: Vec<f64>,
    /// Σ KL(guided ‖ base) over the positions, in nats: the divergence of a text that guidance has written.
    pub kl: f64,
    /// Positions at which guidance changes the likeliest token.
    pub n_flipped: usize,
}

impl Totals {
    /// Of these tokens, scored by `n_arms` ARMs.
    pub fn of(tokens: &[TokenScore], n_arms: usize) -> Self {
        let sum = |f: &dyn Fn(&TokenScore) -> f32| tokens.iter().map(|t| f64::from(f(t))).sum();
        Self {
            n_tokens: tokens.len(),
            base: sum(&|t| t.base),
            guided: sum(&|t| t.guided),
            arms: (0..n_arms).map(|i| sum(&|t| t.reward(i))).collect(),
            kl: sum(&|t| t.kl),
            n_flipped: tokens.iter().filter(|t| t.flipped()).count(),
        }
    }
}

/// What every model reads before the response.
#[derive(Debug, Clone, Copy)]
pub struct ScoredPrompts<'a> {
    /// The base's tokens, at least one.
    pub base: &'a [Token],
    /// For each expert of the guide its own tokens; `None` reads the base's.
    pub experts: &'a [Option<Vec<Token>>],
    /// Tokens at the end of both that belong to the response: they have been scored before.
    pub n_done: usize,
}

impl<'a> ScoredPrompts<'a> {
    /// Prompts of a response of which nothing has been scored yet.
    pub fn new(base: &'a [Token], experts: &'a [Option<Vec<Token>>]) -> Self {
        Self { base, experts, n_done: 0 }
    }
}

/// Positions read at once: enough for a full batch, and few rows of logits to hold.
const CHUNK: usize = 64;

/// Scores each token of `response` under the base and all ARMs of `guide`, and under the guidance of `weights` (one per
/// ARM).
///
/// # Errors
///
/// When the response does not fit a context, or a model fails; the base is then called "base" in the error.
///
/// # Cost
///
/// Each model reads prompt and response once, in batches; then some passes over the vocabulary with `exp` a token and
/// model.
pub fn score(
    base: &mut dyn Expert,
    guide: &mut Guide,
    prompts: ScoredPrompts<'_>,
    response: &[Token],
    weights: &[f32],
) -> Result<Vec<TokenScore>, GuideError> {
    let mut scores = Vec::with_capacity(response.len());
    let mut guided = Vec::new();
    let mut of_experts = Vec::new();
    at_positions(base, guide, prompts, response, |guide, token, base, experts| {
        guide.combine(weights, base, experts, &mut guided);
        let mut score = token_score(token, base, &guided);
        of_experts.clear();
        // An expert that is not in use has no row.
        of_experts.extend(experts.iter().map(|Scored { row, reward }| match reward {
            Some(reward) => *reward,
            None if row.is_empty() => 0.0,
            None => log_prob(row, token, base.len()),
        }));
        let log_of = |source: Source| source.expert().map_or(score.base, |at| of_experts[at]);
        score.arms = guide.in_use().map(|(_, direction)| log_of(direction.arm)).collect();
        score.references = guide.in_use().map(|(_, direction)| direction.reference.map(log_of)).collect();
        scores.push(score);
    })?;
    Ok(scores)
}

/// Σ KL(guided ‖ base) over the positions of `response`, in nats, for each ARM of `guide` alone at each of `weights`:
/// `sums[arm][weight]`. The text stays the same, so this is the divergence at its positions, and not of a text that
/// guidance writes.
///
/// # Errors
///
/// As [`score`].
pub fn divergences(
    base: &mut dyn Expert,
    guide: &mut Guide,
    prompts: ScoredPrompts<'_>,
    response: &[Token],
    weights: &[f32],
) -> Result<Vec<Vec<f64>>, GuideError> {
    let directions = guide.directions().to_vec();
    let mut sums = vec![vec![0.0; weights.len()]; directions.len()];
    let (mut shift, mut allowed) = (Vec::new(), Vec::new());
    at_positions(base, guide, prompts, response, |_, _, base, experts| {
        let row = |source| match source {
            Source::Base => base,
            Source::Expert(expert) => experts[expert].row,
        };
        for (direction, sums) in directions.iter().zip(&mut sums) {
            shift.clear();
            shift.resize(base.len(), 0.0);
            let mut add = |row: &[f32], factor| add_weighted(&mut shift, row, floor_within(row, base.len()), factor);
            add(row(direction.arm), 1.0);
            direction.reference.into_iter().for_each(|reference| add(row(reference), -1.0));
            // What an ARM forbids takes no part.
            allowed.clear();
            allowed.extend_from_slice(base);
            for (allowed, shift) in allowed.iter_mut().zip(&mut shift).filter(|(_, shift)| **shift == f32::NEG_INFINITY)
            {
                (*allowed, *shift) = (f32::NEG_INFINITY, 0.0);
            }
            add_divergences(&allowed, &shift, weights, sums);
        }
    })?;
    Ok(sums)
}

/// Reads prompt and response, and hands the rows before each token of the response to `each`: the base's, and those of
/// all experts in use (empty for the others).
fn at_positions(
    base: &mut dyn Expert,
    guide: &mut Guide,
    prompts: ScoredPrompts<'_>,
    response: &[Token],
    mut each: impl FnMut(&mut Guide, Token, &[f32], &[Scored<'_>]),
) -> Result<(), GuideError> {
    let n_vocab = base.n_vocab();
    guide.update();
    let n_prompt = prompts.base.len() - prompts.n_done;
    // Once for all chunks. What has been scored before is no part of the prompt.
    for (arm, own) in guide.experts().iter_mut().zip(prompts.experts) {
        let own = own.as_ref().map(|own| own[..own.len() - prompts.n_done].to_vec());
        arm.begin(own, n_prompt);
    }
    let mut history = prompts.base.to_vec();
    let mut before: &[Token] = &[];
    let used = guide.used_experts().to_vec();
    let of_used = guide.experts().iter_mut().zip(&used).filter(|(_, used)| **used);
    let n = of_used.map(|(expert, _)| expert.expert().max_rows()).fold(CHUNK.min(base.max_rows()), usize::min);
    for chunk in response.chunks(n.max(1)) {
        // The row after a token predicts the next one, so the last token of the chunk is not read yet.
        history.extend_from_slice(before);
        history.extend_from_slice(&chunk[..chunk.len() - 1]);
        let base_rows = base.advance(&history, chunk.len()).map_err(GuideError::of_base)?;
        check_rows(base_rows, n_vocab).map_err(GuideError::of_base)?;
        let mut of_experts: Vec<ScoredRows> = Vec::with_capacity(used.len());
        before = &chunk[chunk.len() - 1..];
        let whole = [&history[..], before].concat();
        for (expert, used) in guide.experts().iter_mut().zip(&used) {
            if !used {
                of_experts.push(ScoredRows { rows: Vec::new(), n_vocab: 0, rewards: None });
                continue;
            }
            let ArmRows { rows, n_vocab, .. } = expert.rows(&history, n_prompt, chunk.len(), base_rows)?;
            let rows = rows.to_vec();
            if !expert.is_translated() {
                let fail = |source| GuideError { arm: expert.name().to_owned(), source };
                check_rows(&rows, n_vocab).map_err(fail)?;
            }
            let rewards = expert.rewards(&whole, chunk.len())?;
            of_experts.push(ScoredRows { rows, n_vocab, rewards });
        }
        for (i, (base, token)) in base_rows.chunks_exact(n_vocab).zip(chunk).enumerate() {
            let experts: Vec<_> = of_experts.iter().map(|expert| expert.at(i)).collect();
            each(guide, *token, base, &experts);
        }
    }
    Ok(())
}

/// An expert's rows of a chunk.
struct ScoredRows {
    rows: Vec<f32>,
    n_vocab: usize,
    /// The log-probabilities of the tokens, where the rows do not have them.
    rewards: Option<Vec<f32>>,
}

/// What an expert makes of a position.
struct Scored<'a> {
    /// Its row, of its own vocabulary; of a translated expert, of the base's.
    row: &'a [f32],
    /// The log-probability of the token, where the row does not have it.
    reward: Option<f32>,
}

impl ScoredRows {
    fn at(&self, i: usize) -> Scored<'_> {
        let row = self.rows.get(i * self.n_vocab..(i + 1) * self.n_vocab).unwrap_or_default();
        Scored { row, reward: self.rewards.as_ref().map(|rewards| rewards[i]) }
    }
}

impl AsRef<[f32]> for Scored<'_> {
    fn as_ref(&self) -> &[f32] {
        self.row
    }
}

/// Σ log π of `response` after `prompt` (at least one token) under one model, in nats.
///
/// # Errors
///
/// When it does not fit, or the model fails.
pub fn log_prob_of(expert: &mut dyn Expert, prompt: &[Token], response: &[Token]) -> Result<f64, ExpertError> {
    let n_vocab = expert.n_vocab();
    expert.set_prompt_len(prompt.len());
    let mut history = prompt.to_vec();
    let (mut sum, mut before): (f64, &[Token]) = (0.0, &[]);
    for chunk in response.chunks(CHUNK.min(expert.max_rows()).max(1)) {
        history.extend_from_slice(before);
        history.extend_from_slice(&chunk[..chunk.len() - 1]);
        let rows = expert.advance(&history, chunk.len())?;
        check_rows(rows, n_vocab)?;
        let rows = rows.chunks_exact(n_vocab);
        let log_prob = |(row, token): (&[f32], &Token)| match row.get(*token as usize) {
            Some(logit) => f64::from(logit - log_sum_exp(row)),
            None => f64::NEG_INFINITY,
        };
        sum += rows.zip(chunk).map(log_prob).sum::<f64>();
        before = &chunk[chunk.len() - 1..];
    }
    Ok(sum)
}

fn check_rows(rows: &[f32], n_vocab: usize) -> Result<(), ExpertError> {
    rows.chunks_exact(n_vocab).try_for_each(check_finite)
}

fn token_score(token: Token, base: &[f32], guided: &[f32]) -> TokenScore {
    let (log_base, log_guided) = (log_softmax(base, 1.0), log_softmax(guided, 1.0));
    let (id, base_best) = (token as usize, argmax(base) as Token);
    TokenScore {
        token,
        base: log_base[id],
        guided: log_guided[id],
        arms: Vec::new(),
        references: Vec::new(),
        kl: kl_divergence(&log_guided, &log_base),
        entropy: -log_base
            .iter()
            .map(|l| if *l > f32::NEG_INFINITY { f64::from(l.exp() * l) } else { 0.0 })
            .sum::<f64>() as f32,
        top_p: log_base[base_best as usize].exp(),
        base_best,
        guided_best: argmax(guided) as Token,
    }
}

/// The log-probability of a token, which may lie in the padding that only the base, of `n_vocab` tokens, has.
fn log_prob(row: &[f32], token: Token, n_vocab: usize) -> f32 {
    row.get(token as usize).copied().unwrap_or_else(|| floor_within(row, n_vocab)) - log_sum_exp(row)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TableExpert;
    use crate::guidance::{Arm, Contract, Direction, Tail, Weights};

    const BASE: [[f32; 3]; 3] = [[1.0, 0.5, 0.0], [0.0, 2.0, 1.0], [-1.0, 0.0, 0.3]];
    const ARM: [[f32; 3]; 3] = [[0.0, 2.0, -1.0], [1.0, 1.0, 3.0], [0.2, 0.1, 0.0]];

    fn table(rows: [[f32; 3]; 3]) -> TableExpert {
        TableExpert::bigram(rows.map(|row| row.to_vec()).to_vec())
    }

    fn experts() -> Vec<Arm> {
        vec![Arm::new("a", Box::new(table(ARM)), Contract { n_common: 3, tail: Tail::None })]
    }

    fn arm() -> Guide {
        Guide::new(experts(), Weights::new([("a".to_owned(), 0.0)]))
    }

    #[test]
    fn a_reference_is_subtracted_from_the_law_and_from_the_reward() {
        let direction = Direction { arm: Source::Expert(0), reference: Some(Source::Base) };
        let mut guide = Guide::with_references(experts(), vec![direction], Weights::new([("a".to_owned(), 0.0)]));
        let prompts = ScoredPrompts::new(&[0], &[None]);
        let scores = score(&mut table(BASE), &mut guide, prompts, &[1, 2], &[2.0]).unwrap();
        for (score, [last, next]) in scores.iter().zip([[0, 1], [1, 2]]) {
            let guided: Vec<_> = BASE[last].iter().zip(ARM[last]).map(|(b, a)| b + 2.0 * (a - b)).collect();
            let reward = log_softmax(&ARM[last], 1.0)[next] - log_softmax(&BASE[last], 1.0)[next];
            assert!((score.guided - log_softmax(&guided, 1.0)[next]).abs() < 1e-6);
            assert!((score.reward(0) - reward).abs() < 1e-6);
        }
    }

    #[test]
    fn every_token_is_scored_from_the_row_before_it() {
        let prompts = ScoredPrompts::new(&[2, 0], &[None]);
        // Longer than a chunk, so that the seam is tested too.
        let response: Vec<Token> = (0..150).map(|i| (i * 7 % 5 % 3) as Token).collect();
        let scores = score(&mut table(BASE), &mut arm(), prompts, &response, &[0.5]).unwrap();
        let text: Vec<_> = [2, 0].iter().chain(&response).copied().collect();
        assert_eq!(scores.len(), response.len());
        for (i, score) in scores.iter().enumerate() {
            let (last, next) = (text[i + 1] as usize, text[i + 2] as usize);
            let guided: Vec<_> = BASE[last].iter().zip(ARM[last]).map(|(b, a)| b + 0.5 * a).collect();
            assert_eq!(score.token as usize, next);
            assert!((score.base - log_softmax(&BASE[last], 1.0)[next]).abs() < 1e-6);
            assert!((score.arms[0] - log_softmax(&ARM[last], 1.0)[next]).abs() < 1e-6);
            assert!((score.guided - log_softmax(&guided, 1.0)[next]).abs() < 1e-6);
            assert_eq!(score.guided_best, argmax(&guided) as Token);
        }
        let totals = Totals::of(&scores, 1);
        assert_eq!(totals.n_flipped, scores.iter().filter(|s| s.base_best != s.guided_best).count());
        assert!((totals.arms[0] - scores.iter().map(|s| f64::from(s.arms[0])).sum::<f64>()).abs() < 1e-9);
    }

    #[test]
    fn without_a_weight_guidance_is_the_base() {
        let prompts = ScoredPrompts::new(&[0], &[None]);
        for score in score(&mut table(BASE), &mut arm(), prompts, &[1, 2, 1], &[0.0]).unwrap() {
            assert_eq!((score.guided, score.kl, score.flipped()), (score.base, 0.0, false));
        }
    }

    #[test]
    fn an_arm_reads_its_own_prompt() {
        let own = [Some(vec![1, 1, 2])];
        let prompts = ScoredPrompts::new(&[0], &own);
        let scores = score(&mut table(BASE), &mut arm(), prompts, &[1], &[1.0]).unwrap();
        assert!((scores[0].arms[0] - log_softmax(&ARM[2], 1.0)[1]).abs() < 1e-6);
        assert!((scores[0].base - log_softmax(&BASE[0], 1.0)[1]).abs() < 1e-6);
    }

    #[test]
    fn the_sum_of_one_model_is_that_of_the_scores() {
        let response: Vec<Token> = (0..130).map(|i| (i * 5 % 7 % 3) as Token).collect();
        let prompts = ScoredPrompts::new(&[1], &[None]);
        let scores = score(&mut table(BASE), &mut arm(), prompts, &response, &[0.0]).unwrap();
        let sum = log_prob_of(&mut table(ARM), &[1], &response).unwrap();
        assert!((sum - Totals::of(&scores, 1).arms[0]).abs() < 1e-6);
    }

    #[test]
    fn an_empty_response_has_no_scores_and_a_full_model_is_named() {
        let prompts = ScoredPrompts::new(&[0], &[None]);
        assert_eq!(score(&mut table(BASE), &mut arm(), prompts, &[], &[1.0]).unwrap(), []);
        let full = score(&mut table(BASE).with_n_ctx(2), &mut arm(), prompts, &[1, 1, 1], &[1.0]).unwrap_err();
        assert_eq!(full.arm, "base");
    }
}
