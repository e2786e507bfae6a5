//! What the user says, as each model reads it.

use std::sync::Arc;

use super::{ArmText, PromptError, Session, special_text};
use crate::chat::{ChatTemplate, Conversation, Message, starts_with_bos};
use crate::engine::llama::Vocab;
use crate::expert::Token;

/// A prompt in tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    /// The base's tokens.
    pub base: Vec<Token>,
    /// For each ARM its own tokens; `None` reads the base's.
    pub arms: Vec<Option<Vec<Token>>>,
}

/// How the models read what the user says. Shared, so that prompts can be read on other threads than the one that decodes.
pub struct Prompts {
    vocab: Vocab,
    system: Option<String>,
    base_template: Option<ChatTemplate>,
    arms: Vec<ArmText>,
}

impl Session {
    /// How its models read what the user says.
    pub fn prompts(&self) -> &Arc<Prompts> {
        &self.prompts
    }

    /// As [`Prompts::text`].
    ///
    /// # Errors
    ///
    /// [`PromptError`].
    pub fn text_prompt(&self, text: &str) -> Result<Prompt, PromptError> {
        self.prompts.text(text)
    }

    /// As [`Prompts::tokens`].
    ///
    /// # Errors
    ///
    /// [`PromptError::Token`].
    pub fn token_prompt(&self, tokens: Vec<Token>) -> Result<Prompt, PromptError> {
        self.prompts.tokens(tokens)
    }

    /// As [`Prompts::chat`], with the messages of a conversation.
    ///
    /// # Errors
    ///
    /// [`PromptError`].
    pub fn chat_prompt(&self, conversation: &Conversation) -> Result<Prompt, PromptError> {
        self.prompts.chat(&conversation.messages(), "")
    }
}

impl Prompts {
    pub(super) fn new(
        vocab: Vocab,
        base_template: Option<ChatTemplate>,
        system: Option<String>,
        arms: Vec<ArmText>,
    ) -> Self {
        Self { vocab, system, base_template, arms }
    }

    /// How each ARM reads.
    pub(super) fn arms(&self) -> &[ArmText] {
        &self.arms
    }

    /// The base's vocabulary.
    pub fn vocab(&self) -> &Vocab {
        &self.vocab
    }

    /// Whether the base can be talked with: whether it has a chat template.
    pub fn can_chat(&self) -> bool {
        self.base_template.is_some()
    }

    /// A plain text. ARMs with a `template:` in the configuration read it as a user's message through that; the others read
    /// the base's tokens.
    ///
    /// # Errors
    ///
    /// [`PromptError`].
    pub fn text(&self, text: &str) -> Result<Prompt, PromptError> {
        let tokenize = |source| PromptError::Tokenize { who: "base".into(), source };
        let base = self.vocab.tokenize(text, true, true).map_err(tokenize)?;
        let mut conversation = Conversation::new(self.system.clone());
        conversation.push_user(text);
        let messages = conversation.messages();
        let arms = self.arms.iter().map(|arm| if arm.templated { arm.read(&messages, "", &base) } else { Ok(None) });
        let arms = arms.collect::<Result<_, _>>()?;
        Ok(Prompt { base, arms })
    }

    /// Tokens, read by all.
    ///
    /// # Errors
    ///
    /// [`PromptError::Token`].
    pub fn tokens(&self, tokens: Vec<Token>) -> Result<Prompt, PromptError> {
        let n_vocab = self.vocab.n_tokens();
        match tokens.iter().find(|t| usize::try_from(**t).map_or(true, |t| t >= n_vocab)) {
            Some(&token) => Err(PromptError::Token { token, n_vocab }),
            None => Ok(Prompt { base: tokens, arms: vec![None; self.arms.len()] }),
        }
    }

    /// The tokens of a response to a plain text: cut off the tokens of both where the text ends at one of them, so that a
    /// sentencepiece vocabulary adds no space of its own; else those of the response alone.
    ///
    /// # Errors
    ///
    /// [`PromptError::Tokenize`].
    pub fn response_tokens(&self, text: &str, response: &str) -> Result<Vec<Token>, PromptError> {
        let tokenize = |text: &str, special| {
            let tokens = self.vocab.tokenize(text, special, special);
            tokens.map_err(|source| PromptError::Tokenize { who: "base".into(), source })
        };
        let (whole, head) = (tokenize(&format!("{text}{response}"), true)?, tokenize(text, true)?);
        match whole.strip_prefix(&head[..]) {
            Some(rest) => Ok(rest.to_vec()),
            None => tokenize(response, false),
        }
    }

    /// A conversation, to be continued by the assistant, whose answer begins with `begun`: each model reads it through its own
    /// chat template.
    ///
    /// # Errors
    ///
    /// [`PromptError`].
    pub fn chat(&self, messages: &[Message], begun: &str) -> Result<Prompt, PromptError> {
        let template = self.base_template.as_ref().ok_or(PromptError::NoTemplate)?;
        let base = render("base", template, &self.vocab, messages, begun)?;
        let arms = self.arms.iter().map(|arm| arm.read(messages, begun, &base));
        let arms = arms.collect::<Result<_, _>>()?;
        Ok(Prompt { base, arms })
    }
}

impl ArmText {
    /// The conversation in this ARM's words, where those are not the base's.
    fn read(&self, messages: &[Message], begun: &str, base: &[Token]) -> Result<Option<Vec<Token>>, PromptError> {
        let Some(template) = &self.template else { return Ok(None) };
        let own = render(&format!("ARM \"{}\"", self.name), template, &self.vocab, messages, begun)?;
        Ok(Some(own).filter(|own| own != base))
    }
}

fn render(
    who: &str,
    template: &ChatTemplate,
    vocab: &Vocab,
    messages: &[Message],
    begun: &str,
) -> Result<Vec<Token>, PromptError> {
    let (bos, eos) = (special_text(vocab, vocab.bos()), special_text(vocab, vocab.eos()));
    let mut text = template
        .render(messages, true, &bos, &eos)
        .map_err(|source| PromptError::Template { who: who.into(), source })?;
    text.push_str(begun);
    // A template that writes BOS itself must not get a second one.
    let add_special = !starts_with_bos(&text, &bos);
    vocab.tokenize(&text, add_special, true).map_err(|source| PromptError::Tokenize { who: who.into(), source })
}
