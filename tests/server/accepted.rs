//! Fields that other servers know: accepted where they change nothing, else obeyed, or refused by name.

use serde_json::{Value, json};

use super::bytes::with;
use super::doors::{CHAT, Door, LLAMA, TEXT};
use super::{PROMPT, Serve, root};

/// A text of a few tokens.
fn plain() -> Value {
    json!({"prompt": PROMPT, "max_tokens": 8, "temperature": 0})
}

fn whole(path: &'static str) -> Door {
    Door { path, stream: false }
}

#[test]
fn a_field_that_changes_nothing_is_accepted_and_changes_nothing() {
    let server = Serve::demo(&[]);
    let everywhere = [
        json!({"n_probs": 0}),
        json!({"timings_per_token": true}),
        json!({"id_slot": 0}),
        json!({"id_slot": -1}),
        json!({"prompt_cache_retention": "24h"}),
        json!({"prompt_cache_key": "a"}),
        json!({"safety_identifier": "a"}),
        json!({"modalities": ["text"]}),
        json!({"functions": []}),
        json!({"function_call": "none"}),
        json!({"tools": []}),
        json!({"tool_choice": "auto"}),
        json!({"tool_choice": "none"}),
        json!({"parallel_tool_calls": true}),
        json!({"user": "someone"}),
        json!({"metadata": {"a": "b"}}),
        json!({"store": false}),
        json!({"service_tier": "auto"}),
        json!({"prediction": {"type": "content", "content": "x"}}),
        json!({"logit_bias": {}}),
        json!({"logit_bias": []}),
        json!({"seed": null}),
        json!({"stop": null}),
        json!({"stop": []}),
        json!({"stop": ""}),
        json!({"grammar": ""}),
        json!({"frequency_penalty": 0, "presence_penalty": 0}),
        json!({"top_p": 1}),
        json!({"n": 1}),
        json!({"echo": false}),
        json!({"suffix": null}),
        json!({"suffix": ""}),
        json!({"model": "gpt-4o"}),
        json!({"stream": null}),
        json!({"cache_prompt": true}),
        json!({"n_keep": 0}),
        json!({"lora": []}),
        json!({"max_tokens": 8.0}),
        json!({"preferences": {}}),
        json!({"preferences": null, "profile": null}),
    ];
    let of_openai = [
        json!({"stream_options": null}),
        json!({"stream_options": {}}),
        json!({"stream_options": {"include_usage": true, "include_obfuscation": false}}),
        json!({"response_format": {"type": "text"}}),
        json!({"response_format": null}),
        json!({"max_tokens": null, "max_completion_tokens": 8}),
        json!({"max_tokens": 9, "max_completion_tokens": 8}),
        json!({"logprobs": null}),
    ];
    let of_chat = [
        json!({"chat_template_kwargs": {}}),
        json!({"chat_template_kwargs": {"enable_thinking": false}}),
        json!({"reasoning_effort": "low"}),
        json!({"verbosity": "low"}),
        json!({"add_generation_prompt": true}),
        json!({"top_logprobs": 0}),
    ];
    let of_completions = [json!({"best_of": 1}), json!({"best_of": null})];
    let of_llama = [json!({"return_tokens": true}), json!({"n_predict": 8, "max_tokens": null})];
    for path in [CHAT, TEXT, LLAMA] {
        let expected = whole(path).ask(&server, &plain());
        assert_eq!(expected.n, 8);
        let own: &[&[Value]] = match path {
            CHAT => &[&of_openai, &of_chat],
            TEXT => &[&of_openai, &of_completions],
            _ => &[&of_llama],
        };
        for extra in everywhere.iter().chain(own.iter().copied().flatten()) {
            let answer = whole(path).ask(&server, &with(plain(), extra));
            assert_eq!(answer.text, expected.text, "{path} {extra}");
        }
    }
}

#[test]
fn a_field_that_would_change_the_text_is_refused_by_name() {
    let server = Serve::demo(&[]);
    let everywhere = [
        ("tools", json!([{"type": "retrieval"}])),
        ("tool_choice", json!("required")),
        ("tool_choice", json!({"type": "function", "function": {"name": "f"}})),
        ("functions", json!([{"name": "f"}])),
        ("function_call", json!({"name": "f"})),
        ("modalities", json!(["audio"])),
        ("modalities", json!(["text", "audio"])),
        ("audio", json!({"voice": "a", "format": "wav"})),
        ("web_search_options", json!({})),
        ("echo", json!(true)),
        ("suffix", json!("x")),
        ("t_max_predict_ms", json!(100)),
        ("lora", json!([{"id": 0, "scale": 1}])),
        ("max_tokens", json!(0)),
        ("max_tokens", json!(-3)),
        ("n", json!(0)),
        ("stop", json!(vec!["x"; 129])),
        ("chat_template", json!("chatml")),
    ];
    let of_openai = [
        ("response_format", json!({"type": "xml"})),
        ("response_format", json!({"type": "grammar", "grammar": "root ::= \"a\""})),
        ("stream_options", json!({"continuous_usage_stats": true})),
        ("n_probs", json!(3)),
        ("response_fields", json!(["content"])),
        ("n", json!(17)),
    ];
    let of_chat = [
        ("top_logprobs", json!(2)),
        ("logprobs", json!(5)),
        ("add_generation_prompt", json!(false)),
        ("chat_template_kwargs", json!({"messages": []})),
        ("best_of", json!(2)),
    ];
    let of_completions =
        [("best_of", json!(3)), ("logprobs", json!(true)), ("logprobs", json!(21)), ("top_logprobs", json!(2))];
    let of_llama = [("n", json!(17)), ("logprobs", json!(2)), ("return_rewards", json!(true))];
    for path in [CHAT, TEXT, LLAMA] {
        let own: &[&[(&str, Value)]] = match path {
            CHAT => &[&of_openai, &of_chat],
            TEXT => &[&of_openai, &of_completions],
            _ => &[&of_llama],
        };
        let start =
            if path == CHAT { json!({"messages": [{"role": "user", "content": "x"}]}) } else { json!({"prompt": "x"}) };
        for (name, value) in everywhere.iter().chain(own.iter().copied().flatten()) {
            for stream in [false, true] {
                let mut body = with(start.clone(), &json!({"stream": stream}));
                body[*name] = value.clone();
                let (status, answer) = server.post(path, &body);
                let (message, param) = (&answer["error"]["message"], &answer["error"]["param"]);
                assert_eq!(status, 400, "{path} {name} = {value}: {answer}");
                assert!(
                    param.as_str().is_some_and(|param| param.starts_with(name)),
                    "{path} {name} = {value}: {answer}"
                );
                assert!(message.as_str().is_some_and(|message| message.contains(name)), "{path} {name}: {answer}");
            }
        }
    }
}

#[test]
fn a_field_of_another_server_is_named_as_ignored_and_a_slip_is_refused() {
    let fields = json!({"user": "someone", "mirostat_mode": 0, "banned_strings": [], "temp_last": true});
    let ignored = |answer: &Value| {
        let mut names: Vec<_> = answer["genarm"]["ignored"].as_array().into_iter().flatten().collect();
        names.sort_by_key(ToString::to_string);
        json!(names)
    };
    let server = Serve::demo(&[]);
    for path in [TEXT, LLAMA] {
        let answer = server.ok(path, &with(json!({"prompt": "x", "max_tokens": 1}), &fields));
        assert_eq!(ignored(&answer), json!(["banned_strings", "mirostat_mode", "temp_last", "user"]), "{path}");
        let (status, answer) = server.post(path, &json!({"prompt": "x", "max_token": 1}));
        assert_eq!((status, answer["error"]["param"].as_str()), (400, Some("max_token")), "{answer}");
    }
    let strict = Serve::demo(&["--strict-fields"]);
    let (status, answer) = strict.post(TEXT, &json!({"prompt": "x", "banned_strings": []}));
    assert_eq!((status, answer["error"]["param"].as_str()), (400, Some("banned_strings")), "{answer}");
}

#[test]
fn fields_of_a_message_that_mean_nothing_are_accepted_and_the_others_refused() {
    let server = Serve::demo(&[]);
    let ask = |message: Value| {
        let messages = json!([{"role": "user", "content": "Hi"}, message, {"role": "user", "content": "x"}]);
        server.post(CHAT, &json!({"messages": messages, "max_tokens": 1}))
    };
    // An answer as the client got it.
    let answer = json!({"role": "assistant", "content": "Hello", "refusal": null, "tool_calls": null, "audio": null,
        "function_call": null, "annotations": []});
    assert_eq!(ask(answer).0, 200);
    assert_eq!(ask(json!({"role": "user", "content": "Hello", "name": "Tom"})).0, 200);
    assert_eq!(ask(json!({"role": "tool", "content": "5", "tool_call_id": "a"})).0, 200);
    for (message, param) in [
        (
            json!({"role": "assistant", "content": null, "tool_calls": [{"id": "a"}]}),
            "messages[1].tool_calls[0].function",
        ),
        (
            json!({"role": "user", "content": "x", "tool_calls": [{"function": {"name": "f"}}]}),
            "messages[1].tool_calls",
        ),
        (json!({"role": "robot", "content": "5"}), "messages[1].role"),
        (json!({"role": "user", "content": null}), "messages[1].content"),
        (json!({"role": "user", "content": "x", "contents": "y"}), "messages[1].contents"),
        (json!({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}), "messages[1].content"),
    ] {
        let (status, answer) = ask(message);
        assert_eq!((status, answer["error"]["param"].as_str()), (400, Some(param)), "{answer}");
    }
}

#[test]
fn a_bound_on_tokens_holds_under_each_of_its_names() {
    let server = Serve::demo(&[]);
    for path in [CHAT, TEXT, LLAMA] {
        for name in ["max_tokens", "max_completion_tokens", "n_predict"] {
            let mut body = json!({"prompt": PROMPT, "temperature": 0});
            body[name] = json!(3);
            assert_eq!(whole(path).ask(&server, &body).n, 3, "{path} {name}");
            body[name] = json!(-1);
            body["stop"] = json!(".");
            let answer = whole(path).ask(&server, &body);
            assert!(!answer.text.contains('.') && answer.n > 3, "{path} {name}: {answer:?}");
        }
        let body =
            json!({"prompt": PROMPT, "temperature": 0, "max_tokens": 5, "max_completion_tokens": 2, "n_predict": 9});
        assert_eq!(whole(path).ask(&server, &body).n, 2, "the smallest bound holds");
    }
}

#[test]
fn a_forbidden_token_may_be_written_as_llama_cpp_writes_it() {
    let server = Serve::demo(&[]);
    let first =
        server.ok(LLAMA, &json!({"prompt": PROMPT, "n_predict": 1, "temperature": 0, "return_tokens": true}))["tokens"]
            [0]
        .clone();
    let text = |bias: Value| whole(TEXT).ask(&server, &with(plain(), &json!({"logit_bias": bias}))).text;
    let pairs = text(json!([[first, false]]));
    assert_eq!(pairs, text(json!({first.to_string(): -100})));
    assert_ne!(pairs, text(json!({})));
}

#[test]
fn two_constraints_on_one_text_are_refused() {
    let server = Serve::demo(&[]);
    for (name, value) in [("grammar", json!("root ::= \"a\"")), ("json_schema", json!({"type": "string"}))] {
        let mut body = json!({"prompt": "x", "response_format": {"type": "json_object"}});
        body[name] = value;
        let (status, answer) = server.post(TEXT, &body);
        assert_eq!((status, &answer["error"]["param"]), (400, &json!(name)), "{answer}");
    }
}

#[test]
fn a_schema_beside_json_object_is_obeyed() {
    let server = Serve::demo(&[]);
    let format = json!({"type": "json_object", "schema": {"enum": ["yes"]}});
    let body = json!({"prompt": PROMPT, "max_tokens": 20, "response_format": format});
    assert_eq!(whole(TEXT).ask(&server, &body).text, "\"yes\"");
}

#[test]
fn variables_reach_the_chat_template() {
    let template = "{{ messages[-1].content }}{% if enable_thinking is defined and not enable_thinking %} At once.{% endif %}{{ reasoning_effort }}";
    let base = root().join("models/base.gguf").display().to_string();
    let server = Serve::start(&["--base", &base, "--chat-template", template]);
    let n_prompt = |fields: Value| {
        let body = with(json!({"messages": [{"role": "user", "content": PROMPT}], "max_tokens": 1}), &fields);
        server.ok(CHAT, &body)["usage"]["prompt_tokens"].as_u64().expect("a number")
    };
    let plain = n_prompt(json!({}));
    assert_eq!(n_prompt(json!({"chat_template_kwargs": {"enable_thinking": true}})), plain);
    assert!(n_prompt(json!({"chat_template_kwargs": {"enable_thinking": false}})) > plain);
    assert!(n_prompt(json!({"reasoning_effort": "high"})) > plain);
}
