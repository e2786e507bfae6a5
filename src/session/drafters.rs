//! The drafters of a session.

use std::path::Path;
use std::sync::Arc;

use super::draft_length::{LENGTH, LENGTH_LOOKUP};
use super::open::{Loading, member};
use super::params::model_params;
use super::{ExpertText, ExpertTexts, SessionError};
use crate::config::{Config, ExpertSpec, Speculate};
use crate::decode::controller::{Controller, DRAFT_MAX, Prior};
use crate::decode::draft::{ArmDrafter, BaseDrafter, Drafter, HeadDrafter, LookupDrafter, ModelDrafter};
use crate::decode::{Policy, Speculator};
use crate::engine::llama::Model;
use crate::engine::share::apart;
use crate::guidance::check_vocabulary;
use crate::sampling::HookState;
use crate::sampling::params::Mirostat;

/// The ARMs help to draft where reading them costs less than this share of reading the base.
const CHEAP: f64 = 0.5;
/// `auto` lets the base draft only where it is less than this share of a plain step.
const SMALL_BASE: f64 = 0.6;

/// The base's weights and the ARMs', which say what they cost before anything is measured: a token reads them all.
struct DrafterParts<'a> {
    config: &'a Config,
    base: &'a Arc<Model>,
    experts: &'a ExpertTexts,
    hook: &'a HookState,
    /// Tokens of a draft that base and ARMs can take back.
    draft_max: usize,
}

/// The speculator that the configuration asks for; `None` decodes plainly.
pub(super) fn speculator(
    config: &Config,
    base: &Arc<Model>,
    experts: &ExpertTexts,
    draft_max: usize,
    hook: &HookState,
    loading: Loading<'_>,
) -> Result<Option<Speculator>, SessionError> {
    if config.speculate == Speculate::Off {
        return Ok(None);
    }
    let parts = DrafterParts { config, base, experts, hook, draft_max };
    if let Some(obstacle) = parts.obstacle() {
        return match &config.speculate {
            Speculate::Auto => Ok(None),
            _ => Err(SessionError::Speculate(obstacle)),
        };
    }
    if let Some(arm) = parts.translated_drafter() {
        tracing::warn!("ARM \"{arm}\" has another vocabulary than the base, so it cannot draft; decoding is plain");
        return Ok(None);
    }
    let max = |default| config.draft_max.map_or(default, |n| n as usize).min(draft_max);
    let fixed = |drafter: Box<dyn Drafter>, length| (vec![drafter], Policy::Fixed(max(length)));
    let (drafters, policy) = match &config.speculate {
        Speculate::Off => return Ok(None),
        Speculate::Auto => parts.auto(max(DRAFT_MAX))?,
        Speculate::Lookup => fixed(Box::new(LookupDrafter), LENGTH_LOOKUP),
        Speculate::Base | Speculate::Arm(_) if parts.drafts_one_by_one().is_some() => {
            return Err(SessionError::Speculate(parts.drafts_one_by_one().unwrap_or_default()));
        }
        Speculate::Base => fixed(parts.needs_arms("base").map(|()| Box::new(BaseDrafter) as Box<dyn Drafter>)?, LENGTH),
        Speculate::Backbone => fixed(parts.backbone()?.ok_or_else(no_backbone)?, LENGTH),
        Speculate::Draft(file) => fixed(parts.draft(file, loading)?, LENGTH),
        Speculate::Mtp => fixed(parts.head()?, LENGTH),
        Speculate::Arm(name) => fixed(parts.arm(name.as_deref())?, LENGTH),
    };
    Ok(Some(Speculator::new(drafters, policy)))
}

fn no_backbone() -> SessionError {
    SessionError::Speculate(
        "no ARM is a LoRA on a model other than the base, so there is no backbone to draft with; \
         take base, lookup or draft:FILE"
            .into(),
    )
}

impl DrafterParts<'_> {
    /// Why nothing can be drafted.
    fn obstacle(&self) -> Option<String> {
        if self.config.sampling.mirostat != Mirostat::Off {
            return Some("mirostat has no distribution to verify a draft against; use --speculate off".into());
        }
        let who = self.recurrent().filter(|_| self.draft_max == 0)?;
        Some(format!("{who} is a recurrent model, which cannot take back a draft; take --speculate off"))
    }

    /// The first of base and ARMs that is a recurrent model.
    fn recurrent(&self) -> Option<String> {
        let arm = || self.experts().find(|expert| expert.vocab.model().is_recurrent()).map(|expert| expert.who.clone());
        if self.base.is_recurrent() { Some("the base".into()) } else { arm() }
    }

    /// Why neither base nor ARMs can draft: a recurrent state is taken back within one batch, and they read a draft token
    /// by token.
    fn drafts_one_by_one(&self) -> Option<String> {
        self.recurrent().map(|who| {
            format!("{who} is a recurrent model, which takes back what it reads at once, and not what it drafts; take lookup or draft:FILE")
        })
    }

    /// The ARM that is to draft and has other tokens than the base.
    fn translated_drafter(&self) -> Option<&str> {
        let Speculate::Arm(name) = &self.config.speculate else { return None };
        let index = self.config.arms.iter().position(|arm| name.as_ref().is_none_or(|name| arm.name == *name))?;
        let expert = &self.experts.experts[self.experts.of_arms[index]?];
        expert.translation.is_some().then_some(&*self.config.arms[index].name)
    }

    fn needs_arms(&self, drafter: &str) -> Result<(), SessionError> {
        match self.experts().next() {
            None => Err(SessionError::Speculate(format!(
                "{drafter} needs an ARM, and there is none; use lookup or draft:FILE"
            ))),
            Some(_) => Ok(()),
        }
    }

    /// What is evaluated beside the base, but for personas that are yet to come.
    fn experts(&self) -> impl Iterator<Item = &ExpertText> {
        self.experts.experts.iter().filter(|expert| !expert.spare)
    }

    fn arm_bytes(&self) -> f64 {
        self.experts().map(|expert| expert.vocab.model().n_bytes() as f64).sum()
    }

    /// A plain step reads this much.
    fn step_bytes(&self) -> f64 {
        self.base.n_bytes() as f64 + self.arm_bytes()
    }

    /// Whether the ARMs are so small beside the base that they help to draft. A translated one divides its opinion as the
    /// base's own logits say, which a draft does not have.
    fn arms_are_cheap(&self) -> bool {
        let are_plain = self.experts().all(|expert| expert.translation.is_none());
        are_plain
            && self.recurrent().is_none()
            && self.experts().next().is_some()
            && self.arm_bytes() < CHEAP * self.base.n_bytes() as f64
    }

    /// Whether a drafter adds the ARMs' logits: where they are cheap. The ARMs then keep their rows.
    fn guides_drafts(&self) -> bool {
        let guided = self.arms_are_cheap();
        if guided {
            self.hook.with_guide(|guide| guide.keep_rows());
        }
        guided
    }

    /// A drafter of a model, that adds the ARMs' logits where they are cheap.
    fn model(&self, name: String, model: &Arc<Model>, spec: &ExpertSpec) -> Result<Box<dyn Drafter>, SessionError> {
        if model.is_recurrent() {
            let problem = format!("{name} is a recurrent model, which cannot take back a draft; take another");
            return Err(SessionError::Speculate(problem));
        }
        let spec = ExpertSpec { lora: Vec::new(), ..spec.clone() };
        let params = member(name.clone(), model, &spec)?.params;
        let alone = apart(model, &[], &params, 1);
        let expert = alone.map_err(|source| SessionError::Sequence { who: name.clone(), source })?.remove(0);
        let guided = self.guides_drafts();
        Ok(Box::new(ModelDrafter::new(name, Box::new(expert), guided)))
    }

    fn head(&self) -> Result<Box<dyn Drafter>, SessionError> {
        match self.base.lacks_draft_head() {
            Some(lack) => Err(SessionError::Speculate(format!("{} {lack}", self.config.base.model.display()))),
            None => Ok(Box::new(HeadDrafter::new(self.guides_drafts()))),
        }
    }

    /// The first expert that is a LoRA on another model than the base, with the adapter off.
    fn backbone_of(&self) -> Option<(&ExpertSpec, &Arc<Model>)> {
        let of_vocabulary = self.experts().filter(|expert| expert.translation.is_none());
        let mut experts = of_vocabulary.map(|expert| (&expert.spec, expert.vocab.model()));
        experts.find(|(spec, model)| !spec.lora.is_empty() && !Arc::ptr_eq(model, self.base))
    }

    fn backbone(&self) -> Result<Option<Box<dyn Drafter>>, SessionError> {
        self.needs_arms("backbone")?;
        self.backbone_of().map(|(spec, model)| self.model("backbone".into(), model, spec)).transpose()
    }

    fn draft(&self, file: &Path, loading: Loading<'_>) -> Result<Box<dyn Drafter>, SessionError> {
        let spec = ExpertSpec { model: file.to_owned(), ..self.config.base.clone() };
        let fail = |source| SessionError::Load { who: "drafter".into(), source };
        let model = Model::load(file, &model_params(&spec), &mut |share| loading(file, share)).map_err(fail)?;
        if let (Some(of_base), Some(of_draft)) = (self.base.file().vocabulary(), model.file().vocabulary()) {
            check_vocabulary(&of_base, &of_draft).map_err(|source| {
                let base = self.config.base.model.display();
                SessionError::Speculate(format!("{} cannot draft for {base}: {source}", file.display()))
            })?;
        }
        self.model("draft".into(), &model, &spec)
    }

    fn arm(&self, name: Option<&str>) -> Result<Box<dyn Drafter>, SessionError> {
        self.needs_arms("arm")?;
        // A chat may have removed it since the configuration was read.
        let index = self.config.arms.iter().position(|arm| name.is_none_or(|name| arm.name == name));
        let index = index.ok_or_else(|| {
            let name = name.unwrap_or_default();
            SessionError::Speculate(format!("there is no ARM \"{name}\" any more; name another, or take auto"))
        })?;
        let arm = &self.config.arms[index].name;
        let Some(expert) = self.experts.of_arms[index] else {
            return Err(SessionError::Speculate(format!("ARM \"{arm}\" is the base itself; take base")));
        };
        self.hook.with_guide(|guide| guide.keep_rows());
        Ok(Box::new(ArmDrafter::new(expert, arm)))
    }

    /// All drafters that may pay, with what is assumed of them until they are measured.
    fn auto(&self, max: usize) -> Result<(Vec<Box<dyn Drafter>>, Policy), SessionError> {
        let step = self.step_bytes();
        // One row more of a batch, where a token of one row takes 1.
        let row = 0.2;
        let mut drafters: Vec<Box<dyn Drafter>> = vec![Box::new(LookupDrafter)];
        let mut priors = vec![Prior { token: 0.0, row, acceptance: [0.3, 0.6, 0.9] }];
        // What the ARMs add to a token of a draft.
        let helpers = if self.arms_are_cheap() { self.arm_bytes() } else { 0.0 };
        if let Some((_, model)) = self.backbone_of().filter(|(_, model)| !model.is_recurrent())
            && let Some(drafter) = self.backbone()?
        {
            drafters.push(drafter);
            priors.push(Prior { token: (model.n_bytes() as f64 + helpers) / step, row, acceptance: [0.7; 3] });
        }
        if let Ok(drafter) = self.head() {
            drafters.push(drafter);
            let bytes = self.base.file().draft_head_bytes() as f64;
            priors.push(Prior { token: (bytes + helpers) / step, row, acceptance: [0.7; 3] });
        }
        let share = self.base.n_bytes() as f64 / step;
        if share < SMALL_BASE && self.recurrent().is_none() {
            drafters.push(Box::new(BaseDrafter));
            priors.push(Prior { token: share, row: row * (1.0 - share), acceptance: [0.7; 3] });
        }
        Ok((drafters, Policy::Auto(Box::new(Controller::new(max, priors)))))
    }
}
