//! Which experts a configuration needs beside the base, and what each ARM is to them.

use crate::config::{ArmSpec, Config, ExpertSpec, ReadingSpec, Reference};
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
    /// Whether requests say what it reads.
    pub spare: bool,
}

/// The experts of a configuration, and its ARMs in terms of them.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Experts {
    pub setups: Vec<ExpertSetup>,
    /// One per ARM.
    pub directions: Vec<Direction>,
}

impl ExpertSetup {
    /// What messages call it.
    pub fn who(&self) -> String {
        let of = if self.is_reference { "reference of " } else { "" };
        format!("{of}ARM \"{}\"", self.arm)
    }
}

impl Experts {
    /// Experts of the same file, adapters, settings and prompt are one, so they are evaluated once. Those equal to the base are the base,
    /// unless a host runs that (`with_base` is false): its model and prompt are the host's own.
    pub fn of(config: &Config, with_base: bool) -> Self {
        let mut experts = Self::default();
        // The ARMs first: without references, expert i is ARM i.
        let arms = config.arms.iter().map(|arm| experts.add(config, setup(arm), with_base)).collect::<Vec<_>>();
        for (arm, source) in config.arms.iter().zip(arms) {
            let reference = match &arm.reference {
                Reference::None => None,
                Reference::Base => Some(Source::Base),
                Reference::Expert(given) => {
                    // What it does not say for itself, it reads as its ARM.
                    let own = given.reading != ReadingSpec::default();
                    let reading = if own { given.reading.clone() } else { arm.reading.clone() };
                    let (arm, spec) = (arm.name.clone(), given.spec.clone());
                    let setup = ExpertSetup { arm, is_reference: true, spec, reading, spare: false };
                    Some(experts.add(config, setup, with_base))
                }
            };
            experts.directions.push(Direction { arm: source, reference });
        }
        experts
    }

    fn add(&mut self, config: &Config, setup: ExpertSetup, with_base: bool) -> Source {
        let plain = !setup.spare && setup.reading == ReadingSpec::default();
        if with_base && plain && setup.spec == config.base {
            return Source::Base;
        }
        let equal = |other: &ExpertSetup| {
            let same = other.spec == setup.spec && other.reading == setup.reading;
            same && !other.spare && !setup.spare
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
    ExpertSetup { arm: arm.name.clone(), is_reference: false, spec, reading, spare: arm.spare }
}
