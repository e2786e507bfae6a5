//! Prompts, conversations, sampling, and what is printed.

use super::flag::{CHAT, CLI, Flag, GENERATE, SERVE, TALKERS, already, file, instead, optional, same, value, words};
use super::values;

const TALK: &str = "use genarm chat to talk, or genarm generate --chat for one answer";
const RAW: &str = "genarm chat talks; genarm generate continues a prompt as it is";
const REQUESTS: &str = "prompts come in requests";
const NOT_THERE: &str = "newer versions of llama.cpp have no such flag, so leave it out";
const TEMPLATE: &str = "the chat template writes what stands around a message: --chat-template";
const CACHE: &str =
    "genarm serve keeps prompts decoded between requests; genarm chat --load FILE goes on with a conversation";
const NO_SHIFT: &str = "a full context ends the text, and nothing of it is dropped";

pub const FLAGS: &[Flag] = &[
    same(&["-p", "--prompt"], "prompt"),
    instead(&["-p", "--prompt"], REQUESTS).of(SERVE),
    same(&["--file"], "file"),
    instead(&["--file"], REQUESTS).of(SERVE),
    instead(&["-bf", "--binary-file"], "give the prompt's file, a text, with --file FILE"),
    same(&["-sys", "--system-prompt"], "system"),
    file(&["-sysf", "--system-prompt-file"], "system", "Read the system prompt from a file"),
    same(&["-e", "--escape"], "escape"),
    already(&["-e", "--escape", "--no-escape"], "requests are JSON, which has escapes").of(SERVE),
    already(&["--no-escape"], "texts are taken as they are, unless --escape asks for more").of(CLI),
    same(&["-n", "--predict", "--n-predict"], "n-predict").variable("LLAMA_ARG_N_PREDICT"),
    same(&["-r", "--reverse-prompt"], "stop"),
    instead(&["-r", "--reverse-prompt"], "a request names them as \"stop\"").of(SERVE),
    already(&["-cnv", "--conversation", "-i", "--interactive", "-if", "--interactive-first"], "chat is a conversation")
        .of(CHAT),
    instead(&["-cnv", "--conversation", "-i", "--interactive", "-if", "--interactive-first"], TALK),
    already(&["-no-cnv", "--no-conversation"], "the prompt is continued as it is, unless --chat asks for more")
        .of(GENERATE),
    instead(&["-no-cnv", "--no-conversation"], RAW),
    same(&["-st", "--single-turn"], "single-turn"),
    already(&["-st", "--single-turn"], "it ends after one text, beside --chat or -no-cnv").of(GENERATE),
    instead(&["-st", "--single-turn"], "genarm generate --chat gives one answer"),
    instead(&["-ins", "--instruct", "-cml", "--chatml"], TALK),
    instead(&["-mli", "--multiline-input"], "write a message of several lines between \"\"\" and \"\"\""),
    instead(&["--in-prefix", "--in-suffix", "--in-prefix-bos"], TEMPLATE),
    already(&["--no-display-prompt"], "the prompt is not printed"),
    instead(&["--display-prompt"], "the prompt is not printed, so leave it out"),
    instead(
        &["--verbose-prompt"],
        "generate --json reports the prompt's length, and /apply-template of genarm serve its text",
    ),
    instead(&["-ptc", "--print-token-count"], "generate --json reports the number of tokens"),
    instead(&["-sp", "--special"], "control tokens are not printed; generate --json lists every token"),
    optional(&["-co", "--color"], "accepted: answers have no colours", values::color),
    already(&["--simple-io"], "what is printed is plain where it goes to no terminal").of(CLI),
    instead(&["-o", "--output", "--output-file"], "send the text to a file with > FILE").of(CLI),
    instead(&["--prompt-cache", "--prompt-cache-all", "--prompt-cache-ro"], CACHE),
    already(&["--no-context-shift"], NO_SHIFT),
    instead(&["--context-shift"], "a full context ends the text, and nothing of it is dropped, so leave it out"),
    value(&["--keep"], "`0` is so already", values::keep),
    instead(&["--server-base"], "genarm chat runs the models itself: --base FILE"),
    instead(&["--completion-bash"], "genarm completions bash prints it"),
    instead(&["--version"], "genarm --version shows it"),
    words(&["--usage"], &["--help"]),
    // Sampling
    same(&["-s", "--seed"], "seed"),
    same(&["--temp", "--temperature"], "temp").variable("LLAMA_ARG_TEMPERATURE"),
    same(&["--dynatemp-range"], "dynatemp-range"),
    same(&["--dynatemp-exp"], "dynatemp-exponent"),
    same(&["--top-k"], "top-k").variable("LLAMA_ARG_TOP_K"),
    same(&["--top-p"], "top-p").variable("LLAMA_ARG_TOP_P"),
    same(&["--min-p"], "min-p").variable("LLAMA_ARG_MIN_P"),
    same(&["--top-nsigma", "--top-n-sigma"], "top-n-sigma"),
    same(&["--xtc-probability"], "xtc-probability"),
    same(&["--xtc-threshold"], "xtc-threshold"),
    same(&["--typical", "--typical-p"], "typ-p"),
    same(&["--repeat-last-n"], "penalty-last-n"),
    same(&["--repeat-penalty"], "repeat-penalty").variable("LLAMA_ARG_REPEAT_PENALTY"),
    same(&["--presence-penalty"], "presence-penalty").variable("LLAMA_ARG_PRESENCE_PENALTY"),
    same(&["--frequency-penalty"], "frequency-penalty").variable("LLAMA_ARG_FREQUENCY_PENALTY"),
    same(&["--dry-multiplier"], "dry-multiplier"),
    same(&["--dry-base"], "dry-base"),
    same(&["--dry-allowed-length"], "dry-allowed-length"),
    same(&["--dry-penalty-last-n"], "dry-penalty-last-n"),
    same(&["--dry-sequence-breaker"], "dry-sequence-breaker"),
    same(&["--mirostat"], "mirostat"),
    same(&["--mirostat-ent"], "mirostat-tau"),
    same(&["--mirostat-lr"], "mirostat-eta"),
    value(&["--adaptive-target", "--adaptive-decay"], "a negative target is so already", values::adaptive),
    same(&["--samplers"], "samplers"),
    value(&["--sampler-seq", "--sampling-seq"], "`--samplers`, by letters", values::sampler_letters),
    same(&["--ignore-eos"], "ignore-eos"),
    same(&["-l", "--logit-bias"], "logit-bias"),
    same(&["--grammar"], "grammar"),
    file(&["--grammar-file"], "grammar", "Read the grammar from a file"),
    same(&["-j", "--json-schema"], "json-schema"),
    file(&["-jf", "--json-schema-file"], "json-schema", "Read the JSON Schema from a file"),
    instead(&["--tfs", "--penalize-nl", "--no-penalize-nl"], NOT_THERE),
    // Chat templates
    already(&["--jinja"], "chat templates are Jinja"),
    instead(&["--no-jinja"], "chat templates are always Jinja; --chat-template takes a built-in name, too"),
    same(&["--chat-template"], "chat-template").variable("LLAMA_ARG_CHAT_TEMPLATE"),
    file(&["--chat-template-file"], "chat-template", "Read the chat template of the base from a file")
        .variable("LLAMA_ARG_CHAT_TEMPLATE_FILE"),
    same(&["--chat-template-kwargs"], "chat-template-kwargs").variable("LLAMA_ARG_CHAT_TEMPLATE_KWARGS"),
    value(&["-rea", "--reasoning"], "`--chat-template-kwargs '{\"enable_thinking\": …}'`", values::reasoning)
        .of(TALKERS)
        .variable("LLAMA_ARG_REASONING"),
    value(
        &["--reasoning-budget"],
        "`-1` is so already; `0` is `--chat-template-kwargs '{\"enable_thinking\": false}'`",
        values::reasoning_budget,
    )
    .of(TALKERS)
    .variable("LLAMA_ARG_THINK_BUDGET"),
    value(&["--reasoning-effort"], "`--chat-template-kwargs '{\"reasoning_effort\": …}'`", values::reasoning_effort)
        .of(TALKERS)
        .variable("LLAMA_ARG_REASONING_EFFORT"),
    instead(
        &["-rea", "--reasoning", "--reasoning-budget", "--reasoning-effort"],
        "the template decides; with --chat, --chat-template-kwargs '{\"enable_thinking\": false}' turns thoughts off",
    )
    .of(GENERATE),
    value(&["--reasoning-format"], "`auto` and `deepseek` are so already", values::served_thoughts).of(SERVE),
    value(&["--reasoning-format"], "`auto` and `none` are so already", values::printed_thoughts).of(CLI),
    instead(
        &["--reasoning-budget-message", "--reasoning-preserve", "--no-reasoning-preserve"],
        "what becomes of thoughts is the template's matter, so leave it out",
    ),
    already(&["--no-skip-chat-parsing"], "answers are parsed as the template writes them").of(SERVE),
    instead(&["--skip-chat-parsing"], "a request says it: {\"reasoning_format\": \"none\"}").of(SERVE),
    already(&["--skip-chat-parsing", "--no-skip-chat-parsing"], "answers are printed as the model writes them").of(CLI),
    // Logs
    already(&["--log-disable"], "llama.cpp's log is off, unless -v asks for it"),
    same(&["--log-verbose"], "verbose"),
    value(&["-lv", "--verbosity", "--log-verbosity"], "`-v` from 3, `-vv` from 5", values::verbosity),
    value(&["--log-colors"], "`auto` is so already", values::log_colors),
    already(&["--no-log-jsonl"], "the log is text"),
    instead(&["--log-file"], "the log goes to standard error: 2> FILE"),
    instead(&["--log-jsonl", "--log-prefix", "--no-log-prefix"], "the log has one form, so leave it out"),
    instead(&["--log-timestamps", "--no-log-timestamps"], "the log has one form, so leave it out"),
    instead(&["--log-prompts-dir"], "with -v, genarm serve returns each prompt as __verbose"),
];
