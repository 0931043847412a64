//! Mean-pool, for training and inference; and the steps that only training has, since inference fuses them into the convolution
//! before: max-pool, upsampling, addition; and dropout. All on (B, H, W, C), as candle ops.

#[cfg(feature = "native")]
use super::buffer;
use super::{floats, made};
#[cfg(feature = "native")]
use candle_core::Tensor;
use candle_core::{bail, CpuStorage, CustomOp1, Layout, Result, Shape};

/// (B, H, W, C) -> (B, C): the mean over height and width.
pub struct MeanPool;

impl CustomOp1 for MeanPool {
    fn name(&self) -> &'static str {
        "face96-mean-pool"
    }

    fn cpu_fwd(&self, x: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        let (b, h, w, c) = l.shape().dims4()?;
        let x = floats(x, l)?;
        if x.is_empty() {
            bail!("mean-pool: no values in {:?}", l.shape());
        }
        let mut y = vec![0f32; b * c];
        for (y, x) in y.chunks_exact_mut(c).zip(x.chunks_exact(h * w * c)) {
            for x in x.chunks_exact(c) {
                y.iter_mut().zip(x).for_each(|(y, x)| *y += x);
            }
            y.iter_mut().for_each(|y| *y /= (h * w) as f32);
        }
        made(y, (b, c))
    }

    #[cfg(feature = "native")]
    fn bwd(&self, x: &Tensor, _: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        let (b, h, w, c) = x.dims4()?;
        let mut dx = buffer::take(b * h * w * c);
        super::read(dy, |dy| {
            for (dx, g) in dx.chunks_exact_mut(h * w * c).zip(dy.chunks_exact(c)) {
                for dx in dx.chunks_exact_mut(c) {
                    dx.iter_mut().zip(g).for_each(|(x, g)| *x = g / (h * w) as f32);
                }
            }
            Ok(())
        })?;
        Ok(Some(super::tensor(dx, x)?))
    }
}

#[cfg(feature = "native")]
pub use training::{Add, DropoutOp, MaxPool, Upsample};

#[cfg(feature = "native")]
mod training {
    use super::*;
    use crate::ops::{read, tensor, through_relu, zip_map};
    use candle_core::CustomOp2;
    use rayon::prelude::*;

    /// Sum of two tensors of the same shape, with `max(., 0)` if `relu`.
    pub struct Add {
        /// `max(., 0)` follows.
        pub relu: bool,
    }

    impl CustomOp2 for Add {
        fn name(&self) -> &'static str {
            "face96-add"
        }

        fn cpu_fwd(&self, a: &CpuStorage, la: &Layout, b: &CpuStorage, lb: &Layout) -> Result<(CpuStorage, Shape)> {
            if la.shape() != lb.shape() {
                bail!("add: shapes {:?} and {:?} differ", la.shape(), lb.shape());
            }
            let floor = if self.relu { 0. } else { f32::NEG_INFINITY };
            made(zip_map(floats(a, la)?, floats(b, lb)?, |a, b| (a + b).max(floor)), la.shape().clone())
        }

        fn bwd(&self, _: &Tensor, _: &Tensor, y: &Tensor, dy: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
            let dy = through_relu(self.relu, y, dy)?;
            Ok((Some(dy.clone()), Some(dy)))
        }
    }

    /// Each value times its factor: 0 where it is dropped, 1 / (1 - rate) where it is kept.
    pub struct DropoutOp {
        /// One factor for each value.
        pub factors: Vec<f32>,
    }

    impl CustomOp1 for DropoutOp {
        fn name(&self) -> &'static str {
            "face96-dropout"
        }

        fn cpu_fwd(&self, x: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
            let x = floats(x, l)?;
            if x.len() != self.factors.len() {
                bail!("dropout: {} factors for {} values", self.factors.len(), x.len());
            }
            made(zip_map(x, &self.factors, |x, f| x * f), l.shape().clone())
        }

        fn bwd(&self, x: &Tensor, _: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
            Ok(Some(tensor(read(dy, |dy| Ok(zip_map(dy, &self.factors, |g, f| g * f)))?, x)?))
        }
    }

    /// Maximum over `size` x `size` squares, stride `size`; a remainder at the border is left out. The gradient goes to the first
    /// place of each square that holds the maximum.
    pub struct MaxPool {
        /// Side and stride.
        pub size: usize,
    }

    impl CustomOp1 for MaxPool {
        fn name(&self) -> &'static str {
            "face96-max-pool"
        }

        fn cpu_fwd(&self, x: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
            let ((b, h, w, c), size) = (l.shape().dims4()?, self.size);
            let (oh, ow) = (h / size, w / size);
            if oh * ow == 0 {
                bail!("max-pool: a square of {size} does not fit {:?}", l.shape());
            }
            let mut y = buffer::take(b * oh * ow * c);
            let x = floats(x, l)?;
            y.par_chunks_mut(oh * ow * c).zip(x.par_chunks(h * w * c)).for_each(|(y, x)| {
                y.fill(f32::NEG_INFINITY);
                for (row, y) in y.chunks_exact_mut(ow * c).enumerate() {
                    for ky in 0..size {
                        let x = &x[(row * size + ky) * w * c..][..w * c];
                        for (y, x) in y.chunks_exact_mut(c).zip(x.chunks_exact(size * c)) {
                            for x in x.chunks_exact(c) {
                                y.iter_mut().zip(x).for_each(|(y, x)| *y = y.max(*x));
                            }
                        }
                    }
                }
            });
            made(y, (b, oh, ow, c))
        }

        fn bwd(&self, x: &Tensor, y: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
            let (shape, size) = (x.dims4()?, self.size);
            let run = |x: &[f32], y: &[f32], dy: &[f32]| max_pool_gradient(shape, size, x, y, dy);
            Ok(Some(tensor(read(x, |x| read(y, |y| read(dy, |dy| Ok(run(x, y, dy)))))?, x)?))
        }
    }

    fn max_pool_gradient(
        (b, h, w, c): (usize, usize, usize, usize),
        size: usize,
        x: &[f32],
        y: &[f32],
        dy: &[f32],
    ) -> Vec<f32> {
        let (oh, ow) = (h / size, w / size);
        let mut dx = buffer::take(b * h * w * c);
        let picture = h * w * c;
        dx.par_chunks_mut(picture).zip(x.par_chunks(picture)).enumerate().for_each(|(n, (dx, x))| {
            dx.fill(0.);
            let mut left = vec![0f32; c];
            for (oy, ox) in (0..oh).flat_map(|oy| (0..ow).map(move |ox| (oy, ox))) {
                let at = ((n * oh + oy) * ow + ox) * c;
                left.copy_from_slice(&dy[at..at + c]);
                for (ky, kx) in (0..size).flat_map(|ky| (0..size).map(move |kx| (ky, kx))) {
                    let from = ((oy * size + ky) * w + ox * size + kx) * c;
                    let (x, dx, y) = (&x[from..from + c], &mut dx[from..from + c], &y[at..at + c]);
                    for i in 0..c {
                        let hit = x[i] == y[i];
                        dx[i] = if hit { left[i] } else { 0. };
                        left[i] = if hit { 0. } else { left[i] };
                    }
                }
            }
        });
        dx
    }

    /// (B, H, W, C) -> (B, 2 H, 2 W, C): each place is repeated 2 x 2 times.
    pub struct Upsample;

    impl CustomOp1 for Upsample {
        fn name(&self) -> &'static str {
            "face96-upsample"
        }

        fn cpu_fwd(&self, x: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
            let (b, h, w, c) = l.shape().dims4()?;
            let mut y = buffer::take(4 * b * h * w * c);
            y.par_chunks_mut(4 * w * c).zip(floats(x, l)?.par_chunks(w * c)).for_each(|(y, x)| {
                let (top, bottom) = y.split_at_mut(2 * w * c);
                for (t, x) in top.chunks_exact_mut(2 * c).zip(x.chunks_exact(c)) {
                    t[..c].copy_from_slice(x);
                    t[c..].copy_from_slice(x);
                }
                bottom.copy_from_slice(top);
            });
            made(y, (b, 2 * h, 2 * w, c))
        }

        fn bwd(&self, x: &Tensor, _: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
            let (b, h, w, c) = x.dims4()?;
            let mut dx = buffer::take(b * h * w * c);
            read(dy, |dy| {
                dx.par_chunks_mut(w * c).zip(dy.par_chunks(4 * w * c)).for_each(|(dx, dy)| {
                    let (top, bottom) = dy.split_at(2 * w * c);
                    let squares = top.chunks_exact(2 * c).zip(bottom.chunks_exact(2 * c));
                    for (dx, (t, b)) in dx.chunks_exact_mut(c).zip(squares) {
                        for i in 0..c {
                            dx[i] = t[i] + t[c + i] + b[i] + b[c + i];
                        }
                    }
                });
                Ok(())
            })?;
            Ok(Some(tensor(dx, x)?))
        }
    }
}
