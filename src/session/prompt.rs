//! What the user says, as each model reads it.

use std::borrow::Cow;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::{ArmText, PromptError, Session};
use crate::chat::{ChatTemplate, Conversation, Message, Rendered, without_end};
use crate::engine::llama::{TokenizeError, Vocab};
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
pub struct PromptRenderer {
    vocab: Vocab,
    system: Option<String>,
    base_template: Option<ChatTemplate>,
    arms: Vec<ArmText>,
}

impl Session {
    /// How its models read what the user says.
    pub fn prompts(&self) -> &Arc<PromptRenderer> {
        &self.prompts
    }

    /// As [`PromptRenderer::text`].
    ///
    /// # Errors
    ///
    /// [`PromptError`].
    pub fn text_prompt(&self, text: &str) -> Result<Prompt, PromptError> {
        self.prompts.text(text)
    }

    /// As [`PromptRenderer::tokens`].
    ///
    /// # Errors
    ///
    /// [`PromptError::Token`].
    pub fn token_prompt(&self, tokens: Vec<Token>) -> Result<Prompt, PromptError> {
        self.prompts.tokens(tokens)
    }

    /// As [`PromptRenderer::chat`], with the messages of a conversation.
    ///
    /// # Errors
    ///
    /// [`PromptError`].
    pub fn chat_prompt(&self, conversation: &Conversation) -> Result<Prompt, PromptError> {
        self.prompts.chat(&conversation.messages(), "")
    }
}

impl PromptRenderer {
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

    /// Through which template a model reads conversations: the base (0), or an ARM (from 1), which reads the base's words where it
    /// has no template of its own.
    pub fn template(&self, model: usize) -> Option<&ChatTemplate> {
        let of_arm = model.checked_sub(1).and_then(|arm| self.arms.get(arm)?.template.as_ref());
        of_arm.or(self.base_template.as_ref())
    }

    /// A plain text, which may spell control tokens. ARMs with a `template:` in the configuration read it as a user's message through that; the others read
    /// the base's tokens.
    ///
    /// # Errors
    ///
    /// [`PromptError`].
    pub fn text(&self, text: &str) -> Result<Prompt, PromptError> {
        let base = self.vocab.tokenize_prompt(text, &[]).map_err(of_base)?;
        let messages = self.as_message(text);
        let read = |arm: &ArmText| if arm.templated { arm.read(&messages, "", &Map::new(), &base) } else { Ok(None) };
        let arms = self.arms.iter().map(read).collect::<Result<_, _>>()?;
        Ok(Prompt { base, arms })
    }

    /// A plain text as a user's message.
    fn as_message(&self, text: &str) -> Vec<Message> {
        let mut conversation = Conversation::new(self.system.clone());
        conversation.push_user(text);
        conversation.messages()
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

    /// A plain text and a response to it: one text in tokens, cut where the response begins. The response spells no control
    /// tokens, but for its end where the prompt spells some too: then both were rendered before.
    ///
    /// # Errors
    ///
    /// [`PromptError`].
    pub fn text_response(&self, text: &str, response: &str) -> Result<(Prompt, Vec<Token>), PromptError> {
        let (response, ended) = without_end(&self.vocab, text, response);
        let (base, mut tokens) = split(&Rendered::raw(text), &self.vocab, response).map_err(of_base)?;
        let messages = self.as_message(text);
        let follow = |arm: &ArmText| match arm.templated {
            true => arm.followed(&messages, response, &base, &tokens),
            false => Ok(None),
        };
        let arms = self.arms.iter().map(follow).collect::<Result<_, _>>()?;
        tokens.extend(self.vocab.eos().filter(|_| ended));
        Ok((Prompt { base, arms }, tokens))
    }

    /// A conversation, to be continued by the assistant, whose answer begins with `begun`: each model reads it through its own
    /// chat template.
    ///
    /// # Errors
    ///
    /// [`PromptError`].
    pub fn chat(&self, messages: &[Message], begun: &str) -> Result<Prompt, PromptError> {
        self.chat_given(messages, begun, &Map::new())
    }

    /// The same with variables for the chat templates, such as `enable_thinking`: those of every model get them.
    ///
    /// # Errors
    ///
    /// [`PromptError`].
    pub fn chat_given(
        &self,
        messages: &[Message],
        begun: &str,
        variables: &Map<String, Value>,
    ) -> Result<Prompt, PromptError> {
        let template = self.base_template.as_ref().ok_or(PromptError::NoTemplate)?;
        let rendered = write("base", &with(template, variables), &self.vocab, messages)?;
        let base = rendered.followed_by(begun).tokens(&self.vocab).map_err(of_base)?;
        let read = |arm: &ArmText| arm.read(messages, begun, variables, &base);
        let arms = self.arms.iter().map(read).collect::<Result<_, _>>()?;
        Ok(Prompt { base, arms })
    }

    /// A conversation and a response to it: one text in tokens, cut where the response begins.
    ///
    /// # Errors
    ///
    /// [`PromptError`].
    pub fn chat_response(&self, messages: &[Message], response: &str) -> Result<(Prompt, Vec<Token>), PromptError> {
        let template = self.base_template.as_ref().ok_or(PromptError::NoTemplate)?;
        let rendered = write("base", template, &self.vocab, messages)?;
        let (base, tokens) = split(&rendered, &self.vocab, response).map_err(of_base)?;
        let follow = |arm: &ArmText| arm.followed(messages, response, &base, &tokens);
        let arms = self.arms.iter().map(follow).collect::<Result<_, _>>()?;
        Ok((Prompt { base, arms }, tokens))
    }
}

impl ArmText {
    /// The conversation in this ARM's words, where those are not the base's.
    fn read(
        &self,
        messages: &[Message],
        begun: &str,
        variables: &Map<String, Value>,
        base: &[Token],
    ) -> Result<Option<Vec<Token>>, PromptError> {
        let Some(template) = &self.template else { return Ok(None) };
        let rendered = write(&self.who(), &with(template, variables), &self.vocab, messages)?;
        let own = rendered.followed_by(begun).tokens(&self.vocab).map_err(|e| self.fail(e))?;
        Ok(Some(own).filter(|own| own != base))
    }

    /// The same up to a response, whose tokens are given: where a token stands across the cut, the prompt ends before it.
    fn followed(
        &self,
        messages: &[Message],
        response: &str,
        base: &[Token],
        tokens: &[Token],
    ) -> Result<Option<Vec<Token>>, PromptError> {
        let Some(template) = &self.template else { return Ok(None) };
        let rendered = write(&self.who(), template, &self.vocab, messages)?;
        let (cut, rest) = split(&rendered, &self.vocab, response).map_err(|e| self.fail(e))?;
        let own = if rest == tokens { cut } else { rendered.tokens(&self.vocab).map_err(|e| self.fail(e))? };
        Ok(Some(own).filter(|own| own != base))
    }

    fn who(&self) -> String {
        format!("ARM \"{}\"", self.name)
    }

    fn fail(&self, source: TokenizeError) -> PromptError {
        PromptError::Tokenize { who: self.who(), source }
    }
}

/// A template with variables, if there are any.
fn with<'a>(template: &'a ChatTemplate, variables: &Map<String, Value>) -> Cow<'a, ChatTemplate> {
    if variables.is_empty() { Cow::Borrowed(template) } else { Cow::Owned(template.given(variables)) }
}

fn write(who: &str, template: &ChatTemplate, vocab: &Vocab, messages: &[Message]) -> Result<Rendered, PromptError> {
    template.write(messages, vocab).map_err(|source| PromptError::Template { who: who.into(), source })
}

/// A prompt and a response in tokens.
fn split(rendered: &Rendered, vocab: &Vocab, response: &str) -> Result<(Vec<Token>, Vec<Token>), TokenizeError> {
    let split = rendered.split(vocab, &[response])?;
    Ok((split.prompt, split.responses.into_iter().flatten().collect()))
}

fn of_base(source: TokenizeError) -> PromptError {
    PromptError::Tokenize { who: "base".into(), source }
}
