//! Grammars and schemas that are written to take all memory, all time or the stack.

use super::*;

/// Follows a grammar for some tokens: the first or the last that is allowed. What it costs is bounded by the engine;
/// here it has to come back.
fn follow(compiled: &Arc<Compiled>, n: usize, last: bool) -> Result<(), TooMuchWork> {
    let mut grammar = Grammar::new(Arc::clone(compiled));
    for _ in 0..n {
        let mut candidates: Vec<_> = (0..=END).map(|id| llama_token_data { id, logit: 1.0, p: 0.0 }).collect();
        grammar.apply(&mut candidates)?;
        let allowed: Vec<Token> = candidates.iter().filter(|c| c.logit == 1.0).map(|c| c.id).collect();
        let Some(token) = (if last { allowed.last() } else { allowed.first() }) else { return Ok(()) };
        if *token == END {
            return Ok(());
        }
        grammar.accept(*token)?;
    }
    Ok(())
}

#[test]
fn ways_that_meet_again_do_not_multiply() {
    for text in [
        "root ::= s\ns ::= \"a\" s x | \"a\" s y\nx ::= \"b\"\ny ::= \"b\"\n",
        "root ::= s\ns ::= \"a\" s s | \"a\"",
        "root ::= s*\ns ::= \"a\" | \"a\" s | \"aa\" s \"b\"?",
        "root ::= ((\"a\"{0,44}){0,44})",
        "root ::= (((\"a\"?){0,12}){0,12}){0,12}",
        "root ::= (\"a\"* \"a\"* \"a\"*)* \"b\"",
        "root ::= (\"a\"+)+ \"b\"",
    ] {
        let compiled = compile_gbnf(text).unwrap_or_else(|e| panic!("{e}: {text}"));
        for last in [false, true] {
            assert_eq!(follow(&compiled, 300, last), Ok(()), "{text}");
        }
    }
}

#[test]
fn what_is_nested_too_deep_or_too_large_is_refused() {
    let nested = format!("root ::= {}\"a\"{}", "(".repeat(8000), ")".repeat(8000));
    let large = "root ::= (((\"abc\"{2000}){2000}){2000})".to_owned();
    let empty = "root ::= ((((\"\"{2000}){2000}){2000}){2000})".to_owned();
    let classes = "root ::= ([^a]{2000}){100}".to_owned();
    let name = format!("root ::= {}", "x".repeat(9000));
    let stars = format!("root ::= \"a\"{}", "*".repeat(9000));
    for (text, words) in [
        (nested, "nested more than 200 deep"),
        (large, "too large"),
        (empty, "too large"),
        (classes, "too large"),
        (name, "at most 256"),
        (stars, "repetitions of repetitions"),
        ("x".repeat(MAX_BYTES + 1), "bytes"),
    ] {
        let error = compile_gbnf(&text).err().expect("refused").to_string();
        assert!(error.contains(words) && error.len() < 200, "{error}");
    }
    let deep = format!("root ::= {}\"a\"{}", "(\"b\"? ".repeat(150), ")".repeat(150));
    assert!(takes(&compile_gbnf(&deep).expect("a grammar"), "bba"));
}

#[test]
fn a_long_chain_of_rules_is_checked_without_recursion() {
    let mut text = "root ::= r0\n".to_owned();
    (0..5000).for_each(|i| text.push_str(&format!("r{i} ::= r{} | \"a\"\n", i + 1)));
    text.push_str("r5000 ::= \"b\"?\n");
    assert_takes(&compile_gbnf(&text).expect("a grammar"), &["a", "b", ""], &["ab"]);
}

#[test]
fn work_beyond_the_bound_ends_the_text_and_stays_an_error_until_the_reset() {
    // A text of n letters can be read in ways that return to n places.
    let compiled = compile_gbnf("root ::= \"a\" root root | \"a\"").expect("a grammar");
    let mut grammar = Grammar::new(compiled);
    let Matcher::Gbnf(matcher) = &mut grammar.matcher else { panic!("a grammar") };
    matcher.limit = 1000;
    let n = (0..10_000).position(|_| grammar.allows(97).and_then(|_| grammar.accept(97)).is_err());
    assert!(n.is_some_and(|n| n > 20), "the bound is met, and not at once: {n:?}");
    assert_eq!(grammar.allows(97), Err(TooMuchWork));
    assert_eq!(grammar.allows(END), Err(TooMuchWork));
    assert_eq!(grammar.accept(97), Err(TooMuchWork));
    grammar.reset();
    assert_eq!(grammar.allows(97), Ok(true));
}

#[test]
fn places_that_are_forgotten_are_found_again() {
    // Every level of nesting is a place of its own, so there are more than are kept.
    let compiled = compile_gbnf("root ::= \"[\" root \"]\" [a-z]? | \"x\"").expect("a grammar");
    let n = 6000;
    assert!(takes(&compiled, &format!("{}x{}", "[".repeat(n), "]a".repeat(n))));
    assert!(!takes(&compiled, &format!("{}x{}", "[".repeat(n), "]a".repeat(n - 1))));
}

#[test]
fn schemas_that_are_written_to_blow_up_are_refused_or_followed() {
    let names = |n: usize| -> Value {
        (0..n).map(|i| (format!("p{i}"), serde_json::json!({}))).collect::<serde_json::Map<_, _>>().into()
    };
    let mut doubled = serde_json::json!({"type": "string"});
    for _ in 0..40 {
        doubled = serde_json::json!({"anyOf": [doubled.clone(), {"type": "array", "items": {"type": "integer"}}]});
    }
    let pick = |n: usize| {
        (0..n)
            .map(|i| serde_json::json!({"type": "object", "properties": {format!("k{i}"): {"const": i}}}))
            .collect::<Vec<_>>()
    };
    for schema in [
        serde_json::json!({"type": "string", "pattern": "^(a+)+$"}),
        serde_json::json!({"type": "string", "pattern": "^((a{0,100}){0,100}){0,100}$"}),
        serde_json::json!({"type": "string", "pattern": "(a|b|ab)*c(a|b|ab)*d"}),
        serde_json::json!({"type": "string", "pattern": "^(.*a){20}$", "minLength": 50}),
        serde_json::json!({"type": "string", "pattern": "a.{100}b"}),
        serde_json::json!({"type": "string", "minLength": 10000, "maxLength": 100_000}),
        serde_json::json!({"type": "array", "items": {"type": "array", "maxItems": 5000}, "maxItems": 5000}),
        serde_json::json!({"type": "object", "properties": {"!".repeat(8000): {"type": "string"}}}),
        serde_json::json!({"type": "object", "properties": names(900)}),
        serde_json::json!({"type": "object", "properties": names(5000)}),
        serde_json::json!({"allOf": (0..12).map(|_| serde_json::json!({"anyOf": pick(8)})).collect::<Vec<_>>()}),
        serde_json::json!({"oneOf": pick(200)}),
        serde_json::json!({"$defs": {"a": {"$ref": "#/$defs/a"}}, "allOf": [{"$ref": "#/$defs/a"}]}),
        serde_json::json!({"anyOf": [{"$ref": "#"}, {"type": "string"}]}),
        serde_json::json!({"type": "integer", "multipleOf": 7_919, "minimum": -1_000_000_007_i64}),
        serde_json::json!({"type": "number", "multipleOf": 0.0001, "minimum": 1e-300, "maximum": 1e300}),
        doubled,
    ] {
        for strict in [false, true] {
            match compile_schema(&schema, strict) {
                Ok(compiled) => [false, true].into_iter().for_each(|last| {
                    let _ = follow(&compiled, 60, last);
                }),
                Err(error) => assert!(error.to_string().len() < 300, "{error}"),
            }
        }
    }
}

#[test]
fn a_class_of_ranges_without_characters_counts_as_work_of_building() {
    let empty = "\\uD800".repeat(5_000);
    let text = format!("root ::= ([{empty}]{{2000}}){{60}}");
    assert!(compile_gbnf(&text).is_err(), "walked 120,000 times, this would take seconds");
}

#[test]
fn a_text_whose_grammar_remembers_ever_more_ends_instead_of_filling_the_memory() {
    let text = "root ::= x\nx ::= \"a\" (((x \"b\")?){2000}){10} \"c\"";
    let mut grammar = Grammar::new(compile_gbnf(text).expect("a grammar"));
    let n = (0..4_000).position(|_| grammar.accept(97).is_err());
    assert!(n.is_some_and(|n| n > 4), "some letters, and then no more: {n:?}");
}
