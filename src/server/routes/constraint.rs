//! What of a request takes a pass over the vocabulary: its grammar or schema, and DRY. Made before the engine sees it.

use std::sync::Arc;

use crate::expert::Token;
use crate::sampling::Dry;
use crate::sampling::grammar::{CallGrammar, Compiled, GrammarError};
use crate::sampling::params::SamplingParams;
use crate::server::error::ApiError;
use crate::server::openai::format::{ResponseFormat, SchemaSource};
use crate::server::openai::sampling::Sampling;
use crate::server::options::MAX_GRAMMAR_BYTES;
use crate::server::readers::Purpose;
use crate::server::state::Server;

/// Takes grammar and schema out of `params` and compiles them, away from the threads that serve connections and decode.
///
/// # Errors
///
/// A 400 about the field.
pub async fn constraint(
    server: &Server,
    sampling: &Sampling,
    format: Option<&ResponseFormat>,
    params: &mut SamplingParams,
) -> Result<Option<Arc<Compiled>>, ApiError> {
    let (grammar, schema) = (params.grammar.take(), params.json_schema.take());
    // A request without either does not wait for those that have one.
    if grammar.is_none() && schema.is_none() {
        return Ok(None);
    }
    let source = match format.map(ResponseFormat::schema).transpose()?.flatten() {
        Some((_, source)) => source,
        None if sampling.is_constrained() => Some(SchemaSource { field: "json_schema", strict: false }),
        // What the configuration asks for.
        None => None,
    };
    if let Some(source) = source {
        let field = if grammar.is_some() { "grammar" } else { source.field };
        if server.refuses_grammars {
            return Err(ApiError::invalid(field, format!("{field}: this server takes no grammars and no schemas")));
        }
        let n = grammar.as_ref().map_or(0, String::len) + schema.as_ref().map_or(0, |schema| schema.to_string().len());
        if n > MAX_GRAMMAR_BYTES {
            let message = format!("{field}: may have {MAX_GRAMMAR_BYTES} bytes, this has {n}");
            return Err(ApiError::invalid(field, message));
        }
    }
    let SchemaSource { field, strict } = source.unwrap_or(SchemaSource { field: "json_schema", strict: true });
    let vocab = server.prompts.vocab().clone();
    let compile = move || match (grammar, schema) {
        (Some(text), _) => Compiled::gbnf(&text, &vocab).map(Some),
        (None, Some(schema)) => Compiled::schema(&schema, strict, field, &vocab).map(Some),
        (None, None) => Ok(None),
    };
    let compile = move || compile().map_err(|error: GrammarError| ApiError::of_grammar(&error));
    server.off_thread(Purpose::Grammar, compile).await
}

/// Compiles the grammar of calls of tools.
///
/// # Errors
///
/// A 400 about `tools`.
pub async fn calls(
    server: &Server,
    grammar: CallGrammar,
    spelled: Vec<(Token, String)>,
) -> Result<Arc<Compiled>, ApiError> {
    if server.refuses_grammars {
        let message = "tools: this server takes no grammars, and calls follow one; send \"tool_choice\": \"none\"";
        return Err(ApiError::invalid("tools", message));
    }
    let vocab = server.prompts.vocab().clone();
    let compile = move || {
        let compiled = Compiled::calls(&grammar, &spelled, &vocab);
        compiled.map_err(|error| ApiError::of_grammar(&error))
    };
    server.off_thread(Purpose::Grammar, compile).await
}

/// Makes the DRY sampler of `params`, away from the threads that serve connections and decode.
///
/// # Errors
///
/// A 400 about `dry_sequence_breakers`.
pub async fn dry(server: &Server, params: &SamplingParams) -> Result<Option<Arc<Dry>>, ApiError> {
    // A request without DRY does not wait for those that have one.
    if !Dry::acts(params) {
        return Ok(None);
    }
    let (params, vocab, n_ctx) = (params.clone(), server.prompts.vocab().clone(), server.n_ctx);
    let make = move || Dry::of(&params, &vocab, n_ctx).map_err(|error| ApiError::of_chain(&error));
    server.off_thread(Purpose::Grammar, make).await
}
