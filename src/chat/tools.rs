//! Tools for templates that know none: described in the system's message, called and answered in plain text, as Hermes
//! and Qwen do it.

use serde_json::{Value, json};

use super::conversation::Message;

/// A template that writes the same, from which the grammar and the parser of such calls are read.
pub const PLAIN_TOOLS: &str = include_str!("plain_tools.jinja");

/// Writes tools, calls and results as plain text into a conversation.
pub fn in_plain_text(messages: &[Message], tools: &[Value]) -> Vec<Message> {
    let mut out: Vec<Message> = Vec::with_capacity(messages.len() + 1);
    for (i, message) in messages.iter().enumerate() {
        let plain = match message.role.as_str() {
            "tool" => {
                let text = format!("<tool_response>\n{}\n</tool_response>", message.content);
                // Results of several calls are one message.
                let follows_result = i > 0 && messages[i - 1].role == "tool";
                if let Some(last) = out.last_mut().filter(|_| follows_result) {
                    last.content = format!("{}\n{text}", last.content);
                    continue;
                }
                Message::new("user", text)
            }
            _ if !message.tool_calls.is_empty() => {
                let calls = message.tool_calls.iter().map(call_text).collect::<Vec<_>>().join("\n");
                let content = if message.content.is_empty() { calls } else { format!("{}\n{calls}", message.content) };
                Message::new(&*message.role, content)
            }
            _ => message.clone(),
        };
        out.push(plain);
    }
    if tools.is_empty() {
        return out;
    }
    let described = description(tools);
    match out.first_mut().filter(|first| first.role == "system") {
        Some(system) => system.content = format!("{}\n\n{described}", system.content),
        None => out.insert(0, Message::new("system", described)),
    }
    out
}

fn call_text(call: &Value) -> String {
    let function = &call["function"];
    let arguments = match &function["arguments"] {
        Value::String(text) => serde_json::from_str(text).unwrap_or_else(|_| text.as_str().into()),
        other => other.clone(),
    };
    format!("<tool_call>\n{}\n</tool_call>", json!({ "name": function["name"], "arguments": arguments }))
}

fn description(tools: &[Value]) -> String {
    let list: Vec<String> = tools.iter().map(Value::to_string).collect();
    format!(
        "# Tools\n\nYou may call one or more functions to help with the user's question. Their signatures:\n<tools>\n{}\n\
         </tools>\n\nTo call a function, write a JSON object with its name and its arguments:\n<tool_call>\n\
         {{\"name\": <function-name>, \"arguments\": <args-json-object>}}\n</tool_call>",
        list.join("\n")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_without_tools_reads_them_as_text() {
        let call =
            json!({"id": "1", "type": "function", "function": {"name": "weather", "arguments": "{\"city\":\"Rome\"}"}});
        let messages = [
            Message::new("user", "Is it hot?"),
            Message { tool_calls: vec![call], ..Message::new("assistant", "") },
            Message::new("tool", "31"),
            Message::new("tool", "in the shade"),
        ];
        let tools = [json!({"type": "function", "function": {"name": "weather"}})];
        let plain = in_plain_text(&messages, &tools);
        let shown: Vec<_> = plain.iter().map(|m| (&*m.role, &*m.content)).collect();
        assert!(
            shown[0].0 == "system"
                && shown[0].1.contains("{\"type\":\"function\",\"function\":{\"name\":\"weather\"}}")
        );
        assert_eq!(shown[1], ("user", "Is it hot?"));
        assert_eq!(
            shown[2],
            ("assistant", "<tool_call>\n{\"name\":\"weather\",\"arguments\":{\"city\":\"Rome\"}}\n</tool_call>")
        );
        let results = "<tool_response>\n31\n</tool_response>\n<tool_response>\nin the shade\n</tool_response>";
        assert_eq!(shown[3..], [("user", results)]);
        assert_eq!(in_plain_text(&messages[..1], &[]), messages[..1]);
    }
}
