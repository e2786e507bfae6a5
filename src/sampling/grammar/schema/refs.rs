//! References within a schema.

use std::collections::{HashMap, VecDeque};

use serde_json::Value;

/// Schemas that may be referred to.
const MAX_TARGETS: usize = 2000;

/// What the schema refers to, each under a name of its own.
#[derive(Default)]
pub struct Targets<'a> {
    known: HashMap<String, usize>,
    names: Vec<String>,
    waiting: VecDeque<(usize, &'a Value)>,
    /// What is read now: a target, or the root before all of them.
    reading: usize,
    /// For the root (0) and each target (from 1) those that constrain the same value.
    same_value: Vec<Vec<usize>>,
}

impl<'a> Targets<'a> {
    /// The name under which a target is read.
    pub fn add(&mut self, reference: &str, target: &'a Value, in_place: bool) -> String {
        let at = match self.known.get(reference) {
            Some(at) => *at,
            None => {
                let at = self.names.len() + 1;
                self.names.push(reference.to_owned());
                self.known.insert(reference.to_owned(), at);
                self.waiting.push_back((at, target));
                at
            }
        };
        self.note(at, in_place);
        format!("d{at}")
    }

    /// Notes a reference to the whole schema.
    pub fn refers_to_root(&mut self, in_place: bool) {
        self.note(0, in_place);
    }

    fn note(&mut self, at: usize, in_place: bool) {
        if in_place {
            let n = self.reading.max(self.names.len()) + 1;
            if self.same_value.len() < n {
                self.same_value.resize(n, Vec::new());
            }
            self.same_value[self.reading].push(at);
        }
    }

    /// The next target to read: its name, what it is, and how it was referred to.
    pub fn next(&mut self) -> Option<(String, (&'a Value, String))> {
        let (at, target) = self.waiting.pop_front()?;
        self.reading = at;
        Some((format!("d{at}"), (target, self.names[at - 1].clone())))
    }

    /// Fails where a schema says of a value only that it is as the schema itself says.
    pub fn check_cycles(&self) -> Result<(), String> {
        if self.names.len() > MAX_TARGETS {
            return Err(format!("refers to more than {MAX_TARGETS} schemas"));
        }
        let next = |at: usize| self.same_value.get(at).map_or(&[][..], Vec::as_slice);
        // 0: not seen, 1: on the path, 2: done.
        let mut state = vec![0_u8; self.names.len() + 1];
        for start in 0..state.len() {
            let mut path = Vec::new();
            if state[start] == 0 {
                state[start] = 1;
                path.push((start, 0));
            }
            while let Some((at, i)) = path.last_mut() {
                let Some(&to) = next(*at).get(*i) else {
                    state[*at] = 2;
                    path.pop();
                    continue;
                };
                *i += 1;
                match state[to] {
                    0 => {
                        state[to] = 1;
                        path.push((to, 0));
                    }
                    1 => {
                        let name = if to == 0 { "#" } else { &self.names[to - 1] };
                        let name: String = name.chars().take(60).flat_map(char::escape_debug).collect();
                        return Err(format!("\"$ref\" goes round in a circle: \"{name}\" refers to itself"));
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

/// What a reference points to.
///
/// # Errors
///
/// Why it points to nothing.
pub fn resolve<'a>(root: &'a Value, reference: &str) -> Result<&'a Value, &'static str> {
    let Some(pointer) = reference.strip_prefix("#/") else {
        return Err("can only point into the schema itself, as #/$defs/name does");
    };
    let decoded = percent_decoded(pointer).ok_or("is no reference")?;
    root.pointer(&format!("/{decoded}")).ok_or("points to nothing")
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        if *byte == b'%' {
            let digits = std::str::from_utf8(rest.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &rest[2..];
        } else {
            bytes.push(*byte);
        }
    }
    String::from_utf8(bytes).ok()
}
