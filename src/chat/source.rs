//! Template source as it comes out of files, made fit for minijinja.

use std::borrow::Cow;

/// The text of a file without what editors and systems add: no byte-order mark, and `\n` for the line end `\r\n`.
pub fn plain(text: &str) -> Cow<'_, str> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.contains("\r\n") { text.replace("\r\n", "\n").into() } else { text.into() }
}

/// Jinja as minijinja parses it: line ends as Jinja reads them, and `{% generation %}`, with which Hugging Face's
/// tokenizers mark the assistant's words, as a block that does nothing. No line is added or taken, so that errors name
/// the right one.
pub fn prepare(source: &str) -> String {
    without_generation(&plain(source).replace('\r', "\n"))
}

/// `{% with %}` is the block that renders its body in a scope of its own, as Hugging Face's `generation` does.
fn without_generation(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find('{') {
        let (text, tag) = rest.split_at(start);
        out.push_str(text);
        let end = match tag.get(..2) {
            Some("{#") => tag.find("#}").map(|at| at + 2),
            Some("{{") => end_of_tag(tag, "}}"),
            Some("{%") => end_of_tag(tag, "%}"),
            _ => Some(1),
        };
        let (tag, mut after) = tag.split_at(end.unwrap_or(tag.len()));
        match tag_name(tag) {
            Some(("generation", at)) => out.push_str(&replaced(tag, at, "generation", "with")),
            Some(("endgeneration", at)) => out.push_str(&replaced(tag, at, "endgeneration", "endwith")),
            Some(("raw", _)) => {
                let end = end_of_raw(after);
                out.push_str(tag);
                out.push_str(&after[..end]);
                after = &after[end..];
            }
            _ => out.push_str(tag),
        }
        rest = after;
    }
    out + rest
}

/// The name of a block tag that holds nothing else, and where it is.
fn tag_name(tag: &str) -> Option<(&str, usize)> {
    let inner = tag.strip_prefix("{%")?.strip_suffix("%}")?;
    let inner = inner.strip_suffix(['-', '+']).unwrap_or(inner);
    let start = inner.strip_prefix(['-', '+']).unwrap_or(inner);
    Some((start.trim(), tag.len() - tag[2..].trim_start_matches(['-', '+']).trim_start().len()))
}

fn replaced(tag: &str, at: usize, old: &str, new: &str) -> String {
    format!("{}{new}{}", &tag[..at], &tag[at + old.len()..])
}

/// Where the tag at the beginning of a text ends: at `close`, outside strings and brackets.
fn end_of_tag(text: &str, close: &str) -> Option<usize> {
    let (mut depth, mut quote, mut escaped) = (0usize, None, false);
    for (i, c) in text.char_indices().skip(2) {
        match (quote, c) {
            (Some(_), _) if escaped => escaped = false,
            (Some(_), '\\') => escaped = true,
            (Some(q), _) if q == c => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(c),
            _ if depth == 0 && text[i..].starts_with(close) => return Some(i + close.len()),
            (None, '(' | '[' | '{') => depth += 1,
            (None, ')' | ']' | '}') => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    None
}

/// Where the text of a `{% raw %}` block ends.
fn end_of_raw(text: &str) -> usize {
    let mut from = 0;
    while let Some(at) = text[from..].find("{%") {
        let start = from + at;
        let Some(end) = text[start..].find("%}").map(|n| start + n + 2) else { break };
        if tag_name(&text[start..end]).is_some_and(|(name, _)| name == "endraw") {
            return end;
        }
        from = start + 2;
    }
    text.len()
}

#[cfg(test)]
#[path = "source_tests.rs"]
mod tests;
