//! What the user says, as each model reads it.

use std::borrow::Cow;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::{ExpertText, ExpertTexts, PromptError, Session};
use crate::chat::{ChatTemplate, Conversation, Message, Rendered, TOOLS, TemplateError, in_plain_text, without_end};
use crate::config::{PromptSpec, ReadingSpec};
use crate::engine::llama::{TokenizeError, Vocab};
use crate::expert::Token;
use crate::guidance::translate::WordKind;

/// A prompt in tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    /// The base's tokens.
    pub base: Vec<Token>,
    /// For each expert of the guide its own tokens; `None` reads the base's.
    pub experts: Vec<Option<Vec<Token>>>,
}

/// A conversation to be answered, and how its answer begins.
#[derive(Debug, Clone, Copy)]
pub struct ChatInput<'a> {
    /// The conversation.
    pub messages: &'a [Message],
    /// Variables for the chat templates, such as `enable_thinking`: those of every model get them.
    pub variables: &'a Map<String, Value>,
    /// What the base's template leaves out at its end. Experts with the same template read it too.
    pub closing: &'a str,
    /// The beginning of the answer: a text, and no markup.
    pub begun: &'a str,
}

impl Prompt {
    /// The tokens of the longest text that a model reads.
    pub fn n_longest(&self) -> usize {
        self.experts.iter().flatten().map(Vec::len).fold(self.base.len(), usize::max)
    }
}

/// How the models read what the user says. Shared, so that prompts can be read on other threads than the one that
/// decodes.
pub struct PromptRenderer {
    vocab: Vocab,
    system: Option<String>,
    variables: Map<String, Value>,
    base_template: Option<ChatTemplate>,
    experts: ExpertTexts,
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
        spec: &PromptSpec,
        experts: ExpertTexts,
    ) -> Self {
        let PromptSpec { system, variables, .. } = spec.clone();
        Self { vocab, system, variables, base_template, experts }
    }

    /// How each expert reads.
    pub(super) fn experts(&self) -> &ExpertTexts {
        &self.experts
    }

    /// The same for a request with personas of its own: the first of them takes the first place that was left for one.
    #[must_use]
    pub fn with_personas(&self, systems: &[&str]) -> Personas<'_> {
        let mut systems = systems.iter().map(|system| (*system).to_owned());
        let reading = |expert: &ExpertText| match expert.spare {
            true => ReadingSpec { system: systems.next(), ..ReadingSpec::default() },
            false => expert.reading.clone(),
        };
        Personas { renderer: self, readings: self.experts.experts.iter().map(reading).collect() }
    }

    /// The base's vocabulary.
    pub fn vocab(&self) -> &Vocab {
        &self.vocab
    }

    /// Whether the base can be talked with: whether it has a chat template.
    pub fn can_chat(&self) -> bool {
        self.base_template.is_some()
    }

    /// Through which template a model reads conversations: the base (0), or an ARM (from 1), which reads the base's
    /// words where it has no template of its own.
    pub fn template(&self, model: usize) -> Option<&ChatTemplate> {
        let of_arm = || {
            let expert = (*self.experts.of_arms.get(model.checked_sub(1)?)?)?;
            self.experts.experts[expert].template.as_ref()
        };
        of_arm().or(self.base_template.as_ref())
    }

    /// The vocabulary of a model: the base's (0), or that of an ARM (from 1), which is another where it is translated.
    pub fn vocab_of(&self, model: usize) -> &Vocab {
        let arm = model.checked_sub(1).and_then(|arm| *self.experts.of_arms.get(arm)?);
        arm.map_or(&self.vocab, |expert| &self.experts.experts[expert].vocab)
    }

    /// A plain text, which may spell control tokens. ARMs with a `template:` in the configuration read it as a user's
    /// message through that, personas read their own text before it, and the others read the base's tokens.
    ///
    /// # Errors
    ///
    /// [`PromptError`].
    pub fn text(&self, text: &str) -> Result<Prompt, PromptError> {
        self.with_personas(&[]).text(text)
    }

    /// A plain text as a user's message.
    fn as_message(&self, text: &str) -> Vec<Message> {
        let mut conversation = Conversation::new(self.system.clone());
        conversation.push_user(text);
        conversation.messages()
    }

    /// Tokens, read by all; personas read their own text before them.
    ///
    /// # Errors
    ///
    /// [`PromptError`].
    pub fn tokens(&self, tokens: Vec<Token>) -> Result<Prompt, PromptError> {
        self.with_personas(&[]).tokens(tokens)
    }

    /// A plain text and a response to it: one text in tokens, cut where the response begins. The response spells no
    /// control tokens, but for its end where the prompt spells some too: then both were rendered before.
    ///
    /// # Errors
    ///
    /// [`PromptError`].
    pub fn text_response(&self, text: &str, response: &str) -> Result<(Prompt, Vec<Token>), PromptError> {
        self.with_personas(&[]).text_response(text, response)
    }

    /// A conversation, to be continued by the assistant, whose answer begins with `begun`: each model reads it through
    /// its own chat template, with the configuration's variables.
    ///
    /// # Errors
    ///
    /// [`PromptError`].
    pub fn chat(&self, messages: &[Message], begun: &str) -> Result<Prompt, PromptError> {
        let input = ChatInput { messages, variables: &self.variables, closing: "", begun };
        self.with_personas(&[]).chat(&input)
    }

    /// The text of a conversation as the base's template writes it, to be continued by the assistant or complete.
    ///
    /// # Errors
    ///
    /// [`PromptError`].
    pub fn chat_text(
        &self,
        messages: &[Message],
        variables: &Map<String, Value>,
        add_generation_prompt: bool,
    ) -> Result<String, PromptError> {
        let template = self.base_template.as_ref().ok_or(PromptError::NoTemplate)?;
        let text = with(template, variables).text(messages, &self.vocab, add_generation_prompt);
        text.map_err(|source| PromptError::Template { who: "base".into(), source })
    }

    /// A conversation and a response to it: one text in tokens, cut where the response begins.
    ///
    /// # Errors
    ///
    /// [`PromptError`].
    pub fn chat_response(&self, messages: &[Message], response: &str) -> Result<(Prompt, Vec<Token>), PromptError> {
        self.with_personas(&[]).chat_response(messages, response)
    }
}

/// A renderer with the personas of one request.
pub struct Personas<'a> {
    renderer: &'a PromptRenderer,
    /// One per expert.
    readings: Vec<ReadingSpec>,
}

impl Personas<'_> {
    /// The base's vocabulary.
    pub fn vocab(&self) -> &Vocab {
        &self.renderer.vocab
    }

    /// As [`PromptRenderer::text`].
    ///
    /// # Errors
    ///
    /// [`PromptError`].
    pub fn text(&self, text: &str) -> Result<Prompt, PromptError> {
        let base = self.renderer.vocab.tokenize_prompt(text, &[]).map_err(of_base)?;
        let messages = self.renderer.as_message(text);
        self.prompt(base, |expert, reading, base| match (expert.templated, reading.before_text()) {
            (true, _) => {
                let input = ChatInput { messages: &messages, variables: &Map::new(), closing: "", begun: "" };
                expert.read(reading, &input, base)
            }
            (false, Some(prefix)) => expert.persona(&prefix, base),
            (false, None) => Ok(None),
        })
    }

    /// As [`PromptRenderer::tokens`].
    ///
    /// # Errors
    ///
    /// [`PromptError`].
    pub fn tokens(&self, tokens: Vec<Token>) -> Result<Prompt, PromptError> {
        let n_vocab = self.renderer.vocab.n_tokens();
        if let Some(&token) = tokens.iter().find(|t| usize::try_from(**t).map_or(true, |t| t >= n_vocab)) {
            return Err(PromptError::Token { token, n_vocab });
        }
        self.prompt(tokens, |expert, reading, base| {
            reading.before_text().map_or(Ok(None), |prefix| expert.persona(&prefix, base))
        })
    }

    /// A conversation: each model reads it through its own chat template.
    ///
    /// # Errors
    ///
    /// [`PromptError`].
    pub fn chat(&self, input: &ChatInput<'_>) -> Result<Prompt, PromptError> {
        let PromptRenderer { base_template, vocab, .. } = self.renderer;
        let template = base_template.as_ref().ok_or(PromptError::NoTemplate)?;
        let rendered = write("base", &with(template, input.variables), vocab, input.messages)?;
        let rendered = rendered.with_markup(input.closing).followed_by(input.begun);
        let base = rendered.tokens(vocab).map_err(of_base)?;
        self.prompt(base, |expert, reading, base| {
            let has_same_template = expert.template.as_ref().is_some_and(|own| own.source() == template.source());
            let closing = if has_same_template { input.closing } else { "" };
            expert.read(reading, &ChatInput { closing, ..*input }, base)
        })
    }

    /// As [`PromptRenderer::text_response`].
    ///
    /// # Errors
    ///
    /// [`PromptError`].
    pub fn text_response(&self, text: &str, response: &str) -> Result<(Prompt, Vec<Token>), PromptError> {
        let vocab = &self.renderer.vocab;
        let (response, ended) = without_end(vocab, text, response);
        let (base, mut tokens) = split(&Rendered::raw(text), vocab, response).map_err(of_base)?;
        let messages = self.renderer.as_message(text);
        let prompt = self.prompt(base, |expert, reading, base| match (expert.templated, reading.before_text()) {
            (true, _) => expert.followed(reading, &messages, response, base, &tokens),
            (false, Some(prefix)) => expert.persona(&prefix, base),
            (false, None) => Ok(None),
        })?;
        tokens.extend(vocab.eos().filter(|_| ended));
        Ok((prompt, tokens))
    }

    /// As [`PromptRenderer::chat_response`].
    ///
    /// # Errors
    ///
    /// [`PromptError`].
    pub fn chat_response(&self, messages: &[Message], response: &str) -> Result<(Prompt, Vec<Token>), PromptError> {
        let PromptRenderer { base_template, vocab, .. } = self.renderer;
        let template = base_template.as_ref().ok_or(PromptError::NoTemplate)?;
        let rendered = write("base", template, vocab, messages)?;
        let (base, tokens) = split(&rendered, vocab, response).map_err(of_base)?;
        let follow = |expert: &ExpertText, reading: &ReadingSpec, base: &[Token]| {
            expert.followed(reading, messages, response, base, &tokens)
        };
        let prompt = self.prompt(base, follow)?;
        Ok((prompt, tokens))
    }

    fn prompt(
        &self,
        base: Vec<Token>,
        mut read: impl FnMut(&ExpertText, &ReadingSpec, &[Token]) -> Result<Option<Vec<Token>>, PromptError>,
    ) -> Result<Prompt, PromptError> {
        let experts = self.renderer.experts.experts.iter().zip(&self.readings);
        // A place that was left for a persona and is free reads the base's tokens, at weight 0.
        let own = experts.map(|(expert, reading)| match expert.spare && !reading.is_persona() {
            true => Ok(None),
            false => {
                let own = read(expert, reading, &base)?;
                own.map_or_else(|| expert.check_marks(&base).map(|()| None), |own| Ok(Some(own)))
            }
        });
        let experts = own.collect::<Result<_, _>>()?;
        Ok(Prompt { base, experts })
    }
}

impl ReadingSpec {
    /// What a persona reads before a plain text.
    pub(super) fn before_text(&self) -> Option<String> {
        self.prefix.clone().or_else(|| self.system.as_ref().map(|system| format!("{system}\n\n")))
    }

    /// A conversation under the persona's system prompt.
    fn messages<'a>(&self, messages: &'a [Message]) -> Cow<'a, [Message]> {
        let Some(system) = &self.system else { return Cow::Borrowed(messages) };
        let rest = match messages {
            [first, rest @ ..] if first.role == "system" || first.role == "developer" => rest,
            all => all,
        };
        let own = Some(system).filter(|text| !text.is_empty()).map(|text| Message::new("system", text));
        own.into_iter().chain(rest.iter().cloned()).collect()
    }
}

impl ExpertText {
    /// The conversation in this expert's words, where those are not the base's.
    fn read(
        &self,
        reading: &ReadingSpec,
        input: &ChatInput<'_>,
        base: &[Token],
    ) -> Result<Option<Vec<Token>>, PromptError> {
        let Some(template) = &self.template else { return Ok(None) };
        let messages = reading.messages(input.messages);
        let rendered = self.written(template, &messages, input.variables)?;
        let rendered = rendered.with_markup(input.closing).followed_by(input.begun);
        let own = rendered.tokens(&self.vocab).map_err(|e| self.fail(e))?;
        self.own(reading, own, base)
    }

    /// A conversation as the template writes it. One that knows no tools reads them as text.
    fn written(
        &self,
        template: &ChatTemplate,
        messages: &[Message],
        variables: &Map<String, Value>,
    ) -> Result<Rendered, PromptError> {
        let has_tools =
            variables.contains_key(TOOLS) || messages.iter().any(|m| m.role == "tool" || !m.tool_calls.is_empty());
        if !has_tools || template.knows_tools() {
            match write(&self.who, &with(template, variables), &self.vocab, messages) {
                Err(PromptError::Template { source: TemplateError::Render(_), .. }) if has_tools => {}
                rendered => return rendered,
            }
        }
        let mut variables = variables.clone();
        let tools = match variables.shift_remove(TOOLS) {
            Some(Value::Array(tools)) => tools,
            _ => Vec::new(),
        };
        write(&self.who, &with(template, &variables), &self.vocab, &in_plain_text(messages, &tools))
    }

    /// The same up to a response, whose tokens are given: where a token stands across the cut, the prompt ends before
    /// it.
    fn followed(
        &self,
        reading: &ReadingSpec,
        messages: &[Message],
        response: &str,
        base: &[Token],
        tokens: &[Token],
    ) -> Result<Option<Vec<Token>>, PromptError> {
        let Some(template) = &self.template else { return Ok(None) };
        let rendered = write(&self.who, template, &self.vocab, &reading.messages(messages))?;
        if self.translation.is_some() {
            // It reads the bytes of the response, and no tokens.
            let own = rendered.tokens(&self.vocab).map_err(|e| self.fail(e))?;
            return self.own(reading, own, base);
        }
        let (cut, rest) = split(&rendered, &self.vocab, response).map_err(|e| self.fail(e))?;
        let own = if rest == tokens { cut } else { rendered.tokens(&self.vocab).map_err(|e| self.fail(e))? };
        self.own(reading, own, base)
    }

    /// A rendered conversation, after the text that a persona without a system prompt reads before everything; `None`
    /// where that is what the base reads.
    fn own(&self, reading: &ReadingSpec, own: Vec<Token>, base: &[Token]) -> Result<Option<Vec<Token>>, PromptError> {
        let own = match (&reading.prefix, &reading.system) {
            (Some(prefix), None) => self.after(prefix, &own)?,
            _ => own,
        };
        // Equal ids of another vocabulary are other tokens.
        Ok(Some(own).filter(|own| self.translation.is_some() || own != base))
    }

    /// What a persona reads of a plain text; a translated one has been given the text before it already.
    fn persona(&self, prefix: &str, base: &[Token]) -> Result<Option<Vec<Token>>, PromptError> {
        match self.translation {
            Some(_) => Ok(None),
            None => self.after(prefix, base).map(Some),
        }
    }

    /// Refuses a prompt of the base, which this expert is to read, with control tokens that its vocabulary lacks.
    fn check_marks(&self, base: &[Token]) -> Result<(), PromptError> {
        let Some(translation) = &self.translation else { return Ok(()) };
        let begins = base.first().is_some_and(|first| translation.base.bos() == Some(*first));
        let lacks = |token: &&Token| {
            translation.base.kind(**token) == WordKind::Control && translation.lexicon.twin(**token).is_none()
        };
        match base[usize::from(begins)..].iter().find(lacks) {
            None => Ok(()),
            Some(token) => {
                let mut name = Vec::new();
                translation.base.bytes(*token, &mut name);
                let token = String::from_utf8_lossy(&name).into_owned();
                Err(PromptError::Mark { who: self.who.clone(), token, templated: self.template.is_some() })
            }
        }
    }

    /// A text, then the base's tokens as they are, in a host too; the token that begins a text is there once.
    fn after(&self, prefix: &str, base: &[Token]) -> Result<Vec<Token>, PromptError> {
        let mut own = self.vocab.tokenize_prompt(prefix, &[]).map_err(|e| self.fail(e))?;
        let begins = self.vocab.adds_bos() && base.first().copied() == self.vocab.bos();
        own.extend_from_slice(&base[usize::from(begins)..]);
        Ok(own)
    }

    fn fail(&self, source: TokenizeError) -> PromptError {
        PromptError::Tokenize { who: self.who.clone(), source }
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
