//! The base's prompt, as an ARM without a rendering of its own reads it.

use super::lexicon::Translation;
use super::words::WordKind;
use crate::expert::{ExpertError, Token};

/// Tokens at the end of a prompt that are read as a part of the text: what follows may change how the ARM spells them.
const LEAD: usize = 4;
/// The same, where no word begins there.
const MAX_LEAD: usize = 32;

/// Where the text begins that is read token by token: at a word some tokens before the end of the prompt, after its last
/// control token. `prefix` is what the ARM reads before the prompt.
pub(super) fn text_start(with: &Translation, prefix: &[Token], prompt: &[Token]) -> usize {
    let base = &with.lexicon.base;
    let n_plain = prompt.iter().rev().take_while(|token| base.adds_text(**token)).count();
    let first = prompt.len() - n_plain;
    let space = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_whitespace);
    let begins_word =
        |at: &usize| *at == first || space(base.get(prompt[*at]).first()) && !space(base.get(prompt[*at - 1]).last());
    let last = prompt.len().saturating_sub(LEAD).max(first);
    let start = (first..=last).rev().take(MAX_LEAD).find(begins_word).unwrap_or(last);
    // The ARM must have something to read before the text.
    let reads = |token: &Token| base.adds_text(*token) || with.lexicon.twin(*token).is_some();
    let reads = with.arm.bos().is_some() || !prefix.is_empty() || prompt[..start].iter().any(reads);
    if reads { start } else { (start + 1).min(prompt.len()) }
}

/// The base's tokens, all of its vocabulary, as the ARM's.
///
/// # Errors
///
/// [`ExpertError::Untranslatable`], naming a control token that the ARM does not have.
pub(super) fn render(with: &Translation, prefix: &[Token], tokens: &[Token]) -> Result<Vec<Token>, ExpertError> {
    let Translation { base, arm, lexicon } = with;
    let mut out: Vec<_> = arm.bos().into_iter().collect();
    out.extend_from_slice(prefix);
    let flush = |bytes: &mut Vec<u8>, out: &mut Vec<Token>| {
        let begins = out.last().is_none_or(|last| !lexicon.arm.adds_text(*last));
        let text = std::str::from_utf8(bytes).ok().filter(|_| begins);
        if !text.is_some_and(|text| arm.spell_first(text, out)) {
            lexicon.arm.spell(&**arm, bytes, out);
        }
        bytes.clear();
    };
    let mut bytes = Vec::new();
    for (i, token) in tokens.iter().enumerate() {
        match lexicon.base.kind(*token) {
            WordKind::Text | WordKind::Byte => bytes.extend_from_slice(lexicon.base.get(*token)),
            WordKind::Control if i == 0 && base.bos() == Some(*token) => {}
            WordKind::Control => {
                flush(&mut bytes, &mut out);
                let name = || String::from_utf8_lossy(lexicon.base.get(*token)).into_owned();
                out.push(lexicon.twin(*token).ok_or_else(|| ExpertError::Untranslatable { token: name() })?);
            }
            WordKind::Unused => {}
        }
    }
    flush(&mut bytes, &mut out);
    if out.is_empty() {
        // Models whose texts begin with nothing see an end before each.
        out.extend(lexicon.arm_ends().first());
    }
    Ok(out)
}
