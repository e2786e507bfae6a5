//! The gold rewards: open functions of a text, standing in for human preference.

use std::collections::HashSet;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// Opinion words, from the Opinion Lexicon by Bing Liu (CC BY 4.0), as far as the demo corpus uses them.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lexicon {
    /// Words that praise, in lower case.
    pub positive: HashSet<String>,
    /// Words that blame, in lower case.
    pub negative: HashSet<String>,
}

/// Why there is no lexicon.
#[derive(Debug, thiserror::Error)]
#[error("{file}: {reason}; a lexicon is YAML with the lists `positive` and `negative`")]
pub struct LexiconError {
    /// Which file.
    file: String,
    /// What is wrong with it.
    reason: String,
}

impl Lexicon {
    /// Reads a YAML file with the lists `positive` and `negative`.
    ///
    /// # Errors
    ///
    /// [`LexiconError`].
    pub fn load(path: &Path) -> Result<Self, LexiconError> {
        let fail = |reason: String| LexiconError { file: path.display().to_string(), reason };
        let text = std::fs::read_to_string(path).map_err(|e| fail(e.to_string()))?;
        serde_saphyr::from_str(&text).map_err(|e| fail(e.to_string()))
    }
}

impl Default for Lexicon {
    /// The lexicon of the demo models, `models/lexicon.yaml`.
    fn default() -> Self {
        let empty = || Self { positive: HashSet::new(), negative: HashSet::new() };
        // A test reads it, so the fallback is never seen.
        serde_saphyr::from_str(include_str!("../../models/lexicon.yaml")).unwrap_or_else(|_| empty())
    }
}

/// The rewards by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
pub enum Gold {
    /// Positive less negative opinion words
    Cheerful,
    /// Double quotation marks
    Talkative,
    /// Minus the mean letters of a word, minus a fifth of the mean words of a sentence
    Plain,
}

impl Gold {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Cheerful, Self::Talkative, Self::Plain];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cheerful => "cheerful",
            Self::Talkative => "talkative",
            Self::Plain => "plain",
        }
    }

    /// The reward of a text; larger is better.
    pub fn reward(self, text: &str, lexicon: &Lexicon) -> f64 {
        let words = || text.split(|c: char| !c.is_ascii_alphabetic() && c != '\'').filter(|w| !w.is_empty());
        match self {
            Self::Cheerful => words()
                .map(str::to_lowercase)
                .map(|w| f64::from(lexicon.positive.contains(&w)) - f64::from(lexicon.negative.contains(&w)))
                .sum(),
            Self::Talkative => text.matches('"').count() as f64,
            Self::Plain => {
                let n = words().count().max(1) as f64;
                let letters: usize = words().map(str::len).sum();
                let sentences = text.matches(['.', '!', '?']).count().max(1) as f64;
                -(letters as f64 / n) - n / sentences / 5.0
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reward_counts_what_it_says() {
        let lexicon = Lexicon::default();
        assert!(lexicon.positive.contains("happy") && lexicon.negative.contains("sad"));
        assert_eq!(Gold::Cheerful.reward("A happy, HAPPY boy was sad.", &lexicon), 1.0);
        assert_eq!(Gold::Talkative.reward("\"Hi,\" he said.", &lexicon), 2.0);
        // Four words of 2.5 letters in two sentences.
        assert_eq!(Gold::Plain.reward("He ran. She sat", &lexicon), -(11.0 / 4.0) - 4.0 / 5.0);
        assert_eq!(Gold::Plain.reward("", &lexicon), -0.2);
    }
}
