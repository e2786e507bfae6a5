//! Every field of every route, with every kind of value.

use serde_json::{Value, json};

use super::*;
use crate::server::openai::chat::ChatRequest;
use crate::server::openai::completion::CompletionRequest;
use crate::server::openai::steering::Steering;
use crate::server::routes::requests::{DetokenizeRequest, DuelRequest, LlamaRequest, ScoreRequest, TokenizeRequest};

/// Words that mean something to a Rust programmer only.
const RUST: [&str; 25] = [
    "u8", "u16", "u32", "u64", "i8", "i16", "i32", "i64", "f32", "f64", "usize", "isize", "bool", "char", "str", "map",
    "sequence", "untagged", "enum", "struct", "variant", "tuple", "Option", "Some", "None",
];

fn read<T: FromFields>(object: &Value) -> Result<(), ApiError> {
    let Value::Object(object) = object.clone() else { panic!("an object: {object}") };
    Fields::new(object).into_request::<T>(true).map(drop)
}

fn known<T: FromFields>(object: &Value) -> Vec<&'static str> {
    let Value::Object(object) = object.clone() else { panic!("an object: {object}") };
    let mut fields = Fields::new(object);
    assert!(T::read(&mut fields).is_ok(), "the smallest request is right");
    fields.known().to_vec()
}

fn kinds() -> Vec<Value> {
    vec![
        json!(true),
        json!(false),
        json!(-3),
        json!(1),
        json!(0.5),
        json!(1e300),
        json!(u64::MAX),
        json!("text"),
        json!(""),
        json!([]),
        json!([true]),
        json!([[{}]]),
        json!([1, "x"]),
        json!(["x", 1]),
        json!([null]),
        json!({}),
        json!({"x": []}),
        json!({"type": 1}),
        json!({"type": "x"}),
        json!([{"role": 1}]),
        json!([{"role": "user", "content": [{"type": []}]}]),
    ]
}

/// What is wrong with an error about the field `name`.
fn fault(error: &ApiError, name: &str) -> Option<String> {
    let body = error.body();
    let (message, param) = (body["error"]["message"].as_str()?, body["error"]["param"].as_str().unwrap_or_default());
    let words: Vec<_> = message.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
    let is_path = param.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']));
    if error.status != axum::http::StatusCode::BAD_REQUEST {
        Some(format!("the status is {}", error.status))
    } else if !is_path {
        Some(format!("param is {param}"))
    } else if !message.contains(param) {
        Some(format!("the message does not name the field: {message}"))
    } else if let Some(word) = RUST.iter().find(|word| words.contains(word)) {
        Some(format!("the message says {word}: {message}"))
    } else if message.chars().count() > 300 {
        Some(format!("the message is long: {message}"))
    } else {
        None
    }
}

fn check<T: FromFields>(route: &str, smallest: &Value) {
    let names = known::<T>(smallest);
    assert!(!names.is_empty());
    for name in names {
        let mut n_refused = 0;
        for value in kinds() {
            let mut object = smallest.clone();
            object[name] = value.clone();
            let Err(error) = read::<T>(&object) else { continue };
            n_refused += 1;
            if let Some(fault) = fault(&error, name) {
                panic!("{route}: {name} = {value}: {fault}");
            }
        }
        assert!(n_refused >= 5, "{route}: {name} takes nearly everything");
        let mut object = smallest.clone();
        object[name] = Value::Null;
        let result = read::<T>(&object);
        assert!(
            result.is_ok() || smallest.get(name).is_some(),
            "{route}: null is like a field that is missing: {name}"
        );
    }
}

fn chat() -> Value {
    json!({ "messages": [{ "role": "user", "content": "x" }] })
}

#[test]
fn an_error_about_a_field_of_any_route_names_it_and_no_type_of_this_program() {
    check::<ChatRequest>("chat", &chat());
    check::<CompletionRequest>("completions", &json!({ "prompt": "x" }));
    check::<LlamaRequest>("completion", &json!({ "prompt": "x" }));
    check::<Steering>("preferences", &json!({}));
    check::<ScoreRequest>("score", &json!({ "prompt": "x", "response": "y" }));
    check::<DuelRequest>("duel", &json!({ "prompt": "x" }));
    check::<TokenizeRequest>("tokenize", &json!({ "content": "x" }));
    check::<DetokenizeRequest>("detokenize", &json!({ "tokens": [1] }));
}

#[test]
fn an_error_within_a_field_names_the_place() {
    for (field, value, param, words) in [
        (
            "messages",
            json!([{"role": "user", "content": "x"}, {"role": "user", "content": 5}]),
            "messages[1].content",
            "got a number",
        ),
        ("messages", json!([{"content": "x"}]), "messages[0].role", "is missing"),
        ("messages", json!([{"role": "user"}]), "messages[0].content", "is missing"),
        ("messages", json!(["x"]), "messages[0]", "an object, got a string"),
        ("stop", json!(["a", 5]), "stop[1]", "a string, got a number"),
        ("preferences", json!({"a": "x"}), "preferences.a", "a number, got a string"),
        ("logit_bias", json!({"5": "x"}), "logit_bias.5", "a number, got a string"),
        ("stream_options", json!({"include_usage": 1}), "stream_options.include_usage", "true or false, got a number"),
        (
            "stream_options",
            json!({"include_use": true}),
            "stream_options.include_use",
            "did you mean \"include_usage\"?",
        ),
        ("response_format", json!({"type": "xml"}), "response_format.type", "\"json_schema\", got \"xml\""),
        ("response_format", json!({}), "response_format.type", "is missing"),
        ("response_format", json!({"type": "json_schema"}), "response_format.json_schema", "is missing"),
        ("samplers", json!(["top_k", "top_q"]), "samplers", "did you mean"),
        ("max_tokens", json!(1.5), "max_tokens", "must be an integer, got 1.5"),
        ("temperature", json!("hot"), "temperature", "must be a number, got a string"),
        ("stream", json!("yes"), "stream", "true or false, got a string"),
    ] {
        let mut object = chat();
        object[field] = value;
        let body = read::<ChatRequest>(&object).unwrap_err().body();
        assert_eq!(body["error"]["param"], param);
        let message = body["error"]["message"].as_str().unwrap();
        assert!(message.contains(param) && message.contains(words), "{message}");
    }
}

#[test]
fn a_long_name_is_neither_repeated_nor_compared() {
    let long = "a".repeat(1_000_000);
    for (object, param) in [
        (json!({ long.clone(): 1 }), "aaaa"),
        (json!({ "preferences": { long.clone(): "x" } }), "preferences.aaaa"),
        (json!({ "logit_bias": { long.clone(): "x" } }), "logit_bias.aaaa"),
        (json!({ "stream_options": { long.clone(): 1 } }), "stream_options.aaaa"),
        (json!({ "samplers": [long.clone()] }), "samplers"),
        (json!({ "response_format": { "type": long.clone() } }), "response_format.type"),
        (json!({ "messages": [{ "role": long.clone(), "content": "x" }] }), "messages[0].role"),
    ] {
        let mut whole = chat();
        whole.as_object_mut().unwrap().extend(object.as_object().unwrap().clone());
        let body = read::<ChatRequest>(&whole).unwrap_err().body();
        assert!(body["error"]["param"].as_str().unwrap().starts_with(param), "{}", body["error"]["param"]);
        assert!(body.to_string().len() < 600, "{body}");
    }
    assert_eq!(shown("a\nb"), "a\\nb", "no line of a log can be forged");
}

#[test]
fn fields_without_end_are_refused_before_they_are_compared() {
    let many: Map<String, Value> = (0..200_000).map(|i| (format!("field{i}"), json!(1))).collect();
    let mut object = chat();
    object.as_object_mut().unwrap().extend(many);
    let Value::Object(object) = object else { panic!("an object") };
    let error = Fields::new(object).into_request::<ChatRequest>(false).map(drop).unwrap_err();
    assert_eq!(error.body()["error"]["param"], "field0");
}

#[test]
fn a_slip_is_told_from_the_field_of_another_server() {
    let ask = |name: &str| {
        let mut object = chat();
        object[name] = json!(1);
        let Value::Object(object) = object else { panic!("an object") };
        Fields::new(object).into_request::<ChatRequest>(false).map(|(_, ignored)| ignored)
    };
    for name in ["max_token", "temprature", "tempature", "steam", "sed", "tool_chioce", "top_pp", "preferencs"] {
        assert!(ask(name).is_err_and(|error| error.body()["error"]["param"] == name), "{name}");
    }
    for name in ["top_a", "speed", "models", "min_tokens", "temperature_last", "guided_json", "use_beam_search"] {
        assert_eq!(ask(name).ok(), Some(vec![name.to_owned()]), "{name}");
    }
}

#[test]
fn one_setting_under_two_names_is_refused_where_the_values_differ() {
    let mut object = chat();
    object["temperature"] = json!(0.5);
    object["temp"] = json!(0.5);
    assert!(read::<ChatRequest>(&object).is_ok());
    object["temp"] = json!(0.7);
    let body = read::<ChatRequest>(&object).unwrap_err().body();
    assert_eq!(body["error"]["param"], "temp");
}

#[test]
fn an_integer_may_be_written_with_a_point() {
    let mut object = chat();
    object["max_tokens"] = json!(4.0);
    object["seed"] = json!(7.0);
    assert!(read::<ChatRequest>(&object).is_ok());
}
