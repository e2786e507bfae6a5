//! Short forms: a path where a mapping could say more, one thing where a list could hold several.

use std::fmt;
use std::marker::PhantomData;
use std::path::PathBuf;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::wire::LoraWire;

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

/// Reads adapters: one, or a list.
pub(super) fn adapters<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<LoraWire>, D::Error> {
    deserializer.deserialize_any(Adapters)
}

struct Adapters;

impl<'de> Visitor<'de> for Adapters {
    type Value = Vec<LoraWire>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a path, a mapping (key: value), or a list of them")
    }

    fn visit_str<E: Error>(self, path: &str) -> Result<Vec<LoraWire>, E> {
        Ok(vec![LoraWire::of_path(path.into())])
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Vec<LoraWire>, A::Error> {
        Ok(vec![LoraWire::of_map(MapAccessDeserializer::new(map))?])
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Vec<LoraWire>, A::Error> {
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

/// The schema of adapters.
pub(super) fn adapters_schema(generator: &mut SchemaGenerator) -> Schema {
    let one = path_or::<LoraWire>(generator);
    let mapping = generator.subschema_for::<LoraWire>();
    json_schema!({ "anyOf": [{ "type": "string" }, mapping, { "type": "array", "items": one }] })
}
