//! Values of llama.cpp's flags in genarm's words.

use std::path::Path;

type Words = Result<Vec<String>, String>;

fn one(word: String) -> Words {
    Ok(vec![word])
}

/// Nothing to do.
fn none() -> Words {
    Ok(Vec::new())
}

/// A switch that is on, off or left to the program; `None` for another word.
fn switch(value: &str) -> Option<&'static str> {
    match value {
        "on" | "enabled" | "true" | "1" => Some("on"),
        "off" | "disabled" | "false" | "0" => Some("off"),
        "auto" | "-1" => Some("auto"),
        _ => None,
    }
}

/// Whether a switch is on; `None` where it is left to the program, and for another word.
pub fn switched(value: &str) -> Option<bool> {
    match switch(value)? {
        "on" => Some(true),
        "off" => Some(false),
        _ => None,
    }
}

fn unknown(value: &str, expected: &str) -> Words {
    Err(format!("expected {expected}, got \"{value}\""))
}

/// `--flash-attn`.
pub fn flash_attn(value: &str) -> Words {
    switch(value).map_or_else(|| unknown(value, "on, off or auto"), |word| one(format!("--flash-attn={word}")))
}

/// `--color`: what is printed has no colours of its own.
pub fn color(value: &str) -> Words {
    switch(value).map_or_else(|| unknown(value, "on, off or auto"), |_| none())
}

/// `--log-colors`.
pub fn log_colors(value: &str) -> Words {
    match switch(value) {
        Some("auto") => none(),
        Some(_) => Err("colours follow the terminal, and NO_COLOR=1 turns them off".to_owned()),
        None => unknown(value, "on, off or auto"),
    }
}

/// `--lora-scaled FILE:SCALE,…`.
pub fn lora_scaled(value: &str) -> Words {
    let one = |item: &str| match item.rsplit_once(':') {
        Some((file, scale)) if !file.is_empty() && scale.trim().parse::<f32>().is_ok() => Ok(format!("--lora={item}")),
        _ => Err(format!("expected FILE:SCALE, such as {}:0.5, got \"{item}\"", example(item))),
    };
    value.split(',').map(one).collect()
}

/// The file of a wrong `FILE:SCALE`, for the example.
fn example(item: &str) -> &str {
    match item.rsplit_once(':') {
        Some((file, _)) if !file.is_empty() => file,
        _ if Path::new(item).extension().is_some() => item,
        _ => "adapter.gguf",
    }
}

/// `--load-mode`.
pub fn load_mode(value: &str) -> Words {
    let words: &[&str] = match value {
        "auto" => &[],
        "none" => &["--mmap=false"],
        "mmap" => &["--mmap=true"],
        "mlock" => &["--mmap=false", "--mlock=true"],
        "mmap+mlock" => &["--mmap=true", "--mlock=true"],
        "dio" => return Err("direct input is not used; --mmap=false reads the files without mapping them".to_owned()),
        _ => return unknown(value, "auto, none, mmap, mlock or mmap+mlock"),
    };
    Ok(words.iter().map(|word| (*word).to_owned()).collect())
}

/// `--fit`. Whether `off` can be followed depends on other flags.
pub fn fit(value: &str) -> Words {
    if switched(value).is_some() { none() } else { unknown(value, "on or off") }
}

/// Whether this flag is `--fit off`.
pub fn is_unfit(flag: &str, value: &str) -> bool {
    matches!(flag, "-fit" | "--fit") && switched(value) == Some(false)
}

/// `--ctx-checkpoints`.
pub fn checkpoints(value: &str) -> Words {
    only(value, "0", "sliding windows keep their whole cache, which needs no checkpoints, so leave it out")
}

/// `--lazy-mode`.
pub fn lazy_mode(value: &str) -> Words {
    match value {
        "auto" => none(),
        "on" | "off" => Err("llama.cpp chooses by the size of the tensors, so leave it out".to_owned()),
        _ => unknown(value, "auto"),
    }
}

/// A number that may only be one: `is` does what is so already.
fn only(value: &str, is: &str, advice: &str) -> Words {
    match value.parse::<f64>().ok() {
        None => unknown(value, "a number"),
        n if n == is.parse().ok() => none(),
        Some(_) => Err(advice.to_owned()),
    }
}

/// `--cache-reuse`.
pub fn cache_reuse(value: &str) -> Words {
    only(value, "0", "a slot reuses the longest prefix of a prompt and shifts nothing, so leave it out")
}

/// `--cache-ram`.
pub fn cache_ram(value: &str) -> Words {
    only(value, "0", "each slot keeps the cache of its last prompt, and there is no other; --parallel N makes N slots")
}

/// `--defrag-thold`, which has no effect in llama.cpp either.
pub fn defrag_thold(value: &str) -> Words {
    value.parse::<f64>().map_or_else(|_| unknown(value, "a number"), |_| none())
}

/// `--keep`.
pub fn keep(value: &str) -> Words {
    only(value, "0", "a full context ends the text, and nothing of it is dropped, so leave it out")
}

/// `--sse-ping-interval`.
pub fn ping(value: &str) -> Words {
    match value.parse::<i64>() {
        Ok(n) if n > 0 => none(),
        Ok(_) => Err("a stream always sends comments while nothing else comes, so leave it out".to_owned()),
        Err(_) => unknown(value, "a number"),
    }
}

/// `--sleep-idle-seconds`.
pub fn sleep(value: &str) -> Words {
    only(value, "-1", "models stay loaded while the server runs; stop the server to free their memory")
}

/// `--cors-origins`.
pub fn cors_origins(value: &str) -> Words {
    match value {
        "localhost" => Err("name the page's whole origin: --cors-origin http://localhost:3000".to_owned()),
        _ => Ok(value.split(',').map(|origin| format!("--cors-origin={}", origin.trim())).collect()),
    }
}

/// `--sampler-seq`: a letter per sampler.
pub fn sampler_letters(value: &str) -> Words {
    let name = |letter: char| match letter {
        'e' => Ok("penalties"),
        'd' => Ok("dry"),
        's' => Ok("top_n_sigma"),
        'k' => Ok("top_k"),
        'y' => Ok("typ_p"),
        'p' => Ok("top_p"),
        'm' => Ok("min_p"),
        'x' => Ok("xtc"),
        't' => Ok("temperature"),
        _ => Err(format!("expected letters among edskypmxt, got \"{value}\"; --samplers takes whole names")),
    };
    let names = value.chars().map(name).collect::<Result<Vec<_>, _>>()?;
    one(format!("--samplers={}", names.join(";")))
}

/// `--adaptive-target` and `--adaptive-decay`.
pub fn adaptive(value: &str) -> Words {
    match value.parse::<f64>() {
        Ok(target) if target < 0.0 => none(),
        Ok(_) => {
            Err("the sampler adaptive-p is not there; --mirostat 2 --mirostat-tau X aims at a surprise".to_owned())
        }
        Err(_) => unknown(value, "a number"),
    }
}

fn variable(name: &str, value: impl Into<serde_json::Value>) -> Words {
    one(format!("--chat-template-kwargs={}", serde_json::json!({ name: value.into() })))
}

/// `--reasoning`.
pub fn reasoning(value: &str) -> Words {
    match switch(value) {
        Some("on") => variable("enable_thinking", true),
        Some("off") => variable("enable_thinking", false),
        Some(_) => none(),
        None => unknown(value, "on, off or auto"),
    }
}

/// `--reasoning-effort`.
pub fn reasoning_effort(value: &str) -> Words {
    if value == "default" { none() } else { variable("reasoning_effort", value) }
}

/// `--reasoning-budget`.
pub fn reasoning_budget(value: &str) -> Words {
    match value.parse::<i64>() {
        Ok(-1) => none(),
        Ok(0) => variable("enable_thinking", false),
        Ok(n) if n > 0 => Err("thoughts have no bound of their own: 0 turns them off, -1 leaves them be".to_owned()),
        _ => unknown(value, "-1 or 0"),
    }
}

/// `--reasoning-format` of the server.
pub fn served_thoughts(value: &str) -> Words {
    match value {
        "auto" | "deepseek" => none(),
        "none" => Err("a request says it: {\"reasoning_format\": \"none\"}".to_owned()),
        "deepseek-legacy" => Err("thoughts come as reasoning_content alone; a request with {\"reasoning_format\": \
                                  \"none\"} has them in the content"
            .to_owned()),
        _ => unknown(value, "auto or deepseek"),
    }
}

/// `--reasoning-format` of what is printed.
pub fn printed_thoughts(value: &str) -> Words {
    match value {
        "auto" | "none" => none(),
        "deepseek" | "deepseek-legacy" => {
            Err("thoughts are printed as the model writes them; genarm serve keeps them apart".to_owned())
        }
        _ => unknown(value, "auto or none"),
    }
}

/// `--verbosity`.
pub fn verbosity(value: &str) -> Words {
    match value.parse::<i64>() {
        Ok(..=2) => none(),
        Ok(3 | 4) => one("-v".to_owned()),
        Ok(_) => one("-vv".to_owned()),
        Err(_) => unknown(value, "a number from 0 to 5"),
    }
}

/// `--model-draft`.
pub fn model_draft(value: &str) -> Words {
    if value.is_empty() { unknown(value, "a file") } else { one(format!("--speculate=draft:{value}")) }
}

/// `--hf-repo`.
pub fn hub(value: &str) -> Words {
    one(format!("--base=hf:{}", value.strip_prefix("hf:").unwrap_or(value)))
}

/// `--hf-repo-draft`.
pub fn hub_draft(value: &str) -> Words {
    match value.strip_prefix("hf:").unwrap_or(value) {
        "" => unknown(value, "USER/REPO[:QUANT]"),
        name => one(format!("--speculate=draft:hf:{name}")),
    }
}

/// `--draft-min` and `--draft-p-min`.
pub fn draft_min(value: &str) -> Words {
    only(value, "0", "how much is drafted follows from measured times; --draft-max N bounds it")
}

/// `--spec-type`.
pub fn spec_type(value: &str) -> Words {
    match value {
        "none" => one("--speculate=off".to_owned()),
        "draft-mtp" => one("--speculate=mtp".to_owned()),
        // The model itself comes with -md.
        "draft-simple" => none(),
        _ if value.starts_with("ngram-") && !value.contains(',') => one("--speculate=lookup".to_owned()),
        _ => {
            Err("the drafters are those of --speculate: off, lookup, mtp, draft:FILE, backbone, arm or base".to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_becomes_genarms_words_or_says_what_to_do() {
        let said = |words: Words| words.map(|words| words.join(" ")).unwrap_or_else(|advice| format!("! {advice}"));
        for (words, expected) in [
            (flash_attn("1"), "--flash-attn=on"),
            (flash_attn("auto"), "--flash-attn=auto"),
            (lora_scaled("a.gguf:0.5,C:\\b.gguf:-1"), "--lora=a.gguf:0.5 --lora=C:\\b.gguf:-1"),
            (load_mode("mmap+mlock"), "--mmap=true --mlock=true"),
            (load_mode("auto"), ""),
            (sampler_letters("kpt"), "--samplers=top_k;top_p;temperature"),
            (reasoning_budget("0"), "--chat-template-kwargs={\"enable_thinking\":false}"),
            (reasoning_budget("-1"), ""),
            (verbosity("5"), "-vv"),
            (model_draft("d.gguf"), "--speculate=draft:d.gguf"),
            (spec_type("ngram-mod"), "--speculate=lookup"),
            (spec_type("draft-mtp"), "--speculate=mtp"),
            (cors_origins("http://a, http://b"), "--cors-origin=http://a --cors-origin=http://b"),
        ] {
            assert_eq!(said(words), expected);
        }
        for (words, advice) in [
            (lora_scaled("a.gguf"), "a.gguf:0.5"),
            (lora_scaled("a.gguf:x"), "a.gguf:0.5"),
            (sampler_letters("kz"), "--samplers"),
            (reasoning_budget("512"), "0 turns them off"),
            (cache_reuse("256"), "leave it out"),
            (load_mode("dio"), "--mmap=false"),
            (spec_type("draft-eagle3"), "--speculate"),
            (draft_min("4"), "--draft-max"),
        ] {
            assert!(said(words.clone()).contains(advice) && words.is_err(), "{}: {advice}", said(words));
        }
    }
}
