//! The training objectives as pure functions of sequence log-probabilities.
//!
//! Nothing here knows of tensors: an objective turns the log-probabilities of a pair into a loss and its two
//! derivatives, in f64, and the caller feeds the derivatives into the backward pass.

/// What training minimises.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Objective {
    /// GenARM's reference-free objective: `−log σ(β_r · (log π(chosen) − log π(rejected)) − γ)`.
    Arm {
        /// Scale of the reward, β_r.
        beta_r: f64,
        /// Margin γ that the scaled difference must exceed.
        gamma: f64,
        /// Share of pairs believed to be labelled the wrong way round, in `[0, 0.5)`.
        label_smoothing: f64,
        /// Replaces the logistic loss by `max(0, 1 − (difference − γ))`.
        hinge: bool,
    },
    /// Direct preference optimisation, the paper's training-time baseline; the reference is the frozen backbone.
    Dpo {
        /// Strength of the pull towards the reference.
        beta: f64,
        /// Share of pairs believed to be labelled the wrong way round, in `[0, 0.5)`.
        label_smoothing: f64,
    },
    /// Next-token loss on text, or on the responses of prompts.
    Sft,
}

/// Log-probabilities of the two responses of a pair, each summed over its tokens, in nats.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct PairLogProbs {
    /// log π(chosen | prompt).
    pub chosen: f64,
    /// log π(rejected | prompt).
    pub rejected: f64,
    /// The same under the frozen backbone; only [`Objective::Dpo`] reads it.
    pub reference_chosen: f64,
    /// The same under the frozen backbone; only [`Objective::Dpo`] reads it.
    pub reference_rejected: f64,
}

impl PairLogProbs {
    /// The pair with the other response preferred.
    #[must_use]
    pub fn exchanged(self) -> Self {
        Self {
            chosen: self.rejected,
            rejected: self.chosen,
            reference_chosen: self.reference_rejected,
            reference_rejected: self.reference_chosen,
        }
    }
}

/// The loss of a pair and what the backward pass needs of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PairLoss {
    /// The loss, in nats (or in units of the margin, for the hinge).
    pub loss: f64,
    /// Reward of the chosen response less that of the rejected one, scaled by β, before γ.
    pub margin: f64,
    /// ∂loss / ∂ log π(chosen); the derivative for the rejected response is its negative.
    pub d_chosen: f64,
}

impl PairLoss {
    /// 1 where the model prefers the chosen response, ½ where it does not tell the two apart, 0 otherwise.
    pub fn outcome(&self) -> f64 {
        match self.margin {
            margin if margin > 0.0 => 1.0,
            0.0 => 0.5,
            _ => 0.0,
        }
    }
}

impl Objective {
    /// GenARM's objective with the paper's options: γ = 0, no label smoothing, logistic.
    pub fn arm(beta_r: f64) -> Self {
        Self::Arm { beta_r, gamma: 0.0, label_smoothing: 0.0, hinge: false }
    }

    /// The same with another β.
    #[must_use]
    pub fn with_beta(self, beta: f64) -> Self {
        match self {
            Self::Arm { gamma, label_smoothing, hinge, .. } => {
                Self::Arm { beta_r: beta, gamma, label_smoothing, hinge }
            }
            Self::Dpo { label_smoothing, .. } => Self::Dpo { beta, label_smoothing },
            Self::Sft => Self::Sft,
        }
    }

    /// Name as the command line and the metadata spell it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Arm { .. } => "arm",
            Self::Dpo { .. } => "dpo",
            Self::Sft => "sft",
        }
    }

    /// The factor between a difference of log-probabilities and the margin; 1 for `sft`.
    pub fn beta(&self) -> f64 {
        match *self {
            Self::Arm { beta_r, .. } => beta_r,
            Self::Dpo { beta, .. } => beta,
            Self::Sft => 1.0,
        }
    }

    /// Loss and derivatives of one pair. `sft` has no pairs and yields minus the chosen log-probability.
    pub fn pair(&self, p: PairLogProbs) -> PairLoss {
        let difference = p.chosen - p.rejected;
        match *self {
            Self::Arm { beta_r, gamma, label_smoothing, hinge } => {
                let margin = beta_r * difference;
                let (loss, slope) =
                    if hinge { hinge_loss(margin - gamma) } else { logistic(margin - gamma, label_smoothing) };
                PairLoss { loss, margin, d_chosen: beta_r * slope }
            }
            Self::Dpo { beta, label_smoothing } => {
                let margin = beta * (difference - (p.reference_chosen - p.reference_rejected));
                let (loss, slope) = logistic(margin, label_smoothing);
                PairLoss { loss, margin, d_chosen: beta * slope }
            }
            Self::Sft => PairLoss { loss: -p.chosen, margin: 0.0, d_chosen: -1.0 },
        }
    }
}

/// `−(1 − ε) log σ(x) − ε log σ(−x)` and its derivative.
fn logistic(x: f64, smoothing: f64) -> (f64, f64) {
    let loss = (1.0 - smoothing) * softplus(-x) + smoothing * softplus(x);
    (loss, sigmoid(x) - (1.0 - smoothing))
}

/// `max(0, 1 − x)` and its derivative.
fn hinge_loss(x: f64) -> (f64, f64) {
    if x < 1.0 { (1.0 - x, -1.0) } else { (0.0, 0.0) }
}

/// `log(1 + exp(x))` without overflow.
fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

fn sigmoid(x: f64) -> f64 {
    if x >= 0.0 { 1.0 / (1.0 + (-x).exp()) } else { x.exp() / (1.0 + x.exp()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(chosen: f64, rejected: f64) -> PairLogProbs {
        PairLogProbs { chosen, rejected, reference_chosen: -3.0, reference_rejected: -4.0 }
    }

    #[test]
    fn the_arm_loss_is_the_hand_computed_one() {
        // β_r 0.5, log π 2 nats apart: −log σ(1) = log(1 + e⁻¹) = 0.313261687518…
        let got = Objective::arm(0.5).pair(pair(-10.0, -12.0));
        assert!((got.loss - 0.313_261_687_518_222_8).abs() < 1e-12);
        assert!((got.margin - 1.0).abs() < 1e-12);
        // γ = 1 moves the same pair to −log σ(0) = log 2.
        let gamma = Objective::Arm { beta_r: 0.5, gamma: 1.0, label_smoothing: 0.0, hinge: false };
        assert!((gamma.pair(pair(-10.0, -12.0)).loss - std::f64::consts::LN_2).abs() < 1e-12);
        // Hinge at x = 1 − 0.25.
        let hinge = Objective::Arm { beta_r: 0.5, gamma: 0.25, label_smoothing: 0.0, hinge: true };
        assert!((hinge.pair(pair(-10.0, -12.0)).loss - 0.25).abs() < 1e-12);
        // DPO: β 0.5, the reference already prefers the chosen one by 1 nat, so x = 0.5 · (2 − 1).
        let dpo = Objective::Dpo { beta: 0.5, label_smoothing: 0.0 };
        assert!((dpo.pair(pair(-10.0, -12.0)).loss - 0.474_076_984_180_107_2).abs() < 1e-9);
    }

    #[test]
    fn every_derivative_agrees_with_finite_differences() {
        let objectives = [
            Objective::arm(0.2),
            Objective::Arm { beta_r: 0.7, gamma: 0.3, label_smoothing: 0.1, hinge: false },
            Objective::Arm { beta_r: 0.7, gamma: 0.3, label_smoothing: 0.0, hinge: true },
            Objective::Dpo { beta: 0.1, label_smoothing: 0.2 },
            Objective::Sft,
        ];
        let h = 1e-5;
        for o in objectives {
            for (c, r) in [(-10.0, -12.0), (-12.0, -10.0), (-1.0, -1.2), (-30.0, -400.0)] {
                let slope = (o.pair(pair(c + h, r)).loss - o.pair(pair(c - h, r)).loss) / (2.0 * h);
                let got = o.pair(pair(c, r)).d_chosen;
                assert!((slope - got).abs() < 1e-7, "{o:?} at {c}, {r}: {slope} against {got}");
            }
        }
    }

    #[test]
    fn a_hopeless_pair_gives_a_finite_loss() {
        let got = Objective::arm(1.0).pair(pair(-1e6, 0.0));
        assert!(got.loss.is_finite() && (got.loss - 1e6).abs() < 1.0 && (got.d_chosen + 1.0).abs() < 1e-9);
    }
}
