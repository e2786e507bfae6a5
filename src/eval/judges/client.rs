//! Asking an OpenAI-compatible chat endpoint.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use indicatif::ProgressBar;
use serde_json::{Value, json};

use super::JudgeError;
use super::criterion::{Criterion, Question};

/// The best score of one token: many vocabularies write 10 as two, of which the first would be the worst score.
const BEST_IN_ONE_TOKEN: u8 = 9;

/// How judges are asked.
#[derive(Debug, Clone)]
pub struct Client {
    /// Address of the API, which ends with `/v1`.
    pub url: String,
    /// The model to ask for.
    pub model: String,
    /// What judges look at, beside helpful and harmless.
    pub criteria: Vec<Criterion>,
    /// Rate by the expected score under the probabilities of the reply's first token, not by the reply itself. This is
    /// finer, and small models need it: they reply with the same score almost every time. The API must return
    /// `top_logprobs`.
    pub logprobs: bool,
    /// Sent as a bearer token.
    pub key: Option<String>,
    /// Questions under way at once.
    pub jobs: usize,
    /// Tries for a question that meets a busy server.
    pub tries: u32,
    /// The pause before the second try; it doubles from there.
    pub pause: Duration,
    /// Moves on with each answer.
    pub progress: ProgressBar,
}

impl Default for Client {
    fn default() -> Self {
        let (url, model, key) = (String::new(), "default".to_owned(), None);
        let (criteria, logprobs) = (Vec::new(), false);
        Self {
            url,
            model,
            criteria,
            logprobs,
            key,
            jobs: 4,
            tries: 4,
            pause: Duration::from_secs(1),
            progress: ProgressBar::hidden(),
        }
    }
}

impl Client {
    /// The same for the API at `url`, which ends with `/v1`.
    #[must_use]
    pub fn at(&self, url: &str) -> Self {
        Self { url: url.to_owned(), ..self.clone() }
    }

    /// The best score that [`Criterion::rate`] asks for.
    pub fn best(&self) -> u8 {
        if self.logprobs { BEST_IN_ONE_TOKEN } else { 10 }
    }

    /// What a judge of this name looks at.
    ///
    /// # Errors
    ///
    /// [`JudgeError::Criterion`].
    pub fn criterion(&self, name: &str) -> Result<Criterion, JudgeError> {
        let own = self.criteria.iter().find(|criterion| criterion.name() == name);
        own.cloned().map_or_else(|| Criterion::named(name), Ok)
    }

    /// The replies, in the order of the questions.
    ///
    /// # Errors
    ///
    /// The first [`JudgeError`]; busy servers (429, 5xx) are asked again before.
    pub fn ask_all(&self, questions: &[Question]) -> Result<Vec<String>, JudgeError> {
        let (next, replies) = (AtomicUsize::new(0), Mutex::new(vec![None; questions.len()]));
        self.progress.inc_length(questions.len() as u64);
        let work = || -> Result<(), JudgeError> {
            let config = ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(300)));
            let agent: ureq::Agent = config.http_status_as_error(false).build().into();
            loop {
                let i = next.fetch_add(1, Ordering::Relaxed);
                let Some(question) = questions.get(i) else { return Ok(()) };
                let reply = self.ask(&agent, question).inspect_err(|_| {
                    // The others' answers are no longer needed.
                    next.store(questions.len(), Ordering::Relaxed);
                })?;
                self.progress.inc(1);
                replies.lock().unwrap_or_else(std::sync::PoisonError::into_inner)[i] = Some(reply);
            }
        };
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..self.jobs.clamp(1, questions.len().max(1))).map(|_| scope.spawn(work)).collect();
            let join = |worker: std::thread::ScopedJoinHandle<'_, _>| {
                worker.join().unwrap_or_else(|_| Err(self.unreachable("asking it failed unexpectedly")))
            };
            workers.into_iter().map(join).collect::<Result<Vec<()>, _>>()
        })?;
        let replies = replies.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        Ok(replies.into_iter().map(Option::unwrap_or_default).collect())
    }

    fn unreachable(&self, reason: impl ToString) -> JudgeError {
        JudgeError::Unreachable { url: self.url.clone(), reason: reason.to_string() }
    }

    fn ask(&self, agent: &ureq::Agent, question: &Question) -> Result<String, JudgeError> {
        let mut body = json!({
            "model": self.model,
            "messages": [
                {"role": "system", "content": question.system},
                {"role": "user", "content": question.user},
            ],
            "temperature": 0,
            "max_tokens": if self.logprobs { 1 } else { 512 },
        });
        if self.logprobs {
            (body["logprobs"], body["top_logprobs"]) = (true.into(), 20.into());
        }
        let mut pause = self.pause;
        for turn in 1.. {
            let mut request = agent.post(format!("{}/chat/completions", self.url));
            if let Some(key) = &self.key {
                request = request.header("Authorization", format!("Bearer {key}"));
            }
            let mut response = request.send_json(&body).map_err(|e| self.unreachable(e))?;
            let status = response.status().as_u16();
            if status == 200 {
                let value: Value = response.body_mut().read_json().map_err(|e| self.unreachable(e))?;
                if self.logprobs {
                    let first = &value["choices"][0]["logprobs"]["content"][0]["top_logprobs"];
                    let likely = first.as_array().ok_or_else(|| self.unreachable("its answer has no top_logprobs"))?;
                    return Ok(mean_score(likely).map(|score| score.to_string()).unwrap_or_default());
                }
                // A reply without content (a refusal, say) is a reply that cannot be read: the caller counts it.
                return Ok(value["choices"][0]["message"]["content"].as_str().unwrap_or_default().to_owned());
            }
            if !(status == 429 || status >= 500) || turn >= self.tries {
                let text = response.body_mut().read_to_string().unwrap_or_default();
                let message = text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(200).collect();
                return Err(JudgeError::Status { url: self.url.clone(), status, message });
            }
            std::thread::sleep(pause);
            pause *= 2;
        }
        unreachable!("the loop returns")
    }
}

/// The mean of the scores 1 to 9 among a reply's likeliest first tokens, by their probabilities; `None` where no score
/// is among them.
fn mean_score(likely: &[Value]) -> Option<f64> {
    let scored = likely.iter().filter_map(|token| {
        let score: u8 = token["token"].as_str()?.trim().parse().ok()?;
        (1..=BEST_IN_ONE_TOKEN).contains(&score).then_some((f64::from(score), token["logprob"].as_f64()?.exp()))
    });
    let (sum, weight) = scored.fold((0.0, 0.0), |(sum, weight), (score, p)| (sum + score * p, weight + p));
    (weight > 0.0).then(|| sum / weight)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_score_is_over_the_scores_among_the_first_tokens() {
        let token = |token: &str, p: f64| json!({"token": token, "logprob": p.ln()});
        let likely = [token("8", 0.3), token(" 4", 0.1), token("I", 0.5), token("0", 0.05), token("10", 0.05)];
        assert!((mean_score(&likely).unwrap() - 7.0).abs() < 1e-9);
        assert_eq!(mean_score(&[token("I", 0.9)]), None);
    }
}
