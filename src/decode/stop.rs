//! Stop strings, in a text that comes in pieces.

/// Holds back the end of a text while it may still become a stop string.
///
/// It works on bytes, so a piece may end inside a character. A piece that is not shown, such as a control token, counts
/// as one sign: a stop string matches it by its whole name or not at all.
///
/// ```
/// use genarm::decode::{Settled, StopStrings};
/// let mut stop = StopStrings::new(vec!["\nUser:".into()]);
/// assert_eq!(stop.push(b"Hello\nUs", true), Settled { n: 5, stopped: false });
/// assert_eq!(stop.push(b"ually", true), Settled { n: 8, stopped: false });
/// assert_eq!(stop.push(b" yes\nUser: no", true), Settled { n: 4, stopped: true });
/// ```
#[derive(Debug, Clone, Default)]
pub struct StopStrings {
    strings: Vec<Vec<u8>>,
    held: Vec<u8>,
    /// What each held byte belongs to.
    kinds: Vec<Kind>,
    /// The string that was found.
    found: Option<usize>,
}

/// What became of the bytes that were not decided yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settled {
    /// How many of them, from the first one on, belong to the text.
    pub n: usize,
    /// Whether a stop string follows them. It is dropped, and so is everything after it.
    pub stopped: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A part of the text.
    Shown,
    /// The first byte of a name that is not shown.
    Name,
    /// Another byte of such a name.
    InName,
}

impl StopStrings {
    /// Looks for any of `strings`; empty ones are ignored.
    pub fn new(strings: Vec<String>) -> Self {
        let strings = strings.into_iter().map(String::into_bytes).filter(|s| !s.is_empty()).collect();
        Self { strings, ..Self::default() }
    }

    /// Takes the next piece of the text. Where it is not `shown`, `bytes` are its name.
    pub fn push(&mut self, bytes: &[u8], shown: bool) -> Settled {
        self.held.extend_from_slice(bytes);
        let (first, rest) = if shown { (Kind::Shown, Kind::Shown) } else { (Kind::Name, Kind::InName) };
        self.kinds.extend(bytes.iter().enumerate().map(|(i, _)| if i == 0 { first } else { rest }));
        let (found, held) = self.scan();
        let n = found.map_or(held, |(at, _)| at);
        self.held.drain(..n);
        self.kinds.drain(..n);
        if let Some((_, string)) = found {
            self.found = Some(string);
            self.held.clear();
            self.kinds.clear();
        }
        Settled { n, stopped: found.is_some() }
    }

    /// The text ended otherwise: how many bytes were held back, all of which belong to it.
    pub fn finish(&mut self) -> usize {
        self.kinds.clear();
        std::mem::take(&mut self.held).len()
    }

    /// The string that stopped the text.
    pub fn found(&self) -> Option<&[u8]> {
        self.found.map(|at| self.strings[at].as_slice())
    }

    /// Where the first stop string begins and which one it is, and from where on bytes are held because one may begin
    /// there.
    fn scan(&self) -> (Option<(usize, usize)>, usize) {
        let (found, held) = scan(&self.strings, &self.held, &self.kinds);
        if !self.kinds.contains(&Kind::Name) {
            return (found, held);
        }
        // What is shown must not hold a stop string either, whatever stands unseen between its parts.
        let at: Vec<usize> = (0..self.held.len()).filter(|i| self.kinds[*i] == Kind::Shown).collect();
        let shown: Vec<u8> = at.iter().map(|i| self.held[*i]).collect();
        let (among, from) = scan(&self.strings, &shown, &vec![Kind::Shown; shown.len()]);
        let found = [found, among.map(|(i, string)| (at[i], string))].into_iter().flatten().min();
        (found, held.min(at.get(from).copied().unwrap_or(self.held.len())))
    }
}

fn scan(strings: &[Vec<u8>], held: &[u8], kinds: &[Kind]) -> (Option<(usize, usize)>, usize) {
    // A name is matched as a whole: neither end of a match lies inside one.
    let is_edge = |at: usize| kinds.get(at) != Some(&Kind::InName);
    let starts = || (0..held.len()).filter(|at| is_edge(*at));
    let matches = |at: usize, s: &[u8]| held[at..].starts_with(s) && is_edge(at + s.len());
    let found = starts().find_map(|at| Some((at, strings.iter().position(|s| matches(at, s))?)));
    let begins = |at: usize| strings.iter().any(|s| s.starts_with(&held[at..]));
    (found, starts().find(|at| begins(*at)).unwrap_or(held.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The shown text of some pieces, and whether it was stopped.
    fn shown(strings: &[&str], pieces: &[(&str, bool)]) -> (String, bool) {
        let mut stop = StopStrings::new(strings.iter().map(|s| (*s).to_owned()).collect());
        let (mut all, mut n, mut stopped) = (Vec::new(), 0, false);
        for (bytes, is_shown) in pieces {
            all.extend(bytes.bytes().map(|b| (b, *is_shown)));
            let settled = stop.push(bytes.as_bytes(), *is_shown);
            n += settled.n;
            stopped = settled.stopped;
            if stopped {
                break;
            }
        }
        n += stop.finish();
        let text = all[..n].iter().filter(|(_, shown)| *shown).map(|(byte, _)| *byte).collect();
        (String::from_utf8(text).unwrap(), stopped)
    }

    #[test]
    fn a_name_that_is_not_shown_stops_the_text_alone_or_with_its_neighbours() {
        for stop in ["<|end|>", "a<|end|>", "<|end|>b", "ba<|end|>b"] {
            let (text, stopped) = shown(&[stop], &[("ba", true), ("<|end|>", false), ("b", true)]);
            assert_eq!((text.as_str(), stopped), ("ba".strip_suffix(stop.split('<').next().unwrap()).unwrap(), true));
        }
    }

    #[test]
    fn a_part_of_a_name_that_is_not_shown_does_not_stop_the_text() {
        for stop in ["<", "end", "|>", "a<", ">b"] {
            let pieces = [("a", true), ("<|end|>", false), ("b", true)];
            assert_eq!(shown(&[stop], &pieces), ("ab".to_owned(), false), "{stop}");
        }
    }

    #[test]
    fn a_stop_string_is_seen_across_a_name_that_is_not_shown() {
        assert_eq!(shown(&["ab"], &[("xa", true), ("<|end|>", false), ("by", true)]), ("x".to_owned(), true));
    }

    #[test]
    fn the_same_name_as_plain_text_stops_too() {
        assert_eq!(shown(&["<|end|>"], &[("a<|e", true), ("nd|>", true)]), ("a".to_owned(), true));
    }

    #[test]
    fn an_empty_string_stops_nothing() {
        assert_eq!(shown(&["", "x"], &[("ab", true)]), ("ab".to_owned(), false));
    }

    #[test]
    fn of_two_stop_strings_the_first_in_the_text_counts() {
        let pieces = [("a", true), ("<|end|>", false), ("b", true)];
        assert_eq!(shown(&["ab", "<|end|>b"], &pieces), (String::new(), true));
        assert_eq!(shown(&["b", "a<|end|>b"], &pieces), (String::new(), true));
    }

    #[test]
    fn after_its_end_another_text_can_begin() {
        let mut stop = StopStrings::new(vec!["<|end|>!".into(), "b".into()]);
        assert_eq!((stop.push(b"<|end|>", false), stop.finish()), (Settled { n: 0, stopped: false }, 7));
        assert_eq!(stop.push(b"ab", true), Settled { n: 1, stopped: true });
    }

    proptest! {
        #[test]
        fn pieces_give_what_the_whole_text_gives(text in "[abé|]{0,20}", cuts in prop::collection::vec(0usize..30, 0..5)) {
            let strings = ["ab|", "||", "é|"];
            let end = strings.iter().filter_map(|s| text.find(s)).min();
            let mut cuts: Vec<_> = cuts.into_iter().map(|c| c.min(text.len())).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let mut stop = StopStrings::new(strings.map(String::from).to_vec());
            let (mut n, mut stopped) = (0, false);
            for pair in cuts.windows(2) {
                if !stopped {
                    let settled = stop.push(&text.as_bytes()[pair[0]..pair[1]], true);
                    n += settled.n;
                    stopped = settled.stopped;
                }
            }
            n += stop.finish();
            prop_assert_eq!(stopped, end.is_some());
            // With pieces the string that is complete first wins; it is never shown.
            let shown = text.get(..n);
            prop_assert!(shown.is_some(), "a text is cut between characters");
            let shown = shown.unwrap();
            if end.is_none() { prop_assert_eq!(shown, &*text); } else { prop_assert!(strings.iter().all(|s| !shown.contains(s))); }
        }
    }
}
