//! Every field of every route, over HTTP: the value of a wrong kind is refused with the field's name.

use serde_json::{Value, json};

use super::bytes::with;
use super::doors::{CHAT, LLAMA, TEXT};
use super::{Serve, answer, client};

const NUMBERS: &[&str] = &[
    "temperature",
    "dynatemp_range",
    "dynatemp_exponent",
    "top_p",
    "min_p",
    "xtc_probability",
    "xtc_threshold",
    "typ_p",
    "top_n_sigma",
    "repeat_penalty",
    "frequency_penalty",
    "presence_penalty",
    "dry_multiplier",
    "dry_base",
    "mirostat_tau",
    "mirostat_eta",
];
const INTEGERS: &[&str] = &[
    "seed",
    "top_k",
    "penalty_last_n",
    "repeat_last_n",
    "dry_allowed_length",
    "dry_penalty_last_n",
    "mirostat",
    "min_keep",
    "max_tokens",
    "n_predict",
    "id_slot",
];
const FLAGS: &[&str] = &["ignore_eos", "stream", "cache_prompt", "store"];
const TEXTS: &[&str] = &["grammar", "profile", "model", "user"];
const LISTS: &[&str] = &["dry_sequence_breakers", "samplers", "stop", "logit_bias"];
const OBJECTS: &[&str] = &["preferences", "metadata", "json_schema", "logit_bias"];

/// The fields with a kind, and the values that are of another one.
fn wrong_kinds() -> Vec<(&'static str, &'static [&'static str], Vec<Value>)> {
    let [text, flag, list, object] = [json!("x"), json!(true), json!([{}]), json!({"x": []})];
    let (number, fraction) = (json!(7), json!(0.5));
    vec![
        ("number", NUMBERS, vec![text.clone(), flag.clone(), list.clone(), object.clone()]),
        ("integer", INTEGERS, vec![text.clone(), flag.clone(), list.clone(), object.clone(), fraction]),
        ("true or false", FLAGS, vec![text.clone(), number.clone(), list.clone(), object.clone()]),
        ("string", TEXTS, vec![flag.clone(), number.clone(), list.clone(), object.clone()]),
        ("list", LISTS, vec![flag.clone(), number.clone(), object.clone(), list.clone()]),
        ("object", OBJECTS, vec![number, flag.clone(), list, object]),
    ]
}

/// The status and the error of a request.
fn refused(server: &Serve, path: &str, body: &Value) -> (u16, String, String) {
    let (status, answer) = server.post(path, body);
    let text = |key: &str| answer["error"][key].as_str().unwrap_or_default().to_owned();
    (status, text("param"), text("message"))
}

#[test]
fn the_wrong_kind_of_value_is_refused_on_every_route_that_has_the_field() {
    let server = Serve::demo(&[]);
    let routes = [
        (CHAT, json!({"messages": [{"role": "user", "content": "x"}]})),
        (TEXT, json!({"prompt": "x"})),
        (LLAMA, json!({"prompt": "x"})),
    ];
    for (path, body) in &routes {
        for (kind, names, values) in wrong_kinds() {
            for name in names {
                for value in &values {
                    let is_right = match *name {
                        "metadata" => value.is_object(),
                        "json_schema" => value.is_object() || value.is_boolean(),
                        _ => false,
                    };
                    if is_right {
                        continue;
                    }
                    let mut body = with(body.clone(), &json!({"max_tokens": 1}));
                    body[*name] = value.clone();
                    let (status, param, message) = refused(&server, path, &body);
                    let what = format!("{path} {name} = {value} ({kind}): {status} {param}: {message}");
                    assert_eq!(status, 400, "{what}");
                    assert!(param.starts_with(name) && message.contains(name), "{what}");
                    for word in
                        ["invalid type", "u32", "i64", "f32", "usize", "bool", "sequence", "map", "untagged", "enum"]
                    {
                        assert!(!message.replace(name, "").contains(word), "{what}");
                    }
                }
            }
        }
    }
}

#[test]
fn the_other_routes_name_their_fields_too() {
    let server = Serve::demo(&[]);
    for (path, body, param, words) in [
        ("/tokenize", json!({"content": 5}), "content", "a string, got a number"),
        ("/tokenize", json!({}), "content", "is missing"),
        ("/tokenize", json!({"content": "x", "with_pieces": 1}), "with_pieces", "true or false"),
        ("/tokenize", json!({"content": "x", "temperature": 1}), "temperature", "unknown field"),
        ("/detokenize", json!({"tokens": "x"}), "tokens", "a list, got a string"),
        ("/detokenize", json!({"tokens": [1, "x"]}), "tokens[1]", "an integer, got a string"),
        ("/detokenize", json!({"tokens": [1.5]}), "tokens[0]", "an integer, got 1.5"),
        ("/detokenize", json!({"tokens": [99_999_999]}), "tokens", "99999999"),
        ("/detokenize", json!({}), "tokens", "is missing"),
        ("/detokenize", json!({"token": [1]}), "token", "did you mean \"tokens\"?"),
        (CHAT, json!({"mesages": []}), "mesages", "did you mean \"messages\"?"),
        ("/v1/score", json!({"prompt": "x"}), "response", "is missing"),
        ("/v1/score", json!({"response": "x"}), "prompt", "is missing"),
        ("/v1/score", json!({"prompt": "x", "messages": [], "response": "x"}), "messages", "give one of them"),
        ("/v1/score", json!({"prompt": 5, "response": "x"}), "prompt", "a string, got a number"),
        (
            "/v1/score",
            json!({"messages": [{"role": 5}], "response": "x"}),
            "messages[0].role",
            "a string, got a number",
        ),
        ("/v1/score", json!({"prompt": "x", "response": ["x"]}), "response", "a string, got a list"),
        ("/v1/score", json!({"prompt": "x", "response": ""}), "response", "is empty"),
        ("/v1/score", json!({"prompt": "x", "response": "y", "temperature": 2}), "temperature", "unknown field"),
        (
            "/v1/score",
            json!({"prompt": "x", "response": "y", "preferences": {"cheerful": "x"}}),
            "preferences.cheerful",
            "a number",
        ),
        (TEXT, json!({"max_tokens": 5}), "prompt", "is missing"),
        (TEXT, json!({"prompt": 5}), "prompt", "a list of token ids, got a number"),
        (TEXT, json!({"prompt": [[1], true]}), "prompt[1]", "a list of token ids, got true"),
        (TEXT, json!({"prompt": [1, 1.5]}), "prompt[1]", "an integer, got 1.5"),
        (TEXT, json!({"prompt": ["x", 5, null]}), "prompt[2]", "an integer, got null"),
        (TEXT, json!({"prompt": vec!["x"; 17]}), "prompt", "16"),
        (TEXT, json!({"prompt": ["x", "y"], "n": 9}), "n", "for each of 2 prompts"),
        (CHAT, json!({}), "messages", "is missing"),
        (CHAT, json!({"messages": "x"}), "messages", "a list, got a string"),
    ] {
        let (status, found, message) = refused(&server, path, &body);
        assert_eq!((status, found.as_str()), (400, param), "{path} {body}: {message}");
        assert!(message.contains(param) && message.contains(words), "{path} {body}: {message}");
    }
    // Where there is a key, the defaults can be changed.
    let keys = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(keys.path(), "a-key-for-the-test\n").expect("written");
    let server = Serve::demo(&["--api-key-file", keys.path().to_str().expect("a path")]);
    for (body, param) in [
        (json!({"preferences": 5}), "preferences"),
        (json!({"preferences": {"cheerful": "x"}}), "preferences.cheerful"),
        (json!({"profile": 5}), "profile"),
        (json!({"temperature": 1}), "temperature"),
    ] {
        let put = client().put(server.url("/v1/preferences")).bearer_auth("a-key-for-the-test").json(&body);
        let (status, answer) = answer(put);
        assert_eq!((status, &answer["error"]["param"]), (400, &json!(param)), "{answer}");
        assert!(answer["error"]["message"].as_str().is_some_and(|message| message.contains(param)), "{answer}");
    }
}

#[test]
fn a_parameter_out_of_its_range_is_named_as_the_request_names_it() {
    let server = Serve::demo(&[]);
    for (name, value) in [
        ("temperature", json!(-1)),
        ("temp", json!(-1)),
        ("temp", json!(1e39)),
        ("repeat_last_n", json!(-2)),
        ("penalty_last_n", json!(-2)),
        ("typical_p", json!(0)),
        ("typ_p", json!(2)),
        ("dynatemp_exp", json!(-1)),
        ("top_k", json!(3e9)),
        ("min_keep", json!(-1)),
        ("mirostat", json!(3)),
        ("dry_sequence_breakers", json!([""])),
        ("seed", json!(-2)),
        ("seed", json!(u64::MAX)),
        ("logit_bias", json!({"5": 101})),
        ("logit_bias", json!({"5": null})),
        ("logit_bias", json!([[5]])),
        ("grammar", json!(" ")),
        ("samplers", json!(vec!["top_k"; 33])),
        ("samplers", json!(["a".repeat(50_000)])),
        ("profile", json!("p".repeat(50_000))),
    ] {
        let (status, param, message) = refused(&server, TEXT, &json!({"prompt": "x", name: value}));
        assert_eq!(status, 400, "{name}: {message}");
        assert!(param.starts_with(name) && message.contains(name), "{name}: {param}: {message}");
        assert!(message.len() < 600, "{name}: {} bytes", message.len());
    }
}
