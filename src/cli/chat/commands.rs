//! The commands of a chat: what a line that begins with a slash asks for.

use crate::config::{check_arm_name, parse_weight};
use crate::nearest::nearest;

/// What /help says.
pub const HELP: &str = "\
/weight NAME=W   set an ARM's weight, from the next token on (/weight shows them)
/persona NAME TEXT  steer towards what the base says under this system prompt; without a text, remove it (/persona lists them)
/profile NAME    take the weights of a profile (/profile lists them)
/retry           answer the last message again, from another seed
/seed [N]        the next answer comes from seed N; without N, from a new random one
/undo            remove the last message and its answer
/drop [N]        forget the N oldest messages with their answers; without N, as many as make room
/clear           forget all messages
/system [TEXT]   set the system prompt; without a text, remove it
/save FILE       write the conversation and the weights to a file, and the models' caches to FILE.cache
/load FILE       continue a saved conversation; with its caches it is not read again
/help            show this
/quit            leave (or Ctrl-D); Ctrl-C ends an answer
During an answer Tab chooses an ARM, and ↑ and ↓ change its weight from the next token on.
A line that ends in \\ goes on in the next one; so does a text between \"\"\" and \"\"\".
";

/// All names, for completion.
pub const COMMANDS: &[&str] = &[
    "weight", "persona", "profile", "retry", "seed", "undo", "drop", "clear", "system", "save", "load", "help", "quit",
];

/// A command with what it needs.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    Help,
    Quit,
    ShowWeights,
    SetWeight(String, f32),
    ListPersonas,
    /// Without a text it goes.
    Persona(String, Option<String>),
    ListProfiles,
    Profile(String),
    Retry,
    Seed(Option<u32>),
    Undo,
    Drop(Option<usize>),
    Clear,
    System(Option<String>),
    Save(String),
    Load(String),
}

impl Command {
    /// Reads what follows the slash.
    ///
    /// # Errors
    ///
    /// One line that says what is expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (name, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        let rest = rest.trim();
        let given = (!rest.is_empty()).then(|| rest.to_owned());
        let file = || given.clone().ok_or_else(|| format!("/{name} needs a file name"));
        let number = |range: &str| format!("/{name} takes a number {range}, got \"{rest}\"");
        Ok(match name {
            "help" | "?" => Self::Help,
            "quit" | "exit" | "bye" => Self::Quit,
            "weight" | "weights" if rest.is_empty() => Self::ShowWeights,
            "weight" | "weights" => {
                let (arm, weight) = weight(rest)?;
                Self::SetWeight(arm, weight)
            }
            "persona" | "personas" if rest.is_empty() => Self::ListPersonas,
            "persona" | "personas" => {
                let (name, text) = persona(rest);
                check_arm_name(name)?;
                Self::Persona(name.to_owned(), text.map(str::to_owned))
            }
            "profile" | "profiles" => given.map_or(Self::ListProfiles, Self::Profile),
            "retry" => Self::Retry,
            "seed" if rest.is_empty() => Self::Seed(None),
            // The largest stands for a random one.
            "seed" => match rest.parse::<u32>() {
                Ok(seed) if seed < u32::MAX => Self::Seed(Some(seed)),
                _ => return Err(number("between 0 and 4294967294")),
            },
            "undo" => Self::Undo,
            "drop" if rest.is_empty() => Self::Drop(None),
            "drop" => match rest.parse() {
                Ok(n) if n > 0 => Self::Drop(Some(n)),
                _ => return Err(number("of at least 1")),
            },
            "clear" => Self::Clear,
            "system" => Self::System(given),
            "save" => Self::Save(file()?),
            "load" => Self::Load(file()?),
            unknown => {
                let near = nearest(unknown, COMMANDS.iter().copied());
                let advice = near.map(|near| format!("; did you mean /{near}?")).unwrap_or_default();
                return Err(format!("there is no command /{unknown}{advice} (/help lists them)"));
            }
        })
    }
}

/// `NAME TEXT`, or `NAME=TEXT` as on the command line.
fn persona(text: &str) -> (&str, Option<&str>) {
    let end = text.find(|c: char| c == '=' || c.is_whitespace()).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    let rest = rest.trim_start_matches(|c: char| c == '=' || c.is_whitespace()).trim_end();
    // Quotes are the shell's habit.
    let rest = rest.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(rest);
    (name, Some(rest).filter(|rest| !rest.is_empty()))
}

/// `NAME=W`, or `NAME W` as it is said.
fn weight(text: &str) -> Result<(String, f32), String> {
    match text.rsplit_once(char::is_whitespace) {
        Some((name, weight)) if !text.contains('=') => parse_weight(&format!("{}={weight}", name.trim())),
        _ => {
            let tight: Vec<_> = text.splitn(2, '=').map(str::trim).collect();
            parse_weight(&tight.join("="))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_read_as_they_are_said() {
        let set = Ok(Command::SetWeight("cheerful".into(), 2.0));
        for said in ["weight cheerful=2", "weight cheerful 2", "weights cheerful 2", "weight cheerful = 2.0"] {
            assert_eq!(Command::parse(said), set, "{said}");
        }
        assert_eq!(Command::parse("weights"), Ok(Command::ShowWeights));
        assert_eq!(Command::parse("seed 7"), Ok(Command::Seed(Some(7))));
        assert_eq!(Command::parse("drop 2"), Ok(Command::Drop(Some(2))));
        assert_eq!(Command::parse("system Be kind."), Ok(Command::System(Some("Be kind.".into()))));
        let persona = |text: Option<&str>| Ok(Command::Persona("merry".into(), text.map(str::to_owned)));
        for said in ["persona merry Laugh a lot.", "persona merry=Laugh a lot.", "personas merry = \"Laugh a lot.\""] {
            assert_eq!(Command::parse(said), persona(Some("Laugh a lot.")), "{said}");
        }
        assert_eq!(Command::parse("persona merry"), persona(None));
        assert_eq!(Command::parse("persona"), Ok(Command::ListPersonas));
        assert!(COMMANDS.iter().all(|name| Command::parse(&format!("{name} 1")).is_ok() || *name == "weight"));
    }

    #[test]
    fn a_wrong_command_is_answered_with_what_was_meant() {
        let of = |said: &str| Command::parse(said).unwrap_err();
        assert!(of("retri").contains("/retry"), "{}", of("retri"));
        assert!(of("seed x").contains("\"x\"") && of("seed -1").contains("/seed"));
        assert!(of("drop 0").contains("at least 1"));
        assert!(of("save").contains("/save needs a file name"));
        assert!(of("weight cheerful").contains("NAME=W"));
    }
}
