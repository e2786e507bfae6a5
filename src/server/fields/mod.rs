//! Reads the fields of a request, one after the other. Each error names the field and says what it must be.
//!
//! ```text
//! let mut fields = Fields::new(object);
//! let n: Option<usize> = fields.take("n")?;      // "n must be an integer, got a string"
//! fields.finish()?;                              // "unknown field \"nn\"; did you mean \"n\"?"
//! ```

mod kinds;

use serde_json::{Map, Value};

use super::error::ApiError;
use crate::brief::Short;
use crate::nearest::{nearest, nearest_within};

pub use kinds::{Field, items, wrong};

/// Fields of other servers whose names are near to known ones and mean something else.
const OTHERS: [&str; 24] = [
    "temp_last",
    "temperature_last",
    "max_temp",
    "min_temp",
    "min_tokens",
    "max_length",
    "min_length",
    "max_new_tokens",
    "top_a",
    "speed",
    "models",
    "tfs",
    "tfs_z",
    "typical",
    "num_ctx",
    "stop_token_ids",
    "mirostat_mode",
    "dynatemp_min",
    "dynatemp_max",
    "dynatemp_low",
    "dynatemp_high",
    "dynatemp_mode",
    "logits",
    "n_ctx",
];

/// Unknown fields that a request may have, to be named in its answer.
const MAX_UNKNOWN: usize = 100;
/// Bytes of the name of such a field.
const MAX_NAME: usize = 100;

/// The fields of an object that have not been read yet.
#[derive(Debug)]
pub struct Fields {
    /// Where the object stands in the request; empty for the request itself.
    path: String,
    object: Map<String, Value>,
    /// The names that were asked for.
    known: Vec<&'static str>,
    /// Where a value stood under another of its names: the first of its names, and that one.
    renamed: Vec<(&'static str, &'static str)>,
    /// The fields that were sent and have no effect.
    ignored: Vec<String>,
    /// What a client calls fields that are read under another name.
    translated: Vec<(&'static str, &'static str)>,
}

/// What is read from the fields of a request.
pub trait FromFields: Sized {
    /// Whether fields that are not known have no effect: those of other servers on the routes that others have too. A
    /// slip in the name of a known field is refused all the same.
    const LENIENT: bool = false;

    /// Reads it. What is left over afterwards is unknown.
    ///
    /// # Errors
    ///
    /// A 400 that names the field.
    fn read(fields: &mut Fields) -> Result<Self, ApiError>;
}

impl Fields {
    /// The fields of a request. Official clients send null for what is not set.
    pub fn new(object: Map<String, Value>) -> Self {
        Self::at("", object)
    }

    /// The fields of an object within a request.
    pub fn at(path: &str, mut object: Map<String, Value>) -> Self {
        object.retain(|_, value| !value.is_null());
        Self {
            path: path.to_owned(),
            object,
            known: Vec::new(),
            renamed: Vec::new(),
            ignored: Vec::new(),
            translated: Vec::new(),
        }
    }

    /// Reads all of a request, with the names of the fields that have no effect. Where the server is `strict`, none is
    /// unknown.
    ///
    /// # Errors
    ///
    /// Those of the request's own reader, and an unknown field.
    pub fn into_request<T: FromFields>(mut self, strict: bool) -> Result<(T, Vec<String>), ApiError> {
        let request = T::read(&mut self)?;
        if strict || !T::LENIENT {
            self.check_known()?;
        }
        self.check_slips()?;
        let unknown = self.object.keys().map(|name| self.path(name));
        self.ignored.extend(unknown.collect::<Vec<_>>());
        Ok((request, self.ignored))
    }

    /// Reads the request as another one: `translate` makes the fields of that from what was sent. Some have `names`
    /// here: that of the other request, and the client's.
    ///
    /// # Errors
    ///
    /// Those of `translate`, and a field of the other request that was sent beside what becomes that field.
    pub fn translate(
        &mut self,
        names: &[(&'static str, &'static str)],
        translate: impl FnOnce(&mut Self) -> Result<Map<String, Value>, ApiError>,
    ) -> Result<(), ApiError> {
        let object = translate(self)?;
        for (name, value) in object {
            if value.is_null() {
                continue;
            }
            if self.object.contains_key(&name) {
                let message = format!("{name} says a second time what this route calls otherwise; leave it out");
                return Err(ApiError::invalid(&name, message));
            }
            self.object.insert(name, value);
        }
        self.translated = names.to_vec();
        Ok(())
    }

    /// The value of a field that may be read later.
    pub fn peek(&self, name: &str) -> Option<&Value> {
        self.object.get(name)
    }

    /// Where a field stands in the request.
    pub fn path(&self, name: &str) -> String {
        let name = self.translated.iter().find(|(read, _)| *read == name).map_or(name, |(_, sent)| sent);
        if self.path.is_empty() { shown(name) } else { format!("{}.{}", self.path, shown(name)) }
    }

    /// A field, if it is there.
    ///
    /// # Errors
    ///
    /// Where its value is of another kind.
    pub fn take<T: Field>(&mut self, name: &'static str) -> Result<Option<T>, ApiError> {
        self.known.push(name);
        let Some(value) = self.object.shift_remove(name) else { return Ok(None) };
        T::read(value, &self.path(name)).map(Some)
    }

    /// A field that must be there.
    ///
    /// # Errors
    ///
    /// Where it is missing, or its value is of another kind.
    pub fn need<T: Field>(&mut self, name: &'static str) -> Result<T, ApiError> {
        let path = self.path(name);
        self.take(name)?.ok_or_else(|| ApiError::invalid(&path, format!("{path} is missing")))
    }

    /// As [`need`](Self::need), for the last field that is read: what is left beside it is unknown, and may be the
    /// missing one with a slip in its name.
    ///
    /// # Errors
    ///
    /// Those of `need`, and where the field is missing an unknown one.
    pub fn need_last<T: Field>(&mut self, name: &'static str) -> Result<T, ApiError> {
        if !self.object.contains_key(name) {
            self.known.push(name);
            self.near_slip().map_or(Ok(()), Err)?;
        }
        self.need(name)
    }

    /// A field with several names, of which the first is the one that is looked for.
    ///
    /// # Errors
    ///
    /// Where the value is of another kind, or two names have different values.
    pub fn take_as<T: Field>(&mut self, names: &[&'static str]) -> Result<Option<T>, ApiError> {
        self.known.extend(names);
        let mut found: Option<(&'static str, Value)> = None;
        for &name in names {
            let Some(value) = self.object.shift_remove(name) else { continue };
            match &found {
                Some((other, first)) if *first != value => {
                    let path = self.path(name);
                    let message = format!("{path} and {} are one setting with two values; give one", self.path(other));
                    return Err(ApiError::invalid(&path, message));
                }
                Some(_) => {}
                None => found = Some((name, value)),
            }
        }
        let Some((name, value)) = found else { return Ok(None) };
        if name != names[0] {
            self.renamed.push((names[0], name));
        }
        T::read(value, &self.path(name)).map(Some)
    }

    /// Where fields stood under another of their names: the first of its names, and that one.
    pub fn renamed(&self) -> &[(&'static str, &'static str)] {
        &self.renamed
    }

    /// A field that is true or false, and false where it is missing.
    ///
    /// # Errors
    ///
    /// Where its value is of another kind.
    pub fn flag(&mut self, name: &'static str) -> Result<bool, ApiError> {
        Ok(self.take(name)?.unwrap_or(false))
    }

    /// Fields of one kind whose values change nothing here.
    ///
    /// # Errors
    ///
    /// Where a value is of another kind.
    pub fn ignore<T: Field>(&mut self, names: &[&'static str]) -> Result<(), ApiError> {
        for name in names {
            if self.take::<T>(name)?.is_some() {
                self.ignored.push(self.path(name));
            }
        }
        Ok(())
    }

    /// Notes that a part of the request has no effect.
    pub fn note_ignored(&mut self, path: String) {
        self.ignored.push(path);
    }

    /// A field that only has an effect that is not supported: one of `harmless` values, or an error that ends with
    /// `help`.
    ///
    /// # Errors
    ///
    /// Where it has another value.
    pub fn only(&mut self, name: &'static str, harmless: &[Value], help: &str) -> Result<(), ApiError> {
        match self.take::<Value>(name)? {
            Some(value) if !harmless.contains(&value) => {
                let path = self.path(name);
                Err(ApiError::invalid(&path, format!("{path} {help}")))
            }
            _ => Ok(()),
        }
    }

    /// Refuses what has not been read.
    ///
    /// # Errors
    ///
    /// About the first such field.
    pub fn finish(self) -> Result<(), ApiError> {
        self.check_known()
    }

    /// Refuses slips in the names of known fields. What else has not been read has no effect.
    ///
    /// # Errors
    ///
    /// About the first such field.
    pub fn finish_leniently(self) -> Result<(), ApiError> {
        self.check_slips()
    }

    fn check_known(&self) -> Result<(), ApiError> {
        let Some(first) = self.object.keys().next() else { return Ok(()) };
        let near = |name: &String| Some((self.path(name), nearest(name, self.known.iter().copied())?));
        Err(match self.object.keys().take(MAX_UNKNOWN).find_map(near) {
            Some((path, near)) => slip(&path, near),
            None => {
                let path = self.path(first);
                let message = format!("unknown field \"{path}\"; docs/server.md lists what a request may hold");
                ApiError::invalid(&path, message)
            }
        })
    }

    fn check_slips(&self) -> Result<(), ApiError> {
        if self.object.len() > MAX_UNKNOWN || self.object.keys().any(|name| name.len() > MAX_NAME) {
            return self.check_known();
        }
        self.near_slip().map_or(Ok(()), Err)
    }

    /// The first of the unknown fields that is a slip.
    fn near_slip(&self) -> Option<ApiError> {
        // Other servers have many fields, and names that are alike by chance: a slip is one letter, or two of many.
        let most = |n_chars| if n_chars < 8 { 1 } else { 2 };
        let near = |name: &String| {
            let near = nearest_within(name, self.known.iter().copied(), most)?;
            (!OTHERS.contains(&name.as_str())).then(|| slip(&self.path(name), near))
        };
        self.object.keys().take(MAX_UNKNOWN).find_map(near)
    }

    /// The names that were asked for.
    #[cfg(test)]
    pub fn known(&self) -> &[&'static str] {
        &self.known
    }
}

fn slip(path: &str, near: &str) -> ApiError {
    ApiError::invalid(path, format!("unknown field \"{path}\"; did you mean \"{near}\"?"))
}

/// A client's own name, as an error repeats it: not too long, and without control characters.
pub fn shown(name: &str) -> String {
    Short(name).to_string()
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
