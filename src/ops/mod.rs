//! The engine: our kernels as candle ops on (B, H, W, C) activations. Each file states what its op computes, forward and, where
//! it is trained, backward. The kernels are written once, over the vectors that a processor has (`vector`), and serve the
//! browser, `eval`, `predict` and training alike.
//!
//! Dense layers are trained through the crate `gemm`.

mod buffer;
pub mod conv;
pub mod dense;
pub mod heatmap;
#[cfg(feature = "native")]
pub mod norm;
pub mod pool;
mod product;
#[cfg(feature = "native")]
pub mod recorder;
mod vector;
mod winograd;

use candle_core::{bail, CpuStorage, Layout, Result, Shape};

/// Added by batch norm to the variance before taking its root, as is usual (Ioffe and Szegedy 2015).
pub const NORM_EPSILON: f32 = 1e-5;

/// The floats of a contiguous layout.
fn floats<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match layout.contiguous_offsets() {
        Some((from, to)) => Ok(&storage.as_slice::<f32>()?[from..to]),
        None => bail!("expected contiguous activations, found strides {:?}", layout.stride()),
    }
}

fn made(data: Vec<f32>, shape: impl Into<Shape>) -> Result<(CpuStorage, Shape)> {
    Ok((CpuStorage::F32(data), shape.into()))
}

/// The upper limit of these kernels' speed: 12 vectors of multiply-adds a step, by the same instruction, on registers alone.
/// The benchmark divides by it. Returns the number of multiply-adds executed.
pub fn multiply_adds(steps: usize) -> usize {
    let vectors = vector::Vectors::here();
    // `black_box` hides the sum from the compiler, so that it cannot leave the work out.
    std::hint::black_box(vectors.spin(std::hint::black_box(steps)));
    12 * steps * vectors.lanes()
}

/// Twelve chains hide the latency; each value depends on the one before it, so that no compiler can move a product out of
/// the loop.
///
/// # Safety
/// The processor has the vector's instructions.
#[inline(always)]
unsafe fn spin<V: vector::Vector>(steps: usize) -> f32 {
    let mut chains: [V; 12] = std::array::from_fn(|i| V::splat(i as f32));
    let (w, c) = (V::splat(0.5), V::splat(0.25));
    for _ in 0..steps {
        chains = chains.map(|x| c.add_product(x, w));
    }
    chains.into_iter().fold(V::splat(0.), |a, b| a.add(b)).sum()
}

use vector::Vectors;
vector::for_vectors! {
    fn spin(steps: usize) -> f32;
}

#[cfg(feature = "native")]
pub(crate) use training::read;
#[cfg(feature = "native")]
use training::{run, tensor, through_relu, zip_map};

/// Helpers of the backward passes.
#[cfg(feature = "native")]
mod training {
    use super::{buffer, floats};
    use candle_core::{bail, Result, Storage, Tensor};
    use rayon::prelude::*;

    /// Runs that a pass over values is split into, whatever the number of threads.
    const RUNS: usize = 8;

    /// Runs `f` on the floats of a tensor.
    pub(crate) fn read<R>(tensor: &Tensor, f: impl FnOnce(&[f32]) -> Result<R>) -> Result<R> {
        let tensor = tensor.contiguous()?;
        let (storage, layout) = tensor.storage_and_layout();
        match &*storage {
            Storage::Cpu(storage) => f(floats(storage, layout)?),
            _ => bail!("face96's own ops run on the CPU"),
        }
    }

    pub(super) fn tensor(data: Vec<f32>, like: &Tensor) -> Result<Tensor> {
        Tensor::from_vec(data, like.shape(), like.device())
    }

    /// `dy` where the output of a ReLU is positive, else 0.
    pub(super) fn through_relu(relu: bool, y: &Tensor, dy: &Tensor) -> Result<Tensor> {
        if !relu {
            return dy.contiguous();
        }
        tensor(read(y, |y| read(dy, |dy| Ok(zip_map(y, dy, |y, d| if y > 0. { d } else { 0. }))))?, dy)
    }

    /// Splits `len` floats of `c` channels into runs for the threads: the length of a run, a multiple of `c`.
    pub(super) fn run(len: usize, c: usize) -> usize {
        (len / c).div_ceil(RUNS).max(1) * c
    }

    /// `out[i] = f(a[i], b[i])`.
    pub(super) fn zip_map(a: &[f32], b: &[f32], f: impl Fn(f32, f32) -> f32 + Sync) -> Vec<f32> {
        let mut out = buffer::take(a.len());
        let n = run(a.len(), 1);
        out.par_chunks_mut(n).zip(a.par_chunks(n).zip(b.par_chunks(n))).for_each(|(out, (a, b))| {
            for (out, (a, b)) in out.iter_mut().zip(a.iter().zip(b)) {
                *out = f(*a, *b);
            }
        });
        out
    }
}
