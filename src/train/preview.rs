//! What a run would read: the first examples as they were rendered, with their tokens and which of them are scored.

use super::TrainError;
use super::data::Data;
use super::outputs::Outputs;
use super::pairs::Example;
use super::settings::Settings;
use super::shape::Shape;
use crate::engine::gguf::GgufFile;
use crate::engine::llama::Vocab;
use std::fmt::Write as _;

/// Examples that are shown.
const SHOWN: usize = 3;

/// Columns of a line of tokens.
const WIDTH: usize = 100;

/// Reads the data as a run would, and describes it. Trains nothing, writes nothing, and reads no weights.
///
/// # Errors
///
/// What a run would meet before its first step, but for the backbone's tensors.
pub fn preview(settings: &Settings, coloured: bool) -> Result<String, TrainError> {
    Outputs::of(&settings.out).check(settings)?;
    let file = GgufFile::open_model(&settings.backbone)?;
    let shape = Shape::read(&file, Some(settings.max_len))?;
    let data = Data::read(settings, &file, shape.n_ctx)?;
    let mut out = String::new();
    let n_held_out = settings.n_held_out(data.examples.len());
    let n_train = data.examples.len() - n_held_out;
    let files: Vec<String> = settings.pairs.iter().map(|file| file.path.display().to_string()).collect();
    let _ = writeln!(out, "{}: {}", files.join(", "), data.counts);
    let _ = writeln!(out, "{n_train} to train on, {n_held_out} held out; {} steps", settings.steps(n_train));
    let n = data.counts.conversations;
    let _ = match (settings.template.as_str(), file.chat_template()) {
        _ if n == 0 => writeln!(out, "template: not needed, there are no conversations"),
        ("auto", Some(_)) => writeln!(out, "template: the backbone's own, for {n} conversations"),
        ("auto", None) => writeln!(out, "template: hh, for {n} conversations; the backbone has none"),
        (setting, _) => writeln!(out, "template: {setting}, for {n} conversations"),
    };
    let _ = writeln!(out, "tokens in [brackets] are scored");
    let objectives = settings.parm.as_ref().map_or(&[][..], |parm| &parm.names);
    let page = Page { vocab: &data.vocab, coloured, objectives };
    for (i, example) in data.examples.iter().take(SHOWN).enumerate() {
        let _ = writeln!(out, "\nexample {} of {}", i + 1, data.examples.len());
        page.example(example, &mut out);
    }
    Ok(out)
}

struct Page<'a> {
    vocab: &'a Vocab,
    coloured: bool,
    /// Of a preference-conditioned ARM.
    objectives: &'a [String],
}

impl Page<'_> {
    fn example(&self, e: &Example, out: &mut String) {
        self.part("prompt", &e.prompt, false, out);
        if !self.objectives.is_empty() {
            self.part("response 1", &e.chosen, true, out);
            self.part("response 2", &e.rejected, true, out);
            let judged = self.objectives.iter().zip(&e.signs).filter(|(_, sign)| **sign != 0);
            let preferred = judged.map(|(name, sign)| format!("{name} response {}", if *sign > 0 { 1 } else { 2 }));
            let _ = writeln!(out, "  preferred: {}", preferred.collect::<Vec<_>>().join(", "));
            return;
        }
        self.part(if e.rejected.is_empty() { "text" } else { "chosen" }, &e.chosen, true, out);
        if !e.rejected.is_empty() {
            self.part("rejected", &e.rejected, true, out);
        }
    }

    /// A heading, the text behind bars, and its tokens with their ids.
    fn part(&self, name: &str, tokens: &[u32], scored: bool, out: &mut String) {
        let n = tokens.len();
        let _ = writeln!(out, "  {name}: {n} tokens, {}", if scored { "scored" } else { "not scored" });
        let ids: Vec<i32> = tokens.iter().map(|t| *t as i32).collect();
        for line in self.vocab.text(&ids, true).split('\n') {
            let _ = writeln!(out, "    │ {}", printable(line));
        }
        let mut column = 0;
        for id in ids {
            let text = printable(&self.vocab.text(&[id], true).replace('\n', "\\n"));
            let shown = if scored { format!("[{id} \"{text}\"]") } else { format!("{id} \"{text}\"") };
            let width = shown.chars().count() + 1;
            if column == 0 || column + width > WIDTH {
                out.push_str(if column == 0 { "    " } else { "\n    " });
                column = 4;
            }
            column += width;
            match scored && self.coloured {
                true => {
                    let _ = write!(out, "\u{1b}[32m{shown}\u{1b}[0m ");
                }
                false => {
                    let _ = write!(out, "{shown} ");
                }
            }
        }
        out.push('\n');
    }
}

/// A text without characters that a terminal would obey.
fn printable(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}
