//! A GGUF's vocabulary, as the contract of guidance sees it.

use super::gguf::{TokenType, Vocabulary};
use crate::guidance::{TokenKind, TokenTable};

impl TokenTable for Vocabulary<'_> {
    fn n_tokens(&self) -> usize {
        Vocabulary::n_tokens(self)
    }

    fn text(&self, index: usize) -> &[u8] {
        Vocabulary::text(self, index).unwrap_or_default()
    }

    fn kind(&self, index: usize) -> TokenKind {
        match self.token_type(index) {
            TokenType::Undefined => TokenKind::Undefined,
            TokenType::Normal => TokenKind::Normal,
            TokenType::Unknown => TokenKind::Unknown,
            TokenType::Control => TokenKind::Control,
            TokenType::UserDefined => TokenKind::UserDefined,
            TokenType::Unused => TokenKind::Unused,
            TokenType::Byte => TokenKind::Byte,
        }
    }

    fn special(&self) -> [(&'static str, Option<u32>); 3] {
        let ids = self.special_ids();
        [("bos", ids.bos), ("eos", ids.eos), ("eot", ids.eot)]
    }
}
