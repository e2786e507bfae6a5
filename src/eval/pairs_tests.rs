use super::*;
use crate::decode::text_generator::GenerateError;
use crate::eval::scorers::ScorerError;
use crate::expert::Token;
use crate::guidance::score::TokenScore;
use serde_json::json;

/// Answers with its seed, and is scored by the last digit of its only token.
struct Fake;

impl TextGenerator for Fake {
    fn generate(
        &mut self,
        requests: &[TextRequest],
        each: &mut dyn FnMut(),
    ) -> Result<Vec<GeneratedText>, GenerateError> {
        let make = |request: &TextRequest| {
            each();
            assert!(request.weights.iter().all(|weight| *weight == 0.0), "the base answers alone");
            let token = request.seed as Token;
            GeneratedText { tokens: vec![token], text: format!("{token}"), finish: Finish::Length }
        };
        Ok(requests.iter().map(make).collect())
    }

    fn score(&mut self, _: usize, response: &[Token], _: &[f32]) -> Result<Vec<TokenScore>, GenerateError> {
        let arms = vec![0.0, (response[0] % 10) as f32];
        Ok(vec![TokenScore::of_arms(response[0], arms)])
    }
}

struct Length;

impl Scorer for Length {
    fn score(&self, items: &[Item<'_>]) -> Result<Vec<f64>, ScorerError> {
        Ok(items.iter().map(|item| (item.prompt.len() + item.response.len()) as f64).collect())
    }
}

fn answered(scores: &[(&str, Option<f64>)]) -> Answered {
    let answer = |(text, score): &(&str, Option<f64>)| Answer {
        text: (*text).to_owned(),
        finish: Finish::Stop,
        n_tokens: 1,
        score: *score,
    };
    Answered { prompt: 0, answers: scores.iter().map(answer).collect() }
}

#[test]
fn a_pair_is_the_best_answer_against_the_worst_of_those_that_were_rated() {
    let text = |(a, b): &(&Answer, &Answer)| (a.text.clone(), b.text.clone());
    let texts = |answered: &Answered, margin| answered.pairs(margin, 1).first().map(text);
    let pair = |a: &str, b: &str| Some((a.to_owned(), b.to_owned()));
    let four = answered(&[("b", Some(1.0)), ("c", Some(3.0)), ("failed", None), ("a", Some(-2.0)), ("d", Some(3.0))]);
    assert_eq!(texts(&four, 0.0), pair("c", "a"));
    assert_eq!(texts(&four, 4.9), pair("c", "a"));
    assert_eq!(texts(&four, 5.0), None, "the margin must be exceeded");
    assert_eq!(texts(&answered(&[("a", Some(1.0)), ("b", Some(1.0))]), 0.0), None, "a tie is no preference");
    assert_eq!(texts(&answered(&[("a", Some(1.0)), ("a", Some(2.0))]), 0.0), None, "nor are two equal texts");
    assert_eq!(texts(&answered(&[(" \n", Some(9.0)), ("b", Some(1.0))]), 0.0), None, "an empty answer is none");
    assert_eq!(texts(&answered(&[("a", None), ("b", Some(1.0))]), 0.0), None);
    let all = |max| four.pairs(0.0, max).iter().map(text).collect::<Vec<_>>();
    assert_eq!(all(9), [("c".into(), "a".into()), ("d".into(), "b".into())], "each answer is in one pair");
    assert_eq!(all(1).len(), 1);
}

#[test]
fn answers_are_drawn_apart_rated_and_go_on_where_they_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let prompts: Vec<String> = (0..5).map(|i| format!("prompt {i}")).collect();
    for rater in [Rater::Arm(1, 0.5), Rater::Scorer(Box::new(Length))] {
        let asked = Asked { prompts: &prompts, n_answers: 3, n_arms: 2, rater: &rater, seed: 7, unit: 2 };
        let file = folder.path().join("answers.jsonl");
        let _ = std::fs::remove_file(&file);
        let open = || Results::open::<Answered>(&file, &json!({}), asked.unit, prompts.len()).unwrap();
        let (mut results, done) = open();
        let mut n = 0;
        let all = asked.run(&mut Fake, &mut results, done, &mut || n += 1).unwrap();
        assert_eq!((n, all.len()), (15, 5));
        for (prompt, answered) in all.iter().enumerate() {
            assert_eq!((answered.prompt, answered.answers.len()), (prompt, 3));
            for (copy, answer) in answered.answers.iter().enumerate() {
                let seed = seed_of(7, prompt, copy);
                assert_eq!(answer.text, format!("{seed}"));
                let expected = match &rater {
                    Rater::Arm(..) => 0.5 * f64::from(seed % 10),
                    Rater::Scorer(_) => (8 + answer.text.len()) as f64,
                };
                assert_eq!(answer.score, Some(expected));
            }
        }
        // Killed within the second unit, run again: the same bytes.
        let whole = std::fs::read_to_string(&file).unwrap();
        let cut: String = whole.split_inclusive('\n').take(4).collect();
        std::fs::write(&file, cut).unwrap();
        let (mut results, done) = open();
        assert_eq!(done.len(), 2);
        assert_eq!(asked.run(&mut Fake, &mut results, done, &mut || ()).unwrap(), all);
        assert_eq!(std::fs::read_to_string(&file).unwrap(), whole);
    }
}
