//! The JSON Schema of the YAML, for editors and for `genarm schema`.

use super::wire::ConfigWire;

/// The schema, as JSON text that ends in a newline.
pub fn json_schema() -> String {
    let schema = schemars::schema_for!(ConfigWire);
    format!("{:#}\n", schema.as_value())
}
