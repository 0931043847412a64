//! Convolution of (B, H, W, C) activations with what follows it, and its gradients, as candle ops.
//!
//! [`Packed`] is a convolution prepared for inference: it owns its weights in the layout that the kernels read, and is a `CustomOp`
//! that is called by reference, like candle's own `QTensor`. [`ConvOp`] is the convolution in training, with its backward pass. Both
//! run the same kernels: `winograd` where it pays, otherwise the direct convolution of `product`.
//!
//! The three passes of the direct convolution are one product at different places:
//!
//! - forward: runs of the input times the weights;
//! - gradient of the input: runs of `dy` times the weights, transposed and turned by 180 degrees; for a stride of `s`, the
//!   input places of each remainder by `s` see their own taps of the kernel, so there are `s * s` such products;
//! - gradient of the weights: for each tile of weights, the sum over all places of input times `dy`.
//!
//! A batch is split into at most `GROUPS` runs of pictures whatever the number of threads, and sums over groups are added
//! in order: the same seed gives the same numbers on any machine with the same vectors.

use super::buffer::{self, copy_line, zero_line, Lines, Unwritten};
use super::product::{runs_product, Panels, Runs, Then};
#[cfg(feature = "native")]
use super::vector::Vector;
use super::vector::{for_vectors, Vectors};
use super::winograd::{kernel_points, Squares};
use super::{floats, made};
use candle_core::{bail, CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor};

/// A convolution over a batch: a square kernel, zeros on all sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ConvShape {
    /// Pictures.
    pub batch: usize,
    /// Input height.
    pub height: usize,
    /// Input width.
    pub width: usize,
    /// Input channels.
    pub inputs: usize,
    /// Side of the kernel.
    pub kernel: usize,
    /// Step between outputs.
    pub stride: usize,
    /// Zeros on each side.
    pub padding: usize,
    /// Output channels.
    pub outputs: usize,
}

impl ConvShape {
    /// The shape for an input (B, H, W, C) and weights (outputs, C, kernel, kernel).
    fn new(x: &Shape, weight: &[usize], stride: usize, padding: usize) -> Result<Self> {
        let (batch, height, width, inputs) = x.dims4()?;
        let [outputs, depth, kernel, other] = *weight else { bail!("conv: expected 4 dimensions, found {weight:?}") };
        if depth != inputs || kernel != other || outputs == 0 || batch == 0 {
            bail!("conv: weights {weight:?} do not fit an input {x:?}");
        }
        if stride == 0 || height + 2 * padding < kernel || width + 2 * padding < kernel {
            bail!("conv: a kernel of {kernel} with a stride of {stride} does not fit an input {x:?}");
        }
        Ok(Self { batch, height, width, inputs, kernel, stride, padding, outputs })
    }

    /// Output height and width.
    pub fn out_size(&self) -> (usize, usize) {
        let side = |n: usize| (n + 2 * self.padding - self.kernel) / self.stride + 1;
        (side(self.height), side(self.width))
    }

    fn out_shape(&self, pool: bool) -> (usize, usize, usize, usize) {
        let (h, w) = self.out_size();
        let shift = usize::from(pool);
        (self.batch, h >> shift, w >> shift, self.outputs)
    }

    /// Inputs of one output: the rows of the weight matrix.
    fn depth(&self) -> usize {
        self.kernel * self.kernel * self.inputs
    }

    /// Index in (outputs, inputs, kernel, kernel) of the weight matrix's entry at a row (tap, input) and an output.
    fn weight_at(&self, row: usize, output: usize) -> usize {
        let (tap, input) = (row / self.inputs, row % self.inputs);
        (output * self.inputs + input) * self.kernel * self.kernel + tap
    }

    /// The input with its border, and the product that gives the output.
    fn runs(&self) -> (Border, Runs) {
        let (oh, ow) = self.out_size();
        let p = self.padding;
        let border = Border {
            h: self.height,
            w: self.width,
            c: self.inputs,
            stride: self.inputs,
            top: p,
            left: p,
            bottom: p,
            right: p,
        };
        let line = border.line();
        let product = Runs {
            h: oh,
            w: ow,
            taps: self.kernel,
            run: self.kernel * self.inputs,
            from: 0,
            line,
            next_row: self.stride * line,
            next: self.stride * self.inputs,
            to: 0,
            to_row: ow * self.outputs,
            to_next: self.outputs,
            columns: self.outputs,
        };
        (border, product)
    }
}

/// The layout of a picture of `h` x `w` x `c` with a border of zeros, `stride` floats a place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Border {
    pub(super) h: usize,
    pub(super) w: usize,
    pub(super) c: usize,
    pub(super) stride: usize,
    pub(super) top: usize,
    pub(super) left: usize,
    pub(super) bottom: usize,
    pub(super) right: usize,
}

impl Border {
    /// Floats of a line.
    pub(super) fn line(&self) -> usize {
        (self.left + self.w + self.right) * self.stride
    }

    /// Index of the first float of the place (y, x).
    #[cfg(feature = "native")]
    fn at(&self, y: usize, x: usize) -> usize {
        (self.top + y) * self.line() + (self.left + x) * self.stride
    }

    /// The picture in this layout; the picture itself where nothing is to be added.
    pub(super) fn lay<'a>(&self, x: &'a [f32], scratch: &'a mut Lines) -> &'a [f32] {
        let border = self.top + self.left + self.bottom + self.right;
        if border == 0 && self.stride == self.c {
            return x;
        }
        let (line, side) = (self.line(), self.left * self.stride);
        scratch.resize((self.top + self.h + self.bottom) * line);
        zero_line(&mut scratch[..self.top * line]);
        zero_line(&mut scratch[(self.top + self.h) * line..]);
        for (x, out) in x.chunks_exact(self.w * self.c).zip(scratch[self.top * line..].chunks_exact_mut(line)) {
            let (left, rest) = out.split_at_mut(side);
            let (middle, right) = rest.split_at_mut(self.w * self.stride);
            zero_line(left);
            zero_line(right);
            if self.stride == self.c {
                copy_line(middle, x);
            } else {
                for (x, out) in x.chunks_exact(self.c).zip(middle.chunks_exact_mut(self.stride)) {
                    copy_line(&mut out[..self.c], x);
                    zero_line(&mut out[self.c..]);
                }
            }
        }
        scratch
    }
}

/// A convolution over pictures of one size, or the one that maps its outputs' gradients back to its inputs, with weights
/// laid out for this processor.
#[derive(Debug)]
struct Pass {
    shape: ConvShape,
    vectors: Vectors,
    /// Bias of each output, filled up to whole vectors.
    bias: Vec<f32>,
    way: Way,
}

#[derive(Debug)]
enum Way {
    /// Products of each picture, laid out with its border; together they write every value of the result that is not zero.
    Plain(Border, Vec<(Runs, Panels)>),
    Winograd(Squares, Lines),
}

impl Pass {
    fn forward(vectors: Vectors, shape: ConvShape, weight: &[f32], bias: &[f32]) -> Self {
        let lanes = vectors.lanes();
        let value = |row: usize, output: usize| weight[shape.weight_at(row, output)];
        let panels = Panels::new(shape.depth(), shape.outputs, lanes, value);
        let mut filled = bias.to_vec();
        filled.resize(panels.columns, 0.);
        let way = match Squares::new(shape, lanes) {
            Some(squares) => {
                let points = kernel_points(vectors, squares.tile, &panels, shape.inputs);
                Way::Winograd(squares, points)
            }
            None => {
                let (border, product) = shape.runs();
                Way::Plain(border, vec![(product, panels)])
            }
        };
        Self { shape, vectors, bias: filled, way }
    }

    /// Multiply-adds that [`Pass::run`] executes per picture: Winograd's algorithm takes fewer than direct convolution.
    fn multiply_adds(&self) -> usize {
        match &self.way {
            Way::Plain(_, products) => {
                products.iter().map(|(g, w)| g.h * g.w * g.taps * g.run * w.columns).sum::<usize>()
            }
            Way::Winograd(squares, _) => squares.multiply_adds(self.bias.len()),
        }
    }

    /// The convolution of the pictures `x` with what follows, in the thread's scratch.
    fn run(&self, x: &[f32], then: &Then, y: &mut Unwritten, [from, to, laid]: [&mut Lines; 3]) {
        match &self.way {
            Way::Plain(border, products) => {
                let picture = border.h * border.w * border.c;
                let pictures = x.len() / picture;
                let (result, added) = (y.len() / pictures, then.add.map_or(0, |(add, _)| add.len() / pictures));
                for (i, (x, y)) in x.chunks_exact(picture).zip(y.chunks_exact_mut(result)).enumerate() {
                    let x = border.lay(x, laid);
                    let then = Then { add: then.add.map(|(add, half)| (&add[i * added..][..added], half)), ..*then };
                    for (product, w) in products {
                        self.vectors.runs_product(product, x, &w.values, &self.bias, &then, y);
                    }
                }
            }
            Way::Winograd(squares, points) => {
                self.vectors.squares_product(squares, x, points, &self.bias, then, y, [from, to, laid]);
            }
        }
    }

    /// The same, split into groups of pictures over all threads if there are several.
    fn run_batch(&self, x: &[f32], then: &Then, y: &mut Unwritten) {
        let one = |x: &[f32], then: &Then, y: &mut Unwritten| {
            buffer::with_scratch(|[from, to, laid, ..]| self.run(x, then, y, [from, to, laid]));
        };
        #[cfg(feature = "native")]
        if self.shape.batch > 1 {
            use rayon::prelude::*;
            let batch = self.shape.batch;
            let n = pictures_in_group(batch);
            let [picture, result] = [x.len() / batch, y.len() / batch];
            let added = then.add.map_or(0, |(add, _)| add.len() / batch);
            x.par_chunks(n * picture).zip(y.par_chunks_mut(n * result)).enumerate().for_each(|(group, (x, y))| {
                let part = group * n * added..(group * n + x.len() / picture) * added;
                let add = then.add.map(|(add, half)| (&add[part.clone()], half));
                one(x, &Then { add, ..*then }, y);
            });
            return;
        }
        one(x, then, y);
    }
}

/// Largest number of runs of pictures that a batch is split into.
#[cfg(feature = "native")]
const GROUPS: usize = 8;

#[cfg(feature = "native")]
fn pictures_in_group(batch: usize) -> usize {
    batch.div_ceil(GROUPS).max(1)
}

/// A convolution for inference, batch norm folded in.
#[derive(Debug)]
pub struct Packed {
    /// (outputs, C, kernel, kernel), kept for later inputs of another size than the first.
    weight: Vec<f32>,
    weight_shape: [usize; 4],
    bias: Vec<f32>,
    stride: usize,
    padding: usize,
    /// Prepared for the size and the number of pictures of the first input.
    pass: std::sync::OnceLock<Pass>,
}

/// What follows a convolution in the same pass over memory; a ReLU comes last, but before the pool.
#[derive(Clone, Copy, Debug)]
pub enum Fused<'a> {
    /// Nothing but an optional ReLU.
    Nothing,
    /// A max-pool of 2; an odd remainder at the border is left out.
    MaxPool,
    /// The addition of a map of the output's size.
    Add(&'a Tensor),
    /// The addition of a map of half the output's height and width, each of whose places counts for 2 x 2.
    AddUpsampled(&'a Tensor),
}

impl Packed {
    /// A convolution with `weight` (outputs, C, kernel, kernel) and `bias` (outputs).
    ///
    /// # Errors
    /// Lengths that do not fit the shape.
    pub fn new(
        weight: Vec<f32>,
        weight_shape: [usize; 4],
        bias: Vec<f32>,
        (stride, padding): (usize, usize),
    ) -> Result<Self> {
        if weight.len() != weight_shape.iter().product::<usize>() || bias.len() != weight_shape[0] {
            bail!("conv: {} weights and {} biases do not fit {weight_shape:?}", weight.len(), bias.len());
        }
        Ok(Self { weight, weight_shape, bias, stride, padding, pass: Default::default() })
    }

    /// Multiply-adds executed per picture of the first input's size.
    pub fn multiply_adds(&self) -> usize {
        self.pass.get().map_or(0, Pass::multiply_adds)
    }

    /// `x` (B, H, W, C) -> (B, OH, OW, outputs), with what follows, and `max(., 0)` if `relu`.
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn forward(&self, x: &Tensor, then: Fused, relu: bool) -> Result<Tensor> {
        let op = |pool, half| PackedOp { conv: self, pool, half, relu };
        match then {
            Fused::Nothing => x.apply_op1_no_bwd(&op(false, false)),
            Fused::MaxPool => x.apply_op1_no_bwd(&op(true, false)),
            Fused::Add(add) => x.apply_op2_no_bwd(add, &op(false, false)),
            Fused::AddUpsampled(half) => x.apply_op2_no_bwd(half, &op(false, true)),
        }
    }

    fn run(&self, x: &[f32], shape: &Shape, then: &Then) -> Result<(CpuStorage, Shape)> {
        let shape = ConvShape::new(shape, &self.weight_shape, self.stride, self.padding)?;
        let (b, h, w, c) = shape.out_shape(then.pool);
        if let Some((add, half)) = then.add {
            let (half, odd) = (usize::from(half), (h | w) & usize::from(half));
            if add.len() != b * (h >> half) * (w >> half) * c || odd != 0 {
                bail!("conv: {} values to add do not fit an output of {b} x {h} x {w} x {c}", add.len());
            }
        }
        if then.pool && (h == 0 || w == 0) {
            bail!("conv: a pool of 2 does not fit the output of {shape:?}");
        }
        let prepare = || Pass::forward(Vectors::here(), shape, &self.weight, &self.bias);
        let first = self.pass.get_or_init(prepare);
        let other;
        let pass = if first.shape == shape {
            first
        } else {
            other = prepare();
            &other
        };
        // SAFETY: every place of the output lies in a tile or a square, which writes it.
        let y = unsafe { buffer::written(b * h * w * c, |y| pass.run_batch(x, then, y)) };
        made(y, (b, h, w, c))
    }
}

/// A [`Packed`] convolution and what follows it.
struct PackedOp<'a> {
    conv: &'a Packed,
    /// Whether a max-pool of 2 follows.
    pool: bool,
    /// Whether the second argument, a map to add, has half the output's height and width.
    half: bool,
    relu: bool,
}

impl CustomOp1 for PackedOp<'_> {
    fn name(&self) -> &'static str {
        "face96-conv"
    }

    fn cpu_fwd(&self, x: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        let then = Then { pool: self.pool, ..Then::relu(self.relu) };
        self.conv.run(floats(x, l)?, l.shape(), &then)
    }
}

impl CustomOp2 for PackedOp<'_> {
    fn name(&self) -> &'static str {
        "face96-conv-add"
    }

    fn cpu_fwd(&self, x: &CpuStorage, lx: &Layout, add: &CpuStorage, la: &Layout) -> Result<(CpuStorage, Shape)> {
        let add = Some((floats(add, la)?, self.half));
        self.conv.run(floats(x, lx)?, lx.shape(), &Then { add, ..Then::relu(self.relu) })
    }
}

for_vectors! {
    fn runs_product(g: &Runs, x: &[f32], w: &[f32], bias: &[f32], then: &Then, y: &mut Unwritten);
}

#[cfg(feature = "native")]
pub(super) use training::weights;
#[cfg(feature = "native")]
pub use training::ConvOp;

#[cfg(feature = "native")]
mod training;
