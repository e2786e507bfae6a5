//! Short forms: a path where a mapping could say more, one thing where a list could hold several.

use std::fmt;
use std::marker::PhantomData;
use std::path::PathBuf;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// What a path can stand for.
pub(super) trait Short: Sized {
    /// What it stands for.
    fn of_path(path: PathBuf) -> Self;

    /// Reads the mapping.
    fn of_map<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error>;
}

/// Reads a path or the mapping.
pub(super) fn read<'de, T: Short, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    deserializer.deserialize_any(PathOr(PhantomData))
}

struct PathOr<T>(PhantomData<T>);

impl<'de, T: Short> Visitor<'de> for PathOr<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a path or a mapping (key: value)")
    }

    fn visit_str<E: Error>(self, path: &str) -> Result<T, E> {
        Ok(T::of_path(path.into()))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        T::of_map(MapAccessDeserializer::new(map))
    }
}

/// Reads one, or a list.
pub(super) fn list<'de, T: Short + Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    deserializer.deserialize_any(OneOrList(PhantomData))
}

struct OneOrList<T>(PhantomData<T>);

impl<'de, T: Short + Deserialize<'de>> Visitor<'de> for OneOrList<T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a path, a mapping (key: value), or a list of them")
    }

    fn visit_str<E: Error>(self, path: &str) -> Result<Vec<T>, E> {
        Ok(vec![T::of_path(path.into())])
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Vec<T>, A::Error> {
        Ok(vec![T::of_map(MapAccessDeserializer::new(map))?])
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Vec<T>, A::Error> {
        Vec::deserialize(SeqAccessDeserializer::new(list))
    }
}

/// The schema of a path or a `T`.
pub(super) fn path_or<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    let mapping = generator.subschema_for::<T>();
    json_schema!({ "anyOf": [{ "type": "string" }, mapping] })
}

/// The schema of names, each with a path or a `T`.
pub(super) fn paths_or<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    let one = path_or::<T>(generator);
    json_schema!({ "type": "object", "additionalProperties": one })
}

/// The schema of a path, a `T`, or a list of them.
pub(super) fn list_schema<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    let one = path_or::<T>(generator);
    let mapping = generator.subschema_for::<T>();
    json_schema!({ "anyOf": [{ "type": "string" }, mapping, { "type": "array", "items": one }] })
}
