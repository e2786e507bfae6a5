//! JSON Schema's patterns are JavaScript's regular expressions; llguidance reads Rust's. What both have is written as
//! Rust writes it, and the rest is refused by name.

/// Bytes of a pattern.
const MAX_BYTES: usize = 2048;

/// A pattern as llguidance reads it.
///
/// # Errors
///
/// What of it cannot be enforced.
pub fn translate(pattern: &str) -> Result<String, String> {
    if pattern.len() > MAX_BYTES {
        return Err(format!("has {} bytes, and may have {MAX_BYTES}", pattern.len()));
    }
    let mut out = String::with_capacity(pattern.len() + 8);
    let mut rest = pattern.chars().peekable();
    let mut in_class = false;
    while let Some(c) = rest.next() {
        match c {
            '\\' => escape(&mut rest, &mut out)?,
            '[' if !in_class => {
                in_class = true;
                out.push('[');
                if rest.next_if_eq(&'^').is_some() {
                    out.push('^');
                }
                if rest.peek() == Some(&']') {
                    return Err("has an empty class, []".into());
                }
            }
            ']' if in_class => {
                in_class = false;
                out.push(']');
            }
            // Rust's classes know nested ones and the operators && -- ~~; JavaScript's do not.
            '[' | '&' | '~' if in_class => out.extend(['\\', c]),
            '-' if in_class && rest.peek() == Some(&'-') => out.push_str("\\-"),
            '(' if !in_class && rest.next_if_eq(&'?').is_some() => group(&mut rest, &mut out)?,
            _ => out.push(c),
        }
    }
    let parsed =
        regex_syntax::ParserBuilder::new().nest_limit(50).build().parse(&llguidance::regex_to_lark(&out, "dw"));
    match parsed {
        Ok(_) => Ok(out),
        Err(regex_syntax::Error::Parse(error)) => Err(format!("cannot be read: {}", error.kind())),
        Err(_) => Err("cannot be read".into()),
    }
}

type Rest<'a> = std::iter::Peekable<std::str::Chars<'a>>;

fn escape(rest: &mut Rest<'_>, out: &mut String) -> Result<(), String> {
    let Some(c) = rest.next() else { return Err("ends in a single \\".into()) };
    match c {
        'b' | 'B' => return Err(format!("has \\{c}, a word boundary")),
        '1'..='9' | 'k' => return Err(format!("has \\{c}, a reference to a group")),
        'A' | 'z' | 'Z' | 'a' | 'Q' | 'E' | 'G' | 'K' | 'R' | 'X' | 'h' | 'H' | 'N' => {
            return Err(format!("has \\{c}, which JavaScript does not know"));
        }
        'c' => return Err("has \\c, a control character".into()),
        '0' => out.push_str("\\x00"),
        // Not letters of Rust's escapes; JavaScript takes them for themselves.
        '"' | '\'' | '`' | ',' | ';' | ':' | '=' | '<' | '>' | '!' | '@' | '%' | '_' => out.push(c),
        _ => out.extend(['\\', c]),
    }
    Ok(())
}

/// What follows `(?`.
fn group(rest: &mut Rest<'_>, out: &mut String) -> Result<(), String> {
    match rest.next() {
        Some(':') => out.push_str("(?:"),
        Some('=') => return Err("has (?=, a look-ahead".into()),
        Some('!') => return Err("has (?!, a negative look-ahead".into()),
        Some('<') => match rest.peek() {
            Some('=' | '!') => return Err("has (?<= or (?<!, a look-behind".into()),
            // Names change nothing, and some mean something to llguidance.
            _ => {
                if !rest.by_ref().any(|c| c == '>') {
                    return Err("has a group without an end of its name".into());
                }
                out.push_str("(?:");
            }
        },
        _ => return Err("has a group of a kind that JavaScript does not know".into()),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::translate;

    #[test]
    fn what_javascript_and_rust_write_alike_stays_as_it_is() {
        for pattern in [r"^\d{4}-\d{2}$", "[0-9]+", "^(a+)+$", r"^\w+@\w+\.com$", "a|b", r"\/x", "[^a-z]"] {
            assert_eq!(translate(pattern).as_deref(), Ok(pattern));
        }
    }

    #[test]
    fn classes_mean_what_they_mean_in_javascript() {
        assert_eq!(translate("[a[b]c]").as_deref(), Ok(r"[a\[b]c]"));
        assert_eq!(translate("[a&&b~~c]").as_deref(), Ok(r"[a\&\&b\~\~c]"));
        assert_eq!(translate(r"(?<stop>a)").as_deref(), Ok("(?:a)"));
    }

    #[test]
    fn what_cannot_be_enforced_is_named() {
        for (pattern, word) in [
            ("(?=a)b", "look-ahead"),
            ("(?!a)b", "look-ahead"),
            ("(?<=a)b", "look-behind"),
            (r"(a)\1", "reference"),
            (r"\bword\b", "boundary"),
            ("(?i)a", "kind"),
            ("[]", "empty class"),
            ("(", "cannot be read"),
            ("a{2,1}", "cannot be read"),
            (r"\Aa", "JavaScript"),
        ] {
            let error = translate(pattern).expect_err(pattern);
            assert!(error.contains(word), "{pattern}: {error}");
        }
        assert!(translate(&"a".repeat(3000)).is_err());
    }
}
