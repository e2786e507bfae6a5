//! Which keywords of a schema are enforced. The schema is written anew with those alone, so nothing reaches llguidance
//! that was not looked at here.

use serde_json::{Map, Value, json};

use super::pattern::translate;
use super::refs::{Targets, resolve};

/// Schemas in schemas.
const MAX_DEPTH: usize = 100;
/// Schemas in all.
const MAX_SCHEMAS: usize = 10_000;
/// Bytes of the name of a property, or of a text in an `enum`.
const MAX_NAME: usize = 1024;
/// Properties of an object.
const MAX_PROPERTIES: usize = 1000;
/// The largest least number of characters, items or properties.
const MAX_LEAST: u64 = 10_000;
/// A greater bound than this is none: no text gets there.
const MAX_MOST: u64 = 100_000;
/// The largest `multipleOf`: the remainders of larger ones take seconds to compile.
const MAX_MULTIPLE: f64 = 10_000.0;
/// Integers up to here are kept exactly.
const MAX_INTEGER: u64 = 1 << 53;

/// The formats that are enforced.
const FORMATS: [&str; 10] =
    ["date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri"];

/// Keywords that say something about a schema and nothing about its texts.
const NOTES: [&str; 21] = [
    "$schema",
    "$id",
    "id",
    "$anchor",
    "$dynamicAnchor",
    "$comment",
    "$defs",
    "definitions",
    "$vocabulary",
    "title",
    "description",
    "default",
    "examples",
    "example",
    "readOnly",
    "writeOnly",
    "deprecated",
    "contentMediaType",
    "contentEncoding",
    "contentSchema",
    "nullable",
];

/// Keywords of JSON Schema that are not enforced.
const NOT_ENFORCED: [&str; 18] = [
    "not",
    "if",
    "then",
    "else",
    "contains",
    "minContains",
    "maxContains",
    "uniqueItems",
    "dependencies",
    "dependentRequired",
    "dependentSchemas",
    "propertyNames",
    "unevaluatedItems",
    "unevaluatedProperties",
    "$dynamicRef",
    "$recursiveRef",
    "disallow",
    "extends",
];

/// Why a schema is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal(pub String);

/// A schema that can be enforced.
pub struct Checked {
    /// The schema, with only what is enforced.
    pub schema: Value,
    /// What of it is not.
    pub warnings: Vec<String>,
}

/// What to do with constraints that the check lets pass and llguidance does not take.
#[derive(Debug, Clone, Copy, Default)]
pub struct Leave {
    /// Drop `minProperties` and `maxProperties`.
    pub property_counts: bool,
}

/// Reads a schema. Where it is `strict`, what cannot be enforced is refused; else it is left out with a warning.
pub fn check(schema: &Value, strict: bool, leave: Leave) -> Result<Checked, Refusal> {
    if schema == &Value::Bool(false) {
        return Err(Refusal("is false, and that allows nothing".into()));
    }
    let closes = is_plain(schema, 0);
    let mut checker =
        Checker { root: schema, strict, leave, closes, warnings: Vec::new(), n: 0, targets: Targets::default() };
    let mut checked = match checker.schema(schema, &Path::ROOT, true)? {
        Value::Object(object) => object,
        _ => Map::new(),
    };
    let mut defs = Map::new();
    while let Some((name, target)) = checker.targets.next() {
        let path = Path { parent: None, key: &target.1, depth: 0 };
        defs.insert(name, checker.schema(target.0, &path, true)?);
    }
    checker.targets.check_cycles().map_err(Refusal)?;
    if !defs.is_empty() {
        checked.insert("$defs".into(), Value::Object(defs));
    }
    Ok(Checked { schema: Value::Object(checked), warnings: checker.warnings })
}

struct Checker<'a> {
    root: &'a Value,
    strict: bool,
    leave: Leave,
    /// Whether objects get no properties but those that they list. Either way a text fits the schema; a model that may
    /// invent properties does not come to an end.
    closes: bool,
    warnings: Vec<String>,
    n: usize,
    targets: Targets<'a>,
}

/// Where in a schema something stands.
struct Path<'p> {
    parent: Option<&'p Path<'p>>,
    key: &'p str,
    depth: usize,
}

impl<'p> Path<'p> {
    const ROOT: Path<'static> = Path { parent: None, key: "#", depth: 0 };

    fn then(&'p self, key: &'p str) -> Path<'p> {
        Path { parent: Some(self), key, depth: self.depth + 1 }
    }

    /// The path as text, with what is long left out and nothing in it that a terminal acts on.
    fn text(&self) -> String {
        let key: String = self.key.chars().take(24).flat_map(char::escape_debug).collect();
        match self.parent {
            None => key,
            Some(parent) if self.depth > 6 && parent.depth > 2 => {
                let mut top = parent;
                while let Some(above) = top.parent.filter(|_| top.depth > 2) {
                    top = above;
                }
                format!("{}/…/{key}", top.text())
            }
            Some(parent) => format!("{}/{key}", parent.text()),
        }
    }
}

impl<'a> Checker<'a> {
    fn refuse<T>(&self, keyword: &str, problem: impl std::fmt::Display, path: &Path<'_>) -> Result<T, Refusal> {
        Err(Refusal(format!("\"{keyword}\" {problem} (at {})", path.text())))
    }

    /// Refuses what cannot be enforced, or warns of it.
    fn not_enforced(&mut self, keyword: &str, why: &str, path: &Path<'_>) -> Result<(), Refusal> {
        let keyword: String = keyword.chars().take(40).flat_map(char::escape_debug).collect();
        let why = if why.is_empty() { String::new() } else { format!(": it {why}") };
        let text = format!("\"{keyword}\" is not enforced{why} (at {})", path.text());
        if self.strict {
            return Err(Refusal(format!("{text}; leave it out, or leave \"strict\" out to go without it")));
        }
        if self.warnings.len() < 20 {
            self.warnings.push(text);
        }
        Ok(())
    }

    /// `in_place`: whether it constrains the same value as the schema that its definition or the root is.
    fn schema(&mut self, schema: &'a Value, path: &Path<'_>, in_place: bool) -> Result<Value, Refusal> {
        self.n += 1;
        if self.n > MAX_SCHEMAS {
            return Err(Refusal(format!("has more than {MAX_SCHEMAS} schemas in it")));
        }
        if path.depth > 2 * MAX_DEPTH {
            return Err(Refusal(format!("is nested more than {MAX_DEPTH} deep")));
        }
        let object = match schema {
            Value::Bool(_) => return Ok(schema.clone()),
            Value::Object(object) => object,
            _ => return Err(Refusal(format!("must be an object, true or false (at {})", path.text()))),
        };
        let mut out = Map::new();
        for (key, value) in object {
            let here = path.then(key);
            let kept = match key.as_str() {
                "$ref" => Some(self.reference(value, &here, in_place)?),
                "type" => Some(self.types(value, &here)?),
                "enum" => Some(self.list(key, value, &here)?),
                "const" => {
                    self.value(key, value, &here)?;
                    Some(value.clone())
                }
                "allOf" | "anyOf" | "oneOf" => Some(self.schemas(key, value, &here, in_place)?),
                "prefixItems" => Some(self.schemas(key, value, &here, false)?),
                "items" if value.is_array() => Some(self.schemas(key, value, &here, false)?),
                "items" | "additionalItems" | "additionalProperties" => Some(self.schema(value, &here, false)?),
                "properties" | "patternProperties" => self.properties(key, value, &here)?,
                "required" => Some(self.required(value, object, &here)?),
                "minItems" | "minLength" | "minProperties" | "maxItems" | "maxLength" | "maxProperties" => {
                    self.count(key, value, &here)?
                }
                "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum" | "multipleOf" => {
                    self.number(key, value, &here)?
                }
                "pattern" => self.pattern(value, &here)?,
                "format" => self.format(value, &here)?,
                _ => self.other(key, value, object, &here)?,
            };
            if let Some(kept) = kept {
                out.insert(key.clone(), kept);
            }
        }
        if self.closes && closes(object) {
            out.insert("additionalProperties".into(), Value::Bool(false));
        }
        Ok(Value::Object(out))
    }

    fn other(
        &mut self,
        key: &str,
        value: &'a Value,
        object: &'a Map<String, Value>,
        path: &Path<'_>,
    ) -> Result<Option<Value>, Refusal> {
        let idle = match key {
            "uniqueItems" => value == &Value::Bool(false),
            "minContains" | "maxContains" => !object.contains_key("contains"),
            "then" | "else" => !object.contains_key("if"),
            "unevaluatedItems" | "unevaluatedProperties" => value == &Value::Bool(true),
            _ => NOTES.contains(&key) || key.starts_with("x-"),
        };
        if idle {
            return Ok(None);
        }
        if NOT_ENFORCED.contains(&key) {
            self.not_enforced(key, "", path)?;
        } else if self.warnings.len() < 20 {
            // JSON Schema has unknown keywords pass.
            let key: String = key.chars().take(40).flat_map(char::escape_debug).collect();
            self.warnings
                .push(format!("\"{key}\" is no keyword of JSON Schema and is not enforced (at {})", path.text()));
        }
        Ok(None)
    }

    fn reference(&mut self, value: &'a Value, path: &Path<'_>, in_place: bool) -> Result<Value, Refusal> {
        let Some(reference) = value.as_str() else { return self.refuse("$ref", "must be a text", path) };
        if reference == "#" {
            self.targets.refers_to_root(in_place);
            return Ok(json!("#"));
        }
        match resolve(self.root, reference) {
            Ok(target) => Ok(format!("#/$defs/{}", self.targets.add(reference, target, in_place)).into()),
            Err(problem) => {
                let reference: String = reference.chars().take(60).flat_map(char::escape_debug).collect();
                self.refuse("$ref", format!("{problem}: \"{reference}\""), path)
            }
        }
    }

    fn types(&mut self, value: &Value, path: &Path<'_>) -> Result<Value, Refusal> {
        const TYPES: [&str; 7] = ["null", "boolean", "integer", "number", "string", "array", "object"];
        let known = |value: &Value| value.as_str().is_some_and(|name| TYPES.contains(&name));
        let is_right = match value {
            Value::Array(names) => !names.is_empty() && names.len() <= 16 && names.iter().all(known),
            one => known(one),
        };
        if is_right {
            return Ok(value.clone());
        }
        self.refuse("type", format!("must be one of {}, or a list of them", TYPES.join(", ")), path)
    }

    fn list(&mut self, keyword: &str, value: &Value, path: &Path<'_>) -> Result<Value, Refusal> {
        match value.as_array().filter(|list| !list.is_empty()) {
            Some(list) => list.iter().try_for_each(|value| self.value(keyword, value, path)).map(|()| value.clone()),
            None => self.refuse(keyword, "must be a list that is not empty", path),
        }
    }

    /// A value that is to be written as it is.
    fn value(&mut self, keyword: &str, value: &Value, path: &Path<'_>) -> Result<(), Refusal> {
        self.n += 1;
        if self.n > MAX_SCHEMAS || path.depth > 2 * MAX_DEPTH {
            return self.refuse(keyword, "is too large", path);
        }
        match value {
            Value::String(text) if text.len() > MAX_NAME => {
                self.refuse(keyword, format!("holds a text of more than {MAX_NAME} bytes"), path)
            }
            Value::Number(number) if !is_exact(number) => {
                self.refuse(keyword, "holds an integer beyond 2^53, where neighbours cannot be told apart", path)
            }
            Value::Array(items) => items.iter().try_for_each(|item| self.value(keyword, item, &path.then("item"))),
            Value::Object(items) => items.iter().try_for_each(|(key, item)| {
                let path = path.then("value");
                if key.len() > MAX_NAME {
                    return self.refuse(keyword, format!("holds a name of more than {MAX_NAME} bytes"), &path);
                }
                self.value(keyword, item, &path)
            }),
            _ => Ok(()),
        }
    }

    fn schemas(&mut self, key: &str, value: &'a Value, path: &Path<'_>, in_place: bool) -> Result<Value, Refusal> {
        let Some(list) = value.as_array() else { return self.refuse(key, "must be a list of schemas", path) };
        if list.is_empty() && key.ends_with("Of") {
            return self.refuse(key, "must not be empty", path);
        }
        let schemas = list.iter().enumerate().map(|(i, one)| self.schema(one, &path.then(&i.to_string()), in_place));
        Ok(Value::Array(schemas.collect::<Result<_, _>>()?))
    }

    fn properties(&mut self, key: &str, value: &'a Value, path: &Path<'_>) -> Result<Option<Value>, Refusal> {
        let Some(map) = value.as_object() else { return self.refuse(key, "must be an object of schemas", path) };
        if map.len() > MAX_PROPERTIES {
            return self.refuse(key, format!("names {} properties, and may name {MAX_PROPERTIES}", map.len()), path);
        }
        let mut out = Map::new();
        for (name, schema) in map {
            if name.len() > MAX_NAME {
                return self.refuse(
                    key,
                    format!("has a name of {} bytes, and it may have {MAX_NAME}", name.len()),
                    path,
                );
            }
            let here = path.then(name);
            let name = match key {
                "properties" => name.clone(),
                _ => match translate(name) {
                    Ok(pattern) => pattern,
                    Err(why) => {
                        self.not_enforced(key, &why, &here)?;
                        continue;
                    }
                },
            };
            out.insert(name, self.schema(schema, &here, false)?);
        }
        Ok(Some(Value::Object(out)))
    }

    fn required(&mut self, value: &Value, object: &Map<String, Value>, path: &Path<'_>) -> Result<Value, Refusal> {
        let names = value.as_array().filter(|names| names.iter().all(Value::is_string));
        let Some(names) = names else { return self.refuse("required", "must be a list of texts", path) };
        let is_long = |name: &Value| name.as_str().is_some_and(|name| name.len() > MAX_NAME);
        if names.len() > MAX_PROPERTIES || names.iter().any(is_long) {
            return self.refuse("required", format!("may list {MAX_PROPERTIES} names of {MAX_NAME} bytes"), path);
        }
        let listed = object.get("properties").and_then(Value::as_object);
        let is_open =
            object.get("additionalProperties") != Some(&Value::Bool(false)) || object.contains_key("patternProperties");
        let missing =
            |name: &&Value| !listed.is_some_and(|map| name.as_str().is_some_and(|name| map.contains_key(name)));
        if !is_open && let Some(name) = names.iter().find(missing) {
            let name: String =
                name.as_str().unwrap_or_default().chars().take(40).flat_map(char::escape_debug).collect();
            return self.refuse(
                "required",
                format!("asks for \"{name}\", which \"properties\" does not have and \"additionalProperties\" forbids"),
                path,
            );
        }
        Ok(value.clone())
    }

    fn count(&mut self, key: &str, value: &Value, path: &Path<'_>) -> Result<Option<Value>, Refusal> {
        let whole =
            value.as_u64().or_else(|| value.as_f64().filter(|n| *n >= 0.0 && n.fract() == 0.0).map(|n| n as u64));
        let Some(n) = whole else { return self.refuse(key, "must be an integer of at least 0", path) };
        if key.ends_with("Properties") && self.leave.property_counts {
            self.not_enforced(key, "needs all of \"properties\" to be required", path)?;
            return Ok(None);
        }
        match key.starts_with("min") {
            true if n > MAX_LEAST => self.refuse(key, format!("may be {MAX_LEAST} at most"), path),
            false if n > MAX_MOST => Ok(None),
            _ => Ok(Some(n.into())),
        }
    }

    fn number(&mut self, key: &str, value: &Value, path: &Path<'_>) -> Result<Option<Value>, Refusal> {
        match value {
            // As the fourth draft wrote them.
            Value::Bool(_) if key.starts_with("exclusive") => Ok(Some(value.clone())),
            Value::Number(number) if !is_exact(number) => {
                self.not_enforced(key, "is an integer beyond 2^53", path).map(|()| None)
            }
            Value::Number(number) if key == "multipleOf" && number.as_f64().is_none_or(|n| n <= 0.0) => {
                self.refuse(key, "must be above 0", path)
            }
            Value::Number(number) if key == "multipleOf" && number.as_f64().is_none_or(|n| n > MAX_MULTIPLE) => {
                self.not_enforced(key, &format!("may be {MAX_MULTIPLE} at most"), path).map(|()| None)
            }
            Value::Number(_) => Ok(Some(value.clone())),
            _ => self.refuse(key, "must be a number", path),
        }
    }

    fn pattern(&mut self, value: &Value, path: &Path<'_>) -> Result<Option<Value>, Refusal> {
        let Some(pattern) = value.as_str() else { return self.refuse("pattern", "must be a text", path) };
        match translate(pattern) {
            Ok(pattern) => Ok(Some(pattern.into())),
            Err(why) => self.not_enforced("pattern", &why, path).map(|()| None),
        }
    }

    fn format(&mut self, value: &Value, path: &Path<'_>) -> Result<Option<Value>, Refusal> {
        match value.as_str() {
            Some(name) if FORMATS.contains(&name) => Ok(Some(value.clone())),
            Some(_) => self.not_enforced("format", &format!("is none of {}", FORMATS.join(", ")), path).map(|()| None),
            None => self.refuse("format", "must be a text", path),
        }
    }
}

fn is_exact(number: &serde_json::Number) -> bool {
    match (number.as_u64(), number.as_i64()) {
        (None, None) => true,
        (unsigned, signed) => unsigned.or(signed.map(i64::unsigned_abs)).is_some_and(|n| n <= MAX_INTEGER),
    }
}

/// Whether no object is constrained by two schemas.
fn is_plain(value: &Value, depth: usize) -> bool {
    match value {
        _ if depth > 4 * MAX_DEPTH => false,
        Value::Array(items) => items.iter().all(|item| is_plain(item, depth + 1)),
        Value::Object(object) => {
            let has = |names: &[&str]| names.iter().filter(|name| object.contains_key(**name)).count();
            let in_place = has(&["$ref", "anyOf", "oneOf"]);
            let of_objects = has(&["properties", "required", "patternProperties", "additionalProperties"]);
            !object.contains_key("allOf")
                && (in_place == 0 || in_place == 1 && of_objects == 0)
                && object.values().all(|value| is_plain(value, depth + 1))
        }
        _ => true,
    }
}

/// Whether a schema lists its properties and does not mention others.
fn closes(object: &Map<String, Value>) -> bool {
    let silent = ["additionalProperties", "patternProperties", "unevaluatedProperties", "minProperties"];
    let Some(properties) = object.get("properties").and_then(Value::as_object).filter(|map| !map.is_empty()) else {
        return false;
    };
    let required = object.get("required").and_then(Value::as_array);
    silent.iter().all(|key| !object.contains_key(*key))
        && required.into_iter().flatten().filter_map(Value::as_str).all(|name| properties.contains_key(name))
}
