//! An answer of each family, as its models write it, and what it says.

use std::path::PathBuf;

use genarm::engine::llama::{AnswerParser, AnswerTemplate};
use serde_json::{Value, json};

/// A template of llama.cpp's folder, an answer under it, and what the model thought in it; every answer calls
/// `weather`.
const FAMILIES: [(&str, &str, &str); 15] = [
    ("Qwen-Qwen2.5-7B-Instruct", HERMES, ""),
    ("NousResearch-Hermes-2-Pro-Llama-3-8B-tool_use", HERMES, ""),
    ("ibm-granite-granite-4.0", HERMES, ""),
    (
        "Qwen-Qwen3-0.6B",
        "<think>\nIt is hot.\n</think>\n\n<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"Rome\"}}\n</tool_call>",
        "It is hot.",
    ),
    ("meta-llama-Llama-3.1-8B-Instruct", "{\"name\": \"weather\", \"parameters\": {\"city\": \"Rome\"}}", ""),
    (
        "mistralai-Mistral-Nemo-Instruct-2407",
        "[TOOL_CALLS][{\"name\": \"weather\", \"arguments\": {\"city\": \"Rome\"}, \"id\": \"123456789\"}]",
        "",
    ),
    ("meetkai-functionary-medium-v3.2", "weather\n{\"city\": \"Rome\"}", ""),
    (
        "CohereForAI-c4ai-command-r7b-12-2024-tool_use",
        "<|START_THINKING|>It is hot.<|END_THINKING|><|START_ACTION|>[\n    {\"tool_call_id\": \"0\", \"tool_name\": \"weather\", \"parameters\": {\"city\": \"Rome\"}}\n]<|END_ACTION|>",
        "It is hot.",
    ),
    (
        "openai-gpt-oss-120b",
        "<|channel|>analysis<|message|>It is hot.<|end|><|start|>assistant<|channel|>commentary to=functions.weather <|constrain|>json<|message|>{\"city\": \"Rome\"}",
        "It is hot.",
    ),
    (
        "Qwen3-Coder",
        "<tool_call>\n<function=weather>\n<parameter=city>\nRome\n</parameter>\n</function>\n</tool_call>",
        "",
    ),
    ("LFM2-8B-A1B", "<|tool_call_start|>[weather(city=\"Rome\")]<|tool_call_end|>", ""),
    (
        "Kimi-K2-Instruct",
        "<|tool_calls_section_begin|><|tool_call_begin|>functions.weather:0<|tool_call_argument_begin|>{\"city\": \"Rome\"}<|tool_call_end|><|tool_calls_section_end|>",
        "",
    ),
    (
        "GLM-4.6",
        "\n<think>It is hot.</think>\n<tool_call>weather\n<arg_key>city</arg_key>\n<arg_value>Rome</arg_value>\n</tool_call>",
        "It is hot.",
    ),
    (
        "MiniMax-M2",
        "It is hot.\n</think>\n\n<minimax:tool_call>\n<invoke name=\"weather\">\n<parameter name=\"city\">Rome</parameter>\n</invoke>\n</minimax:tool_call>",
        "It is hot.",
    ),
    (
        "fireworks-ai-llama-3-firefunction-v2",
        " functools[{\"name\": \"weather\", \"arguments\": {\"city\": \"Rome\"}}]",
        "",
    ),
];
const HERMES: &str = "<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"Rome\"}}\n</tool_call>";

fn template(name: &str) -> AnswerTemplate {
    let folder = "target/peers/llama_cpp_python-0.3.36/vendor/llama.cpp/models/templates";
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(folder).join(format!("{name}.jinja"));
    let source = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    AnswerTemplate::new(&source, "<s>", "</s>").unwrap_or_else(|e| panic!("{name}: {e}"))
}

#[test]
#[ignore = "needs llama.cpp's templates: make test-peers"]
fn calls_and_thoughts_of_every_family_are_found_whole_and_in_parts() {
    let schema = json!({"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]});
    let function = json!({"name": "weather", "description": "The weather of a city", "parameters": schema});
    let asked = json!({
        "messages": [{"role": "user", "content": "Is it warm?"}],
        "tools": [{"type": "function", "function": function}],
        "tool_choice": "auto",
    });
    for (name, answer, thought) in FAMILIES {
        let applied = template(name).apply(&asked).unwrap_or_else(|e| panic!("{name}: {e}"));
        let parser = AnswerParser::new(&applied).unwrap_or_else(|e| panic!("{name}: {e}"));
        let said = parser.parse(answer, false).unwrap_or_else(|e| panic!("{name}: {e}"));
        let calls = said["tool_calls"].as_array().expect("a list");
        assert_eq!((calls.len(), &calls[0]["name"]), (1, &json!("weather")), "{name}: {said}");
        let arguments = calls[0]["arguments"].as_str().expect("a text");
        assert_eq!(serde_json::from_str::<Value>(arguments).expect("JSON"), json!({"city": "Rome"}), "{name}");
        assert_eq!(said["reasoning_content"].as_str().map(str::trim), Some(thought), "{name}: {said}");
        // While it comes, arguments only grow, up to those of the whole.
        let ends = answer.char_indices().map(|(at, _)| at).skip(1);
        let mut before = String::new();
        for end in ends {
            let Ok(part) = parser.parse(&answer[..end], true) else { continue };
            let now = part["tool_calls"][0]["arguments"].as_str().unwrap_or_default().to_owned();
            assert!(now.starts_with(&before) && arguments.starts_with(&now), "{name}: {before} {now} {arguments}");
            before = now;
        }
    }
}
