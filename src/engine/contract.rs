//! A GGUF's vocabulary, as the contract of guidance sees it.

use super::gguf::Vocabulary;
use crate::guidance::{TokenKind, TokenTable};

impl TokenTable for Vocabulary<'_> {
    fn n_tokens(&self) -> usize {
        Vocabulary::n_tokens(self)
    }

    fn text(&self, index: usize) -> &[u8] {
        Vocabulary::text(self, index).unwrap_or_default()
    }

    fn kind(&self, index: usize) -> TokenKind {
        self.token_type(index)
    }

    fn special(&self) -> [(&'static str, Option<u32>); 3] {
        let ids = self.special_ids();
        [("bos", ids.bos), ("eos", ids.eos), ("eot", ids.eot)]
    }
}
