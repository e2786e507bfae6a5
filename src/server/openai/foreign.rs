//! Fields that clients of OpenAI and of llama.cpp's server send and that have no effect here.
//!
//! A field that changes nothing in a text is accepted. One that would change it is accepted with the values that do
//! not; any other value is refused by the field's name, so that no answer leaves out what was asked for.

use serde_json::{Map, Value, json};

use crate::server::error::ApiError;
use crate::server::fields::Fields;

/// Names and notes.
const TEXTS: [&str; 6] =
    ["user", "verbosity", "service_tier", "safety_identifier", "prompt_cache_key", "prompt_cache_retention"];
const FLAGS: [&str; 3] = ["store", "timings_per_token", "return_progress"];
const OBJECTS: [&str; 3] = ["metadata", "prediction", "prompt_cache_options"];
/// Memory of llama.cpp's server, which is found without them; a full context never drops its beginning here.
const NUMBERS: [&str; 4] = ["n_keep", "n_discard", "n_cache_reuse", "t_max_prompt_ms"];

/// Reads them.
///
/// # Errors
///
/// A 400 that names the field whose value would have an effect.
pub fn read(fields: &mut Fields) -> Result<(), ApiError> {
    fields.ignore::<String>(&TEXTS)?;
    fields.ignore::<bool>(&FLAGS)?;
    fields.ignore::<Map<String, Value>>(&OBJECTS)?;
    fields.ignore::<i64>(&NUMBERS)?;
    for (name, harmless, help) in neutral() {
        fields.only(name, &harmless, help)?;
    }
    Ok(())
}

/// Fields of tools on a route that puts no conversation to a template.
///
/// # Errors
///
/// A 400 that names the field.
pub fn no_tools(fields: &mut Fields) -> Result<(), ApiError> {
    let help = "cannot be used here: a conversation calls tools, on /v1/chat/completions";
    fields.only("tools", &[json!([])], help)?;
    fields.only("tool_choice", &[json!("none"), json!("auto")], help)?;
    fields.ignore::<bool>(&["parallel_tool_calls"])
}

/// Fields of chat completions on routes that give one answer, without a word about its tokens.
///
/// # Errors
///
/// A 400 that names the field.
pub fn one_answer(fields: &mut Fields) -> Result<(), ApiError> {
    fields.only("n", &[json!(1)], "must be 1 here; /v1/chat/completions gives several answers")?;
    let help = "is not supported here; /v1/chat/completions lists tokens";
    for name in ["logprobs", "return_rewards"] {
        fields.only(name, &[json!(false)], help)?;
    }
    fields.only("top_logprobs", &[json!(0)], help)?;
    fields.only("verbose", &[json!(false)], "must be false here; /v1/chat/completions repeats the prompt")
}

/// Fields of llama.cpp's own route on OpenAI's.
///
/// # Errors
///
/// A 400 that names the field.
pub fn openai(fields: &mut Fields) -> Result<(), ApiError> {
    fields.only("n_probs", &[json!(0)], "must be 0; log-probabilities come with \"logprobs\"")?;
    fields.only("response_fields", &[json!([])], "is not supported here: an answer has all its fields")
}

/// A field, the values of it that have no effect, and what is said about the others.
type Neutral = (&'static str, Vec<Value>, &'static str);

fn neutral() -> Vec<Neutral> {
    let none = || vec![json!([])];
    vec![
        ("functions", none(), "are OpenAI's old name; send them as \"tools\""),
        ("function_call", vec![json!("none"), json!("auto")], "is OpenAI's old name; send it as \"tool_choice\""),
        ("modalities", vec![json!(["text"]), json!([])], "must be [\"text\"]: this server writes text only"),
        ("audio", vec![], "is not supported: this server writes text only"),
        ("web_search_options", vec![], "is not supported: this server reads nothing but the request"),
        ("echo", vec![json!(false)], "must be false: the prompt is not repeated in the answer"),
        ("suffix", vec![json!("")], "is not supported: texts are continued at their end only"),
        ("post_sampling_probs", vec![json!(false)], "must be false: probabilities are those before sampling"),
        ("t_max_predict_ms", vec![json!(0), json!(-1)], "is not supported; --request-timeout limits the time"),
        ("chat_template", vec![], "is not supported: start the server with --chat-template"),
        ("n_indent", vec![json!(0)], "is not supported"),
        ("lora", none(), "is not supported; give weights with \"preferences\""),
        ("image_data", none(), "is not supported: this server reads text only"),
    ]
}
