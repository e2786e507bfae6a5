//! Tools: called, answered, streamed, and kept to their schemas, on all three routes that have them.

use serde_json::{Value, json};

use super::doors::{CHAT, LLAMA, TEXT};
use super::stream::{events, runtime};
use super::{Serve, root};

const RESPONSES: &str = "/v1/responses";
const MESSAGES: &str = "/v1/messages";

fn server() -> Serve {
    serve(&[])
}

/// The smallest models under a template that was taught no tools, and room for a few turns.
pub fn serve(args: &[&str]) -> Serve {
    let base = root().join("models/base.gguf").display().to_string();
    let arm = format!("cheerful={}", root().join("models/arm-cheerful.gguf").display());
    Serve::start(&[&["--base", &base, "--arm", &arm, "--chat-template", "chatml", "--n-ctx", "2048"], args].concat())
}

/// Schemas that leave no choice: what a small model writes is known.
fn city() -> Value {
    json!({"type": "object", "properties": {"city": {"enum": ["Rome"]}}, "required": ["city"]})
}

fn tool(name: &str) -> Value {
    json!({"type": "function", "function": {"name": name, "description": "Tells the weather", "parameters": city()}})
}

fn arguments(text: &Value) -> Value {
    serde_json::from_str(text.as_str().expect("a text")).expect("JSON")
}

fn question() -> Value {
    json!([{"role": "user", "content": "Is it warm?"}])
}

#[test]
fn a_required_call_follows_its_schema_and_is_streamed_in_parts() {
    let server = server();
    let body = json!({"messages": question(), "tools": [tool("weather"), tool("news")], "max_tokens": 200,
        "tool_choice": {"type": "function", "function": {"name": "weather"}}, "temperature": 0});
    let whole = server.ok(CHAT, &body);
    let choice = &whole["choices"][0];
    assert_eq!((&choice["finish_reason"], &choice["message"]["content"]), (&json!("tool_calls"), &Value::Null));
    let call = &choice["message"]["tool_calls"][0];
    assert_eq!((&call["type"], &call["function"]["name"]), (&json!("function"), &json!("weather")), "{whole}");
    assert_eq!(arguments(&call["function"]["arguments"]), json!({"city": "Rome"}));
    assert!(call["id"].as_str().is_some_and(|id| !id.is_empty()));

    let mut streamed = body;
    streamed["stream"] = true.into();
    let chunks = runtime().block_on(events(server.url(CHAT), streamed));
    let deltas: Vec<&Value> = chunks.iter().map(|chunk| &chunk["choices"][0]["delta"]).collect();
    let calls: Vec<&Value> = deltas.iter().filter_map(|delta| delta["tool_calls"].get(0)).collect();
    assert_eq!((&calls[0]["index"], &calls[0]["function"]["name"]), (&json!(0), &json!("weather")));
    assert!(calls[1..].iter().all(|call| call.get("id").is_none() && call["function"].get("name").is_none()));
    let text: String = calls.iter().filter_map(|call| call["function"]["arguments"].as_str()).collect();
    assert_eq!(arguments(&json!(text)), json!({"city": "Rome"}));
    let last = chunks.iter().rfind(|chunk| chunk["choices"][0]["finish_reason"].is_string()).expect("an end");
    assert_eq!(last["choices"][0]["finish_reason"], "tool_calls");
    assert!(
        last["choices"][0]["delta"].as_object().is_some_and(serde_json::Map::is_empty),
        "no text beside the reason"
    );
}

#[test]
fn a_conversation_goes_on_with_what_a_tool_answered_and_every_arm_reads_it() {
    let server = server();
    let call =
        json!({"id": "a", "type": "function", "function": {"name": "weather", "arguments": "{\"city\":\"Rome\"}"}});
    let messages = json!([{"role": "user", "content": "Is it warm?"},
        {"role": "assistant", "content": null, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "a", "content": "31 degrees"}]);
    let text = server.ok("/apply-template", &json!({"messages": messages, "tools": [tool("weather")]}));
    let text = text["prompt"].as_str().expect("a text");
    for part in
        ["\"name\":\"weather\"", "<tool_call>\n{\"name\":\"weather\",\"arguments\":{\"city\":\"Rome\"}}", "31 degrees"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    let answer = server.ok(
        CHAT,
        &json!({"messages": messages, "tools": [tool("weather")], "max_tokens": 4,
        "tool_choice": "none", "return_rewards": true}),
    );
    assert_eq!(answer["choices"][0]["rewards"][0]["arms"].as_object().expect("rewards").len(), 1);
    assert!(answer["choices"][0]["message"].get("tool_calls").is_none());
}

#[test]
fn responses_and_messages_call_tools_in_their_own_words() {
    let server = server();
    let flat = json!({"type": "function", "name": "weather", "parameters": city()});
    let body = json!({"input": "Is it warm?", "tools": [flat], "tool_choice": "required", "max_output_tokens": 200,
        "temperature": 0});
    let response = server.ok(RESPONSES, &body);
    let call = &response["output"][0];
    assert_eq!((&response["status"], &call["type"]), (&json!("completed"), &json!("function_call")), "{response}");
    assert_eq!((&call["name"], arguments(&call["arguments"])), (&json!("weather"), json!({"city": "Rome"})));
    let mut streamed = body;
    streamed["stream"] = true.into();
    let chunks = runtime().block_on(events(server.url(RESPONSES), streamed));
    let text: String = chunks
        .iter()
        .filter(|chunk| chunk["type"] == "response.function_call_arguments.delta")
        .filter_map(|chunk| chunk["delta"].as_str())
        .collect();
    assert_eq!(arguments(&json!(text)), json!({"city": "Rome"}));
    let numbers: Vec<_> = chunks.iter().filter_map(|chunk| chunk["sequence_number"].as_u64()).collect();
    assert_eq!(numbers, (0..chunks.len() as u64).collect::<Vec<_>>());
    assert_eq!(chunks.last().expect("an end")["response"]["output"][0]["name"], "weather");
    assert_eq!(response["tools"][0]["name"], "weather", "an answer repeats its tools");
    assert_eq!((&response["tool_choice"], &response["instructions"]), (&json!("required"), &Value::Null));
    let cut = server.ok(
        RESPONSES,
        &json!({"input": "Is it warm?", "max_output_tokens": 2, "ignore_eos": true,
        "metadata": {"a": "b"}, "instructions": "Be short."}),
    );
    assert_eq!((&cut["status"], &cut["output"][0]["status"]), (&json!("incomplete"), &json!("incomplete")), "{cut}");
    assert_eq!((&cut["metadata"], &cut["instructions"]), (&json!({"a": "b"}), &json!("Be short.")));

    let tools = json!([{"name": "weather", "input_schema": city()}]);
    let body = json!({"messages": question(), "tools": tools, "tool_choice": {"type": "any"}, "max_tokens": 200,
        "temperature": 0});
    let message = server.ok(MESSAGES, &body);
    let block = &message["content"][0];
    assert_eq!((&message["stop_reason"], &block["type"]), (&json!("tool_use"), &json!("tool_use")), "{message}");
    assert_eq!((&block["name"], &block["input"]), (&json!("weather"), &json!({"city": "Rome"})));
    let again = json!([{"role": "user", "content": "Is it warm?"}, {"role": "assistant", "content": [block]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": block["id"], "content": "31"}]}]);
    let count = server.ok("/v1/messages/count_tokens", &json!({"messages": again, "tools": tools, "max_tokens": 1}));
    assert!(count["input_tokens"].as_u64() > Some(50), "{count}");
    let mut streamed = body;
    streamed["stream"] = true.into();
    let chunks = runtime().block_on(events(server.url(MESSAGES), streamed));
    let kinds: Vec<_> = chunks.iter().filter_map(|chunk| chunk["type"].as_str()).collect();
    assert_eq!(
        (kinds[0], kinds[1], *kinds.last().expect("one")),
        ("message_start", "content_block_start", "message_stop")
    );
}

#[test]
fn tools_that_cannot_be_called_are_refused_by_name() {
    let server = server();
    for (path, body, param) in [
        (CHAT, json!({"tools": [{"type": "retrieval"}]}), "tools[0].type"),
        (CHAT, json!({"tools": [{"type": "function", "function": {}}]}), "tools[0].function.name"),
        (CHAT, json!({"tools": [tool("a")], "tool_choice": {"function": {"name": "b"}}}), "tool_choice"),
        (CHAT, json!({"tool_choice": "required"}), "tool_choice"),
        (CHAT, json!({"tools": [tool("a")], "response_format": {"type": "json_object"}}), "tools"),
        (CHAT, json!({"tools": [tool("a")], "grammar": "root ::= \"x\""}), "tools"),
        (CHAT, json!({"tools": vec![tool("a"); 300]}), "tools"),
        (CHAT, json!({"truncation": "some"}), "truncation"),
        (CHAT, json!({"reasoning_format": "x"}), "reasoning_format"),
        (TEXT, json!({"prompt": "x", "tools": [tool("a")]}), "tools"),
        (LLAMA, json!({"prompt": "x", "tools": [tool("a")]}), "tools"),
        (RESPONSES, json!({"input": "x", "previous_response_id": "a"}), "previous_response_id"),
        (RESPONSES, json!({"input": [{"type": "item_reference", "id": "a"}]}), "input[0]"),
        (RESPONSES, json!({"input": "x", "max_output_tokens": 0}), "max_output_tokens"),
        (RESPONSES, json!({"input": "x", "max_output_tokens": 5, "max_tokens": 6}), "max_tokens"),
        (RESPONSES, json!({"input": "x", "text": {"format": {"type": "xml"}}}), "text.format.type"),
        (RESPONSES, json!({"input": "x", "text": {"fromat": {"type": "text"}}}), "text.fromat"),
        (RESPONSES, json!({"input": "x", "top_logprobs": 2}), "top_logprobs"),
        (RESPONSES, json!({"instructions": "y", "input": [{"role": "robot", "content": "x"}]}), "input[0].role"),
        (RESPONSES, json!({"instructions": "y", "input": [{"role": "user", "content": 5}]}), "input[0].content"),
        (MESSAGES, json!({"messages": [{"role": "user", "content": [{"type": "image"}]}]}), "messages[0].content[0]"),
        (MESSAGES, json!({"system": "y", "messages": [{"role": "user", "content": 5}]}), "messages[0].content"),
        (MESSAGES, json!({"messages": question(), "stop_sequences": 5}), "stop_sequences"),
        (MESSAGES, json!({"messages": question(), "thinking": {"tpye": "disabled"}}), "thinking.type"),
        (
            MESSAGES,
            json!({"messages": question(), "tools": [{"name": "a", "input_shcema": {}}]}),
            "tools[0].input_shcema",
        ),
    ] {
        let mut body = body;
        if path == CHAT {
            body["messages"] = question();
        }
        let (status, answer) = server.post(path, &body);
        assert_eq!((status, answer["error"]["param"].as_str()), (400, Some(param)), "{path} {body}: {answer}");
    }
}

#[test]
fn a_control_token_in_the_name_of_who_speaks_is_refused() {
    let template = "{% for m in messages %}{{ m.role }} {{ m.name }}: {{ m.content }}\n{% endfor %}";
    let base = root().join("models/base.gguf").display().to_string();
    let server = Serve::start(&["--base", &base, "--chat-template", template]);
    let named = json!({"role": "user", "content": "x", "name": "Tom<|endoftext|>"});
    let (status, answer) = server.post(CHAT, &json!({"messages": [named], "max_tokens": 1}));
    let message = answer["error"]["message"].as_str().unwrap_or_default();
    assert!(status == 400 && message.contains("a message's name spells a control token"), "{answer}");
}

#[test]
fn what_the_configuration_asks_of_every_text_gives_way_to_the_tools_of_a_request() {
    let base = root().join("models/base.gguf").display().to_string();
    let server = Serve::start(&[
        "--base",
        &base,
        "--chat-template",
        "chatml",
        "--n-ctx",
        "2048",
        "--grammar",
        "root ::= \"no\"",
    ]);
    let body = json!({"messages": question(), "tools": [tool("weather")], "tool_choice": "required", "max_tokens": 200, "temperature": 0});
    assert_eq!(server.ok(CHAT, &body)["choices"][0]["finish_reason"], "tool_calls");
    assert_eq!(server.ok(CHAT, &json!({"messages": question()}))["choices"][0]["message"]["content"], "no");
}

#[test]
fn a_conversation_that_does_not_fit_says_so_as_clients_expect_or_loses_its_oldest_turns() {
    let server = Serve::demo(&[]);
    let turn = |i: usize| {
        [
            json!({"role": "user", "content": format!("Question {i}: {}", "why ".repeat(40))}),
            json!({"role": "assistant", "content": "Because."}),
        ]
    };
    let mut messages = vec![json!({"role": "system", "content": "Be short."})];
    messages.extend((0..12).flat_map(turn));
    messages.push(json!({"role": "user", "content": "And now?"}));
    let body = json!({"messages": messages, "max_tokens": 4});
    let (status, answer) = server.post(CHAT, &body);
    let error = &answer["error"];
    assert_eq!((status, &error["type"]), (400, &json!("exceed_context_size_error")), "{answer}");
    // llama.cpp's words, and OpenAI's: aider's litellm (1.81) knows only those.
    for words in
        ["exceeds the available context size (512 tokens)", "this model's maximum context length is 512 tokens"]
    {
        assert!(error["message"].as_str().is_some_and(|text| text.contains(words)), "{words}: {error}");
    }
    assert_eq!((error["n_prompt_tokens"].as_u64() > Some(512), &error["n_ctx"]), (true, &json!(512)), "{error}");
    let mut auto = body;
    auto["truncation"] = "auto".into();
    let answer = server.ok(CHAT, &auto);
    let dropped = answer["genarm"]["dropped_messages"].as_u64().expect("a number");
    assert!(dropped > 0 && dropped.is_multiple_of(2), "whole turns: {answer}");
    assert!(answer["usage"]["prompt_tokens"].as_u64() <= Some(508));
    let small = server.ok(CHAT, &json!({"messages": question(), "truncation": "auto", "max_tokens": 1}));
    assert!(small["genarm"].get("dropped_messages").is_none(), "nothing is said where nothing was dropped");
}

#[test]
fn what_a_model_thinks_is_kept_apart_from_what_it_says() {
    let template = "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' and m.reasoning_content %}<think>\n{{ m.reasoning_content }}\n</think>\n\n{% endif %}{{ m.content }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}";
    let base = root().join("models/base.gguf").display().to_string();
    let server = Serve::start(&["--base", &base, "--chat-template", template]);
    let grammar = "root ::= \"<think>\\nIt is hot.\\n</think>\\n\\nYes.\"";
    let body = json!({"messages": question(), "grammar": grammar, "max_tokens": 80});
    let message = server.ok(CHAT, &body)["choices"][0]["message"].clone();
    assert_eq!(message["content"], "Yes.", "{message}");
    assert_eq!(message["reasoning_content"].as_str().map(str::trim), Some("It is hot."), "{message}");
    let mut raw = body.clone();
    raw["reasoning_format"] = "none".into();
    let message = server.ok(CHAT, &raw)["choices"][0]["message"].clone();
    assert!(message["content"].as_str().is_some_and(|text| text.starts_with("<think>")), "{message}");
    let mut streamed = body;
    streamed["stream"] = true.into();
    let chunks = runtime().block_on(events(server.url(CHAT), streamed));
    let join = |name: &str| -> String {
        chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"][name].as_str()).collect()
    };
    assert_eq!((join("content").as_str(), join("reasoning_content").trim()), ("Yes.", "It is hot."));
    let prompt = |fields: Value| {
        let mut body = json!({"messages": question()});
        body["chat_template_kwargs"] = fields;
        server.ok("/apply-template", &body)["prompt"].as_str().expect("a text").to_owned()
    };
    assert!(prompt(json!({"enable_thinking": false})).ends_with("<think>\n\n</think>\n\n"));
    assert!(prompt(json!({})).ends_with("assistant\n"));
}

/// A template that begins every answer with a thought.
const THINKS: &str = "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' and m.reasoning_content %}<think>\n{{ m.reasoning_content }}\n</think>\n\n{% endif %}{{ m.content }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}";

fn thinking(args: &[&str]) -> Serve {
    let base = root().join("models/base.gguf").display().to_string();
    Serve::start(&[&["--base", &base, "--chat-template", THINKS], args].concat())
}

fn prompt(server: &Serve, body: &Value) -> String {
    server.ok("/apply-template", body)["prompt"].as_str().expect("a text").to_owned()
}

#[test]
fn an_answer_that_is_begun_goes_on_after_its_thought_and_is_not_repeated() {
    let server = thinking(&[]);
    let begun = json!([question()[0], {"role": "assistant", "content": "Yes,"}]);
    let text = prompt(&server, &json!({"messages": begun}));
    assert!(text.ends_with("Yes,") && text.matches("</think>").count() == 1, "{text}");
    let body = json!({"messages": begun, "grammar": "root ::= \" it is hot.\"", "max_tokens": 40});
    let message = server.ok(CHAT, &body)["choices"][0]["message"].clone();
    assert_eq!((&message["content"], message.get("reasoning_content")), (&json!(" it is hot."), None), "{message}");
    let mut streamed = body;
    streamed["stream"] = true.into();
    let chunks = runtime().block_on(events(server.url(CHAT), streamed));
    let content: String = chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(content, " it is hot.");
    let thought = json!([question()[0], {"role": "assistant", "content": "", "reasoning_content": "Hm."}]);
    let (status, answer) = server.post(CHAT, &json!({"messages": thought}));
    assert_eq!((status, &answer["error"]["param"]), (400, &json!("messages")), "{answer}");
}

#[test]
fn a_thought_that_a_template_begins_all_the_same_is_closed_as_markup() {
    let server = thinking(&[]);
    let quiet = json!({"messages": question(), "chat_template_kwargs": {"enable_thinking": false}});
    let text = prompt(&server, &quiet);
    assert!(text.contains("<think>") && text.trim_end().ends_with("</think>"), "{text}");
    let mut complete = quiet.clone();
    complete["add_generation_prompt"] = false.into();
    assert!(prompt(&server, &complete).ends_with("<|im_end|>\n"), "nothing is begun, so nothing is closed");
    let mut body = quiet;
    body["grammar"] = "root ::= \"Yes.\"".into();
    let message = server.ok(CHAT, &body)["choices"][0]["message"].clone();
    assert_eq!((&message["content"], message.get("reasoning_content")), (&json!("Yes."), None), "{message}");
}

#[test]
fn no_thought_is_left_open_before_json_a_call_in_plain_text_or_what_is_begun() {
    let server = thinking(&["--n-ctx", "2048"]);
    let begun = json!([question()[0], {"role": "assistant", "content": "Yes,"}]);
    let (open, closed) = ("<think>\n", "</think>\n\n");
    for (name, body, end) in [
        ("a question", json!({"messages": question()}), open),
        ("thoughts in the content", json!({"messages": question(), "reasoning_format": "none"}), open),
        ("JSON", json!({"messages": question(), "response_format": {"type": "json_object"}}), closed),
        ("tools that the template does not know", json!({"messages": question(), "tools": [tool("weather")]}), closed),
        ("begun, thoughts in the content", json!({"messages": begun, "reasoning_format": "none"}), "</think>\n\nYes,"),
        ("begun, with tools", json!({"messages": begun, "tools": [tool("weather")]}), "</think>\n\nYes,"),
    ] {
        let text = prompt(&server, &body);
        assert!(text.ends_with(end), "{name}: {text}");
    }
    let body = json!({"messages": question(), "reasoning_format": "none", "grammar": "root ::= \"Hm.\\n</think>\\n\\nYes.\"", "max_tokens": 40});
    assert_eq!(server.ok(CHAT, &body)["choices"][0]["message"]["content"], "Hm.\n</think>\n\nYes.");
    let call = json!({"messages": question(), "tools": [tool("weather")], "tool_choice": "required", "max_tokens": 200, "temperature": 0});
    assert_eq!(server.ok(CHAT, &call)["choices"][0]["message"]["tool_calls"][0]["function"]["name"], "weather");
}

#[test]
fn tools_and_messages_are_taken_as_programs_write_them() {
    let server = server();
    let schema = json!({"$schema": "x", "type": "object", "properties": {"any": true, "city": {"type": ["string", "null"], "enum": null},
        "tree": {"$ref": "#"}, "n": {"type": "integer", "maximum": 1e20}}, "required": null, "additionalProperties": {}});
    let body = json!({"messages": question(), "max_tokens": 4, "tools": [
        {"type": "function", "function": {"name": "bare"}},
        {"type": "function", "function": {"name": "odd", "parameters": schema, "strict": true}},
    ]});
    assert_eq!(server.post(CHAT, &body).0, 200, "{}", server.post(CHAT, &body).1);
    let said = json!([question()[0], {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]},
        {"role": "user", "content": "x"}]);
    assert_eq!(server.post(CHAT, &json!({"messages": said, "max_tokens": 1})).0, 200);
    let flat = json!({"type": "function", "name": "weather", "parameters": city()});
    let body = json!({"input": [{"role": "user", "content": "x"}, {"type": "function_call", "call_id": "a", "name": "weather", "arguments": ""},
        {"type": "function_call_output", "call_id": "a", "output": [{"type": "input_text", "text": "31"}]}],
        "tools": [flat, {"type": "web_search"}], "text": {"verbosity": "low"}, "max_output_tokens": 1});
    assert_eq!(server.ok(RESPONSES, &body)["genarm"]["ignored"], json!(["tools[1]"]));
    let tools =
        json!([{"name": "weather", "input_schema": city()}, {"type": "web_search_20250305", "name": "web_search"}]);
    let body = json!({"messages": question(), "tools": tools, "max_tokens": 1});
    assert_eq!(server.ok(MESSAGES, &body)["genarm"]["ignored"], json!(["tools[1]"]));
}

#[test]
fn a_required_call_goes_on_where_it_is_begun_and_no_text_becomes_one() {
    let server = server();
    let ask = |begun: &str| {
        let messages = json!([question()[0], {"role": "assistant", "content": begun}]);
        let body = json!({"messages": messages, "tools": [tool("weather")], "tool_choice": "required", "max_tokens": 200,
            "temperature": 0});
        server.post(CHAT, &body)
    };
    let (status, answer) = ask("<tool_call>\n{\"name\": \"wea");
    let call = &answer["choices"][0]["message"]["tool_calls"][0]["function"];
    assert_eq!((status, &call["name"]), (200, &json!("weather")), "{answer}");
    assert_eq!(arguments(&call["arguments"]), json!({"city": "Rome"}));
    let (status, answer) = ask("I think that");
    let message = answer["error"]["message"].as_str().unwrap_or_default();
    assert!(status == 400 && message.contains("the answer that is begun is no call"), "{answer}");
}

#[test]
fn turns_are_left_out_from_one_question_to_the_next_and_never_from_the_result_of_a_tool() {
    let server = Serve::demo(&["--n-predict", "40"]);
    let turn = |i: usize| {
        let function = json!({"name": "weather", "arguments": ""});
        [
            json!({"role": "user", "content": format!("Question {i}: {}", "why ".repeat(20))}),
            json!({"role": "assistant", "content": null, "tool_calls": [{"id": "1", "type": "function", "function": function}]}),
            json!({"role": "tool", "tool_call_id": "1", "content": "it is warm ".repeat(10)}),
            json!({"role": "assistant", "content": "Because."}),
        ]
    };
    let mut messages: Vec<Value> = (0..8).flat_map(turn).collect();
    messages.push(json!({"role": "user", "content": "And now?"}));
    let body = json!({"messages": messages, "truncation": "auto"});
    let answer = server.ok(CHAT, &body);
    let dropped = answer["genarm"]["dropped_messages"].as_u64().expect("a number");
    assert!(dropped > 0 && dropped.is_multiple_of(4), "whole turns: {answer}");
    assert!(answer["usage"]["prompt_tokens"].as_u64() <= Some(512 - 40), "there is room for what the server allows");
    assert!(answer["usage"]["prompt_tokens"].as_u64() > Some(512 - 40 - 120), "and no turn too many is left out");
    let n = |body: Value| server.ok(CHAT, &body)["usage"]["completion_tokens"].as_u64();
    let asked = json!({"messages": question(), "ignore_eos": true});
    assert_eq!(n(asked.clone()), Some(40));
    let mut all = asked;
    all["max_tokens"] = json!(-1);
    assert!(n(all) > Some(100), "a request may ask for as many as fit");
}
