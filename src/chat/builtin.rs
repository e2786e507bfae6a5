//! The templates that have a name, with their Jinja source: a file each. All white space between their tags is cut.

/// Anthropic's transcripts.
pub const HH: &str = include_str!("builtin/hh.jinja");

/// By name.
pub const BUILTIN: [(&str, &str); 15] = [
    ("chatml", include_str!("builtin/chatml.jinja")),
    ("llama2", include_str!("builtin/llama2.jinja")),
    ("llama3", include_str!("builtin/llama3.jinja")),
    ("zephyr", include_str!("builtin/zephyr.jinja")),
    ("alpaca", include_str!("builtin/alpaca.jinja")),
    ("gemma", include_str!("builtin/gemma.jinja")),
    ("mistral-v7", include_str!("builtin/mistral-v7.jinja")),
    ("phi3", include_str!("builtin/phi3.jinja")),
    ("command-r", include_str!("builtin/command-r.jinja")),
    ("deepseek", include_str!("builtin/deepseek.jinja")),
    ("vicuna", include_str!("builtin/vicuna.jinja")),
    ("monarch", include_str!("builtin/monarch.jinja")),
    ("hh", HH),
    ("raw", include_str!("builtin/raw.jinja")),
    ("none", include_str!("builtin/none.jinja")),
];
