//! Batch norm (Ioffe and Szegedy 2015) by the batch's own statistics, and its gradients, as a candle op; and the passes over
//! channels that both are made of.

use super::vector::Vectors;
use super::winograd::whole_vectors;
use super::{buffer, floats, made, read, run, tensor, NORM_EPSILON};
use candle_core::{bail, CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

/// Batch norm over all but the last dimension of its input (.., C), by statistics of the batch: each channel less its mean,
/// divided by its deviation, times `gamma` (C), plus `beta` (C); then `max(., 0)` if `relu`.
pub struct BatchNorm {
    /// Mean of each channel.
    pub mean: Vec<f32>,
    /// Biased variance of each channel.
    pub variance: Vec<f32>,
    relu: bool,
}

impl BatchNorm {
    /// With the statistics of `x`, which has `c` channels.
    ///
    /// # Errors
    /// An input without values, or of another number of channels.
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

/// Channels of a block, whose constants stay in registers on the way over the places: a line of the cache. Fewer channels
/// go in halves.
const BLOCK: usize = 16;

/// Floats that a pass over channels takes at a time: a page of each slice, which all blocks then find in the first-level
/// cache. With two pages, and blocks of half a line, batch norm's passes over 32 channels took 1.6 times as long. Sums of so
/// few in f32 lose nothing (they are added up in f64: a plain f32 sum of a million values loses three digits).
const CHUNK: usize = 1024;

/// Floats of a chunk's whole places of `c` channels.
fn chunk(c: usize) -> usize {
    (CHUNK / c).max(1) * c
}

/// Where the blocks of `c` channels begin: the last is the last whole one, whose first channels others have too.
fn channel_blocks<const N: usize>(c: usize) -> impl Iterator<Item = usize> {
    whole_vectors(c.max(N), N)
}

/// `N` values from `from` on, zeros after the last.
#[inline(always)]
fn block<const N: usize>(x: &[f32], from: usize) -> [f32; N] {
    match x.get(from..from + N) {
        Some(x) => x.try_into().expect("a block's length"),
        None => std::array::from_fn(|i| x.get(from + i).copied().unwrap_or(0.)),
    }
}

/// Four constants of each channel.
type Constants<'a> = [&'a [f32]; 4];

/// `y = f(constants, a, b)` for each value.
#[inline(always)]
fn map_of<F: Fn([f32; 4], f32, f32) -> f32>(constants: Constants, a: &[f32], b: &[f32], y: &mut [f32], f: F) {
    if constants[0].len() < BLOCK {
        map_in_blocks::<F, { BLOCK / 2 }>(constants, a, b, y, f);
    } else {
        map_in_blocks::<F, BLOCK>(constants, a, b, y, f);
    }
}

#[inline(always)]
fn map_in_blocks<F, const N: usize>(constants: Constants, a: &[f32], b: &[f32], y: &mut [f32], f: F)
where
    F: Fn([f32; 4], f32, f32) -> f32,
{
    let c = constants[0].len();
    let n = chunk(c);
    for ((a, b), y) in a.chunks(n).zip(b.chunks(n)).zip(y.chunks_mut(n)) {
        for from in channel_blocks::<N>(c) {
            let k = constants.map(|k| block::<N>(k, from));
            for ((a, b), y) in a.chunks_exact(c).zip(b.chunks_exact(c)).zip(y.chunks_exact_mut(c)) {
                let (a, b) = (block::<N>(a, from), block::<N>(b, from));
                let out: [f32; N] = std::array::from_fn(|i| f(k.map(|k| k[i]), a[i], b[i]));
                match y.get_mut(from..from + N) {
                    Some(y) => y.copy_from_slice(&out),
                    None => y[from..].iter_mut().zip(out).for_each(|(y, out)| *y = out),
                }
            }
        }
    }
}

/// Two sums of each channel over places: of `p = f(constants, a, b)` and of `g(constants, a, p)`. By way of two buffers: the
/// compiler makes vectors of [`map_of`] and of plain column sums, but not of both in one loop.
#[inline(always)]
fn sums_of<F, G>(constants: Constants, a: &[f32], b: &[f32], f: F, g: G) -> [Vec<f64>; 2]
where
    F: Fn([f32; 4], f32, f32) -> f32,
    G: Fn([f32; 4], f32, f32) -> f32,
{
    let c = constants[0].len();
    let mut total = [vec![0f64; c], vec![0f64; c]];
    let n = chunk(c);
    let [mut p, mut q] = [vec![0f32; n], vec![0f32; n]];
    let mut sum = vec![0f32; c];
    for (a, b) in a.chunks(n).zip(b.chunks(n)) {
        let (p, q) = (&mut p[..a.len()], &mut q[..a.len()]);
        map_of(constants, a, b, p, &f);
        map_of(constants, a, p, q, &g);
        for (values, total) in [p, q].into_iter().zip(&mut total) {
            sum.fill(0.);
            values.chunks_exact(c).for_each(|line| sum.iter_mut().zip(line).for_each(|(s, v)| *s += v));
            total.iter_mut().zip(&sum).for_each(|(t, s)| *t += f64::from(*s));
        }
    }
    total
}

// The same, compiled for AVX2: eight lanes in place of four. The results are the same, since Rust fuses no operations.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn sums_avx2<F, G>(constants: Constants, a: &[f32], b: &[f32], f: F, g: G) -> [Vec<f64>; 2]
where
    F: Fn([f32; 4], f32, f32) -> f32,
    G: Fn([f32; 4], f32, f32) -> f32,
{
    sums_of(constants, a, b, f, g)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn map_avx2<F: Fn([f32; 4], f32, f32) -> f32>(k: Constants, a: &[f32], b: &[f32], y: &mut [f32], f: F) {
    map_of(k, a, b, y, f)
}

/// Sums over all places, by channel: of `p = f(constants, a, b)` and of `g(constants, a, p)`; the runs' sums are added in
/// order.
fn channel_sums<F, G>(constants: Constants, a: &[f32], b: &[f32], f: F, g: G) -> [Vec<f32>; 2]
where
    F: Fn([f32; 4], f32, f32) -> f32 + Copy + Sync + Send,
    G: Fn([f32; 4], f32, f32) -> f32 + Copy + Sync + Send,
{
    let c = constants[0].len();
    let n = run(a.len(), c);
    let part = |(a, b): (&[f32], &[f32])| match Vectors::here() {
        Vectors::Plain => sums_of(constants, a, b, f, g),
        // SAFETY: a processor with any of the vectors has AVX2.
        #[cfg(target_arch = "x86_64")]
        _ => unsafe { sums_avx2(constants, a, b, f, g) },
    };
    let parts: Vec<[Vec<f64>; 2]> = a.par_chunks(n).zip(b.par_chunks(n)).map(part).collect();
    [0, 1].map(|which| (0..c).map(|i| parts.iter().map(|p| p[which][i]).sum::<f64>() as f32).collect())
}

/// `f(constants, a, b)` of each value.
fn channel_map<F>(constants: Constants, a: &[f32], b: &[f32], f: F) -> Vec<f32>
where
    F: Fn([f32; 4], f32, f32) -> f32 + Copy + Sync + Send,
{
    let mut y = buffer::take(a.len());
    let n = run(a.len(), constants[0].len());
    y.par_chunks_mut(n).zip(a.par_chunks(n).zip(b.par_chunks(n))).for_each(|(y, (a, b))| match Vectors::here() {
        Vectors::Plain => map_of(constants, a, b, y, f),
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        _ => unsafe { map_avx2(constants, a, b, y, f) },
    });
    y
}

/// Mean and (biased) variance of each of `c` channels over all places of `x`.
pub(crate) fn channel_moments(c: usize, x: &[f32]) -> (Vec<f32>, Vec<f32>) {
    let n = (x.len() / c) as f32;
    // About the first place's values, so that a large mean does not swallow the variance.
    let pivot = &x[..c];
    let [sums, squares] = channel_sums([pivot; 4], x, x, |[p, ..], v, _| v - p, |_, _, d| d * d);
    let mean = sums.iter().zip(pivot).map(|(s, p)| p + s / n).collect();
    (mean, sums.iter().zip(squares).map(|(s, q)| (q / n - (s / n) * (s / n)).max(0.)).collect())
}

/// A batch norm's constants.
struct Norm<'a> {
    mean: &'a [f32],
    inverse_deviation: &'a [f32],
    gamma: &'a [f32],
    beta: &'a [f32],
    relu: bool,
}

impl Norm<'_> {
    /// As `x * scale + shift`.
    fn scale_shift(&self) -> (Vec<f32>, Vec<f32>) {
        let scale: Vec<f32> = self.gamma.iter().zip(self.inverse_deviation).map(|(g, d)| g * d).collect();
        let shift = self.beta.iter().zip(&scale).zip(self.mean).map(|((b, s), m)| b - s * m).collect();
        (scale, shift)
    }

    fn floor(&self) -> f32 {
        if self.relu {
            0.
        } else {
            f32::NEG_INFINITY
        }
    }

    /// The result for all places of `x`.
    fn forward(&self, x: &[f32]) -> Vec<f32> {
        let floor = self.floor();
        let (scale, shift) = self.scale_shift();
        channel_map([&scale, &shift, &shift, &shift], x, x, move |[scale, shift, ..], x, _| {
            (x * scale + shift).max(floor)
        })
    }

    /// Gradients of `x`, `gamma` and `beta` from `dy`, that of the result. Where the ReLU cut off is found from `x`.
    fn backward(&self, x: &[f32], dy: &[f32]) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
        let (c, floor) = (self.gamma.len(), self.floor());
        let places = (x.len() / c) as f32;
        let (scale, shift) = self.scale_shift();
        let passed = move |[scale, shift, ..]: [f32; 4], x: f32, d: f32| if x * scale + shift > floor { d } else { 0. };
        let constants = [&scale[..], &shift, self.mean, self.mean];
        let [d_beta, moment] = channel_sums(constants, x, dy, passed, |[_, _, mean, _], x, d| d * (x - mean));
        let d_gamma: Vec<f32> = moment.iter().zip(self.inverse_deviation).map(|(m, d)| m * d).collect();
        // dx = gamma / sd * (dy - mean(dy) - xhat * mean(dy * xhat)), written as dy * scale + x * q + r.
        let q: Vec<f32> = (0..c).map(|i| -scale[i] * self.inverse_deviation[i] * d_gamma[i] / places).collect();
        let r: Vec<f32> = (0..c).map(|i| -scale[i] * d_beta[i] / places - q[i] * self.mean[i]).collect();
        let dx = channel_map([&scale, &shift, &q, &r], x, dy, move |k, x, d| passed(k, x, d) * k[0] + x * k[2] + k[3]);
        (dx, d_gamma, d_beta)
    }
}
