//! The ARM's readings of a text as a tree of tokens.

use crate::expert::Token;

/// A reading: a place in [`Paths`].
pub(super) type Path = u32;

/// The reading of nothing: the ARM's prompt alone.
pub(super) const ROOT: Path = 0;

/// A tree of ARM tokens after the prompt. A new token comes after those that are there, so a text is taken back by
/// cutting the end off.
pub(super) struct Paths(Vec<Step>);

#[derive(Debug, Clone, Copy)]
struct Step {
    parent: Path,
    token: Token,
    depth: u32,
}

impl Paths {
    pub fn new() -> Self {
        Self(vec![Step { parent: ROOT, token: -1, depth: 0 }])
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn truncate(&mut self, len: usize) {
        self.0.truncate(len);
    }

    /// The reading that goes on with `token`.
    pub fn child(&mut self, parent: Path, token: Token) -> Path {
        let from = parent as usize + 1;
        let known = self.0[from..].iter().position(|step| step.parent == parent && step.token == token);
        (from
            + known.unwrap_or_else(|| {
                let depth = self.0[parent as usize].depth + 1;
                self.0.push(Step { parent, token, depth });
                self.0.len() - 1 - from
            })) as Path
    }

    /// The last token; `None` after the prompt.
    pub fn last(&self, path: Path) -> Option<Token> {
        (path != ROOT).then(|| self.0[path as usize].token)
    }

    /// Whether the last `n` tokens of two readings are the same.
    pub fn end_alike(&self, mut a: Path, mut b: Path, n: usize) -> bool {
        for _ in 0..n {
            if a == ROOT || b == ROOT || self.last(a) != self.last(b) {
                return false;
            }
            (a, b) = (self.parent(a), self.parent(b));
        }
        true
    }

    /// Tokens of a reading.
    pub fn depth(&self, path: Path) -> usize {
        self.0[path as usize].depth as usize
    }

    pub fn parent(&self, path: Path) -> Path {
        self.0[path as usize].parent
    }

    /// Appends the tokens of a reading to `out`.
    pub fn tokens(&self, path: Path, out: &mut Vec<Token>) {
        let (from, mut at) = (out.len(), path);
        while let Some(token) = self.last(at) {
            out.push(token);
            at = self.parent(at);
        }
        out[from..].reverse();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reading_is_the_tokens_from_the_root() {
        let mut paths = Paths::new();
        let a = paths.child(ROOT, 7);
        let (b, c) = (paths.child(a, 8), paths.child(a, 9));
        let tokens = |path| {
            let mut out = vec![1];
            paths.tokens(path, &mut out);
            out
        };
        assert_eq!((tokens(ROOT), tokens(b), tokens(c)), (vec![1], vec![1, 7, 8], vec![1, 7, 9]));
        assert_eq!((paths.depth(ROOT), paths.depth(b)), (0, 2));
    }

    #[test]
    fn a_reading_is_there_once() {
        let mut paths = Paths::new();
        let (a, b) = (paths.child(ROOT, 7), paths.child(ROOT, 8));
        assert_ne!(a, b);
        assert_eq!((paths.child(ROOT, 7), paths.child(ROOT, 8), paths.len()), (a, b, 3));
    }
}
