//! The engine: which kernels run where. [`wasm`] has the kernels of inference (the browser's, and natively the same code on
//! plain lanes), [`native`] those of training, and this file joins the latter to candle's autograd as custom ops with
//! their own backward passes. Activations are (B, H, W, C).

pub mod wasm;

#[cfg(feature = "native")]
pub mod native;

#[cfg(feature = "native")]
pub use autograd::*;

/// Added by batch norm to the variance before its root is taken, as everywhere (Ioffe and Szegedy 2015).
pub const NORM_EPSILON: f32 = 1e-5;

#[cfg(feature = "native")]
mod autograd {
    use super::native::{self, ConvShape, Norm, Strides};
    use super::NORM_EPSILON;
    use candle_core::{bail, CpuStorage, CustomOp1, CustomOp2, CustomOp3, Layout, Result, Shape, Storage, Tensor};

    /// The floats of a contiguous layout.
    fn floats<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
        match layout.contiguous_offsets() {
            Some((from, to)) => Ok(&storage.as_slice::<f32>()?[from..to]),
            None => bail!("expected contiguous activations, found strides {:?}", layout.stride()),
        }
    }

    /// Runs `f` on the floats of a tensor.
    pub(crate) fn read<R>(tensor: &Tensor, f: impl FnOnce(&[f32]) -> Result<R>) -> Result<R> {
        let tensor = tensor.contiguous()?;
        let (storage, layout) = tensor.storage_and_layout();
        match &*storage {
            Storage::Cpu(storage) => f(floats(storage, layout)?),
            _ => bail!("face96's own ops run on the CPU"),
        }
    }

    fn tensor(data: impl Into<Vec<f32>>, like: &Tensor) -> Result<Tensor> {
        Tensor::from_vec(data.into(), like.shape(), like.device())
    }

    fn made(data: impl Into<Vec<f32>>, shape: impl Into<Shape>) -> Result<(CpuStorage, Shape)> {
        Ok((CpuStorage::F32(data.into()), shape.into()))
    }

    /// `dy` where the result of a ReLU is positive, else 0.
    fn through_relu(relu: bool, y: &Tensor, dy: &Tensor) -> Result<Tensor> {
        if !relu {
            return dy.contiguous();
        }
        tensor(read(y, |y| read(dy, |dy| Ok(native::zip_map(y, dy, |y, d| if y > 0. { d } else { 0. }))))?, dy)
    }

    struct Conv {
        kernel: usize,
        stride: usize,
        padding: usize,
        relu: bool,
    }

    impl Conv {
        fn shape(&self, x: &Shape, w: &Shape) -> Result<ConvShape> {
            let (batch, height, width, inputs) = x.dims4()?;
            let (kernel, kernel_x, depth, outputs) = w.dims4()?;
            if (kernel, kernel_x, depth) != (self.kernel, self.kernel, inputs) {
                bail!("conv: input {x:?} does not fit weight {w:?}");
            }
            let (stride, padding) = (self.stride, self.padding);
            if height + 2 * padding < kernel || width + 2 * padding < kernel {
                bail!("conv: a kernel of {kernel} does not fit {x:?}");
            }
            Ok(ConvShape { batch, height, width, inputs, kernel, stride, padding, outputs })
        }
    }

    impl CustomOp3 for Conv {
        fn name(&self) -> &'static str {
            "face96-conv"
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
            let s = self.shape(lx.shape(), lw.shape())?;
            let (oh, ow) = s.out_size();
            let y = native::conv_forward(s, floats(x, lx)?, floats(w, lw)?, floats(b, lb)?, self.relu);
            made(y, (s.batch, oh, ow, s.outputs))
        }

        fn bwd(
            &self,
            x: &Tensor,
            w: &Tensor,
            b: &Tensor,
            y: &Tensor,
            dy: &Tensor,
        ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
            let s = self.shape(x.shape(), w.shape())?;
            let dy = through_relu(self.relu, y, dy)?;
            let want_x = x.track_op();
            let g = read(x, |x| read(w, |w| read(&dy, |dy| Ok(native::conv_backward(s, x, w, dy, (want_x, true))))))?;
            let dx = g.x.map(|dx| tensor(dx, x)).transpose()?;
            Ok((dx, Some(tensor(g.w, w)?), Some(tensor(g.bias, b)?)))
        }
    }

    /// `x` (B, H, W, C), `w` (O, C, kernel, kernel), `bias` (O) -> (B, OH, OW, O), with `max(., 0)` if `relu`.
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn conv2d(x: &Tensor, w: &Tensor, bias: &Tensor, stride: usize, padding: usize, relu: bool) -> Result<Tensor> {
        let (_, _, kernel, _) = w.dims4()?;
        let w = w.permute((2, 3, 1, 0))?.contiguous()?;
        x.contiguous()?.apply_op3(&w, bias, Conv { kernel, stride, padding, relu })
    }

    struct Dense {
        relu: bool,
    }

    impl CustomOp3 for Dense {
        fn name(&self) -> &'static str {
            "face96-dense"
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
            let ((m, k), (n, depth)) = (lx.shape().dims2()?, lw.shape().dims2()?);
            if k != depth {
                bail!("dense: input {:?} does not fit weight {:?}", lx.shape(), lw.shape());
            }
            let mut y: Vec<f32> = floats(b, lb)?.iter().copied().cycle().take(m * n).collect();
            let (x, w) = (floats(x, lx)?, floats(w, lw)?);
            native::matmul((m, k, n), x, Strides(k, 1), w, Strides(1, k), &mut y, true, true);
            if self.relu {
                y.iter_mut().for_each(|y| *y = y.max(0.));
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
            let ((m, k), (n, _)) = (x.dims2()?, w.dims2()?);
            let dy = through_relu(self.relu, y, dy)?;
            let db = dy.sum(0)?;
            read(&dy, |dy| {
                let dw = read(x, |x| {
                    let mut dw = vec![0f32; n * k];
                    native::matmul((n, m, k), dy, Strides(1, n), x, Strides(k, 1), &mut dw, false, true);
                    Ok(dw)
                })?;
                let dx = if x.track_op() {
                    let dx = read(w, |w| {
                        let mut dx = vec![0f32; m * k];
                        native::matmul((m, n, k), dy, Strides(n, 1), w, Strides(k, 1), &mut dx, false, true);
                        Ok(dx)
                    })?;
                    Some(tensor(dx, x)?)
                } else {
                    None
                };
                Ok((dx, Some(tensor(dw, w)?), Some(db)))
            })
        }
    }

    /// `x` (B, K), `w` (N, K), `bias` (N) -> (B, N), with `max(., 0)` if `relu`.
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn dense(x: &Tensor, w: &Tensor, bias: &Tensor, relu: bool) -> Result<Tensor> {
        x.contiguous()?.apply_op3(w, bias, Dense { relu })
    }

    struct BatchNorm {
        mean: Vec<f32>,
        inverse_deviation: Vec<f32>,
        relu: bool,
    }

    impl BatchNorm {
        fn norm<'a>(&'a self, gamma: &'a [f32], beta: &'a [f32]) -> Norm<'a> {
            let (mean, inverse_deviation) = (&self.mean[..], &self.inverse_deviation[..]);
            Norm { mean, inverse_deviation, gamma, beta, relu: self.relu }
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
            let norm = self.norm(floats(gamma, lg)?, floats(beta, lb)?);
            made(norm.forward(floats(x, lx)?), lx.shape().clone())
        }

        fn bwd(
            &self,
            x: &Tensor,
            gamma: &Tensor,
            beta: &Tensor,
            _: &Tensor,
            dy: &Tensor,
        ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
            let (dx, dg, db) = read(x, |x| {
                read(dy, |dy| read(gamma, |gamma| read(beta, |beta| Ok(self.norm(gamma, beta).backward(x, dy)))))
            })?;
            Ok((Some(tensor(dx, x)?), Some(tensor(dg, gamma)?), Some(tensor(db, gamma)?)))
        }
    }

    /// Batch norm over all but the last dimension of `x`, with the batch's own statistics, which are returned too: mean
    /// and biased variance of each channel.
    ///
    /// # Errors
    /// Shapes that do not fit.
    #[allow(clippy::type_complexity)]
    pub fn batch_norm(x: &Tensor, gamma: &Tensor, beta: &Tensor, relu: bool) -> Result<(Tensor, Vec<f32>, Vec<f32>)> {
        let c = gamma.dims1()?;
        if x.dims().last() != Some(&c) || x.elem_count() == 0 {
            bail!("batch norm: input {:?} does not have {c} channels", x.shape());
        }
        let (mean, var) = read(x, |x| Ok(native::channel_moments(c, x)))?;
        let inverse_deviation = var.iter().map(|v| 1. / (v + NORM_EPSILON).sqrt()).collect();
        let y = x.apply_op3(gamma, beta, BatchNorm { mean: mean.clone(), inverse_deviation, relu })?;
        Ok((y, mean, var))
    }

    struct Add {
        relu: bool,
    }

    impl CustomOp2 for Add {
        fn name(&self) -> &'static str {
            "face96-add"
        }

        fn cpu_fwd(&self, a: &CpuStorage, la: &Layout, b: &CpuStorage, lb: &Layout) -> Result<(CpuStorage, Shape)> {
            if la.shape() != lb.shape() {
                bail!("add: {:?} and {:?} differ", la.shape(), lb.shape());
            }
            let floor = if self.relu { 0. } else { f32::NEG_INFINITY };
            made(native::zip_map(floats(a, la)?, floats(b, lb)?, |a, b| (a + b).max(floor)), la.shape().clone())
        }

        fn bwd(&self, _: &Tensor, _: &Tensor, y: &Tensor, dy: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
            let dy = through_relu(self.relu, y, dy)?;
            Ok((Some(dy.clone()), Some(dy)))
        }
    }

    /// Sum of two tensors of one shape, with `max(., 0)` if `relu`.
    ///
    /// # Errors
    /// Shapes that differ.
    pub fn add(a: &Tensor, b: &Tensor, relu: bool) -> Result<Tensor> {
        a.contiguous()?.apply_op2(&b.contiguous()?, Add { relu })
    }

    struct MaxPool {
        size: usize,
    }

    impl CustomOp1 for MaxPool {
        fn name(&self) -> &'static str {
            "face96-max-pool"
        }

        fn cpu_fwd(&self, x: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
            let (b, h, w, c) = l.shape().dims4()?;
            let y = native::max_pool((b, h, w, c), self.size, floats(x, l)?);
            made(y, (b, h / self.size, w / self.size, c))
        }

        fn bwd(&self, x: &Tensor, y: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
            let shape = x.dims4()?;
            let run = |x: &[f32], y: &[f32], dy: &[f32]| native::max_pool_backward(shape, self.size, x, y, dy);
            Ok(Some(tensor(read(x, |x| read(y, |y| read(dy, |dy| Ok(run(x, y, dy)))))?, x)?))
        }
    }

    /// Maximum over `size` x `size` squares of (B, H, W, C), stride `size`.
    ///
    /// # Errors
    /// Anything but four dimensions.
    pub fn max_pool(x: &Tensor, size: usize) -> Result<Tensor> {
        x.contiguous()?.apply_op1(MaxPool { size })
    }

    struct Upsample;

    impl CustomOp1 for Upsample {
        fn name(&self) -> &'static str {
            "face96-upsample"
        }

        fn cpu_fwd(&self, x: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
            let (b, h, w, c) = l.shape().dims4()?;
            made(native::upsample((b * h, w, c), floats(x, l)?), (b, 2 * h, 2 * w, c))
        }

        fn bwd(&self, x: &Tensor, _: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
            let (b, h, w, c) = x.dims4()?;
            Ok(Some(tensor(read(dy, |dy| Ok(native::upsample_backward((b * h, w, c), dy)))?, x)?))
        }
    }

    /// (B, H, W, C) -> (B, 2 H, 2 W, C): each place four times.
    ///
    /// # Errors
    /// Anything but four dimensions.
    pub fn upsample(x: &Tensor) -> Result<Tensor> {
        x.contiguous()?.apply_op1(Upsample)
    }

    struct SoftArgmax;

    impl CustomOp1 for SoftArgmax {
        fn name(&self) -> &'static str {
            "face96-soft-argmax"
        }

        fn cpu_fwd(&self, x: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
            let (b, h, w, c) = l.shape().dims4()?;
            made(native::soft_argmax((b, h, w, c), floats(x, l)?), (b, c, 3))
        }

        fn bwd(&self, x: &Tensor, y: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
            let shape = x.dims4()?;
            let run = |x: &[f32], y: &[f32], dy: &[f32]| native::soft_argmax_backward(shape, x, y, dy);
            Ok(Some(tensor(read(x, |x| read(y, |y| read(dy, |dy| Ok(run(x, y, dy)))))?, x)?))
        }
    }

    /// Heatmaps (B, H, W, K) -> (B, K, 3): expected x and y in [-1, 1] between the picture's edges, and their variance.
    ///
    /// # Errors
    /// Anything but four dimensions.
    pub fn soft_argmax(x: &Tensor) -> Result<Tensor> {
        x.contiguous()?.apply_op1(SoftArgmax)
    }
}
