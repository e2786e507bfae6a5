//! The server.

use super::flag::{Flag, SERVE, already, instead, same, value};
use super::values;

const PROXY: &str = "put a reverse proxy in front of the server (docs/server.md, Operation)";
const ONE_BASE: &str = "a server has one base: --base FILE";
const AGENT: &str = "the server runs no tools; a client calls them and sends their results";

pub const FLAGS: &[Flag] = &[
    same(&["--host"], "host").variable("LLAMA_ARG_HOST"),
    same(&["--port"], "port").variable("LLAMA_ARG_PORT"),
    same(&["-np", "--parallel", "--n-parallel"], "parallel").variable("LLAMA_ARG_N_PARALLEL"),
    already(&["-cb", "--cont-batching"], "texts share batches"),
    instead(&["-nocb", "--no-cont-batching"], "--parallel 1 takes one text at a time"),
    same(&["-a", "--alias"], "alias").variable("LLAMA_ARG_ALIAS"),
    same(&["--api-key"], "api-key").variable("LLAMA_API_KEY"),
    same(&["--api-key-file"], "api-key-file").variable("LLAMA_ARG_API_KEY_FILE"),
    same(&["-to", "--timeout"], "idle-timeout").variable("LLAMA_ARG_TIMEOUT"),
    same(&["--metrics"], "metrics").variable("LLAMA_ARG_ENDPOINT_METRICS"),
    already(&["--slots"], "/slots is there").of(SERVE),
    same(&["--no-slots"], "no-slots"),
    instead(&["--props"], "PUT /v1/preferences changes weights, and requests everything else"),
    already(&["--ui", "--webui"], "the page is at /").of(SERVE),
    same(&["--no-ui", "--no-webui"], "no-ui"),
    instead(
        &["--ui-config", "--webui-config", "--ui-config-file", "--webui-config-file"],
        "the page keeps its settings in the browser",
    ),
    instead(
        &[
            "--ui-mcp-proxy",
            "--webui-mcp-proxy",
            "--tools",
            "--tools-runtime",
            "--mcp-servers-config",
            "--mcp-servers-json",
            "-ag",
            "--agent",
        ],
        AGENT,
    ),
    already(&["--no-ui-mcp-proxy", "--no-webui-mcp-proxy", "-no-ag", "--no-agent"], "the server runs no tools")
        .of(SERVE),
    instead(&["--path"], "the page is part of the program; --no-ui leaves it out"),
    value(&["--cors-origins"], "`--cors-origin`, once per origin", values::cors_origins)
        .of(SERVE)
        .variable("LLAMA_ARG_CORS_ORIGINS"),
    already(&["--no-cors-credentials"], "no credentials are asked for").of(SERVE),
    instead(
        &["--cors-methods", "--cors-headers", "--cors-credentials"],
        "--cors-origin ORIGIN allows what the API needs",
    ),
    instead(&["--reuse-port", "--api-prefix", "--ssl-key-file", "--ssl-cert-file"], PROXY),
    value(&["--sse-ping-interval"], "a number above 0 is accepted: streams send comments", values::ping).of(SERVE),
    instead(&["--threads-http"], "a connection takes no thread of its own, so leave it out"),
    already(&["--cache-prompt"], "a slot keeps its last prompt decoded"),
    instead(&["--no-cache-prompt"], "a request says it: {\"cache_prompt\": false}"),
    value(&["--cache-reuse"], "`0` is so already", values::cache_reuse),
    instead(&["-sps", "--slot-prompt-similarity"], "a text takes the slot with the longest prefix of its prompt"),
    same(&["--slot-save-path"], "slot-save-path"),
    instead(&["--media-path"], "genarm reads and writes text; images and sound are for llama.cpp's own tools"),
    instead(
        &["--models-dir", "--models-preset", "--models-max", "--models-autoload", "--no-models-autoload"],
        ONE_BASE,
    ),
    instead(&["--tags"], "--alias NAME,… names the model"),
    already(&["--prefill-assistant"], "a last message of the assistant is continued").of(SERVE),
    instead(&["--no-prefill-assistant"], "a request says it: {\"continue_final_message\": false}"),
    instead(
        &["--lora-init-without-apply"],
        "--lora FILE:SCALE sets how strong an adapter is; ARMs have weights per request",
    ),
    value(&["--sleep-idle-seconds"], "`-1` is so already", values::sleep).of(SERVE),
    instead(&["--spm-infill"], "genarm fills no gaps: there is no /infill"),
];
