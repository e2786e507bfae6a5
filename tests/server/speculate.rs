//! A text that is alone in the server may be drafted; nobody can tell by its tokens.

use serde_json::{Value, json};

use super::isolation::{requests, same};
use super::{Serve, client};

fn unseeded(mut body: Value) -> Value {
    body.as_object_mut().expect("an object").remove("seed");
    body
}

#[test]
fn a_text_that_is_alone_is_drafted_and_stays_what_it_was() {
    let (plain, drafting) =
        (Serve::demo(&["--speculate", "off"]), Serve::demo(&["--speculate", "backbone", "--metrics"]));
    let (mut drafted, mut accepted) = (0, 0);
    for body in requests().into_iter().map(unseeded) {
        let (expected, found) = (plain.ok("/v1/completions", &body), drafting.ok("/v1/completions", &body));
        same(&found, &expected);
        let timings = |answer: &Value| answer["genarm"]["timings"].clone();
        assert_eq!(timings(&expected)["drafted"], 0);
        assert!(timings(&expected).get("acceptance").is_none());
        drafted += timings(&found)["drafted"].as_u64().expect("a number");
        accepted += timings(&found)["accepted"].as_u64().expect("a number");
        assert!(timings(&found)["acceptance"].as_f64() <= Some(1.0));
    }
    assert!(drafted > 200 && accepted > drafted / 5, "{accepted} of {drafted}");
    assert_eq!(drafting.metric("genarm_drafted_tokens_total"), drafted as f64);
    assert_eq!(drafting.metric("genarm_accepted_tokens_total"), accepted as f64);
}

#[test]
fn texts_that_come_and_go_are_drafted_while_they_are_alone_and_stay_what_they_were() {
    let server = Serve::demo(&["--parallel", "3", "--speculate", "backbone", "--metrics"]);
    let alone: Vec<_> = requests().into_iter().map(|body| server.ok("/v1/completions", &unseeded(body))).collect();
    let before = server.metric("genarm_drafted_tokens_total");
    let url = server.url("/v1/completions");
    // Three clients, each with its own share of the requests one after the other: slots fall empty and fill up in
    // mid-text.
    let found: Vec<(usize, Value)> = std::thread::scope(|scope| {
        let ask = |client_no: usize| {
            let url = url.clone();
            scope.spawn(move || {
                let mine = requests().into_iter().enumerate().filter(move |(i, _)| i % 3 == client_no);
                let each = |(i, body): (usize, Value)| {
                    std::thread::sleep(std::time::Duration::from_millis(20 * client_no as u64));
                    let answer = client().post(&url).json(&unseeded(body)).send().expect("an answer");
                    (i, answer.json::<Value>().expect("JSON"))
                };
                mine.map(each).collect::<Vec<_>>()
            })
        };
        let threads: Vec<_> = (0..3).map(ask).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("answers")).collect()
    });
    found.iter().for_each(|(i, answer)| same(answer, &alone[*i]));
    assert!(before > 0.0, "what was alone was drafted");
}

#[test]
fn a_seed_promises_the_same_text_again_so_nothing_is_drafted() {
    let server = Serve::demo(&["--speculate", "backbone"]);
    let body = json!({"prompt": super::PROMPT, "max_tokens": 24, "seed": 5, "preferences": {"plain": 0.5}});
    let [first, second] = [server.ok("/v1/completions", &body), server.ok("/v1/completions", &body)];
    assert_eq!(first["choices"][0]["text"], second["choices"][0]["text"]);
    assert_eq!(first["genarm"]["timings"]["drafted"], 0);
}

#[test]
fn a_seeded_text_does_not_depend_on_what_was_drafted_before() {
    // Whether `auto` shares a batch is measured, and may be decided otherwise in the second server.
    let start = || Serve::demo(&["--speculate", "backbone", "--share-batch", "off", "--parallel", "1"]);
    let (used, new) = (start(), start());
    let free = json!({"prompt": super::PROMPT, "max_tokens": 24, "temperature": 0, "preferences": {"plain": 0.5, "talkative": 0.4}});
    assert!(used.ok("/v1/completions", &free)["genarm"]["timings"]["drafted"].as_u64() > Some(0));
    let mut seeded = free;
    (seeded["seed"], seeded["return_rewards"]) = (5.into(), true.into());
    let [a, b] = [&used, &new].map(|server| server.ok("/v1/completions", &seeded)["choices"].clone());
    assert_eq!(a, b, "every log-probability, to the last digit");
}
