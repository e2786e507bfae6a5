//! Lossless speculation: the tokens have the distribution of the plain loop, and the texts its endings.

mod endings;
mod exact;
mod inflate;
mod models;
mod mutants;
mod world;
