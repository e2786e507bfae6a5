//! q of every token of a base, by trying how the ARM's text may go on.
//!
//! A path is a string of the ARM's tokens after its prompt. The search begins with the empty path and extends the one
//! with the most probability, until nearly all paths that begin with the text so far have shown which token the base
//! would read next.

use anyhow::{Result, ensure};

use super::answer::Answer;
use super::question::{Decode, Limits, Question};
use super::reading::Reader;
use super::tree::Tree;

/// Answers the question.
pub fn search(question: &Question, reader: &mut Reader, decode: &mut Decode, limits: &Limits) -> Result<Answer> {
    let mut tree = Tree::new(question, limits.grain);
    tree.follow_usual(reader, decode)?;
    ensure!(tree.whole() > 0.0, "the ARM gives this text no probability; give a shorter one");
    while tree.n_decodes < limits.max_decodes && tree.rest() > limits.rest {
        if tree.n_decodes >= limits.min_decodes && tree.doubt() <= limits.doubt {
            break;
        }
        let paths = tree.best(limits.batch);
        if paths.is_empty() {
            break;
        }
        tree.extend(&paths, reader, decode)?;
    }
    ensure!(tree.agreeing() > 0.0, "no text of the ARM that was found has the base's tokens of the response");
    Ok(tree.answer())
}
