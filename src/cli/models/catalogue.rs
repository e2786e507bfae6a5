//! What is on this machine, read from the headers of the files: which models share a vocabulary, which adapters fit
//! which models, which are tuned and untuned versions of each other.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::family::Kin;
use crate::brief;
use crate::engine::fit::{Fit, fit};
use crate::engine::gguf::{GgufFile, ModelKind, Vocabulary};
use crate::guidance::{Difference, Tail, TokenTable, check_vocabulary};
use crate::stores::StoredModel;
use crate::train::tokens::vocab_hash;

/// Characters of the reason for which a file cannot be used.
const MAX_REASON: usize = 400;

/// One model or adapter.
#[derive(Debug, Serialize)]
pub struct Listed {
    /// What to type for it.
    pub name: String,
    /// Other names of the same file.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<String>,
    pub path: Option<PathBuf>,
    /// Of all its files.
    pub bytes: u64,
    /// `model`, `adapter`, `embedding` and so on; absent where the file cannot be read.
    pub kind: Option<String>,
    pub architecture: Option<String>,
    pub quantisation: Option<&'static str>,
    pub parameters: u64,
    pub n_vocab: Option<usize>,
    /// Hash of the tokens' texts, in hexadecimal: equal where the texts are.
    pub vocabulary: Option<String>,
    /// What `genarm train` made it for: `arm`, `dpo` or `sft`.
    pub objective: Option<String>,
    /// The models that it can steer as an ARM.
    pub can_steer: Vec<Steered>,
    /// The models of other vocabularies that it can steer where that is asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub can_translate: Vec<String>,
    /// What its file calls it.
    pub title: Option<String>,
    /// The models that it is an adapter for, by its shape; the one that it was trained on is the first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fits: Vec<String>,
    /// The untuned model of its family and size, which makes it an ARM with a `reference:`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tuned_from: Option<String>,
    /// Why it cannot be used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// What the model that it was trained on is called.
    #[serde(skip)]
    backbone: Option<String>,
    #[serde(skip)]
    kin: Kin,
    #[serde(skip)]
    recurrent: bool,
    /// The place of its vocabulary in [`Catalogue::vocabularies`].
    #[serde(skip)]
    group: Option<usize>,
}

/// A model that another one can steer.
#[derive(Debug, Serialize, PartialEq, Eq)]
pub struct Steered {
    pub name: String,
    /// Whether one vocabulary has unused tokens after the common ones.
    pub padded: bool,
}

impl Listed {
    fn new(name: &str, path: Option<&Path>, bytes: u64) -> Self {
        Self {
            name: name.to_owned(),
            also: Vec::new(),
            path: path.map(Path::to_owned),
            bytes,
            kind: None,
            architecture: None,
            quantisation: None,
            parameters: 0,
            n_vocab: None,
            vocabulary: None,
            objective: None,
            title: None,
            can_steer: Vec::new(),
            can_translate: Vec::new(),
            fits: Vec::new(),
            tuned_from: None,
            problem: None,
            backbone: None,
            kin: Kin::default(),
            recurrent: false,
            group: None,
        }
    }

    pub fn is_model(&self) -> bool {
        self.group.is_some()
    }

    pub fn is_adapter(&self) -> bool {
        self.kind.as_deref() == Some("adapter") && self.problem.is_none()
    }

    /// Whether an adapter was trained on this model, by what its file says.
    pub fn was_trained_on(&self, model: &Self) -> bool {
        let file = model.path.as_ref().and_then(|path| path.file_name()).map(|name| name.to_string_lossy());
        self.backbone.is_some() && (self.backbone == model.title || self.backbone.as_deref() == file.as_deref())
    }

    /// Whether it goes by this name.
    pub fn is_called(&self, name: &str) -> bool {
        self.name == name || self.also.iter().any(|also| also == name)
    }
}

/// All of it.
#[derive(Debug, Default)]
pub struct Catalogue {
    pub all: Vec<Listed>,
    /// Models with the same tokens of which other special tokens, such as the end of a text, keep them apart.
    pub nearly: Vec<String>,
    /// One file of each vocabulary.
    vocabularies: Vec<GgufFile>,
    adapters: Vec<(usize, GgufFile)>,
}

impl Catalogue {
    /// Reads the headers of these files, and compares them.
    pub fn read(models: Vec<StoredModel>) -> Self {
        let mut catalogue = Self::default();
        for model in models {
            match model.files {
                Ok(files) => catalogue.add(&model.name, &files),
                Err(error) => {
                    let problem = Some(brief::message(&error.to_string(), MAX_REASON).into_owned());
                    catalogue.all.push(Listed { problem, ..Listed::new(&model.name, None, 0) });
                }
            }
        }
        catalogue.compare();
        catalogue
    }

    /// Adds a file that is in no store.
    pub fn add_file(&mut self, name: &str, path: &Path) {
        self.add(name, &[path.to_owned()]);
        self.compare();
    }

    fn add(&mut self, name: &str, files: &[PathBuf]) {
        let Some(path) = files.first() else { return };
        let is_same = |listed: &&mut Listed| listed.path.as_ref().is_some_and(|other| crate::files::same(other, path));
        if let Some(known) = self.all.iter_mut().find(is_same) {
            known.also.push(name.to_owned());
            return;
        }
        let bytes = files.iter().filter_map(|file| std::fs::metadata(file).ok()).map(|file| file.len()).sum();
        let mut listed = Listed::new(name, Some(path), bytes);
        match GgufFile::open(path) {
            Err(error) => listed.problem = Some(brief::message(&error.to_string(), MAX_REASON).into_owned()),
            Ok(file) => self.describe(&mut listed, file),
        }
        self.all.push(listed);
    }

    fn describe(&mut self, listed: &mut Listed, file: GgufFile) {
        let text = |key| file.str(key).map(str::to_owned);
        listed.kind = Some(format!("{:?}", file.kind()).to_lowercase());
        listed.recurrent = file.is_recurrent();
        listed.architecture = file.architecture().map(str::to_owned);
        listed.quantisation = file.file_type();
        listed.parameters = file.n_params();
        listed.objective = text("genarm.objective");
        listed.title = text("general.name");
        listed.backbone = text("genarm.backbone.name");
        let of_path = file.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
        let typed = listed.name.rsplit_once('/').map_or(&*listed.name, |(_, last)| last);
        // `…/REPO/FILE.gguf` and `…/REPO:QUANT`.
        let repo = listed.name.rsplit('/').nth(1).unwrap_or_default();
        let names = [typed, repo, &of_path, file.str("general.name").unwrap_or_default()];
        listed.kin = Kin::of(names);
        if let Some(vocabulary) = file.vocabulary() {
            listed.n_vocab = Some(vocabulary.n_tokens());
            listed.vocabulary = Some(vocab_hash(vocabulary.texts()));
        }
        match file.kind() {
            ModelKind::Adapter => {
                listed.vocabulary = text("genarm.vocab.hash").filter(|hash| is_hash(hash));
                self.adapters.push((self.all.len(), file));
            }
            ModelKind::Model => listed.group = self.group(file),
            _ => {}
        }
    }

    /// The place of a file's vocabulary among those that are known.
    fn group(&mut self, file: GgufFile) -> Option<usize> {
        let same = |a: &Vocabulary<'_>, b: &Vocabulary<'_>| {
            let contract = check_vocabulary(a, b);
            a.special() == b.special() && contract.is_ok_and(|contract| contract.tail == Tail::None)
        };
        let vocabulary = file.vocabulary()?;
        let known =
            self.vocabularies.iter().position(|other| other.vocabulary().is_some_and(|o| same(&o, &vocabulary)));
        known.or_else(|| {
            self.vocabularies.push(file);
            Some(self.vocabularies.len() - 1)
        })
    }

    fn compare(&mut self) {
        self.compare_vocabularies();
        self.compare_special_tokens();
        self.compare_adapters();
        self.find_tuned();
    }

    fn compare_vocabularies(&mut self) {
        let files = &self.vocabularies;
        let each = |base| files.iter().map(move |arm| fit(base, arm)).collect();
        // By base, then by ARM.
        let fits: Vec<Vec<Option<Fit>>> = files.iter().map(each).collect();
        let models: Vec<(String, usize)> =
            self.all.iter().filter_map(|model| Some((model.name.clone(), model.group?))).collect();
        for arm in &mut self.all {
            let Some(group) = arm.group else { continue };
            let steered = |(base, base_group): &(String, usize)| match &fits[*base_group][group] {
                Some(Fit::Same(contract)) if *base != arm.name => {
                    Some(Steered { name: base.clone(), padded: contract.tail != Tail::None })
                }
                _ => None,
            };
            arm.can_steer = models.iter().filter_map(steered).collect();
            let translates = |group_of_base: usize| matches!(fits[group_of_base][group], Some(Fit::Translatable(_)));
            let others = models.iter().filter(|(_, base_group)| !arm.recurrent && translates(*base_group));
            arm.can_translate = others.map(|(base, _)| base.clone()).collect();
        }
    }

    fn compare_special_tokens(&mut self) {
        let name = |group: usize| self.all.iter().find(|model| model.group == Some(group)).map(|model| &*model.name);
        let files = self.vocabularies.iter().enumerate();
        let pairs = files.clone().flat_map(|(i, a)| files.clone().skip(i + 1).map(move |(j, b)| (i, a, j, b)));
        let line = |(i, a, j, b): (usize, &GgufFile, usize, &GgufFile)| {
            let mismatch = check_vocabulary(&a.vocabulary()?, &b.vocabulary()?).err()?;
            let special = |difference: &Difference| match difference {
                Difference::Special { name, base, arm } => Some(format!("{name} is token {base} and {arm}")),
                _ => None,
            };
            let all: Option<Vec<_>> = mismatch.first.iter().map(special).collect();
            let all = all.filter(|all| all.len() == mismatch.n_differences)?.join(", ");
            Some(format!("{} and {}: {all}", name(i)?, name(j)?))
        };
        self.nearly = pairs.filter_map(line).collect();
    }

    /// Opens the models of the adapters' architectures once more: a vocabulary for each would take much memory.
    fn compare_adapters(&mut self) {
        let of_adapters: Vec<_> =
            self.adapters.iter().filter_map(|(_, file)| file.architecture().map(str::to_owned)).collect();
        let mut fits: Vec<Vec<String>> = vec![Vec::new(); self.adapters.len()];
        for model in self.all.iter().filter(|model| model.is_model()) {
            let is_of = model.architecture.as_ref().is_some_and(|own| of_adapters.contains(own));
            let Some(file) = model.path.as_ref().filter(|_| is_of).and_then(|path| GgufFile::open(path).ok()) else {
                continue;
            };
            for (fits, (at, adapter)) in fits.iter_mut().zip(&self.adapters) {
                let trained_on = self.all[*at].vocabulary.as_ref();
                if trained_on.is_none_or(|hash| model.vocabulary.as_ref() == Some(hash)) && adapter.fits(&file).is_ok()
                {
                    fits.push(model.name.clone());
                }
            }
        }
        for (mut fits, (at, _)) in fits.into_iter().zip(&self.adapters) {
            let model = |name: &String| self.all.iter().find(|model| model.name == *name);
            fits.sort_by_key(|name| !model(name).is_some_and(|model| self.all[*at].was_trained_on(model)));
            self.all[*at].can_steer = self.steered_by_adapter(&fits);
            let backbone = self.all.iter().find(|model| fits.contains(&model.name));
            self.all[*at].can_translate = backbone.map(|model| model.can_translate.clone()).unwrap_or_default();
            self.all[*at].fits = fits;
        }
    }

    /// An adapter steers the models that it fits, and those that they steer.
    fn steered_by_adapter(&self, fits: &[String]) -> Vec<Steered> {
        let mut steered: Vec<_> = fits.iter().map(|name| Steered { name: name.clone(), padded: false }).collect();
        for backbone in self.all.iter().filter(|model| fits.contains(&model.name)) {
            for other in &backbone.can_steer {
                if !steered.iter().any(|known| known.name == other.name) {
                    steered.push(Steered { name: other.name.clone(), padded: other.padded });
                }
            }
        }
        steered
    }

    fn find_tuned(&mut self) {
        let of_size = |a: &Listed, b: &Listed| a.parameters.abs_diff(b.parameters) <= a.parameters / 10;
        let from = |tuned: &Listed| {
            let is_from = |other: &&Listed| {
                other.is_model()
                    && !other.kin.tuned
                    && tuned.kin.is_of(&other.kin)
                    && tuned.architecture == other.architecture
                    && of_size(tuned, other)
                    && tuned.can_steer.iter().any(|steered| steered.name == other.name)
            };
            let alike = |other: &&Listed| (other.quantisation != tuned.quantisation, other.bytes);
            self.all.iter().filter(is_from).min_by_key(alike).map(|other| other.name.clone())
        };
        let found: Vec<_> =
            self.all.iter().map(|model| (model.is_model() && model.kin.tuned).then(|| from(model)).flatten()).collect();
        for (model, from) in self.all.iter_mut().zip(found) {
            model.tuned_from = from;
        }
    }
}

/// Whether a file's text can be a vocabulary's hash.
fn is_hash(text: &str) -> bool {
    !text.is_empty() && text.len() <= 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}
