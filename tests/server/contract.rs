//! Every route, field and error, over HTTP.

use serde_json::{Value, json};

use super::{PROMPT, Serve, answer, client, text_of};

fn error<'a>(answer: &'a (u16, Value), status: u16, param: &str) -> &'a str {
    assert_eq!(answer.0, status, "{answer:?}");
    let error = &answer.1["error"];
    let expected = if param.is_empty() { Value::Null } else { param.into() };
    assert_eq!(error["param"], expected, "{error}");
    assert!(error["type"].is_string() && error.get("code").is_some(), "{error}");
    error["message"].as_str().expect("a sentence")
}

#[test]
fn the_routes_that_describe_answer() {
    let server = Serve::demo(&["--metrics", "--parallel", "3"]);
    let (status, health) = server.get("/health");
    assert_eq!((status, &health["status"], &health["slots"]), (200, &json!("ok"), &json!(3)));
    let (_, models) = server.get("/v1/models");
    assert_eq!((&models["object"], &models["data"][0]["id"]), (&json!("list"), &json!("base")));
    assert_eq!(server.get("/v1/models/base").1["object"], "model");
    error(&server.get("/v1/models/other"), 404, "");
    let (_, preferences) = server.get("/v1/preferences");
    assert_eq!(preferences["arms"][0], json!({"name": "cheerful", "weight": 1.0, "beta_r": null}));
    assert_eq!(preferences["profiles"]["happy"]["cheerful"], 1.5);
    let (_, props) = server.get("/props");
    assert_eq!((&props["total_slots"], &props["default_generation_settings"]["n_ctx"]), (&json!(3), &json!(512)));
    server.greedy(PROMPT, 4, &json!({}));
    assert_eq!(server.metric("genarm_generated_tokens_total"), 4.0);
    assert_eq!(server.metric("genarm_http_requests_total{route=\"/v1/completions\",status=\"200\"}"), 1.0);
    assert_eq!(error(&server.get("/v1/nothing"), 404, "").split_whitespace().next(), Some("there"));
    error(&server.get("/v1/completions"), 405, "");
}

#[test]
fn tokens_go_to_text_and_back() {
    let server = Serve::demo(&[]);
    let tokens = server.ok("/tokenize", &json!({"content": PROMPT}));
    assert_eq!(server.ok("/detokenize", &tokens)["content"], PROMPT);
    let pieces = server.ok("/tokenize", &json!({"content": "Lily ran.", "with_pieces": true}));
    let texts: String =
        pieces["tokens"].as_array().expect("a list").iter().filter_map(|t| t["piece"].as_str()).collect();
    assert_eq!(texts, "Lily ran.");
    error(&server.post("/detokenize", &json!({"tokens": [999_999]})), 400, "tokens");
    let answer = server.ok("/completion", &json!({"prompt": PROMPT, "n_predict": 5, "temperature": 0}));
    assert_eq!(
        (&answer["stop"], &answer["stop_type"], &answer["tokens_predicted"]),
        (&json!(true), &json!("limit"), &json!(5))
    );
    assert_eq!(answer["content"], server.greedy(PROMPT, 5, &json!({})));
}

#[test]
fn a_completion_says_what_it_used_and_follows_its_weights() {
    let server = Serve::demo(&[]);
    let body = json!({"prompt": PROMPT, "max_tokens": 24, "temperature": 0, "preferences": {"cheerful": 0, "talkative": 0, "plain": 0}});
    let base = server.ok("/v1/completions", &body);
    assert_eq!(base["object"], "text_completion");
    assert_eq!(base["genarm"]["weights"], json!({"cheerful": 0.0, "talkative": 0.0, "plain": 0.0}));
    assert_eq!(base["usage"]["completion_tokens"], 24);
    assert_eq!(base["choices"][0]["finish_reason"], "length");
    let profile = server
        .ok("/v1/completions", &json!({"prompt": PROMPT, "max_tokens": 24, "temperature": 0, "profile": "neutral"}));
    assert_eq!((text_of(&profile), &profile["genarm"]["profile"]), (text_of(&base), &json!("neutral")));
    let chatty = server.greedy(PROMPT, 24, &json!({"cheerful": 0, "talkative": 1.5}));
    assert_ne!(chatty, text_of(&base));
    assert!(chatty.contains('"'), "{chatty}");
}

#[test]
fn texts_end_as_they_are_told() {
    let server = Serve::demo(&[]);
    let whole = server.greedy(PROMPT, 60, &json!({}));
    let stop =
        server.ok("/v1/completions", &json!({"prompt": PROMPT, "max_tokens": 60, "temperature": 0, "stop": "."}));
    assert_eq!(
        (&*text_of(&stop), &stop["choices"][0]["finish_reason"]),
        (whole.split('.').next().expect("a part"), &json!("stop"))
    );
    let many = json!({"prompt": [PROMPT, "Tom had"], "n": 2, "max_tokens": 6, "seed": 3, "temperature": 1});
    let many = server.ok("/v1/completions", &many);
    let choices = many["choices"].as_array().expect("a list");
    assert_eq!(choices.iter().map(|c| c["index"].as_u64()).collect::<Vec<_>>(), [Some(0), Some(1), Some(2), Some(3)]);
    let tokens = &server.ok("/tokenize", &json!({"content": PROMPT, "add_special": true}))["tokens"];
    let by_token = server.ok("/v1/completions", &json!({"prompt": tokens, "max_tokens": 9, "temperature": 0}));
    assert!(whole.starts_with(&text_of(&by_token)));
    let ctx = server.ok("/v1/completions", &json!({"prompt": PROMPT, "max_tokens": 5000, "ignore_eos": true}));
    assert_eq!(ctx["choices"][0]["finish_reason"], "length");
    let total = ctx["usage"]["total_tokens"].as_u64().expect("a number");
    assert!((512..=513).contains(&total), "{total}");
}

#[test]
fn a_seed_gives_the_same_text_again_where_one_text_at_a_time_is_served() {
    let server = Serve::demo(&["--parallel", "1"]);
    let body = json!({"prompt": PROMPT, "max_tokens": 40, "seed": 7, "temperature": 1});
    let first = text_of(&server.ok("/v1/completions", &body));
    server.greedy(&format!("{PROMPT} She had"), 20, &json!({}));
    for _ in 0..2 {
        let again = server.ok("/v1/completions", &body);
        assert_eq!(
            (text_of(&again), &again["usage"]["prompt_tokens_details"]["cached_tokens"]),
            (first.clone(), &json!(0))
        );
    }
    let other = server.ok("/v1/completions", &json!({"prompt": PROMPT, "max_tokens": 40, "seed": 8, "temperature": 1}));
    assert_ne!(text_of(&other), first);
}

#[test]
fn a_prompt_that_goes_on_is_not_read_again() {
    let server = Serve::demo(&["--parallel", "2"]);
    server.greedy("Lily had a big red ball and a small blue car.", 1, &json!({}));
    let body =
        json!({"prompt": "Lily had a big red ball and a small blue car. One day", "max_tokens": 1, "temperature": 0});
    let usage = &server.ok("/v1/completions", &body)["usage"];
    let (all, cached) = (usage["prompt_tokens"].as_u64(), usage["prompt_tokens_details"]["cached_tokens"].as_u64());
    assert!(cached >= all.map(|n| n - 4) && cached < all, "{usage}");
}

#[test]
fn a_chat_is_rendered_answered_and_continued() {
    let server = Serve::demo(&[]);
    let chat = |extra: Value| {
        let mut body = json!({"messages": [{"role": "user", "content": PROMPT}], "max_tokens": 12, "temperature": 0});
        body.as_object_mut().expect("an object").extend(extra.as_object().expect("an object").clone());
        server.ok("/v1/chat/completions", &body)
    };
    let text = |answer: &Value| answer["choices"][0]["message"]["content"].as_str().expect("a text").to_owned();
    let whole = chat(json!({}));
    assert_eq!(
        (&whole["object"], &whole["choices"][0]["message"]["role"]),
        (&json!("chat.completion"), &json!("assistant"))
    );
    assert_eq!(text(&whole), server.greedy(PROMPT, 12, &json!({})), "the template \"raw\" adds nothing");
    assert_eq!(
        text(&chat(json!({"max_tokens": null, "max_completion_tokens": 3}))),
        server.greedy(PROMPT, 3, &json!({}))
    );
    let begun = text(&chat(json!({"max_tokens": 5})));
    let rest = chat(json!({"max_tokens": 7, "continue_final_message": true,
        "messages": [{"role": "user", "content": PROMPT}, {"role": "assistant", "content": begun}]}));
    assert_eq!(begun + &text(&rest), text(&whole));
    let parts = json!({"messages": [{"role": "user", "content": [{"type": "text", "text": PROMPT}]}]});
    assert_eq!(text(&chat(parts)), text(&whole));
}

#[test]
fn log_probabilities_and_rewards_agree_with_scores() {
    let server = Serve::demo(&[]);
    let body = json!({"messages": [{"role": "user", "content": PROMPT}], "max_tokens": 10, "temperature": 0,
        "logprobs": true, "top_logprobs": 3, "return_rewards": true, "preferences": {"cheerful": 0.5, "plain": 0.25}});
    let answer = server.ok("/v1/chat/completions", &body);
    let choice = &answer["choices"][0];
    let (content, rewards) = (&choice["logprobs"]["content"], choice["rewards"].as_array().expect("rewards"));
    let scored = server.ok(
        "/v1/score",
        &json!({"prompt": PROMPT, "response": choice["message"]["content"],
        "preferences": {"cheerful": 0.5, "plain": 0.25}}),
    );
    let near = |a: &Value, b: &Value| (a.as_f64().expect("a number") - b.as_f64().expect("a number")).abs() < 0.05;
    assert_eq!(rewards.len(), 10);
    for (i, reward) in rewards.iter().enumerate() {
        let (token, score) = (&content[i], &scored["tokens"][i]);
        assert_eq!((&reward["token"], &reward["token"]), (&token["token"], &score["token"]), "token {i}");
        assert_eq!(token["top_logprobs"].as_array().map(Vec::len), Some(3));
        assert_eq!(token["top_logprobs"][0]["token"], token["token"], "greedy takes the likeliest");
        assert!(
            near(&token["logprob"], &reward["guided"]) && near(&reward["guided"], &score["guided"]),
            "{reward} {score}"
        );
        assert!(near(&reward["base"], &score["base"]), "{reward} {score}");
        for arm in ["cheerful", "talkative", "plain"] {
            assert!(near(&reward["arms"][arm], &score["arms"][arm]), "{arm}: {reward} {score}");
        }
    }
    let sum: f64 = (0..10).map(|i| scored["tokens"][i]["arms"]["cheerful"].as_f64().expect("a number")).sum();
    assert!((sum - scored["totals"]["arms"]["cheerful"].as_f64().expect("a number")).abs() < 1e-3);
    let completion =
        server.ok("/v1/completions", &json!({"prompt": PROMPT, "max_tokens": 4, "temperature": 0, "logprobs": 2}));
    let logprobs = &completion["choices"][0]["logprobs"];
    assert_eq!(logprobs["tokens"].as_array().map(Vec::len), Some(4));
    assert_eq!(logprobs["top_logprobs"][0].as_object().map(serde_json::Map::len), Some(2));
}

#[test]
fn json_output_satisfies_its_schema() {
    let server = Serve::demo(&["--parallel", "4"]);
    let schema = json!({
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 12},
            "mood": {"enum": ["happy", "sad", "angry"]},
            "age": {"type": "integer", "minimum": 1, "maximum": 99},
            "pets": {"type": "array", "items": {"enum": ["cat", "dog"]}, "maxItems": 2},
        },
        "required": ["name", "mood", "age", "pets"],
        "additionalProperties": false,
    });
    let validator = jsonschema::validator_for(&schema).expect("a schema");
    for seed in 0..6 {
        let body = json!({"messages": [{"role": "user", "content": PROMPT}], "seed": seed, "temperature": 1, "max_tokens": 200,
            "response_format": {"type": "json_schema", "json_schema": {"name": "child", "strict": true, "schema": schema}}});
        let answer = server.ok("/v1/chat/completions", &body);
        assert_eq!(answer["choices"][0]["finish_reason"], "stop", "{answer}");
        let text = answer["choices"][0]["message"]["content"].as_str().expect("a text");
        let value: Value = serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"));
        assert!(validator.is_valid(&value), "{text}");
    }
    let any = server.ok(
        "/v1/chat/completions",
        &json!({"messages": [{"role": "user", "content": PROMPT}], "temperature": 0,
        "max_tokens": 8, "response_format": {"type": "json_object"}}),
    );
    assert!(any["choices"][0]["message"]["content"].as_str().expect("a text").trim_start().starts_with('{'));
}

#[test]
fn sampling_parameters_act() {
    let server = Serve::demo(&[]);
    let run = |extra: Value| {
        let mut body = json!({"prompt": PROMPT, "max_tokens": 30, "temperature": 0});
        body.as_object_mut().expect("an object").extend(extra.as_object().expect("an object").clone());
        text_of(&server.ok("/v1/completions", &body))
    };
    let greedy = run(json!({}));
    // Each of these leaves only the likeliest token, however hot.
    for only_best in [json!({"top_k": 1}), json!({"min_p": 1}), json!({"top_p": 0.000001, "min_p": 0})] {
        let mut hot = only_best.clone();
        hot["temperature"] = json!(1.5);
        assert_eq!(run(hot), greedy, "{only_best}");
    }
    let first = server.ok("/tokenize", &json!({"content": greedy}))["tokens"][0].as_i64().expect("a token");
    assert_ne!(run(json!({"logit_bias": {first.to_string(): -100}})), greedy);
    for penalty in ["presence_penalty", "frequency_penalty"] {
        assert_ne!(
            run(json!({penalty: 2, "penalty_last_n": 512, "max_tokens": 60})),
            run(json!({"max_tokens": 60})),
            "{penalty}"
        );
    }
    assert_eq!(run(json!({"grammar": "root ::= \"yes\""})), "yes");
}

#[test]
fn each_wrong_field_is_named_with_a_sentence_that_helps() {
    let server = Serve::demo(&["--max-body", "65536"]);
    let chat = |extra: Value| {
        let mut body = json!({"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 1});
        body.as_object_mut().expect("an object").extend(extra.as_object().expect("an object").clone());
        server.post("/v1/chat/completions", &body)
    };
    let many = |n: usize| Value::from(vec!["x"; n]);
    let biases: serde_json::Map<_, _> = (0..1025).map(|i| (i.to_string(), json!(1))).collect();
    let grammar = format!("root ::= \"{}\"", "a".repeat(66_000));
    for (extra, param, words) in [
        (json!({"temprature": 1}), "temprature", "did you mean \"temperature\"?"),
        (json!({"temperature": -1}), "temperature", "at least 0"),
        (json!({"temperature": "hot"}), "temperature", "must be a number, got a string"),
        (json!({"top_p": 2}), "top_p", "between 0 and 1"),
        (json!({"min_p": 2}), "min_p", "between 0 and 1"),
        (json!({"seed": 1.5}), "seed", "an integer"),
        (json!({"seed": -2}), "seed", "at least -1"),
        (json!({"n": 0}), "n", "at least 1"),
        (json!({"n": 17}), "n", "16 texts at most"),
        (json!({"stop": many(129)}), "stop", "128"),
        (json!({"stop": ["x".repeat(513)]}), "stop", "512 bytes"),
        (json!({"max_tokens": 0}), "max_tokens", "at least 1"),
        (json!({"logprobs": true, "top_logprobs": 21}), "top_logprobs", "at most 20"),
        (json!({"top_logprobs": 2}), "top_logprobs", "logprobs"),
        (json!({"logit_bias": {"5": 101}}), "logit_bias", "-100 and 100"),
        (json!({"logit_bias": {"99999": 1}}), "logit_bias", "outside the vocabulary"),
        (json!({"logit_bias": biases}), "logit_bias", "1024"),
        (json!({"grammar": "root :="}), "grammar", "GBNF"),
        (json!({"grammar": grammar}), "", "65536 bytes"),
        (
            json!({"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "nothing"}}}}),
            "response_format.json_schema.schema",
            "\"type\" must be one of null",
        ),
        (
            json!({"response_format": {"type": "json_schema", "json_schema": {"schema": 3}}}),
            "response_format.json_schema.schema",
            "an object, true or false",
        ),
        (json!({"response_format": {"type": "xml"}}), "response_format.type", "\"json_schema\", got \"xml\""),
        (json!({"preferences": {"cheerfull": 1}}), "preferences.cheerfull", "did you mean \"cheerful\"?"),
        (json!({"preferences": {"cheerful": 101}}), "preferences.cheerful", "between -100 and 100"),
        (json!({"preferences": {"cheerful": 1e39}}), "preferences.cheerful", "between -100 and 100"),
        (json!({"profile": "hapy"}), "profile", "did you mean \"happy\"?"),
        (json!({"tools": [{}]}), "tools[0].type", "is missing"),
        (json!({"messages": []}), "messages", "at least one"),
        (
            json!({"messages": [{"role": "wizard", "content": "x"}]}),
            "messages[0].role",
            "system, user, assistant or tool",
        ),
        (
            json!({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}),
            "messages[0].content",
            "only text",
        ),
        (json!({"continue_final_message": true}), "continue_final_message", "assistant"),
    ] {
        let answer = chat(extra.clone());
        let status = if extra.to_string().len() > 65_000 { 413 } else { 400 };
        let message = error(&answer, status, param);
        assert!(message.contains(words), "{extra}: {message}");
    }
    let long = "Lily ran. ".repeat(400);
    let answer = server.post("/v1/completions", &json!({"prompt": long}));
    assert!(error(&answer, 400, "prompt").contains("context"), "{answer:?}");
    assert_eq!(answer.1["error"]["code"], "context_length_exceeded");
    error(&server.post("/v1/completions", &json!({"prompt": "x", "echo": true})), 400, "echo");
    error(&server.post("/v1/completions", &json!({"prompt": "x", "best_of": 3})), 400, "best_of");
    error(&server.post("/v1/completions", &json!({"prompt": [70_000]})), 400, "prompt");
    let number = server.post("/v1/completions", &json!({"prompt": 5}));
    assert!(error(&number, 400, "prompt").contains("must be a string, a list of strings"), "{number:?}");
    error(&server.post("/v1/completions", &json!({"max_tokens": 5})), 400, "prompt");
    error(&server.post("/v1/score", &json!({"prompt": "x", "response": ""})), 400, "response");
    error(&server.post("/v1/score", &json!({"response": "x"})), 400, "prompt");
}

#[test]
fn bodies_that_are_no_requests_are_refused() {
    let server = Serve::demo(&["--max-body", "4096"]);
    let post = |body: &str, kind: &str| {
        answer(client().post(server.url("/v1/completions")).header("content-type", kind).body(body.to_owned()))
    };
    error(&post("{\"prompt\": \"x\"}", "text/plain"), 415, "");
    error(&post("{\"prompt\": ", "application/json"), 400, "");
    error(&post("[1, 2]", "application/json"), 400, "");
    error(&post(&"[".repeat(2000), "application/json"), 400, "");
    error(&post(&format!("{{\"prompt\": \"{}\"}}", "x".repeat(5000)), "application/json"), 413, "");
    assert_eq!(post("{\"prompt\": \"Lily\", \"max_tokens\": 1}", "application/json; charset=utf-8").0, 200);
}
