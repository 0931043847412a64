//! Optimizers whose state is saved: SGD with Nesterov momentum, AdamW, and Muon.

use crate::error::{Error, Result};
use candle_core::{CpuStorage, InplaceOp2, Layout, Tensor, Var};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::sync::Mutex;

/// Which optimizer, with its schedule over the run. `progress` runs from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Optimizer {
    /// As in the tutorial: learning rate and momentum change linearly from the first to the second value.
    Nesterov {
        /// Learning rate, first and last.
        lr: [f32; 2],
        /// Momentum, first and last.
        momentum: [f32; 2],
    },
    /// Loshchilov and Hutter 2019, betas .9 and .999; the rate rises linearly over the first `warmup` of the run, then falls
    /// along a cosine to a hundredth.
    AdamW {
        /// Highest learning rate.
        lr: f32,
        /// Weight decay, on weights of two or more dimensions only.
        weight_decay: f32,
        /// Share of the run in which the rate rises.
        warmup: f32,
    },
    /// Jordan 2024, as Liu et al. 2025 scale it, so that rate and decay are those of AdamW: the step of a layer's weights is
    /// their momentum with all singular values made equal. Biases, batch norms and the first layer use AdamW. The schedule is
    /// that of AdamW.
    Muon {
        /// Highest learning rate.
        lr: f32,
        /// Weight decay, on weights of two or more dimensions only.
        weight_decay: f32,
        /// Share of the run in which the rate rises.
        warmup: f32,
    },
}

impl Optimizer {
    /// The learning rate at `progress` of the run.
    pub fn learning_rate(&self, progress: f32) -> f32 {
        match *self {
            Self::Nesterov { lr: [a, b], .. } => a + (b - a) * progress,
            Self::AdamW { lr, warmup, .. } | Self::Muon { lr, warmup, .. } if progress < warmup => {
                lr * (progress / warmup).max(1e-2)
            }
            Self::AdamW { lr, warmup, .. } | Self::Muon { lr, warmup, .. } => {
                let along = ((progress - warmup) / (1. - warmup)).clamp(0., 1.);
                lr * (0.01 + 0.99 * 0.5 * (1. + (std::f32::consts::PI * along).cos()))
            }
        }
    }

    /// Number of values stored for each weight.
    pub fn moments(&self) -> usize {
        match self {
            Self::Nesterov { .. } => 1,
            Self::AdamW { .. } | Self::Muon { .. } => 2,
        }
    }
}

/// The moments of one weight tensor, each as long as the weight.
pub type Moments = Vec<Vec<f32>>;

/// One update of one weight tensor, in place.
struct Update<'a> {
    moments: Mutex<&'a mut Moments>,
    rule: Rule,
}

enum Rule {
    Nesterov { lr: f32, momentum: f32 },
    AdamW { lr: f32, decay: f32, correct1: f32, correct2: f32 },
}

/// Weights that a thread processes at a time.
const PART: usize = 16 * 1024;

const OTHER_STATE: &str = "the optimizer's state belongs to another optimizer";

const BETA1: f32 = 0.9;
const BETA2: f32 = 0.999;

impl InplaceOp2 for Update<'_> {
    fn name(&self) -> &'static str {
        "face96-update"
    }

    fn cpu_fwd(&self, w: &mut CpuStorage, lw: &Layout, g: &CpuStorage, lg: &Layout) -> candle_core::Result<()> {
        let (CpuStorage::F32(w), CpuStorage::F32(g)) = (w, g) else { candle_core::bail!("weights are f32") };
        let (Some((from, to)), Some((g_from, g_to))) = (lw.contiguous_offsets(), lg.contiguous_offsets()) else {
            candle_core::bail!("weights are contiguous")
        };
        let (w, g) = (&mut w[from..to], &g[g_from..g_to]);
        let mut moments = self.moments.lock().unwrap_or_else(|e| e.into_inner());
        match (self.rule, moments.as_mut_slice()) {
            (Rule::Nesterov { lr, momentum }, [v]) => {
                w.par_chunks_mut(PART).zip(g.par_chunks(PART)).zip(v.par_chunks_mut(PART)).for_each(|((w, g), v)| {
                    for ((w, g), v) in w.iter_mut().zip(g).zip(v) {
                        // As in Lasagne: the step looks ahead along the new velocity.
                        *v = momentum * *v - lr * g;
                        *w += momentum * *v - lr * g;
                    }
                });
            }
            (Rule::AdamW { lr, decay, correct1, correct2 }, [m, v]) => {
                let moments = m.par_chunks_mut(PART).zip(v.par_chunks_mut(PART));
                w.par_chunks_mut(PART).zip(g.par_chunks(PART)).zip(moments).for_each(|((w, g), (m, v))| {
                    for (((w, g), m), v) in w.iter_mut().zip(g).zip(m).zip(v) {
                        *m = BETA1 * *m + (1. - BETA1) * g;
                        *v = BETA2 * *v + (1. - BETA2) * g * g;
                        *w -= lr * (*m * correct1 / ((*v * correct2).sqrt() + 1e-8) + decay * *w);
                    }
                });
            }
            _ => candle_core::bail!("{OTHER_STATE}"),
        }
        Ok(())
    }
}

impl Clone for Rule {
    fn clone(&self) -> Self {
        *self
    }
}

impl Copy for Rule {}

impl Optimizer {
    /// Moves one weight along its gradient; `step` counts from 1.
    ///
    /// # Errors
    /// State of another optimizer, or a gradient that is not finite.
    pub fn update(&self, var: &Var, gradient: &Tensor, moments: &mut Moments, step: u64, progress: f32) -> Result<()> {
        let lr = self.learning_rate(progress);
        if let (Self::Muon { weight_decay, .. }, [rows, rest @ ..]) = (*self, var.dims()) {
            let columns = rest.iter().product();
            if columns >= MUON_COLUMNS {
                return muon(var, gradient, moments, (*rows, columns), lr, weight_decay);
            }
        }
        let rule = match *self {
            Self::Nesterov { momentum: [a, b], .. } => Rule::Nesterov { lr, momentum: a + (b - a) * progress },
            Self::AdamW { weight_decay, .. } | Self::Muon { weight_decay, .. } => {
                let power = |beta: f32| 1. / (1. - f64::from(beta).powf(step as f64)) as f32;
                let decay = if var.rank() > 1 { weight_decay } else { 0. };
                Rule::AdamW { lr, decay, correct1: power(BETA1), correct2: power(BETA2) }
            }
        };
        let update = Update { moments: Mutex::new(moments), rule };
        var.as_tensor().inplace_op2(&gradient.contiguous()?, &update).map_err(Error::from)
    }
}

/// Momentum of [`Optimizer::Muon`].
const MUON_MOMENTUM: f32 = 0.95;

/// Number of columns from which on Muon updates a layer's weights: those of the first layer, nine a row, use AdamW.
const MUON_COLUMNS: usize = 32;

/// Newton-Schulz iterations, and the coefficients of their polynomial (Jordan 2024): five bring singular values of 0.01 to 1 to 0.7 to 1.2.
const NEWTON_SCHULZ_STEPS: usize = 5;
const NEWTON_SCHULZ: [f64; 3] = [3.4445, -4.775, 2.0315];

/// Root mean square of a step relative to the rate, as in AdamW's steps (Liu et al. 2025).
const MUON_RMS: f64 = 0.2;

/// The matrix (rows, columns) with the same singular vectors and with all singular values near 1.
fn orthogonal(x: &Tensor) -> Result<Tensor> {
    let (rows, columns) = x.dims2()?;
    let norm = x.sqr()?.sum_all()?.to_scalar::<f32>()?;
    let x = (x / f64::from(norm.sqrt().max(f32::MIN_POSITIVE)))?;
    // Transposed where needed, so that the products have the size of the shorter side.
    let mut x = if rows > columns { x.t()?.contiguous()? } else { x };
    let [a, b, c] = NEWTON_SCHULZ;
    for _ in 0..NEWTON_SCHULZ_STEPS {
        let square = x.matmul(&x.t()?)?;
        let polynomial = ((&square * b)? + (square.matmul(&square)? * c)?)?;
        x = ((&x * a)? + polynomial.matmul(&x)?)?;
    }
    Ok(if rows > columns { x.t()?.contiguous()? } else { x })
}

/// The step of [`Optimizer::Muon`] for weights of `shape` (outputs, everything else).
fn muon(var: &Var, gradient: &Tensor, moments: &mut Moments, shape: (usize, usize), lr: f32, decay: f32) -> Result<()> {
    let [momentum, _] = moments.as_mut_slice() else { return Err(Error::Config(OTHER_STATE.into())) };
    let gradient: Vec<f32> = gradient.flatten_all()?.to_vec1()?;
    // As in Nesterov's method: a look ahead along the new momentum.
    let ahead = momentum.iter_mut().zip(gradient).map(|(m, g)| {
        *m += (1. - MUON_MOMENTUM) * (g - *m);
        g + MUON_MOMENTUM * (*m - g)
    });
    let step = orthogonal(&Tensor::from_vec(ahead.collect::<Vec<_>>(), shape, var.device())?)?;
    let scale = f64::from(lr) * MUON_RMS * (shape.0.max(shape.1) as f64).sqrt();
    let old = (var.as_tensor() * f64::from(1. - lr * decay))?;
    Ok(var.set(&(old - (step.reshape(var.shape())? * scale)?)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    fn step(optimizer: Optimizer, n: u64) -> f32 {
        let var = Var::new(&[[1f32]], &Device::Cpu).unwrap();
        let mut moments = vec![vec![0f32]; optimizer.moments()];
        for i in 1..=n {
            // d/dw of w squared.
            let g = (var.as_tensor() * 2.).unwrap();
            optimizer.update(&var, &g, &mut moments, i, 0.5).unwrap();
        }
        var.as_tensor().to_vec2::<f32>().unwrap()[0][0]
    }

    #[test]
    fn nesterov_by_hand() {
        let optimizer = Optimizer::Nesterov { lr: [0.1, 0.1], momentum: [0.9, 0.9] };
        // v = -.2, w = 1 - .18 - .2 = .62; then v = -.18 - .124 = -.304, w = .62 - .2736 - .124 = .2224.
        assert!((step(optimizer, 1) - 0.62).abs() < 1e-6);
        assert!((step(optimizer, 2) - 0.2224).abs() < 1e-6);
    }

    #[test]
    fn adamw_by_hand() {
        let optimizer = Optimizer::AdamW { lr: 0.1, weight_decay: 0.01, warmup: 0.5 };
        // Halfway through the run, at the end of the warm-up: w = 1 - .1 * (1 + .01).
        assert!((step(optimizer, 1) - 0.899).abs() < 1e-5);
    }

    #[test]
    fn muon_makes_singular_values_alike_and_keeps_their_vectors() {
        // Singular values 3 and 0.1 along a rotated pair of axes, wide and tall.
        let (sin, cos) = 0.6f32.sin_cos();
        let rows = [[3. * cos, -3. * sin, 0.], [0.1 * sin, 0.1 * cos, 0.]];
        for tall in [false, true] {
            let x = Tensor::new(&rows, &Device::Cpu).unwrap();
            let x = orthogonal(&if tall { x.t().unwrap().contiguous().unwrap() } else { x }).unwrap();
            let x = if tall { x.t().unwrap() } else { x }.contiguous().unwrap().to_vec2::<f32>().unwrap();
            for (row, [u, v]) in x.iter().zip([[cos, -sin], [sin, cos]]) {
                let along = row[0] * u + row[1] * v;
                assert!((0.6..1.3).contains(&along), "{x:?}");
                assert!((row[0] - along * u).abs() < 1e-3 && (row[1] - along * v).abs() < 1e-3 && row[2].abs() < 1e-3);
            }
        }
    }

    #[test]
    fn muon_steps_by_the_rate_and_leaves_vectors_to_adamw() {
        let optimizer = Optimizer::Muon { lr: 0.1, weight_decay: 0.01, warmup: 0.5 };
        // Halfway through the run, at the end of the warm-up. One row of 64 equal values has one singular value: each becomes
        // about 1/8, times 0.2 times the root of 64, which is 0.2.
        let var = Var::ones((1, 64), candle_core::DType::F32, &Device::Cpu).unwrap();
        let mut moments = vec![vec![0f32; 64]; optimizer.moments()];
        optimizer.update(&var, &(var.as_tensor() * 5.).unwrap(), &mut moments, 1, 0.5).unwrap();
        for w in var.as_tensor().flatten_all().unwrap().to_vec1::<f32>().unwrap() {
            assert!((1. - 0.1 * 0.01 - w - 0.1 * 0.2).abs() < 0.1 * 0.2 * 0.35, "{w}");
        }
        assert!(moments[1].iter().all(|v| *v == 0.) && (moments[0][0] - 0.25).abs() < 1e-6);
        assert!((step(optimizer, 1) - 0.899).abs() < 1e-5);
    }

    #[test]
    fn schedules_start_and_end_where_the_tutorial_says() {
        let net4 = Optimizer::Nesterov { lr: [0.03, 0.0001], momentum: [0.9, 0.999] };
        assert_eq!(net4.learning_rate(0.), 0.03);
        assert!((net4.learning_rate(1.) - 0.0001).abs() < 1e-8);
        let adam = Optimizer::AdamW { lr: 1e-3, weight_decay: 0., warmup: 0.1 };
        assert!((adam.learning_rate(0.1) - 1e-3).abs() < 1e-9 && (adam.learning_rate(1.) - 1e-5).abs() < 1e-9);
    }
}
