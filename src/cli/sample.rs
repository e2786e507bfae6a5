//! A text of 200 words, on which vocabularies are compared and translations are timed.

/// English prose with dialogue, numbers, a list and a little code.
pub const SAMPLE: &str = include_str!("sample.txt");
