//! The last few results of a costly question.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

/// Results that are kept.
const MAX: usize = 16;
/// Bytes of a key: what asks for more is not kept.
const MAX_KEY: usize = 128 << 10;

/// Results by what was asked, the last one first.
pub struct Recent<T>(Mutex<VecDeque<(String, Arc<T>)>>);

impl<T> Default for Recent<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> Recent<T> {
    /// The result for this key, if it is kept; it counts as asked for now.
    pub fn get(&self, key: &str) -> Option<Arc<T>> {
        let mut list = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = list.iter().position(|(known, _)| known == key)?;
        let found = list.remove(at)?;
        let result = Arc::clone(&found.1);
        list.push_front(found);
        Some(result)
    }

    /// Keeps a result; the one that was not asked for longest goes.
    pub fn keep(&self, key: String, result: &Arc<T>) {
        if key.len() > MAX_KEY {
            return;
        }
        let mut list = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        list.truncate(MAX - 1);
        list.push_front((key, Arc::clone(result)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_asked_for_longest_is_forgotten() {
        let recent = Recent::default();
        for i in 0..MAX {
            recent.keep(i.to_string(), &Arc::new(i));
        }
        assert_eq!(recent.get("0").as_deref(), Some(&0));
        recent.keep("new".to_owned(), &Arc::new(99));
        assert_eq!(
            ["0", "1", "2", "new"].map(|key| recent.get(key).as_deref().copied()),
            [Some(0), None, Some(2), Some(99)]
        );
    }
}
