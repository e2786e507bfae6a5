//! Opening everything that a configuration names.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::draft_length::n_snapshots;
use super::experts::{ExpertSetup, Experts};
use super::params::{context_params, model_params};
use super::share::{self, Member, Shared};
use super::translate::{Bridge, Translations};
use super::{ExpertText, SessionError, plan, template};
use crate::chat::ChatTemplate;
use crate::config::{Config, ExpertSpec};
use crate::engine::llama::{FlashAttention, Model, ModelParams};
use crate::engine::rollback::takes_back;
use crate::engine::share::ShareError;
use crate::engine::{Sequence, StackError, acts_on_responses_only};
use crate::guidance::Guide;

/// Told the file that is being loaded and the share of it that is read; `false` ends the loading.
pub type Loading<'a> = &'a mut dyn FnMut(&Path, f32) -> bool;

/// Everything, open.
pub(super) struct Opened {
    pub base: Arc<Model>,
    pub base_template: Option<ChatTemplate>,
    /// The base's sequence and the ARMs' guide, of each slot.
    pub slots: Vec<(Sequence, Guide)>,
    pub experts: Vec<ExpertText>,
    /// The expert of each ARM; `None` is the base itself.
    pub of_arms: Vec<Option<usize>>,
    pub shared: Vec<Shared>,
    /// Tokens of a draft that all of them can take back.
    pub draft_max: usize,
}

pub(super) fn open(config: &Config, n_slots: usize, loading: Loading<'_>) -> Result<Opened, SessionError> {
    let config = &plan::resolve(config, n_slots)?;
    let mut models = Models::new(loading);
    let base = models.get("base", &config.base)?;
    let base_template = template::of_base(config, base.file())?;
    refuse_response_only(&config.base)?;
    let member = |who, model: &Arc<Model>, spec| member(who, model, spec).map(|member| with_snapshots(config, member));
    let mut members = vec![member("base".into(), &base, &config.base)?];
    let (mut bridges, mut texts) = (Vec::new(), Vec::new());
    let mut translations = Translations::new(config, base.file(), Some(base.vocab()));
    let experts = Experts::of(config, true);
    for setup in &experts.setups {
        let model = models.get(&setup.who(), &setup.spec)?;
        let bridge = translations.bridge(setup, &model, models.loading())?;
        let on_base = Arc::ptr_eq(&model, &base);
        let (template, templated) = template::of_expert(config, setup, model.file(), on_base, base_template.as_ref())?;
        let (who, spec, reading) = (setup.who(), setup.spec.clone(), setup.reading.clone());
        let (spare, translation, vocab) = (setup.spare, bridge.translation(), model.vocab());
        texts.push(ExpertText { who, vocab, template, templated, spec, reading, spare, translation });
        bridges.push(bridge);
        members.push(Member { is_spare: setup.spare, ..member(setup.who(), &model, &setup.spec)? });
    }
    let (sequences, shared) = share::sequences(&members, config.share_batch, n_slots)?;
    let draft_max = sequences.iter().flatten().map(Sequence::n_undo_max).min().unwrap_or(usize::MAX);
    let mut sequences: Vec<_> = sequences.into_iter().map(Vec::into_iter).collect();
    let mut slots = Vec::with_capacity(n_slots);
    for _ in 0..n_slots {
        let mut row = sequences.iter_mut().flat_map(Iterator::next);
        let Some(base) = row.next() else { break };
        let arm = |((setup, bridge), expert): ((&ExpertSetup, &Bridge), _)| bridge.arm(setup.name(), Box::new(expert));
        let row = experts.setups.iter().zip(&bridges).zip(row).map(arm).collect();
        let mut guide = Guide::with_references(row, experts.directions.clone(), config.steering());
        guide.set_limits(config.guidance.limits);
        slots.push((base, guide));
    }
    let of_arms = experts.directions.iter().map(|direction| direction.arm.expert()).collect();
    Ok(Opened { base, base_template, slots, experts: texts, of_arms, shared, draft_max })
}

/// One copy of the weights of each file, however many experts stand on it.
pub(super) struct Models<'a> {
    loaded: HashMap<(PathBuf, ModelParams), Arc<Model>>,
    loading: Loading<'a>,
}

impl<'a> Models<'a> {
    pub(super) fn new(loading: Loading<'a>) -> Self {
        Self { loaded: HashMap::new(), loading }
    }

    /// Whom to tell of what is being loaded.
    pub(super) fn loading(&mut self) -> Loading<'_> {
        &mut *self.loading
    }

    pub(super) fn get(&mut self, who: &str, spec: &ExpertSpec) -> Result<Arc<Model>, SessionError> {
        let params = model_params(spec);
        // Two names of one file are one file; a path that does not exist is reported by the loader.
        let path = std::fs::canonicalize(&spec.model).unwrap_or_else(|_| spec.model.clone());
        if let Some(model) = self.loaded.get(&(path.clone(), params.clone())) {
            return Ok(Arc::clone(model));
        }
        let loading = &mut self.loading;
        let model = Model::load(&spec.model, &params, &mut |share| loading(&spec.model, share))
            .map_err(|source| SessionError::Load { who: who.into(), source })?;
        self.loaded.insert((path, params), Arc::clone(&model));
        Ok(model)
    }
}

pub(super) fn member<'a>(who: String, model: &Arc<Model>, spec: &'a ExpertSpec) -> Result<Member<'a>, SessionError> {
    let params = context_params(spec, model.file());
    if params.type_v.is_quantised() && params.flash_attention == FlashAttention::Off {
        let ty = format!("{:?}", params.type_v).to_lowercase();
        return Err(SessionError::QuantisedV { who, ty });
    }
    Ok(Member { who, model: Arc::clone(model), spec, params, is_spare: false })
}

/// Lets a recurrent model take back a draft, where something drafts and llama.cpp can.
fn with_snapshots<'a>(config: &Config, mut member: Member<'a>) -> Member<'a> {
    let n = n_snapshots(config, member.model.file());
    if n > 0 && takes_back(&member.model, &member.params) {
        member.params.n_snapshots = n;
    }
    member
}

/// Refuses a base whose own adapter acts on responses alone: ARMs take over its keys and values.
fn refuse_response_only(base: &ExpertSpec) -> Result<(), SessionError> {
    let adapters: Vec<_> = base.lora.iter().map(|lora| (lora.path.as_path(), lora.scale)).collect();
    match (acts_on_responses_only(&adapters), adapters.first()) {
        (Ok(true), Some((path, _))) => {
            let source = ShareError::Stack(StackError::OfBase { path: path.to_path_buf() });
            Err(SessionError::Sequence { who: "base".into(), source })
        }
        // What is wrong with a file is reported when it is loaded.
        _ => Ok(()),
    }
}
