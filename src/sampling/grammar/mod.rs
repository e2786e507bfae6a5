//! What a text must look like: a GBNF grammar or a JSON Schema, checked, bounded and followed in Rust.
//!
//! llama.cpp's own engine for grammars recurses as deep as a grammar nests, lets some left recursion pass, keeps every
//! way to read a text apart, and ends the process where it meets what it does not expect; its conversion of schemas
//! leaves out in silence what it cannot enforce. So grammars are read here (`gbnf`), and schemas are given to
//! llguidance (`schema`).
//!
//! Every step is bounded: the work for one token is counted, and a text whose grammar asks for more ends with an error
//! of its own.

mod gbnf;
mod schema;
#[cfg(test)]
mod tests;
#[cfg(feature = "server")]
mod trigger;
mod vocabulary;

use std::sync::Arc;

use llama_cpp_sys_2::llama_token_data;
use llguidance::toktrie::SimpleVob;
use serde_json::Value;

use super::params::SamplingParams;
use crate::engine::llama::Vocab;
use crate::expert::Token;
#[cfg(feature = "server")]
pub use schema::arguments;
#[cfg(feature = "server")]
pub use trigger::Trigger;
#[cfg(feature = "server")]
use trigger::Triggers;
use vocabulary::GrammarVocabulary;

/// Bytes of a grammar or a schema.
pub const MAX_BYTES: usize = 1 << 20;
/// Candidates up to which each is matched by itself.
const FEW: usize = 64;

/// Why there is no grammar.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct GrammarError {
    /// The field that holds it.
    pub field: &'static str,
    /// What is wrong with it, without its text.
    pub problem: String,
}

/// The work for one token was more than is allowed. The grammar cannot go on before it is reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooMuchWork;

/// A grammar or a schema, checked and compiled: what is costly is done once, for all texts.
pub struct Compiled {
    engine: Engine,
    vocabulary: Arc<GrammarVocabulary>,
    field: &'static str,
    warnings: Vec<String>,
    /// From where on a lazy grammar holds; without triggers it holds from the beginning.
    #[cfg(feature = "server")]
    triggers: Option<Triggers>,
    /// The end of the prompt: what the grammar has read, or where it is lazy, what its triggers have.
    prefix: Vec<u8>,
}

/// The grammar of calls of tools, as llama.cpp writes it.
#[cfg(feature = "server")]
#[derive(Debug, Clone, Default)]
pub struct CallGrammar {
    /// GBNF.
    pub text: String,
    /// The end of the prompt, with which a grammar may begin that is not lazy.
    pub prefix: String,
    /// The beginning of the text, which the prompt holds too.
    pub begun: String,
    /// From where on it holds, where it is lazy.
    pub triggers: Option<Vec<Trigger>>,
}

enum Engine {
    Gbnf(gbnf::Gbnf),
    Schema(Box<schema::Schema>),
}

impl Compiled {
    /// What the parameters ask for, if they do. A schema of theirs must be enforced whole.
    ///
    /// # Errors
    ///
    /// [`GrammarError`].
    pub fn of(params: &SamplingParams, vocab: &Vocab) -> Result<Option<Arc<Self>>, GrammarError> {
        match (&params.grammar, &params.json_schema) {
            (Some(text), _) => Self::gbnf(text, vocab).map(Some),
            (None, Some(schema)) => {
                let compiled = Self::schema(schema, true, "json_schema", vocab)?;
                compiled.warnings.iter().for_each(|warning| tracing::warn!("json_schema: {warning}"));
                Ok(Some(compiled))
            }
            (None, None) => Ok(None),
        }
    }

    /// A GBNF grammar.
    ///
    /// # Errors
    ///
    /// [`GrammarError`].
    pub fn gbnf(text: &str, vocab: &Vocab) -> Result<Arc<Self>, GrammarError> {
        let token_of = |text: &str| vocab.token_of(text);
        let compiled = Self::gbnf_over(text, "grammar", &token_of, &[], || GrammarVocabulary::of(vocab))?;
        Ok(Arc::new(compiled))
    }

    /// A grammar of calls of tools (field `tools`): its texts may be written with the `spelled` control tokens. With
    /// triggers it is lazy: any text may come before the first of them.
    ///
    /// # Errors
    ///
    /// [`GrammarError`].
    #[cfg(feature = "server")]
    pub fn calls(grammar: &CallGrammar, spelled: &[(Token, String)], vocab: &Vocab) -> Result<Arc<Self>, GrammarError> {
        let token_of = |_: &str| None;
        let vocabulary = || GrammarVocabulary::of(vocab);
        let mut compiled = Self::gbnf_over(&grammar.text, "tools", &token_of, spelled, vocabulary)?;
        compiled.triggers = grammar.triggers.as_ref().map(|triggers| Triggers::new(triggers, spelled)).transpose()?;
        compiled.prefix = compiled.beginning(grammar).ok_or_else(|| GrammarError {
            field: "tools",
            problem: "must be called, and the answer that is begun is no call".to_owned(),
        })?;
        Ok(Arc::new(compiled))
    }

    /// What a grammar of calls has read where a text goes on.
    #[cfg(feature = "server")]
    fn beginning(&self, grammar: &CallGrammar) -> Option<Vec<u8>> {
        let CallGrammar { prefix, begun, .. } = grammar;
        let Engine::Gbnf(gbnf) = &self.engine else { return None };
        if self.is_lazy() {
            return Some(begun.clone().into_bytes());
        }
        // Not every template's grammar begins with the end of the prompt.
        [format!("{prefix}{begun}"), begun.clone()].into_iter().map(String::into_bytes).find(|bytes| {
            let mut matcher = gbnf.matcher(&self.vocabulary);
            bytes.is_empty() || matcher.accept_bytes(bytes) == Ok(true)
        })
    }

    fn gbnf_over(
        text: &str,
        field: &'static str,
        token_of: &gbnf::TokenOf<'_>,
        spelled: &gbnf::Spelled,
        vocabulary: impl FnOnce() -> Arc<GrammarVocabulary>,
    ) -> Result<Self, GrammarError> {
        check_size(field, text.len())?;
        let engine = gbnf::Gbnf::new(text, token_of, spelled);
        let engine = engine.map_err(|fault| GrammarError { field, problem: fault.problem() })?;
        Ok(Self {
            engine: Engine::Gbnf(engine),
            vocabulary: vocabulary(),
            field,
            warnings: Vec::new(),
            #[cfg(feature = "server")]
            triggers: None,
            prefix: Vec::new(),
        })
    }

    /// What the text begins with before a lazy grammar holds.
    #[cfg(feature = "server")]
    fn lazy_prefix(&self) -> &[u8] {
        if self.is_lazy() { &self.prefix } else { &[] }
    }

    /// Whether any text may come before what it constrains.
    fn is_lazy(&self) -> bool {
        #[cfg(feature = "server")]
        return self.triggers.is_some();
        #[cfg(not(feature = "server"))]
        false
    }

    /// A JSON Schema of this field. What cannot be enforced is an error where it is `strict`, else a warning.
    ///
    /// # Errors
    ///
    /// [`GrammarError`].
    pub fn schema(schema: &Value, strict: bool, field: &'static str, vocab: &Vocab) -> Result<Arc<Self>, GrammarError> {
        Self::schema_over(schema, strict, field, || GrammarVocabulary::of(vocab))
    }

    fn schema_over(
        schema: &Value,
        strict: bool,
        field: &'static str,
        vocabulary: impl FnOnce() -> Arc<GrammarVocabulary>,
    ) -> Result<Arc<Self>, GrammarError> {
        check_size(field, schema.to_string().len())?;
        let vocabulary = vocabulary();
        let compiled = schema::Schema::new(schema, strict, &vocabulary);
        let (engine, warnings) = compiled.map_err(|problem| GrammarError { field, problem })?;
        Ok(Arc::new(Self {
            engine: Engine::Schema(Box::new(engine)),
            vocabulary,
            field,
            warnings,
            #[cfg(feature = "server")]
            triggers: None,
            prefix: Vec::new(),
        }))
    }

    /// What is not enforced.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }
}

fn check_size(field: &'static str, n: usize) -> Result<(), GrammarError> {
    if n <= MAX_BYTES {
        return Ok(());
    }
    Err(GrammarError { field, problem: format!("may have {MAX_BYTES} bytes, this has {n}") })
}

/// A text's way through a grammar.
pub struct Grammar {
    compiled: Arc<Compiled>,
    matcher: Matcher,
    /// The tokens that may come next; only while `is_masked`.
    mask: SimpleVob,
    is_masked: bool,
    is_fresh: bool,
    failed: bool,
    /// Whether no trigger has come yet, so that everything is allowed.
    awaits_trigger: bool,
    /// The text before the first trigger.
    #[cfg(feature = "server")]
    before: trigger::TriggerBuffer,
}

enum Matcher {
    Gbnf(Box<gbnf::Matcher>),
    Schema(Box<schema::Matcher>),
}

impl Grammar {
    /// A text at its beginning.
    pub fn new(compiled: Arc<Compiled>) -> Self {
        let mask = compiled.vocabulary.trie().alloc_token_set();
        let matcher = Matcher::of(&compiled);
        Self {
            awaits_trigger: compiled.is_lazy(),
            #[cfg(feature = "server")]
            before: trigger::TriggerBuffer::new(compiled.lazy_prefix()),
            compiled,
            matcher,
            mask,
            is_masked: false,
            is_fresh: true,
            failed: false,
        }
    }

    /// The field that the grammar came in.
    pub fn field(&self) -> &'static str {
        self.compiled.field
    }

    /// Forgets the text.
    pub fn reset(&mut self) {
        if !std::mem::replace(&mut self.is_fresh, true) {
            match &mut self.matcher {
                Matcher::Gbnf(matcher) => begin(matcher, &self.compiled),
                Matcher::Schema(_) => self.matcher = Matcher::of(&self.compiled),
            }
            self.is_masked = false;
        }
        self.failed = false;
        self.awaits_trigger = self.compiled.is_lazy();
        #[cfg(feature = "server")]
        self.before.begin(self.compiled.lazy_prefix());
    }

    /// Whether this token may come next.
    ///
    /// # Errors
    ///
    /// [`TooMuchWork`].
    pub fn allows(&mut self, token: Token) -> Result<bool, TooMuchWork> {
        if self.awaits_trigger {
            return Ok(true);
        }
        self.ask();
        self.is_allowed(token)
    }

    /// Begins a question, of one token or of all candidates of a step: the work for it is bounded as a whole.
    fn ask(&mut self) {
        if let Matcher::Gbnf(matcher) = &mut self.matcher {
            matcher.ask();
        }
    }

    fn is_allowed(&mut self, token: Token) -> Result<bool, TooMuchWork> {
        self.check()?;
        let result = match &mut self.matcher {
            Matcher::Gbnf(matcher) if self.compiled.vocabulary.is_end(token) => Ok(matcher.accepts()),
            Matcher::Gbnf(matcher) if !self.is_masked => matcher.allows(token).map_err(|_| TooMuchWork),
            _ => self.fill_mask().map(|()| self.is_set(token)),
        };
        self.failed |= result.is_err();
        result
    }

    /// Forbids those of the candidates that may not come next.
    ///
    /// # Errors
    ///
    /// [`TooMuchWork`].
    pub fn apply(&mut self, candidates: &mut [llama_token_data]) -> Result<(), TooMuchWork> {
        if self.awaits_trigger {
            return Ok(());
        }
        if candidates.len() > FEW {
            self.check()?;
            let filled = self.fill_mask();
            self.failed |= filled.is_err();
            filled?;
        }
        self.ask();
        for candidate in candidates {
            if !self.is_allowed(candidate.id)? {
                candidate.logit = f32::NEG_INFINITY;
            }
        }
        Ok(())
    }

    /// Takes a token that is allowed.
    ///
    /// # Errors
    ///
    /// [`TooMuchWork`].
    pub fn accept(&mut self, token: Token) -> Result<(), TooMuchWork> {
        self.check()?;
        #[cfg(feature = "server")]
        if self.awaits_trigger {
            return self.await_trigger(token);
        }
        (self.is_masked, self.is_fresh) = (false, false);
        let is_taken = match &mut self.matcher {
            // The end leads nowhere: a text that is continued behind it may end again.
            _ if self.compiled.vocabulary.is_end(token) => true,
            Matcher::Gbnf(matcher) => matcher.accept(token).is_ok(),
            Matcher::Schema(matcher) => matcher.accept(token),
        };
        self.failed |= !is_taken;
        self.check()
    }

    /// Takes a token before the first trigger. Where one comes with it, the grammar takes the text from there on; a
    /// text that does not fit was no call, and the grammar waits for the next trigger.
    #[cfg(feature = "server")]
    fn await_trigger(&mut self, token: Token) -> Result<(), TooMuchWork> {
        let Some(triggers) = &self.compiled.triggers else { return Ok(()) };
        let bytes = self.compiled.vocabulary.bytes(token);
        let Some(tail) = self.before.push(triggers, token, bytes) else { return Ok(()) };
        let Matcher::Gbnf(matcher) = &mut self.matcher else { return Ok(()) };
        (self.is_masked, self.is_fresh) = (false, false);
        let mut result = matcher.accept_bytes(&tail.part);
        for token in tail.tokens {
            result = result
                .and_then(|fits| if fits { matcher.accept(token).map(|()| !matcher.is_dead()) } else { Ok(false) });
        }
        match result {
            Ok(true) => self.awaits_trigger = false,
            Ok(false) => matcher.reset(),
            Err(_) => self.failed = true,
        }
        self.check()
    }

    fn check(&self) -> Result<(), TooMuchWork> {
        if self.failed { Err(TooMuchWork) } else { Ok(()) }
    }

    fn is_set(&self, token: Token) -> bool {
        usize::try_from(token).is_ok_and(|at| at < self.compiled.vocabulary.trie().vocab_size() && self.mask.get(at))
    }

    fn fill_mask(&mut self) -> Result<(), TooMuchWork> {
        if self.is_masked {
            return Ok(());
        }
        match &mut self.matcher {
            Matcher::Gbnf(matcher) => {
                self.mask.set_all(false);
                matcher.mask(&mut self.mask).map_err(|_| TooMuchWork)?;
                let ends = self.compiled.vocabulary.ends();
                ends.for_each(|end| self.mask.set(end as usize, matcher.accepts()));
            }
            Matcher::Schema(matcher) => self.mask = matcher.mask().ok_or(TooMuchWork)?,
        }
        self.compiled.vocabulary.allow_twins(&mut self.mask);
        self.is_masked = true;
        Ok(())
    }
}

/// Puts a matcher at the beginning of a text.
fn begin(matcher: &mut gbnf::Matcher, compiled: &Compiled) {
    matcher.reset();
    if !compiled.is_lazy() && !compiled.prefix.is_empty() {
        // It fitted when it was compiled.
        let _ = matcher.accept_bytes(&compiled.prefix);
    }
}

impl Matcher {
    fn of(compiled: &Compiled) -> Self {
        match &compiled.engine {
            Engine::Gbnf(gbnf) => {
                let mut matcher = gbnf.matcher(&compiled.vocabulary);
                begin(&mut matcher, compiled);
                Self::Gbnf(Box::new(matcher))
            }
            Engine::Schema(schema) => Self::Schema(Box::new(schema.matcher())),
        }
    }
}
