//! Texts from outside in messages: short, and on one line.

use std::borrow::Cow;
use std::fmt::{self, Write};

/// Characters of one text from outside that a message repeats.
pub(crate) const MAX_CHARS: usize = 64;

/// Writes the beginning of a text: [`MAX_CHARS`] characters, with control characters escaped, so that a text cannot
/// fill a log or forge a line of it.
pub(crate) struct Short<'a>(pub &'a str);

impl fmt::Display for Short<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.chars();
        rest.by_ref().take(MAX_CHARS).try_for_each(|c| write_plain(f, c))?;
        if rest.next().is_some() { f.write_char('…') } else { Ok(()) }
    }
}

fn write_plain(out: &mut impl Write, c: char) -> fmt::Result {
    if c.is_control() { write!(out, "{}", c.escape_default()) } else { out.write_char(c) }
}

/// A message that others wrote, which may repeat a text from outside: quoted parts are cut to [`MAX_CHARS`] characters,
/// the whole to `max`, and control characters are escaped. A message that is short already is not copied.
pub(crate) fn message(text: &str, max: usize) -> Cow<'_, str> {
    if text.len() <= MAX_CHARS && !text.chars().any(char::is_control) {
        return text.into();
    }
    let (mut out, mut n) = (String::new(), 0);
    let mut quoted: Option<(char, usize)> = None;
    let (mut before, mut escaped) = (' ', false);
    for c in text.chars() {
        let literal = escaped;
        escaped = c == '\\' && !literal;
        match &mut quoted {
            Some((quote, _)) if *quote == c && !literal => quoted = None,
            Some((_, n_inside)) => {
                *n_inside += 1;
                if *n_inside == MAX_CHARS + 1 {
                    out.push('…');
                }
                if *n_inside > MAX_CHARS {
                    continue;
                }
            }
            // An apostrophe inside a word opens nothing.
            None if matches!(c, '"' | '`') || (c == '\'' && !before.is_alphanumeric()) => quoted = Some((c, 0)),
            None => {}
        }
        before = c;
        n += 1;
        if n > max {
            out.push('…');
            break;
        }
        let _ = write_plain(&mut out, c);
    }
    out.into()
}

/// A number of bytes in words, such as "1.50 GiB".
pub(crate) fn bytes(n: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    match n.checked_ilog2().unwrap_or(0) as usize / 10 {
        0 => format!("{n} B"),
        at => format!("{:.2} {}", n as f64 / 1024_f64.powi(at as i32), UNITS[at - 1]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_the_largest_unit_that_fits() {
        let words = [0, 1023, 1024, 1536 << 10, 7 << 30, u64::MAX].map(bytes);
        assert_eq!(words, ["0 B", "1023 B", "1.00 KiB", "1.50 MiB", "7.00 GiB", "16.00 EiB"]);
    }

    #[test]
    fn a_long_text_is_cut_and_control_characters_are_escaped() {
        assert_eq!(Short("wieght").to_string(), "wieght");
        assert_eq!(Short(&"é".repeat(64)).to_string(), "é".repeat(64));
        assert_eq!(Short(&"é".repeat(65)).to_string(), "é".repeat(64) + "…");
        assert_eq!(Short("a\n2026 ERROR \u{1b}[31m").to_string(), "a\\n2026 ERROR \\u{1b}[31m");
    }

    #[test]
    fn the_quoted_parts_of_a_message_are_cut_and_the_rest_stays() {
        let long = "x".repeat(1000);
        for quote in ['"', '`', '\''] {
            let text = format!("invalid type: string {quote}{long}{quote}, expected the model's weight");
            let expected =
                format!("invalid type: string {quote}{}…{quote}, expected the model's weight", "x".repeat(64));
            assert_eq!(message(&text, 500), expected);
        }
        let escaped = format!("token 2 is \"\\\"\" in the base and \"</s>\" in the ARM; {}", "and more; ".repeat(20));
        assert_eq!(message(&escaped, 500), escaped);
        let plain = "top_p must be above 0 and at most 1, got 2; see the documentation of the sampling parameters";
        assert_eq!(message(plain, 500), plain);
        assert_eq!(message(&long, 500), "x".repeat(500) + "…");
        assert_eq!(message("a\tb\nc", 500), "a\\tb\\nc");
    }
}
