//! Small vocabularies, where the distribution of whole texts can be written down.

use std::collections::HashMap;

use genarm::decode::accept::Accept;
use genarm::decode::draft::{ArmDrafter, BaseDrafter, Drafter, LookupDrafter, ModelDrafter};
use genarm::decode::{Chain, ChainFault, Distribution, Flow, Guided, Policy, Speculator, generate};
use genarm::guidance::{Arm, Contract, Guide, Tail, Weights};
use genarm::{Expert, TableExpert, Token};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Tokens of a counted text. The first is drawn plainly; the other three come from drafts.
pub const LENGTH: usize = 4;

/// A chain in plain Rust: guidance, a presence penalty, temperature, top-k, top-p.
pub struct TableChain {
    pub guide: Guide,
    pub temp: f32,
    pub top_k: usize,
    pub top_p: f64,
    pub presence: f32,
    /// Tokens that are forbidden whatever the logits, as a grammar would.
    pub forbidden: Vec<Token>,
    history: Vec<Token>,
    row: Vec<f32>,
    order: Vec<(Token, f64)>,
    p: Distribution,
    rng: ChaCha8Rng,
}

impl TableChain {
    pub fn new(guide: Guide) -> Self {
        Self {
            guide,
            temp: 1.0,
            top_k: usize::MAX,
            top_p: 1.0,
            presence: 0.0,
            forbidden: Vec::new(),
            history: Vec::new(),
            row: Vec::new(),
            order: Vec::new(),
            p: Distribution::default(),
            rng: ChaCha8Rng::seed_from_u64(0),
        }
    }

    pub fn reset(&mut self, seed: u64) {
        self.history.clear();
        self.rng = ChaCha8Rng::seed_from_u64(seed);
    }

    /// Softmax at the temperature, then the k likeliest, then the smallest set of at least `top_p`.
    fn truncate(&mut self, out: &mut Distribution) {
        let Self { row, order, temp, top_k, top_p, .. } = self;
        let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        order.clear();
        if *temp == 0.0 {
            let best = row.iter().position(|l| *l == max).expect("a token") as Token;
            return out.set([(best, 1.0)]);
        }
        order.extend(row.iter().enumerate().map(|(t, l)| (t as Token, f64::from((l - max) / *temp).exp())));
        order.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        order.truncate(*top_k);
        let total: f64 = order.iter().map(|(_, w)| w).sum();
        let mut mass = 0.0;
        let keep = order.iter().take_while(|(_, w)| {
            let more = mass < *top_p * total;
            mass += w;
            more
        });
        let keep = keep.count();
        order.truncate(keep);
        out.set(order.iter().copied());
    }
}

impl Chain for TableChain {
    fn accept(&mut self, token: Token, _: bool) {
        self.history.push(token);
    }

    fn sample(&mut self, logits: &[f32]) -> Result<Token, ChainFault> {
        let mut p = std::mem::take(&mut self.p);
        self.target_distribution(logits, &mut p)?;
        let token = p.draw(self.rng.random());
        self.p = p;
        token.ok_or(ChainFault::NoCandidate)
    }

    fn target_distribution(&mut self, logits: &[f32], out: &mut Distribution) -> Result<(), ChainFault> {
        let Self { guide, history, row, presence, forbidden, .. } = self;
        row.clear();
        row.extend_from_slice(logits);
        guide.add(history, 1, row)?;
        for (token, logit) in row.iter_mut().enumerate() {
            if history.contains(&(token as Token)) {
                *logit -= *presence;
            }
        }
        forbidden.iter().for_each(|token| row[*token as usize] = f32::NEG_INFINITY);
        self.truncate(out);
        Ok(())
    }

    fn draft_distribution(&mut self, logits: &[f32], out: &mut Distribution) -> Result<(), ChainFault> {
        self.row.clear();
        self.row.extend_from_slice(logits);
        self.truncate(out);
        Ok(())
    }
}

impl Guided for TableChain {
    fn prepare(&mut self, history: &[Token], k: usize) {
        self.guide.prepare(history, k);
    }

    fn start(&mut self) {
        self.guide.start();
    }

    fn prepare_chunk(&mut self, history: &[Token], max: usize) -> bool {
        self.guide.prepare_chunk(history, max)
    }

    fn read(&mut self) -> Result<(), ChainFault> {
        Ok(self.guide.read()?)
    }

    fn verify(&mut self, history: &[Token], _: &[f32], k: usize) -> Result<(), ChainFault> {
        Ok(self.guide.advance(history, k)?)
    }

    fn room(&mut self, len: usize) -> usize {
        self.guide.room(len)
    }

    fn guide(&mut self, history: &[Token], logits: &mut [f32]) -> Result<(), ChainFault> {
        Ok(self.guide.add(history, 1, logits)?)
    }

    fn arm_row(&mut self, index: usize, history: &[Token], each: &mut dyn FnMut(&[f32])) -> Result<(), ChainFault> {
        Ok(self.guide.expert_row(index, history).map(each)?)
    }
}

/// A bigram model with random logits of this spread.
pub fn table(n_vocab: usize, spread: f32, rng: &mut ChaCha8Rng) -> Vec<Vec<f32>> {
    (0..n_vocab).map(|_| (0..n_vocab).map(|_| rng.random_range(-spread..spread)).collect()).collect()
}

pub fn guide(arms: Vec<TableExpert>, weights: &[f32]) -> Guide {
    let names: Vec<_> = (0..arms.len()).map(|i| format!("arm{i}")).collect();
    let contract = |n| Contract { n_common: n, tail: Tail::None };
    let arms = arms.into_iter().zip(&names).map(|(arm, name)| {
        let n = arm.n_vocab();
        Arm::new(name, Box::new(arm), contract(n))
    });
    Guide::new(arms.collect(), Weights::new(names.iter().cloned().zip(weights.iter().copied())))
}

/// Who drafts, in the order of `--speculate`'s words.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Who {
    Lookup,
    Draft,
    Backbone,
    Base,
    Arm,
}

pub const EVERYBODY: [Who; 5] = [Who::Lookup, Who::Draft, Who::Backbone, Who::Base, Who::Arm];

/// A base, two ARMs, a drafter and a chain, all random.
pub struct World {
    pub base: TableExpert,
    pub chain: TableChain,
    pub prompt: Vec<Token>,
    pub drafter: Box<dyn Drafter>,
}

impl World {
    /// The `i`-th world, in which `who` drafts.
    pub fn random(i: u64, who: Who) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(1000 + i);
        let n_vocab = rng.random_range(4..=5);
        let base = table(n_vocab, 1.2, &mut rng);
        let arms: Vec<_> = (0..2).map(|_| TableExpert::bigram(table(n_vocab, 1.0, &mut rng))).collect();
        // The drafter knows the base a little.
        let noise = table(n_vocab, 1.0, &mut rng);
        let drafts = base.iter().zip(&noise).map(|(b, n)| b.iter().zip(n).map(|(b, n)| b + n).collect()).collect();
        let mut guide = guide(arms, &[rng.random_range(0.3..1.2), rng.random_range(-0.8..0.8)]);
        let model = || Box::new(TableExpert::bigram(drafts));
        if matches!(who, Who::Backbone | Who::Arm) {
            guide.keep_rows();
        }
        let drafter: Box<dyn Drafter> = match who {
            Who::Lookup => Box::new(LookupDrafter),
            Who::Draft => Box::new(ModelDrafter::new("draft", model(), false)),
            Who::Backbone => Box::new(ModelDrafter::new("backbone", model(), true)),
            Who::Base => Box::new(BaseDrafter),
            Who::Arm => Box::new(ArmDrafter::new(0, "arm0")),
        };
        let mut chain = TableChain::new(guide);
        chain.temp = rng.random_range(0.9..1.6);
        chain.top_k = rng.random_range(3..=n_vocab);
        chain.top_p = rng.random_range(0.85..1.0);
        chain.presence = rng.random_range(0.0..1.0);
        // Every pair occurs, so that lookup has something to say after each.
        let prompt = (0..n_vocab as Token).flat_map(|a| (0..n_vocab as Token).flat_map(move |b| [a, b])).collect();
        Self { base: TableExpert::bigram(base), chain, prompt, drafter }
    }

    /// The exact probability of every text of [`LENGTH`] tokens.
    pub fn enumerate(&mut self) -> HashMap<Vec<Token>, f64> {
        let mut texts = HashMap::from([(Vec::new(), 1.0)]);
        for _ in 0..LENGTH {
            let mut longer = HashMap::new();
            for (text, chance) in texts {
                let history = [self.prompt.clone(), text.clone()].concat();
                self.chain.reset(0);
                history.iter().for_each(|token| self.chain.accept(*token, false));
                let mut p = Distribution::default();
                let row = self.base.advance(&history, 1).expect("a row").to_vec();
                self.chain.target_distribution(&row, &mut p).expect("a distribution");
                for (token, p) in p.entries() {
                    longer.insert([text.clone(), vec![*token]].concat(), chance * p);
                }
            }
            texts = longer;
        }
        texts
    }

    /// How far the texts of `n` runs with drafts of `k` tokens are from the enumerated distribution, in deviations of
    /// χ².
    pub fn distance(mut self, k: usize, n: u64, rule: Option<Box<dyn Accept>>) -> f64 {
        let expected = self.enumerate();
        let Self { mut base, mut chain, prompt, drafter } = self;
        let mut speculator = Speculator::new(vec![drafter], Policy::Fixed(k));
        if let Some(rule) = rule {
            speculator = speculator.with_rule(rule);
        }
        let mut counts: HashMap<Vec<Token>, u64> = HashMap::new();
        let mut text = Vec::with_capacity(LENGTH);
        let mut drafted = 0;
        for seed in 0..n {
            chain.reset(2 * seed);
            speculator.seed(2 * seed + 1);
            text.clear();
            let mut each = |step: genarm::decode::Step<'_>| {
                text.push(step.token);
                if text.len() == LENGTH { Flow::Stop } else { Flow::Continue }
            };
            // Much more is wanted than is taken, so that no draft is cut short.
            let generated = generate(&mut base, &mut chain, Some(&mut speculator), &prompt, 100, &|_| false, &mut each)
                .expect("a text");
            drafted += generated.speculation.drafted;
            match counts.get_mut(&text) {
                Some(count) => *count += 1,
                None => drop(counts.insert(text.clone(), 1)),
            }
        }
        assert!(drafted >= n * k as u64, "drafts of {k} tokens: {drafted} in {n} texts");
        deviation(&expected, &counts, n)
    }
}

/// χ² of the counts as a standard normal deviate (Wilson and Hilferty 1931); rare texts are counted as one.
pub fn deviation(expected: &HashMap<Vec<Token>, f64>, counts: &HashMap<Vec<Token>, u64>, n: u64) -> f64 {
    assert!(counts.keys().all(|text| expected.contains_key(text)), "a text that cannot be");
    let (mut chi2, mut cells, mut rest) = (0.0, 0, (0.0, 0.0));
    for (text, p) in expected {
        let (wanted, found) = (p * n as f64, counts.get(text).copied().unwrap_or(0) as f64);
        if wanted < 8.0 {
            rest = (rest.0 + wanted, rest.1 + found);
        } else {
            chi2 += (found - wanted).powi(2) / wanted;
            cells += 1;
        }
    }
    if rest.0 >= 8.0 {
        chi2 += (rest.1 - rest.0).powi(2) / rest.0;
        cells += 1;
    }
    assert!(cells > 3, "a distribution with some texts");
    let df = f64::from(cells - 1);
    ((chi2 / df).cbrt() - (1.0 - 2.0 / (9.0 * df))) / (2.0 / (9.0 * df)).sqrt()
}
