//! The search of `examples/exact_translation`, against all texts that a small ARM can write.

mod reads;
mod real;
mod searches;
mod toy;

#[path = "../../examples/exact_translation/answer.rs"]
mod answer;
#[path = "../../examples/exact_translation/path.rs"]
mod path;
#[path = "../../examples/exact_translation/prospects.rs"]
mod prospects;
#[path = "../../examples/exact_translation/question.rs"]
mod question;
#[path = "../../examples/exact_translation/reading.rs"]
mod reading;
#[path = "../../examples/exact_translation/search.rs"]
mod search;
#[path = "../../examples/exact_translation/token_bytes.rs"]
mod token_bytes;
#[path = "../../examples/exact_translation/tree.rs"]
mod tree;
