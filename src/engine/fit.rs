//! What the vocabularies of a base's and an ARM's file are to each other, by their headers.

use super::gguf::GgufFile;
use crate::guidance::translate::Hopeless;
use crate::guidance::{Contract, Mismatch, check_vocabulary};

/// How an ARM can guide a base.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fit {
    /// As it is: the vocabularies are identical, or one of them is padded.
    Same(Contract),
    /// Across vocabularies, where that is asked for.
    Translatable(Mismatch),
    /// Not at all.
    Hopeless(Mismatch, Untranslatable),
}

/// Why an ARM cannot guide a base of another vocabulary.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Untranslatable {
    /// It cannot follow several readings of a text.
    #[error("it is a recurrent model, which cannot go back to read a text otherwise")]
    Recurrent,
    /// Its tokens do not have the bytes of the text that they were made from.
    #[error("{} ({kind}) changes the texts that it reads", if *of_base { "the base's tokenizer" } else { "its tokenizer" })]
    Tokenizer {
        /// `tokenizer.ggml.model`.
        kind: String,
        /// Whether it is the base's.
        of_base: bool,
    },
    /// By its tokens.
    #[error(transparent)]
    Words(#[from] Hopeless),
}

/// Compares the vocabularies of two files; `None` where one of them has none. Whether an ARM can really be translated
/// shows when the tokenizers have read some texts: this finds what headers show.
///
/// # Cost
///
/// As [`check_vocabulary`].
pub fn fit(base: &GgufFile, arm: &GgufFile) -> Option<Fit> {
    let contract = check_vocabulary(&base.vocabulary()?, &arm.vocabulary()?);
    Some(match contract {
        Ok(contract) => Fit::Same(contract),
        Err(mismatch) => match translatable(base, arm) {
            Ok(()) => Fit::Translatable(mismatch),
            Err(why) => Fit::Hopeless(mismatch, why),
        },
    })
}

/// Whether an ARM can be translated, as far as headers show.
///
/// # Errors
///
/// [`Untranslatable`].
pub fn translatable(base: &GgufFile, arm: &GgufFile) -> Result<(), Untranslatable> {
    if arm.is_recurrent() {
        return Err(Untranslatable::Recurrent);
    }
    for (file, of_base) in [(base, true), (arm, false)] {
        let kind = file.vocabulary().map_or("", |vocabulary| vocabulary.tokenizer_model());
        // WordPiece drops capitals and spaces, and T5's joins spaces.
        if matches!(kind, "bert" | "t5") {
            return Err(Untranslatable::Tokenizer { kind: kind.to_owned(), of_base });
        }
    }
    match arm.vocabulary().and_then(|vocabulary| vocabulary.lacks_ascii()) {
        Some(character) => Err(Hopeless::Ascii(character).into()),
        None => Ok(()),
    }
}
