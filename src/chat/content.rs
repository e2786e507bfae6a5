//! What a message says, as a text or in OpenAI's parts.

use serde::de::Error;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// The text of a message's `content`: itself, nothing for `null`, or its parts of type `text`, one a line.
///
/// # Errors
///
/// What cannot be read, in a few words.
pub fn text_of_parts(content: &Value) -> Result<String, String> {
    match content {
        Value::Null => Ok(String::new()),
        Value::String(text) => Ok(text.clone()),
        Value::Array(parts) => Ok(parts.iter().map(part).collect::<Result<Vec<_>, _>>()?.join("\n")),
        _ => Err("the content of a message must be a text or a list of text parts".into()),
    }
}

fn part(part: &Value) -> Result<String, String> {
    let kind = part.get("type").and_then(Value::as_str);
    match (part, kind, part.get("text").and_then(Value::as_str)) {
        (Value::String(text), ..) => Ok(text.clone()),
        (_, Some("text") | None, Some(text)) => Ok(text.to_owned()),
        (_, Some(kind), _) if kind != "text" => Err(format!("cannot read a part of type \"{kind}\", only text")),
        _ => Err("a part of type \"text\" needs a `text`".into()),
    }
}

/// For a field that holds a text or parts.
pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    text_of_parts(&Value::deserialize(deserializer)?).map_err(D::Error::custom)
}
