//! A grammar as it was written, and what can be said of it before it is used.

use super::Fault;
use crate::expert::Token;

/// The rules of a grammar.
pub struct Tree {
    /// In no particular order; [`Expr::Rule`] is a place in it.
    pub rules: Vec<Rule>,
    /// Where a text begins.
    pub root: usize,
}

/// A rule.
pub struct Rule {
    /// Its name.
    pub name: String,
    /// What it matches.
    pub body: Expr,
}

/// A part of a rule.
pub enum Expr {
    /// One after the other.
    All(Vec<Expr>),
    /// One of them.
    Any(Vec<Expr>),
    /// This text.
    Bytes(Vec<u8>),
    /// A character of these ranges, both ends included.
    Class(Vec<(u32, u32)>),
    /// What the rule at this place matches.
    Rule(usize),
    /// This token, or any but it.
    Token {
        /// Its id.
        id: Token,
        /// Whether it is the one that does not match.
        negated: bool,
    },
    /// Again and again.
    Repeat {
        /// What.
        item: Box<Expr>,
        /// How often at least.
        min: usize,
        /// How often at most.
        max: Option<usize>,
        /// How many repetitions stand in each other without a group between them.
        depth: usize,
    },
}

/// The beginning of a name: enough to find it.
pub fn short(name: &str) -> String {
    if name.len() > 40 { format!("{}…", &name[..40]) } else { name.to_owned() }
}

/// All characters but those of `ranges`. U+0000 matches nothing, as in llama.cpp.
pub fn negate(ranges: &[(u32, u32)]) -> Vec<(u32, u32)> {
    let mut sorted: Vec<_> = ranges.iter().copied().filter(|(first, last)| first <= last).collect();
    sorted.sort_unstable();
    let (mut left, mut from) = (Vec::new(), 1);
    for (first, last) in sorted {
        if first > from {
            left.push((from, first - 1));
        }
        from = from.max(last.saturating_add(1));
    }
    let end = char::MAX as u32;
    if from <= end {
        left.push((from, end));
    }
    left
}

impl Tree {
    /// For each rule whether it matches the empty text: the least fixed point.
    pub fn nullable(&self) -> Vec<bool> {
        let mut nullable = vec![false; self.rules.len()];
        loop {
            let mut changed = false;
            for (at, rule) in self.rules.iter().enumerate() {
                if !nullable[at] && is_nullable(&rule.body, &nullable) {
                    nullable[at] = true;
                    changed = true;
                }
            }
            if !changed {
                return nullable;
            }
        }
    }

    /// The place of each rule in an order in which every rule comes before those that can begin where it begins.
    ///
    /// # Errors
    ///
    /// Where there is none: a rule that can begin with itself never gets anywhere.
    pub fn ranks(&self, nullable: &[bool]) -> Result<Vec<usize>, Fault> {
        let firsts: Vec<Vec<usize>> = self
            .rules
            .iter()
            .map(|rule| {
                let mut firsts = Vec::new();
                first_rules(&rule.body, nullable, &mut firsts);
                firsts.sort_unstable();
                firsts.dedup();
                firsts
            })
            .collect();
        let mut begun = vec![false; self.rules.len()];
        let mut rank = vec![usize::MAX; self.rules.len()];
        let mut next = self.rules.len();
        for start in 0..self.rules.len() {
            if begun[start] {
                continue;
            }
            begun[start] = true;
            let mut path = vec![(start, 0)];
            while let Some((rule, at)) = path.last_mut() {
                let Some(&other) = firsts[*rule].get(*at) else {
                    next -= 1;
                    rank[*rule] = next;
                    path.pop();
                    continue;
                };
                *at += 1;
                if !begun[other] {
                    begun[other] = true;
                    path.push((other, 0));
                } else if rank[other] == usize::MAX {
                    let name = short(&self.rules[other].name);
                    return Err(Fault::new(format!(
                        "has left recursion: the rule \"{name}\" can begin with itself; put something before it"
                    )));
                }
            }
        }
        Ok(rank)
    }
}

fn is_nullable(expr: &Expr, rules: &[bool]) -> bool {
    match expr {
        Expr::All(items) => items.iter().all(|item| is_nullable(item, rules)),
        Expr::Any(items) => items.iter().any(|item| is_nullable(item, rules)),
        Expr::Bytes(bytes) => bytes.is_empty(),
        Expr::Class(_) | Expr::Token { .. } => false,
        Expr::Rule(rule) => rules[*rule],
        Expr::Repeat { item, min, .. } => *min == 0 || is_nullable(item, rules),
    }
}

/// The rules that a text of `expr` can begin in. True where `expr` can be empty, so that what follows it can begin
/// there too.
fn first_rules(expr: &Expr, nullable: &[bool], firsts: &mut Vec<usize>) -> bool {
    match expr {
        Expr::All(items) => items.iter().all(|item| first_rules(item, nullable, firsts)),
        Expr::Any(items) => items.iter().fold(false, |any, item| first_rules(item, nullable, firsts) | any),
        Expr::Bytes(bytes) => bytes.is_empty(),
        Expr::Class(_) | Expr::Token { .. } => false,
        Expr::Rule(rule) => {
            firsts.push(*rule);
            nullable[*rule]
        }
        Expr::Repeat { max: Some(0), .. } => true,
        Expr::Repeat { item, min, .. } => first_rules(item, nullable, firsts) || *min == 0,
    }
}
