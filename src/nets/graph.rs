//! A net as data: a list of steps, each with its inputs and the shape it gives. Training (candle, with gradients), the
//! browser's plan (fixed buffers, no allocation) and the ONNX export all walk the same list, so they cannot drift apart.
//!
//! Activations are (B, H, W, C): channels lie next to each other, which makes a convolution a matrix product of pixels
//! with a (kernel * kernel * C, channels) matrix, and a dense layer's input the (H, W, C) order.

use crate::error::{Error, Result};
use serde::Serialize;

/// (height, width, channels) of one picture's activations.
pub type Shape = (usize, usize, usize);

/// What a step does.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Op {
    /// The grey picture.
    Input,
    /// Convolution with a square kernel, zero padding on all sides. Weight `NAME.weight` (channels, C, kernel, kernel),
    /// `NAME.bias` (channels); with `norm`, batch norm `NAME.norm.{weight,bias,running_mean,running_var}` in place of a
    /// bias, folded into weight and bias at export.
    Conv {
        /// Side of the kernel.
        kernel: usize,
        /// Step between outputs.
        stride: usize,
        /// Zeros added on each side.
        padding: usize,
        /// Output channels.
        channels: usize,
        /// Batch norm follows.
        norm: bool,
        /// `max(x, 0)` follows.
        relu: bool,
    },
    /// Maximum over `size` x `size` squares, stride `size`; a rest at the border is left out.
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
    /// In training, zeroes each value with this probability and scales the rest up; otherwise nothing.
    Dropout {
        /// Probability.
        rate: f32,
    },
    /// Sum of two inputs of one shape, `max(x, 0)` follows if `relu`.
    Add {
        /// `max(x, 0)` follows.
        relu: bool,
    },
    /// Each pixel becomes 2 x 2.
    Upsample,
    /// Mean over height and width.
    MeanPool,
    /// Softmax of each channel's heatmap over all places, then the expected place: (1, C, 3) of x and y in [-1, 1] (the
    /// edges of the crop are at -1 and 1) and the heatmap's variance (of x plus of y). DSNT, Nibali et al. 2018.
    SoftArgmax,
}

/// A step.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Node {
    /// Name: the path of its weights.
    pub name: String,
    /// What it does.
    #[serde(flatten)]
    pub op: Op,
    /// The steps whose outputs it takes.
    pub inputs: Vec<usize>,
    /// What it gives for one picture.
    pub shape: Shape,
}

/// A net.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Graph {
    /// Steps in the order to run; the first is the input.
    pub nodes: Vec<Node>,
    /// The step that gives keypoints: (1, K, 3) from heatmaps, or (1, 1, 2 K) from a regression net.
    pub keypoints: usize,
    /// The step that gives logits: of "this is a face", and, where it has 1 + K of them, of "keypoint k is right", (1, 1, 1)
    /// or (1, 1, 1 + K).
    pub presence: Option<usize>,
}

/// A weight of a net: its name and shape, and how it is initialised.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameter {
    /// Path in the weights file.
    pub name: String,
    /// Shape.
    pub shape: Vec<usize>,
    /// Initial value.
    pub init: Init,
    /// False for batch norm's running statistics.
    pub trained: bool,
}

/// Initial values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// All the same.
    Constant(f32),
    /// Uniform in plus or minus this: Glorot and Bengio 2010, or He et al. 2015, by the layer.
    Uniform(f32),
}

impl Graph {
    /// A net that is only its input yet.
    pub fn new(input: Shape) -> Self {
        let node = Node { name: "input".into(), op: Op::Input, inputs: vec![], shape: input };
        Self { nodes: vec![node], keypoints: 0, presence: None }
    }

    /// Adds a step on the given inputs and returns its index.
    ///
    /// # Errors
    /// Shapes that do not fit the step.
    pub fn push(&mut self, name: &str, op: Op, inputs: &[usize]) -> Result<usize> {
        let bad = |what: String| Error::Config(format!("net: step '{name}': {what}"));
        let (h, w, c) = self.nodes[inputs[0]].shape;
        let shape = match op {
            Op::Input => return Err(bad("a net has one input".into())),
            Op::Conv { kernel, stride, padding, channels, .. } => {
                let side = |n: usize| (n + 2 * padding).checked_sub(kernel).map(|n| n / stride + 1);
                match (side(h), side(w)) {
                    (Some(h), Some(w)) if channels > 0 => (h, w, channels),
                    _ => return Err(bad(format!("a kernel of {kernel} does not fit {h} x {w} x {c}"))),
                }
            }
            Op::MaxPool { size } if h >= size && w >= size => (h / size, w / size, c),
            Op::MaxPool { size } => return Err(bad(format!("a pool of {size} does not fit {h} x {w}"))),
            Op::Dense { units, .. } => (1, 1, units),
            Op::Dropout { .. } => (h, w, c),
            Op::Add { .. } => {
                let other = self.nodes[inputs[1]].shape;
                if other != (h, w, c) {
                    return Err(bad(format!("inputs differ: {:?} and {other:?}", (h, w, c))));
                }
                (h, w, c)
            }
            Op::Upsample => (2 * h, 2 * w, c),
            Op::MeanPool => (1, 1, c),
            Op::SoftArgmax => (1, c, 3),
        };
        self.nodes.push(Node { name: name.into(), op, inputs: inputs.to_vec(), shape });
        Ok(self.nodes.len() - 1)
    }

    /// Whether the result is a finder's: a box at each of many places.
    pub fn keypoints_are_boxes(&self) -> bool {
        self.nodes[self.keypoints].shape.0 > 1
    }

    /// The shape that goes into a step.
    pub fn input_shape(&self, node: &Node) -> Shape {
        node.inputs.first().map_or(node.shape, |i| self.nodes[*i].shape)
    }

    /// All weights with their shapes, in the order of the steps.
    pub fn parameters(&self) -> Vec<Parameter> {
        let mut all = Vec::new();
        for node in &self.nodes {
            let (h, w, c) = self.input_shape(node);
            let mut add = |suffix: &str, shape: &[usize], init: Init, trained: bool| {
                let name = format!("{}.{suffix}", node.name);
                all.push(Parameter { name, shape: shape.to_vec(), init, trained });
            };
            match node.op {
                Op::Conv { kernel, channels, norm, relu, .. } => {
                    let fan_in = c * kernel * kernel;
                    let bound = match (norm, relu) {
                        // He et al. 2015.
                        (true, _) => (6. / fan_in as f32).sqrt(),
                        // Glorot and Bengio 2010: what Lasagne does by default, and so the tutorial.
                        (false, true) => (6. / (fan_in + channels * kernel * kernel) as f32).sqrt(),
                        // Small, so that heatmaps start flat.
                        (false, false) => 0.5 / (fan_in as f32).sqrt(),
                    };
                    add("weight", &[channels, c, kernel, kernel], Init::Uniform(bound), true);
                    if norm {
                        add("norm.weight", &[channels], Init::Constant(1.), true);
                        add("norm.bias", &[channels], Init::Constant(0.), true);
                        add("norm.running_mean", &[channels], Init::Constant(0.), false);
                        add("norm.running_var", &[channels], Init::Constant(1.), false);
                    } else {
                        add("bias", &[channels], Init::Constant(0.), true);
                    }
                }
                Op::Dense { units, .. } => {
                    // Glorot, as Lasagne's DenseLayer has by default and so the tutorial.
                    let bound = (6. / (h * w * c + units) as f32).sqrt();
                    add("weight", &[units, h * w * c], Init::Uniform(bound), true);
                    add("bias", &[units], Init::Constant(0.), true);
                }
                _ => {}
            }
        }
        all
    }

    /// The same net with batch norm folded into its convolutions: what the browser runs.
    pub fn folded(&self) -> Self {
        let mut graph = self.clone();
        for node in &mut graph.nodes {
            if let Op::Conv { norm, .. } = &mut node.op {
                *norm = false;
            }
        }
        graph
    }

    /// Multiply-adds of one picture's forward pass.
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
