//! From heatmaps to keypoints: softmax over all places and the expected place (DSNT, Nibali et al. 2018), as a candle op.

use super::vector::{for_vectors, Vector, Vectors};
use super::winograd::whole_vectors;
use super::{floats, made};
#[cfg(feature = "native")]
use candle_core::Tensor;
use candle_core::{bail, CpuStorage, CustomOp1, Layout, Result, Shape};

/// Heatmaps (B, H, W, K) -> (B, K, 3): expected x and y, with the picture's edges at -1 and 1, and the variance of x plus
/// that of y.
pub struct SoftArgmax {
    /// Factor on each keypoint's place, measured from the picture's middle: a heatmap of reach 1.5 covers a square 1.5 times as
    /// wide as the picture, for keypoints that lie outside of it. K values, or none if each is 1.
    pub reach: Vec<f32>,
}

impl SoftArgmax {
    fn check(&self, keypoints: usize) -> Result<()> {
        if !self.reach.is_empty() && self.reach.len() != keypoints {
            bail!("soft-argmax: {} values of reach for {keypoints} heatmaps", self.reach.len());
        }
        Ok(())
    }
}

/// Coordinate of place `i` of `n`, with the edges at -1 and 1.
fn place(i: usize, n: usize) -> f32 {
    (2 * i + 1) as f32 / n as f32 - 1.
}

impl CustomOp1 for SoftArgmax {
    fn name(&self) -> &'static str {
        "face96-soft-argmax"
    }

    fn cpu_fwd(&self, x: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        let (b, h, w, k) = l.shape().dims4()?;
        let x = floats(x, l)?;
        if x.is_empty() {
            bail!("soft-argmax: no values in {:?}", l.shape());
        }
        self.check(k)?;
        let mut y = vec![0f32; b * k * 3];
        let vectors = Vectors::here();
        let one = |(y, x): (&mut [f32], &[f32])| {
            vectors.soft_argmax(x, h, w, y);
            for (place, r) in y.chunks_exact_mut(3).zip(&self.reach) {
                place.iter_mut().zip([r, r, &(r * r)]).for_each(|(p, r)| *p *= r);
            }
        };
        #[cfg(feature = "native")]
        {
            use rayon::prelude::*;
            if b > 1 {
                y.par_chunks_mut(k * 3).zip(x.par_chunks(h * w * k)).for_each(one);
                return made(y, (b, k, 3));
            }
        }
        y.chunks_exact_mut(k * 3).zip(x.chunks_exact(h * w * k)).for_each(one);
        made(y, (b, k, 3))
    }

    /// `p * (g - mean of g under p)`, where `g` is the gradient of each place's probability `p`.
    #[cfg(feature = "native")]
    fn bwd(&self, x: &Tensor, y: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        use super::{buffer, read, tensor};
        use rayon::prelude::*;
        let (b, h, w, k) = x.dims4()?;
        let mut dx = buffer::take(b * h * w * k);
        let run = |x: &[f32], y: &[f32], dy: &[f32], dx: &mut [f32]| {
            let pictures = x.par_chunks(h * w * k).zip(y.par_chunks(3 * k).zip(dy.par_chunks(3 * k)));
            dx.par_chunks_mut(h * w * k).zip(pictures).for_each(|(dx, (x, (y, dy)))| {
                dx.copy_from_slice(x);
                softmax(k, dx);
                for i in 0..k {
                    let r = self.reach.get(i).copied().unwrap_or(1.);
                    let (mx, my) = (y[3 * i] / r, y[3 * i + 1] / r);
                    let (gx, gy, gv) = (dy[3 * i] * r, dy[3 * i + 1] * r, dy[3 * i + 2] * r * r);
                    let slope = |at: usize| {
                        let (ex, ey) = (place(at % w, w) - mx, place(at / w, h) - my);
                        gx * ex + gy * ey + gv * (ex * ex + ey * ey)
                    };
                    let mean: f32 = (0..h * w).map(|at| dx[at * k + i] * slope(at)).sum();
                    for at in 0..h * w {
                        dx[at * k + i] *= slope(at) - mean;
                    }
                }
            });
        };
        let mut run = |x: &[f32], y: &[f32], dy: &[f32]| {
            run(x, y, dy, &mut dx);
            Ok(())
        };
        read(x, |x| read(y, |y| read(dy, |dy| run(x, y, dy))))?;
        Ok(Some(tensor(dx, x)?))
    }
}

/// Softmax of a picture's heatmaps (H, W, K) over all places, in place.
#[cfg(feature = "native")]
fn softmax(k: usize, heat: &mut [f32]) {
    let mut top = vec![f32::NEG_INFINITY; k];
    for h in heat.chunks_exact(k) {
        top.iter_mut().zip(h).for_each(|(t, h)| *t = t.max(*h));
    }
    let mut sum = vec![0f32; k];
    for h in heat.chunks_exact_mut(k) {
        for i in 0..k {
            h[i] = (h[i] - top[i]).exp();
            sum[i] += h[i];
        }
    }
    for h in heat.chunks_exact_mut(k) {
        h.iter_mut().zip(&sum).for_each(|(h, s)| *h /= s);
    }
}

/// One picture's heatmaps `x` (h, w, K) to `y` (K, 3).
///
/// # Safety
/// The processor has the vector's instructions.
#[inline(always)]
unsafe fn soft_argmax<V: Vector>(x: &[f32], h: usize, w: usize, y: &mut [f32]) {
    let k = y.len() / 3;
    assert!(x.len() == h * w * k && y.len() == 3 * k);
    // Fewer keypoints than lanes are padded with lanes that nobody reads.
    let mut wide = Vec::new();
    let (x, stride) = if k < V::LANES {
        wide.resize(h * w * V::LANES, 0.);
        for (wide, x) in wide.chunks_exact_mut(V::LANES).zip(x.chunks_exact(k)) {
            wide[..k].copy_from_slice(x);
        }
        (&wide[..], V::LANES)
    } else {
        (x, k)
    };
    for c in whole_vectors(stride, V::LANES) {
        // SAFETY: c + LANES is at most the stride, and there are h * w strides.
        let at = |i: usize| V::load(x.as_ptr().add(i * stride + c));
        let mut most = V::splat(f32::NEG_INFINITY);
        for i in 0..h * w {
            most = at(i).max(most);
        }
        let [mut sum, mut sum_x, mut sum_y, mut sum_squares] = [V::splat(0.); 4];
        for row in 0..h {
            let v = place(row, h);
            for column in 0..w {
                let u = place(column, w);
                let e = at(row * w + column).sub(most).exp();
                sum = sum.add(e);
                sum_x = sum_x.add_product(e, V::splat(u));
                sum_y = sum_y.add_product(e, V::splat(v));
                sum_squares = sum_squares.add_product(e, V::splat(u * u + v * v));
            }
        }
        let [sum, sum_x, sum_y, sum_squares] = [sum, sum_x, sum_y, sum_squares].map(|s| {
            let mut lanes = [0f32; super::vector::MOST_LANES];
            s.store(lanes.as_mut_ptr());
            lanes
        });
        for lane in 0..V::LANES.min(k - c.min(k)) {
            let [u, v, squares] = [sum_x, sum_y, sum_squares].map(|s| s[lane] / sum[lane]);
            y[3 * (c + lane)..][..3].copy_from_slice(&[u, v, (squares - u * u - v * v).max(0.)]);
        }
    }
}

for_vectors! {
    fn soft_argmax(x: &[f32], h: usize, w: usize, y: &mut [f32]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    #[test]
    fn soft_argmax_is_the_mean_and_variance_of_the_softmax() {
        let mut rng = ChaCha8Rng::seed_from_u64(13);
        for round in 0..60 {
            let (h, w, k) = (rng.random_range(1..10), rng.random_range(1..10), rng.random_range(1..40));
            let scale = [1., 30., 1000.][round % 3];
            let x: Vec<f32> = (0..h * w * k).map(|_| scale * rng.random_range(-1f32..1.)).collect();
            for vectors in Vectors::all() {
                let mut y = vec![f32::NAN; 3 * k];
                vectors.soft_argmax(&x, h, w, &mut y);
                for k0 in 0..k {
                    let heat: Vec<f64> = (0..h * w).map(|i| f64::from(x[i * k + k0])).collect();
                    let most = heat.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                    let e: Vec<f64> = heat.iter().map(|v| (v - most).exp()).collect();
                    let mean = |f: &dyn Fn(f64, f64) -> f64| {
                        let at = |i: usize, n: usize| (2 * i + 1) as f64 / n as f64 - 1.;
                        let terms = e.iter().enumerate().map(|(i, e)| e * f(at(i % w, w), at(i / w, h)));
                        terms.sum::<f64>() / e.iter().sum::<f64>()
                    };
                    let (u, v) = (mean(&|u, _| u), mean(&|_, v| v));
                    let variance = mean(&|p, q| (p - u) * (p - u) + (q - v) * (q - v));
                    for (found, expected) in y[3 * k0..][..3].iter().zip([u, v, variance]) {
                        assert!((f64::from(*found) - expected).abs() < 4e-6, "{vectors:?}: {found}, not {expected}");
                    }
                }
            }
        }
    }
}
