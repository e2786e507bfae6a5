//! Tools, calls and answers that llama.cpp would follow as deep as they go.

use serde_json::{Value, json};

use super::{Attack, Right};

const CHAT: &str = "/v1/chat/completions";

/// A request with one tool.
fn with_tool(name: &'static str, parameters: Value, right: Right) -> Attack {
    let function = json!({"name": "f", "parameters": parameters});
    let body = json!({
        "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4,
        "tools": [{"type": "function", "function": function}],
    });
    Attack::new(name, CHAT, body, right)
}

/// A request with these messages before the question, and a tool.
fn after(name: &'static str, messages: Value, right: Right) -> Attack {
    let mut attack = with_tool(name, json!({"type": "object"}), right);
    let mut all = json!([{"role": "user", "content": "Hi"}]);
    let list = all.as_array_mut().expect("a list");
    list.extend(messages.as_array().expect("a list").iter().cloned());
    attack.body["messages"] = all;
    attack
}

pub fn attacks() -> Vec<Attack> {
    use Right::{Either, Refused};
    let circle = json!({"allOf": [{"$ref": "#/$defs/a"}], "$defs": {"a": {"allOf": [{"$ref": "#/$defs/a"}]}}});
    let itself = json!({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}});
    let mut nested = json!({"type": "string"});
    for _ in 0..100 {
        nested = json!({"type": "object", "properties": {"a": nested}});
    }
    let optional: Value = (0..1500).map(|i| (format!("p{i}"), json!({"type": "string"}))).collect();
    let call = |arguments: String| {
        let function = json!({"name": "f", "arguments": arguments});
        json!([
            {"role": "assistant", "content": null, "tool_calls": [{"id": "1", "type": "function", "function": function}]},
            {"role": "tool", "tool_call_id": "1", "content": "ok"},
        ])
    };
    let deep = "[".repeat(400_000);
    vec![
        with_tool("a schema that is all of itself", circle, Refused("tools")),
        with_tool("a schema that refers to itself", itself, Refused("tools")),
        with_tool(
            "a property with a name of 50,000 bytes",
            json!({"properties": {"x".repeat(50_000): {}}}),
            Refused("tools"),
        ),
        with_tool("1,500 optional properties", json!({"type": "object", "properties": optional}), Refused("tools")),
        with_tool("an object in an object, a hundred times", nested, Either),
        with_tool(
            "a pattern of groups in groups",
            json!({"type": "string", "pattern": format!("^{}{}$", "(".repeat(900), ")".repeat(900))}),
            Either,
        ),
        with_tool("a list of ten thousand items", json!({"type": "array", "items": {}, "minItems": 10_000}), Either),
        after("arguments of brackets", call(deep.clone()), Refused("context")),
        after(
            "an answer that begins with brackets",
            json!([{"role": "assistant", "content": deep}]),
            Refused("context"),
        ),
        after(
            "an answer that begins as a call of brackets",
            json!([{"role": "assistant", "content": format!("<tool_call>\n{{\"name\": \"f\", \"arguments\": {deep}")}]),
            Refused("context"),
        ),
    ]
}
