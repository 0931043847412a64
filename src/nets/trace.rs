//! A net as a list of steps, as its own forward pass reports it ([`Mode::Watch`]): for exports, for other runtimes in benchmarks,
//! and for profiles. Because the pass itself reports the list, it always matches what runs.

use super::layers::Mode;
use super::{Net, Output, SIDE};
use candle_core::{Device, Result, Tensor, TensorId};
use serde::Serialize;
use std::cell::RefCell;

/// What a layer computed, in one pass over memory.
pub struct Call<'a> {
    /// The layer's name: the path of its weights.
    pub name: &'a str,
    /// Its operations, in order.
    pub ops: Vec<Op>,
    /// Its input.
    pub x: &'a Tensor,
    /// The second input of [`Op::Upsample`] and [`Op::Add`].
    pub add: Option<&'a Tensor>,
    /// Its output.
    pub y: &'a Tensor,
    /// Multiply-adds executed; Winograd's algorithm takes fewer than direct convolution.
    pub multiply_adds: usize,
}

/// The operation of a step.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Op {
    /// The grey picture.
    Input,
    /// Convolution with a square kernel, zero padding on all sides. Weight `NAME.weight` (channels, C, kernel, kernel),
    /// `NAME.bias` (channels).
    Conv {
        /// Side of the kernel.
        kernel: usize,
        /// Step between outputs.
        stride: usize,
        /// Zeros added on each side.
        padding: usize,
        /// Output channels.
        channels: usize,
        /// Batch norm follows, instead of a bias.
        norm: bool,
        /// `max(x, 0)` follows.
        relu: bool,
    },
    /// Maximum over `size` x `size` squares, stride `size`; a remainder at the border is left out.
    MaxPool {
        /// Side and stride.
        size: usize,
    },
    /// Fully connected, on the (H, W, C) order. Weight (units, H * W * C), bias (units).
    Dense {
        /// Outputs.
        units: usize,
        /// `max(x, 0)` follows.
        relu: bool,
    },
    /// Sum of two inputs of the same shape; `max(x, 0)` follows if `relu`.
    Add {
        /// `max(x, 0)` follows.
        relu: bool,
    },
    /// Each pixel becomes 2 x 2.
    Upsample,
    /// Mean over height and width.
    MeanPool,
    /// See [`crate::ops::heatmap::SoftArgmax`]: (1, C, 3).
    SoftArgmax,
}

impl Op {
    /// Sets whether batch norm follows, if this is a convolution.
    #[cfg(feature = "native")]
    pub(crate) fn set_norm(&mut self, follows: bool) {
        if let Self::Conv { norm, .. } = self {
            *norm = follows;
        }
    }
}

/// (height, width, channels) of one picture's activations.
pub type Dims = (usize, usize, usize);

/// A step.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Node {
    /// Name: the path of its weights.
    pub name: String,
    /// The operation.
    #[serde(flatten)]
    pub op: Op,
    /// The steps whose outputs it takes.
    pub inputs: Vec<usize>,
    /// The shape of its output for one picture.
    pub shape: Dims,
}

/// A net's steps.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Graph {
    /// Steps in the order in which they run; the first is the input.
    pub nodes: Vec<Node>,
    /// The step that outputs keypoints: (1, K, 3) from heatmaps, (1, 1, 2 K) from a regression net; or a finder's boxes.
    pub keypoints: usize,
    /// The step that outputs logits: of "this is a face", and, if there are 1 + K of them, of "keypoint k is right".
    pub presence: Option<usize>,
}

impl Graph {
    /// The steps of a net without batch norms, from one pass over an empty picture.
    ///
    /// # Errors
    /// The errors of the pass.
    pub fn of(net: &Net) -> Result<Self> {
        let input = Tensor::zeros((1, SIDE, SIDE, 1), candle_core::DType::F32, &Device::Cpu)?;
        let first = Node { name: "input".into(), op: Op::Input, inputs: vec![], shape: (SIDE, SIDE, 1) };
        // A tensor's id is unique only while the tensor lives, so all of them are held until the end.
        let known: RefCell<Vec<(TensorId, usize, Tensor)>> = RefCell::new(vec![(input.id(), 0, input.clone())]);
        let nodes = RefCell::new(vec![first]);
        let at = |known: &[(TensorId, usize, Tensor)], x: &Tensor| {
            known.iter().find(|(id, ..)| *id == x.id()).map(|(_, at, _)| *at).expect("made by an earlier step")
        };
        let output = net.forward_t(
            &input,
            &Mode::Watch(&|call| {
                let (mut nodes, mut known) = (nodes.borrow_mut(), known.borrow_mut());
                let mut last = at(&known, call.x);
                let mut second = call.add.map(|add| at(&known, add));
                for op in &call.ops {
                    let inputs = match op {
                        Op::Upsample => vec![second.expect("an addition gives it")],
                        Op::Add { .. } => vec![last, second.expect("an addition gives it")],
                        _ => vec![last],
                    };
                    let shape = shape_of(op, nodes[inputs[0]].shape);
                    let name = match op {
                        Op::MaxPool { .. } => format!("{}.pool", call.name),
                        Op::Add { .. } => format!("{}.add", call.name),
                        Op::Upsample => format!("{}.up", call.name),
                        _ => call.name.to_string(),
                    };
                    nodes.push(Node { name, op: op.clone(), inputs, shape });
                    if *op == Op::Upsample {
                        second = Some(nodes.len() - 1);
                    } else {
                        last = nodes.len() - 1;
                    }
                }
                known.push((call.y.id(), last, call.y.clone()));
            }),
        )?;
        let known = known.into_inner();
        let (keypoints, presence) = match &output {
            Output::Heatmaps { places, logits } => (at(&known, places), Some(at(&known, logits))),
            Output::Points(points) => (at(&known, points), None),
            Output::Boxes(boxes) => (at(&known, boxes), None),
        };
        Ok(Self { nodes: nodes.into_inner(), keypoints, presence })
    }

    /// The shape of a step's input.
    pub fn input_shape(&self, node: &Node) -> Dims {
        node.inputs.first().map_or(node.shape, |i| self.nodes[*i].shape)
    }

    /// Multiply-adds of one picture's forward pass, with convolutions computed directly.
    pub fn multiply_adds(&self) -> u64 {
        let of = |node: &Node| {
            let ((ih, iw, ic), (h, w, c)) = (self.input_shape(node), node.shape);
            match node.op {
                Op::Conv { kernel, .. } => h * w * c * ic * kernel * kernel,
                Op::Dense { units, .. } => ih * iw * ic * units,
                _ => 0,
            }
        };
        self.nodes.iter().map(|node| of(node) as u64).sum()
    }
}

/// The shape of a step's output for an input of (h, w, c).
fn shape_of(op: &Op, (h, w, c): Dims) -> Dims {
    match *op {
        Op::Input | Op::Add { .. } => (h, w, c),
        Op::Conv { kernel, stride, padding, channels, .. } => {
            let side = |n: usize| (n + 2 * padding - kernel) / stride + 1;
            (side(h), side(w), channels)
        }
        Op::MaxPool { size } => (h / size, w / size, c),
        Op::Dense { units, .. } => (1, 1, units),
        Op::Upsample => (2 * h, 2 * w, c),
        Op::MeanPool => (1, 1, c),
        Op::SoftArgmax => (1, c, 3),
    }
}
