//! Flags of llama.cpp's tools, which many have in their fingers.

/// What becomes of a foreign flag.
pub enum Foreign {
    /// genarm has the same under this long name.
    Same(&'static str),
    /// It has not; what to do instead.
    Instead(&'static str),
}

use Foreign::{Instead, Same};

const DOWNLOAD: &str = "genarm downloads from the Hugging Face hub alone (--base hf:USER/REPO); fetch the GGUF, then give it with --base FILE";
const TALK: &str = "use genarm chat to talk, or genarm generate --chat for one answer";
const RAW: &str = "genarm generate continues the prompt as it is, so leave it out; --chat applies the chat template";
const ADAPTER: &str = "name adapters in the configuration (`lora:` under `base:`), or as an ARM of it";
const DRAFT: &str = "give the draft model with --speculate draft:FILE";

/// By the flag as it is typed there.
const TABLE: &[(&[&str], Foreign)] = &[
    (&["-m", "--model"], Same("base")),
    (&["-p"], Same("prompt")),
    (&["-s"], Same("seed")),
    (&["-sys", "--system-prompt"], Same("system")),
    (&["-ngl", "--n-gpu-layers"], Same("n-gpu-layers")),
    (&["-b"], Same("n-batch")),
    (&["-ub"], Same("n-ubatch")),
    (&["-tb"], Same("threads-batch")),
    (&["-fa"], Same("flash-attn")),
    (&["-ctk"], Same("cache-type-k")),
    (&["-ctv"], Same("cache-type-v")),
    (&["-dev"], Same("device")),
    (&["-sm"], Same("split-mode")),
    (&["-mg"], Same("main-gpu")),
    (&["-ts"], Same("tensor-split")),
    (&["-l"], Same("logit-bias")),
    (&["-j"], Same("json-schema")),
    (&["-r", "--reverse-prompt"], Same("stop")),
    (&["-np", "--n-parallel"], Same("parallel")),
    (&["-hft"], Same("hf-token")),
    (
        &["-hf", "-hfr", "--hf-repo", "-hff", "--hf-file"],
        Instead("name the model in place of a file, as in --base hf:USER/REPO[:QUANT]"),
    ),
    (&["-mu", "--model-url", "-dr", "--docker-repo"], Instead(DOWNLOAD)),
    (
        &["-hfd", "-hfrd", "--hf-repo-draft"],
        Instead("give the draft model with --speculate draft:hf:USER/REPO[:QUANT]"),
    ),
    (&["-cnv", "--conversation", "-i", "--interactive", "-if", "--interactive-first"], Instead(TALK)),
    (&["-st", "--single-turn"], Instead(TALK)),
    (&["-no-cnv", "--no-conversation"], Instead(RAW)),
    (&["--jinja"], Instead("chat templates are always Jinja, so leave it out")),
    (&["--chat-template-file"], Instead("give the file with --chat-template FILE")),
    (&["--grammar-file"], Instead("give the grammar itself: --grammar \"$(cat FILE)\"")),
    (&["-jf", "--json-schema-file"], Instead("give the schema itself: --json-schema \"$(cat FILE)\"")),
    (&["-sysf", "--system-prompt-file"], Instead("give the text itself: --system \"$(cat FILE)\"")),
    (&["-bf", "--binary-file"], Instead("give the prompt's file with --file FILE")),
    (&["-md", "--model-draft"], Instead(DRAFT)),
    (&["--lora", "--lora-scaled"], Instead(ADAPTER)),
    (&["-e", "--escape", "--no-escape"], Instead("prompts are taken as they are; the shell's $'…' writes a line end")),
];

/// What a flag of llama.cpp means here.
pub fn meaning(flag: &str) -> Option<&'static Foreign> {
    TABLE.iter().find(|(names, _)| names.contains(&flag)).map(|(_, meaning)| meaning)
}
