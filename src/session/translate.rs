//! What lies between the base's vocabulary and an ARM's: nothing where they are the same, else a translation. Each pair
//! of vocabularies is compared once, and what that finds is kept on disk.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::experts::ExpertSetup;
use super::{SessionError, VocabularyAdvice, cache};
use crate::config::{Config, VocabularyUse};
use crate::engine::VocabWords;
use crate::engine::fit::{Fit, Untranslatable, fit, translatable};
use crate::engine::gguf::GgufFile;
use crate::engine::llama::{Model, Vocab, build};
use crate::engine::threads::n_cores;
use crate::expert::{Expert, Token};
use crate::guidance::translate::{Lexicon, Translation, Words};
use crate::guidance::{Arm, Contract};

/// How an ARM's tokens become the base's.
#[derive(Clone)]
pub(super) enum Bridge {
    /// They are the base's.
    Same(Contract),
    /// They are translated; a persona reads a text of its own before a prompt.
    Translated { with: Arc<Translation>, prefix: Option<Vec<Token>> },
}

impl Bridge {
    /// An ARM on this side of it.
    pub fn arm(&self, name: String, expert: Box<dyn Expert + Send>) -> Arm {
        match self {
            Self::Same(contract) => Arm::new(name, expert, *contract),
            Self::Translated { with, prefix } => {
                let arm = Arm::translated(name, expert, Arc::clone(with));
                prefix.iter().fold(arm, |arm, prefix| arm.with_prefix(prefix.clone(), None))
            }
        }
    }

    /// The translation, where there is one.
    pub fn translation(&self) -> Option<Arc<Translation>> {
        match self {
            Self::Same(_) => None,
            Self::Translated { with, .. } => Some(Arc::clone(with)),
        }
    }

    /// Whether it translates.
    pub fn translates(&self) -> bool {
        matches!(self, Self::Translated { .. })
    }
}

impl ExpertSetup {
    /// Checks from the headers that this expert can guide the base.
    ///
    /// # Errors
    ///
    /// [`SessionError::Vocabulary`], which says what to do; [`SessionError::Untranslatable`].
    pub fn check_vocabulary(
        &self,
        config: &Config,
        base: &GgufFile,
        file: &GgufFile,
    ) -> Result<Option<Contract>, SessionError> {
        let Some(fit) = fit(base, file) else {
            // `GgufFile::open_model` refuses a model without a vocabulary.
            unreachable!("a model without a vocabulary was opened")
        };
        let refused = |found, advice| {
            let found = Box::new(found);
            let (arm_path, base_path) = (self.spec.model.clone(), config.base.model.clone());
            SessionError::Vocabulary { arm: self.arm.clone(), arm_path, base_path, found, advice }
        };
        match (fit, self.vocabulary) {
            (Fit::Same(_), VocabularyUse::Force) => {
                translatable(base, file).map(|()| None).map_err(|source| self.untranslatable(config, source))
            }
            (Fit::Same(contract), VocabularyUse::Same | VocabularyUse::Translate) => Ok(Some(contract)),
            (Fit::Translatable(mismatch), VocabularyUse::Same) => Err(refused(mismatch, VocabularyAdvice::Translate)),
            (Fit::Hopeless(mismatch, why), VocabularyUse::Same) => {
                Err(refused(mismatch, VocabularyAdvice::Hopeless(why)))
            }
            (Fit::Translatable(_), _) => Ok(None),
            (Fit::Hopeless(_, why), _) => Err(self.untranslatable(config, why)),
        }
    }

    fn untranslatable(&self, config: &Config, source: Untranslatable) -> SessionError {
        let (arm_path, base_path) = (self.spec.model.clone(), config.base.model.clone());
        SessionError::Untranslatable { arm: self.arm.clone(), arm_path, base_path, source }
    }
}

/// The translations of a configuration.
pub(super) struct Translations<'a> {
    config: &'a Config,
    base: &'a GgufFile,
    /// The base's vocabulary, once it is needed.
    vocab: Option<Vocab>,
    /// By the fingerprint of the ARM's tokenizer.
    made: HashMap<String, Arc<Translation>>,
}

impl<'a> Translations<'a> {
    /// Those to a base whose vocabulary is loaded, or is when it is needed.
    pub fn new(config: &'a Config, base: &'a GgufFile, vocab: Option<Vocab>) -> Self {
        Self { config, base, vocab, made: HashMap::new() }
    }

    /// What lies between the base and this expert on `model`; `loading` as where models are loaded.
    ///
    /// # Errors
    ///
    /// As [`ExpertSetup::check_vocabulary`]; [`SessionError::Load`] of the base's vocabulary.
    pub fn bridge(
        &mut self,
        setup: &ExpertSetup,
        model: &Arc<Model>,
        loading: &mut dyn FnMut(&Path, f32) -> bool,
    ) -> Result<Bridge, SessionError> {
        if let Some(contract) = setup.check_vocabulary(self.config, self.base, model.file())? {
            return Ok(Bridge::Same(contract));
        }
        let with = self.translation(setup, model, loading)?;
        Ok(Bridge::Translated { with, prefix: setup.prefix(model)? })
    }

    /// The translation of this expert, which is made unless another one has its vocabulary.
    fn translation(
        &mut self,
        setup: &ExpertSetup,
        model: &Arc<Model>,
        loading: &mut dyn FnMut(&Path, f32) -> bool,
    ) -> Result<Arc<Translation>, SessionError> {
        let key = model.file().tokenizer_fingerprint();
        if let Some(made) = self.made.get(&key) {
            return Ok(Arc::clone(made));
        }
        let fail = |source| setup.untranslatable(self.config, source);
        if model.is_recurrent() {
            return Err(fail(Untranslatable::Recurrent));
        }
        let label = PathBuf::from(format!("the vocabularies of the base and {}", setup.who()));
        // Ctrl-C is noticed when all is loaded.
        let mut announce = || _ = loading(&label, 0.0);
        let made = Arc::new(translation(&self.vocab()?, &model.vocab(), &mut announce).map_err(fail)?);
        self.made.insert(key, Arc::clone(&made));
        Ok(made)
    }

    /// The base's vocabulary.
    ///
    /// # Errors
    ///
    /// [`SessionError::Load`].
    pub fn vocab(&mut self) -> Result<Vocab, SessionError> {
        if let Some(vocab) = &self.vocab {
            return Ok(vocab.clone());
        }
        let fail = |source| SessionError::Load { who: "base".into(), source };
        let vocab = Model::load_vocab(self.base.path()).map_err(fail)?.vocab();
        Ok(self.vocab.insert(vocab).clone())
    }
}

/// The translation of an ARM's vocabulary to a base's: what was kept of it, else `announce`, and both are compared.
///
/// # Errors
///
/// [`Untranslatable`].
///
/// # Cost
///
/// Seconds for vocabularies of 100 thousand tokens, the first time.
pub fn translation(base: &Vocab, arm: &Vocab, announce: &mut dyn FnMut()) -> Result<Translation, Untranslatable> {
    let (of_base, of_arm) = (words(base, true)?, words(arm, false)?);
    let path = kept_at(base.model().file(), arm.model().file());
    let lexicon = match path.as_deref().and_then(|path| recall(path, &of_base, &of_arm)) {
        Some(lexicon) => lexicon,
        None => {
            announce();
            let lexicon = Lexicon::build(&of_base, &of_arm, n_cores() as usize)?;
            path.as_deref().into_iter().for_each(|path| keep(path, &lexicon));
            lexicon
        }
    };
    Ok(Translation { base: Box::new(of_base), arm: Box::new(of_arm), lexicon })
}

fn words(vocab: &Vocab, of_base: bool) -> Result<VocabWords, Untranslatable> {
    VocabWords::new(vocab).ok_or_else(|| {
        let vocabulary = vocab.model().file().vocabulary();
        let kind = vocabulary.map_or_else(String::new, |vocabulary| vocabulary.tokenizer_model().to_owned());
        Untranslatable::Tokenizer { kind, of_base }
    })
}

/// Where the lexicon of these two vocabularies is kept. Another llama.cpp may split texts otherwise.
fn kept_at(base: &GgufFile, arm: &GgufFile) -> Option<PathBuf> {
    let (version, llama) = (env!("CARGO_PKG_VERSION"), build().llama);
    let made_of = [&*base.tokenizer_fingerprint(), &arm.tokenizer_fingerprint(), version, &llama].join(" ");
    let name = format!("{:x}", Sha256::digest(made_of));
    Some(cache::folder()?.join("lexicons").join(&name[..32]))
}

fn recall(path: &Path, base: &dyn Words, arm: &dyn Words) -> Option<Lexicon> {
    Lexicon::from_bytes(&std::fs::read(path).ok()?, base, arm)
}

/// Keeps a lexicon; one that cannot be written only means comparing again.
fn keep(path: &Path, lexicon: &Lexicon) {
    let written = crate::files::write_whole(path, |file| std::fs::write(file, lexicon.to_bytes()));
    if let Err(error) = written {
        tracing::debug!(%error, "a lexicon cannot be kept");
    }
}
