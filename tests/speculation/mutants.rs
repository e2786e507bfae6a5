//! Wrong acceptance rules, which the test of the distribution must notice.

use genarm::TableExpert;
use genarm::Token;
use genarm::decode::Distribution;
use genarm::decode::accept::Accept;
use genarm::decode::draft::{Draft, ModelDrafter};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::world::{Who, World};

const N: u64 = 200_000;
/// The exact rule stays below 4.5 in every world.
const NOTICED: f64 = 8.0;

fn residual(p: &Distribution, q: &Distribution, u: f64) -> Option<Token> {
    let mut rest = Distribution::default();
    rest.set(p.entries().iter().map(|(t, p)| (*t, p - q.of(*t))));
    rest.draw(u).or_else(|| p.draw(u))
}

/// Holds token i against the distribution of its neighbour.
struct OffByOne;

impl Accept for OffByOne {
    fn judge(&mut self, p: &Distribution, draft: &Draft, i: usize, rng: &mut ChaCha8Rng) -> Option<Token> {
        let (token, q) = (draft.tokens()[i], draft.q((i + 1) % draft.len()));
        if rng.random::<f64>() * q.of(token) < p.of(token) { None } else { residual(p, q, rng.random()) }
    }
}

/// Draws from max(0, p − q) as it stands; what is missing to 1 falls on the last token.
struct NotNormalised;

impl Accept for NotNormalised {
    fn judge(&mut self, p: &Distribution, draft: &Draft, i: usize, rng: &mut ChaCha8Rng) -> Option<Token> {
        let (token, q) = (draft.tokens()[i], draft.q(i));
        if rng.random::<f64>() * q.of(token) < p.of(token) {
            return None;
        }
        let mut u = rng.random::<f64>();
        let mut last = None;
        for (token, p) in p.entries() {
            let rest = (p - q.of(*token)).max(0.0);
            u -= rest;
            if rest > 0.0 {
                last = Some(*token);
            }
            if u < 0.0 {
                break;
            }
        }
        last.or(p.draw(0.5))
    }
}

/// Takes q for what it was before the truncation that the token was drawn after.
struct BeforeTruncation(Distribution);

impl Accept for BeforeTruncation {
    fn judge(&mut self, p: &Distribution, draft: &Draft, i: usize, rng: &mut ChaCha8Rng) -> Option<Token> {
        let (token, q) = (draft.tokens()[i], &self.0);
        if rng.random::<f64>() * q.of(token) < p.of(token) { None } else { residual(p, q, rng.random()) }
    }
}

#[test]
fn a_neighbours_distribution_is_noticed() {
    for i in 100..102 {
        let z = World::random(i, Who::Draft).distance(3, N, Some(Box::new(OffByOne)));
        assert!(z > NOTICED, "world {i}: {z}");
    }
}

#[test]
fn a_residual_that_is_not_normalised_is_noticed() {
    for i in 110..112 {
        let z = World::random(i, Who::Draft).distance(3, N, Some(Box::new(NotNormalised)));
        assert!(z > NOTICED, "world {i}: {z}");
    }
}

/// A world whose drafter says the same after every history, so that q before truncation is known.
fn constant_drafter(i: u64) -> (World, BeforeTruncation) {
    let mut world = World::random(i, Who::Draft);
    let n_vocab = genarm::Expert::n_vocab(&world.base);
    let mut rng = ChaCha8Rng::seed_from_u64(i);
    let logits: Vec<f32> = (0..n_vocab).map(|_| rng.random_range(-1.0..1.0)).collect();
    world.chain.temp = 1.0;
    world.chain.top_k = n_vocab - 1;
    world.chain.top_p = 0.8;
    let mut q = Distribution::default();
    q.set_logits(logits.iter().enumerate().map(|(t, l)| (t as Token, *l)));
    let expert = TableExpert::new(n_vocab, usize::MAX, move |_, row| row.copy_from_slice(&logits));
    world.drafter = Box::new(ModelDrafter::new("constant", Box::new(expert), false));
    (world, BeforeTruncation(q))
}

#[test]
fn a_q_before_truncation_is_noticed() {
    for i in 120..122 {
        let (world, rule) = constant_drafter(i);
        let z = world.distance(3, N, Some(Box::new(rule)));
        assert!(z > NOTICED, "world {i}: {z}");
        let (world, _) = constant_drafter(i);
        let z = world.distance(3, N, None);
        assert!(z < 4.5, "the exact rule in world {i}: {z}");
    }
}
