//! Drawing preferences.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::dirichlet::dirichlet;
use crate::train::settings::ParmSettings;

/// The α of one pass: what the ARM reads, and what weighs the losses. They differ only in the control.
pub(in crate::train) fn preferences(parm: &ParmSettings, seed: u64, step: usize, pass: usize) -> [Vec<f64>; 2] {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    // The order of the data and the adapters' start are drawn from other streams.
    rng.set_stream(1 + step as u64);
    rng.set_word_pos(u128::from(pass as u64) << 20);
    let k = parm.names.len();
    let weighs = dirichlet(k, parm.dirichlet, &mut rng);
    let read = if parm.shuffled { dirichlet(k, parm.dirichlet, &mut rng) } else { weighs.clone() };
    [read, weighs]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_preferences_of_a_pass_follow_from_seed_step_and_pass_and_the_control_reads_others() {
        let parm = |shuffled| ParmSettings {
            names: vec!["a".into(), "b".into()],
            losses: Vec::new(),
            dirichlet: 0.5,
            shuffled,
        };
        let [read, weighs] = preferences(&parm(false), 7, 3, 1);
        assert_eq!((&read, preferences(&parm(false), 7, 3, 1)), (&weighs, [read.clone(), weighs.clone()]));
        for (seed, step, pass) in [(8, 3, 1), (7, 4, 1), (7, 3, 2)] {
            assert_ne!(preferences(&parm(false), seed, step, pass)[0], read);
        }
        let [other, same] = preferences(&parm(true), 7, 3, 1);
        assert!(same == weighs && other != weighs);
    }
}
