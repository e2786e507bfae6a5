//! The ways to ask for a text in this process, by the command line and over HTTP.
#![allow(unsafe_code)]

use genarm::decode::{Chain, Finish, Flow};
use genarm::engine::llama::Vocab;
use genarm::sampling::vtable::{into_raw, own_init};
use genarm::sampling::{Hook, HookState, Sampler};
use genarm::session::{Detokenizer, Prompt, Session, SessionError};
use genarm::{Expert, Token};
use llama_cpp_sys_2 as sys;
use serde_json::{Value, json};

use super::{Case, Outcome, ROUNDING};
use crate::server::Serve;
use crate::server::doors::{CHAT, Door};
use crate::support::binary;
use crate::support::random::Noise;

/// What a session did beside the text.
pub struct Did {
    pub shares: bool,
    pub drafted: u64,
}

fn open(case: &Case, more: &Value) -> Result<Session, SessionError> {
    let session = Session::open(case.config(more), &mut |_, _| true)?;
    for (name, weight) in &case.weights {
        session.weights().set(name, *weight).expect("a weight of the case");
    }
    Ok(session)
}

pub fn prompt(case: &Case, session: &Session) -> Prompt {
    match (&case.prompt, &case.messages) {
        (Some(text), None) => session.text_prompt(text).expect("a prompt"),
        (None, Some(messages)) => session.prompts().chat(messages, "").expect("a prompt"),
        _ => panic!("{}: give either a prompt or messages", case.name()),
    }
}

fn finish(finish: Finish) -> String {
    if finish == Finish::Length { "length".into() } else { "stop".into() }
}

/// Tokens as text, up to the stop strings of a case.
struct Shown {
    pieces: Detokenizer,
    text: String,
}

impl Shown {
    fn new(case: &Case, vocab: &Vocab) -> Self {
        Self { pieces: Detokenizer::new(vocab.clone(), case.stop.clone()), text: String::new() }
    }

    fn push(&mut self, token: Token) -> Flow {
        let flow = self.pieces.push(token);
        self.text += &self.pieces.take_text();
        flow
    }

    fn finish(mut self, finish: String) -> Outcome {
        let end = self.pieces.finish();
        Outcome { text: self.text + &self.pieces.take_text() + &end, finish }
    }
}

/// A session of the library; nothing where the drafter of `more` cannot draft for this case.
pub fn library(case: &Case, more: &Value) -> Option<(Outcome, Did)> {
    let mut session = match open(case, more) {
        Err(SessionError::Speculate { .. }) => return None,
        opened => opened.unwrap_or_else(|e| panic!("{}: {e}", case.name())),
    };
    let prompt = prompt(case, &session);
    let params = session.config().sampling.clone();
    let mut sampler = session.sampler(&params).expect("a sampler");
    let mut shown = Shown::new(case, session.vocab());
    let generated = session.generate(&mut sampler, &prompt, case.n, &mut |step| shown.push(step.token));
    let generated = generated.unwrap_or_else(|e| panic!("{}: {e}", case.name()));
    let did = Did { shares: session.shared().iter().any(|s| s.shared), drafted: generated.speculation.drafted };
    Some((shown.finish(finish(generated.finish)), did))
}

/// What guides the rows of a base that runs elsewhere: it accepts the tokens that are new and changes the row after
/// them.
pub trait Guides {
    fn guide(&mut self, new: &[Token], row: &mut [f32]);
}

/// The loop of a host: the base computes a row, `guides` changes it, and llama.cpp's samplers draw from it.
pub fn host(case: &Case, session: &mut Session, guides: &mut dyn Guides) -> Outcome {
    let mut history = prompt(case, session).base;
    let vocab = session.vocab().clone();
    let params = session.config().sampling.clone();
    let mut sampler = Sampler::new(&params, &vocab, session.n_ctx(), None).expect("a sampler");
    history.iter().for_each(|token| sampler.accept(*token, false));
    let mut shown = Shown::new(case, &vocab);
    let mut n_told = 0;
    for _ in 0..case.n {
        let mut row = session.base().advance(&history, 1).expect("a row").to_vec();
        guides.guide(&history[n_told..], &mut row);
        n_told = history.len();
        let token = sampler.sample(&row).expect("a token");
        sampler.accept(token, true);
        if vocab.is_eog(token) {
            return shown.finish("stop".into());
        }
        history.push(token);
        if shown.push(token) == Flow::Stop {
            return shown.finish("stop".into());
        }
    }
    shown.finish("length".into())
}

/// The sampler "genarm" in a chain of llama.cpp, both in C's hands.
struct RawHook {
    chain: *mut sys::llama_sampler,
    data: Vec<sys::llama_token_data>,
    noise: Option<Noise>,
}

impl RawHook {
    fn new(state: HookState, noise: Option<Noise>) -> Self {
        // SAFETY: `own_init` is llama.cpp's; the chain owns what is added to it.
        let chain = unsafe {
            let chain = sys::llama_sampler_chain_init(sys::llama_sampler_chain_default_params());
            sys::llama_sampler_chain_add(chain, into_raw(Hook::new(state), own_init).cast());
            chain
        };
        Self { chain, data: Vec::new(), noise }
    }
}

impl Guides for RawHook {
    fn guide(&mut self, new: &[Token], row: &mut [f32]) {
        // SAFETY: a live chain.
        new.iter().for_each(|token| unsafe { sys::llama_sampler_accept(self.chain, *token) });
        self.data.clear();
        self.data.extend(row.iter().zip(0..).map(|(logit, id)| sys::llama_token_data { id, logit: *logit, p: 0.0 }));
        let (data, size) = (self.data.as_mut_ptr(), self.data.len());
        let mut array = sys::llama_token_data_array { data, size, selected: -1, sorted: false };
        // SAFETY: a live chain, and candidates that outlive the call.
        unsafe { sys::llama_sampler_apply(self.chain, &mut array) };
        for (id, logit) in row.iter_mut().enumerate() {
            *logit = self.data[id].logit + ROUNDING * self.noise.as_mut().map_or(0.0, Noise::next);
        }
    }
}

impl Drop for RawHook {
    fn drop(&mut self) {
        // SAFETY: the last use.
        unsafe { sys::llama_sampler_free(self.chain) }
    }
}

/// The raw hook, once for each of `noises`: with a seed for noise, every logit is changed by up to [`ROUNDING`].
pub fn hook(case: &Case, noises: &[Option<u64>]) -> Vec<Outcome> {
    let mut session = open(case, &json!({"speculate": "off", "share_batch": "off"})).expect("a session");
    let mut ask = |noise: &Option<u64>| {
        let prompt = prompt(case, &session);
        session.hook().with_guide(|guide| guide.begin(prompt.base.len(), prompt.experts));
        let mut hook = RawHook::new(session.hook().clone(), noise.map(Noise));
        host(case, &mut session, &mut hook)
    };
    noises.iter().map(&mut ask).collect()
}

/// `genarm generate`; it has words for one message, and a system prompt before it.
pub fn command(case: &Case) -> Option<Outcome> {
    let (_folder, config) = case.file(&json!({}));
    let n = case.n.to_string();
    let mut args: Vec<String> = ["generate", "-f", &config, "--json", "-n", &n].map(Into::into).into();
    args.extend(case.flags());
    let mut flag = |name: &str, value: String| args.extend([name.to_owned(), value]);
    case.stop.iter().for_each(|stop| flag("--stop", stop.clone()));
    ["temp", "seed"].iter().for_each(|name| {
        if let Some(value) = case.sampling.get(*name) {
            flag(&format!("--{name}"), value.to_string());
        }
    });
    let roles = case.messages.iter().flatten().map(|message| message.role.as_str()).collect::<Vec<_>>();
    let messages = case.messages.as_deref().unwrap_or_default();
    match roles[..] {
        [] => {}
        ["user"] => args.push("--chat".into()),
        ["system", "user"] => args.extend(["--chat".into(), "--system".into(), messages[0].content.clone()]),
        _ => return None,
    }
    let text = case.prompt.clone().or_else(|| messages.last().map(|message| message.content.clone()));
    args.extend(["--".to_owned(), text.expect("a text")]);
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    let answer = binary::json(&args);
    let text = answer["text"].as_str().expect("a text").to_owned();
    let finish = if answer["finish_reason"] == "length" { "length" } else { "stop" };
    Some(Outcome { text, finish: finish.into() })
}

/// `genarm serve`: its routes, each whole and in chunks.
pub fn server(case: &Case) -> Vec<(String, Outcome)> {
    let (_folder, config) = case.file(&json!({}));
    let server = Serve::start(&["--config", &config, "--parallel", "1"]);
    let mut body = json!({"max_tokens": case.n, "preferences": case.weights, "stop": case.stop});
    if let Some(profile) = &case.profile {
        body["profile"] = json!(profile);
    }
    for (name, field) in [("temp", "temperature"), ("seed", "seed")] {
        if let Some(value) = case.sampling.get(name) {
            body[field] = value.clone();
        }
    }
    match &case.messages {
        Some(messages) => body["messages"] = json!(messages),
        None => body["prompt"] = json!(case.prompt),
    }
    let is_raw = case.yaml(&json!({}))["prompt"]["chat_template"] == "raw";
    let has_words = |door: &Door| match case.messages {
        Some(_) => door.path == CHAT,
        // The template "raw" continues a message as it is.
        None => door.path != CHAT || is_raw,
    };
    let ask = |door: Door| {
        let answer = door.ask(&server, &body);
        let finish = if ["length", "limit"].contains(&answer.finish.as_str()) { "length" } else { "stop" };
        (format!("{door:?}"), Outcome { text: answer.text, finish: finish.into() })
    };
    Door::all().into_iter().filter(has_words).map(ask).collect()
}
