//! What is printed.

use genarm::Token;
use genarm::engine::llama::Vocab;
use serde_json::json;

use super::answer::Answer;
use super::compare::{Difference, Divergences};
use super::contexts::Case;
use super::reading::Next;

/// A context with its answer and all that was made of it.
pub struct Outcome<'a> {
    pub case: &'a Case,
    /// The tokens of the response, as text: the base's, and the ARM's own.
    pub tokens: [Vec<String>; 2],
    pub answer: &'a Answer,
    pub seconds: f64,
    pub divergences: Vec<Divergences>,
    pub differences: Vec<Difference>,
}

impl Outcome<'_> {
    pub fn json(&self, base: &Vocab, top: usize) -> serde_json::Value {
        let answer = self.answer;
        let token = |(next, q): (Next, f64)| match next {
            Next::Token(token) => json!({"token": token, "text": base.text(&[token], true), "q": q}),
            Next::End => json!({"end": true, "q": q}),
        };
        json!({
            "name": self.case.name,
            "ln_text": answer.ln_text,
            "rest": answer.rest(),
            "doubt": answer.doubt(),
            "unread": answer.unread,
            "changed": answer.changed,
            "disagree": answer.disagree,
            "control": answer.control,
            "decodes": answer.n_decodes,
            "seconds": self.seconds,
            "kl": self.divergences,
            "q": answer.q().into_iter().take(top).map(token).collect::<Vec<_>>(),
        })
    }

    pub fn print(&self, base: &Vocab, top: usize) {
        let (case, answer) = (self.case, self.answer);
        println!("{}: {:?} {:?}", case.name, case.prompt, case.response);
        println!("  base {:?}\n  ARM  {:?}", self.tokens[0], self.tokens[1]);
        println!(
            "  ln P {:.3}, rest {:.1e}, doubt {:.1e} (unread {:.1e}), disagree {:.1e}, {} decodes, {:.1} s",
            answer.ln_text,
            answer.rest(),
            answer.doubt(),
            answer.unread,
            answer.disagree,
            answer.n_decodes,
            self.seconds
        );
        for Divergences { weight, alone, same_bytes, translated } in &self.divergences {
            println!("  w {weight}: KL alone {alone:.5}, same bytes {same_bytes:.5}, translated {translated:.5}");
        }
        let text = |token: Token| base.text(&[token], true);
        for Difference { token, base, exact, translated, nats } in &self.differences {
            let text = text(*token);
            println!("  {nats:.5} nats: base {base:.5}, exact {exact:.5}, translated {translated:.5} {text:?}");
        }
        for (next, q) in answer.q().into_iter().take(top) {
            match next {
                Next::Token(token) => println!("  {q:12.8} {token:>7} {:?}", text(token)),
                Next::End => println!("  {q:12.8}         (end)"),
            }
        }
        println!();
    }
}

/// The mean divergences of the contexts whose names begin alike.
pub fn print_means(all: &[(String, Vec<Divergences>)]) {
    let group = |name: &str| name.split('-').next().unwrap_or_default().to_owned();
    let mut groups: Vec<String> = Vec::new();
    for (name, _) in all {
        if !groups.contains(&group(name)) {
            groups.push(group(name));
        }
    }
    println!("contexts        n  weight     alone  same bytes  translated");
    for name in groups {
        let of: Vec<_> = all.iter().filter(|(other, _)| group(other) == name).map(|(_, of)| of).collect();
        for at in 0..of[0].len() {
            let mean =
                |value: fn(&Divergences) -> f32| of.iter().map(|of| value(&of[at])).sum::<f32>() / of.len() as f32;
            println!(
                "{name:<12} {:>4}  {:>6}  {:>8.5}    {:>8.5}    {:>8.5}",
                of.len(),
                of[0][at].weight,
                mean(|d| d.alone),
                mean(|d| d.same_bytes),
                mean(|d| d.translated)
            );
        }
    }
}
