//! Talking: seeds, messages of several lines, and what happens where the context is full.

use super::{demo, fed, genarm};

/// Answers and talk of a chat with this input.
fn chat(args: &[&str], input: &str) -> (String, String) {
    let config = demo();
    let output = fed(&mut genarm(&[&["chat", "-f", &config, "--chat-template", "raw"], args].concat()), input);
    let talk = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{talk}");
    (String::from_utf8_lossy(&output.stdout).into_owned(), talk)
}

/// The seeds that the talk shows, in order.
fn seeds(talk: &str) -> Vec<u32> {
    let shown = talk.lines().filter_map(|line| line.strip_prefix("(seed ")?.strip_suffix(')'));
    shown.map(|seed| seed.parse().expect("a number")).collect()
}

fn lines(text: &str) -> Vec<&str> {
    text.lines().filter(|line| !line.trim().is_empty()).collect()
}

#[test]
fn a_retry_draws_anew_and_the_whole_session_comes_again_from_its_seed() {
    let args = ["--seed", "7", "-n", "16", "--temp", "1", "--ignore-eos"];
    let input = "Tom had a ball.\n/retry\n/retry\nLily ran.\n";
    let (text, talk) = chat(&args, input);
    let shown = seeds(&talk);
    assert_eq!((shown.len(), shown[0]), (4, 7), "{talk}");
    let distinct: std::collections::BTreeSet<_> = shown.iter().collect();
    assert_eq!(distinct.len(), 4, "every answer has a seed of its own: {shown:?}");
    let [first, again] = [&text, &chat(&args, input).0].map(|text| text.clone());
    assert_eq!(first, again, "the same seed, the same session");
    let answers = lines(&text);
    assert!(answers[0] != answers[1], "a retry is another answer: {answers:?}");
}

#[test]
fn the_seed_that_an_answer_shows_gives_that_answer_again() {
    let args = ["-n", "16", "--temp", "1", "--ignore-eos"];
    let (text, talk) = chat(&args, "Tom had a ball.\n");
    let seed = seeds(&talk)[0];
    let (again, _) = chat(&args, &format!("/seed {seed}\nTom had a ball.\n"));
    assert_eq!(text, again);
    // In the middle of a session too.
    let (twice, talk) = chat(&args, &format!("/seed {seed}\nTom had a ball.\n/retry\n/seed {seed}\n/retry\n"));
    let shown = seeds(&talk);
    assert_eq!((shown[0], shown[2]), (seed, seed), "{talk}");
    assert!(twice.starts_with(&text) && twice.ends_with(&text), "{twice:?} {text:?}");
}

#[test]
fn a_message_may_have_several_lines() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("talk.json").display().to_string();
    chat(&["-n", "1"], &format!("Tom ran.\\\nLily sat.\n\"\"\"\nOne.\n\nTwo.\n\"\"\"\n/save {file}\n"));
    let saved: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&file).expect("saved")).expect("JSON");
    assert_eq!(saved["messages"][0]["content"], "Tom ran.\nLily sat.");
    assert_eq!(saved["messages"][2]["content"], "One.\n\nTwo.");
}

#[test]
fn weights_are_set_in_the_words_that_people_use() {
    let (_, talk) = chat(&[], "/weights\n/weight cheerful 2\n/weights talkative=0.5\n");
    assert!(talk.contains("cheerful=2") && talk.contains("talkative=0.5"), "{talk}");
}

#[test]
fn a_full_context_leaves_the_conversation_and_says_how_to_make_room() {
    let long = "Tom had a red ball and a blue kite. ".repeat(5);
    let input = format!("{long}\n{long}\n{long}\n/drop\n/retry\n/clear\nHello.\n");
    let (_, talk) = chat(&["-n", "4", "-c", "128", "--seed", "1"], &input);
    assert!(talk.contains("/drop") && talk.contains("/clear"), "{talk}");
    assert!(talk.contains("forgot the") && talk.contains("forgot all messages"), "{talk}");
    assert!(seeds(&talk).len() >= 3, "the answers go on: {talk}");
}
