//! Which experts a configuration needs beside the base, and what each ARM is to them.

use crate::config::{ArmSpec, Config, ExpertSpec, ReadingSpec, Reference, VocabularyUse};
use crate::guidance::{Direction, Source};

/// An expert beside the base.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ExpertSetup {
    /// The ARM that it is, or is the reference of.
    pub arm: String,
    /// Whether it is only subtracted.
    pub is_reference: bool,
    pub spec: ExpertSpec,
    pub reading: ReadingSpec,
    /// Whether it may have another vocabulary than the base.
    pub vocabulary: VocabularyUse,
    /// Whether requests say what it reads.
    pub spare: bool,
    /// Whether texts prefer objectives of its adapter more or less.
    pub has_preferences: bool,
}

/// The experts of a configuration, and its ARMs in terms of them.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Experts {
    pub setups: Vec<ExpertSetup>,
    /// One per ARM.
    pub directions: Vec<Direction>,
}

impl ExpertSetup {
    /// Its name in messages, with what it is.
    pub fn who(&self) -> String {
        let of = if self.is_reference { "reference of " } else { "" };
        format!("{of}ARM \"{}\"", self.arm)
    }

    /// Whether it may become another expert while it is loaded.
    fn changes(&self) -> bool {
        self.spare || self.has_preferences
    }

    /// Its name in errors of its logits.
    pub fn name(&self) -> String {
        if self.is_reference { format!("{} (its reference)", self.arm) } else { self.arm.clone() }
    }
}

impl Experts {
    /// Experts of the same file, adapters, settings and prompt are one, so they are evaluated once. Those equal to the
    /// base are the base, unless a host runs that (`with_base` is false): its model and prompt are the host's own. An
    /// ARM with preferences equals no other: they change each on their own.
    pub fn of(config: &Config, with_base: bool) -> Self {
        let mut experts = Self::default();
        // The ARMs first, so that references come after all of them.
        let arms = config.arms.iter().map(|arm| experts.add(config, setup(arm), with_base)).collect::<Vec<_>>();
        for (arm, source) in config.arms.iter().zip(arms) {
            let reference = match &arm.reference {
                Reference::None => None,
                Reference::Base => Some(Source::Base),
                Reference::Expert(given) => {
                    // What it does not say for itself, it reads as its ARM.
                    let own = given.reading != ReadingSpec::default();
                    let reading = if own { given.reading.clone() } else { arm.reading.clone() };
                    let (arm, spec, vocabulary) = (arm.name.clone(), given.spec.clone(), arm.vocabulary);
                    let (is_reference, spare, has_preferences) = (true, false, false);
                    let own = ExpertSetup { arm, is_reference, spec, reading, vocabulary, spare, has_preferences };
                    Some(experts.add(config, own, with_base))
                }
            };
            experts.directions.push(Direction { arm: source, reference });
        }
        experts
    }

    fn add(&mut self, config: &Config, setup: ExpertSetup, with_base: bool) -> Source {
        let plain = !setup.changes() && setup.reading == ReadingSpec::default();
        let forced = setup.vocabulary == VocabularyUse::Force;
        if with_base && plain && !forced && setup.spec == config.base {
            return Source::Base;
        }
        let equal = |other: &ExpertSetup| {
            let same =
                other.spec == setup.spec && other.reading == setup.reading && other.vocabulary == setup.vocabulary;
            same && !other.changes() && !setup.changes()
        };
        let at = self.setups.iter().position(equal).unwrap_or_else(|| {
            self.setups.push(setup);
            self.setups.len() - 1
        });
        Source::Expert(at)
    }
}

fn setup(arm: &ArmSpec) -> ExpertSetup {
    let (spec, reading) = (arm.spec.clone(), arm.reading.clone());
    let (vocabulary, spare, has_preferences) = (arm.vocabulary, arm.spare, !arm.preferences.is_empty());
    ExpertSetup { arm: arm.name.clone(), is_reference: false, spec, reading, vocabulary, spare, has_preferences }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Overrides;

    fn experts(arms: &str, with_base: bool) -> Experts {
        let file = format!("base: {{model: base.gguf, n_ctx: 64}}\narms: {{{arms}}}\n");
        let config = Config::parse(&file, Path::new("prefs.yaml"), &Overrides::default()).expect("a configuration");
        Experts::of(&config, with_base)
    }

    fn direction(arm: Source, reference: Option<Source>) -> Direction {
        Direction { arm, reference }
    }

    #[test]
    fn without_references_expert_i_is_arm_i() {
        let Experts { setups, directions } = experts("a: {model: a.gguf}, b: {lora: b.gguf}", true);
        assert_eq!(setups.iter().map(ExpertSetup::who).collect::<Vec<_>>(), ["ARM \"a\"", "ARM \"b\""]);
        assert_eq!(directions, [Direction::of_arm(0), Direction::of_arm(1)]);
    }

    #[test]
    fn equal_experts_are_one() {
        let [a, b] = [Source::Expert(0), Source::Expert(1)];
        let found =
            experts("a: {model: a.gguf, reference: b.gguf}, b: {model: b.gguf, reference: {model: a.gguf}}", true);
        assert_eq!(found.directions, [direction(a, Some(b)), direction(b, Some(a))]);
        assert_eq!(found.setups.len(), 2);
        let personas = experts("a: {system: Be kind.}, b: {system: Be kind., weight: 2}, c: {system: Be brief.}", true);
        let base = Some(Source::Base);
        assert_eq!(personas.directions, [direction(a, base), direction(a, base), direction(b, base)]);
    }

    #[test]
    fn what_equals_the_base_is_the_base_unless_a_host_runs_it() {
        let arms = "itself: {model: base.gguf}, a: {model: a.gguf, reference: {model: base.gguf}}";
        let (a, base) = (Source::Expert(0), Source::Base);
        assert_eq!(experts(arms, true).directions, [direction(base, None), direction(a, Some(base))]);
        assert_eq!(experts(arms, false).setups.len(), 2, "the host's base may be another");
        let smaller = experts("itself: {model: base.gguf, n_ctx: 32}", true);
        assert_eq!(smaller.directions, [Direction::of_arm(0)], "a context of another size is another expert");
    }

    #[test]
    fn a_reference_reads_as_its_arm_unless_it_says_otherwise() {
        let found = experts("a: {model: a.gguf, system: Be kind., reference: {model: b.gguf}}", true);
        assert_eq!(found.setups[1].reading.system.as_deref(), Some("Be kind."));
        let other = experts("a: {model: a.gguf, template: chatml, reference: {model: a.gguf, system: Be grim.}}", true);
        assert_eq!((other.setups[1].reading.template.as_deref(), other.setups.len()), (None, 2));
    }
}
