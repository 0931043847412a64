//! Dense layers as candle ops: [`PackedDense`] for inference, [`DenseOp`] for training. An input of any rank counts as (B, rest).

use super::vector::{for_vectors, Vector, Vectors};
use super::{floats, made};
use candle_core::{bail, CpuStorage, CustomOp1, Layout, Result, Shape};

/// Units that share each load of the input.
const ROWS: usize = 4;

/// A dense layer for inference. Its weights are read once a picture and never again, so memory bounds it: each row is stored
/// as 16-bit integers with a scale of its own, half the bytes of `f32`. The error is at most 1/65534 of the row's largest
/// weight, 16 times less than that of the file's `f16`.
#[derive(Debug)]
pub struct PackedDense {
    relu: bool,
    /// Values of an input.
    inputs: usize,
    /// Values of a row: whole vectors, whatever their width.
    row: usize,
    units: usize,
    /// (units rounded up to [`ROWS`], row).
    weights: Vec<i16>,
    scale: Vec<f32>,
    bias: Vec<f32>,
}

impl PackedDense {
    /// A layer with `weight` (units, inputs) and `bias` (units), and `max(., 0)` if `relu`.
    ///
    /// # Errors
    /// Lengths that do not fit each other.
    pub fn new(weight: &[f32], bias: &[f32], relu: bool) -> Result<Self> {
        let units = bias.len();
        if units == 0 || weight.is_empty() || !weight.len().is_multiple_of(units) {
            bail!("dense: {} weights do not fit {units} biases", weight.len());
        }
        let inputs = weight.len() / units;
        let row = inputs.next_multiple_of(2 * super::vector::MOST_LANES);
        let rows = units.next_multiple_of(ROWS);
        let mut weights = vec![0; rows * row];
        let (mut scale, mut padded) = (vec![0.; rows], bias.to_vec());
        padded.resize(rows, 0.);
        for (u, (w, packed)) in weight.chunks_exact(inputs).zip(weights.chunks_exact_mut(row)).enumerate() {
            let most = w.iter().fold(0f32, |m, w| m.max(w.abs()));
            let up = if most > 0. { f32::from(i16::MAX) / most } else { 0. };
            scale[u] = most / f32::from(i16::MAX);
            packed.iter_mut().zip(w).for_each(|(packed, w)| *packed = (w * up).round() as i16);
        }
        Ok(Self { relu, inputs, row, units, weights, scale, bias: padded })
    }

    /// Multiply-adds executed per picture.
    pub fn multiply_adds(&self) -> usize {
        self.weights.len()
    }
}

impl CustomOp1 for PackedDense {
    fn name(&self) -> &'static str {
        "face96-dense"
    }

    fn cpu_fwd(&self, x: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = floats(x, l)?;
        let batch = l.dims().first().copied().unwrap_or(0);
        if x.len() != batch * self.inputs {
            bail!("dense: input {:?} does not fit {} weights a unit", l.shape(), self.inputs);
        }
        let mut y = vec![0f32; batch * self.units];
        let mut wide = vec![0f32; self.row];
        let mut sums = vec![0f32; self.scale.len()];
        for (x, y) in x.chunks_exact(self.inputs).zip(y.chunks_exact_mut(self.units)) {
            wide[..self.inputs].copy_from_slice(x);
            Vectors::here().dense_sums(&wide, &self.weights, &mut sums);
            for (i, y) in y.iter_mut().enumerate() {
                let value = sums[i] * self.scale[i] + self.bias[i];
                *y = if self.relu { value.max(0.) } else { value };
            }
        }
        made(y, (batch, self.units))
    }
}

/// `sums[u] =` the product of `x` with row `u` of `weights`.
///
/// # Safety
/// The processor has the vector's instructions.
#[inline(always)]
unsafe fn dense_sums<V: Vector>(x: &[f32], weights: &[i16], sums: &mut [f32]) {
    assert!(weights.len() == sums.len() * x.len() && sums.len().is_multiple_of(ROWS));
    assert!(x.len().is_multiple_of(2 * V::LANES));
    for (sums, rows) in sums.chunks_exact_mut(ROWS).zip(weights.chunks_exact(ROWS * x.len())) {
        // Two sums a row hide the latency of the addition.
        let mut total = [[V::splat(0.); 2]; ROWS];
        for i in (0..x.len()).step_by(2 * V::LANES) {
            for (r, total) in total.iter_mut().enumerate() {
                for (half, total) in total.iter_mut().enumerate() {
                    let i = i + half * V::LANES;
                    // SAFETY: both consist of whole pairs of vectors, as checked above.
                    let w = V::load_i16(rows.as_ptr().add(r * x.len() + i));
                    *total = total.add_product(V::load(x.as_ptr().add(i)), w);
                }
            }
        }
        for (sum, [a, b]) in sums.iter_mut().zip(total) {
            *sum = a.add(b).sum();
        }
    }
}

for_vectors! {
    fn dense_sums(x: &[f32], weights: &[i16], sums: &mut [f32]);
}

#[cfg(feature = "native")]
pub use training::{matmul, DenseOp, Strides};

#[cfg(feature = "native")]
mod training {
    use super::*;
    use crate::ops::{buffer, read, tensor, through_relu};
    use candle_core::{CustomOp3, Tensor};
    use gemm::Parallelism;

    /// A matrix in memory, with row and column strides.
    #[derive(Clone, Copy)]
    pub struct Strides(pub usize, pub usize);

    /// `out (m, n) = a (m, k) * b (k, n)`, `out` with rows next to each other, on all threads.
    ///
    /// # Panics
    /// If a slice is shorter than its shape says.
    pub fn matmul(
        (m, k, n): (usize, usize, usize),
        (a, sa): (&[f32], Strides),
        (b, sb): (&[f32], Strides),
        out: &mut [f32],
    ) {
        if m == 0 || n == 0 || k == 0 {
            return;
        }
        assert!(out.len() >= m * n);
        assert!(a.len() > (m - 1) * sa.0 + (k - 1) * sa.1);
        assert!(b.len() > (k - 1) * sb.0 + (n - 1) * sb.1);
        // SAFETY: the asserts above bound every element that the shapes and strides reach; `out` is borrowed mutably, so it
        // overlaps neither input.
        unsafe {
            gemm::gemm(
                m,
                n,
                k,
                out.as_mut_ptr(),
                1,
                n as isize,
                false,
                a.as_ptr(),
                sa.1 as isize,
                sa.0 as isize,
                b.as_ptr(),
                sb.1 as isize,
                sb.0 as isize,
                1.,
                1.,
                false,
                false,
                false,
                Parallelism::Rayon(0),
            );
        }
    }

    /// `x` (B, ..), `weight` (units, inputs) and `bias` (units) -> (B, units), with `max(., 0)` if `relu`.
    pub struct DenseOp {
        /// `max(., 0)` follows.
        pub relu: bool,
        /// Whether the gradient of the input is needed.
        pub input_gradient: bool,
    }

    /// (B, inputs, units) for an input and weights.
    fn sizes(x: &Shape, w: &Shape) -> Result<(usize, usize, usize)> {
        let (units, inputs) = w.dims2()?;
        let batch = x.dims().first().copied().unwrap_or(0);
        if x.elem_count() != batch * inputs {
            bail!("dense: input {x:?} does not fit weights {w:?}");
        }
        Ok((batch, inputs, units))
    }

    impl CustomOp3 for DenseOp {
        fn name(&self) -> &'static str {
            "face96-dense-trained"
        }

        fn cpu_fwd(
            &self,
            x: &CpuStorage,
            lx: &Layout,
            w: &CpuStorage,
            lw: &Layout,
            b: &CpuStorage,
            lb: &Layout,
        ) -> Result<(CpuStorage, Shape)> {
            let (m, k, n) = sizes(lx.shape(), lw.shape())?;
            let (x, w, bias) = (floats(x, lx)?, floats(w, lw)?, floats(b, lb)?);
            let mut y = vec![0f32; m * n];
            matmul((m, k, n), (x, Strides(k, 1)), (w, Strides(1, k)), &mut y);
            let floor = if self.relu { 0. } else { f32::NEG_INFINITY };
            for y in y.chunks_exact_mut(n) {
                y.iter_mut().zip(bias).for_each(|(y, b)| *y = (*y + b).max(floor));
            }
            made(y, (m, n))
        }

        fn bwd(
            &self,
            x: &Tensor,
            w: &Tensor,
            _: &Tensor,
            y: &Tensor,
            dy: &Tensor,
        ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
            let (m, k, n) = sizes(x.shape(), w.shape())?;
            let dy = through_relu(self.relu, y, dy)?;
            let db = dy.sum(0)?;
            read(&dy, |dy| {
                let mut dw = buffer::take(n * k);
                read(x, |x| {
                    matmul((n, m, k), (dy, Strides(1, n)), (x, Strides(k, 1)), &mut dw);
                    Ok(())
                })?;
                let dx = self.input_gradient.then(|| {
                    let mut dx = buffer::take(m * k);
                    read(w, |w| {
                        matmul((m, n, k), (dy, Strides(n, 1)), (w, Strides(k, 1)), &mut dx);
                        Ok(())
                    })?;
                    tensor(dx, x)
                });
                Ok((dx.transpose()?, Some(tensor(dw, w)?), Some(db)))
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Tensor};
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    #[test]
    fn a_dense_layer_is_its_definition_for_any_size() {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        for _ in 0..100 {
            let (batch, inputs, units) = (rng.random_range(1..4), rng.random_range(1..90), rng.random_range(1..23));
            let mut random = |n: usize| -> Vec<f32> { (0..n).map(|_| rng.random_range(-1f32..1.)).collect() };
            let (x, w, bias) = (random(batch * inputs), random(units * inputs), random(units));
            let layer = PackedDense::new(&w, &bias, true).unwrap();
            let x_tensor = Tensor::from_vec(x.clone(), (batch, inputs), &Device::Cpu).unwrap();
            let y: Vec<f32> = x_tensor.apply_op1_no_bwd(&layer).unwrap().flatten_all().unwrap().to_vec1().unwrap();
            assert_eq!(y.len(), batch * units);
            for (i, y) in y.iter().enumerate() {
                let (x, w) = (&x[i / units * inputs..][..inputs], &w[i % units * inputs..][..inputs]);
                let sum: f32 = x.iter().zip(w).map(|(x, w)| x * w).sum::<f32>() + bias[i % units];
                assert!((y - sum.max(0.)).abs() < 2e-4 * (1. + sum.abs()), "{y}, by definition {sum}");
            }
        }
    }
}
