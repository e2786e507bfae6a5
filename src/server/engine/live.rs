//! The weights of a response while it runs: what is wanted of them, and from which token on each text has them.

use std::sync::Arc;

use tokio::sync::watch;

/// New weights at a token of a response.
#[derive(Debug, Clone, PartialEq)]
pub struct WeightChange {
    /// Tokens of the response before them.
    pub token: usize,
    /// One weight per ARM, then the preferences.
    pub weights: Vec<f32>,
}

/// The wanted weights of a response, shared between requests that change them and the texts that run under them.
///
/// Texts take changes over between two steps, never within one.
pub struct LiveWeights {
    state: watch::Sender<Wanted>,
}

struct Wanted {
    weights: Vec<f32>,
    /// Counts the changes.
    version: u64,
    choices: Vec<Progress>,
}

/// How far a text is.
#[derive(Clone, Copy, Default)]
struct Progress {
    /// Tokens at the beginning of its last step, or at its end.
    n: usize,
    /// The version of the weights that it has.
    version: u64,
    /// The token from which on it has them.
    since: usize,
    in_step: bool,
    is_over: bool,
}

impl LiveWeights {
    /// Of a response of `n_choices` texts that begin with `weights`.
    pub fn new(weights: Vec<f32>, n_choices: usize) -> Self {
        let choices = vec![Progress::default(); n_choices];
        Self { state: watch::Sender::new(Wanted { weights, version: 0, choices }) }
    }

    /// The place of one of its texts.
    pub fn choice(self: &Arc<Self>, choice: usize) -> LiveChoice {
        LiveChoice { live: Arc::clone(self), choice }
    }

    /// Whether all its texts have ended.
    pub fn is_over(&self) -> bool {
        self.state.borrow().choices.iter().all(|choice| choice.is_over)
    }

    /// Changes the weights by `change`, then waits until it is certain from which token on each text has them. Returns
    /// the weights, and these tokens; `None` for a text that has ended before.
    ///
    /// # Errors
    ///
    /// Those of `change`; nothing has changed then.
    pub async fn change<E>(
        &self,
        change: impl FnOnce(Vec<f32>) -> Result<Vec<f32>, E>,
    ) -> Result<(Vec<f32>, Vec<Option<usize>>), E> {
        let mut changes = self.state.subscribe();
        let mut result = Ok(());
        let (mut version, mut over) = (0, Vec::new());
        self.state.send_if_modified(|wanted| {
            match change(wanted.weights.clone()) {
                Ok(weights) => {
                    wanted.version += u64::from(wanted.weights != weights);
                    wanted.weights = weights;
                }
                Err(error) => result = Err(error),
            }
            version = wanted.version;
            over = wanted.choices.iter().map(|text| text.is_over).collect();
            false
        });
        result?;
        let is_certain = |text: &Progress| text.is_over || !text.in_step || text.version >= version;
        let from = |(text, was_over): (&Progress, &bool)| match text {
            _ if *was_over => None,
            text if text.version >= version => Some(text.since),
            text => (!text.is_over).then_some(text.n),
        };
        // The sender is at hand, so the channel is open.
        let certain = changes.wait_for(|wanted| wanted.choices.iter().all(is_certain)).await;
        Ok(certain.map_or_else(
            |_| (Vec::new(), Vec::new()),
            |wanted| (wanted.weights.clone(), wanted.choices.iter().zip(&over).map(from).collect()),
        ))
    }
}

/// A text's place in [`LiveWeights`]; over when it goes out of scope.
pub struct LiveChoice {
    live: Arc<LiveWeights>,
    choice: usize,
}

impl LiveChoice {
    /// A step begins with `n` tokens: returns the weights where they have changed.
    pub fn begin_step(&self, n: usize) -> Option<Vec<f32>> {
        let mut changed = None;
        self.live.state.send_if_modified(|wanted| {
            let text = &mut wanted.choices[self.choice];
            (text.n, text.in_step) = (n, true);
            if text.version != wanted.version {
                (text.version, text.since) = (wanted.version, n);
                changed = Some(wanted.weights.clone());
            }
            changed.is_some()
        });
        changed
    }

    /// The step has ended, with `n` tokens.
    pub fn end_step(&self, n: usize) {
        self.live.state.send_if_modified(|wanted| {
            let version = wanted.version;
            let text = &mut wanted.choices[self.choice];
            (text.n, text.in_step) = (n, false);
            // Without a change that waits for it, this is of no interest.
            text.version != version
        });
    }

    /// The text has ended.
    pub fn end(&self) {
        self.live.state.send_modify(|wanted| wanted.choices[self.choice].is_over = true);
    }
}

impl Drop for LiveChoice {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(live: &LiveWeights, weight: f32) -> (Vec<f32>, Vec<Option<usize>>) {
        let change = live.change(|_| Ok::<_, ()>(vec![weight]));
        futures(change).expect("nothing is wrong")
    }

    fn futures<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(future)
    }

    #[test]
    fn a_change_holds_from_the_next_step_on_and_says_at_which_token_that_is() {
        let live = Arc::new(LiveWeights::new(vec![0.0], 2));
        let [first, second] = [live.choice(0), live.choice(1)];
        assert_eq!(change(&live, 1.0), (vec![1.0], vec![Some(0), Some(0)]));
        assert_eq!(first.begin_step(0), Some(vec![1.0]));
        first.end_step(4);
        drop(second);
        assert_eq!(change(&live, 2.0), (vec![2.0], vec![Some(4), None]));
        assert_eq!(first.begin_step(4), Some(vec![2.0]));
        assert_eq!(change(&live, 2.0), (vec![2.0], vec![Some(4), None]), "the same weights change nothing");
        first.end_step(5);
        assert_eq!(first.begin_step(5), None);
        drop(first);
        assert!(live.is_over());
    }

    #[test]
    fn a_change_within_a_step_waits_for_its_end() {
        let live = Arc::new(LiveWeights::new(vec![0.0], 1));
        let text = live.choice(0);
        text.begin_step(3);
        let engine = std::thread::spawn(move || {
            std::thread::sleep(std::time::Duration::from_millis(30));
            text.end_step(7);
            text.begin_step(7)
        });
        assert_eq!(change(&live, 1.0), (vec![1.0], vec![Some(7)]));
        assert_eq!(engine.join().expect("no panic"), Some(vec![1.0]));
    }
}
