//! A training pass of a net: forward with all that the backward pass needs, then backward along the graph, by our kernels
//! and without the zeros, sums and new memory that candle's autograd makes for each gradient: a third of a step of
//! `compact`. candle's autograd goes from the loss to the net's outputs; from there on it is this. It gives what candle's
//! own ops give ([`crate::train::Device`] has both, and the test).

use super::graph::{Graph, Node, Op};
use super::model::{Model, Output};
use crate::error::Result;
use crate::ops::native::{self, Buffer, ConvShape, Norm, Strides};
use crate::ops::{read, NORM_EPSILON};
use candle_core::{Device, Tensor, Var};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use std::rc::Rc;

/// What a node leaves behind for its backward pass, besides its output.
enum Kept {
    Nothing,
    /// A convolution's sums before its batch norm, and the batch's statistics.
    Norm {
        sums: Buffer,
        mean: Vec<f32>,
        inverse_deviation: Vec<f32>,
    },
    /// A dropout's factors.
    Factors(Buffer),
}

/// A forward pass.
pub struct Tape<'a> {
    model: &'a Model,
    batch: usize,
    /// The output of each node.
    y: Vec<Rc<Buffer>>,
    kept: Vec<Kept>,
    keypoints: Var,
    presence: Option<Var>,
}

impl<'a> Tape<'a> {
    /// Runs the net on pictures (B, 96, 96, 1) as in training: batch norm by the batch's statistics, which also move the
    /// running ones, and dropout.
    ///
    /// # Errors
    /// Only from the tensor library.
    pub fn new(model: &'a Model, pictures: &Tensor, rng: &mut ChaCha8Rng) -> Result<Self> {
        let batch = pictures.dim(0)?;
        let graph = &model.graph;
        let (mut y, mut kept): (Vec<Rc<Buffer>>, Vec<Kept>) = (vec![], vec![]);
        for node in &graph.nodes {
            let x = |n: usize| &y[node.inputs[n]][..];
            let (h, w, c) = graph.input_shape(node);
            let mut keep = Kept::Nothing;
            let out = match node.op {
                Op::Input => read(pictures, |p| Ok(Buffer::copy(p)))?,
                Op::Conv { norm, relu, .. } => {
                    let shape = conv_shape(graph, node, batch);
                    let weight = conv_weight(model, node)?;
                    if norm {
                        let zero = vec![0.; shape.outputs];
                        let sums = native::conv_forward(shape, x(0), &weight, &zero, false);
                        let (mean, var) = native::channel_moments(shape.outputs, &sums);
                        let inverse_deviation: Vec<f32> = var.iter().map(|v| 1. / (v + NORM_EPSILON).sqrt()).collect();
                        let [gamma, beta] = [model.values(node, "norm.weight")?, model.values(node, "norm.bias")?];
                        let (d, norm) = (&inverse_deviation, &mean);
                        let norm = Norm { mean: norm, inverse_deviation: d, gamma: &gamma, beta: &beta, relu };
                        let out = norm.forward(&sums);
                        model.move_running(&node.name, "norm.running_mean", mean.clone())?;
                        model.move_running(&node.name, "norm.running_var", var)?;
                        keep = Kept::Norm { sums, mean, inverse_deviation };
                        out
                    } else {
                        native::conv_forward(shape, x(0), &weight, &model.values(node, "bias")?, relu)
                    }
                }
                Op::MaxPool { size } => native::max_pool((batch, h, w, c), size, x(0)),
                Op::Dense { units, relu } => {
                    let (bias, k) = (model.values(node, "bias")?, h * w * c);
                    let mut out = Buffer::zeros(batch * units);
                    read(model.var(&node.name, "weight"), |w| {
                        native::matmul((batch, k, units), x(0), Strides(k, 1), w, Strides(1, k), &mut out, false, true);
                        Ok(())
                    })?;
                    let floor = if relu { 0. } else { f32::NEG_INFINITY };
                    for out in out.chunks_exact_mut(units) {
                        out.iter_mut().zip(&bias).for_each(|(y, b)| *y = (*y + b).max(floor));
                    }
                    out
                }
                Op::Dropout { rate } => {
                    let keep_rate = 1. - rate;
                    let mut factors = Buffer::zeros(x(0).len());
                    factors
                        .iter_mut()
                        .for_each(|f| *f = if rng.random::<f32>() < keep_rate { 1. / keep_rate } else { 0. });
                    let out = native::zip_map(x(0), &factors, |x, f| x * f);
                    keep = Kept::Factors(factors);
                    out
                }
                Op::Add { relu } => {
                    let floor = if relu { 0. } else { f32::NEG_INFINITY };
                    native::zip_map(x(0), x(1), |a, b| (a + b).max(floor))
                }
                Op::Upsample => native::upsample((batch * h, w, c), x(0)),
                Op::MeanPool => {
                    let mut out = Buffer::zeros(batch * c);
                    for (out, x) in out.chunks_exact_mut(c).zip(x(0).chunks_exact(h * w * c)) {
                        for x in x.chunks_exact(c) {
                            out.iter_mut().zip(x).for_each(|(y, x)| *y += x / (h * w) as f32);
                        }
                    }
                    out
                }
                Op::SoftArgmax => native::soft_argmax((batch, h, w, c), x(0)),
            };
            y.push(Rc::new(out));
            kept.push(keep);
        }
        let leaf = |i: usize, shape: &[usize]| Var::from_slice(&y[i], shape, &Device::Cpu);
        // (B, K, 3) or (B, 1, 2 K), as the shape says; a finder's (B, H, W, C).
        let (h, w, c) = graph.nodes[graph.keypoints].shape;
        let shape = [batch, h, w, c];
        let shape = if graph.keypoints_are_boxes() { shape.to_vec() } else { vec![batch, w, c] };
        let keypoints = leaf(graph.keypoints, &shape)?;
        let presence = graph.presence.map(|i| leaf(i, &[batch, graph.nodes[i].shape.2])).transpose()?;
        Ok(Self { model, batch, y, kept, keypoints, presence })
    }

    /// The net's outputs: the loss is to be made of these.
    pub fn output(&self) -> Output {
        Output {
            keypoints: self.keypoints.as_tensor().clone(),
            presence: self.presence.as_ref().map(|p| p.as_tensor().clone()),
        }
    }

    /// The gradients of a loss on [`Tape::output`], in the order of the model's variables; none for those that are not
    /// trained.
    ///
    /// # Errors
    /// Only from the tensor library.
    pub fn backward(self, loss: &Tensor) -> Result<Vec<Option<Tensor>>> {
        let Self { model, batch, y, mut kept, keypoints, presence } = self;
        let graph = &model.graph;
        let outer = loss.backward()?;
        let mut gradients: Vec<Option<Tensor>> = vec![None; model.vars.len()];
        let mut dy: Vec<Option<Rc<Buffer>>> = vec![None; graph.nodes.len()];
        let outputs = [(Some(graph.keypoints), Some(&keypoints)), (graph.presence, presence.as_ref())];
        for (node, leaf) in outputs {
            if let (Some(node), Some(leaf)) = (node, leaf) {
                if let Some(gradient) = outer.get(leaf.as_tensor()) {
                    accumulate(&mut dy[node], read(gradient, |g| Ok(Rc::new(Buffer::copy(g))))?);
                }
            }
        }
        for (i, node) in graph.nodes.iter().enumerate().rev() {
            // Nothing that the loss depends on, or the picture, whose gradient nobody wants.
            let Some(g) = dy[i].take().filter(|_| !node.inputs.is_empty()) else { continue };
            let x = |n: usize| &y[node.inputs[n]][..];
            let (h, w, c) = graph.input_shape(node);
            let want_x = node.inputs[0] != 0;
            let mut set = |suffix: &str, values: Vec<f32>| -> Result<()> {
                let at = model.index(node, suffix);
                gradients[at] = Some(Tensor::from_vec(values, model.vars[at].1.shape(), &Device::Cpu)?);
                Ok(())
            };
            let through_relu = |relu: bool, g: Rc<Buffer>| match relu {
                true => Rc::new(native::zip_map(&y[i], &g, |y, g| if y > 0. { g } else { 0. })),
                false => g,
            };
            let dx = match node.op {
                Op::Input => continue,
                Op::Conv { norm, relu, .. } => {
                    let shape = conv_shape(graph, node, batch);
                    let weight = conv_weight(model, node)?;
                    let g = match std::mem::replace(&mut kept[i], Kept::Nothing) {
                        Kept::Norm { sums, mean, inverse_deviation } => {
                            let [gamma, beta] = [model.values(node, "norm.weight")?, model.values(node, "norm.bias")?];
                            let (mean, inverse_deviation) = (&mean[..], &inverse_deviation[..]);
                            let norm = Norm { mean, inverse_deviation, gamma: &gamma, beta: &beta, relu };
                            let (g, d_gamma, d_beta) = norm.backward(&sums, &g);
                            set("norm.weight", d_gamma)?;
                            set("norm.bias", d_beta)?;
                            Rc::new(g)
                        }
                        _ => through_relu(relu, g),
                    };
                    let found = native::conv_backward(shape, x(0), &weight, &g, (want_x, !norm));
                    let (k, o) = (shape.kernel, shape.outputs);
                    let turned = Tensor::from_vec(found.w, (k, k, c, o), &Device::Cpu)?.permute((3, 2, 0, 1))?;
                    gradients[model.index(node, "weight")] = Some(turned.contiguous()?);
                    if !norm {
                        let at = model.index(node, "bias");
                        gradients[at] = Some(Tensor::from_vec(found.bias, o, &Device::Cpu)?);
                    }
                    found.x
                }
                Op::MaxPool { size } => Some(native::max_pool_backward((batch, h, w, c), size, x(0), &y[i], &g)),
                Op::Dense { units, relu } => {
                    let g = through_relu(relu, g);
                    let k = h * w * c;
                    let mut dw = vec![0f32; units * k];
                    native::matmul((units, batch, k), &g, Strides(1, units), x(0), Strides(k, 1), &mut dw, false, true);
                    set("weight", dw)?;
                    let mut db = vec![0f32; units];
                    g.chunks_exact(units).for_each(|g| db.iter_mut().zip(g).for_each(|(b, g)| *b += g));
                    set("bias", db)?;
                    want_x
                        .then(|| Buffer::zeros(batch * k))
                        .map(|mut dx| {
                            read(model.var(&node.name, "weight"), |w| {
                                let shape = (batch, units, k);
                                native::matmul(shape, &g, Strides(units, 1), w, Strides(k, 1), &mut dx, false, true);
                                Ok(dx)
                            })
                        })
                        .transpose()?
                }
                Op::Dropout { .. } => match &kept[i] {
                    Kept::Factors(factors) => Some(native::zip_map(&g, factors, |g, f| g * f)),
                    _ => None,
                },
                Op::Add { relu } => {
                    let g = through_relu(relu, g);
                    node.inputs.iter().for_each(|input| accumulate(&mut dy[*input], g.clone()));
                    continue;
                }
                Op::Upsample => Some(native::upsample_backward((batch * h, w, c), &g)),
                Op::MeanPool => {
                    let mut dx = Buffer::zeros(batch * h * w * c);
                    for (dx, g) in dx.chunks_exact_mut(h * w * c).zip(g.chunks_exact(c)) {
                        for dx in dx.chunks_exact_mut(c) {
                            dx.iter_mut().zip(g).for_each(|(x, g)| *x = g / (h * w) as f32);
                        }
                    }
                    Some(dx)
                }
                Op::SoftArgmax => Some(native::soft_argmax_backward((batch, h, w, c), x(0), &y[i], &g)),
            };
            if let Some(dx) = dx {
                accumulate(&mut dy[node.inputs[0]], Rc::new(dx));
            }
        }
        Ok(gradients)
    }
}

/// Adds a gradient to what came from other uses of the same output.
fn accumulate(sum: &mut Option<Rc<Buffer>>, more: Rc<Buffer>) {
    *sum = Some(match sum.take() {
        None => more,
        Some(mut sum) => {
            match Rc::get_mut(&mut sum) {
                Some(sum) => native::add_to(sum, &more),
                None => sum = Rc::new(native::zip_map(&sum, &more, |a, b| a + b)),
            }
            sum
        }
    });
}

fn conv_shape(graph: &Graph, node: &Node, batch: usize) -> ConvShape {
    let Op::Conv { kernel, stride, padding, channels, .. } = node.op else {
        unreachable!("asked for convolutions only")
    };
    let (height, width, inputs) = graph.input_shape(node);
    ConvShape { batch, height, width, inputs, kernel, stride, padding, outputs: channels }
}

/// From (O, C, kernel, kernel) to the kernels' (kernel, kernel, C, O).
fn conv_weight(model: &Model, node: &Node) -> Result<Vec<f32>> {
    let weight = model.var(&node.name, "weight").as_tensor();
    Ok(weight.permute((2, 3, 1, 0))?.contiguous()?.flatten_all()?.to_vec1()?)
}
