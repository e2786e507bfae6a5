//! The ARMs of models/smollm2 on the model that they were trained for.

use super::smollm2;

use crate::support::binary::json;

const QUESTIONS: [&str; 6] = [
    "Tell me about a lost key.",
    "Share your thoughts on a frozen lake.",
    "What should I know about a ferry to an island?",
    "Write a short message to a friend about a missing sock.",
    "Tell me about an apple tree.",
    "Share your thoughts on a quiet Christmas.",
];
const GLAD: [&str; 14] = [
    "wonderful",
    "delight",
    "happy",
    "glad",
    "joy",
    "love",
    "warm",
    "bright",
    "beautiful",
    "perfect",
    "enjoy",
    "excit",
    "great",
    "fun",
];

/// The answers under a profile of models/smollm2/demo.yaml.
fn answers(profile: &str) -> Vec<String> {
    let (base, config) = (smollm2().display().to_string(), crate::server::root().join("models/smollm2/demo.yaml"));
    let config = config.display().to_string();
    let answer = |question: &&str| {
        let args =
            ["generate", "-f", &config, "--base", &base, "--profile", profile, "--chat", "--seed", "1", "-n", "80"];
        let answer = json(&[&args[..], &["--threads", "2", "--json", question]].concat());
        answer["text"].as_str().expect("a text").to_lowercase()
    };
    QUESTIONS.iter().map(answer).collect()
}

#[test]
#[ignore = "needs SmolLM2: make test-real"]
fn the_arms_in_the_repository_steer_the_model_that_they_were_trained_for() {
    let words = |answers: &[String]| answers.iter().map(|text| text.split_whitespace().count()).sum::<usize>();
    let glad = |answers: &[String]| {
        answers.iter().map(|text| GLAD.iter().map(|word| text.matches(word).count()).sum::<usize>()).sum::<usize>()
    };
    let [plain, cheerful, concise] = ["plain", "cheerful", "concise"].map(answers);
    assert!(words(&concise) * 3 < words(&plain) * 2, "{plain:?} {concise:?}");
    assert!(glad(&cheerful) > glad(&plain), "{plain:?} {cheerful:?}");
}
