//! A stop string and a grammar do not end where tokens do, the base's or the ARM's.

use super::{base, greedy, kind};
use crate::support::binary::stdout;

#[test]
fn a_stop_string_ends_the_text_inside_a_token() {
    let (base, given) = (base(), kind("1"));
    let translated = ["--arm", &given, "--translate", "kind"];
    let text = stdout(&greedy(&base, &translated));
    let words: Vec<_> = text.split_whitespace().collect();
    let [.., before, after] = &words[..words.len() - 2] else { panic!("{text}") };
    // The end of one word, a space, and the beginning of the next.
    let stop = format!("{} {}", before.chars().last().expect("a letter"), after.chars().next().expect("a letter"));
    let at = text.find(&stop).expect("it is in the text");
    let stopped = stdout(&greedy(&base, &[&translated[..], &["--stop", &stop]].concat()));
    assert_eq!(stopped.trim_end_matches('\n'), &text[..at]);
}

#[test]
fn a_grammar_holds_across_the_tokens_of_both() {
    let (base, given) = (base(), kind("1"));
    let grammar = r#"root ::= " She was very " ("happyish" | "sadder than ever") ".""#;
    let guided = greedy(&base, &["--arm", &given, "--translate", "kind", "--grammar", grammar]);
    let text = stdout(&guided);
    let text = text.trim_end_matches('\n');
    assert!([" She was very happyish.", " She was very sadder than ever."].contains(&text), "{text:?}");
}
