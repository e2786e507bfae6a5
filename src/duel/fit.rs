//! Bayesian logistic regression on differences of rewards.

/// Standard deviation of the prior: the log-odds of a choice between two answers that differ in one reward by its usual
/// amount. At 3, such a choice falls the same way 19 times in 20.
const PRIOR: f64 = 3.0;

/// Newton's method ends when no number moves by more.
const CONVERGED: f64 = 1e-10;
const MAX_STEPS: usize = 100;

/// One choice.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// The rewards of the preferred answer, less those of the other one.
    pub difference: Vec<f64>,
    /// Whether both were alike; then the order means nothing.
    pub tie: bool,
}

impl Comparison {
    /// `chosen` was preferred to `rejected`, or both were alike.
    pub fn new(chosen: &[f64], rejected: &[f64], tie: bool) -> Self {
        Self { difference: difference(chosen, rejected), tie }
    }

    /// How often the first answer won: once, or half.
    fn outcome(&self) -> f64 {
        if self.tie { 0.5 } else { 1.0 }
    }
}

pub(super) fn difference(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a - b).collect()
}

/// How much each reward usually differs between two answers: the unit of the prior.
#[derive(Debug, Clone, PartialEq)]
pub struct Scale(Vec<f64>);

impl Scale {
    /// The root mean square of `n` rewards over these differences; 1 where there is none.
    pub fn of<'a>(n: usize, differences: impl Iterator<Item = &'a [f64]>) -> Self {
        let (mut sums, mut count) = (vec![0.0; n], 0.0);
        for difference in differences {
            count += 1.0;
            sums.iter_mut().zip(difference).for_each(|(sum, x)| *sum += x * x);
        }
        let scale = |sum: f64| if sum > 0.0 { (sum / count).sqrt() } else { 1.0 };
        Self(sums.into_iter().map(scale).collect())
    }
}

/// What the choices say of θ: its likeliest value, and how far that can be trusted.
#[derive(Debug, Clone)]
pub struct Fit {
    /// Log-odds per nat per token, one per objective.
    pub theta: Vec<f64>,
    /// The posterior's covariance, row by row.
    pub covariance: Vec<Vec<f64>>,
}

impl Fit {
    /// Fits the choices, by whose differences the prior is scaled.
    pub fn of(n: usize, choices: &[Comparison]) -> Self {
        Self::scaled(&Scale::of(n, choices.iter().map(|choice| &choice.difference[..])), choices)
    }

    /// Fits the choices under a prior in these units.
    pub fn scaled(scale: &Scale, choices: &[Comparison]) -> Self {
        let unit = |choice: &Comparison| choice.difference.iter().zip(&scale.0).map(|(x, s)| x / s).collect();
        let units: Vec<(Vec<f64>, f64)> = choices.iter().map(|choice| (unit(choice), choice.outcome())).collect();
        let n = scale.0.len();
        let mut z = vec![0.0; n];
        for _ in 0..MAX_STEPS {
            let step = solve(&curvature(&units, &z), &slope(&units, &z));
            // Half as far, until the loss falls: far from its minimum the loss is no parabola.
            let (now, mut length) = (loss(&units, &z), 1.0);
            let moved = |length: f64| z.iter().zip(&step).map(|(z, by)| z - length * by).collect::<Vec<_>>();
            while loss(&units, &moved(length)) > now && length > CONVERGED {
                length /= 2.0;
            }
            z = moved(length);
            if step.iter().all(|by| by.abs() < CONVERGED) {
                break;
            }
        }
        let curvature = curvature(&units, &z);
        let column = |i: usize| {
            let one: Vec<f64> = (0..n).map(|j| f64::from(u8::from(i == j))).collect();
            let column = solve(&curvature, &one);
            column.iter().zip(&scale.0).map(|(c, s)| c / (s * scale.0[i])).collect()
        };
        Self { theta: z.iter().zip(&scale.0).map(|(z, s)| z / s).collect(), covariance: (0..n).map(column).collect() }
    }

    /// The standard errors of θ.
    pub fn errors(&self) -> Vec<f64> {
        (0..self.theta.len()).map(|i| self.covariance[i][i].sqrt()).collect()
    }

    /// How likely the first of two answers with this difference is to be preferred.
    pub fn probability(&self, difference: &[f64]) -> f64 {
        sigmoid(dot(&self.theta, difference))
    }

    /// 2n points as far from θ as the posterior reaches, with its mean and covariance: what a function of θ is at them
    /// says how far the function can be trusted (the unscented transform).
    pub(super) fn around(&self) -> Vec<Vec<f64>> {
        let n = self.theta.len();
        let factor = cholesky(&self.covariance);
        let reach = (n as f64).sqrt();
        let point = |k: usize, sign: f64| {
            self.theta.iter().enumerate().map(|(i, x)| x + sign * reach * factor[i][k]).collect::<Vec<_>>()
        };
        (0..n).flat_map(|k| [point(k, 1.0), point(k, -1.0)]).collect()
    }

    /// The variance of θ · `along`.
    pub fn variance(&self, along: &[f64]) -> f64 {
        self.covariance.iter().zip(along).map(|(row, x)| x * dot(row, along)).sum()
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn sigmoid(m: f64) -> f64 {
    1.0 / (1.0 + (-m).exp())
}

/// log(1 + eᵐ) without overflow.
fn softplus(m: f64) -> f64 {
    m.max(0.0) + (-m.abs()).exp().ln_1p()
}

/// The negative logarithm of the posterior.
fn loss(units: &[(Vec<f64>, f64)], z: &[f64]) -> f64 {
    let of_choice = |(x, outcome): &(Vec<f64>, f64)| {
        let m = dot(x, z);
        outcome * softplus(-m) + (1.0 - outcome) * softplus(m)
    };
    units.iter().map(of_choice).sum::<f64>() + dot(z, z) / (2.0 * PRIOR * PRIOR)
}

fn slope(units: &[(Vec<f64>, f64)], z: &[f64]) -> Vec<f64> {
    let mut slope: Vec<f64> = z.iter().map(|z| z / (PRIOR * PRIOR)).collect();
    for (x, outcome) in units {
        let wrong = sigmoid(dot(x, z)) - outcome;
        slope.iter_mut().zip(x).for_each(|(sum, x)| *sum += wrong * x);
    }
    slope
}

fn curvature(units: &[(Vec<f64>, f64)], z: &[f64]) -> Vec<Vec<f64>> {
    let n = z.len();
    let mut sums = vec![vec![0.0; n]; n];
    for (i, row) in sums.iter_mut().enumerate() {
        row[i] = 1.0 / (PRIOR * PRIOR);
    }
    for (x, _) in units {
        let p = sigmoid(dot(x, z));
        for (row, a) in sums.iter_mut().zip(x) {
            row.iter_mut().zip(x).for_each(|(sum, b)| *sum += p * (1.0 - p) * a * b);
        }
    }
    sums
}

/// The lower triangular matrix whose product with its own transpose is this positive definite one.
fn cholesky(matrix: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let n = matrix.len();
    let mut factor = vec![vec![0.0; n]; n];
    for i in 0..n {
        for j in 0..=i {
            let rest = matrix[i][j] - dot(&factor[i][..j], &factor[j][..j]);
            factor[i][j] = if i == j { rest.max(f64::MIN_POSITIVE).sqrt() } else { rest / factor[j][j] };
        }
    }
    factor
}

/// Solves `matrix` · x = `right` for a positive definite matrix.
fn solve(matrix: &[Vec<f64>], right: &[f64]) -> Vec<f64> {
    let (n, factor) = (right.len(), cholesky(matrix));
    let mut x = right.to_vec();
    for i in 0..n {
        x[i] = (x[i] - dot(&factor[i][..i], &x[..i])) / factor[i][i];
    }
    for i in (0..n).rev() {
        let below: f64 = (i + 1..n).map(|j| factor[j][i] * x[j]).sum();
        x[i] = (x[i] - below) / factor[i][i];
    }
    x
}
