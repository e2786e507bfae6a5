//! AdamW with a state that can be saved: candle-nn's keeps its moments to itself.

use candle_core::{Result, Tensor, Var};
use std::collections::BTreeMap;

/// Settings of [`AdamW`]; the learning rate comes with each step.
#[derive(Debug, Clone, Copy)]
pub struct AdamWSettings {
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
}

impl Default for AdamWSettings {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.05 }
    }
}

/// Adam with decoupled weight decay, and its moments by tensor name.
#[derive(Debug)]
pub struct AdamW {
    settings: AdamWSettings,
    /// Updates done.
    pub step: usize,
    /// First moments.
    pub first: BTreeMap<String, Tensor>,
    /// Second moments.
    pub second: BTreeMap<String, Tensor>,
}

impl AdamW {
    /// Moments of zero for each of `vars`.
    ///
    /// # Errors
    ///
    /// A tensor operation that fails for want of memory.
    pub fn new(vars: &BTreeMap<String, Var>, settings: AdamWSettings) -> Result<Self> {
        let zeros = || vars.iter().map(|(n, v)| Ok((n.clone(), v.as_tensor().zeros_like()?))).collect::<Result<_>>();
        Ok(Self { settings, step: 0, first: zeros()?, second: zeros()? })
    }

    /// One update. Vectors (norms, biases) are not decayed.
    ///
    /// # Errors
    ///
    /// A tensor operation that fails for want of memory.
    pub fn update(
        &mut self,
        vars: &BTreeMap<String, Var>,
        grads: &BTreeMap<String, Tensor>,
        lr: f64,
        grad_scale: f64,
    ) -> Result<()> {
        self.step += 1;
        let s = self.settings;
        let correct1 = 1.0 - s.beta1.powi(self.step as i32);
        let correct2 = 1.0 - s.beta2.powi(self.step as i32);
        for (name, var) in vars {
            let Some(g) = grads.get(name) else { continue };
            let g = (g * grad_scale)?;
            let m = ((&self.first[name] * s.beta1)? + (&g * (1.0 - s.beta1))?)?;
            let v = ((&self.second[name] * s.beta2)? + (g.sqr()? * (1.0 - s.beta2))?)?;
            let direction = ((&m / correct1)? / ((&v / correct2)?.sqrt()? + s.eps)?)?;
            let decay = if var.rank() > 1 { 1.0 - lr * s.weight_decay } else { 1.0 };
            var.set(&((var.as_tensor().detach() * decay)? - (direction * lr)?)?)?;
            self.first.insert(name.clone(), m);
            self.second.insert(name.clone(), v);
        }
        Ok(())
    }
}

/// Euclidean norm of all gradients together.
///
/// # Errors
///
/// A tensor operation that fails for want of memory.
pub fn gradient_norm(grads: &BTreeMap<String, Tensor>) -> Result<f64> {
    let mut sum = 0.0;
    for g in grads.values() {
        sum += f64::from(g.sqr()?.sum_all()?.to_scalar::<f32>()?);
    }
    Ok(sum.sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn two_updates_are_the_hand_computed_ones() -> Result<()> {
        let var = Var::from_tensor(&Tensor::new(&[[1.0f32]], &Device::Cpu)?)?;
        let vars = BTreeMap::from([("w".to_string(), var)]);
        let settings = AdamWSettings { weight_decay: 0.1, ..AdamWSettings::default() };
        let mut adam = AdamW::new(&vars, settings)?;
        let grads = |g: f32| {
            Ok::<_, candle_core::Error>(BTreeMap::from([("w".to_string(), Tensor::new(&[[g]], &Device::Cpu)?)]))
        };
        adam.update(&vars, &grads(2.0)?, 0.01, 1.0)?;
        // m̂ = 2, v̂ = 4: 1 · (1 − 0.001) − 0.01 · 2 / 2.
        let first = vars["w"].flatten_all()?.to_vec1::<f32>()?[0];
        assert!((first - 0.989).abs() < 1e-6, "{first}");
        adam.update(&vars, &grads(-1.0)?, 0.01, 1.0)?;
        // m = 0.9·0.2 − 0.1 = 0.08, m̂ = 0.08/0.19; v = 0.999·0.004 + 0.001 = 0.004996, v̂ = 0.004996/0.001999.
        let want = 0.989 * 0.999 - 0.01 * (0.08 / 0.19) / (0.004_996f64 / 0.001_999).sqrt();
        let second = f64::from(vars["w"].flatten_all()?.to_vec1::<f32>()?[0]);
        assert!((second - want).abs() < 1e-6, "{second} against {want}");
        Ok(())
    }
}
