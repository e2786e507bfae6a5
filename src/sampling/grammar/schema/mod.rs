//! JSON Schema, followed by llguidance.
//!
//! What reaches llguidance is a schema written anew from what [`check`] has looked at; its errors quote the schema, so
//! they are told by their kind alone.

#[cfg(feature = "server")]
mod calls;
mod check;
mod pattern;
mod refs;

use std::sync::{Arc, Mutex, PoisonError};

use llguidance::api::TopLevelGrammar;
use llguidance::toktrie::SimpleVob;
use serde_json::{Value, json};

use super::vocabulary::GrammarVocabulary;
use crate::deep::deep;
use crate::expert::Token;
#[cfg(feature = "server")]
pub use calls::arguments;
use check::{Checked, Leave, Refusal};

/// Space between the parts of JSON, as llama.cpp allows it. Without a bound a model may write spaces for ever.
const SPACE: &str = r" |\n{1,2}[ \t]{0,20}";

/// A schema, ready to be followed by any number of texts.
pub struct Schema {
    start: Mutex<llguidance::Matcher>,
}

impl Schema {
    /// Reads, checks and compiles a schema; what of it is not enforced comes with it.
    ///
    /// # Errors
    ///
    /// What is wrong with it, to be read after the name of the field.
    pub fn new(
        schema: &Value,
        strict: bool,
        vocabulary: &Arc<GrammarVocabulary>,
    ) -> Result<(Self, Vec<String>), String> {
        // llguidance calls itself for each property of an object.
        match deep(|| compile(schema, strict, vocabulary)) {
            Ok(Ok(result)) => result.map(|(start, warnings)| (Self { start: Mutex::new(start) }, warnings)),
            Ok(Err(_)) => Err("cannot be enforced".into()),
            Err(error) => Err(format!("cannot be compiled: {error}")),
        }
    }

    /// A text's way through it.
    pub fn matcher(&self) -> Matcher {
        Matcher(self.start.lock().unwrap_or_else(PoisonError::into_inner).deep_clone())
    }
}

fn compile(
    schema: &Value,
    strict: bool,
    vocabulary: &GrammarVocabulary,
) -> Result<(llguidance::Matcher, Vec<String>), String> {
    let mut leave = Leave::default();
    let mut any_of_one_of = false;
    loop {
        let Checked { mut schema, mut warnings } =
            check::check(schema, strict, leave).map_err(|Refusal(problem)| problem)?;
        schema["x-guidance"] = json!({ "whitespace_pattern": SPACE, "coerce_one_of": any_of_one_of });
        if any_of_one_of {
            warnings.push("\"oneOf\" is enforced as \"anyOf\": its schemas are not known to exclude each other".into());
        }
        let factory = vocabulary.factory().ok_or("cannot be enforced with this vocabulary")?;
        let parser = factory.create_parser(TopLevelGrammar::from_json_schema(schema));
        let error = match parser {
            Ok(parser) => {
                let mut start = llguidance::Matcher::new(Ok(parser));
                // The first step is taken here, away from other texts.
                match start.compute_mask_or_eos() {
                    Ok(_) => return Ok((start, warnings)),
                    Err(error) => error,
                }
            }
            Err(error) => error,
        };
        match Kind::of(&error) {
            Kind::OneOf if !strict && !any_of_one_of => any_of_one_of = true,
            Kind::PropertyCounts if !strict && !leave.property_counts => leave.property_counts = true,
            kind => return Err(kind.problem().into()),
        }
    }
}

/// Why llguidance does not take a schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    OneOf,
    PropertyCounts,
    PatternProperties,
    Circle,
    Pattern,
    Nothing,
    TooLarge,
}

impl Kind {
    fn of(error: &anyhow::Error) -> Self {
        let text = format!("{error:#}");
        let has = |words: &str| text.contains(words);
        if has("oneOf constraints") {
            Self::OneOf
        } else if has("min/maxProperties") {
            Self::PropertyCounts
        } else if has("patternProperty") {
            Self::PatternProperties
        } else if has("circular references") {
            Self::Circle
        } else if has("lookarounds") || has("if regex is empty") {
            Self::Pattern
        } else if has("nsatisfiable") {
            Self::Nothing
        } else {
            Self::TooLarge
        }
    }

    fn problem(self) -> &'static str {
        match self {
            Self::OneOf => {
                "\"oneOf\" is enforced only where no value fits two of its schemas, and these are not known to be such; use \"anyOf\""
            }
            Self::PropertyCounts => {
                "\"minProperties\" and \"maxProperties\" are enforced only where all of \"properties\" are required"
            }
            Self::PatternProperties => "\"patternProperties\" are enforced only where no name fits two of its patterns",
            Self::Circle => {
                "\"$ref\" refers to a schema that refers back to it beside other keywords, which cannot be enforced"
            }
            Self::Pattern => {
                "\"pattern\" cannot be enforced: ^ and $ may stand at its ends alone, and with \"format\" and lengths it must stay simple"
            }
            Self::Nothing => {
                "allows nothing: its keywords (\"allOf\", \"required\", \"const\", bounds and others) contradict each other"
            }
            Self::TooLarge => "is too large or too intricate to enforce",
        }
    }
}

/// What a text has come to in a schema.
pub struct Matcher(llguidance::Matcher);

impl Matcher {
    /// Every token that may come next, those that end the text too; `None` where it takes more work than is allowed.
    pub fn mask(&mut self) -> Option<SimpleVob> {
        if !self.0.stop_reason().is_ok() {
            return None;
        }
        self.0.compute_mask_or_eos().ok()
    }

    /// Takes a token of the mask. False where it takes more work than is allowed.
    pub fn accept(&mut self, token: Token) -> bool {
        self.0.consume_token(token as u32).is_ok()
    }
}
