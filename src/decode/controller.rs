//! Chooses drafter and draft length: the pair with most tokens per second by measured costs. Pure: costs come in as
//! numbers.
//!
//! A cycle with a draft of k tokens costs C(k) and gives `1 + a1 + a1·a2 + … + a1⋯ak` tokens, where `ai` is the
//! measured share of drafts whose token i was kept once those before it were. The plain loop gives 1 token for C(0).
//! The best (drafter, k) is used while it beats the plain loop; what is not known yet is tried now and then, and a
//! ledger of the time that trials have lost keeps the whole text within 3 % of plain decoding.

use super::draft::{N_CLASSES, Offer};

/// The longest draft, unless the user sets another limit: with the token before it, a batch of 16.
pub const DRAFT_MAX: usize = 15;
/// The lengths that are considered. A draft of k is verified as k + 1 rows, and backends compute rows in groups: ggml's
/// kernels for the CPU take four at a time, and sixteen, so that 4 rows cost less than 3, and 16 hardly more than 12.
const LENGTHS: [usize; 6] = [1, 2, 3, 7, 11, 15];
/// Rows of a batch that cost about as much as one more.
const GROUP: usize = 4;
/// What must be gained over the plain loop before a drafter is used, as a share.
const MARGIN: f64 = 0.03;
/// What trials may have lost, as a share of all time …
const SHARE: f64 = 0.02;
/// … and besides, in plain tokens, so that a text may begin with one.
const GRACE: f64 = 1.5;
/// Where trials have lost that much, a draft is risked only if so many tokens of its class were judged, and it promises
/// this much.
const KNOWN: f64 = 6.0;
const SURE: f64 = 1.1;
/// Plain steps before the first draft …
const FIRST: u32 = 2;
/// … and cycles with a draft between two measurements of a plain step.
const AGAIN: u32 = 64;

/// What is assumed of a drafter before it has been measured. Costs are in plain tokens.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Prior {
    /// Drafting a token.
    pub token: f64,
    /// Verifying each token after the first.
    pub row: f64,
    /// Share of its tokens that are kept, for each class of offers.
    pub acceptance: [f64; N_CLASSES],
}

/// Who drafts, and how much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DraftPlan {
    /// Index of the drafter.
    pub drafter: usize,
    /// The class of its offer.
    pub class: usize,
    /// Tokens to draft, at least 1.
    pub k: usize,
}

/// What became of a plan.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cycle {
    /// The plan, with the tokens that were drafted; `None` for a plain step.
    pub plan: Option<DraftPlan>,
    /// Drafted tokens that were kept.
    pub kept: usize,
    /// Tokens that the text gained.
    pub emitted: usize,
    /// What it took.
    pub seconds: f64,
}

/// A mean that forgets, and is not moved far by one outlier.
#[derive(Debug, Clone, Copy, Default)]
struct Mean {
    n: u32,
    mean: f64,
}

impl Mean {
    fn add(&mut self, x: f64) {
        let x = if self.n >= 2 { x.min(1.5 * self.mean) } else { x };
        self.n = (self.n + 1).min(24);
        self.mean += (x - self.mean) / f64::from(self.n);
    }
}

/// Tokens that were kept, of those judged.
#[derive(Debug, Clone, Copy, Default)]
struct Acceptance {
    kept: f64,
    judged: f64,
}

impl Acceptance {
    fn add(&mut self, kept: bool) {
        self.kept += f64::from(u8::from(kept));
        self.judged += 1.0;
        if self.judged > 200.0 {
            self.kept /= 2.0;
            self.judged /= 2.0;
        }
    }

    /// The share, with `weight` further tokens of which `guess` were kept.
    fn with(self, guess: f64, weight: f64) -> f64 {
        (self.kept + guess * weight) / (self.judged + weight)
    }
}

#[derive(Debug, Clone)]
struct Candidate {
    prior: Prior,
    /// Seconds of a cycle, by length of the draft less 1.
    cost: Vec<Mean>,
    /// By class and position.
    kept: Vec<[Acceptance; N_CLASSES]>,
    all: [Acceptance; N_CLASSES],
    /// Steps until it may be tried again, and how long that was last time.
    wait: u32,
    patience: u32,
}

impl Candidate {
    fn acceptance(&self, class: usize, position: usize, boldness: f64) -> f64 {
        let all = self.all[class];
        let pooled = all.with(self.prior.acceptance[class], 4.0);
        let own = self.kept[position][class].with(pooled, 8.0);
        (own + boldness / (all.judged + 1.0).sqrt()).min(0.99)
    }

    /// Tokens of a cycle with a draft of `k`.
    fn tokens(&self, class: usize, k: usize, boldness: f64) -> f64 {
        let (mut sum, mut chance) = (1.0, 1.0);
        for position in 0..k {
            chance *= self.acceptance(class, position, boldness);
            sum += chance;
        }
        sum
    }

    /// Plain tokens of a cycle with a draft of `k`, as far as nothing is measured: batches cost what the next whole
    /// group does.
    fn assumed(&self, k: usize) -> f64 {
        1.0 + k as f64 * self.prior.token + ((k + 1).next_multiple_of(GROUP) - 1) as f64 * self.prior.row
    }

    /// The lengths to choose from where at most `max` tokens can be drafted.
    fn lengths(&self, max: usize) -> impl DoubleEndedIterator<Item = usize> {
        let max = max.min(self.cost.len());
        LENGTHS.into_iter().filter(move |k| *k <= max)
    }

    /// Seconds of a cycle with a draft of `k`: as measured, or between the nearest lengths that are.
    fn seconds(&self, k: usize, plain: f64) -> f64 {
        // How far a measured length is from what was assumed; that ratio changes slowly with k.
        let ratio = |k: usize| self.cost[k - 1].mean / (plain * self.assumed(k));
        let known = |k: &usize| self.cost[*k - 1].n > 0;
        let (below, above) = ((1..=k).rev().find(known), (k..=self.cost.len()).find(known));
        let factor = match (below, above) {
            (Some(a), Some(b)) if a < b => {
                let t = (k - a) as f64 / (b - a) as f64;
                ratio(a) * (1.0 - t) + ratio(b) * t
            }
            (Some(a), _) => ratio(a),
            (None, Some(b)) => ratio(b),
            (None, None) => 1.0,
        };
        factor * plain * self.assumed(k)
    }

    /// Whether it may make good what was lost: what has failed at that waits twice as long each time.
    fn redeems(&mut self, class: usize, gain: f64) -> bool {
        let may = self.all[class].judged >= KNOWN && gain > SURE;
        if may && self.wait > 0 {
            self.wait -= 1;
            return false;
        }
        if may {
            self.patience = (self.patience * 2).min(512);
            self.wait = self.patience;
        }
        may
    }

    /// The length that gives most, up to `max`, and how many plain tokens a plain token's time then gives.
    fn best(&self, class: usize, max: usize, plain: f64, boldness: f64) -> (usize, f64) {
        let gain = |k| (k, self.tokens(class, k, boldness) * plain / self.seconds(k, plain));
        self.lengths(max).map(gain).max_by(|a, b| a.1.total_cmp(&b.1)).unwrap_or((0, 0.0))
    }
}

/// Chooses drafter and length for each cycle.
#[derive(Debug, Clone)]
pub struct Controller {
    candidates: Vec<Candidate>,
    plain: Mean,
    /// Steps since a plain one was measured.
    since_plain: u32,
    cycles: u32,
    /// Seconds, and seconds saved against plain decoding.
    spent: f64,
    saved: f64,
}

impl Controller {
    /// A controller of these drafters and drafts of up to `max` tokens.
    pub fn new(max: usize, drafters: impl IntoIterator<Item = Prior>) -> Self {
        let candidate = |prior| Candidate {
            prior,
            cost: vec![Mean::default(); max],
            kept: vec![<[Acceptance; N_CLASSES]>::default(); max],
            all: Default::default(),
            wait: 0,
            patience: 8,
        };
        let candidates = drafters.into_iter().map(candidate).collect();
        let plain = Mean::default();
        Self { candidates, plain, since_plain: 0, cycles: 0, spent: 0.0, saved: 0.0 }
    }

    /// What to do next, where the drafters have these offers; `None` is a plain step.
    pub fn plan(&mut self, offers: &[Offer]) -> Option<DraftPlan> {
        if self.plain.n < FIRST || self.since_plain >= AGAIN {
            return None;
        }
        let plain = self.plain.mean;
        let indebted = self.saved < -(GRACE * plain + SHARE * self.spent);
        let open = || self.candidates.iter().zip(offers).enumerate().filter(|(_, (_, offer))| offer.max > 0);
        let best = open().map(|(i, (candidate, offer))| {
            let (k, gain) = candidate.best(offer.class, offer.max, plain, 0.0);
            (DraftPlan { drafter: i, class: offer.class, k }, gain)
        });
        let best = best.max_by(|a, b| a.1.total_cmp(&b.1)).filter(|(_, gain)| *gain > 1.0 + MARGIN);
        match best {
            Some((plan, gain)) if indebted => self.candidates[plan.drafter].redeems(plan.class, gain).then_some(plan),
            None if indebted => None,
            Some((plan, gain)) => Some(self.neighbour(plan, gain, offers[plan.drafter].max)),
            None => self.trial(offers),
        }
    }

    /// Now and then a draft of the next length, longer or shorter: its cost may be other than it seems.
    fn neighbour(&self, plan: DraftPlan, gain: f64, max: usize) -> DraftPlan {
        let candidate = &self.candidates[plan.drafter];
        let k = match self.cycles % 16 {
            5 => candidate.lengths(max).find(|k| *k > plan.k),
            13 => candidate.lengths(plan.k - 1).next_back(),
            _ => None,
        };
        let plain = self.plain.mean;
        match k {
            Some(k) if candidate.tokens(plan.class, k, 0.0) * plain / candidate.seconds(k, plain) > 0.9 * gain => {
                DraftPlan { k, ..plan }
            }
            _ => plan,
        }
    }

    /// A drafter that might pay for all that is known.
    fn trial(&mut self, offers: &[Offer]) -> Option<DraftPlan> {
        let plain = self.plain.mean;
        for (i, (candidate, offer)) in self.candidates.iter_mut().zip(offers).enumerate() {
            // Reading the whole text for a mere trial is too dear.
            if offer.max == 0 || offer.behind > 64 {
                continue;
            }
            if candidate.wait > 0 {
                candidate.wait -= 1;
                continue;
            }
            candidate.patience = (candidate.patience * 2).min(512);
            candidate.wait = candidate.patience;
            let (k, gain) = candidate.best(offer.class, offer.max, plain, 0.5);
            if gain > 1.0 {
                // A short draft tells most about acceptance for its price.
                return Some(DraftPlan { drafter: i, class: offer.class, k: k.min(3) });
            }
        }
        None
    }

    /// Is told what became of a cycle.
    pub fn record(&mut self, cycle: &Cycle) {
        self.cycles = self.cycles.wrapping_add(1);
        self.spent += cycle.seconds;
        let Some(plan) = cycle.plan else {
            if cycle.emitted > 0 {
                self.plain.add(cycle.seconds);
                self.since_plain = 0;
            }
            return;
        };
        self.since_plain += 1;
        self.saved += cycle.emitted as f64 * self.plain.mean - cycle.seconds;
        // Old gains are no licence to lose.
        self.saved = self.saved.min(4.0 * self.plain.mean);
        let candidate = &mut self.candidates[plan.drafter];
        if let Some(cost) = candidate.cost.get_mut(plan.k - 1) {
            cost.add(cycle.seconds);
        }
        // Tokens after the first rejection were not judged; nor were those after the end of the text.
        let judged = if cycle.emitted > cycle.kept { (cycle.kept + 1).min(plan.k) } else { cycle.kept };
        for position in 0..judged.min(candidate.kept.len()) {
            candidate.kept[position][plan.class].add(position < cycle.kept);
            candidate.all[plan.class].add(position < cycle.kept);
        }
        if cycle.emitted as f64 * self.plain.mean > cycle.seconds {
            (candidate.patience, candidate.wait) = (8, 0);
        }
    }

    /// Forgets times: what was drafted and kept stays.
    pub fn forget_times(&mut self) {
        self.plain = Mean::default();
        for candidate in &mut self.candidates {
            candidate.cost.fill(Mean::default());
        }
    }

    /// Seconds of a plain step, as far as it was measured.
    pub fn plain_seconds(&self) -> Option<f64> {
        (self.plain.n > 0).then_some(self.plain.mean)
    }
}

#[cfg(test)]
#[path = "controller_tests.rs"]
mod tests;
