//! Every family of models in one matrix: tiny random models, as scripts/tiny-models writes them, and what genarm does with each.
//!
//! A cell is a family under a check. What a family cannot do it refuses in one line; that line is then the cell. docs/models.md has
//! the matrix as a table (`table`), and `make snapshots` writes it anew. A check that finds something wrong panics, whatever the
//! table says.

mod conversations;
mod drafts;
mod family;
mod logits;
mod others;
#[cfg(target_os = "linux")]
mod planned;
mod shared;
mod table;
mod windows;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;

use family::{FAMILIES, Family};

/// What a check finds of a family.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Found {
    Works,
    /// It works, at this cost.
    At(String),
    /// The line that the user gets.
    Refused(String),
}

/// A column of the matrix.
struct Check {
    check: fn(&Family) -> Found,
    found: OnceLock<Vec<(&'static str, Found)>>,
}

impl Check {
    const fn new(check: fn(&Family) -> Found) -> Self {
        Self { check, found: OnceLock::new() }
    }

    /// Runs it over all families, once.
    ///
    /// # Panics
    ///
    /// Where anything is wrong, with every family where it is.
    fn run(&self) -> &[(&'static str, Found)] {
        self.found.get_or_init(|| {
            let (mut found, mut wrong) = (Vec::new(), Vec::new());
            for name in FAMILIES {
                match catch_unwind(AssertUnwindSafe(|| (self.check)(Family::of(name)))) {
                    Ok(cell) => found.push((name, cell)),
                    Err(panic) => {
                        let text = panic.downcast_ref::<String>().map(String::as_str);
                        wrong.push(format!("{name}: {}", text.or(panic.downcast_ref().copied()).unwrap_or("a panic")));
                    }
                }
            }
            assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
            found
        })
    }

    /// That it works, for every family.
    fn works(&self) {
        let others: Vec<_> = self.run().iter().filter(|(_, found)| *found != Found::Works).collect();
        assert!(others.is_empty(), "{others:#?}");
    }
}
