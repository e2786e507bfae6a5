//! Which keywords are enforced, and what becomes of the others.

use serde_json::json;

use super::*;

fn schema(schema: &Value) -> Arc<Compiled> {
    compile_schema(schema, true).unwrap_or_else(|e| panic!("{e}\n{schema}"))
}

#[test]
fn every_enforced_keyword_is_enforced() {
    for (value, right, wrong) in [
        (
            json!({"type": "string", "pattern": "^\\d{4}-\\d{2}$"}),
            &["\"2024-01\""][..],
            &["\"2024\"", "\"x2024-01\"", "1"][..],
        ),
        (json!({"type": "string", "pattern": "[0-9]+"}), &["\"a1b\"", "\"7\""], &["\"ab\"", "\"\""]),
        (json!({"type": "string", "pattern": "^\\w+$"}), &["\"a_1\""], &["\"a b\"", "\"\""]),
        (json!({"type": "string", "pattern": "^a|b$"}), &["\"ax\"", "\"xb\""], &["\"xax\""]),
        (json!({"type": "string", "format": "email"}), &["\"a@b.c\""], &["\"a\"", "\"a@\""]),
        (json!({"type": "string", "format": "date"}), &["\"2024-02-29\""], &["\"\"", "\"2024-13-01\"", "\"24-1-1\""]),
        (json!({"type": "string", "minLength": 2, "maxLength": 3}), &["\"ab\"", "\"é日本\""], &["\"a\"", "\"abcd\""]),
        (json!({"type": "integer", "minimum": 5, "exclusiveMaximum": 12}), &["5", "11"], &["4", "12", "5.5"]),
        (json!({"type": "integer", "multipleOf": 5}), &["0", "15", "-5"], &["3", "16"]),
        (json!({"type": ["null", "boolean"]}), &["null", "true"], &["1", "\"\""]),
        (json!({"enum": ["a", 1, null, {"b": [true]}]}), &["\"a\"", "1", "null", "{\"b\": [true]}"], &["2", "\"b\""]),
        (json!({"const": "x\"y"}), &["\"x\\\"y\""], &["\"x\""]),
        (
            json!({"type": "array", "items": {"type": "integer"}, "minItems": 1, "maxItems": 2}),
            &["[1]", "[1, 2]"],
            &["[]", "[1, 2, 3]", "[\"a\"]"],
        ),
        (json!({"type": "array", "prefixItems": [{"const": 1}], "items": false}), &["[1]", "[]"], &["[2]", "[1, 2]"]),
        (json!({"anyOf": [{"type": "null"}, {"type": "integer", "maximum": 3}]}), &["null", "3"], &["4"]),
        (json!({"oneOf": [{"type": "null"}, {"type": "string"}]}), &["null", "\"x\""], &["4"]),
        (json!({"allOf": [{"type": "integer", "minimum": 2}, {"maximum": 4}]}), &["2", "4"], &["1", "5"]),
        (
            json!({"type": "object", "patternProperties": {"^x": {"type": "integer"}}, "additionalProperties": false}),
            &["{\"xa\": 1}", "{}"],
            &["{\"a\": 1}", "{\"xa\": \"\"}"],
        ),
        (
            json!({"type": "object", "additionalProperties": {"type": "integer"}, "maxProperties": 1}),
            &["{}", "{\"a\": 1}"],
            &["{\"a\": 1, \"b\": 2}", "{\"a\": \"\"}"],
        ),
        (json!({"type": "object", "required": ["b"]}), &["{\"b\": 1}", "{\"b\": 1, \"a\": 2}"], &["{}", "{\"a\": 2}"]),
        (json!({"type": "object", "properties": {"a": true}, "required": ["a"]}), &["{\"a\": [{}]}"], &["{}"]),
        (json!({"properties": {"a": false}, "type": "object"}), &["{}"], &["{\"a\": 1}"]),
    ] {
        assert_takes(&schema(&value), right, wrong);
    }
}

#[test]
fn boolean_schemas_are_schemas() {
    assert_takes(&schema(&json!(true)), &["1", "[{\"a\": null}]"], &["", "x"]);
    assert!(compile_schema(&json!(false), true).err().expect("refused").to_string().contains("allows nothing"));
    assert_takes(&schema(&json!({})), &["{\"a\": 1}", "\"\""], &["{"]);
}

#[test]
fn an_object_that_lists_its_properties_has_no_others() {
    let open =
        json!({"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "null"}}, "required": ["a"]});
    assert_takes(&schema(&open), &["{\"a\": 1}", "{\"a\": 1, \"b\": null}"], &["{}", "{\"a\": 1, \"c\": 2}"]);
    let open = json!({"type": "object", "properties": {"a": {"const": 1}}, "additionalProperties": true});
    assert_takes(&schema(&open), &["{\"a\": 1, \"c\": 2}"], &["{\"a\": 2}"]);
    // Where schemas are combined, one may name what another leaves open.
    let both = json!({"allOf": [
        {"type": "object", "properties": {"a": {"const": 1}}, "required": ["a"]},
        {"type": "object", "properties": {"b": {"const": 2}}, "required": ["b"]}]});
    assert_takes(&schema(&both), &["{\"a\": 1, \"b\": 2}"], &["{\"a\": 1}"]);
}

#[test]
fn references_are_followed_wherever_they_point_in_the_schema() {
    let tree = json!({"$defs": {"node": {"type": "object", "properties": {"v": {"type": "integer"},
        "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}}, "required": ["v", "next"]}}, "$ref": "#/$defs/node"});
    assert_takes(&schema(&tree), &["{\"v\": 1, \"next\": {\"v\": 2, \"next\": null}}"], &["{\"v\": 1}"]);
    let whole = json!({"type": "array", "items": {"$ref": "#"}});
    assert_takes(&schema(&whole), &["[[], [[]]]"], &["[1]"]);
    let escaped = json!({"$defs": {"a/b ~": {"const": 1}}, "type": "array", "items": {"$ref": "#/$defs/a~1b%20~0"}});
    assert_takes(&schema(&escaped), &["[1]"], &["[2]"]);
    let old = json!({"definitions": {"x": {"enum": ["a"]}}, "properties": {"y": {"$ref": "#/definitions/x", "description": "one"}}, "type": "object", "required": ["y"]});
    assert_takes(&schema(&old), &["{\"y\": \"a\"}"], &["{\"y\": \"b\"}"]);
}

#[test]
fn what_is_not_enforced_is_refused_by_name_where_the_schema_is_strict_and_warned_of_elsewhere() {
    for (value, keyword) in [
        (json!({"not": {"type": "string"}}), "not"),
        (json!({"type": "array", "uniqueItems": true}), "uniqueItems"),
        (json!({"if": {"type": "string"}, "then": {"minLength": 1}}), "if"),
        (json!({"type": "array", "contains": {"const": 1}}), "contains"),
        (json!({"type": "object", "propertyNames": {"maxLength": 3}}), "propertyNames"),
        (json!({"type": "object", "dependentRequired": {"a": ["b"]}}), "dependentRequired"),
        (json!({"type": "object", "unevaluatedProperties": false}), "unevaluatedProperties"),
        (json!({"type": "integer", "multipleOf": 86_047}), "multipleOf"),
        (json!({"type": "string", "format": "idn-email"}), "format"),
        (json!({"type": "string", "format": "unknown"}), "format"),
        (json!({"type": "string", "pattern": "(?=a)"}), "pattern"),
        (json!({"type": "string", "pattern": "(a)\\1"}), "pattern"),
        (json!({"type": "object", "patternProperties": {"(?!a)": {}}}), "patternProperties"),
        (
            json!({"type": "object", "properties": {"a": {}, "b": {}}, "minProperties": 1, "maxProperties": 2}),
            "minProperties",
        ),
        (json!({"oneOf": [{"type": "string", "minLength": 1}, {"type": "string", "maxLength": 3}]}), "oneOf"),
    ] {
        let error = compile_schema(&value, true).err().unwrap_or_else(|| panic!("{value}")).to_string();
        assert!(error.contains(&format!("\"{keyword}\"")) && error.len() < 300, "{value}: {error}");
        let lenient = compile_schema(&value, false).unwrap_or_else(|e| panic!("{e}: {value}"));
        assert!(
            lenient.warnings().iter().any(|w| w.contains(&format!("\"{keyword}\""))),
            "{value}: {:?}",
            lenient.warnings()
        );
    }
    let idle = json!({"uniqueItems": false, "then": {}, "title": "x", "default": 3, "x-order": 1, "type": "null"});
    assert_eq!(schema(&idle).warnings(), &[] as &[String]);
    let unknown = json!({"type": "null", "maxlength": 3});
    assert!(schema(&unknown).warnings()[0].contains("\"maxlength\" is no keyword"));
}

#[test]
fn what_is_no_schema_is_refused_with_the_keyword_and_its_place() {
    for (value, words) in [
        (json!({"type": "nothing"}), "\"type\" must be one of null"),
        (json!({"type": "object", "properties": {"a": {"type": "sting"}}}), "at #/properties/a/type"),
        (json!({"$ref": "#/$defs/None"}), "points to nothing: \"#/$defs/None\""),
        (json!({"$ref": "https://example.com/schema"}), "into the schema itself"),
        (json!({"$defs": {"a": {"$ref": "#/$defs/a"}}, "allOf": [{"$ref": "#/$defs/a"}]}), "refers to itself"),
        (
            json!({"$defs": {"a": {"allOf": [{"$ref": "#/$defs/b"}]}, "b": {"anyOf": [{"$ref": "#/$defs/a"}]}}, "$ref": "#/$defs/b"}),
            "refers to itself",
        ),
        (json!({"properties": {"a": {"$ref": "#/properties/a"}}}), "refers to itself"),
        (json!({"enum": []}), "\"enum\""),
        (json!({"enum": [9_007_199_254_740_993_u64]}), "2^53"),
        (json!({"allOf": []}), "\"allOf\""),
        (json!({"minLength": -1}), "\"minLength\""),
        (json!({"minimum": "5"}), "\"minimum\""),
        (json!({"multipleOf": 0}), "\"multipleOf\""),
        (json!({"properties": [1]}), "\"properties\""),
        (json!({"items": 3}), "must be an object, true or false"),
        (
            json!({"type": "object", "required": ["b"], "properties": {"a": {}}, "additionalProperties": false}),
            "\"required\" asks for \"b\"",
        ),
        (json!({"type": "integer", "minimum": 5, "maximum": 3}), "allows nothing"),
        (json!({"allOf": [{"type": "string"}, {"type": "integer"}]}), "allows nothing"),
        (json!({"type": "object", "properties": {"!".repeat(8000): {}}}), "8000 bytes"),
    ] {
        for strict in [true, false] {
            let error = compile_schema(&value, strict).err().unwrap_or_else(|| panic!("{value}")).to_string();
            assert!(
                error.starts_with("json_schema: ") && error.contains(words) && error.len() < 300,
                "{value}: {error}"
            );
        }
    }
}

#[test]
fn what_is_said_of_a_schema_holds_no_control_characters_and_little_of_its_text() {
    let forged = format!("\n2026-01-01 ERROR \u{1b}[31m{}", "x".repeat(500));
    for value in [
        json!({"$ref": format!("#/{forged}")}),
        json!({"properties": {&forged: {"type": "x"}}}),
        json!({"type": "object", "properties": {&forged: {"not": {}}}}),
        json!({"required": [&forged], "properties": {}, "additionalProperties": false}),
        json!({"pattern": format!("({forged}")}),
    ] {
        let error = compile_schema(&value, true).err().unwrap_or_else(|| panic!("{value}")).to_string();
        assert!(error.len() < 300 && !error.contains(['\n', '\u{1b}']), "{error:?}");
    }
}
