//! How much may be tokenized for a request, and when to stop.

use std::cell::RefCell;
use std::sync::Arc;

use super::TokenizeError;

/// What the tokens of a text are for.
pub struct Bound {
    /// A text with more tokens is of no use.
    pub max_tokens: usize,
    /// Asked now and then: whether nothing waits for the tokens any more.
    pub cancelled: Box<dyn Fn() -> bool + Send + Sync>,
}

thread_local! {
    static BOUND: RefCell<Option<Arc<Bound>>> = const { RefCell::new(None) };
}

/// Puts back what was there before.
struct Restore(Option<Arc<Bound>>);

impl Drop for Restore {
    fn drop(&mut self) {
        BOUND.with(|bound| *bound.borrow_mut() = self.0.take());
    }
}

/// Calls `read`; every text that is tokenized in it, on this thread, is under the bound. The bound belongs to a
/// request, which tokenizes in several places: for the base, for each ARM, and in the parts of a template.
pub fn bounded<T>(bound: Bound, read: impl FnOnce() -> T) -> T {
    let _restore = Restore(BOUND.with(|current| current.borrow_mut().replace(Arc::new(bound))));
    read()
}

/// The bound of this thread, and what is counted against it for one text.
#[derive(Clone)]
pub(super) struct Count {
    bound: Option<Arc<Bound>>,
    n_tokens: usize,
}

impl Count {
    /// Nothing counted.
    pub fn new() -> Self {
        Self { bound: BOUND.with(|bound| bound.borrow().clone()), n_tokens: 0 }
    }

    /// Counts tokens that the text certainly has.
    pub fn add(&mut self, n_tokens: usize) -> Result<(), TokenizeError> {
        self.n_tokens += n_tokens;
        match &self.bound {
            Some(bound) if self.n_tokens > bound.max_tokens => {
                Err(TokenizeError::TooMany { at_least: self.n_tokens, max: bound.max_tokens })
            }
            _ => self.check(),
        }
    }

    /// Whether to go on.
    pub fn check(&self) -> Result<(), TokenizeError> {
        match &self.bound {
            Some(bound) if (bound.cancelled)() => Err(TokenizeError::Cancelled),
            _ => Ok(()),
        }
    }
}
