//! Grammars and schemas of requests: followed, or refused by name, and never at the cost of other texts.

use std::time::Duration;

use serde_json::{Value, json};

use super::{PROMPT, Serve, text_of};

/// A completion under a schema.
fn under(schema: &Value, strict: bool) -> Value {
    json!({"prompt": PROMPT, "max_tokens": 24, "temperature": 1, "seed": 5, "response_format":
        {"type": "json_schema", "json_schema": {"name": "x", "strict": strict, "schema": schema}}})
}

/// A completion under a grammar.
fn by(grammar: &str) -> Value {
    json!({"prompt": PROMPT, "max_tokens": 60, "temperature": 1, "seed": 5, "grammar": grammar})
}

fn hostile() -> Vec<Value> {
    let nested = format!("root ::= {}\"a\"{}", "(".repeat(8000), ")".repeat(8000));
    let many: serde_json::Map<_, _> = (0..900).map(|i| (format!("p{i}"), json!({"type": "integer"}))).collect();
    let mut bodies: Vec<_> = [
        &nested,
        "root ::= x\nx ::= e x \"a\" | \"b\"\ne ::= f\nf ::= \"\" | \"c\"\n",
        "root ::= s\ns ::= \"a\" s x | \"a\" s y\nx ::= \"b\"\ny ::= \"b\"\n",
        "root ::= ((\"a\"{0,44}){0,44})",
        "root ::= ((((\"\"{2000}){2000}){2000}){2000})",
        "root ::= (((.{2000}){2000}){2000})",
        "root ::= (.* .* .* .*)* \"\\U0010FFFF\"",
    ]
    .map(by)
    .into();
    for strict in [true, false] {
        bodies.extend(
            [
                json!({"$defs": {"a": {"$ref": "#/$defs/a"}}, "allOf": [{"$ref": "#/$defs/a"}]}),
                json!({"type": "object", "properties": {"!".repeat(8000): {"type": "string"}}}),
                json!({"type": "object", "properties": many}),
                json!({"type": "string", "pattern": "^(a+)+$"}),
                json!({"type": "string", "pattern": "^((a{0,100}){0,100}){0,100}$"}),
                json!({"type": "string", "pattern": "^(.*a){20}$", "minLength": 50}),
            ]
            .map(|schema| under(&schema, strict)),
        );
    }
    bodies
}

#[test]
fn hostile_grammars_and_schemas_end_as_requests_of_their_own_while_other_texts_go_on() {
    let server = Serve::demo(&["--parallel", "4"]);
    std::thread::scope(|scope| {
        let others: Vec<_> = (0..2)
            .map(|_| scope.spawn(|| (0..4).map(|_| server.greedy(PROMPT, 60, &json!({}))).collect::<Vec<_>>()))
            .collect();
        for body in hostile() {
            let (status, answer) = server.post("/v1/completions", &body);
            assert!(status == 200 || status == 400, "{status} {answer}");
            let message = answer["error"]["message"].as_str().unwrap_or_default();
            assert!(message.len() < 300, "{message}");
            assert_eq!(server.get("/health").0, 200);
        }
        for other in others {
            assert!(other.join().expect("texts").iter().all(|text| !text.is_empty()));
        }
    });
    server.settle();
}

#[test]
fn a_server_ends_when_it_is_told_to_while_hostile_grammars_run() {
    let mut server = Serve::demo(&["--shutdown-timeout", "1"]);
    let (url, client) = (server.url("/v1/completions"), super::client());
    let endless = json!({"prompt": PROMPT, "max_tokens": 400, "temperature": 1, "stream": true,
        "grammar": "root ::= s\ns ::= . s x | . s y\nx ::= \"b\"\ny ::= \"b\"\n"});
    let running = client.post(url).json(&endless).send().expect("an answer");
    assert_eq!(running.status(), 200);
    server.signal("TERM");
    assert!(server.wait(Duration::from_secs(60)).is_some(), "the server goes on");
}

#[test]
fn a_strict_schema_is_obeyed_or_refused_with_its_keyword() {
    let server = Serve::demo(&[]);
    for (schema, keyword) in [
        (json!({"not": {"type": "string"}}), "not"),
        (json!({"type": "string", "format": "regex"}), "format"),
        (json!({"type": "string", "pattern": "(?=a)b"}), "pattern"),
        (json!({"type": "array", "uniqueItems": true}), "uniqueItems"),
        (json!({"$ref": "#/$defs/None"}), "#/$defs/None"),
    ] {
        let (status, answer) = server.post("/v1/completions", &under(&schema, true));
        let error = &answer["error"];
        assert_eq!((status, &error["param"]), (400, &json!("response_format.json_schema.schema")), "{answer}");
        let message = error["message"].as_str().expect("a message");
        assert!(message.starts_with("response_format.json_schema.schema: "), "{message}");
        assert!(message.contains(keyword) && !message.contains("::"), "{message}");
    }
    for schema in [
        json!({"type": "string", "pattern": "^\\d{4}-\\d{2}$"}),
        json!({"type": "string", "pattern": "[0-9]+", "maxLength": 6}),
        json!({"type": "string", "format": "date"}),
        json!({"type": "integer", "multipleOf": 7, "minimum": 100, "maximum": 999}),
        json!({"type": "object", "properties": {"a": true}, "required": ["a"]}),
    ] {
        let mut body = under(&schema, true);
        body["max_tokens"] = 200.into();
        let answer = server.ok("/v1/completions", &body);
        assert_eq!(answer["genarm"]["warnings"], Value::Null);
        if answer["choices"][0]["finish_reason"] == "stop" {
            let value: Value = serde_json::from_str(&text_of(&answer)).unwrap_or_else(|e| panic!("{e}: {answer}"));
            assert!(jsonschema::validator_for(&schema).expect("a schema").is_valid(&value), "{schema}: {value}");
        }
    }
}

#[test]
fn what_a_schema_that_is_not_strict_asks_in_vain_is_told_in_the_answer() {
    let server = Serve::demo(&[]);
    let schema = json!({"type": "array", "items": {"enum": [1, 2]}, "maxItems": 3, "uniqueItems": true});
    let answer = server.ok("/v1/completions", &under(&schema, false));
    let warnings = answer["genarm"]["warnings"].as_array().expect("warnings");
    assert!(warnings[0].as_str().is_some_and(|w| w.contains("\"uniqueItems\" is not enforced")), "{answer}");
    let own = json!({"prompt": PROMPT, "n_predict": 24, "temperature": 0, "json_schema": schema});
    let answer = server.ok("/completion", &own);
    assert!(answer["genarm"]["warnings"][0].as_str().is_some_and(|w| w.contains("uniqueItems")), "{answer}");
    // As llama.cpp's clients write it.
    let body =
        json!({"prompt": PROMPT, "max_tokens": 8, "response_format": {"type": "json_object", "schema": {"const": 12}}});
    assert_eq!(text_of(&server.ok("/v1/completions", &body)), "12");
    let body = json!({"prompt": PROMPT, "max_tokens": 8, "response_format":
        {"type": "json_schema", "json_schema": {"schema": true}}});
    server.ok("/v1/completions", &body);
}

#[test]
fn nothing_of_a_broken_grammar_is_written_to_the_log() {
    let server = Serve::demo(&[]);
    let forged = "2026-01-01T00:00:00Z ERROR genarm: forged \u{1b}[31mline";
    let (status, answer) =
        server.post("/completion", &json!({"prompt": "x", "grammar": format!("root ::= \n{forged}\n (")}));
    assert_eq!(status, 400);
    let (_, other) = server.post("/v1/completions", &under(&json!({"pattern": format!("({forged}")}), true));
    for answer in [&answer, &other] {
        assert!(!answer.to_string().contains("forged"), "{answer}");
    }
    // The next request is answered after the log lines of these.
    server.ok("/completion", &json!({"prompt": "x", "n_predict": 1}));
    let talk = server.talk.lock().expect("a lock").clone();
    assert!(!talk.contains("forged") && !talk.contains('\u{1b}'), "{talk}");
}

#[test]
fn a_server_without_grammars_refuses_them_by_name() {
    let server = Serve::demo(&["--no-grammar"]);
    let object = json!({"type": "object"});
    for (path, body, param) in [
        ("/completion", json!({"prompt": "x", "grammar": "root ::= \"a\""}), "grammar"),
        ("/completion", json!({"prompt": "x", "json_schema": object}), "json_schema"),
        ("/v1/completions", under(&object, true), "response_format.json_schema.schema"),
    ] {
        let (status, answer) = server.post(path, &body);
        assert_eq!((status, &answer["error"]["param"]), (400, &json!(param)), "{answer}");
        assert!(answer["error"]["message"].as_str().is_some_and(|m| m.starts_with(param)), "{answer}");
    }
    server.ok("/completion", &json!({"prompt": "x", "n_predict": 1}));
}
