//! Stop strings, in a text that comes in pieces.

/// Holds back the end of a text while it may still become a stop string.
///
/// ```
/// let mut stop = genarm::decode::StopStrings::new(vec!["\nUser:".into()]);
/// assert_eq!(stop.push("Hello\nUs"), ("Hello".into(), false));
/// assert_eq!(stop.push("ually"), ("\nUsually".into(), false));
/// assert_eq!(stop.push(" yes\nUser: no"), (" yes".into(), true));
/// ```
#[derive(Debug, Clone, Default)]
pub struct StopStrings {
    strings: Vec<String>,
    held: String,
}

impl StopStrings {
    /// Looks for any of `strings`; empty ones are ignored.
    pub fn new(strings: Vec<String>) -> Self {
        Self { strings: strings.into_iter().filter(|s| !s.is_empty()).collect(), held: String::new() }
    }

    /// Takes the next piece of the text. Returns what can be shown, and whether a stop string was found: what follows
    /// it, and the string itself, are dropped.
    pub fn push(&mut self, piece: &str) -> (String, bool) {
        self.held.push_str(piece);
        let found = self.strings.iter().filter_map(|s| self.held.find(s.as_str())).min();
        if let Some(at) = found {
            let shown = self.held[..at].to_owned();
            self.held.clear();
            return (shown, true);
        }
        // The longest end of the text that begins some stop string.
        let begins = |at: usize| self.strings.iter().any(|s| s.starts_with(&self.held[at..]));
        let at = self.held.char_indices().map(|(at, _)| at).find(|at| begins(*at)).unwrap_or(self.held.len());
        let held = self.held.split_off(at);
        (std::mem::replace(&mut self.held, held), false)
    }

    /// What is still held back: the text ended otherwise.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn pieces_give_what_the_whole_text_gives(text in "[ab|]{0,20}", cuts in prop::collection::vec(0usize..20, 0..5)) {
            let strings = vec!["ab|".to_owned(), "||".to_owned()];
            let end = strings.iter().filter_map(|s| text.find(s.as_str())).min();
            let mut cuts: Vec<_> = cuts.into_iter().map(|c| c.min(text.len())).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let (mut stop, mut shown, mut stopped) = (StopStrings::new(strings), String::new(), false);
            for pair in cuts.windows(2) {
                if !stopped {
                    let (more, found) = stop.push(&text[pair[0]..pair[1]]);
                    shown += &more;
                    stopped = found;
                }
            }
            shown += &stop.finish();
            prop_assert_eq!(stopped, end.is_some());
            // With pieces the string that is complete first wins; it is never shown.
            prop_assert!(text.starts_with(&shown));
            if end.is_none() { prop_assert_eq!(shown, text); } else { prop_assert!(!shown.contains("ab|") && !shown.contains("||")); }
        }
    }
}
