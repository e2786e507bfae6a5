//! Grammars, schemas and patterns.

use serde_json::json;

use super::{Attack, Right};

pub fn attacks() -> Vec<Attack> {
    use Right::{Either, Refused};
    vec![
        Attack::completion("a grammar without a root", json!({"grammar": "x ::= \"a\""}), Refused("root")),
        Attack::completion(
            "a literal of 8,000 characters in a grammar",
            json!({"grammar": format!("root ::= \"{}\"", "a".repeat(8_000))}),
            Either,
        ),
        Attack::completion("a grammar of a megabyte", json!({"grammar": "x".repeat(900_000)}), Refused("bytes")),
        Attack::completion(
            "a schema of a megabyte",
            json!({"json_schema": {"type": "object", "description": "x".repeat(900_000)}}),
            Refused("bytes"),
        ),
    ]
}
