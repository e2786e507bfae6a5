//! The routes of llama.cpp's own server that its clients use: `/completion`, `/tokenize`, `/detokenize`, `/props`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use serde_json::{Value, json};

use super::answer::respond;
use super::body::Body;
use super::completions::prompts;
use crate::chat::{ChatTemplate, SpecialTexts};
use crate::decode::Finish;
use crate::expert::Token;
use crate::sampling::params::BiasKey;
use crate::server::engine::{Ended, Piece};
use crate::server::error::ApiError;
use crate::server::fields::{Fields, FromFields};
use crate::server::openai::completion::PromptInput;
use crate::server::openai::foreign;
use crate::server::openai::reply::{Choice, FINGERPRINT, Format, Head, additions, number, timings, token_text, with};
use crate::server::openai::request::{Asked, check_n, n_top};
use crate::server::readers::Purpose;
use crate::server::state::Server;

/// A request to `/completion`.
pub struct CompletionRequest {
    asked: Asked,
    prompt: PromptInput,
    format: LlamaFormat,
}

impl FromFields for CompletionRequest {
    const LENIENT: bool = true;

    fn read(fields: &mut Fields) -> Result<Self, ApiError> {
        foreign::read(fields)?;
        let lists_tokens = fields.flag("return_tokens")?;
        let wanted = fields.take("response_fields")?.unwrap_or_default();
        let logprobs = n_top(fields, "n_probs")?.filter(|n| *n > 0);
        let n: i64 = fields.take("n")?.unwrap_or(1);
        foreign::no_tools(fields)?;
        fields.only("logprobs", &[false.into()], "is called n_probs here")?;
        fields.only("return_rewards", &[false.into()], "must be false; /v1/completions gives rewards")?;
        let format = fields.take("response_format")?;
        let asked = Asked { logprobs, format, n: check_n(n, 1)?, ..Asked::read(fields, None)? };
        let prompt: PromptInput = fields.need_last("prompt")?;
        let listed = prompt.listed || asked.n > 1;
        Ok(Self { asked, prompt, format: LlamaFormat { lists_tokens, listed, wanted } })
    }
}

/// Continues prompts.
pub async fn completion(
    State(server): State<Arc<Server>>,
    body: Body<CompletionRequest>,
) -> Result<Response, ApiError> {
    let CompletionRequest { asked, prompt, format } = body.0;
    let asked = Asked { ignored: body.1, ..asked };
    respond(&server, asked, "cmpl-", format, move |readers| prompts(readers, prompt)).await
}

/// Writes llama.cpp's objects.
struct LlamaFormat {
    /// Whether a whole answer lists its tokens; chunks always do.
    lists_tokens: bool,
    /// Whether the answer is a list.
    listed: bool,
    /// The fields of the last object; all where it is empty.
    wanted: Vec<String>,
}

impl LlamaFormat {
    fn last(&self, head: &Head, index: usize, ended: &Ended, text: &str) -> Value {
        let kind = match ended.finish {
            Finish::Eos => "eos",
            Finish::Stop => "word",
            Finish::Length | Finish::Interrupted => "limit",
        };
        let prompt = head.prompts.get(index / head.n_per_prompt).map(|tokens| head.vocab.text(tokens, true));
        json!({
            "id": head.id,
            "index": index,
            "content": ended.text,
            "tokens": [],
            "id_slot": ended.slot,
            "stop": true,
            "model": head.model,
            "tokens_predicted": ended.n_generated,
            "tokens_evaluated": ended.n_prompt,
            "generation_settings": settings(head),
            "prompt": prompt,
            "has_new_line": text.contains('\n'),
            // A full context ends a text; nothing of it is dropped.
            "truncated": kind == "limit" && ended.n_prompt + ended.n_generated >= head.n_ctx,
            "stop_type": kind,
            "stopping_word": ended.stopped_by.as_deref().unwrap_or_default(),
            "tokens_cached": ended.n_prompt + ended.n_generated,
            "timings": timings(ended),
            "genarm": additions(head, Some(ended)),
        })
    }

    fn only_wanted(&self, object: Value) -> Value {
        if self.wanted.is_empty() {
            return object;
        }
        let pointed = |path: &String| Some((path.clone(), object.pointer(&format!("/{path}"))?.clone()));
        Value::Object(self.wanted.iter().filter_map(pointed).collect())
    }
}

impl Format for LlamaFormat {
    fn open(&mut self, _: &Head, _: usize) -> Vec<Value> {
        Vec::new()
    }

    fn piece(&mut self, head: &Head, index: usize, piece: &Piece) -> Vec<Value> {
        let chunk =
            json!({ "id": head.id, "index": index, "content": piece.text, "tokens": [piece.token], "stop": false });
        let probabilities = head.logprobs.map(|n| probabilities(head, n, std::iter::once(piece)));
        vec![with(chunk, "completion_probabilities", probabilities)]
    }

    fn ended(&mut self, head: &Head, index: usize, ended: &Ended) -> Vec<Value> {
        vec![self.only_wanted(self.last(head, index, ended, &ended.text))]
    }

    fn usage(&mut self, _: &Head, _: &[Ended]) -> Vec<Value> {
        Vec::new()
    }

    fn whole(&mut self, head: &Head, choices: &[Choice]) -> Value {
        let one = |choice: &Choice| {
            let mut object = self.last(head, choice.index, &choice.ended, &choice.text);
            object["content"] = choice.text.clone().into();
            if self.lists_tokens {
                object["tokens"] = choice.pieces.iter().map(|piece| piece.token).collect();
            }
            let probabilities = head.logprobs.map(|n| probabilities(head, n, choice.pieces.iter()));
            self.only_wanted(with(object, "completion_probabilities", probabilities))
        };
        let mut all: Vec<Value> = choices.iter().map(one).collect();
        if self.listed { all.into() } else { all.pop().unwrap_or_default() }
    }

    fn lists_tokens(&self) -> bool {
        true
    }

    fn repeats_prompt(&self) -> bool {
        true
    }

    fn says_done(&self) -> bool {
        false
    }
}

/// What the request asked for, with all that it did not say.
fn settings(head: &Head) -> Value {
    let mut settings = json!(head.params);
    let n_predict = i64::try_from(head.n_predict).unwrap_or(-1);
    let own = json!({
        "temperature": head.params.temp,
        "typical_p": head.params.typ_p,
        "repeat_last_n": head.params.penalty_last_n,
        "n_predict": n_predict,
        "max_tokens": n_predict,
        "n_probs": head.logprobs.unwrap_or(0),
        "stop": head.stop,
        "stream": head.stream,
        "logit_bias": biases(head),
        // Samplers that are not here.
        "adaptive_target": -1.0,
        "adaptive_decay": 0.9,
        "lora": [],
    });
    if let (Some(settings), Value::Object(own)) = (settings.as_object_mut(), own) {
        settings.extend(own);
    }
    settings
}

/// The biases by token, with those of `ignore_eos`: JSON has no infinity, so null stands for it.
fn biases(head: &Head) -> Value {
    let named = head.params.logit_bias.iter().map(|(key, bias)| match key {
        BiasKey::Token(token) => json!({ "token": token, "bias": bias.is_finite().then_some(bias) }),
        BiasKey::Text(text) => json!({ "text": text, "bias": bias.is_finite().then_some(bias) }),
    });
    let ends = head.params.ignore_eos.then(|| head.vocab.eog_tokens()).into_iter().flatten();
    named.chain(ends.map(|token| json!({ "token": token, "bias": null }))).collect()
}

/// llama.cpp's list of tokens with their log-probabilities: the guided ones.
fn probabilities<'a>(head: &Head, n_top: usize, pieces: impl Iterator<Item = &'a Piece>) -> Value {
    let one = |token: Token, bytes: &[u8], logprob: f32| {
        let text = token_text(&head.vocab, token).0;
        json!({ "id": token, "token": text, "bytes": bytes, "logprob": number(logprob) })
    };
    let piece = |piece: &Piece| {
        let report = piece.report.as_ref()?;
        let top = report.top.iter().take(n_top);
        let top: Value = top.map(|t| one(t.token, &token_text(&head.vocab, t.token).1, t.logprob)).collect();
        Some(with(one(piece.token, &piece.bytes, report.chosen.logprob), "top_logprobs", Some(top)))
    };
    pieces.filter_map(piece).collect()
}

/// A request to `/tokenize`.
pub struct TokenizeRequest {
    content: String,
    add_special: bool,
    parse_special: bool,
    with_pieces: bool,
}

impl FromFields for TokenizeRequest {
    fn read(fields: &mut Fields) -> Result<Self, ApiError> {
        Ok(Self {
            add_special: fields.flag("add_special")?,
            parse_special: fields.take("parse_special")?.unwrap_or(true),
            with_pieces: fields.flag("with_pieces")?,
            content: fields.need_last("content")?,
        })
    }
}

/// Text to tokens.
pub async fn tokenize(State(server): State<Arc<Server>>, body: Body<TokenizeRequest>) -> Result<Json<Value>, ApiError> {
    let TokenizeRequest { content, add_special, parse_special, with_pieces } = body.0;
    let vocab = server.prompts.vocab().clone();
    let read = move || {
        let tokens = vocab.tokenize(&content, add_special, parse_special);
        let tokens = tokens.map_err(|e| ApiError::of_tokens("content", &e, &e))?;
        // A piece that is no text by itself is a list of its bytes.
        let piece = |token: &Token| {
            let mut bytes = Vec::new();
            vocab.piece(*token, true, &mut bytes);
            let piece = String::from_utf8(bytes).map_or_else(|e| json!(e.as_bytes()), Value::String);
            json!({ "id": token, "piece": piece })
        };
        let list = if with_pieces { tokens.iter().map(piece).collect() } else { json!(tokens) };
        Ok(Json(json!({ "tokens": list })))
    };
    server.off_thread(Purpose::Answer, read).await
}

/// A request to `/detokenize`.
pub struct DetokenizeRequest {
    tokens: Vec<Token>,
}

impl FromFields for DetokenizeRequest {
    fn read(fields: &mut Fields) -> Result<Self, ApiError> {
        Ok(Self { tokens: fields.need_last("tokens")? })
    }
}

/// Tokens to text.
pub async fn detokenize(
    State(server): State<Arc<Server>>,
    body: Body<DetokenizeRequest>,
) -> Result<Json<Value>, ApiError> {
    let prompts = Arc::clone(&server.prompts);
    let read = move || {
        let prompt = prompts.tokens(body.0.tokens).map_err(|e| ApiError::of_prompt("tokens", &e))?;
        Ok(Json(json!({ "content": prompts.vocab().text(&prompt.base, true) })))
    };
    server.off_thread(Purpose::Answer, read).await
}

/// What is loaded.
pub async fn props(State(server): State<Arc<Server>>) -> Json<Value> {
    let sampling = &server.defaults().sampling;
    let special = SpecialTexts::of(server.prompts.vocab());
    let mut params = json!(sampling);
    params["temperature"] = sampling.temp.into();
    Json(json!({
        "default_generation_settings": { "n_ctx": server.n_ctx, "params": params },
        "total_slots": server.queue.n_slots(),
        "model_alias": server.model,
        "model_path": server.model_path,
        "modalities": { "vision": false, "audio": false },
        "chat_template": server.prompts.template(0).map(ChatTemplate::source),
        "bos_token": special.bos,
        "eos_token": special.eos,
        "endpoint_slots": server.shows_slots,
        "endpoint_metrics": server.shows_metrics,
        "endpoint_props": false,
        "build_info": FINGERPRINT,
    }))
}
