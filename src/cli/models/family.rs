//! What a model's name says: its family with the size, and whether it was tuned to answer.

use std::collections::BTreeSet;

/// Words of tuned models.
const TUNED: [&str; 9] = ["instruct", "it", "chat", "tuned", "sft", "dpo", "rlhf", "assistant", "instruction"];
/// Words of models that are not.
const UNTUNED: [&str; 5] = ["base", "pt", "pretrained", "text", "foundation"];
/// Words that say how a file was made.
const OF_FILES: [&str; 15] =
    ["ollama", "gguf", "latest", "k", "m", "s", "l", "xl", "xs", "xxs", "ud", "imat", "nl", "0", "1"];

/// What the names of one model say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Kin {
    /// Family and size, such as `smollm2-135m`: one from each name.
    pub families: BTreeSet<String>,
    /// Whether a name says that it was tuned.
    pub tuned: bool,
}

impl Kin {
    /// Of a model with these names.
    pub fn of<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let mut kin = Self::default();
        for name in names {
            let words = words(name);
            kin.tuned |= words.iter().any(|word| TUNED.contains(&word.as_str()));
            let is_family = |word: &&String| {
                let word = word.as_str();
                !(TUNED.contains(&word) || UNTUNED.contains(&word) || OF_FILES.contains(&word) || is_quant(word))
            };
            let family = words.iter().filter(is_family).map(|word| with_number(word)).collect::<Vec<_>>().join("-");
            if family.contains(|c: char| c.is_ascii_digit()) && family.contains(|c: char| c.is_alphabetic()) {
                kin.families.insert(family);
            }
        }
        kin
    }

    /// Whether two models are of one family and size.
    pub fn is_of(&self, other: &Self) -> bool {
        !self.families.is_disjoint(&other.families)
    }
}

/// `llama3.2` as `llama-3.2`: publishers write both.
fn with_number(word: &str) -> String {
    match word.find(|c: char| c.is_ascii_digit()).filter(|at| *at > 0) {
        Some(at) => format!("{}-{}", &word[..at], &word[at..]),
        None => word.to_owned(),
    }
}

/// The words of a name, in lower case; a number keeps its point.
fn words(name: &str) -> Vec<String> {
    let (mut words, mut word) = (Vec::new(), String::new());
    let chars: Vec<char> = name.to_lowercase().chars().collect();
    for (i, c) in chars.iter().enumerate() {
        let is_digit = |at: Option<usize>| at.and_then(|at| chars.get(at)).is_some_and(char::is_ascii_digit);
        let is_point = *c == '.' && is_digit(i.checked_sub(1)) && is_digit(i.checked_add(1));
        if c.is_alphanumeric() || is_point {
            word.push(*c);
        } else if !word.is_empty() {
            words.push(std::mem::take(&mut word));
        }
    }
    words.extend((!word.is_empty()).then_some(word));
    words
}

/// Whether a word names a quantisation: `q4`, `iq3`, `bf16`.
fn is_quant(word: &str) -> bool {
    let digits = |rest: &str| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit());
    ["iq", "q", "bf", "fp", "f", "mxfp", "tq", "i"].iter().any(|kind| word.strip_prefix(kind).is_some_and(digits))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kin(name: &str) -> Kin {
        Kin::of([name])
    }

    #[test]
    fn tuned_models_are_kin_of_their_bases_whatever_the_publisher_calls_them() {
        for (tuned, base) in [
            ("SmolLM2-135M-Instruct-GGUF", "SmolLM2-135M"),
            ("SmolLM2-135M-Instruct.Q4_1.gguf", "smollm2-135m.Q8_0"),
            ("gemma-3-270m-it-qat-Q4_K_M", "gemma-3-270m-qat-pt"),
            ("Qwen2.5-0.5B-Instruct-GGUF", "Qwen2.5-0.5B-i1-IQ3_XXS"),
            ("Llama-2-7b-chat", "Llama-2-7b"),
            ("ollama:gemma3:270m-it-q8_0", "gemma-3-270m-GGUF:Q8_0"),
            ("llama3.2:1b-instruct-q4_K_M", "llama3.2:1b-text-fp16"),
        ] {
            let (tuned, base) = (kin(tuned), kin(base));
            assert!(tuned.is_of(&base) && tuned.tuned && !base.tuned, "{tuned:?} {base:?}");
        }
    }

    #[test]
    fn other_sizes_and_families_are_no_kin() {
        for (a, b) in [
            ("SmolLM2-135M-Instruct", "SmolLM2-360M"),
            ("Qwen2.5-0.5B-Instruct", "Qwen2-0.5B"),
            ("Qwen2.5-0.5B-Instruct", "Qwen2.5-Coder-0.5B"),
            ("model-instruct", "model"),
            ("", ""),
        ] {
            assert!(!kin(a).is_of(&kin(b)), "{a} {b}");
        }
    }
}
