//! The layers of the nets, each a candle op: convolution with what follows it, dense layer, dropout, mean-pool and
//! soft-argmax. What computes a layer is chosen here and only here, by the [`Mode`] of the pass.
//!
//! Activations are (B, H, W, C): channels lie next to each other, which makes a convolution a matrix product of pixels with
//! a (kernel * kernel * C, channels) matrix, and gives a dense layer its input in (H, W, C) order. candle's own ops take
//! (B, C, H, W), so with them activations have that layout.

use super::trace::{Call, Op};
use crate::ops::conv::{Fused, Packed};
use crate::ops::dense::PackedDense;
use crate::ops::{heatmap, pool};
use candle_core::{bail, Result, Tensor};
use candle_nn::{Init, VarBuilder};
use std::sync::{Mutex, OnceLock};

/// What a forward pass is for, which decides what computes it.
pub enum Mode<'a> {
    /// Inference by our kernels. A layer's first pass lays its weights out for the processor and drops the variables.
    Infer,
    /// The same, and each layer reports its [`Call`].
    Watch(&'a dyn Fn(&Call)),
    /// Training by our kernels: batch norm by the batch's statistics, dropout, and a record for the backward pass.
    #[cfg(feature = "native")]
    Train(&'a Training),
    /// Our kernels; each batch norm takes over the statistics that it meets, without changing the layer's output.
    #[cfg(feature = "native")]
    Settle,
    /// candle's own ops, on any device: the reference of tests and benchmarks. With a [`Training`], as in training.
    #[cfg(any(feature = "native", feature = "bench-candle"))]
    Candle(Option<&'a Training>),
}

/// The name of a batch norm's layer, and each channel's mean and biased variance over the batch.
#[cfg(any(feature = "native", feature = "bench-candle"))]
pub type BatchMoments = (String, Vec<f32>, Vec<f32>);

/// What a training pass draws its random numbers from, and what it leaves behind.
#[cfg(any(feature = "native", feature = "bench-candle"))]
pub struct Training {
    /// The recorded ops, for the backward pass.
    #[cfg(feature = "native")]
    pub recorder: crate::ops::recorder::Recorder,
    /// The generator of dropout.
    pub rng: std::cell::RefCell<rand_chacha::ChaCha8Rng>,
    /// The batch statistics of each batch norm.
    pub moments: std::cell::RefCell<Vec<BatchMoments>>,
}

#[cfg(any(feature = "native", feature = "bench-candle"))]
impl Training {
    /// A pass whose dropout draws from `rng`.
    pub fn new(rng: rand_chacha::ChaCha8Rng) -> Self {
        Self {
            #[cfg(feature = "native")]
            recorder: Default::default(),
            rng: std::cell::RefCell::new(rng),
            moments: Default::default(),
        }
    }

    /// Dropout factors for `n` values, in (B, H, W, C) order.
    fn factors(&self, n: usize, rate: f32) -> Vec<f32> {
        use rand::Rng;
        let (mut rng, keep) = (self.rng.borrow_mut(), 1. - rate);
        (0..n).map(|_| if rng.random::<f32>() < keep { 1. / keep } else { 0. }).collect()
    }
}

/// Sizes of a convolution.
#[derive(Clone, Copy, Debug)]
pub struct ConvConfig {
    /// Side of the kernel.
    pub kernel: usize,
    /// Step between outputs.
    pub stride: usize,
    /// Zeros on each side.
    pub padding: usize,
    /// Batch norm follows, instead of a bias.
    pub norm: bool,
    /// `max(., 0)` at the very end.
    pub relu: bool,
}

/// A convolution and what follows it, in one pass over memory. Weights `weight` (outputs, inputs, kernel, kernel) and `bias`
/// (outputs); with batch norm also `norm.{weight,bias,running_mean,running_var}`, which a weights file has folded into weight
/// and bias.
pub struct Conv {
    name: String,
    config: ConvConfig,
    /// The variables, until the layer is laid out for inference.
    open: Mutex<Option<OpenConv>>,
    packed: OnceLock<Packed>,
}

#[derive(Clone)]
struct OpenConv {
    weight: Tensor,
    shift: Shift,
}

/// What is added to a convolution's sums.
#[derive(Clone)]
enum Shift {
    Bias(Tensor),
    // Inference only reports that it does not support this.
    #[cfg_attr(not(any(feature = "native", feature = "bench-candle")), expect(dead_code))]
    Norm {
        gamma: Tensor,
        beta: Tensor,
        mean: Tensor,
        variance: Tensor,
    },
}

impl Conv {
    /// A convolution with the variables of `vb`.
    ///
    /// # Errors
    /// Variables that are missing or of the wrong shape.
    pub fn new(inputs: usize, outputs: usize, config: ConvConfig, vb: VarBuilder) -> Result<Self> {
        let ConvConfig { kernel, norm, relu, .. } = config;
        let fan_in = inputs * kernel * kernel;
        let bound = match (norm, relu) {
            // He et al. 2015.
            (true, _) => (6. / fan_in as f64).sqrt(),
            // Glorot and Bengio 2010: Lasagne's default, and so the tutorial's.
            (false, true) => (6. / (fan_in + outputs * kernel * kernel) as f64).sqrt(),
            // Small, so that heatmaps start flat.
            (false, false) => 0.5 / (fan_in as f64).sqrt(),
        };
        let weight = vb.get_with_hints((outputs, inputs, kernel, kernel), "weight", uniform(bound))?;
        // A weights file has no batch norms, because they are folded.
        let shift = if norm && vb.contains_tensor("norm.weight") {
            let vb = vb.pp("norm");
            let of = |name, value| vb.get_with_hints(outputs, name, Init::Const(value));
            let (gamma, beta) = (of("weight", 1.)?, of("bias", 0.)?);
            Shift::Norm { gamma, beta, mean: of("running_mean", 0.)?, variance: of("running_var", 1.)? }
        } else {
            Shift::Bias(vb.get_with_hints(outputs, "bias", Init::Const(0.))?)
        };
        let open = Mutex::new(Some(OpenConv { weight, shift }));
        Ok(Self { name: vb.prefix(), config, open, packed: OnceLock::new() })
    }

    /// (B, H, W, inputs) -> (B, OH, OW, outputs).
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn forward_t(&self, x: &Tensor, mode: &Mode) -> Result<Tensor> {
        self.run(x, Fused::Nothing, mode)
    }

    /// The convolution, then a max-pool of 2.
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn pooled(&self, x: &Tensor, mode: &Mode) -> Result<Tensor> {
        self.run(x, Fused::MaxPool, mode)
    }

    /// The convolution plus a map of the same size.
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn add(&self, x: &Tensor, residual: &Tensor, mode: &Mode) -> Result<Tensor> {
        self.run(x, Fused::Add(residual), mode)
    }

    /// The convolution plus a map of half its height and width, each of whose places counts for 2 x 2.
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn add_upsampled(&self, x: &Tensor, half: &Tensor, mode: &Mode) -> Result<Tensor> {
        self.run(x, Fused::AddUpsampled(half), mode)
    }

    fn run(&self, x: &Tensor, then: Fused, mode: &Mode) -> Result<Tensor> {
        match mode {
            Mode::Infer => self.infer(x, then),
            Mode::Watch(watch) => {
                let y = self.infer(x, then)?;
                let ConvConfig { kernel, stride, padding, relu, .. } = self.config;
                let (channels, last) = (y.dim(3)?, matches!(then, Fused::Nothing | Fused::MaxPool));
                let conv = Op::Conv { kernel, stride, padding, channels, norm: false, relu: relu && last };
                let (ops, add) = match then {
                    Fused::Nothing => (vec![conv], None),
                    Fused::MaxPool => (vec![conv, Op::MaxPool { size: 2 }], None),
                    Fused::Add(add) => (vec![conv, Op::Add { relu }], Some(add)),
                    Fused::AddUpsampled(add) => (vec![conv, Op::Upsample, Op::Add { relu }], Some(add)),
                };
                watch(&Call { name: &self.name, ops, x, add, y: &y, multiply_adds: self.packed()?.multiply_adds() });
                Ok(y)
            }
            #[cfg(feature = "native")]
            Mode::Train(training) => self.train(x, then, training),
            #[cfg(feature = "native")]
            Mode::Settle => self.settle(x, then),
            #[cfg(any(feature = "native", feature = "bench-candle"))]
            Mode::Candle(training) => self.by_candle(x, then, *training),
        }
    }

    /// The variables.
    #[cfg(any(feature = "native", feature = "bench-candle"))]
    fn open(&self) -> Result<OpenConv> {
        lock(&self.open).clone().ok_or_else(|| packed_already(&self.name))
    }

    /// The weights as the kernels read them.
    fn packed(&self) -> Result<&Packed> {
        if self.packed.get().is_none() {
            let mut open = lock(&self.open);
            if let Some(OpenConv { weight, shift }) = open.take() {
                let Shift::Bias(bias) = shift else {
                    bail!("{}: batch norm is to be folded before inference", self.name)
                };
                let (o, i, k, _) = weight.dims4()?;
                let weights = weight.flatten_all()?.to_vec1()?;
                let at = (self.config.stride, self.config.padding);
                let packed = Packed::new(weights, [o, i, k, k], bias.to_vec1()?, at)?;
                let _ = self.packed.set(packed);
            }
        }
        self.packed.get().ok_or_else(|| candle_core::Error::Msg(format!("{}: its weights did not fit", self.name)))
    }

    fn infer(&self, x: &Tensor, then: Fused) -> Result<Tensor> {
        self.packed()?.forward(x, then, self.config.relu)
    }
}

#[cfg(feature = "native")]
impl Conv {
    /// One op after the other, each recorded.
    fn train(&self, x: &Tensor, then: Fused, training: &Training) -> Result<Tensor> {
        use crate::ops::{conv, norm};
        let ConvConfig { stride, padding, relu, .. } = self.config;
        let (open, recorder) = (self.open()?, &training.recorder);
        let relu_now = relu && matches!(then, Fused::Nothing | Fused::MaxPool);
        let input_gradient = recorder.made(x);
        let y = match &open.shift {
            Shift::Bias(bias) => {
                let op = conv::ConvOp { stride, padding, relu: relu_now, input_gradient };
                recorder.apply3(op, x, &open.weight, bias)?
            }
            Shift::Norm { gamma, beta, .. } => {
                let op = conv::ConvOp { stride, padding, relu: false, input_gradient };
                let sums = recorder.apply2(op, x, &open.weight)?;
                let op = norm::BatchNorm::new(&sums, gamma.dims1()?, relu_now)?;
                training.moments.borrow_mut().push((self.name.clone(), op.mean.clone(), op.variance.clone()));
                recorder.apply3(op, &sums, gamma, beta)?
            }
        };
        match then {
            Fused::Nothing => Ok(y),
            Fused::MaxPool => recorder.apply1(pool::MaxPool { size: 2 }, &y),
            Fused::Add(add) => recorder.apply2(pool::Add { relu }, &y, add),
            Fused::AddUpsampled(half) => {
                let up = recorder.apply1(pool::Upsample, half)?;
                recorder.apply2(pool::Add { relu }, &y, &up)
            }
        }
    }

    /// Gives batch norm the mean and the variance that it meets on these pictures, and the scale and shift that leave the
    /// layer's output unchanged.
    fn settle(&self, x: &Tensor, then: Fused) -> Result<Tensor> {
        use crate::ops::{norm::BatchNorm, NORM_EPSILON};
        let open = self.open()?;
        if let Shift::Norm { gamma, beta, mean, variance } = &open.shift {
            let op = crate::ops::conv::ConvOp {
                stride: self.config.stride,
                padding: self.config.padding,
                relu: false,
                input_gradient: false,
            };
            let found = BatchNorm::new(&x.apply_op2_no_bwd(&open.weight, &op)?, gamma.dims1()?, false)?;
            let of = |tensor: &Tensor| tensor.to_vec1::<f32>();
            let scale: Vec<f32> =
                of(gamma)?.iter().zip(of(variance)?).map(|(g, v)| g / (v + NORM_EPSILON).sqrt()).collect();
            let shift = of(beta)?.into_iter().zip(of(mean)?).zip(&scale).map(|((b, m), s)| b - m * s);
            let shift: Vec<f32> = shift.zip(&scale).zip(&found.mean).map(|((b, s), m)| b + s * m).collect();
            let deviation = found.variance.iter().map(|v| (v + NORM_EPSILON).sqrt());
            set(gamma, scale.iter().zip(deviation).map(|(s, d)| s * d).collect())?;
            set(beta, shift)?;
            set(mean, found.mean)?;
            set(variance, found.variance)?;
        }
        self.train(x, then, &Training::new(rand::SeedableRng::seed_from_u64(0)))
    }
}

/// Overwrites a variable's values.
///
/// # Errors
/// A wrong number of values.
#[cfg(feature = "native")]
pub(super) fn set(variable: &Tensor, values: Vec<f32>) -> Result<()> {
    struct Set(Vec<f32>);

    impl candle_core::InplaceOp1 for Set {
        fn name(&self) -> &'static str {
            "face96-set"
        }

        fn cpu_fwd(&self, storage: &mut candle_core::CpuStorage, layout: &candle_core::Layout) -> Result<()> {
            let (candle_core::CpuStorage::F32(to), Some((from, end))) = (storage, layout.contiguous_offsets()) else {
                bail!("variables are f32 and contiguous")
            };
            if end - from != self.0.len() {
                bail!("expected {} values, found {}", end - from, self.0.len());
            }
            to[from..end].copy_from_slice(&self.0);
            Ok(())
        }
    }

    variable.inplace_op1(&Set(values))
}

/// A dense layer on all values of a picture, (B, ..) -> (B, units). Weights `weight` (units, inputs) and `bias` (units).
pub struct Dense {
    name: String,
    relu: bool,
    /// The variables, until the layer is laid out for inference: weight and bias.
    open: Mutex<Option<(Tensor, Tensor)>>,
    packed: OnceLock<PackedDense>,
}

impl Dense {
    /// A dense layer with the variables of `vb`, and `max(., 0)` at the end if `relu`.
    ///
    /// # Errors
    /// Variables that are missing or of the wrong shape.
    pub fn new(inputs: usize, units: usize, relu: bool, vb: VarBuilder) -> Result<Self> {
        // Glorot and Bengio 2010: the default of Lasagne's DenseLayer, and so the tutorial's.
        let bound = (6. / (inputs + units) as f64).sqrt();
        let weight = vb.get_with_hints((units, inputs), "weight", uniform(bound))?;
        let bias = vb.get_with_hints(units, "bias", Init::Const(0.))?;
        Ok(Self { name: vb.prefix(), relu, open: Mutex::new(Some((weight, bias))), packed: OnceLock::new() })
    }

    /// (B, ..) -> (B, units).
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn forward_t(&self, x: &Tensor, mode: &Mode) -> Result<Tensor> {
        match mode {
            Mode::Infer => x.apply_op1_no_bwd(self.packed()?),
            Mode::Watch(watch) => {
                let packed = self.packed()?;
                let y = x.apply_op1_no_bwd(packed)?;
                let ops = vec![Op::Dense { units: y.dim(1)?, relu: self.relu }];
                watch(&Call { name: &self.name, ops, x, add: None, y: &y, multiply_adds: packed.multiply_adds() });
                Ok(y)
            }
            #[cfg(feature = "native")]
            Mode::Train(Training { recorder, .. }) => {
                let (weight, bias) = self.open()?;
                let op = crate::ops::dense::DenseOp { relu: self.relu, input_gradient: recorder.made(x) };
                recorder.apply3(op, x, &weight, &bias)
            }
            #[cfg(feature = "native")]
            Mode::Settle => {
                let (weight, bias) = self.open()?;
                let op = crate::ops::dense::DenseOp { relu: self.relu, input_gradient: false };
                x.apply_op3_no_bwd(&weight, &bias, &op)
            }
            #[cfg(any(feature = "native", feature = "bench-candle"))]
            Mode::Candle(_) => {
                let (weight, bias) = self.open()?;
                // Our weights are in (H, W, C) order.
                let flat = if x.rank() == 4 { x.permute((0, 2, 3, 1))?.flatten_from(1)? } else { x.clone() };
                let y = flat.contiguous()?.matmul(&weight.t()?)?.broadcast_add(&bias)?;
                if self.relu {
                    y.relu()
                } else {
                    Ok(y)
                }
            }
        }
    }

    #[cfg(any(feature = "native", feature = "bench-candle"))]
    fn open(&self) -> Result<(Tensor, Tensor)> {
        lock(&self.open).clone().ok_or_else(|| packed_already(&self.name))
    }

    fn packed(&self) -> Result<&PackedDense> {
        if self.packed.get().is_none() {
            if let Some((weight, bias)) = lock(&self.open).take() {
                let weights = weight.flatten_all()?.to_vec1::<f32>()?;
                let _ = self.packed.set(PackedDense::new(&weights, &bias.to_vec1::<f32>()?, self.relu)?);
            }
        }
        self.packed.get().ok_or_else(|| candle_core::Error::Msg(format!("{}: its weights did not fit", self.name)))
    }
}

/// In training, zeroes each value with this probability and scales the rest up; otherwise does nothing.
pub struct Dropout(pub f32);

impl Dropout {
    /// Returns a tensor of the shape of `x`.
    ///
    /// # Errors
    /// Only errors of candle itself.
    pub fn forward_t(&self, x: Tensor, mode: &Mode) -> Result<Tensor> {
        match mode {
            #[cfg(feature = "native")]
            Mode::Train(training) if self.0 > 0. => {
                let factors = training.factors(x.elem_count(), self.0);
                training.recorder.apply1(pool::DropoutOp { factors }, &x)
            }
            #[cfg(any(feature = "native", feature = "bench-candle"))]
            Mode::Candle(Some(training)) if self.0 > 0. => {
                let factors = training.factors(x.elem_count(), self.0);
                if x.rank() == 4 {
                    let (b, c, h, w) = x.dims4()?;
                    let factors = Tensor::from_vec(factors, (b, h, w, c), x.device())?;
                    return x * factors.permute((0, 3, 1, 2))?;
                }
                &x * Tensor::from_vec(factors, x.shape(), x.device())?
            }
            _ => Ok(x),
        }
    }
}

/// (B, H, W, C) -> (B, C): the mean over height and width.
///
/// # Errors
/// Anything but four dimensions.
pub fn mean_pool(x: &Tensor, name: &str, mode: &Mode) -> Result<Tensor> {
    match mode {
        #[cfg(any(feature = "native", feature = "bench-candle"))]
        Mode::Candle(_) => x.mean((2, 3)),
        _ => plain(pool::MeanPool, Op::MeanPool, x, name, mode),
    }
}

/// Heatmaps (B, H, W, K) -> (B, K, 3): expected x and y, with the crop's edges at -1 and 1, and the sum of their variances.
///
/// # Errors
/// Anything but four dimensions.
pub fn soft_argmax(x: &Tensor, reach: &[f32], name: &str, mode: &Mode) -> Result<Tensor> {
    match mode {
        #[cfg(any(feature = "native", feature = "bench-candle"))]
        Mode::Candle(_) => candle::soft_argmax(x, reach),
        _ => plain(heatmap::SoftArgmax { reach: reach.to_vec() }, Op::SoftArgmax, x, name, mode),
    }
}

/// Runs an op without weights, by our kernels.
fn plain(op: impl candle_core::CustomOp1 + 'static, what: Op, x: &Tensor, name: &str, mode: &Mode) -> Result<Tensor> {
    #[cfg(feature = "native")]
    if let Mode::Train(training) = mode {
        return training.recorder.apply1(op, x);
    }
    let y = x.apply_op1_no_bwd(&op)?;
    if let Mode::Watch(watch) = mode {
        watch(&Call { name, ops: vec![what], x, add: None, y: &y, multiply_adds: 0 });
    }
    Ok(y)
}

fn uniform(bound: f64) -> Init {
    Init::Uniform { lo: -bound, up: bound }
}

/// Ignores poisoning: if the holder of a lock panics, the value is still whole.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

#[cfg(any(feature = "native", feature = "bench-candle"))]
fn packed_already(name: &str) -> candle_core::Error {
    candle_core::Error::Msg(format!("{name}: is laid out for inference, so its variables are gone"))
}

/// The layers built from candle's own ops, as any user of candle would write them.
#[cfg(any(feature = "native", feature = "bench-candle"))]
mod candle {
    use super::*;
    use crate::ops::NORM_EPSILON;
    use candle_core::D;

    impl Conv {
        pub(super) fn by_candle(&self, x: &Tensor, then: Fused, training: Option<&Training>) -> Result<Tensor> {
            let OpenConv { weight, shift } = self.open()?;
            let channels = |values: &Tensor| values.reshape((1, (), 1, 1));
            let y = x.conv2d(&weight, self.config.padding, self.config.stride, 1, 1)?;
            let y = match shift {
                Shift::Bias(bias) => y.broadcast_add(&channels(&bias)?)?,
                Shift::Norm { gamma, beta, .. } => {
                    let mean = y.mean_keepdim((0, 2, 3))?;
                    let centred = y.broadcast_sub(&mean)?;
                    let variance = centred.sqr()?.mean_keepdim((0, 2, 3))?;
                    if let Some(training) = training {
                        let of = |t: &Tensor| t.detach().flatten_all()?.to_vec1();
                        training.moments.borrow_mut().push((self.name.clone(), of(&mean)?, of(&variance)?));
                    }
                    let normed = centred.broadcast_div(&(&variance + f64::from(NORM_EPSILON))?.sqrt()?)?;
                    normed.broadcast_mul(&channels(&gamma)?)?.broadcast_add(&channels(&beta)?)?
                }
            };
            let relu = |y: Tensor| if self.config.relu { y.relu() } else { Ok(y) };
            match then {
                Fused::Nothing => relu(y),
                Fused::MaxPool if training.is_some() => max_pool(&relu(y)?),
                Fused::MaxPool => relu(y)?.max_pool2d(2),
                Fused::Add(add) => relu((y + add)?),
                Fused::AddUpsampled(half) => {
                    let (_, _, h, w) = half.dims4()?;
                    relu((y + half.upsample_nearest2d(2 * h, 2 * w)?)?)
                }
            }
        }
    }

    /// A max-pool of 2 whose gradient goes to the first of equal values: the gradient of candle 0.11's `max_pool2d` is
    /// divided by 4, and that of its `max` goes to all equal values.
    fn max_pool(x: &Tensor) -> Result<Tensor> {
        let (b, c, h, w) = x.dims4()?;
        let (h, w) = (h / 2, w / 2);
        let whole = x.narrow(2, 0, h * 2)?.narrow(3, 0, w * 2)?.contiguous()?;
        let squares = whole.reshape((b, c, h, 2, w, 2))?.permute((0, 1, 2, 4, 3, 5))?.contiguous()?;
        let squares = squares.reshape((b, c, h, w, 4))?;
        squares.gather(&squares.detach().argmax_keepdim(4)?, 4)?.squeeze(4)
    }

    pub(super) fn soft_argmax(x: &Tensor, reach: &[f32]) -> Result<Tensor> {
        let (b, k, h, w) = x.dims4()?;
        let flat = x.reshape((b, k, h * w))?;
        let e = flat.broadcast_sub(&flat.max_keepdim(D::Minus1)?)?.exp()?;
        let p = e.broadcast_div(&e.sum_keepdim(D::Minus1)?)?;
        let at = |i: usize, n: usize| (2 * i + 1) as f32 / n as f32 - 1.;
        let places = (0..h * w).flat_map(|i| {
            let (u, v) = (at(i % w, w), at(i / w, h));
            [u, v, u * u + v * v]
        });
        let places = Tensor::from_vec(places.collect::<Vec<_>>(), (h * w, 3), x.device())?;
        let mean = p.reshape((b * k, h * w))?.matmul(&places)?.reshape((b, k, 3))?;
        let (xy, squares) = (mean.narrow(2, 0, 2)?, mean.narrow(2, 2, 1)?);
        let variance = (squares - xy.sqr()?.sum_keepdim(2)?)?;
        let places = Tensor::cat(&[&xy, &variance], 2)?;
        if reach.is_empty() {
            return Ok(places);
        }
        let factors = reach.iter().flat_map(|r| [*r, *r, r * r]).collect::<Vec<_>>();
        places.broadcast_mul(&Tensor::from_vec(factors, (1, reach.len(), 3), x.device())?)
    }
}
