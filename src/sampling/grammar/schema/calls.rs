//! Schemas of the arguments of tools. llama.cpp makes the grammar of calls from them (`json-schema-to-grammar`): it
//! follows references as deep as they go, reads names with recursive regular expressions, and takes the cube of the
//! number of optional properties in time.

use serde_json::{Map, Value};

use super::check::{Leave, Refusal, check};
use super::refs::resolve;

/// Properties of an object, with those of its `allOf`.
const MAX_PROPERTIES: usize = 200;
/// Bytes of the name of a property.
const MAX_NAME: usize = 128;
/// Bytes of a pattern.
const MAX_PATTERN: usize = 256;
/// References to references.
const MAX_CHAIN: usize = 16;

/// A schema of arguments, written anew with what says something about them and llama.cpp can read.
///
/// # Errors
///
/// What is wrong with it, to be read after its place.
pub fn arguments(schema: &Value) -> Result<Value, String> {
    let mut checked = check(schema, false, Leave::default()).map_err(|Refusal(problem)| problem)?.schema;
    bounded(&checked, &checked)?;
    without_patterns(&mut checked);
    Ok(checked)
}

/// Refuses objects of which llama.cpp would make too much. The depth of `schema` has been checked.
fn bounded(root: &Value, schema: &Value) -> Result<(), String> {
    match schema {
        Value::Array(items) => items.iter().try_for_each(|item| bounded(root, item)),
        Value::Object(object) => {
            let names = object.get("properties").and_then(Value::as_object).into_iter().flat_map(Map::keys);
            if let Some(name) = names.into_iter().find(|name| name.len() > MAX_NAME) {
                return Err(format!("\"properties\" has a name of {} bytes, and it may have {MAX_NAME}", name.len()));
            }
            let parts = object.get("allOf").and_then(Value::as_array).into_iter().flatten();
            let n = parts.map(|part| width(root, part)).fold(own_width(object), usize::saturating_add);
            if n > MAX_PROPERTIES {
                return Err(format!("an object names {n} properties, and may name {MAX_PROPERTIES}"));
            }
            object.values().try_for_each(|value| bounded(root, value))
        }
        _ => Ok(()),
    }
}

fn own_width(object: &Map<String, Value>) -> usize {
    object.get("properties").and_then(Value::as_object).map_or(0, Map::len)
}

/// The properties that a part of `allOf` brings.
fn width(root: &Value, part: &Value) -> usize {
    let alternatives = ["anyOf", "oneOf"].iter().filter_map(|key| part.get(*key)?.as_array()).flatten();
    let parts = std::iter::once(part).chain(alternatives);
    parts.map(|part| target(root, part).and_then(Value::as_object).map_or(0, own_width)).sum()
}

/// What a part refers to, or the part itself.
fn target<'a>(root: &'a Value, mut part: &'a Value) -> Option<&'a Value> {
    for _ in 0..MAX_CHAIN {
        let Some(reference) = part.get("$ref").and_then(Value::as_str) else { return Some(part) };
        part = if reference == "#" { root } else { resolve(root, reference).ok()? };
    }
    None
}

/// Leaves out patterns that llama.cpp does not read: it would write them to standard error.
fn without_patterns(schema: &mut Value) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(without_patterns),
        Value::Object(object) => {
            let is_read = |pattern: &str| {
                let is_plain = pattern.bytes().all(|byte| (b' '..=b'~').contains(&byte));
                is_plain && pattern.len() <= MAX_PATTERN && pattern.starts_with('^') && pattern.ends_with('$')
            };
            if object.get("pattern").and_then(Value::as_str).is_some_and(|pattern| !is_read(pattern)) {
                object.shift_remove("pattern");
            }
            object.values_mut().for_each(without_patterns);
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_says_nothing_about_the_arguments_is_left_out() {
        let schema = json!({
            "type": "object", "title": "Trip", "required": ["to"],
            "properties": { "to": { "type": "string", "description": "where", "pattern": "(?i)x" }, "at": { "$ref": "#/$defs/t" } },
            "$defs": { "t": { "type": "string", "pattern": "^[0-9]+$" } },
        });
        let expected = json!({
            "type": "object", "required": ["to"],
            "properties": { "to": { "type": "string" }, "at": { "$ref": "#/$defs/d1" } },
            "additionalProperties": false,
            "$defs": { "d1": { "type": "string", "pattern": "^[0-9]+$" } },
        });
        assert_eq!(arguments(&schema), Ok(expected));
    }

    #[test]
    fn what_llama_cpp_would_follow_without_end_is_refused() {
        let many: Map<String, Value> = (0..150).map(|i| (format!("p{i}"), json!({}))).collect();
        let circle =
            json!({ "allOf": [{ "$ref": "#/$defs/a" }], "$defs": { "a": { "allOf": [{ "$ref": "#/$defs/a" }] } } });
        let refs = json!({ "allOf": [{ "$ref": "#/$defs/a" }, { "$ref": "#/$defs/a" }], "$defs": { "a": { "properties": many } } });
        let long = json!({ "properties": { "x".repeat(50_000): {} } });
        for (schema, word) in [(circle, "circle"), (refs, "300 properties"), (long, "bytes")] {
            let problem = arguments(&schema).expect_err(word);
            assert!(problem.contains(word), "{problem}");
        }
    }

    #[test]
    fn a_list_of_itself_is_no_circle() {
        let tree = json!({
            "type": "object",
            "properties": { "children": { "type": "array", "items": { "$ref": "#/$defs/node" } } },
            "$defs": { "node": { "type": "object", "properties": { "children": { "type": "array", "items": { "$ref": "#/$defs/node" } } } } },
        });
        assert!(arguments(&tree).is_ok());
    }
}
