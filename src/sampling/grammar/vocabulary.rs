//! The bytes of a vocabulary's tokens as a tree, so that tokens with a common beginning are matched together.

use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use llguidance::ParserFactory;
use llguidance::api::ParserLimits;
use llguidance::earley::SlicedBiasComputer;
use llguidance::toktrie::{
    ApproximateTokEnv, INVALID_TOKEN, InferenceCapabilities, SimpleVob, TokEnv, TokRxInfo, TokTrie,
};

use crate::engine::llama::{Model, Vocab};
use crate::expert::Token;

/// Bytes of a token; longer ones match nothing. The tree cannot hold more.
const MAX_TOKEN_BYTES: usize = 1000;

/// What grammars need of a vocabulary. Made once for a model.
pub struct GrammarVocabulary {
    tokens: TokEnv,
    is_end: Vec<bool>,
    /// Tokens with the text of another, which alone is in the tree, and that other one.
    twins: Vec<(Token, Token)>,
    factory: OnceLock<Option<ParserFactory>>,
}

impl GrammarVocabulary {
    /// That of a model: a pass over all its tokens the first time.
    pub fn of(vocab: &Vocab) -> Arc<Self> {
        type Known = Vec<(Weak<Model>, Arc<GrammarVocabulary>)>;
        static KNOWN: Mutex<Known> = Mutex::new(Vec::new());
        let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|(model, _)| model.strong_count() > 0);
        let model = Arc::downgrade(vocab.model());
        if let Some((_, vocabulary)) = known.iter().find(|(other, _)| other.ptr_eq(&model)) {
            return Arc::clone(vocabulary);
        }
        let n = vocab.n_tokens() as Token;
        let bytes = |token| {
            let mut bytes = Vec::new();
            vocab.piece(token, false, &mut bytes);
            bytes
        };
        let ends = vocab.eog_tokens().collect();
        let vocabulary = Arc::new(Self::new((0..n).map(bytes).collect(), ends));
        known.push((model, Arc::clone(&vocabulary)));
        vocabulary
    }

    /// A vocabulary of these texts, in which these tokens end a text. Tokens without a text match nothing: control
    /// tokens, for example.
    pub fn new(mut texts: Vec<Vec<u8>>, ends: Vec<Token>) -> Self {
        let mut is_end = vec![false; texts.len()];
        for end in &ends {
            is_end[*end as usize] = true;
        }
        for (text, is_end) in texts.iter_mut().zip(&is_end) {
            // 0xFF is no UTF-8; the tree takes it for the mark of a control token.
            if *is_end || text.len() > MAX_TOKEN_BYTES || text.first() == Some(&TokTrie::SPECIAL_TOKEN_MARKER) {
                text.clear();
            }
        }
        let ends: Vec<u32> = ends.into_iter().map(|end| end as u32).collect();
        let info = TokRxInfo::new(texts.len() as u32, ends.first().copied().unwrap_or(INVALID_TOKEN));
        let trie = TokTrie::from(&info, &texts);
        let trie = if ends.is_empty() { trie } else { trie.with_eos_tokens(&ends) };
        let twin = |(token, text): (usize, &Vec<u8>)| {
            let other = trie.token_id_at_bytes(text).filter(|other| *other as usize != token && !text.is_empty());
            other.map(|other| (token as Token, other as Token))
        };
        let twins = texts.iter().enumerate().filter_map(twin).collect();
        Self { tokens: Arc::new(ApproximateTokEnv::new(trie)), is_end, twins, factory: OnceLock::new() }
    }

    /// The tree.
    pub fn trie(&self) -> &TokTrie {
        self.tokens.tok_trie()
    }

    /// The bytes of a token; none where it has no text.
    pub fn bytes(&self, token: Token) -> &[u8] {
        match usize::try_from(token) {
            Ok(at) if at < self.is_end.len() => self.trie().token(at as u32),
            _ => &[],
        }
    }

    /// Whether the token ends a text.
    pub fn is_end(&self, token: Token) -> bool {
        usize::try_from(token).is_ok_and(|at| self.is_end.get(at) == Some(&true))
    }

    /// The tokens that end a text.
    pub fn ends(&self) -> impl Iterator<Item = Token> + '_ {
        (0..).zip(&self.is_end).filter(|(_, is_end)| **is_end).map(|(token, _)| token)
    }

    /// Allows what has the text of an allowed token.
    pub fn allow_twins(&self, mask: &mut SimpleVob) {
        for (twin, other) in &self.twins {
            if mask.get(*other as usize) {
                mask.set(*twin as usize, true);
            }
        }
    }

    /// What makes parsers of schemas over this vocabulary; `None` where it cannot be made.
    pub fn factory(&self) -> Option<&ParserFactory> {
        let make = || {
            let slices = SlicedBiasComputer::json_slices();
            let mut factory = ParserFactory::new(&self.tokens, InferenceCapabilities::default(), &slices).ok()?;
            factory.quiet();
            *factory.limits_mut() = ParserLimits {
                // An object of some hundred optional properties.
                max_items_in_row: 10_000,
                step_max_items: 100_000,
                verbose_errors: false,
                ..ParserLimits::default()
            };
            Some(factory)
        };
        self.factory.get_or_init(make).as_ref()
    }
}
