//! The ARMs of a configuration without its base: for hosts that run the base themselves.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use super::experts::{ExpertSetup, Experts};
use super::open::{Loading, Models, member};
use super::params::context_params;
use super::translate::{Bridge, Translations};
use super::{SessionError, VocabularyAdvice};
use super::{plan, share};
use crate::config::{Config, Switch};
use crate::engine::gguf::GgufFile;
use crate::engine::llama::{LoadError, Model, Vocab};
use crate::engine::memory::MemoryNeed;
use crate::expert::Token;
use crate::guidance::{Arm, Direction, Guide, Limits, TokenKind, TokenTable, Weights, check_vocabulary};

/// The ARMs, loaded once; each text has sequences of its own on them.
pub struct ArmModels {
    arms: Vec<LoadedArm>,
    /// The vocabulary of the configuration's base, where ARMs are translated to it.
    base_vocab: Option<Vocab>,
    directions: Vec<Direction>,
    limits: Limits,
    n_vocab: usize,
    /// Whether ARMs on the same weights share batches, as configured.
    share_batch: Switch,
    /// Whether they do, once it has been tried.
    shared: OnceLock<bool>,
}

struct LoadedArm {
    setup: ExpertSetup,
    model: Arc<Model>,
    bridge: Bridge,
}

impl ArmModels {
    /// Loads the ARMs of `config`. Of the base only the header is read, for its vocabulary; its weights are loaded
    /// where an ARM is a LoRA on them.
    ///
    /// # Errors
    ///
    /// [`SessionError`]: one line that says what to do.
    pub fn open(config: &Config, loading: Loading<'_>) -> Result<Self, SessionError> {
        // The host has loaded the base already, or will on its own account.
        let config = &plan::resolve_arms(config)?;
        let fail = |source| SessionError::Load { who: "base".into(), source: LoadError::Gguf(source) };
        let base = GgufFile::open_model(&config.base.model).map_err(fail)?;
        let mut models = Models::new(loading);
        let mut translations = Translations::new(config, &base, None);
        let Experts { setups, directions } = Experts::of(config, false);
        let mut arms = Vec::with_capacity(setups.len());
        for setup in setups {
            let model = models.get(&setup.who(), &setup.spec)?;
            let bridge = translations.bridge(&setup, &model, models.loading())?;
            arms.push(LoadedArm { setup, model, bridge });
        }
        let translates = arms.iter().any(|arm| arm.bridge.translates());
        let base_vocab = if translates { Some(translations.vocab()?) } else { None };
        let (share_batch, shared) = (config.share_batch, OnceLock::new());
        let (limits, n_vocab) = (config.guidance.limits, vocabulary(&base).n_tokens());
        Ok(Self { arms, base_vocab, directions, limits, n_vocab, share_batch, shared })
    }

    /// Checks from the headers that the ARMs can guide the base, and returns what they take: the weights once, caches
    /// and buffers for each text. `base` is false where the base is not known yet: what is on it is then left out.
    ///
    /// # Errors
    ///
    /// [`SessionError`] for a file that is no sound model, and for an ARM of another vocabulary.
    pub fn check(config: &Config, base: bool) -> Result<MemoryNeed, SessionError> {
        let open = |who: String, path: &Path| {
            GgufFile::open_model(path).map_err(|source| SessionError::Load { who, source: LoadError::Gguf(source) })
        };
        let base = base.then(|| open("base".to_owned(), &config.base.model)).transpose()?;
        let (mut need, mut files) = (MemoryNeed::default(), Vec::new());
        for setup in Experts::of(config, false).setups {
            let spec = &setup.spec;
            if base.is_none() && spec.model == config.base.model {
                continue;
            }
            let file = open(setup.who(), &spec.model)?;
            if let Some(base) = &base {
                setup.check_vocabulary(config, base, &file)?;
            }
            let mut own = MemoryNeed::of(&file, &context_params(spec, &file));
            let path = std::fs::canonicalize(&spec.model).unwrap_or_else(|_| spec.model.clone());
            if files.contains(&path) {
                own.weights = 0;
            }
            files.push(path);
            need = need.plus(own);
        }
        Ok(need)
    }

    /// Tokens of the base's vocabulary.
    pub fn n_vocab(&self) -> usize {
        self.n_vocab
    }

    /// A guide with new sequences, and so with memory of its own for one text.
    ///
    /// # Errors
    ///
    /// [`SessionError::Sequence`], as a rule for want of memory.
    pub fn guide(&self, weights: &Weights) -> Result<Guide, SessionError> {
        let members = self.arms.iter().map(|arm| member(arm.setup.who(), &arm.model, &arm.setup.spec));
        let members = members.collect::<Result<Vec<_>, _>>()?;
        // What did not work or did not pay the first time is not tried again for every text.
        let switch = if self.shared.get() == Some(&false) { Switch::Off } else { self.share_batch };
        let (sequences, report) = share::sequences(&members, switch, 1)?;
        let _ = self.shared.set(report.iter().any(|group| group.shared));
        let sequences = sequences.into_iter().flatten();
        let arm = |(arm, sequence): (&LoadedArm, _)| -> Result<Arm, SessionError> {
            let expert = arm.bridge.arm(arm.setup.name(), Box::new(sequence));
            if expert.is_translated() {
                // It has its prefix already.
                return Ok(expert);
            }
            Ok(match arm.setup.prefix(&arm.model)? {
                Some(prefix) => expert.with_prefix(prefix, arm.model.vocab().bos()),
                None => expert,
            })
        };
        let experts = self.arms.iter().zip(sequences).map(arm).collect::<Result<_, _>>()?;
        let mut guide = Guide::with_references(experts, self.directions.clone(), weights.clone());
        guide.set_limits(self.limits);
        Ok(guide)
    }

    /// Every token that ends a text, as the ARMs know it: a translated one by the base's.
    pub fn eog_tokens(&self) -> Vec<Token> {
        let of_arms = self.arms.iter().filter(|arm| !arm.bridge.translates()).map(|arm| arm.model.vocab());
        let mut eog: Vec<_> =
            of_arms.chain(self.base_vocab.clone()).flat_map(|vocab| vocab.eog_tokens().collect::<Vec<_>>()).collect();
        eog.sort_unstable();
        eog.dedup();
        eog
    }

    /// Compares the texts of a host's vocabulary with those of every ARM; where one is translated, with the base's.
    ///
    /// # Errors
    ///
    /// [`SessionError::Vocabulary`] with the first differences.
    pub fn check_host(&self, host: &HostTokens) -> Result<(), SessionError> {
        for arm in &self.arms {
            let of_base = self.base_vocab.as_ref().filter(|_| arm.bridge.translates());
            let of_arm = vocabulary(of_base.map_or(arm.model.file(), |vocab| vocab.model().file()));
            check_vocabulary(&Host { tokens: host, kinds: &of_arm }, &of_arm).map_err(|found| {
                SessionError::Vocabulary {
                    arm: arm.setup.arm.clone(),
                    arm_path: arm.setup.spec.model.clone(),
                    base_path: PathBuf::from("the host's model"),
                    found: Box::new(found),
                    advice: VocabularyAdvice::NameHost,
                }
            })?;
        }
        Ok(())
    }
}

impl ExpertSetup {
    /// What a persona reads before tokens of the base.
    pub(super) fn prefix(&self, model: &Arc<Model>) -> Result<Option<Vec<Token>>, SessionError> {
        let Some(prefix) = self.reading.before_text() else { return Ok(None) };
        let fail = |source| SessionError::Persona { who: self.who(), source };
        model.vocab().tokenize(&prefix, false, false).map(Some).map_err(fail)
    }
}

/// What a host tells of its vocabulary.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostTokens {
    /// The texts of all tokens, in the order of their ids.
    pub texts: Vec<Vec<u8>>,
    /// Whether a token is unused, so that it may be missing in an ARM.
    pub unused: Vec<bool>,
    /// The ids of bos, eos and eot, where there are any.
    pub special: [Option<u32>; 3],
}

/// A host's vocabulary beside an ARM's. llama.cpp corrects the types of some tokens while it loads, each version in its
/// own way, so the types of common tokens are taken to be equal.
struct Host<'a, T> {
    tokens: &'a HostTokens,
    kinds: &'a T,
}

impl<T: TokenTable> TokenTable for Host<'_, T> {
    fn n_tokens(&self) -> usize {
        self.tokens.texts.len()
    }

    fn text(&self, index: usize) -> &[u8] {
        &self.tokens.texts[index]
    }

    fn kind(&self, index: usize) -> TokenKind {
        match self.tokens.unused.get(index) {
            _ if index < self.kinds.n_tokens() => self.kinds.kind(index),
            Some(true) => TokenKind::Unused,
            _ => TokenKind::Normal,
        }
    }

    fn special(&self) -> [(&'static str, Option<u32>); 3] {
        let [bos, eos, eot] = self.tokens.special;
        [("bos", bos), ("eos", eos), ("eot", eot)]
    }
}

fn vocabulary(file: &GgufFile) -> crate::engine::gguf::Vocabulary<'_> {
    // `GgufFile::open_model` refuses a model without a vocabulary.
    file.vocabulary().unwrap_or_else(|| unreachable!("a model without a vocabulary was opened"))
}
