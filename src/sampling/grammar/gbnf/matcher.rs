//! A text's way through the automaton.
//!
//! A *way* is a state and a *context*: the set of places to return to when its rule ends. Rules that are called at the
//! same place of the text are called once, with all their places to return to in one context, so ways that stand at the
//! same place do not multiply. Contexts and sets of ways are numbered, and the step from a set over a byte is looked up
//! after the first time: inside a string, say, most bytes lead back to the same set.

use std::collections::{BinaryHeap, HashMap, HashSet};
use std::sync::Arc;

use llguidance::toktrie::{Recognizer, SimpleVob};

use super::MAX_WORK;
use super::automaton::{ACCEPT, Automaton, AutomatonState, Edge};
use crate::expert::Token;
use crate::sampling::grammar::vocabulary::GrammarVocabulary;

/// A way to go on: a state, and where to return to after its rule.
type Way = (AutomatonState, Context);
/// A numbered set of ways to return to.
type Context = u32;
/// A numbered set of ways.
type Place = u32;

/// No way leads on.
const DEAD: Place = 0;
/// Not worked out yet.
const UNKNOWN: Place = u32::MAX;
/// Places that are remembered from token to token.
const MAX_PLACES: usize = 4096;
/// Ways that places and contexts may hold together, of 8 bytes each.
const MAX_KNOWN: usize = 4 << 20;
/// The table of a place's steps, in ways.
const TABLE: usize = 128;

/// The token would take more work than is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooMuchWork;

/// What a text has come to in a grammar.
pub struct Matcher {
    automaton: Arc<Automaton>,
    vocabulary: Arc<GrammarVocabulary>,
    known: Known,
    at: Place,
    work: usize,
    /// What `work` may be for one token.
    pub(in crate::sampling::grammar) limit: usize,
    /// Places of the bytes of a token, while the vocabulary is walked.
    stack: Vec<Place>,
    failed: bool,
    scratch: Scratch,
}

/// Contexts and places, each under its number.
#[derive(Default)]
struct Known {
    contexts: Vec<Arc<[Way]>>,
    context_of: HashMap<Arc<[Way]>, Context>,
    places: Vec<Arc<[Way]>>,
    place_of: HashMap<Arc<[Way]>, Place>,
    /// Where the ways lead that a byte leads to: many bytes lead to the same ways.
    closed: HashMap<Box<[Way]>, Place>,
    steps: Vec<Option<Box<[Place; 256]>>>,
    /// Ways in all of these.
    size: usize,
}

/// Buffers of a step.
#[derive(Default)]
struct Scratch {
    todo: Vec<Way>,
    seen: HashSet<Way>,
    found: Vec<Way>,
    callers: HashMap<u32, Vec<Way>>,
    /// Rules to call, the lowest rank first.
    calls: BinaryHeap<std::cmp::Reverse<(usize, u32)>>,
}

impl Matcher {
    pub(super) fn new(automaton: Arc<Automaton>, vocabulary: Arc<GrammarVocabulary>) -> Self {
        let mut matcher = Self {
            automaton,
            vocabulary,
            known: Known::default(),
            at: DEAD,
            work: 0,
            limit: MAX_WORK,
            stack: Vec::new(),
            failed: false,
            scratch: Scratch::default(),
        };
        matcher.reset();
        matcher
    }

    /// Forgets the text.
    pub fn reset(&mut self) {
        self.known = Known::default();
        self.known.place(&[]); // DEAD
        let end = self.known.context(&[(ACCEPT, 0)]);
        self.work = 0;
        let start = self.automaton.starts[self.automaton.root];
        // A grammar whose first step is too much fails at the first question about it.
        let result = self.close(vec![(start, end)]);
        self.failed = result.is_err();
        self.at = result.unwrap_or(DEAD);
    }

    /// Whether the text may end here.
    pub fn accepts(&self) -> bool {
        self.known.places[self.at as usize].iter().any(|(state, _)| *state == ACCEPT)
    }

    /// Begins a question: the work for the last one does not count.
    pub fn ask(&mut self) {
        self.work = 0;
    }

    /// Whether this token may come next; it does not end the text. Its work counts until the next [`ask`](Self::ask).
    pub fn allows(&mut self, token: Token) -> Result<bool, TooMuchWork> {
        Ok(self.over_bytes(token)? != DEAD || !self.over_token(token).is_empty())
    }

    /// Every token that may come next, but for those that end the text.
    pub fn mask(&mut self, mask: &mut SimpleVob) -> Result<(), TooMuchWork> {
        self.check()?;
        self.work = 0;
        self.stack.clear();
        self.stack.push(self.at);
        let vocabulary = Arc::clone(&self.vocabulary);
        vocabulary.trie().add_bias(self, mask, &[]);
        self.check()?;
        for (state, _) in self.known.places[self.at as usize].iter() {
            if let Edge::Token { id, negated, .. } = self.automaton.edge(*state) {
                let all = 0..vocabulary.trie().vocab_size() as Token;
                all.filter(|token| (*token == id) != negated).for_each(|token| mask.allow_token(token as u32));
            }
        }
        Ok(())
    }

    /// Takes a token that is allowed and does not end the text.
    pub fn accept(&mut self, token: Token) -> Result<(), TooMuchWork> {
        self.work = 0;
        if self.known.places.len() > MAX_PLACES || self.known.size > MAX_KNOWN / 2 {
            self.forget();
            // What is left is what the text needs.
            if self.known.size > MAX_KNOWN / 2 {
                return Err(TooMuchWork);
            }
        }
        let by_bytes = self.over_bytes(token)?;
        let by_token = self.over_token(token);
        self.at = if by_token.is_empty() {
            by_bytes
        } else {
            let mut ways = self.known.places[by_bytes as usize].to_vec();
            let place = self.close(by_token)?;
            ways.extend_from_slice(&self.known.places[place as usize]);
            ways.sort_unstable();
            ways.dedup();
            self.known.place(&ways)
        };
        Ok(())
    }

    /// Takes bytes; false where they do not fit.
    pub fn accept_bytes(&mut self, bytes: &[u8]) -> Result<bool, TooMuchWork> {
        self.work = 0;
        self.check()?;
        for byte in bytes {
            self.at = if self.at == DEAD { DEAD } else { self.step(self.at, *byte)? };
        }
        Ok(self.at != DEAD)
    }

    /// Whether nothing can follow, not even the end.
    #[cfg(feature = "server")]
    pub fn is_dead(&self) -> bool {
        self.at == DEAD
    }

    fn check(&self) -> Result<(), TooMuchWork> {
        if self.failed { Err(TooMuchWork) } else { Ok(()) }
    }

    /// Where the bytes of a token lead.
    fn over_bytes(&mut self, token: Token) -> Result<Place, TooMuchWork> {
        self.check()?;
        let vocabulary = Arc::clone(&self.vocabulary);
        let bytes = vocabulary.bytes(token);
        if bytes.is_empty() {
            return Ok(DEAD);
        }
        bytes.iter().try_fold(self.at, |place, byte| if place == DEAD { Ok(DEAD) } else { self.step(place, *byte) })
    }

    /// The ways on over a token that the grammar names.
    fn over_token(&self, token: Token) -> Vec<Way> {
        let ways = self.known.places[self.at as usize].iter();
        let over = |(state, context): &Way| match self.automaton.edge(*state) {
            Edge::Token { id, negated, to } if (id == token) != negated => Some((to, *context)),
            _ => None,
        };
        ways.filter_map(over).collect()
    }

    /// Where a byte leads.
    fn step(&mut self, place: Place, byte: u8) -> Result<Place, TooMuchWork> {
        if let Some(steps) = &self.known.steps[place as usize]
            && steps[byte as usize] != UNKNOWN
        {
            return Ok(steps[byte as usize]);
        }
        let ways = Arc::clone(&self.known.places[place as usize]);
        let (mut next, mut edges_seen) = (Vec::new(), 0);
        for (state, context) in ways.iter() {
            if let Edge::Bytes(first, end) = self.automaton.edge(*state) {
                let edges = self.automaton.bytes(first, end);
                edges_seen += edges.len();
                let to = edges.iter().filter(|(low, high, _)| (*low..=*high).contains(&byte));
                next.extend(to.map(|(_, _, to)| (*to, *context)));
            }
        }
        // To look at an edge takes a small part of what a way takes.
        self.work += 1 + edges_seen / 32;
        let to = if next.is_empty() { DEAD } else { self.close(next)? };
        if self.known.steps[place as usize].is_none() {
            self.known.size += TABLE;
        }
        self.known.steps[place as usize].get_or_insert_with(|| Box::new([UNKNOWN; 256]))[byte as usize] = to;
        Ok(to)
    }

    /// The place of these ways and of all that they lead to without taking anything.
    fn close(&mut self, mut from: Vec<Way>) -> Result<Place, TooMuchWork> {
        let Self { automaton, known, scratch, work, limit, .. } = self;
        from.sort_unstable();
        from.dedup();
        if let Some(place) = known.closed.get(&from[..]) {
            return Ok(*place);
        }
        if known.size > MAX_KNOWN {
            return Err(TooMuchWork);
        }
        let key = from.clone().into_boxed_slice();
        scratch.begin(from);
        // Ways that were there before this step: where their rules end, they return.
        while let Some((state, context)) = scratch.next(work, *limit)? {
            *work += scratch.follow(automaton, known, state, context);
            if automaton.edge(state) == Edge::End {
                let outer = &known.contexts[context as usize];
                if scratch.todo.len() + outer.len() > *limit {
                    return Err(TooMuchWork);
                }
                scratch.todo.extend(outer.iter());
            }
        }
        // Rules that are called in this step. What calls a rule without taking anything is of a lower rank, so all its
        // places to return to are known by now. Where it is empty its callers have gone on already.
        while let Some(std::cmp::Reverse((_, rule))) = scratch.calls.pop() {
            let mut callers = scratch.callers.remove(&rule).unwrap_or_default();
            callers.sort_unstable();
            callers.dedup();
            *work += callers.len();
            let context = known.context(&callers);
            scratch.todo.push((automaton.starts[rule as usize], context));
            while let Some((state, context)) = scratch.next(work, *limit)? {
                *work += scratch.follow(automaton, known, state, context);
            }
        }
        scratch.found.sort_unstable();
        scratch.found.dedup();
        *work += scratch.found.len();
        let place = known.place(&scratch.found);
        known.size += key.len();
        known.closed.insert(key, place);
        Ok(place)
    }

    /// Drops all places and contexts but those that the text is at.
    fn forget(&mut self) {
        let old = std::mem::take(&mut self.known);
        self.known.place(&[]);
        let ways = &old.places[self.at as usize];
        let mut needed = vec![false; old.contexts.len()];
        ways.iter().for_each(|(_, context)| needed[*context as usize] = true);
        // A context names only contexts that were there before it, or itself as the end of all.
        for at in (0..needed.len()).rev().filter(|at| *at > 0) {
            if needed[at] {
                old.contexts[at].iter().for_each(|(_, context)| needed[*context as usize] = true);
            }
        }
        let mut new = vec![0; needed.len()];
        for at in 0..needed.len() {
            if at == 0 || needed[at] {
                let entries: Vec<Way> =
                    old.contexts[at].iter().map(|(state, context)| (*state, new[*context as usize])).collect();
                new[at] = self.known.context(&entries);
            }
        }
        let mut ways: Vec<Way> = ways.iter().map(|(state, context)| (*state, new[*context as usize])).collect();
        ways.sort_unstable();
        self.at = self.known.place(&ways);
    }
}

impl Scratch {
    fn begin(&mut self, from: Vec<Way>) {
        self.todo = from;
        self.seen.clear();
        self.found.clear();
        self.callers.clear();
        self.calls.clear();
    }

    /// A way that was not looked at yet.
    fn next(&mut self, work: &mut usize, limit: usize) -> Result<Option<Way>, TooMuchWork> {
        while let Some(way) = self.todo.pop() {
            *work += 1;
            if *work > limit {
                return Err(TooMuchWork);
            }
            if self.seen.insert(way) {
                return Ok(Some(way));
            }
        }
        Ok(None)
    }

    /// Notes what a way leads to without taking anything, but for the end of its rule. Gives the number of places to
    /// return to that it copied.
    fn follow(&mut self, automaton: &Automaton, known: &Known, state: AutomatonState, context: Context) -> usize {
        let mut copied = 0;
        self.todo.extend(automaton.free(state).iter().map(|state| (*state, context)));
        match automaton.edge(state) {
            Edge::Bytes(..) | Edge::Token { .. } | Edge::Accept => self.found.push((state, context)),
            Edge::None | Edge::End => {}
            Edge::Call { rule, then } => {
                let callers = self.callers.entry(rule).or_default();
                if callers.is_empty() {
                    self.calls.push(std::cmp::Reverse((automaton.ranks[rule as usize], rule)));
                }
                // A call at the end of a rule returns to where that rule returns: a list of any length takes no more
                // room.
                match automaton.edge(then) {
                    Edge::End => {
                        let outer = &known.contexts[context as usize];
                        copied = outer.len();
                        callers.extend(outer.iter());
                    }
                    _ => callers.push((then, context)),
                }
                if automaton.nullable[rule as usize] {
                    self.todo.push((then, context));
                }
            }
        }
        copied
    }
}

impl Known {
    fn context(&mut self, entries: &[Way]) -> Context {
        if let Some(context) = self.context_of.get(entries) {
            return *context;
        }
        let entries: Arc<[Way]> = entries.into();
        let context = self.contexts.len() as Context;
        self.size += entries.len();
        self.contexts.push(Arc::clone(&entries));
        self.context_of.insert(entries, context);
        context
    }

    fn place(&mut self, ways: &[Way]) -> Place {
        if let Some(place) = self.place_of.get(ways) {
            return *place;
        }
        let ways: Arc<[Way]> = ways.into();
        let place = self.places.len() as Place;
        self.size += ways.len();
        self.places.push(Arc::clone(&ways));
        self.place_of.insert(ways, place);
        self.steps.push(None);
        place
    }
}

/// The walk over the vocabulary: bytes that tokens have in common are stepped over once.
impl Recognizer for Matcher {
    fn pop_bytes(&mut self, num: usize) {
        self.stack.truncate(self.stack.len() - num);
    }

    fn collapse(&mut self) {
        self.stack.drain(..self.stack.len() - 1);
    }

    fn trie_finished(&mut self) {
        self.stack.truncate(1);
    }

    fn try_push_byte(&mut self, byte: u8) -> bool {
        let place = *self.stack.last().unwrap_or(&DEAD);
        if place == DEAD || self.failed {
            return false;
        }
        match self.step(place, byte) {
            Ok(DEAD) => false,
            Ok(place) => {
                self.stack.push(place);
                true
            }
            Err(TooMuchWork) => {
                self.failed = true;
                false
            }
        }
    }
}
