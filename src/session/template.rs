//! Through which template each model reads conversations.

use super::SessionError;
use super::experts::ExpertSetup;
use crate::chat::ChatTemplate;
use crate::config::Config;
use crate::engine::gguf::GgufFile;

/// Where `genarm train` records the template of the conversations that it rendered.
const TRAINED_WITH: &str = "genarm.template";

/// The base's template: the one that the configuration names, else its file's own.
pub fn of_base(config: &Config, file: &GgufFile) -> Result<Option<ChatTemplate>, SessionError> {
    Ok(named("base", config.prompt.chat_template.as_deref())?.or_else(|| own(file)))
}

/// An expert's template, and whether the configuration names it. Where it names none, the expert reads what it was
/// trained on: the template that its file records, else that of its model's file. A persona on the base's model reads
/// through the base's.
pub fn of_expert(
    config: &Config,
    expert: &ExpertSetup,
    model: &GgufFile,
    on_base: bool,
    of_base: Option<&ChatTemplate>,
) -> Result<(Option<ChatTemplate>, bool), SessionError> {
    if let Some(template) = named(&expert.who(), expert.reading.template.as_deref())? {
        return Ok((Some(template), true));
    }
    // A base that reads messages as they are has no conversations, so there are none for its ARMs.
    let raw = matches!(config.prompt.chat_template.as_deref(), Some("raw" | "none"));
    let recorded = if raw { None } else { recorded(expert, model) };
    let is_persona = expert.spare || expert.reading.is_persona();
    if recorded.is_none() && on_base && is_persona {
        return Ok((of_base.cloned(), false));
    }
    let template = recorded.map(|record| ChatTemplate::of_training(&record)).or_else(|| own(model));
    // A system prompt needs a template, so a model without one takes the base's.
    Ok((template.or_else(|| of_base.filter(|_| is_persona).cloned()), false))
}

fn recorded(expert: &ExpertSetup, model: &GgufFile) -> Option<String> {
    let record = |file: &GgufFile| file.str(TRAINED_WITH).map(str::to_owned);
    match expert.spec.lora.as_slice() {
        [] => record(model),
        // A missing file is reported where the adapter is loaded.
        adapters => adapters.iter().find_map(|adapter| record(&GgufFile::open(&adapter.path).ok()?)),
    }
}

fn own(file: &GgufFile) -> Option<ChatTemplate> {
    file.chat_template().map(ChatTemplate::of_model)
}

fn named(who: &str, setting: Option<&str>) -> Result<Option<ChatTemplate>, SessionError> {
    let fail = |source| SessionError::Template { who: who.into(), source };
    setting.map_or(Ok(None), ChatTemplate::from_setting).map_err(fail)
}
