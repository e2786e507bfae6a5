//! The four factors of a conditioned matrix, and the ordinary LoRAs that they make.

use candle_core::{DType, Device, Result, Tensor};
use rand::Rng;

/// A, B, W1 and W2 of one matrix.
#[derive(Debug, Clone)]
pub struct Factors {
    /// `[r1 + r2, n_in]`.
    pub a: Tensor,
    /// `[n_out, r1 + r2]`.
    pub b: Tensor,
    /// `[r1, r1]`.
    pub w1: Tensor,
    /// `[k, r2 · r2]`: a row for each objective.
    pub w2: Tensor,
}

impl Factors {
    /// The authors' start: B is zero, the others uniform up to 1 / √(length of a row).
    ///
    /// # Errors
    ///
    /// A tensor operation that fails for want of memory.
    pub fn start(
        (n_out, n_in): (usize, usize),
        (r1, r2, k): (usize, usize, usize),
        rng: &mut impl Rng,
        device: &Device,
    ) -> Result<Self> {
        let mut uniform = |rows: usize, columns: usize| {
            let bound = 1.0 / (columns as f32).sqrt();
            let numbers: Vec<f32> = (0..rows * columns).map(|_| rng.random_range(-bound..bound)).collect();
            Tensor::from_vec(numbers, (rows, columns), device)
        };
        Ok(Self {
            a: uniform(r1 + r2, n_in)?,
            b: Tensor::zeros((n_out, r1 + r2), DType::F32, device)?,
            w1: uniform(r1, r1)?,
            w2: uniform(k, r2 * r2)?,
        })
    }

    /// The ranks r1 and r2.
    fn ranks(&self) -> Result<(usize, usize)> {
        let r1 = self.w1.dim(0)?;
        Ok((r1, self.b.dim(1)? - r1))
    }

    /// B · W1 of the shared part, `[n_out, r1]`.
    fn shared(&self) -> Result<Tensor> {
        let (r1, _) = self.ranks()?;
        self.b.narrow(1, 0, r1)?.contiguous()?.matmul(&self.w1)
    }

    /// B · M of the steered part, `[n_out, r2]`, for the r2² numbers of M row by row.
    fn steered(&self, m: &Tensor) -> Result<Tensor> {
        let (r1, r2) = self.ranks()?;
        self.b.narrow(1, r1, r2)?.contiguous()?.matmul(&m.reshape((r2, r2))?)
    }

    /// B · W(α), differentiable in B, W1 and W2: with A and the scale an ordinary LoRA.
    ///
    /// # Errors
    ///
    /// A tensor operation that fails for want of memory.
    pub fn folded(&self, preferences: &[f32]) -> Result<Tensor> {
        let alpha = Tensor::from_slice(preferences, (1, preferences.len()), self.w2.device())?;
        Tensor::cat(&[self.shared()?, self.steered(&alpha.matmul(&self.w2)?)?], 1)
    }

    /// A and B of the k + 1 LoRAs, one after another: the shared part, and one for each objective. The scale is in B.
    ///
    /// # Errors
    ///
    /// A tensor operation that fails for want of memory.
    pub fn stacked(&self, scale: f64) -> Result<(Tensor, Tensor)> {
        let (r1, r2) = self.ranks()?;
        let (mut a, mut b) = (vec![self.a.narrow(0, 0, r1)?], vec![self.shared()?]);
        for i in 0..self.w2.dim(0)? {
            a.push(self.a.narrow(0, r1, r2)?);
            b.push(self.steered(&self.w2.get(i)?)?);
        }
        Ok((Tensor::cat(&a, 0)?, (Tensor::cat(&b, 1)? * scale)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    const SIZE: (usize, usize) = (5, 7);
    const RANKS: (usize, usize, usize) = (2, 3, 3);
    const SCALE: f64 = 8.0 / 3.0;

    fn factors() -> Factors {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let start = Factors::start(SIZE, RANKS, &mut rng, &Device::Cpu).unwrap();
        let b: Vec<f32> = (0..SIZE.0 * 5).map(|_| rng.random_range(-1.0..1.0)).collect();
        Factors { b: Tensor::from_vec(b, (SIZE.0, 5), &Device::Cpu).unwrap(), ..start }
    }

    fn rows(tensor: &Tensor) -> Vec<Vec<f32>> {
        tensor.to_vec2().unwrap()
    }

    /// s · B · W(α) · A by the definition, one sum after another; `turned` reads each M_i column by column.
    fn by_definition(f: &Factors, alpha: &[f32], turned: bool) -> Vec<f64> {
        let (r1, r2, _) = RANKS;
        let (a, b, w1, w2) = (rows(&f.a), rows(&f.b), rows(&f.w1), rows(&f.w2));
        let w = |i: usize, j: usize| match (i < r1, j < r1) {
            (true, true) => f64::from(w1[i][j]),
            (false, false) => {
                let (i, j) = if turned { (j - r1, i - r1) } else { (i - r1, j - r1) };
                alpha.iter().zip(&w2).map(|(alpha, m)| f64::from(*alpha) * f64::from(m[i * r2 + j])).sum()
            }
            _ => 0.0,
        };
        let mut out = Vec::new();
        for b in &b {
            let product = |column: usize| -> f64 {
                let terms = (0..r1 + r2).flat_map(|i| (0..r1 + r2).map(move |j| (i, j)));
                terms.map(|(i, j)| f64::from(b[i]) * w(i, j) * f64::from(a[j][column])).sum()
            };
            out.extend((0..SIZE.1).map(|column| SCALE * product(column)));
        }
        out
    }

    fn difference(tensor: &Tensor, wanted: &[f64]) -> f64 {
        let got = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        got.iter().zip(wanted).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max)
    }

    #[test]
    fn folded_and_stacked_factors_are_the_definition_and_a_turned_matrix_is_not() {
        let f = factors();
        let (a, b) = f.stacked(SCALE).unwrap();
        assert_eq!((a.dims(), b.dims()), (&[11, 7][..], &[5, 11][..]));
        for alpha in [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.2, 0.5, 0.3], [0.0, 0.0, 0.0], [1.0, 1.0, 1.0]] {
            let folded = (f.folded(&alpha).unwrap().matmul(&f.a).unwrap() * SCALE).unwrap();
            // Each block by its own number: 1 for the shared one.
            let blocks = [(0, 2, 1.0), (2, 3, alpha[0]), (5, 3, alpha[1]), (8, 3, alpha[2])];
            let block = |(at, n, alpha): (usize, usize, f32)| {
                let product = b.narrow(1, at, n).unwrap().contiguous().unwrap().matmul(&a.narrow(0, at, n).unwrap());
                (product.unwrap() * f64::from(alpha)).unwrap()
            };
            let stacked = blocks.map(block).into_iter().reduce(|x, y| (x + y).unwrap()).unwrap();
            let wanted = by_definition(&f, &alpha, false);
            assert!(difference(&folded, &wanted) < 1e-6 && difference(&stacked, &wanted) < 1e-6, "{alpha:?}");
            let turned = by_definition(&f, &alpha, true);
            assert!(alpha == [0.0; 3] || difference(&stacked, &turned) > 1e-2, "{alpha:?}");
        }
    }

    #[test]
    fn an_adapter_starts_as_nothing_within_the_bounds_of_its_rows() {
        let f = Factors::start(SIZE, RANKS, &mut ChaCha8Rng::seed_from_u64(1), &Device::Cpu).unwrap();
        let most = |t: &Tensor| t.abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar::<f32>().unwrap();
        assert_eq!(most(&f.b), 0.0);
        for (tensor, length) in [(&f.a, 7.0), (&f.w1, 2.0), (&f.w2, 9.0)] {
            let bound = 1.0 / f32::sqrt(length);
            assert!(most(tensor) <= bound && most(tensor) > 0.5 * bound, "{} {bound}", most(tensor));
        }
    }
}
