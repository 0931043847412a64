//! The graph by candle's own ops, on any device of candle's: how a run trains elsewhere than on the CPU, the measure of our
//! kernels in tests, and one of those compared in `make bench`. Written as a user of candle would write it, on (B, C, H, W).

use super::graph::{Graph, Op};
use crate::ops::NORM_EPSILON;
use candle_core::{Result, Tensor, D};
use rand::Rng;
use rand_chacha::ChaCha8Rng;

/// What a training pass draws from, and what it leaves behind.
pub struct Training<'a> {
    /// Of dropout.
    pub rng: &'a mut ChaCha8Rng,
    /// The batch's mean and biased variance of each channel, by the name of the batch norm's convolution.
    pub moments: Vec<(String, Tensor, Tensor)>,
}

/// Runs a net on (B, 1, H, W) pictures, with the weights that `weight` gives by name, and returns what every step gives.
/// Batch norms that are not folded take the batch's own statistics; dropout drops in training only.
///
/// # Errors
/// Those of `weight`, and shapes that do not fit.
pub fn forward(
    graph: &Graph,
    pictures: &Tensor,
    mut training: Option<&mut Training>,
    weight: impl Fn(&str) -> Result<Tensor>,
) -> Result<Vec<Tensor>> {
    let mut all: Vec<Tensor> = Vec::with_capacity(graph.nodes.len());
    for node in &graph.nodes {
        let (h, w, c) = graph.input_shape(node);
        let x = |n: usize| &all[node.inputs[n]];
        let get = |suffix: &str| weight(&format!("{}.{suffix}", node.name));
        let channels = |values: Tensor| values.reshape((1, (), 1, 1));
        let b = pictures.dim(0)?;
        let (y, relu) = match node.op {
            Op::Input => (pictures.clone(), false),
            Op::Conv { stride, padding, norm, relu, .. } => {
                let y = x(0).conv2d(&get("weight")?, padding, stride, 1, 1)?;
                let y = if norm {
                    let mean = y.mean_keepdim((0, 2, 3))?;
                    let centred = y.broadcast_sub(&mean)?;
                    let variance = centred.sqr()?.mean_keepdim((0, 2, 3))?;
                    let normed = centred.broadcast_div(&(&variance + f64::from(NORM_EPSILON))?.sqrt()?)?;
                    if let Some(training) = &mut training {
                        let of = |t: &Tensor| t.detach().flatten_all();
                        training.moments.push((node.name.clone(), of(&mean)?, of(&variance)?));
                    }
                    let scaled = normed.broadcast_mul(&channels(get("norm.weight")?)?)?;
                    scaled.broadcast_add(&channels(get("norm.bias")?)?)?
                } else {
                    y.broadcast_add(&channels(get("bias")?)?)?
                };
                (y, relu)
            }
            Op::MaxPool { size } if training.is_some() => (max_pool(x(0), (b, c, h, w), size)?, false),
            Op::MaxPool { size } => (x(0).max_pool2d(size)?, false),
            Op::Dense { units, relu } => {
                // Our weights are in (H, W, C) order.
                let flat = x(0).permute((0, 2, 3, 1))?.contiguous()?.reshape((b, h * w * c))?;
                let y = flat.matmul(&get("weight")?.t()?)?.broadcast_add(&get("bias")?)?;
                (y.reshape((b, units, 1, 1))?, relu)
            }
            Op::Dropout { rate } => match &mut training {
                None => (x(0).clone(), false),
                Some(training) => {
                    let keep = 1. - rate;
                    let factor = |_| if training.rng.random::<f32>() < keep { 1. / keep } else { 0. };
                    // Drawn in the order of our kernels, so that the same seed drops the same.
                    let factors: Vec<f32> = (0..b * h * w * c).map(factor).collect();
                    let factors = Tensor::from_vec(factors, (b, h, w, c), pictures.device())?;
                    ((x(0) * factors.permute((0, 3, 1, 2))?)?, false)
                }
            },
            Op::Add { relu } => ((x(0) + x(1))?, relu),
            Op::Upsample => (x(0).upsample_nearest2d(2 * h, 2 * w)?, false),
            Op::MeanPool => (x(0).mean_keepdim((2, 3))?, false),
            Op::SoftArgmax => {
                let flat = x(0).reshape((b, c, h * w))?;
                let e = flat.broadcast_sub(&flat.max_keepdim(D::Minus1)?)?.exp()?;
                let p = e.broadcast_div(&e.sum_keepdim(D::Minus1)?)?;
                let at = |i: usize, n: usize| (2 * i + 1) as f32 / n as f32 - 1.;
                let places = (0..h * w).flat_map(|i| {
                    let (u, v) = (at(i % w, w), at(i / w, h));
                    [u, v, u * u + v * v]
                });
                let places = Tensor::from_vec(places.collect::<Vec<_>>(), (h * w, 3), pictures.device())?;
                let mean = p.reshape((b * c, h * w))?.matmul(&places)?.reshape((b, c, 3))?;
                let (xy, squares) = (mean.narrow(2, 0, 2)?, mean.narrow(2, 2, 1)?);
                let variance = (squares - xy.sqr()?.sum_keepdim(2)?)?;
                // As one picture of K rows of (x, y, variance).
                (Tensor::cat(&[&xy, &variance], 2)?.permute((0, 2, 1))?.unsqueeze(2)?, false)
            }
        };
        all.push(if relu { y.relu()? } else { y });
    }
    Ok(all)
}

/// With a gradient, which goes to the first of equals: that of candle 0.11's `max_pool2d` comes out divided by
/// `size * size`, and that of its `max` goes to all of them.
fn max_pool(x: &Tensor, (b, c, h, w): (usize, usize, usize, usize), size: usize) -> Result<Tensor> {
    let (h, w) = (h / size, w / size);
    let whole = x.narrow(2, 0, h * size)?.narrow(3, 0, w * size)?.contiguous()?;
    let squares = whole.reshape((b, c, h, size, w, size))?.permute((0, 1, 2, 4, 3, 5))?.contiguous()?;
    let squares = squares.reshape((b, c, h, w, size * size))?;
    squares.gather(&squares.detach().argmax_keepdim(4)?, 4)?.squeeze(4)
}
