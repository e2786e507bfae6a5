//! Who rates texts: built-in rewards, an external command, an OpenAI-compatible judge.

mod command;

pub use command::CommandScorer;

use std::str::FromStr;

use super::gold::{Gold, Lexicon};
use super::judges::{Client, Criterion, JudgeError};

/// A text to be rated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Item<'a> {
    /// What it answers or continues.
    pub prompt: &'a str,
    /// The text.
    pub response: &'a str,
}

/// Rates texts.
pub trait Scorer {
    /// One number a text, in order; larger is better. `NaN` where the rater's answer is no number: a failure, to be
    /// counted.
    ///
    /// # Errors
    ///
    /// When nothing can be rated at all.
    fn score(&self, items: &[Item<'_>]) -> Result<Vec<f64>, ScorerError>;
}

/// Why texts were not rated.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScorerError {
    /// The command could not be run, or ended badly.
    #[error("scorer command `{command}`: {reason}")]
    Command {
        /// What was run.
        command: String,
        /// What happened.
        reason: String,
    },
    /// The judge could not be asked.
    #[error(transparent)]
    Judge(#[from] JudgeError),
}

/// A rater as the command line names it: `NAME`, `NAME=cmd:COMMAND` or `NAME=judge:URL`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScorerSpec {
    /// Its name in tables and files.
    pub name: String,
    /// Who rates.
    pub kind: Kind,
}

/// Who rates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A built-in reward.
    Gold(Gold),
    /// A shell command that reads a JSON object a line (`prompt`, `response`) and writes a number a line.
    Command(String),
    /// The URL of an OpenAI-compatible API, which ends with `/v1`.
    Judge(String),
}

impl FromStr for ScorerSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let spec = |name: &str, kind| Ok(Self { name: name.to_owned(), kind });
        match text.split_once('=') {
            Some((name, rest)) if !name.is_empty() => match rest.split_once(':') {
                Some(("cmd", command)) if !command.trim().is_empty() => spec(name, Kind::Command(command.to_owned())),
                Some(("judge", url)) if !url.is_empty() => {
                    spec(name, Kind::Judge(url.trim_end_matches('/').to_owned()))
                }
                _ => Err(format!("expected NAME=cmd:COMMAND or NAME=judge:URL, got \"{text}\"")),
            },
            _ => {
                let gold = Gold::ALL.into_iter().find(|gold| gold.name() == text).ok_or_else(|| {
                    let near = crate::nearest::suggestion(text, Gold::ALL.map(Gold::name));
                    format!("there is no built-in scorer \"{text}\"{near} (others: NAME=cmd:COMMAND, NAME=judge:URL)")
                })?;
                spec(text, Kind::Gold(gold))
            }
        }
    }
}

impl std::fmt::Display for ScorerSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.kind {
            Kind::Gold(_) => f.write_str(&self.name),
            Kind::Command(command) => write!(f, "{}=cmd:{command}", self.name),
            Kind::Judge(url) => write!(f, "{}=judge:{url}", self.name),
        }
    }
}

impl ScorerSpec {
    /// The rater itself. `client` says how judges are asked.
    ///
    /// # Errors
    ///
    /// [`JudgeError::Criterion`] for a judge with an unknown name.
    pub fn open(&self, client: &Client) -> Result<Box<dyn Scorer>, JudgeError> {
        Ok(match &self.kind {
            Kind::Gold(gold) => Box::new(GoldScorer(*gold, Lexicon::default())),
            Kind::Command(command) => Box::new(CommandScorer::new(command)),
            Kind::Judge(url) => {
                Box::new(JudgeScorer { client: client.at(url), criterion: client.criterion(&self.name)? })
            }
        })
    }
}

struct GoldScorer(Gold, Lexicon);

impl Scorer for GoldScorer {
    fn score(&self, items: &[Item<'_>]) -> Result<Vec<f64>, ScorerError> {
        Ok(items.iter().map(|item| self.0.reward(item.response, &self.1)).collect())
    }
}

struct JudgeScorer {
    client: Client,
    criterion: Criterion,
}

impl Scorer for JudgeScorer {
    fn score(&self, items: &[Item<'_>]) -> Result<Vec<f64>, ScorerError> {
        let best = self.client.best();
        let questions: Vec<_> =
            items.iter().map(|item| self.criterion.rate(item.prompt, item.response, best)).collect();
        let answers = self.client.ask_all(&questions)?;
        Ok(answers.iter().map(|answer| super::judges::scores::<1>(answer).map_or(f64::NAN, |[score]| score)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specifications_read_as_they_are_written() {
        for text in ["cheerful", "mine=cmd:python3 score.py", "helpful=judge:http://localhost:8080/v1"] {
            assert_eq!(text.parse::<ScorerSpec>().unwrap().to_string(), text);
        }
        for (text, part) in
            [("chearful", "did you mean \"cheerful\""), ("a=b", "NAME=cmd:COMMAND"), ("a=cmd: ", "NAME=cmd:COMMAND")]
        {
            let error = text.parse::<ScorerSpec>().unwrap_err();
            assert!(error.contains(part), "{error}");
        }
        let nice = "nice=judge:http://x/v1".parse::<ScorerSpec>().unwrap();
        let error = nice.open(&Client::default()).err().unwrap().to_string();
        assert!(error.contains("--criterion nice="), "{error}");
        let criteria = vec!["nice=The answer is nice.".parse().unwrap()];
        assert!(nice.open(&Client { criteria, ..Client::default() }).is_ok());
    }

    #[test]
    fn a_built_in_scorer_rates_the_response_and_not_the_prompt() {
        let scorer = "talkative".parse::<ScorerSpec>().unwrap().open(&Client::default()).unwrap();
        let items = [Item { prompt: "\"\"", response: "none" }, Item { prompt: "", response: "\"Hi\"" }];
        assert_eq!(scorer.score(&items).unwrap(), [0.0, 2.0]);
    }
}
