//! What must hold of guidance across vocabularies, on toys whose answer is known exactly.

mod exactness;
mod properties;
mod toys;
