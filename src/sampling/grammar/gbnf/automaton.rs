//! The tree as states: one automaton over bytes a rule, whose edges may call other rules.

use std::collections::HashMap;

use regex_syntax::utf8::Utf8Sequences;

use super::tree::{Expr, Tree};
use super::{Fault, MAX_BUILD, MAX_STATES};
use crate::expert::Token;

/// A place in the automaton.
pub type AutomatonState = u32;

/// What leads on from a state. Beside it a state may have edges that take nothing ([`Automaton::free`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edge {
    /// Nothing of its own.
    None,
    /// A byte: these of [`Automaton::bytes`].
    Bytes(u32, u32),
    /// A whole token.
    Token {
        /// Its id.
        id: Token,
        /// Whether any token but it leads on.
        negated: bool,
        /// Where to.
        to: AutomatonState,
    },
    /// Another rule, and where to go on after it.
    Call {
        /// Which.
        rule: u32,
        /// Where after it.
        then: AutomatonState,
    },
    /// The end of the rule.
    End,
    /// The end of a text that began in `root`.
    Accept,
}

/// A compiled grammar.
pub struct Automaton {
    edges: Vec<Edge>,
    free: Vec<Vec<AutomatonState>>,
    bytes: Vec<(u8, u8, AutomatonState)>,
    /// Where each rule begins.
    pub starts: Vec<AutomatonState>,
    /// The rule that a text begins in.
    pub root: usize,
    /// For each rule whether it matches the empty text.
    pub nullable: Vec<bool>,
    /// A rule calls only those of a higher rank before it has taken a byte.
    pub ranks: Vec<usize>,
    /// Parts and edges that were built: what takes no byte makes no states, and can be repeated at length all the same.
    built: usize,
}

/// The state at which a whole text has ended.
pub const ACCEPT: AutomatonState = 0;

impl Automaton {
    /// Compiles a grammar.
    pub fn new(tree: &Tree) -> Result<Self, Fault> {
        let nullable = tree.nullable();
        let ranks = tree.ranks(&nullable)?;
        let mut automaton = Self {
            edges: vec![Edge::Accept],
            free: vec![Vec::new()],
            bytes: Vec::new(),
            starts: Vec::new(),
            root: tree.root,
            nullable,
            ranks,
            built: 0,
        };
        for rule in &tree.rules {
            let end = automaton.state(Edge::End)?;
            let start = automaton.build(&rule.body, end)?;
            automaton.starts.push(start);
        }
        Ok(automaton)
    }

    /// What leads on from a state.
    pub fn edge(&self, state: AutomatonState) -> Edge {
        self.edges[state as usize]
    }

    /// The states that are reached without taking anything.
    pub fn free(&self, state: AutomatonState) -> &[AutomatonState] {
        &self.free[state as usize]
    }

    /// The edges of [`Edge::Bytes`].
    pub fn bytes(&self, first: u32, end: u32) -> &[(u8, u8, AutomatonState)] {
        &self.bytes[first as usize..end as usize]
    }

    fn count(&mut self, n: usize) -> Result<(), Fault> {
        self.built += n;
        if self.edges.len() >= MAX_STATES || self.built >= MAX_BUILD {
            return Err(Fault::new("is too large: shorten it, or lower the bounds of its repetitions"));
        }
        Ok(())
    }

    fn state(&mut self, edge: Edge) -> Result<AutomatonState, Fault> {
        self.count(1)?;
        self.edges.push(edge);
        self.free.push(Vec::new());
        Ok((self.edges.len() - 1) as AutomatonState)
    }

    /// The state from which `expr` leads to `to`.
    fn build(&mut self, expr: &Expr, to: AutomatonState) -> Result<AutomatonState, Fault> {
        self.count(1)?;
        match expr {
            Expr::All(items) => items.iter().rev().try_fold(to, |to, item| self.build(item, to)),
            Expr::Any(items) => {
                let start = self.state(Edge::None)?;
                for item in items {
                    let branch = self.build(item, to)?;
                    self.free[start as usize].push(branch);
                }
                Ok(start)
            }
            Expr::Bytes(bytes) => bytes.iter().rev().try_fold(to, |to, byte| self.byte_state(vec![(*byte, *byte, to)])),
            Expr::Class(ranges) => self.class(ranges, to),
            Expr::Rule(rule) => self.state(Edge::Call { rule: *rule as u32, then: to }),
            Expr::Token { id, negated } => self.state(Edge::Token { id: *id, negated: *negated, to }),
            Expr::Repeat { item, min, max, .. } => self.repeat(item, *min, *max, to),
        }
    }

    fn repeat(
        &mut self,
        item: &Expr,
        min: usize,
        max: Option<usize>,
        to: AutomatonState,
    ) -> Result<AutomatonState, Fault> {
        let mut start = match max {
            None => {
                let again = self.state(Edge::None)?;
                let once = self.build(item, again)?;
                self.free[again as usize].extend([once, to]);
                again
            }
            Some(max) => {
                let mut after = to;
                for _ in min..max {
                    let once = self.build(item, after)?;
                    after = self.state(Edge::None)?;
                    self.free[after as usize].extend([once, to]);
                }
                after
            }
        };
        for _ in 0..min {
            start = self.build(item, start)?;
        }
        Ok(start)
    }

    fn byte_state(&mut self, edges: Vec<(u8, u8, AutomatonState)>) -> Result<AutomatonState, Fault> {
        self.count(edges.len())?;
        let first = self.bytes.len() as u32;
        self.bytes.extend(edges);
        let end = self.bytes.len() as u32;
        self.state(Edge::Bytes(first, end))
    }

    /// Characters as the bytes of their UTF-8. Sequences that end alike share their last states.
    fn class(&mut self, ranges: &[(u32, u32)], to: AutomatonState) -> Result<AutomatonState, Fault> {
        // Also ranges that hold no character, which give no edge below.
        self.count(ranges.len())?;
        let mut first_bytes = Vec::new();
        let mut shared: HashMap<(u8, u8, AutomatonState), AutomatonState> = HashMap::new();
        for (first, last) in ranges {
            for (first, last) in characters(*first, *last) {
                for sequence in Utf8Sequences::new(first, last) {
                    let mut after = to;
                    for range in sequence.as_slice()[1..].iter().rev() {
                        let edge = (range.start, range.end, after);
                        after = match shared.get(&edge) {
                            Some(state) => *state,
                            None => *shared.entry(edge).or_insert(self.byte_state(vec![edge])?),
                        };
                    }
                    let range = sequence.as_slice()[0];
                    first_bytes.push((range.start, range.end, after));
                }
            }
        }
        self.byte_state(first_bytes)
    }
}

/// A range of code points without those that are no characters.
fn characters(first: u32, last: u32) -> impl Iterator<Item = (char, char)> {
    let part = move |low: u32, high: u32| {
        let (low, high) = (first.max(low), last.min(high));
        (low <= high).then(|| char::from_u32(low).zip(char::from_u32(high))).flatten()
    };
    [part(0, 0xD7FF), part(0xE000, char::MAX as u32)].into_iter().flatten()
}
