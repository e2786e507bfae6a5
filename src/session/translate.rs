//! What lies between the base's vocabulary and an ARM's: nothing where they are the same, else a translation. Each pair
//! of vocabularies is compared once, and what that finds is kept on disk.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::experts::ExpertSetup;
use super::open::Loading;
use super::{SessionError, cache};
use crate::config::{Config, VocabularyUse};
use crate::engine::VocabWords;
use crate::engine::fit::{Fit, Untranslatable, fit, translatable};
use crate::engine::gguf::GgufFile;
use crate::engine::llama::{Model, Vocab, build};
use crate::engine::memory::n_physical_cores;
use crate::expert::Expert;
use crate::guidance::translate::{Lexicon, Translation, Words};
use crate::guidance::{Arm, Contract};

/// How an ARM's tokens become the base's.
#[derive(Clone)]
pub(super) enum Bridge {
    /// They are the base's.
    Same(Contract),
    /// They are translated.
    Translated(Arc<Translation>),
}

impl Bridge {
    /// An ARM on this side of it.
    pub fn arm(&self, name: String, expert: Box<dyn Expert + Send>) -> Arm {
        match self {
            Self::Same(contract) => Arm::new(name, expert, *contract),
            Self::Translated(translation) => Arm::translated(name, expert, Arc::clone(translation)),
        }
    }

    /// The translation, where there is one.
    pub fn translation(&self) -> Option<Arc<Translation>> {
        match self {
            Self::Same(_) => None,
            Self::Translated(translation) => Some(Arc::clone(translation)),
        }
    }

    /// Whether it translates.
    pub fn translates(&self) -> bool {
        matches!(self, Self::Translated(_))
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
        let refused = |source, advice| {
            let (arm_path, base_path) = (self.spec.model.clone(), config.base.model.clone());
            SessionError::Vocabulary { arm: self.arm.clone(), arm_path, base_path, source, advice }
        };
        match (fit, self.vocabulary) {
            (Fit::Same(_), VocabularyUse::Force) => {
                translatable(base, file).map(|()| None).map_err(|source| self.untranslatable(config, source))
            }
            (Fit::Same(contract), VocabularyUse::Same | VocabularyUse::Translate) => Ok(Some(contract)),
            (Fit::Translatable(mismatch), VocabularyUse::Same) => {
                let advice = format!(
                    "give --translate {}, or `vocabulary: translate` in the file, to guide across vocabularies",
                    self.arm
                );
                Err(refused(mismatch, advice))
            }
            (Fit::Hopeless(mismatch, why), VocabularyUse::Same) => {
                Err(refused(mismatch, format!("nor can it be translated: {why}")))
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

    /// What lies between the base and this expert on `model`.
    ///
    /// # Errors
    ///
    /// As [`ExpertSetup::check_vocabulary`]; [`SessionError::Load`] of the base's vocabulary.
    pub fn bridge(
        &mut self,
        setup: &ExpertSetup,
        model: &Arc<Model>,
        loading: Loading<'_>,
    ) -> Result<Bridge, SessionError> {
        if let Some(contract) = setup.check_vocabulary(self.config, self.base, model.file())? {
            return Ok(Bridge::Same(contract));
        }
        let key = model.file().tokenizer_fingerprint();
        if let Some(made) = self.made.get(&key) {
            return Ok(Bridge::Translated(Arc::clone(made)));
        }
        let fail = |source| setup.untranslatable(self.config, source);
        if model.is_recurrent() {
            return Err(fail(Untranslatable::Recurrent));
        }
        let base = self.vocab()?;
        let of_base = words(&base, true).map_err(fail)?;
        let of_arm = words(&model.vocab(), false).map_err(fail)?;
        let path = kept_at(self.base, &key);
        let lexicon = match path.as_deref().and_then(|path| recall(path, &of_base, &of_arm)) {
            Some(lexicon) => lexicon,
            None => {
                let label = PathBuf::from(format!("the vocabularies of the base and {}", setup.who()));
                loading(&label, 0.0);
                let lexicon = Lexicon::build(&of_base, &of_arm, n_physical_cores() as usize);
                let lexicon = lexicon.map_err(|why| fail(why.into()))?;
                path.as_deref().into_iter().for_each(|path| keep(path, &lexicon));
                lexicon
            }
        };
        let translation = Translation { base: Box::new(of_base), arm: Box::new(of_arm), lexicon };
        let translation = Arc::new(translation);
        self.made.insert(key, Arc::clone(&translation));
        Ok(Bridge::Translated(translation))
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

fn words(vocab: &Vocab, of_base: bool) -> Result<VocabWords, Untranslatable> {
    VocabWords::new(vocab).ok_or_else(|| {
        let vocabulary = vocab.model().file().vocabulary();
        let kind = vocabulary.map_or_else(String::new, |vocabulary| vocabulary.tokenizer_model().to_owned());
        Untranslatable::Tokenizer { kind, of_base }
    })
}

/// Where the lexicon of these two vocabularies is kept. Another llama.cpp may split texts otherwise.
fn kept_at(base: &GgufFile, arm: &str) -> Option<PathBuf> {
    let made_of = [&base.tokenizer_fingerprint(), arm, env!("CARGO_PKG_VERSION"), &build().llama].join(" ");
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
