//! Random grammars, schemas and patterns: each is refused with a short sentence, or followed for some tokens.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use genarm::decode::{Chain, ChainFault};
use genarm::engine::llama::Vocab;
use genarm::sampling::Sampler;
use genarm::sampling::grammar::Compiled;
use genarm::sampling::params::SamplingParams;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use serde_json::{Map, Value, json};

use crate::support;

/// Cases where no time is set.
const CASES: usize = 300;
/// Tokens of a text.
const TOKENS: usize = 24;
/// What a case may take before the run ends as stalled; a machine that is busy with other things stays far below it.
const STALL: Duration = Duration::from_secs(60);

/// One input.
enum Case {
    Grammar(String),
    Schema(Value),
}

/// `make fuzz` runs it for ten minutes (`GENARM_FUZZ_SECONDS`, from the seed `GENARM_FUZZ_SEED` or a random one); the
/// case at hand is in `fuzz-case.txt` in cargo's folder for temporary files. Else it runs over some hundred cases, the
/// same each time.
#[test]
fn no_grammar_schema_or_pattern_stalls_or_ends_the_process() {
    let seconds: Option<u64> = std::env::var("GENARM_FUZZ_SECONDS").ok().and_then(|s| s.parse().ok());
    let seed = std::env::var("GENARM_FUZZ_SEED").ok().and_then(|s| s.parse().ok());
    let seed = seed.unwrap_or_else(|| if seconds.is_some() { rand::random() } else { 1 });
    println!("GENARM_FUZZ_SEED={seed}");
    let end = seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let (mut rng, corpus, vocab) = (StdRng::seed_from_u64(seed), corpus(), support::vocab());
    let begun = seconds.map(|_| watch());
    let (mut n, mut followed, mut slowest) = (0, 0, Duration::ZERO);
    while end.map_or(n < CASES, |end| Instant::now() < end) {
        let case = match n.checked_sub(corpus.len()) {
            None => Case::read(&corpus[n]),
            Some(_) => Case::random(&corpus, &mut rng),
        };
        let start = Instant::now();
        if let Some(begun) = &begun {
            *begun.lock().expect("a lock") = start;
            std::fs::write(PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("fuzz-case.txt"), case.text())
                .expect("the case is noted");
        }
        followed += usize::from(case.run(&vocab, &mut rng));
        if start.elapsed() > slowest {
            slowest = start.elapsed();
            if seconds.is_some() {
                let text: String = case.text().chars().take(600).collect();
                println!("{slowest:?} for case {n}: {text}");
            }
        }
        n += 1;
    }
    println!("{n} cases, {followed} of them followed");
    assert!(followed * 10 > n, "too few of the cases are sound: {followed} of {n}");
}

/// Ends the process where one case takes too long: the case is in the file.
fn watch() -> Arc<Mutex<Instant>> {
    let begun = Arc::new(Mutex::new(Instant::now()));
    let seen = Arc::clone(&begun);
    std::thread::spawn(move || {
        loop {
            std::thread::sleep(Duration::from_secs(1));
            if seen.lock().expect("a lock").elapsed() > STALL {
                eprintln!("a case stalls; it is in fuzz-case.txt");
                std::process::abort();
            }
        }
    });
    begun
}

/// Inputs that were wrong once.
fn corpus() -> Vec<String> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/sampling/regressions");
    let mut files: Vec<_> =
        std::fs::read_dir(folder).expect("a folder of cases").map(|file| file.expect("a case").path()).collect();
    files.sort();
    files.iter().map(|file| std::fs::read_to_string(file).expect("a case")).collect()
}

impl Case {
    /// A file: JSON is a schema.
    fn read(text: &str) -> Self {
        match serde_json::from_str(text) {
            Ok(schema) => Self::Schema(schema),
            Err(_) => Self::Grammar(text.to_owned()),
        }
    }

    fn random(corpus: &[String], rng: &mut StdRng) -> Self {
        match rng.random_range(0..10) {
            0..3 => Self::Grammar(grammar(rng)),
            3 => Self::read(&mutate(corpus.choose(rng).expect("a corpus"), rng)),
            4..6 => Self::Schema(json!({"type": "string", "pattern": pattern(rng, 4)})),
            _ => {
                let mut schema = schema(rng, 4);
                if let Value::Object(object) = &mut schema {
                    let defs: Map<_, _> = (0..3).map(|i| (format!("d{i}"), self::schema(rng, 2))).collect();
                    object.insert("$defs".into(), defs.into());
                }
                Self::Schema(schema)
            }
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Grammar(text) => text.clone(),
            Self::Schema(schema) => schema.to_string(),
        }
    }

    /// Whether the case was sound enough to be followed.
    fn run(&self, vocab: &Vocab, rng: &mut StdRng) -> bool {
        let strict = rng.random_bool(0.5);
        let compiled = match self {
            Self::Grammar(text) => Compiled::gbnf(text, vocab),
            Self::Schema(schema) => Compiled::schema(schema, strict, "json_schema", vocab),
        };
        let compiled = match compiled {
            Ok(compiled) => compiled,
            Err(error) => {
                let error = error.to_string();
                assert!(error.len() < 400 && !error.contains(char::is_control), "{error:?}\n{}", self.text());
                return false;
            }
        };
        let params = SamplingParams { temp: 1.0, seed: rng.random(), ..support::open_params() };
        let mut sampler = Sampler::constrained(&params, vocab, 256, None, Some(compiled), None).expect("a sampler");
        let mut logits = vec![0.0; vocab.n_tokens()];
        for _ in 0..TOKENS {
            logits.iter_mut().for_each(|logit| *logit = rng.random_range(-4.0..4.0));
            match sampler.sample(&logits) {
                Ok(token) if vocab.is_eog(token) => break,
                Ok(token) => sampler.accept(token, true),
                Err(ChainFault::NoCandidate | ChainFault::Grammar { .. }) => break,
                Err(other) => panic!("{other}\n{}", self.text()),
            }
        }
        true
    }
}

fn grammar(rng: &mut StdRng) -> String {
    let n = rng.random_range(1..6);
    let name = |i: usize| if i == 0 { "root".to_owned() } else { format!("r{i}") };
    (0..n).map(|i| format!("{} ::= {}\n", name(i), expression(rng, n, 4))).collect()
}

fn expression(rng: &mut StdRng, n_rules: usize, depth: usize) -> String {
    let leaf = |rng: &mut StdRng| -> String {
        const LEAVES: [&str; 14] = [
            "\"a\"",
            "\"\"",
            "\"ab\"",
            "[a-c]",
            "[^a]",
            ".",
            "\"é\"",
            "[ \\n]",
            "\"\\x41\"",
            "<[5]>",
            "!<[7]>",
            "\" \"",
            "[]",
            "\"once\"",
        ];
        if rng.random_bool(0.3) && n_rules > 1 {
            format!("r{}", rng.random_range(1..n_rules))
        } else {
            (*LEAVES.choose(rng).expect("leaves")).to_owned()
        }
    };
    if depth == 0 {
        return leaf(rng);
    }
    match rng.random_range(0..8) {
        0 | 1 => leaf(rng),
        2 | 3 => {
            let parts: Vec<_> = (0..rng.random_range(1..4)).map(|_| expression(rng, n_rules, depth - 1)).collect();
            parts.join(" ")
        }
        4 => format!("({} | {})", expression(rng, n_rules, depth - 1), expression(rng, n_rules, depth - 1)),
        _ => {
            let again = match rng.random_range(0..6) {
                0 => "*".to_owned(),
                1 => "+".to_owned(),
                2 => "?".to_owned(),
                3 => format!("{{{},}}", rng.random_range(0..50)),
                _ => format!("{{{},{}}}", rng.random_range(0..4), rng.random_range(4..200)),
            };
            format!("({}){again}", expression(rng, n_rules, depth - 1))
        }
    }
}

fn pattern(rng: &mut StdRng, depth: usize) -> String {
    const LEAVES: [&str; 18] = [
        "a", "b", ".", "\\d", "\\w", "\\s", "[a-c]", "[^a]", "\\.", "é", "^", "$", "[a[b]", "\\b", "(?=a)", "\\1",
        "\"", "\\\\",
    ];
    if depth == 0 {
        return (*LEAVES.choose(rng).expect("leaves")).to_owned();
    }
    let inner = pattern(rng, depth - 1);
    match rng.random_range(0..8) {
        0 => format!("({inner})*"),
        1 => format!("({inner})+"),
        2 => format!("({inner}){{{},{}}}", rng.random_range(0..4), rng.random_range(4..300)),
        3 => format!("({inner}|{})", pattern(rng, depth - 1)),
        4 => format!("^{inner}$"),
        5 => format!("(?<stop>{inner})?"),
        _ => format!("{inner}{}", pattern(rng, depth - 1)),
    }
}

fn schema(rng: &mut StdRng, depth: usize) -> Value {
    let mut out = Map::new();
    for _ in 0..rng.random_range(1..5) {
        let (key, value) = keyword(rng, depth.saturating_sub(1));
        out.insert(key.to_owned(), value);
    }
    match rng.random_range(0..20) {
        0 => Value::Bool(rng.random()),
        _ => Value::Object(out),
    }
}

fn keyword(rng: &mut StdRng, depth: usize) -> (&'static str, Value) {
    const NAMES: [&str; 6] = ["a", "b", "é", "a/b~", "", "long name"];
    const TYPES: [&str; 8] = ["string", "object", "array", "integer", "number", "boolean", "null", "nothing"];
    const FORMATS: [&str; 8] = ["date", "email", "uri", "ipv6", "uuid", "date-time", "duration", "regex"];
    const REFS: [&str; 7] = ["#", "#/$defs/d0", "#/$defs/d1", "#/$defs/d2", "#/$defs/x", "#/properties/a", "http://x/"];
    let list = |rng: &mut StdRng| -> Value { (0..rng.random_range(1..4)).map(|_| schema(rng, depth)).collect() };
    let nested = depth > 0;
    match rng.random_range(0..24) {
        0..4 => ("type", (*TYPES.choose(rng).expect("types")).into()),
        4 => ("type", json!([TYPES.choose(rng).expect("types"), TYPES.choose(rng).expect("types")])),
        5..8 if nested => {
            let properties = (0..rng.random_range(1..5))
                .map(|_| ((*NAMES.choose(rng).expect("names")).to_owned(), schema(rng, depth)));
            ("properties", Value::Object(properties.collect()))
        }
        8 if nested => ("items", schema(rng, depth)),
        9 if nested => ("anyOf", list(rng)),
        10 if nested => ("allOf", list(rng)),
        11 if nested => ("oneOf", list(rng)),
        12 if nested => ("prefixItems", list(rng)),
        13 if nested => ("additionalProperties", schema(rng, depth)),
        14 if nested => ("patternProperties", json!({ pattern(rng, 2): schema(rng, depth) })),
        15 => ("required", json!([NAMES.choose(rng).expect("names")])),
        16 => ("$ref", (*REFS.choose(rng).expect("references")).into()),
        17 => ("pattern", pattern(rng, 3).into()),
        18 => ("format", (*FORMATS.choose(rng).expect("formats")).into()),
        19 => ("enum", json!([1, "a", null, {"a": [1.5]}, NAMES.choose(rng).expect("names")])),
        20 => {
            let bound = *["minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"]
                .choose(rng)
                .expect("bounds");
            (bound, rng.random_range(0..500).into())
        }
        21 => {
            let bound = *["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"]
                .choose(rng)
                .expect("bounds");
            (
                bound,
                if rng.random() { rng.random_range(-1000..100_000).into() } else { json!(rng.random_range(-1e3..1e9)) },
            )
        }
        22 => ("const", json!({"a": rng.random_range(-1e9..1e9)})),
        _ => (["not", "if", "uniqueItems", "contains"].choose(rng).expect("keywords"), json!({})),
    }
}

/// A text with pieces cut, doubled, repeated at length and swapped.
fn mutate(text: &str, rng: &mut StdRng) -> String {
    let mut text: Vec<char> = text.chars().take(20_000).collect();
    for _ in 0..rng.random_range(1..6) {
        let at = rng.random_range(0..=text.len());
        let to = rng.random_range(at..=(at + 30).min(text.len()));
        match rng.random_range(0..4) {
            0 => drop(text.drain(at..to)),
            1 => {
                let piece = text[at..to].repeat(rng.random_range(1..200));
                text.splice(at..at, piece);
            }
            2 => {
                const SIGNS: [&str; 12] = ["(", ")", "*", "+", "{0,99}", "|", "\"", "[", "]", "::=", "\n", "{2000}"];
                text.splice(at..at, SIGNS.choose(rng).expect("signs").chars());
            }
            _ if at < text.len() => text[at] = rng.random(),
            _ => {}
        }
    }
    text.into_iter().collect()
}
