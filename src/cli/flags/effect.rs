//! Flags that a command takes and does nothing with, by itself or beside others: refused by name.
//!
//! Most commands share the flags of a configuration, and none of them uses all. Only what was typed is refused: a
//! configuration may say more than a command needs.

use clap::parser::ValueSource;
use clap::{ArgMatches, Args as _, Command};

use super::called;
use super::variables::Variables;
use crate::config::{Config, Overrides, SamplingOptions, Speculate, SplitMode};
use crate::eval::pairs::RaterSpec;
use crate::eval::scorers::{Kind, ScorerSpec};
use crate::sampling::params::{Mirostat, RANDOM_SEED};

/// Flags of a command without effect, where `when` holds.
struct Rule {
    commands: &'static [&'static str],
    flags: &'static [&'static str],
    when: fn(&Given<'_>) -> bool,
    why: &'static str,
}

const ALWAYS: fn(&Given<'_>) -> bool = |_| true;
const NO_CHAT: fn(&Given<'_>) -> bool = |given| !given.has("chat");
/// What stands for all flags of the heading "Sampling".
const SAMPLING: &str = "(sampling)";

const CONVERSATION: &[&str] = &["system", "chat_template", "chat_template_kwargs"];
const JUDGES: &[&str] = &["criteria", "judge_logprobs", "judge_model", "judge_key", "judge_jobs"];
const DRAFTING: &[&str] = &["speculate", "draft_max"];

const RULES: &[Rule] = &[
    Rule {
        commands: &["generate"],
        flags: CONVERSATION,
        when: NO_CHAT,
        why: "it is for conversations, and generate continues the prompt as it is; add --chat, or use genarm chat",
    },
    Rule {
        commands: &["score", "sweep", "compare", "duel"],
        flags: CONVERSATION,
        when: NO_CHAT,
        why: "it is for conversations; add --chat",
    },
    Rule {
        commands: &["score", "accuracy", "calibrate"],
        flags: &["chat_template_kwargs"],
        when: ALWAYS,
        why: "conversations are read as they were written; generate, chat, serve, sweep and compare take it",
    },
    Rule { commands: &["calibrate"], flags: CONVERSATION, when: NO_CHAT, why: "it is for conversations; add --chat" },
    Rule {
        commands: &["calibrate"],
        flags: &["weights", "profile", "max_kl", "plausible", "on_error", "speculate", "draft_max"],
        when: ALWAYS,
        why: "each ARM is measured by itself at many weights, along texts of the base",
    },
    Rule {
        commands: &["accuracy"],
        flags: &["max_kl", "plausible"],
        when: ALWAYS,
        why: "each ARM is measured by itself",
    },
    Rule { commands: &["inspect"], flags: &["max_kl", "plausible"], when: ALWAYS, why: "nothing is generated" },
    Rule {
        commands: &["inspect"],
        flags: &["translate"],
        when: |given| !given.has("plan"),
        why: "every file is compared with the first, and what a translation would take is said of each",
    },
    Rule { commands: &["bench"], flags: CONVERSATION, when: ALWAYS, why: "bench reads no conversation" },
    Rule {
        commands: &["score", "accuracy"],
        flags: &[SAMPLING, "on_error"],
        when: ALWAYS,
        why: "it generates no text",
    },
    Rule { commands: &["score", "accuracy"], flags: DRAFTING, when: ALWAYS, why: "it generates no text" },
    Rule {
        commands: &["score"],
        flags: &["show"],
        when: |given| given.has("json") && !given.has("svg"),
        why: "--json prints every ARM",
    },
    Rule {
        commands: &["accuracy"],
        flags: &["weights", "profile"],
        when: ALWAYS,
        why: "each ARM is measured by itself, whatever its weight",
    },
    Rule { commands: &["sweep"], flags: &["weights", "profile"], when: ALWAYS, why: "the weights are those of --grid" },
    Rule {
        commands: &["sweep", "compare", "duel"],
        flags: DRAFTING,
        when: ALWAYS,
        why: "texts are made many at once, without drafts",
    },
    Rule {
        commands: &["pairs"],
        flags: &["weights", "profile", "max_kl", "plausible", "on_error", "speculate", "draft_max"],
        when: ALWAYS,
        why: "the base answers alone",
    },
    Rule {
        commands: &["sweep", "compare", "pairs"],
        flags: JUDGES,
        when: |given| !given.judges(|kind| matches!(kind, Kind::Judge(_))),
        why: "no judge:URL is asked",
    },
    Rule {
        commands: &["compare"],
        flags: &["gap"],
        when: |given| !given.judges(|kind| !matches!(kind, Kind::Judge(_))),
        why: "a judge:URL compares texts and rates none",
    },
    Rule { commands: &["bench"], flags: &["speculate"], when: ALWAYS, why: "name what to compare with --drafters" },
    Rule { commands: &["bench"], flags: &["seed"], when: ALWAYS, why: "each turn has a seed of its own" },
    Rule {
        commands: &["bench"],
        flags: &["draft_max"],
        when: |given| !given.has("drafters"),
        why: "nothing is drafted without --drafters",
    },
    Rule {
        commands: &["bench"],
        flags: &["n_prompt"],
        when: |given| given.has("drafters"),
        why: "--drafters continues texts; give them with --prompt",
    },
    Rule {
        commands: &["bench"],
        flags: &["keep_models"],
        when: |given| !given.has("synthetic") && !given.has("inflate"),
        why: "no model is made without --synthetic or --inflate",
    },
    Rule {
        commands: &["bench"],
        flags: &["n_prompt", "n_gen", "repeats", "draft_max", "weights", "profile", "max_kl", "plausible", SAMPLING],
        when: |given| given.has("noise"),
        why: "--noise reads a text once in each way, and generates none",
    },
    Rule {
        commands: &["bench"],
        flags: &["config"],
        when: |given| given.has("inflate"),
        why: "--from names the models",
    },
    Rule {
        commands: &["inspect"],
        flags: &["all"],
        when: |given| given.has("json") || given.has("plan"),
        why: "it is for the description of files; --json has all metadata",
    },
    Rule {
        commands: &["inspect"],
        flags: &[SAMPLING, "system", "chat_template", "chat_template_kwargs", "on_error", "draft_max"],
        when: ALWAYS,
        why: "nothing is generated",
    },
    Rule {
        commands: &["inspect"],
        flags: &[
            "config",
            "base",
            "lora",
            "arms",
            "personas",
            "weights",
            "profile",
            "speculate",
            "share_batch",
            "rpc",
            "rpc_timeout",
            "n_gpu_layers",
            "threads",
            "threads_batch",
            "use_mmap",
            "use_mlock",
            "device",
            "split_mode",
            "main_gpu",
            "tensor_split",
        ],
        when: |given| !given.has("plan"),
        why: "inspect reads files as they are; --plan shows where a configuration would go",
    },
    Rule { commands: &["weights"], flags: &["config"], when: |given| given.has("file"), why: "FILE names the file" },
];

/// What was typed for a command.
struct Given<'a>(&'a ArgMatches);

impl Given<'_> {
    fn has(&self, id: &str) -> bool {
        self.0.ids().any(|known| known.as_str() == id) && self.0.value_source(id) == Some(ValueSource::CommandLine)
    }

    /// Whether a scorer or judge is of a kind.
    fn judges(&self, of_kind: fn(&Kind) -> bool) -> bool {
        let specs = |id| self.0.try_get_many::<ScorerSpec>(id).ok().flatten().into_iter().flatten();
        let rater = self.0.try_get_one::<RaterSpec>("scorer").ok().flatten();
        let rater = rater.and_then(|rater| if let RaterSpec::Scorer(spec) = rater { Some(spec) } else { None });
        specs("scorers").chain(specs("judge")).chain(rater).any(|spec| of_kind(&spec.kind))
    }
}

/// Refuses what was typed for the command `name` and would do nothing.
///
/// # Errors
///
/// One line that names the flag.
pub fn check(name: &str, command: Option<&Command>, matches: &ArgMatches) -> Result<(), String> {
    let (Some(command), given) = (command, Given(matches)) else { return Ok(()) };
    let sampling = SamplingOptions::augment_args(Command::new("sampling"));
    let sampling: Vec<&str> = sampling.get_arguments().map(|arg| arg.get_id().as_str()).collect();
    for rule in RULES.iter().filter(|rule| rule.commands.contains(&name)) {
        let flags = rule.flags.iter().flat_map(|flag| if *flag == SAMPLING { sampling.clone() } else { vec![*flag] });
        for flag in flags.filter(|flag| given.has(flag)) {
            if (rule.when)(&given) {
                let arg = command.get_arguments().find(|arg| arg.get_id() == flag);
                let long = arg.and_then(clap::Arg::get_long).unwrap_or(flag);
                return Err(format!("{}: --{long} has no effect: {}", called(command), rule.why));
            }
        }
    }
    Ok(())
}

/// Refuses flags that need something which neither the command line nor the file says. What variables say is for all
/// commands, and not refused. `drafts`: the command drafts tokens.
///
/// # Errors
///
/// One line that names the flag.
pub fn check_config(typed: &Overrides, variables: &Variables, config: &Config, drafts: bool) -> Result<(), String> {
    let sampling = &typed.sampling;
    let nothing = match (&typed.speculate, config.sampling.seed) {
        (Some(Speculate::Off), _) | (_, RANDOM_SEED) => "nothing is drafted under --speculate off",
        _ => "with a seed nothing is drafted, unless --speculate names a drafter",
    };
    let params = &config.sampling;
    let needs = [
        (typed.draft_max.is_some() && drafts && config.speculate == Speculate::Off, "draft-max", nothing),
        (typed.rpc_timeout.is_some() && config.base.rpc.is_empty(), "rpc-timeout", "no server is named; add --rpc"),
        (
            typed.engine.main_gpu.is_some() && config.base.split_mode != SplitMode::None,
            "main-gpu",
            "it chooses the device under --split-mode none",
        ),
        (
            sampling.mirostat_tau.is_some() && params.mirostat == Mirostat::Off,
            "mirostat-tau",
            "add --mirostat 1 or --mirostat 2",
        ),
        (
            sampling.mirostat_eta.is_some() && params.mirostat == Mirostat::Off,
            "mirostat-eta",
            "add --mirostat 1 or --mirostat 2",
        ),
        (
            sampling.dynatemp_exponent.is_some() && params.dynatemp_range == 0.0,
            "dynatemp-exponent",
            "add --dynatemp-range",
        ),
        (sampling.xtc_threshold.is_some() && params.xtc_probability == 0.0, "xtc-threshold", "add --xtc-probability"),
    ];
    match needs.iter().find(|(wrong, flag, _)| *wrong && !variables.say(&flag.replace('-', "_"))) {
        Some((_, flag, why)) => Err(format!("--{flag} has no effect: {why}")),
        None => Ok(()),
    }
}
