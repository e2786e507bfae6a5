use super::*;
use crate::decode::text_generator::{GeneratedText, TextRequest};
use crate::eval::scorers::ScorerSpec;
use crate::expert::Token;
use crate::guidance::score::TokenScore;
use serde_json::json;

/// Writes as many words of praise as the first weight says; fails after `left` batches, as a machine that is switched
/// off.
struct Fake {
    left: usize,
    n_made: usize,
}

impl TextGenerator for Fake {
    fn generate(
        &mut self,
        requests: &[TextRequest],
        each: &mut dyn FnMut(),
    ) -> Result<Vec<GeneratedText>, GenerateError> {
        if self.left == 0 {
            return Err(GenerateError { prompt: 0, source: "switched off".into() });
        }
        self.left -= 1;
        self.n_made += requests.len();
        let make = |r: &TextRequest| {
            each();
            let text = format!("{}\"{}", "happy ".repeat(r.weights[0] as usize), r.seed);
            GeneratedText { tokens: vec![r.seed as Token; 2], text, finish: Finish::Length }
        };
        Ok(requests.iter().map(make).collect())
    }

    fn score(&mut self, _: usize, response: &[Token], weights: &[f32]) -> Result<Vec<TokenScore>, GenerateError> {
        let arms: Vec<f32> = weights.iter().map(|w| -1.0 / (1.0 + w)).collect();
        let one = |token: &Token| TokenScore {
            base: -2.0,
            kl: weights[0],
            guided_best: 1,
            ..TokenScore::of_arms(*token, arms.clone())
        };
        Ok(response.iter().map(one).collect())
    }
}

fn points() -> Vec<Point> {
    let grid = [[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [2.0, 2.0]];
    grid.iter().map(|w| Point { label: None, strategy: Strategy::guided(w.to_vec()) }).collect()
}

fn sweep(path: &std::path::Path, left: usize) -> (Result<Vec<Record>, SweepError>, usize) {
    let points = points();
    let prompts = ["a", "b", "c"].map(String::from);
    let arms = [("helpful".to_owned(), 0.5), ("brief".to_owned(), 1.0)];
    let scorer = "cheerful".parse::<ScorerSpec>().unwrap();
    let scorers = [(scorer.name.clone(), scorer.open(&Default::default()).unwrap())];
    let sweep = Sweep { points: &points, prompts: &prompts, arms: &arms, scorers: &scorers, seed: 1, unit: 5 };
    let (mut results, done) = Results::open(path, &json!({"seed": 1}), sweep.unit, sweep.n_texts()).unwrap();
    let mut fake = Fake { left, n_made: 0 };
    (sweep.run(&mut fake, &mut results, done, &mut || ()), fake.n_made)
}

#[test]
fn an_interrupted_sweep_goes_on_where_it_was_and_ends_with_the_same_file() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, cut) = (folder.path().join("whole.jsonl"), folder.path().join("cut.jsonl"));
    let (records, n_made) = sweep(&whole, 99);
    assert_eq!((records.unwrap().len(), n_made), (12, 12));
    let (interrupted, n_made) = sweep(&cut, 1);
    assert!(interrupted.is_err() && n_made == 5);
    let (records, n_made) = sweep(&cut, 99);
    assert_eq!((records.unwrap().len(), n_made), (12, 7), "only what is left is made");
    assert_eq!(std::fs::read(&whole).unwrap(), std::fs::read(&cut).unwrap());
    assert_eq!(sweep(&cut, 0).0.unwrap().len(), 12, "a finished sweep makes nothing");
}

#[test]
fn a_point_has_the_means_of_its_texts() {
    let folder = tempfile::tempdir().unwrap();
    let records = sweep(&folder.path().join("r.jsonl"), 99).0.unwrap();
    let summaries = summarise(&points(), &records);
    let cheerful: Vec<_> = summaries.iter().map(|s| s.rewards["cheerful"].mean).collect();
    assert_eq!(cheerful, [0.0, 1.0, 0.0, 2.0]);
    // Two tokens of −½ each, times β_r = ½.
    assert_eq!(summaries[1].rewards["arm:helpful"].mean, -0.5);
    assert_eq!((summaries[1].kl.mean, summaries[1].n_tokens, summaries[1].flipped), (2.0, 2.0, 1.0));
}

#[test]
fn the_front_leaves_baselines_out_and_recommends_within_the_bound() {
    let folder = tempfile::tempdir().unwrap();
    let records = sweep(&folder.path().join("r.jsonl"), 99).0.unwrap();
    let mut summaries = summarise(&points(), &records);
    summaries[3].point.strategy.best_of = Some(16);
    let objectives = ["arm:helpful", "arm:brief"].map(String::from);
    let arm = |name: &str| ["arm:helpful", "arm:brief"].iter().position(|n| *n == name);
    let found = front(&summaries, &objectives, &arm, f64::INFINITY);
    assert_eq!(found.points, [1, 2]);
    // helpful: −1 to −½; brief: −2 to −1; the two points dominate nothing together but lines.
    assert_eq!((found.reference, found.hypervolume), (vec![-1.0, -2.0], 0.0));
    assert_eq!(found.mean_inner_product, Some((-0.5 - 1.0) / 2.0));
    assert_eq!(found.recommended, Some(1));
    assert_eq!(front(&summaries, &objectives, &arm, 0.5).recommended, Some(2), "the first diverges by 2 nats");
    assert_eq!(front(&summaries, &objectives, &|_| None, 0.0).mean_inner_product, None);
}
