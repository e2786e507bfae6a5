//! What the models hold of a text, kept beyond the process: the caches of the base, of every ARM and of drafters.
//!
//! All of them are restored or none. The tokens that belong to a cache are saved with it, so a text that differs from
//! them is read from there on: a restored cache is a prefix like any other.

mod error;
mod file;

pub use error::CachesError;

use serde_json::{Map, Value};

use super::{Session, Slot};
use crate::engine::llama::build;
use crate::expert::{CheckedState, Expert, ExpertState, Origin};

/// Of the files' format.
const VERSION: u32 = 1;

/// The caches of a text.
#[derive(Debug, Clone, PartialEq)]
pub struct Caches {
    /// The caller's own data, saved with the caches.
    pub note: Map<String, Value>,
    /// Which llama.cpp has computed them.
    llama_cpp: String,
    models: Vec<ModelCache>,
}

/// What one model holds.
#[derive(Debug, Clone, PartialEq)]
struct ModelCache {
    /// Its name in messages.
    who: String,
    origin: Origin,
    state: ExpertState,
}

/// A model with its name in messages.
type Named<'a> = (String, &'a mut (dyn Expert + Send + 'static));

impl Caches {
    /// Tokens of the base.
    pub fn n_tokens(&self) -> usize {
        self.models.first().map_or(0, |base| base.state.tokens.len())
    }

    /// Models that hold anything.
    pub fn n_models(&self) -> usize {
        self.models.iter().filter(|model| !model.state.tokens.is_empty()).count()
    }

    fn save(experts: Vec<Named<'_>>) -> Result<Self, CachesError> {
        let one = |(who, expert): Named<'_>| {
            let fail = |source| CachesError::State { who: who.clone(), source };
            let (origin, state) = (expert.origin().map_err(fail)?, expert.save().map_err(fail)?);
            Ok::<_, CachesError>(ModelCache { who, origin, state })
        };
        let models = experts.into_iter().map(one).collect::<Result<_, _>>()?;
        Ok(Self { note: Map::new(), llama_cpp: llama_cpp(), models })
    }

    /// Checks whether these models may take the caches over. Changes nothing.
    fn check(&self, experts: &[Named<'_>]) -> Result<Vec<CheckedState<'_>>, CachesError> {
        let origin = |(who, expert): &Named<'_>| {
            let origin = expert.origin();
            origin.map(|origin| (who.clone(), origin)).map_err(|source| CachesError::State { who: who.clone(), source })
        };
        let here = experts.iter().map(origin).collect::<Result<Vec<_>, _>>()?;
        self.compare(&here)?;
        let mut checked = Vec::new();
        for (saved, (who, expert)) in self.models.iter().zip(experts) {
            let state = expert.check(&saved.state);
            checked.push(state.map_err(|source| CachesError::State { who: who.clone(), source })?);
        }
        Ok(checked)
    }

    /// Refuses caches that were not computed by this llama.cpp on these models.
    fn compare(&self, here: &[(String, Origin)]) -> Result<(), CachesError> {
        let build = llama_cpp();
        if self.llama_cpp != build {
            return Err(CachesError::Llama { saved: self.llama_cpp.clone(), here: build });
        }
        if self.models.len() != here.len() {
            return Err(self.odd_one(here));
        }
        self.models.iter().zip(here).try_for_each(|(saved, (who, origin))| saved.compare(who, origin))
    }

    /// The model that is here or there alone.
    fn odd_one(&self, here: &[(String, Origin)]) -> CachesError {
        let is_saved = |who: &String| self.models.iter().any(|saved| saved.who == *who);
        let is_here = |saved: &&ModelCache| here.iter().any(|(who, _)| *who == saved.who);
        let missing = here.iter().map(|(who, _)| who).find(|who| !is_saved(who));
        let extra = || self.models.iter().find(|saved| !is_here(saved)).map(|saved| saved.who.clone());
        match missing {
            Some(who) => CachesError::Missing { who: who.clone() },
            None => CachesError::Extra { who: extra().unwrap_or_else(|| "another model".to_owned()) },
        }
    }
}

/// Puts caches into the models that have checked them.
fn restore(checked: &[CheckedState<'_>], experts: Vec<Named<'_>>) -> Result<(), CachesError> {
    for (state, (who, expert)) in checked.iter().zip(experts) {
        expert.restore_checked(state).map_err(|source| CachesError::State { who, source })?;
    }
    Ok(())
}

impl ModelCache {
    /// Refuses a model that computes other caches.
    fn compare(&self, who: &str, here: &Origin) -> Result<(), CachesError> {
        let who = || who.to_owned();
        if self.origin.model != here.model {
            return Err(CachesError::Model { who: who() });
        }
        if self.origin.adapters != here.adapters {
            return Err(CachesError::Adapter { who: who() });
        }
        let differs = self.origin.settings.iter().zip(&here.settings).find(|(saved, here)| saved != here);
        match differs {
            Some(((name, saved), (_, here))) => {
                Err(CachesError::Setting { who: who(), name: name.clone(), saved: saved.clone(), here: here.clone() })
            }
            None if self.origin.settings.len() != here.settings.len() => Err(CachesError::Model { who: who() }),
            None => Ok(()),
        }
    }
}

impl Slot {
    /// A copy of what base and ARMs hold.
    ///
    /// # Errors
    ///
    /// [`CachesError::State`] names the model whose cache cannot be saved.
    pub fn save_caches(&mut self) -> Result<Caches, CachesError> {
        self.with_experts(Vec::new(), Caches::save)
    }

    /// Puts saved caches in the place of what base and ARMs hold: all of them, or none.
    ///
    /// # Errors
    ///
    /// [`CachesError`] names the first model that differs, and nothing is changed. Where llama.cpp refuses a cache that
    /// looks sound, all are empty.
    pub fn restore_caches(&mut self, caches: &Caches) -> Result<(), CachesError> {
        let checked = self.with_experts(Vec::new(), |experts| caches.check(&experts))?;
        self.forget();
        self.with_experts(Vec::new(), |experts| restore(&checked, experts)).inspect_err(|_| self.forget())
    }

    fn with_experts<T>(&mut self, drafters: Vec<Named<'_>>, f: impl FnOnce(Vec<Named<'_>>) -> T) -> T {
        let hook = self.hook().clone();
        let base = self.base();
        hook.with_guide(|guide| {
            let base: Named<'_> = ("the base".to_owned(), base);
            let arms = guide.experts().iter_mut().map(|arm| (format!("ARM \"{}\"", arm.name()), arm.expert()));
            f(std::iter::once(base).chain(arms).chain(drafters).collect())
        })
    }
}

impl Session {
    /// A copy of what base, ARMs and drafters hold of the text in the first slot.
    ///
    /// # Errors
    ///
    /// As [`Slot::save_caches`].
    pub fn save_caches(&mut self) -> Result<Caches, CachesError> {
        let (slots, drafters) = self.parts();
        slots[0].with_experts(drafters, Caches::save)
    }

    /// Puts saved caches in the place of what base, ARMs and drafters hold of the text in the first slot: all of them,
    /// or none.
    ///
    /// # Errors
    ///
    /// As [`Slot::restore_caches`].
    pub fn restore_caches(&mut self, caches: &Caches) -> Result<(), CachesError> {
        let (slots, drafters) = self.parts();
        let checked = slots[0].with_experts(drafters, |experts| caches.check(&experts))?;
        self.forget_text();
        let (slots, drafters) = self.parts();
        let restored = slots[0].with_experts(drafters, |experts| restore(&checked, experts));
        restored.inspect_err(|_| self.forget_text())
    }

    fn parts(&mut self) -> (&mut [Slot], Vec<Named<'_>>) {
        let (slots, speculator) = self.slots_and_speculator();
        let named = |(name, expert)| (format!("drafter {name}"), expert);
        (slots, speculator.map(|speculator| speculator.experts().map(named).collect()).unwrap_or_default())
    }

    fn forget_text(&mut self) {
        let (slots, speculator) = self.slots_and_speculator();
        slots[0].forget();
        speculator.into_iter().for_each(crate::decode::Speculator::forget);
    }
}

/// Another build may lay out its memory otherwise.
fn llama_cpp() -> String {
    let build = build();
    format!("{}, ggml {}", build.llama, build.ggml)
}
