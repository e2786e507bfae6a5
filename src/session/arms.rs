//! The ARMs of a configuration without its base: for hosts that run the base themselves.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use super::SessionError;
use super::open::{Loading, Models, member};
use super::{plan, share};
use crate::config::{Config, ExpertSpec, Switch};
use crate::engine::gguf::GgufFile;
use crate::engine::llama::{LoadError, Model};
use crate::expert::Token;
use crate::guidance::{Arm, Contract, Guide, TokenKind, TokenTable, Weights, check_vocabulary};

/// The ARMs, loaded once; each text has sequences of its own on them.
pub struct ArmModels {
    arms: Vec<LoadedArm>,
    n_vocab: usize,
    /// Whether ARMs on the same weights share batches, as configured.
    share_batch: Switch,
    /// Whether they do, once it has been tried.
    shared: OnceLock<bool>,
}

struct LoadedArm {
    name: String,
    spec: ExpertSpec,
    model: Arc<Model>,
    contract: Contract,
}

impl ArmModels {
    /// Loads the ARMs of `config`. Of the base only the header is read, for its vocabulary; its weights are loaded where an ARM
    /// is a LoRA on them.
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
        let mut arms = Vec::with_capacity(config.arms.len());
        for arm in &config.arms {
            let model = models.get(&format!("ARM \"{}\"", arm.name), &arm.spec)?;
            let contract = check_vocabulary(&vocabulary(&base), &vocabulary(model.file())).map_err(|source| {
                let (arm_path, base_path) = (arm.spec.model.clone(), config.base.model.clone());
                SessionError::Vocabulary { arm: arm.name.clone(), arm_path, base_path, source }
            })?;
            arms.push(LoadedArm { name: arm.name.clone(), spec: arm.spec.clone(), model, contract });
        }
        let (share_batch, shared) = (config.share_batch, OnceLock::new());
        Ok(Self { arms, n_vocab: vocabulary(&base).n_tokens(), share_batch, shared })
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
        let of_arm = |arm: &'_ LoadedArm| format!("ARM \"{}\"", arm.name);
        let members = self.arms.iter().map(|arm| member(of_arm(arm), &arm.model, &arm.spec));
        let members = members.collect::<Result<Vec<_>, _>>()?;
        // What did not work or did not pay the first time is not tried again for every text.
        let switch = if self.shared.get() == Some(&false) { Switch::Off } else { self.share_batch };
        let (sequences, report) = share::sequences(&members, switch, 1)?;
        let _ = self.shared.set(report.iter().any(|group| group.shared));
        let sequences = sequences.into_iter().flatten();
        let arm = |(arm, sequence): (&LoadedArm, _)| Arm::new(&arm.name, Box::new(sequence), arm.contract);
        Ok(Guide::new(self.arms.iter().zip(sequences).map(arm).collect(), weights.clone()))
    }

    /// Every token that ends a text, as the ARMs know it.
    pub fn eog_tokens(&self) -> Vec<Token> {
        let mut eog: Vec<_> =
            self.arms.iter().flat_map(|arm| arm.model.vocab().eog_tokens().collect::<Vec<_>>()).collect();
        eog.sort_unstable();
        eog.dedup();
        eog
    }

    /// Compares the texts of a host's vocabulary with those of every ARM.
    ///
    /// # Errors
    ///
    /// [`SessionError::Vocabulary`] with the first differences.
    pub fn check_host(&self, host: &HostTokens) -> Result<(), SessionError> {
        for arm in &self.arms {
            let of_arm = vocabulary(arm.model.file());
            check_vocabulary(&Host { tokens: host, kinds: &of_arm }, &of_arm).map_err(|source| {
                SessionError::Vocabulary {
                    arm: arm.name.clone(),
                    arm_path: arm.spec.model.clone(),
                    base_path: PathBuf::from("the host's model"),
                    source,
                }
            })?;
        }
        Ok(())
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

/// A host's vocabulary beside an ARM's. llama.cpp corrects the types of some tokens while it loads, each version in its own
/// way, so the types of common tokens are taken to be equal.
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
