//! Batch norm (Ioffe and Szegedy 2015) by the batch's own statistics, and its gradients, as a candle op; and the passes over
//! places that both consist of.

use super::vector::{for_vectors, Vector, Vectors, MOST_LANES};
use super::winograd::whole_vectors;
use super::{buffer, floats, made, read, run, tensor, NORM_EPSILON};
use candle_core::{bail, CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

/// Batch norm over all but the last dimension of its input (.., C), by statistics of the batch: each channel minus its mean,
/// divided by its deviation, times `gamma` (C), plus `beta` (C); then `max(., 0)` if `relu`.
pub struct BatchNorm {
    /// Mean of each channel.
    pub mean: Vec<f32>,
    /// Biased variance of each channel.
    pub variance: Vec<f32>,
    relu: bool,
}

impl BatchNorm {
    /// A batch norm with the statistics of `x`, which has `c` channels.
    ///
    /// # Errors
    /// An input without values, or with another number of channels.
    pub fn new(x: &Tensor, c: usize, relu: bool) -> Result<Self> {
        if x.dims().last() != Some(&c) || x.elem_count() == 0 {
            bail!("batch norm: input {:?} does not have {c} channels", x.shape());
        }
        let (mean, variance) = read(x, |x| Ok(channel_moments(c, x)))?;
        Ok(Self { mean, variance, relu })
    }

    fn with<R>(&self, gamma: &[f32], beta: &[f32], f: impl FnOnce(Norm) -> R) -> R {
        let inverse_deviation: Vec<f32> = self.variance.iter().map(|v| 1. / (v + NORM_EPSILON).sqrt()).collect();
        f(Norm { mean: &self.mean, inverse_deviation: &inverse_deviation, gamma, beta, relu: self.relu })
    }
}

impl CustomOp3 for BatchNorm {
    fn name(&self) -> &'static str {
        "face96-batch-norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        gamma: &CpuStorage,
        lg: &Layout,
        beta: &CpuStorage,
        lb: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let x = floats(x, lx)?;
        made(self.with(floats(gamma, lg)?, floats(beta, lb)?, |norm| norm.forward(x)), lx.shape().clone())
    }

    fn bwd(
        &self,
        x: &Tensor,
        gamma: &Tensor,
        beta: &Tensor,
        _: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let run =
            |gamma: &[f32], beta: &[f32], x: &[f32], dy: &[f32]| self.with(gamma, beta, |norm| norm.backward(x, dy));
        let (dx, dg, db) =
            read(x, |x| read(dy, |dy| read(gamma, |gamma| read(beta, |beta| Ok(run(gamma, beta, x, dy))))))?;
        Ok((Some(tensor(dx, x)?), Some(tensor(dg, gamma)?), Some(tensor(db, gamma)?)))
    }
}

/// Floats that are summed at a time: a page, which then stays in the first-level cache for all of its channels. Sums of so few
/// values lose nothing in f32 (they are added up in f64: a plain f32 sum of a million values loses three digits).
const CHUNK: usize = 1024;

/// The gradient of a batch norm's output, and what decides where its ReLU, if any, let it pass: `x * scale + shift > 0`.
#[derive(Clone, Copy)]
pub(super) struct Passed<'a> {
    dy: &'a [f32],
    scale: &'a [f32],
    shift: &'a [f32],
    relu: bool,
}

/// Sums over places of `x` (places, c), by channel: of `d` and of `d * (x - pivot)`, added to `totals`. `d` is the gradient where it
/// passed, or `x - pivot` if there is none.
///
/// # Safety
/// The processor has the vector's instructions.
#[inline(always)]
unsafe fn place_sums<V: Vector>(x: &[f32], pivot: &[f32], passed: Option<Passed>, totals: &mut [Vec<f64>; 2]) {
    let c = pivot.len();
    assert!(c >= V::LANES && x.len().is_multiple_of(c) && totals.iter().all(|t| t.len() == c));
    if let Some(p) = passed {
        assert!(p.dy.len() == x.len() && p.scale.len() == c && p.shift.len() == c);
    }
    let (chunk, zero) = ((CHUNK / c).max(1) * c, V::splat(0.));
    for first in (0..x.len()).step_by(chunk) {
        let end = x.len().min(first + chunk);
        // Channels that overlapping vectors share are summed twice but added once.
        let mut done = 0;
        for from in whole_vectors(c, V::LANES) {
            // SAFETY: here and below, from + LANES is at most c, and at is the first value of a place.
            let pivot = V::load(pivot.as_ptr().add(from));
            let [mut sum, mut other_sum, mut moment, mut other_moment] = [zero; 4];
            let mut at = first;
            while at < end {
                let (d, e) = place_term(x, pivot, passed, at, from);
                sum = sum.add(d);
                moment = moment.add_product(d, e);
                at += c;
                // Every second place has its own sums, so that no addition waits for the previous one.
                if at < end {
                    let (d, e) = place_term(x, pivot, passed, at, from);
                    other_sum = other_sum.add(d);
                    other_moment = other_moment.add_product(d, e);
                    at += c;
                }
            }
            for (sum, totals) in [sum.add(other_sum), moment.add(other_moment)].into_iter().zip(totals.iter_mut()) {
                let mut lanes = [0f32; MOST_LANES];
                sum.store(lanes.as_mut_ptr());
                for (total, lane) in totals[done..from + V::LANES].iter_mut().zip(&lanes[done - from..]) {
                    *total += f64::from(*lane);
                }
            }
            done = from + V::LANES;
        }
    }
}

/// `d` and `x - pivot` of the channels from `from` on of the place that begins at `at`; see [`place_sums`].
///
/// # Safety
/// As for [`place_sums`], with `at + from + LANES` at most the length of `x`.
#[inline(always)]
unsafe fn place_term<V: Vector>(x: &[f32], pivot: V, passed: Option<Passed>, at: usize, from: usize) -> (V, V) {
    let x = V::load(x.as_ptr().add(at + from));
    let e = x.sub(pivot);
    match passed {
        None => (e, e),
        Some(p) => (p.gradient(x, at, from), e),
    }
}

impl Passed<'_> {
    /// The gradient where it passed, else 0.
    ///
    /// # Safety
    /// As for [`place_term`].
    #[inline(always)]
    unsafe fn gradient<V: Vector>(&self, x: V, at: usize, from: usize) -> V {
        let dy = V::load(self.dy.as_ptr().add(at + from));
        if !self.relu {
            return dy;
        }
        let [scale, shift] = [self.scale, self.shift].map(|k| k.as_ptr().add(from));
        dy.where_positive(V::load(shift).add_product(x, V::load(scale)))
    }
}

/// `y = max(x * scale + shift, floor)` for all places of `x` (places, c).
///
/// # Safety
/// The processor has the vector's instructions.
#[inline(always)]
unsafe fn normalise<V: Vector>(x: &[f32], scale: &[f32], shift: &[f32], floor: f32, y: &mut [f32]) {
    let c = scale.len();
    assert!(c >= V::LANES && shift.len() == c && x.len().is_multiple_of(c) && y.len() == x.len());
    let floor = V::splat(floor);
    for at in (0..x.len()).step_by(c) {
        for from in whole_vectors(c, V::LANES) {
            // SAFETY: from + LANES is at most c, and at is the first value of a place.
            let [scale, shift] = [V::load(scale.as_ptr().add(from)), V::load(shift.as_ptr().add(from))];
            let x = V::load(x.as_ptr().add(at + from));
            shift.add_product(x, scale).max(floor).store(y.as_mut_ptr().add(at + from));
        }
    }
}

/// `dx = d * scale + x * q + r` for all places of `x` (places, c), with `d` the gradient where it passed.
///
/// # Safety
/// The processor has the vector's instructions.
#[inline(always)]
unsafe fn input_gradient<V: Vector>(x: &[f32], passed: Passed, q: &[f32], r: &[f32], dx: &mut [f32]) {
    let c = q.len();
    assert!(c >= V::LANES && [r.len(), passed.scale.len(), passed.shift.len()] == [c; 3]);
    assert!(x.len().is_multiple_of(c) && passed.dy.len() == x.len() && dx.len() == x.len());
    for at in (0..x.len()).step_by(c) {
        for from in whole_vectors(c, V::LANES) {
            // SAFETY: from + LANES is at most c, and at is the first value of a place.
            let x = V::load(x.as_ptr().add(at + from));
            let d = passed.gradient(x, at, from);
            let scale = V::load(passed.scale.as_ptr().add(from));
            let rest = V::load(r.as_ptr().add(from)).add_product(x, V::load(q.as_ptr().add(from)));
            rest.add_product(d, scale).store(dx.as_mut_ptr().add(at + from));
        }
    }
}

for_vectors! {
    fn place_sums(x: &[f32], pivot: &[f32], passed: Option<Passed>, totals: &mut [Vec<f64>; 2]);
    fn normalise(x: &[f32], scale: &[f32], shift: &[f32], floor: f32, y: &mut [f32]);
    fn input_gradient(x: &[f32], passed: Passed, q: &[f32], r: &[f32], dx: &mut [f32]);
}

/// The values of each place of `x` (places, c), padded with zeros to a whole vector; `None` if no padding is needed.
fn widened(c: usize, x: &[f32]) -> Option<Vec<f32>> {
    let rest = Vectors::here().lanes().checked_sub(c).filter(|rest| *rest > 0)?;
    Some(x.chunks_exact(c).flat_map(|place| place.iter().copied().chain(std::iter::repeat_n(0., rest))).collect())
}

/// The first `c` values of each place of `x` (places, lanes).
fn narrowed(c: usize, x: &[f32]) -> Vec<f32> {
    x.chunks_exact(Vectors::here().lanes()).flat_map(|place| &place[..c]).copied().collect()
}

/// [`Vectors::place_sums`] over all places; the sums of the runs are added in order.
fn channel_sums(x: &[f32], pivot: &[f32], passed: Option<Passed>) -> [Vec<f32>; 2] {
    let c = pivot.len();
    let n = run(x.len(), c);
    let part = |(i, x): (usize, &[f32])| {
        let mut totals = [vec![0f64; c], vec![0f64; c]];
        let passed = passed.map(|p| Passed { dy: &p.dy[i * n..][..x.len()], ..p });
        Vectors::here().place_sums(x, pivot, passed, &mut totals);
        totals
    };
    let parts: Vec<[Vec<f64>; 2]> = x.par_chunks(n).enumerate().map(part).collect();
    [0, 1].map(|which| (0..c).map(|i| parts.iter().map(|p| p[which][i]).sum::<f64>() as f32).collect())
}

/// Mean and (biased) variance of each of `c` channels over all places of `x`.
pub(crate) fn channel_moments(c: usize, x: &[f32]) -> (Vec<f32>, Vec<f32>) {
    if let Some(x) = widened(c, x) {
        let (mean, variance) = channel_moments(Vectors::here().lanes(), &x);
        return (mean[..c].to_vec(), variance[..c].to_vec());
    }
    let n = (x.len() / c) as f32;
    // Relative to the first place's values, so that a large mean does not swallow the variance.
    let pivot = &x[..c];
    let [sums, squares] = channel_sums(x, pivot, None);
    let mean = sums.iter().zip(pivot).map(|(s, p)| p + s / n).collect();
    (mean, sums.iter().zip(squares).map(|(s, q)| (q / n - (s / n) * (s / n)).max(0.)).collect())
}

/// A batch norm's constants.
#[derive(Clone, Copy)]
struct Norm<'a> {
    mean: &'a [f32],
    inverse_deviation: &'a [f32],
    gamma: &'a [f32],
    beta: &'a [f32],
    relu: bool,
}

impl Norm<'_> {
    /// Batch norm as `x * scale + shift`.
    fn scale_shift(&self) -> (Vec<f32>, Vec<f32>) {
        let scale: Vec<f32> = self.gamma.iter().zip(self.inverse_deviation).map(|(g, d)| g * d).collect();
        let shift = self.beta.iter().zip(&scale).zip(self.mean).map(|((b, s), m)| b - s * m).collect();
        (scale, shift)
    }

    /// The output for all places of `x`.
    fn forward(&self, x: &[f32]) -> Vec<f32> {
        let c = self.gamma.len();
        let floor = if self.relu { 0. } else { f32::NEG_INFINITY };
        let (scale, shift) = self.scale_shift();
        let all = |x: &[f32], scale: &[f32], shift: &[f32]| {
            let mut y = buffer::take(x.len());
            let n = run(x.len(), scale.len());
            let parts = y.par_chunks_mut(n).zip(x.par_chunks(n));
            parts.for_each(|(y, x)| Vectors::here().normalise(x, scale, shift, floor, y));
            y
        };
        match [x, &scale, &shift].map(|v| widened(c, v)) {
            [Some(x), Some(scale), Some(shift)] => narrowed(c, &all(&x, &scale, &shift)),
            _ => all(x, &scale, &shift),
        }
    }

    /// Gradients of `x`, `gamma` and `beta` from `dy`, the gradient of the output. `x` shows where the ReLU cut off.
    fn backward(&self, x: &[f32], dy: &[f32]) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
        let c = self.gamma.len();
        if let [Some(x), Some(dy), Some(mean), Some(inverse_deviation), Some(gamma), Some(beta)] =
            [x, dy, self.mean, self.inverse_deviation, self.gamma, self.beta].map(|v| widened(c, v))
        {
            let [mean, inverse_deviation, gamma, beta] = [&mean, &inverse_deviation, &gamma, &beta].map(Vec::as_slice);
            let (dx, d_gamma, d_beta) = Norm { mean, inverse_deviation, gamma, beta, ..*self }.backward(&x, &dy);
            return (narrowed(c, &dx), d_gamma[..c].to_vec(), d_beta[..c].to_vec());
        }
        let places = (x.len() / c) as f32;
        let (scale, shift) = self.scale_shift();
        let passed = Passed { dy, scale: &scale, shift: &shift, relu: self.relu };
        let [d_beta, moment] = channel_sums(x, self.mean, Some(passed));
        let d_gamma: Vec<f32> = moment.iter().zip(self.inverse_deviation).map(|(m, d)| m * d).collect();
        // dx = gamma / sd * (dy - mean(dy) - xhat * mean(dy * xhat)), written as dy * scale + x * q + r.
        let q: Vec<f32> = (0..c).map(|i| -scale[i] * self.inverse_deviation[i] * d_gamma[i] / places).collect();
        let r: Vec<f32> = (0..c).map(|i| -scale[i] * d_beta[i] / places - q[i] * self.mean[i]).collect();
        let mut dx = buffer::take(x.len());
        let n = run(x.len(), c);
        dx.par_chunks_mut(n).zip(x.par_chunks(n).zip(dy.par_chunks(n))).for_each(|(dx, (x, dy))| {
            Vectors::here().input_gradient(x, Passed { dy, ..passed }, &q, &r, dx);
        });
        (dx, d_gamma, d_beta)
    }
}
