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
/// Bytes of a text in an `enum`.
const MAX_TEXT: usize = 1024;
/// Bounds of integers, which llama.cpp keeps in 64 bits.
const MAX_INTEGER: f64 = (1_u64 << 53) as f64;
/// Characters or items: the grammar repeats nothing more often.
const MAX_COUNT: u64 = 2000;

/// A schema of arguments, written anew with what says something about them and llama.cpp can read.
///
/// # Errors
///
/// What is wrong with it, to be read after its place.
pub fn arguments(schema: &Value) -> Result<Value, String> {
    let mut tidy = schema.clone();
    tidied(&mut tidy);
    let mut checked = check(&tidy, false, Leave::default()).map_err(|Refusal(problem)| problem)?.schema;
    bounded(&checked, &checked)?;
    each_schema(&mut checked, &mut readable);
    with_root(&mut checked);
    Ok(checked)
}

/// Calls `each` for a schema and those in it.
fn each_schema(schema: &mut Value, each: &mut dyn FnMut(&mut Map<String, Value>)) {
    let Some(object) = schema.as_object_mut() else { return };
    each(object);
    for (key, value) in object {
        match (key.as_str(), value) {
            ("properties" | "patternProperties" | "$defs" | "definitions", Value::Object(schemas)) => {
                schemas.values_mut().for_each(|schema| each_schema(schema, each));
            }
            ("items" | "prefixItems" | "allOf" | "anyOf" | "oneOf", Value::Array(schemas)) => {
                schemas.iter_mut().for_each(|schema| each_schema(schema, each));
            }
            ("items" | "additionalItems" | "additionalProperties", schema) => each_schema(schema, each),
            _ => {}
        }
    }
}

/// Mends what programs write into the schemas of their tools, and leaves out what says nothing: a tool is called by its
/// name, and its arguments are the client's to check.
fn tidied(schema: &mut Value) {
    each_schema(schema, &mut |object| {
        object.retain(|key, value| !value.is_null() || ["const", "default"].contains(&key.as_str()));
        if let Some(kind) = object.get_mut("type") {
            let known = match kind {
                Value::Array(kinds) => {
                    *kinds = kinds.iter().filter_map(|kind| known_type(kind.as_str()?)).map(Value::from).collect();
                    !kinds.is_empty()
                }
                one => match one.as_str().and_then(known_type) {
                    Some(known) => {
                        *one = known.into();
                        true
                    }
                    None => false,
                },
            };
            if !known {
                object.shift_remove("type");
            }
        }
        let is_long = |value: &Value| value.as_str().is_some_and(|text| text.len() > MAX_TEXT);
        if object
            .get("enum")
            .is_some_and(|list| list.as_array().is_none_or(|list| list.is_empty() || list.iter().any(is_long)))
        {
            object.shift_remove("enum");
        }
        let is_open = object.get("additionalProperties") != Some(&Value::Bool(false));
        let listed: Vec<String> = object
            .get("properties")
            .and_then(Value::as_object)
            .map(|map| map.keys().cloned().collect())
            .unwrap_or_default();
        let names = object.get_mut("required").map(|names| match names {
            Value::Array(names) => {
                names.retain(|name| name.as_str().is_some_and(|name| is_open || listed.iter().any(|one| one == name)));
                true
            }
            _ => false,
        });
        if names == Some(false) {
            object.shift_remove("required");
        }
    });
}

/// The type that is meant by a name; `None` for any.
fn known_type(name: &str) -> Option<&'static str> {
    Some(match name {
        "string" | "str" | "text" => "string",
        "integer" | "int" | "long" => "integer",
        "number" | "float" | "double" => "number",
        "boolean" | "bool" => "boolean",
        "array" | "list" | "tuple" => "array",
        "object" | "dict" | "map" => "object",
        "null" | "none" => "null",
        _ => return None,
    })
}

/// Leaves out what llama.cpp does not read: it would refuse it, or write it to standard error.
fn readable(object: &mut Map<String, Value>) {
    if object.get("items") == Some(&Value::Bool(false)) {
        object.shift_remove("items");
    }
    // A schema that is true says nothing.
    let any = |value: &mut Value| {
        if *value == Value::Bool(true) {
            *value = Value::Object(Map::new());
        }
    };
    for (key, value) in object.iter_mut() {
        match (key.as_str(), value) {
            ("properties" | "$defs", Value::Object(schemas)) => schemas.values_mut().for_each(any),
            ("items" | "prefixItems" | "allOf" | "anyOf" | "oneOf", Value::Array(schemas)) => {
                schemas.iter_mut().for_each(any);
            }
            ("items", schema) => any(schema),
            _ => {}
        }
    }
    let is_read = |key: &String, value: &mut Value| match key.as_str() {
        "pattern" => value.as_str().is_some_and(is_plain),
        "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum" => {
            value.as_f64().is_some_and(|x| x.abs() < MAX_INTEGER)
        }
        "minLength" | "maxLength" | "minItems" | "maxItems" => value.as_u64().is_some_and(|n| n <= MAX_COUNT),
        _ => true,
    };
    object.retain(is_read);
    for (least, most) in [("minLength", "maxLength"), ("minItems", "maxItems")] {
        let n = |key: &str| object.get(key).and_then(Value::as_u64);
        if n(least) > n(most) && n(most).is_some() {
            object.shift_remove(least);
            object.shift_remove(most);
        }
    }
}

/// Whether a pattern has only what llama.cpp reads.
fn is_plain(pattern: &str) -> bool {
    let Some(inner) = pattern.strip_prefix('^').and_then(|rest| rest.strip_suffix('$')) else { return false };
    let bytes = inner.as_bytes();
    let is_odd = |i: usize| match bytes[i] {
        b'\\' => bytes.get(i + 1).is_none_or(u8::is_ascii_alphanumeric),
        b'^' => i == 0 || bytes[i - 1] != b'[',
        b'$' => true,
        byte => !(b' '..=b'~').contains(&byte),
    };
    pattern.len() <= MAX_PATTERN && !(0..bytes.len()).any(is_odd)
}

/// Gives a schema that refers to itself as a whole a name for that.
fn with_root(schema: &mut Value) {
    let mut refers = false;
    each_schema(schema, &mut |object| {
        if object.get("$ref").is_some_and(|target| target == "#") {
            object.insert("$ref".to_owned(), "#/$defs/root".into());
            refers = true;
        }
    });
    if refers && let Some(object) = schema.as_object_mut() {
        let mut root = object.clone();
        root.shift_remove("$defs");
        if let Some(defs) = object.entry("$defs").or_insert_with(|| Map::new().into()).as_object_mut() {
            defs.insert("root".to_owned(), root.into());
        }
    }
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
    fn what_programs_write_into_schemas_is_mended_or_left_out() {
        let schema = json!({
            "type": "object", "required": ["a", "z"], "additionalProperties": false, "description": null,
            "properties": {
                "a": true, "b": { "type": "float", "maximum": 1e20 }, "c": { "type": "any" }, "d": { "type": ["str", "null"] },
                "e": { "type": "array", "items": true, "minItems": 3000 }, "f": { "enum": [] }, "required": { "type": "string" },
                "g": { "type": "string", "pattern": "^\\S+$", "minLength": 9, "maxLength": 3 }, "h": { "const": null },
                "i": { "type": "string", "required": true, "pattern": "^[^a]b$" },
            },
        });
        let expected = json!({
            "type": "object", "required": ["a"], "additionalProperties": false,
            "properties": {
                "a": {}, "b": { "type": "number" }, "c": {}, "d": { "type": ["string", "null"] },
                "e": { "type": "array", "items": {} }, "f": {}, "required": { "type": "string" },
                "g": { "type": "string" }, "h": { "const": null }, "i": { "type": "string", "pattern": "^[^a]b$" },
            },
        });
        assert_eq!(arguments(&schema), Ok(expected));
    }

    #[test]
    fn a_schema_that_refers_to_itself_as_a_whole_has_a_name_for_that() {
        let tree =
            json!({ "type": "object", "properties": { "children": { "type": "array", "items": { "$ref": "#" } } } });
        let read = arguments(&tree).expect("a schema");
        assert_eq!(read["properties"]["children"]["items"], json!({ "$ref": "#/$defs/root" }));
        assert_eq!(read["$defs"]["root"]["properties"], read["properties"]);
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
