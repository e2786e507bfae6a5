//! Users with known weights, who choose by them with logistic noise.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::guidance::{Preference, Weights};

/// A user who weighs three objectives like this: log-odds per nat per token.
const USER: [f64; 3] = [6.0, -3.0, 1.5];
/// How far answers lie apart in each reward, in nats per token.
const APART: [f64; 3] = [0.25, 0.35, 0.15];
const N_CHOICES: usize = 40;
const N_USERS: u64 = 120;
const N_ANSWERS: usize = 6;

/// A standard normal number, as [`spread`] makes them.
fn normal(rng: &mut ChaCha8Rng) -> f64 {
    let (u, turn): (f64, f64) = (1.0 - rng.random::<f64>(), rng.random());
    (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * turn).cos()
}

/// The rewards of a few answers to one prompt, on which they depend as well. What one ARM likes, others like a little.
fn answers(rng: &mut ChaCha8Rng) -> Vec<Vec<f64>> {
    let of_prompt = APART.map(|apart| 2.0 * apart * normal(rng));
    let one = |rng: &mut ChaCha8Rng| {
        let shared = 0.3 * normal(rng);
        APART.iter().zip(of_prompt).map(|(apart, level)| level + apart * (shared + normal(rng))).collect()
    };
    (0..N_ANSWERS).map(|_| one(rng)).collect()
}

/// How a pair is chosen from the answers, after these choices.
type Ask = fn(&[Comparison], &[Vec<f64>], &mut ChaCha8Rng) -> (usize, usize);

fn telling(choices: &[Comparison], answers: &[Vec<f64>], _: &mut ChaCha8Rng) -> (usize, usize) {
    most_telling(&Fit::of(3, choices), answers).unwrap()
}

fn at_random(_: &[Comparison], answers: &[Vec<f64>], rng: &mut ChaCha8Rng) -> (usize, usize) {
    let a = rng.random_range(0..answers.len());
    (a, (a + rng.random_range(1..answers.len())) % answers.len())
}

/// How a choice is taken down.
type Note = fn(&[f64], &[f64]) -> Comparison;

fn rightly(chosen: &[f64], rejected: &[f64]) -> Comparison {
    Comparison::new(chosen, rejected, false)
}

/// What is known after all choices of a user.
fn learned(user: &[f64; 3], seed: u64, ask: Ask, note: Note) -> Fit {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut choices = Vec::new();
    for _ in 0..N_CHOICES {
        let answers = answers(&mut rng);
        let (a, b) = ask(&choices, &answers, &mut rng);
        let odds: f64 = (0..3).map(|i| user[i] * (answers[a][i] - answers[b][i])).sum();
        let a_wins = rng.random::<f64>() < 1.0 / (1.0 + (-odds).exp());
        choices.push(if a_wins { note(&answers[a], &answers[b]) } else { note(&answers[b], &answers[a]) });
    }
    Fit::of(3, &choices)
}

/// Weights of strength 1.
fn of_strength_1(user: &[f64; 3]) -> [f64; 3] {
    let size: f64 = user.iter().map(|x| x.abs()).sum();
    user.map(|x| x / size)
}

fn root_mean_square(values: &[f64]) -> f64 {
    (values.iter().map(|x| x * x).sum::<f64>() / values.len() as f64).sqrt()
}

/// The root mean square of (learned − true) / standard error over users and objectives: of θ, and of the weights.
fn z_scores(user: fn(u64) -> [f64; 3], note: Note) -> (f64, f64) {
    let (mut of_theta, mut of_weights) = (Vec::new(), Vec::new());
    for seed in 0..N_USERS {
        let user = user(seed);
        let fit = learned(&user, seed, telling, note);
        let direction = Direction::of(&fit, 1.0);
        for i in 0..3 {
            of_theta.push((fit.theta[i] - user[i]) / fit.errors()[i]);
            of_weights.push((direction.weights[i] - of_strength_1(&user)[i]) / direction.errors[i]);
        }
    }
    (root_mean_square(&of_theta), root_mean_square(&of_weights))
}

fn one_user(_: u64) -> [f64; 3] {
    USER
}

/// Users of every kind.
fn all_users(seed: u64) -> [f64; 3] {
    let mut rng = ChaCha8Rng::seed_from_u64(seed + 1_000_000);
    APART.map(|apart| 1.5 / apart * normal(&mut rng))
}

#[test]
fn forty_choices_give_a_user_s_weights_within_their_standard_errors() {
    for users in [one_user, all_users] {
        let (of_theta, of_weights) = z_scores(users, rightly);
        println!("z-scores: θ {of_theta:.2}, weights {of_weights:.2}");
        // A share of a whole is no straight line in θ: its errors are a little less exact.
        assert!((0.85..1.15).contains(&of_theta) && (0.8..1.3).contains(&of_weights), "{of_theta} {of_weights}");
    }
}

#[test]
fn a_choice_taken_down_the_wrong_way_round_or_without_the_other_answer_is_noticed() {
    let swapped: Note = |chosen, rejected| Comparison::new(rejected, chosen, false);
    let alone: Note = |chosen, _| Comparison::new(chosen, &[0.0; 3], false);
    for wrongly in [swapped, alone] {
        let (of_theta, _) = z_scores(one_user, wrongly);
        println!("z-score of a mutant: {of_theta:.2}");
        assert!(of_theta > 1.5, "{of_theta}");
    }
}

/// The median over users of the squared distance between learned and true weights of strength 1.
fn squared_error(ask: Ask) -> f64 {
    let error = |seed| {
        let learned = Direction::of(&learned(&USER, seed, ask, rightly), 1.0).weights;
        learned.iter().zip(of_strength_1(&USER)).map(|(w, x)| (w - x).powi(2)).sum()
    };
    let mut errors: Vec<f64> = (0..N_USERS).map(error).collect();
    errors.sort_by(f64::total_cmp);
    errors[errors.len() / 2]
}

#[test]
fn telling_pairs_leave_less_than_half_the_squared_error_of_random_ones() {
    let (telling, random) = (squared_error(telling), squared_error(at_random));
    println!("median squared error: telling pairs {telling:.4}, random pairs {random:.4}: {:.2}", random / telling);
    assert!(random > 2.0 * telling, "{random} {telling}");
}

#[test]
fn the_fit_is_where_the_posterior_is_highest_and_its_errors_are_those_of_the_curvature() {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    for _ in 0..50 {
        // One objective: everything can be computed by hand, the prior's unit too.
        let xs: Vec<f64> = (0..9).map(|_| normal(&mut rng)).collect();
        let choices: Vec<_> = xs.iter().enumerate().map(|(i, x)| Comparison::new(&[*x], &[0.0], i % 4 == 0)).collect();
        let prior = root_mean_square(&xs).powi(2) / 9.0;
        let fit = Fit::of(1, &choices);
        let theta = fit.theta[0];
        let (mut slope, mut curvature) = (-theta * prior, prior);
        for (i, x) in xs.iter().enumerate() {
            let p = fit.probability(&[*x]);
            slope += (if i % 4 == 0 { 0.5 } else { 1.0 } - p) * x;
            curvature += p * (1.0 - p) * x * x;
        }
        assert!(slope.abs() < 1e-8, "{slope}");
        assert!((fit.errors()[0] * curvature.sqrt() - 1.0).abs() < 1e-8);
    }
}

#[test]
fn a_reward_in_other_units_gives_the_same_fit_in_them() {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let choices: Vec<_> = (0..12).map(|_| answers(&mut rng)).map(|a| rightly(&a[0], &a[1])).collect();
    let in_units = |choice: &Comparison| Comparison {
        difference: choice.difference.iter().zip([1.0, 1000.0, 1.0]).map(|(x, unit)| x * unit).collect(),
        tie: choice.tie,
    };
    let (one, other) = (Fit::of(3, &choices), Fit::of(3, &choices.iter().map(in_units).collect::<Vec<_>>()));
    for (i, unit) in [1.0, 1000.0, 1.0].into_iter().enumerate() {
        assert!((other.theta[i] * unit - one.theta[i]).abs() < 1e-6 * one.theta[i].abs());
        assert!((other.errors()[i] * unit / one.errors()[i] - 1.0).abs() < 1e-6);
    }
}

#[test]
fn choices_of_one_kind_end_at_finite_weights_and_none_is_needed() {
    let none = Fit::of(2, &[]);
    assert_eq!((none.theta.clone(), none.probability(&[5.0, -3.0])), (vec![0.0; 2], 0.5));
    assert_eq!(Direction::of(&none, 3.0).weights, [1.5, 1.5]);
    let same = vec![Comparison::new(&[1e6, 0.0], &[-1e6, 0.0], false); 1000];
    let fit = Fit::of(2, &same);
    assert!(fit.theta.iter().chain(&fit.errors()).all(|x| x.is_finite()), "{fit:?}");
    // Of the second reward nothing is learned.
    assert_eq!(fit.theta[1], 0.0);
    // A tie says that the difference does not matter, in either order.
    let ties = |x| Fit::of(1, &[rightly(&[1.0], &[0.0]), Comparison::new(&[x], &[0.0], true)]).theta[0];
    assert!((ties(3.0) - ties(-3.0)).abs() < 1e-9 && ties(3.0) < Fit::of(1, &[rightly(&[1.0], &[0.0])]).theta[0]);
}

#[test]
fn spread_weights_keep_to_the_strength_and_reach_all_corners() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let all: Vec<Vec<f64>> = (0..200).map(|_| spread(3, 2.0, &mut rng)).collect();
    let sum = |weights: &Vec<f64>| weights.iter().sum::<f64>();
    assert!(all.iter().flatten().all(|w| *w >= 0.0) && all.iter().all(|w| sum(w) <= 2.0 + 1e-9));
    assert!((0..3).all(|i| all.iter().any(|w| w[i] > 1.6)) && all.iter().any(|w| sum(w) < 0.4));
}

#[test]
fn answers_that_do_not_differ_are_never_a_pair() {
    let fit = Fit::of(2, &[]);
    let same = || vec![1.0, 2.0];
    assert_eq!(most_telling(&fit, &[same(), same()]), None);
    assert_eq!(most_telling(&fit, &[same(), same(), vec![1.0, 2.5]]).map(|(_, b)| b), Some(2));
}

/// An ARM, and a PARM with two objectives.
fn with_parm() -> Objectives {
    let preference =
        |objective: &str, value| Preference { arm: 1, objective: objective.into(), value, range: [0.0, 1.0] };
    let weights = Weights::new([("plain".to_owned(), -0.5), ("taste".to_owned(), 1.5)]);
    Objectives::of(&weights.with_preferences(vec![preference("helpful", 0.7), preference("harmless", 0.3)]))
}

#[test]
fn each_objective_of_a_parm_is_one_of_the_user_s() {
    let objectives = with_parm();
    assert_eq!(objectives.names().collect::<Vec<_>>(), ["plain", "taste.helpful", "taste.harmless"]);
    assert_eq!(objectives.strength(), 2.0);
    // plain, taste, then the preferences.
    assert_eq!(objectives.numbers(&[0.5, 0.5, 1.5]), [0.5, 2.0, 0.25, 0.75]);
    assert_eq!(objectives.numbers(&[-1.0, 1.0, -1.0]), [-1.0, 1.0, 1.0, 0.0], "no preference is negative");
    assert_eq!(objectives.numbers(&[1.0, 0.0, -1.0]), [1.0, 0.0, 0.7, 0.3], "an ARM without a weight keeps its own");
    assert_eq!(objectives.scorings(), [[-0.5, 1.5, 1.0, 0.0], [-0.5, 1.5, 0.0, 1.0]]);
}

#[test]
#[cfg(feature = "eval")]
fn a_reward_is_what_an_arm_adds_to_the_base_per_token() {
    use crate::guidance::score::TokenScore;
    let objectives = with_parm();
    // The base gives each of these −1.
    let scored = |plain, taste| (0..2).map(|i| TokenScore::of_arms(i, vec![plain, taste + i as f32])).collect();
    let rewards = objectives.rewards(&[scored(-0.25, -2.0), scored(9.0, -4.0)]);
    assert_eq!(rewards, Some(vec![0.75, -0.5, -2.5]));
    assert_eq!(objectives.rewards(&[scored(f32::NEG_INFINITY, 0.0), scored(0.0, 0.0)]), None);
    assert_eq!(objectives.rewards(&[Vec::new(), Vec::new()]), None, "an empty answer has none");
    let mut with_reference: Vec<TokenScore> = scored(-0.25, 0.0);
    with_reference.iter_mut().for_each(|token| token.references[0] = Some(-0.5));
    assert_eq!(objectives.rewards(&[with_reference, scored(0.0, 0.0)]).map(|all| all[0]), Some(0.25));
}
