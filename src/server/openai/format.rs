//! OpenAI's `response_format`: text, JSON, or JSON of a schema.

use serde_json::Value;

use crate::server::error::ApiError;
use crate::server::fields::{Field, Fields, shown};

/// OpenAI's `response_format`.
#[derive(Debug, Clone)]
pub enum ResponseFormat {
    /// Any text.
    Text,
    /// Any JSON object, or of this schema, as llama.cpp's server takes it.
    JsonObject {
        /// The schema.
        schema: Option<Value>,
    },
    /// JSON of a schema.
    JsonSchema {
        /// Name and schema.
        json_schema: NamedSchema,
    },
}

/// A schema with a name, as OpenAI writes it.
#[derive(Debug, Clone)]
pub struct NamedSchema {
    /// The schema.
    pub schema: Option<Value>,
    /// Whether all of it is to be enforced, or else refused.
    pub strict: bool,
}

impl Field for ResponseFormat {
    fn read(value: Value, at: &str) -> Result<Self, ApiError> {
        let mut fields = Fields::read(value, at)?;
        let format = match fields.need::<String>("type")?.as_str() {
            "text" => Self::Text,
            "json_object" => Self::JsonObject { schema: fields.take("schema")? },
            "json_schema" => Self::JsonSchema { json_schema: fields.need("json_schema")? },
            other => {
                let path = fields.path("type");
                let other = shown(other);
                let message = format!("{path} must be \"text\", \"json_object\" or \"json_schema\", got \"{other}\"");
                return Err(ApiError::invalid(&path, message));
            }
        };
        fields.finish()?;
        Ok(format)
    }
}

impl Field for NamedSchema {
    fn read(value: Value, at: &str) -> Result<Self, ApiError> {
        let mut fields = Fields::read(value, at)?;
        fields.ignore::<String>(&["name", "description"])?;
        let named = Self { schema: fields.take("schema")?, strict: fields.flag("strict")? };
        fields.finish()?;
        Ok(named)
    }
}

/// Where a request holds its schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SchemaSource {
    /// The field.
    pub field: &'static str,
    /// Whether all of it is to be enforced.
    pub strict: bool,
}

impl ResponseFormat {
    /// Whether any text will do.
    pub fn is_text(&self) -> bool {
        matches!(self, Self::Text)
    }

    /// The schema that is asked for, and where it stands; `None` in place of the latter where any object will do.
    ///
    /// # Errors
    ///
    /// A 400 about a schema that is none.
    pub fn schema(&self) -> Result<Option<(Value, Option<SchemaSource>)>, ApiError> {
        let (schema, field, strict) = match self {
            Self::Text => return Ok(None),
            Self::JsonObject { schema: None } => return Ok(Some((serde_json::json!({ "type": "object" }), None))),
            Self::JsonObject { schema } => (schema, "response_format.schema", false),
            Self::JsonSchema { json_schema } => {
                (&json_schema.schema, "response_format.json_schema.schema", json_schema.strict)
            }
        };
        match schema {
            Some(schema) if schema.is_object() || schema.is_boolean() => {
                Ok(Some((schema.clone(), Some(SchemaSource { field, strict }))))
            }
            _ => Err(ApiError::invalid(field, format!("{field} must be a JSON Schema: an object, true or false"))),
        }
    }
}
