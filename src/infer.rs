//! Running a net on one picture, fast and without allocating: weights are laid out once for the kernels of
//! [`crate::ops::wasm`], all activations share one arena. The browser and the command line both come through here.
//!
//! In: a grey or RGBA crop of 96 x 96. Out: face presence, and for each keypoint its place in pixels of the crop and a
//! confidence.

use crate::error::{Error, Result};
use crate::geometry::CropBox;
use crate::nets::graph::{Graph, Node, Op};
use crate::nets::{FINDER_SIZE, FINDER_VALUES, SIDE};
use crate::ops::wasm::{self as kernels, Conv, ConvShape, Dense, Lines, Map, Residual};
use crate::picture::{grey_from_rgba, Normalisation};
use crate::weights::{Calibration, Weights};
use std::ops::Range;

/// A folded [`Graph`] ready to run on one picture.
///
/// Steps are fused where that saves a pass over memory: a convolution takes the residual addition it feeds (and the
/// upsampling of the other summand), or the max-pool of 2 that follows it; bias and ReLU are always its own. Dropout is
/// nothing here. Activations that are not needed any more give their place in the arena to later ones.
pub struct Plan {
    steps: Vec<Step>,
    arena: Lines,
    scratch: Lines,
    input: Vec<f32>,
    keypoints: Range<usize>,
    presence: Option<Range<usize>>,
}

/// An activation: where in the arena it begins, and how it lies there.
#[derive(Clone, Copy, Debug)]
struct Place {
    at: usize,
    map: Map,
}

impl Place {
    fn range(&self) -> Range<usize> {
        self.at..self.at + self.map.len()
    }
}

/// A kernel call; `x` are its inputs, `name` is that of the node whose activation it gives.
struct Step {
    name: String,
    kernel: Kernel,
    x: Vec<Place>,
    y: Place,
}

enum Kernel {
    Input,
    /// The second input, if there is one, is added; `half` if it is half as high and wide.
    Conv {
        conv: Conv,
        half: bool,
    },
    Dense(Dense),
    MaxPool(usize),
    Add {
        relu: bool,
    },
    Upsample,
    MeanPool,
    SoftArgmax,
}

/// What is left of the graph after fusion: `node` gives the activation, `conv` is a convolution computed on the way.
struct Fused {
    node: usize,
    conv: Option<usize>,
    half: bool,
    inputs: Vec<usize>,
}

impl Plan {
    /// Plans `graph` with the weights that `tensor` gives by name, in the order of the weights file: convolutions
    /// (O, I, kernel, kernel), dense layers (units, H * W * C), biases (channels).
    ///
    /// # Errors
    /// A graph whose batch norms are not folded, a tensor that `tensor` does not give or that has another length.
    pub fn new(graph: &Graph, tensor: impl Fn(&str) -> Result<Vec<f32>>) -> Result<Self> {
        let fused = fuse(graph);
        let maps = maps(graph, &fused);
        let (places, size) = place(graph, &fused, &maps);
        let mut scratch = 0;
        let mut steps = Vec::with_capacity(fused.len());
        for step in &fused {
            let kernel = kernel(graph, step, &maps, &tensor)?;
            if let Kernel::Conv { conv, .. } = &kernel {
                scratch = scratch.max(conv.scratch(maps[step.inputs[0]]));
            }
            let place = |i: usize| Place { at: places[i], map: maps[i] };
            let name = graph.nodes[step.node].name.clone();
            steps.push(Step { name, kernel, x: step.inputs.iter().map(|i| place(*i)).collect(), y: place(step.node) });
        }
        let output = source(graph, graph.keypoints);
        let (h, w, c) = graph.nodes[0].shape;
        Ok(Self {
            steps,
            arena: Lines::new(size),
            scratch: Lines::new(scratch),
            input: vec![0.; h * w * c],
            keypoints: places[output]..places[output] + maps[output].h * maps[output].w * maps[output].stride,
            presence: graph.presence.map(|i| {
                let at = places[source(graph, i)];
                at..at + graph.nodes[i].shape.2
            }),
        })
    }

    /// The (H, W, C) input, (96, 96, 1) normalised grey values: write here, then [`Plan::run`]. It keeps its values.
    pub fn input(&mut self) -> &mut [f32] {
        &mut self.input
    }

    /// Runs the net on the input. Allocates nothing.
    pub fn run(&mut self) {
        for step in &self.steps {
            step.run(&mut self.arena, &mut self.scratch, &self.input);
        }
    }

    /// The graph's `keypoints` after [`Plan::run`]: K times (x, y, variance) from heatmaps, x and y in [-1, 1] with the
    /// crop's edges at the ends; or 2 K values of a regression net.
    pub fn keypoints(&self) -> &[f32] {
        &self.arena[self.keypoints.clone()]
    }

    /// The logit of "this is a face", if the net has that output, and after it perhaps that of "right" for each keypoint.
    pub fn presence(&self) -> &[f32] {
        self.presence.clone().map_or(&[], |range| &self.arena[range])
    }

    /// Bytes that the plan holds for activations and scratch.
    pub fn activation_bytes(&self) -> usize {
        4 * (self.arena.len() + self.scratch.len() + self.input.len())
    }

    /// Runs one step at a time and calls `lap` after each with the name of the activation that it gave and the
    /// multiply-adds that it made: the profile of a frame.
    pub fn run_steps(&mut self, mut lap: impl FnMut(&str, u64)) {
        for step in &self.steps {
            step.run(&mut self.arena, &mut self.scratch, &self.input);
            let multiply_adds = match &step.kernel {
                Kernel::Conv { conv, .. } => conv.multiply_adds(step.x[0].map),
                Kernel::Dense(dense) => dense.multiply_adds(),
                _ => 0,
            };
            lap(&step.name, multiply_adds);
        }
    }
}

impl Step {
    fn run(&self, arena: &mut [f32], scratch: &mut [f32], input: &[f32]) {
        // The output apart from the rest, in which the inputs lie: `place` sees to it that none overlaps the output.
        let (before, rest) = arena.split_at_mut(self.y.at);
        let (y, after) = rest.split_at_mut(self.y.map.len());
        let x = |i: usize| {
            let Range { start, end } = self.x[i].range();
            let x = if end <= before.len() {
                &before[start..end]
            } else {
                let skip = before.len() + self.y.map.len();
                &after[start - skip..end - skip]
            };
            (x, self.x[i].map)
        };
        let ym = self.y.map;
        ym.clear_border(y);
        match &self.kernel {
            Kernel::Input => kernels::copy_input(input, y, ym),
            Kernel::Conv { conv, half } => {
                let residual = (self.x.len() > 1).then(|| Residual { x: x(1).0, map: x(1).1, half: *half });
                conv.run(x(0), residual, (y, ym), scratch);
            }
            Kernel::Dense(dense) => dense.run(x(0).0, y),
            Kernel::MaxPool(size) => kernels::max_pool(x(0).0, x(0).1, y, ym, *size),
            Kernel::Add { relu } => kernels::add(x(0), x(1), y, ym, *relu),
            Kernel::Upsample => kernels::upsample(x(0).0, x(0).1, y, ym),
            Kernel::MeanPool => kernels::mean_pool(x(0).0, x(0).1, y),
            Kernel::SoftArgmax => kernels::soft_argmax(x(0).0, x(0).1, y),
        }
    }
}

/// The step whose activation node `i` is: itself, or what goes into a dropout.
fn source(graph: &Graph, mut i: usize) -> usize {
    while matches!(graph.nodes[i].op, Op::Dropout { .. }) {
        i = graph.nodes[i].inputs[0];
    }
    i
}

/// Joins steps: convolution and pool, convolution and addition, addition and upsampling. An addition's convolution is
/// computed in the addition's turn, when all it needs is there.
fn fuse(graph: &Graph) -> Vec<Fused> {
    let inputs = |i: usize| graph.nodes[i].inputs.iter().map(|j| source(graph, *j)).collect::<Vec<_>>();
    let mut uses = vec![0; graph.nodes.len()];
    for i in 0..graph.nodes.len() {
        if !matches!(graph.nodes[i].op, Op::Dropout { .. }) {
            inputs(i).into_iter().for_each(|j| uses[j] += 1);
        }
    }
    for i in [Some(graph.keypoints), graph.presence].into_iter().flatten() {
        uses[source(graph, i)] += 1;
    }
    let mut absorbed = vec![false; graph.nodes.len()];
    let mut fused = Vec::new();
    for (i, node) in graph.nodes.iter().enumerate() {
        let mut step = Fused { node: i, conv: None, half: false, inputs: inputs(i) };
        match node.op {
            Op::Dropout { .. } => continue,
            Op::MaxPool { size: 2 } => {
                let x = step.inputs[0];
                if uses[x] == 1 && matches!(graph.nodes[x].op, Op::Conv { .. }) {
                    absorbed[x] = true;
                    (step.conv, step.inputs) = (Some(x), inputs(x));
                }
            }
            Op::Add { .. } => {
                let plain = |x: usize| uses[x] == 1 && matches!(graph.nodes[x].op, Op::Conv { relu: false, .. });
                if let Some(n) = step.inputs.iter().position(|x| plain(*x)) {
                    let (conv, mut other) = (step.inputs[n], step.inputs[1 - n]);
                    absorbed[conv] = true;
                    if uses[other] == 1 && graph.nodes[other].op == Op::Upsample {
                        absorbed[other] = true;
                        (other, step.half) = (inputs(other)[0], true);
                    }
                    (step.conv, step.inputs) = (Some(conv), vec![inputs(conv)[0], other]);
                }
            }
            Op::Conv { .. } => step.conv = Some(i),
            _ => {}
        }
        fused.push(step);
    }
    fused.retain(|step| !absorbed[step.node]);
    fused
}

/// How each activation is laid out: with the widest border that a convolution on it asks for.
fn maps(graph: &Graph, fused: &[Fused]) -> Vec<Map> {
    let mut maps: Vec<Map> = graph
        .nodes
        .iter()
        .map(|node| {
            let (h, w, c) = node.shape;
            // The input is read by a convolution's runs or a dense layer, the result of soft-argmax by the caller: no
            // vector of channels is loaded from these, so they have no gaps.
            let tight = matches!(node.op, Op::Input | Op::SoftArgmax);
            if tight {
                Map { h, w, c, stride: c, pad: 0 }
            } else {
                Map::new(h, w, c, 0)
            }
        })
        .collect();
    for step in fused {
        if let Some(Op::Conv { padding, .. }) = step.conv.map(|conv| &graph.nodes[conv].op) {
            let pad = &mut maps[step.inputs[0]].pad;
            *pad = (*pad).max(*padding);
        }
    }
    maps
}

/// Gives each activation its place in the arena: the lowest that is free from its step to its last use. Returns the
/// places and the arena's size.
fn place(graph: &Graph, fused: &[Fused], maps: &[Map]) -> (Vec<usize>, usize) {
    let mut last = vec![0; graph.nodes.len()];
    for (turn, step) in fused.iter().enumerate() {
        step.inputs.iter().for_each(|i| last[*i] = turn);
    }
    for i in [Some(graph.keypoints), graph.presence].into_iter().flatten() {
        last[source(graph, i)] = fused.len();
    }
    let mut places = vec![0; graph.nodes.len()];
    let mut live: Vec<(Range<usize>, usize)> = Vec::new();
    let mut size = 0;
    for (turn, step) in fused.iter().enumerate() {
        live.retain(|(_, last)| *last >= turn);
        live.sort_by_key(|(range, _)| range.start);
        let (mut at, len) = (0, maps[step.node].len());
        for (range, _) in &live {
            if at + len <= range.start {
                break;
            }
            at = at.max(range.end);
        }
        places[step.node] = at;
        live.push((at..at + len, last[step.node]));
        size = size.max(at + len);
    }
    (places, size)
}

/// The kernel of a step with its weights.
fn kernel(graph: &Graph, step: &Fused, maps: &[Map], tensor: &impl Fn(&str) -> Result<Vec<f32>>) -> Result<Kernel> {
    let read = |node: &Node, suffix: &str, expected: usize| {
        let name = format!("{}.{suffix}", node.name);
        let values = tensor(&name)?;
        if values.len() != expected {
            return Err(Error::Weights(format!("'{name}': expected {expected} values, found {}", values.len())));
        }
        Ok(values)
    };
    let node = &graph.nodes[step.node];
    let x = step.inputs.first().map(|i| maps[*i]);
    if let (Some(conv), Some(x)) = (step.conv, x) {
        let conv = &graph.nodes[conv];
        let Op::Conv { kernel, stride, padding, channels, norm, relu } = conv.op else { unreachable!("see fuse") };
        if norm {
            return Err(Error::Config(format!("net: step '{}': expected its batch norm to be folded", conv.name)));
        }
        let (relu, pool) = match node.op {
            Op::Add { relu } => (relu, false),
            Op::MaxPool { .. } => (relu, true),
            _ => (relu, false),
        };
        let weight = read(conv, "weight", channels * x.c * kernel * kernel)?;
        let shape = ConvShape { kernel, stride, padding, relu, pool, winograd: true };
        let conv = Conv::new(shape, x, &weight, &read(conv, "bias", channels)?);
        return Ok(Kernel::Conv { conv, half: step.half });
    }
    Ok(match (&node.op, x) {
        (Op::Dense { units, relu }, Some(x)) => {
            let weight = read(node, "weight", units * x.h * x.w * x.c)?;
            Kernel::Dense(Dense::new(x, &weight, &read(node, "bias", *units)?, *relu))
        }
        (Op::MaxPool { size }, _) => Kernel::MaxPool(*size),
        (Op::Add { relu }, _) => Kernel::Add { relu: *relu },
        (Op::Upsample, _) => Kernel::Upsample,
        (Op::MeanPool, _) => Kernel::MeanPool,
        (Op::SoftArgmax, _) => Kernel::SoftArgmax,
        _ => Kernel::Input,
    })
}

/// The variance of a heatmap, in squares of half the crop's side, at which a keypoint's confidence is 1/2 where the net
/// does not say it itself: a standard deviation of a tenth of the side (about 10 pixels) in both directions.
const HALF_CONFIDENCE: f32 = 2. * 0.2 * 0.2;

fn sigmoid(logit: f32) -> f32 {
    1. / (1. + (-logit).exp())
}

/// A net with its weights, its preprocessing and its result in pixels.
pub struct Detector {
    plan: Plan,
    side: usize,
    normalisation: Normalisation,
    /// Three values a keypoint, not two.
    heatmaps: bool,
    calibration: Calibration,
    result: Vec<f32>,
}

impl Detector {
    /// Lays out the weights.
    ///
    /// # Errors
    /// Weights that do not fit their own net.
    pub fn new(weights: &Weights) -> Result<Self> {
        let graph = weights.graph()?;
        let plan = Plan::new(&graph, |name| weights.tensor(name))?;
        let (meta, k) = (&weights.meta, weights.meta.schema.len());
        let (side, normalisation) = (meta.side, meta.normalisation);
        let calibration = meta.calibration.unwrap_or_default();
        Self::with(plan, side, normalisation, k, graph.nodes[graph.keypoints].op == Op::SoftArgmax, calibration)
    }

    fn with(
        plan: Plan,
        side: usize,
        normalisation: Normalisation,
        k: usize,
        heatmaps: bool,
        calibration: Calibration,
    ) -> Result<Self> {
        let expected = k * if heatmaps { 3 } else { 2 };
        if plan.keypoints.len() < expected || plan.input.len() != side * side {
            return Err(Error::Weights(format!(
                "expected a net from {side} x {side} pixels to {expected} values, found one from {} to {}",
                plan.input.len(),
                plan.keypoints.len()
            )));
        }
        Ok(Self { plan, side, normalisation, heatmaps, calibration, result: vec![0.; 1 + 3 * k] })
    }

    /// Keypoints of a crop of `side` x `side` grey values in 0 to 255:
    /// `[presence, x0, y0, confidence0, x1, y1, confidence1, ...]`.
    ///
    /// Presence is in 0 to 1, and 1 for a net that has no such output. x and y are pixels of the crop, the centre of
    /// its first pixel at (0, 0). Confidence is in 0 to 1: how likely the keypoint is right, by the net's own word, or how
    /// narrow its heatmap is; a regression net, which has neither, repeats its presence.
    ///
    /// # Errors
    /// A buffer of another length.
    pub fn detect_grey(&mut self, grey: &[f32]) -> Result<&[f32]> {
        let input = self.plan.input();
        if grey.len() != input.len() {
            let side = self.side;
            return Err(Error::Input(format!(
                "expected {side} x {side} = {} grey pixels, found {}",
                input.len(),
                grey.len()
            )));
        }
        input.copy_from_slice(grey);
        Ok(self.detect())
    }

    /// The same for `side` x `side` RGBA pixels, `4 * side * side` bytes. Alpha is passed over.
    ///
    /// # Errors
    /// A buffer of another length.
    pub fn detect_rgba(&mut self, rgba: &[u8]) -> Result<&[f32]> {
        grey_from_rgba(rgba, self.plan.input())?;
        Ok(self.detect())
    }

    /// The plan, for benchmarks.
    pub fn plan(&mut self) -> &mut Plan {
        &mut self.plan
    }

    fn detect(&mut self) -> &[f32] {
        self.normalisation.apply(self.plan.input());
        self.plan.run();
        let logits = self.plan.presence();
        let presence = logits.first().map_or(1., |logit| sigmoid(*logit));
        let (half, middle) = (self.side as f32 / 2., (self.side as f32 - 1.) / 2.);
        self.result[0] = presence;
        let points = self.result[1..].chunks_exact_mut(3);
        if self.heatmaps {
            // The net's -1 and 1 are the crop's edges, half a pixel outside the centres of its first and last pixels.
            for (k, (out, p)) in points.zip(self.plan.keypoints().chunks_exact(3)).enumerate() {
                let said = logits.get(1 + k).map(|logit| self.calibration.confidence(*logit));
                let confidence = said.unwrap_or(1. / (1. + p[2] / HALF_CONFIDENCE));
                out.copy_from_slice(&[p[0] * half + middle, p[1] * half + middle, confidence]);
            }
        } else {
            // The tutorial's convention: (p - 48) / 48.
            for (out, p) in points.zip(self.plan.keypoints().chunks_exact(2)) {
                out.copy_from_slice(&[p[0] * half + half, p[1] * half + half, presence]);
            }
        }
        &self.result
    }
}

/// A face that a [`Finder`] found, in pixels of the 96 x 96 frame.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Found {
    /// In 0 to 1.
    pub score: f32,
    /// Middle, x.
    pub x: f32,
    /// Middle, y.
    pub y: f32,
    /// Side of the box.
    pub size: f32,
    /// Radians, clockwise on the screen.
    pub roll: f32,
}

impl Found {
    /// Its box.
    pub fn square(&self) -> CropBox {
        CropBox { x: self.x, y: self.y, size: self.size, roll: self.roll }
    }
}

/// The most faces of a frame.
pub const MOST_FOUND: usize = 8;

/// Boxes that share more of their union are the same face.
const SAME_BOX: f32 = 0.3;

/// Faces in a finder's output of `side` x `side` places of `stride` values, in pixels of a frame of `pixels` x `pixels`: the
/// places whose score is at least `least` and the highest among their neighbours, best first, overlaps removed.
pub fn decode(out: &[f32], side: usize, stride: usize, pixels: usize, least: f32, found: &mut Vec<Found>) {
    found.clear();
    let step = pixels as f32 / side as f32;
    let logit = |x: usize, y: usize| out[(y * side + x) * stride];
    for (y, x) in (0..side).flat_map(|y| (0..side).map(move |x| (y, x))) {
        let (own, score) = (logit(x, y), sigmoid(logit(x, y)));
        let near = |n: usize| n.saturating_sub(1)..(n + 2).min(side);
        if score < least || near(y).any(|v| near(x).any(|u| logit(u, v) > own)) {
            continue;
        }
        let v = &out[(y * side + x) * stride..][..FINDER_VALUES];
        let middle = |n: usize, offset: f32| (n as f32 + 0.5 + offset) * step - 0.5;
        let size = FINDER_SIZE * v[3].clamp(-3., 3.).exp();
        found.push(Found { score, x: middle(x, v[1]), y: middle(y, v[2]), size, roll: v[4].clamp(-1.6, 1.6) });
    }
    found.sort_unstable_by(|a, b| b.score.total_cmp(&a.score));
    let mut kept = 0;
    for i in 0..found.len() {
        let apart = found[..kept].iter().all(|f| f.square().iou(&found[i].square()) <= SAME_BOX);
        if apart && kept < MOST_FOUND {
            found[kept] = found[i];
            kept += 1;
        }
    }
    found.truncate(kept);
}

/// The net that finds faces in a whole frame, letterboxed to 96 x 96: scaled so that its longest side fits, in the middle,
/// the rest black.
pub struct Finder {
    plan: Plan,
    side: usize,
    stride: usize,
    normalisation: Normalisation,
    /// The score from which on there is a face; [`FOUND_SCORE`] unless changed.
    pub least_score: f32,
    found: Vec<Found>,
}

/// A finder's score from which on there is a face: of 0.3 to 0.7 the lowest that takes no picture without a face for one, on the
/// validation people and pictures (`face96 eval` on a finder prints them all).
pub const FOUND_SCORE: f32 = 0.5;

impl Finder {
    /// Lays out the weights.
    ///
    /// # Errors
    /// Weights of another net.
    pub fn new(weights: &Weights) -> Result<Self> {
        let graph = weights.graph()?;
        let (h, w, values) = graph.nodes[graph.keypoints].shape;
        if !weights.meta.config.finds() || h != w || values != FINDER_VALUES {
            return Err(Error::Weights(format!("expected a finder, found net '{}'", weights.meta.net)));
        }
        let plan = Plan::new(&graph, |name| weights.tensor(name))?;
        let stride = plan.keypoints.len() / (h * w);
        let found = Vec::with_capacity(h * w);
        Ok(Self { plan, side: h, stride, normalisation: weights.meta.normalisation, least_score: FOUND_SCORE, found })
    }

    /// Faces in a letterboxed frame of 96 x 96 grey values in 0 to 255, at most 8, best first.
    ///
    /// # Errors
    /// A buffer of another length.
    pub fn find_grey(&mut self, grey: &[f32]) -> Result<&[Found]> {
        let input = self.plan.input();
        if grey.len() != input.len() {
            return Err(Error::Input(format!("expected {} grey pixels, found {}", input.len(), grey.len())));
        }
        input.copy_from_slice(grey);
        self.normalisation.apply(input);
        self.plan.run();
        decode(self.plan.keypoints(), self.side, self.stride, SIDE, self.least_score, &mut self.found);
        Ok(&self.found)
    }
}

#[cfg(all(test, feature = "native"))]
mod tests {
    use super::*;
    use crate::nets::graph::Init;
    use crate::nets::NetConfig;
    use candle_core::{Device, Tensor};

    fn noise(seed: &mut u64, n: usize, scale: f32) -> Vec<f32> {
        let mut next = || {
            *seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            ((*seed >> 40) as f32 / (1 << 23) as f32 - 1.) * scale
        };
        (0..n).map(|_| next()).collect()
    }

    #[test]
    fn the_shipped_net_takes_neither_walls_nor_grain_for_a_face() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/pkg/weights/compact.safetensors");
        let mut net = Detector::new(&Weights::from_bytes(&std::fs::read(path).unwrap()).unwrap()).unwrap();
        let mut seed = 3;
        for level in [0., 30., 143., 255.] {
            for slope in [-1., 0., 0.5] {
                for grain in [0., 2., 10.] {
                    let grain = noise(&mut seed, SIDE * SIDE, grain);
                    let at = |i: usize| (level + slope * (i / SIDE) as f32 + grain[i]).clamp(0., 255.);
                    let crop: Vec<f32> = (0..SIDE * SIDE).map(at).collect();
                    // Half of what a track needs to go on.
                    let presence = net.detect_grey(&crop).unwrap()[0];
                    assert!(presence < 0.15, "{presence} for grey {level}, {slope} a row");
                }
            }
        }
    }

    /// Weights of the right size for each layer, the same for the same name.
    fn weights(graph: &Graph) -> impl Fn(&str) -> Result<Vec<f32>> + use<'_> {
        let parameters = graph.parameters();
        move |name| {
            let parameter = parameters.iter().find(|p| p.name == name);
            let p = parameter.ok_or_else(|| Error::Weights(format!("tensor '{name}' is missing")))?;
            let mut seed = name.bytes().fold(7u64, |s, b| s.wrapping_mul(31).wrapping_add(b.into()));
            let scale = if let Init::Uniform(bound) = p.init { bound } else { 0.1 };
            Ok(noise(&mut seed, p.shape.iter().product(), scale))
        }
    }

    /// The graph by candle's own ops, (B, C, H, W): all activations of one picture.
    fn by_candle(graph: &Graph, input: &[f32]) -> candle_core::Result<Vec<Tensor>> {
        let (h, w, _) = graph.nodes[0].shape;
        let (tensor, parameters) = (weights(graph), graph.parameters());
        crate::nets::candle::forward(graph, &Tensor::from_slice(input, (1, 1, h, w), &Device::Cpu)?, None, |name| {
            let p = parameters.iter().find(|p| p.name == name).expect("a weight of the graph");
            Tensor::from_vec(tensor(name).expect("a weight of the graph"), p.shape.as_slice(), &Device::Cpu)
        })
    }

    fn flat(x: &Tensor) -> Vec<f32> {
        x.permute((0, 2, 3, 1)).and_then(|x| x.flatten_all()).and_then(|x| x.to_vec1()).unwrap()
    }

    /// To 1e-4 of the largest value: the 16-bit weights of a dense layer make an error that goes with the sum's terms,
    /// not with the sum.
    fn assert_near(found: &[f32], expected: &[f32], what: &str) {
        assert_eq!(found.len(), expected.len(), "{what}");
        let largest = expected.iter().fold(1f32, |m, v| m.max(v.abs()));
        for (i, (a, b)) in found.iter().zip(expected).enumerate() {
            assert!((a - b).abs() <= 1e-4 * largest, "{what}: [{i}] is {a}, candle has {b}");
        }
    }

    fn assert_agrees_with_candle(graph: &Graph, what: &str) {
        let mut plan = Plan::new(graph, weights(graph)).unwrap();
        let n = plan.input().len();
        for seed in 1..3 {
            let input = noise(&mut { seed }, n, 1.5);
            let all = by_candle(graph, &input).unwrap();
            plan.input().copy_from_slice(&input);
            // What an earlier frame left behind has no influence.
            plan.arena.fill(f32::NAN);
            plan.scratch.fill(f32::NAN);
            plan.run();
            // A finder's places are whole vectors, of which the rest is zero.
            let (h, w, c) = graph.nodes[graph.keypoints].shape;
            let expected = flat(&all[graph.keypoints]);
            let found: Vec<f32> = if graph.keypoints_are_boxes() {
                let places = plan.keypoints().chunks_exact(plan.keypoints().len() / (h * w));
                places.flat_map(|place| &place[..c]).copied().collect()
            } else {
                plan.keypoints()[..expected.len()].to_vec()
            };
            assert_near(&found, &expected, what);
            let presence = graph.presence.map_or(vec![], |i| flat(&all[i]));
            assert_eq!(presence.len(), plan.presence().len());
            assert_near(plan.presence(), &presence, what);
        }
    }

    #[test]
    fn every_net_agrees_with_candles_own_ops() {
        for name in ["net1", "net2", "net6", "compact", "finder"] {
            assert_agrees_with_candle(&NetConfig::by_name(name).unwrap().graph(15).unwrap().folded(), name);
        }
        let odd = NetConfig::Compact { channels: [5, 9, 18, 30], blocks: [1, 2, 2, 2], head: 7, confidence: true };
        assert_agrees_with_candle(&odd.graph(4).unwrap().folded(), "compact of odd sizes");
    }

    #[test]
    fn a_finders_peaks_become_boxes_and_neighbours_one() {
        let (side, stride) = (24, 8);
        let mut out = vec![0f32; side * side * stride];
        out.chunks_exact_mut(stride).for_each(|v| v[0] = -9.);
        let mut peak = |x: usize, y: usize, logit: f32, log_size: f32| {
            out[(y * side + x) * stride..][..5].copy_from_slice(&[logit, 0.25, -0.5, log_size, 0.1]);
        };
        peak(5, 6, 2., 0.);
        peak(7, 6, 1., 0.); // two places on: the same face
        peak(18, 6, 3., 0.5);
        let mut found = Vec::new();
        decode(&out, side, stride, 96, 0.3, &mut found);
        assert_eq!(found.len(), 2);
        assert!((found[0].score - sigmoid(3.)).abs() < 1e-6 && found[0].score > found[1].score);
        let f = found[1];
        assert!((f.x - 22.5).abs() < 1e-4 && (f.y - 23.5).abs() < 1e-4 && (f.size - 24.).abs() < 1e-4, "{f:?}");
    }

    #[test]
    fn steps_that_cannot_be_fused_agree_too() {
        let conv = |kernel, stride, channels, relu| Op::Conv {
            kernel,
            stride,
            padding: kernel / 2,
            channels,
            norm: false,
            relu,
        };
        let mut net = Graph::new((14, 18, 1));
        let a = net.push("a", conv(3, 1, 6, false), &[0]).unwrap();
        // Two uses of a convolution: neither the pool nor the sum may take it.
        let pool = net.push("pool", Op::MaxPool { size: 2 }, &[a]).unwrap();
        let b = net.push("b", conv(5, 2, 6, true), &[a]).unwrap();
        let drop = net.push("drop", Op::Dropout { rate: 0.5 }, &[b]).unwrap();
        let sum = net.push("sum", Op::Add { relu: false }, &[pool, drop]).unwrap();
        let twice = net.push("twice", Op::Add { relu: true }, &[sum, sum]).unwrap();
        // A convolution that is added to its own input, and an upsampling that is used twice.
        let c = net.push("c", conv(3, 1, 6, false), &[twice]).unwrap();
        let own = net.push("own", Op::Add { relu: true }, &[c, twice]).unwrap();
        let up = net.push("up", Op::Upsample, &[own]).unwrap();
        let d = net.push("d", conv(1, 1, 6, false), &[a]).unwrap();
        let e = net.push("e", Op::Add { relu: false }, &[up, d]).unwrap();
        let f = net.push("f", Op::Add { relu: false }, &[e, up]).unwrap();
        let third = net.push("third", Op::MaxPool { size: 3 }, &[f]).unwrap();
        net.keypoints = net.push("out", Op::SoftArgmax, &[third]).unwrap();
        assert_agrees_with_candle(&net, "unfused");
        // Every step in turn as the output, which then must outlive all others.
        for i in 1..net.nodes.len() {
            let mut part = Graph { keypoints: i, presence: None, nodes: net.nodes.clone() };
            let (_, _, c) = part.nodes[i].shape;
            if c % 4 != 0 {
                // Pixels of whole vectors have no gaps, so the result can be compared as it lies.
                let op = conv(1, 1, 8, true);
                part.keypoints = part.push("to8", op, &[i]).unwrap();
            }
            assert_agrees_with_candle(&part, &part.nodes[part.keypoints].name.clone());
        }
    }

    #[test]
    fn a_frame_stays_in_its_buffers_and_repeats_itself() {
        let graph = NetConfig::by_name("compact").unwrap().graph(15).unwrap().folded();
        let mut plan = Plan::new(&graph, weights(&graph)).unwrap();
        let input = noise(&mut 5, 96 * 96, 1.);
        plan.input().copy_from_slice(&input);
        let held = |plan: &Plan| {
            (plan.arena.as_ptr(), plan.arena.len(), plan.scratch.as_ptr(), plan.scratch.len(), plan.input.as_ptr())
        };
        let before = held(&plan);
        let mut steps = 0;
        plan.run_steps(|_, _| steps += 1);
        assert_eq!(steps, plan.steps.len());
        let first = plan.keypoints().to_vec();
        for _ in 0..3 {
            plan.run();
        }
        assert_eq!(plan.keypoints(), first);
        assert_eq!(held(&plan), before);
        assert_eq!(plan.input(), input);
    }

    #[test]
    fn the_arena_is_far_smaller_than_all_activations() {
        let graph = NetConfig::by_name("compact").unwrap().graph(15).unwrap().folded();
        let plan = Plan::new(&graph, weights(&graph)).unwrap();
        let all: usize = graph.nodes.iter().map(|n| n.shape.0 * n.shape.1 * n.shape.2).sum();
        assert!(plan.arena.len() * 2 < all, "{} of {all}", plan.arena.len());
    }

    #[test]
    fn rejects_tensors_that_are_missing_or_of_another_length() {
        let graph = NetConfig::by_name("net2").unwrap().graph(15).unwrap();
        let error = |tensor: &dyn Fn(&str) -> Result<Vec<f32>>| Plan::new(&graph, tensor).err().unwrap().to_string();
        let found = error(&|_| Ok(vec![0.; 7]));
        assert!(found.contains("'conv1.weight': expected 288 values, found 7"), "{found}");
        assert!(error(&|name| Err(Error::Weights(format!("no {name}")))).contains("no conv1.weight"));
        let unfolded = NetConfig::by_name("compact").unwrap().graph(15).unwrap();
        assert!(Plan::new(&unfolded, weights(&unfolded)).is_err());
    }

    fn detector(name: &str, normalisation: Normalisation) -> Detector {
        let graph = NetConfig::by_name(name).unwrap().graph(15).unwrap().folded();
        let plan = Plan::new(&graph, weights(&graph)).unwrap();
        let heatmaps = graph.nodes[graph.keypoints].op == Op::SoftArgmax;
        Detector::with(plan, 96, normalisation, 15, heatmaps, Calibration::default()).unwrap()
    }

    #[test]
    fn results_are_pixels_of_the_crop() {
        let grey: Vec<f32> = noise(&mut 9, 96 * 96, 100.).iter().map(|v| v + 120.).collect();
        let mut heat = detector("compact", Normalisation::Standard);
        let result = heat.detect_grey(&grey).unwrap().to_vec();
        assert_eq!(result.len(), 1 + 3 * 15);
        let presence = heat.plan.presence()[0];
        assert!((result[0] - 1. / (1. + (-presence).exp())).abs() < 1e-6);
        for (out, raw) in result[1..].chunks(3).zip(heat.plan.keypoints().chunks(3)) {
            assert_eq!(out[..2], [raw[0] * 48. + 47.5, raw[1] * 48. + 47.5]);
            assert!((0. ..=1.).contains(&out[2]));
        }
        let mut regression = detector("net2", Normalisation::Unit);
        let result = regression.detect_grey(&grey).unwrap().to_vec();
        for (out, raw) in result[1..].chunks(3).zip(regression.plan.keypoints().chunks(2)) {
            assert_eq!(out, [raw[0] * 48. + 48., raw[1] * 48. + 48., 1.]);
        }
        assert_eq!(result[0], 1.);
    }

    #[test]
    fn rgba_and_grey_give_the_same_result() {
        let mut detector = detector("compact", Normalisation::Standard);
        let rgba: Vec<u8> = (0..96 * 96).flat_map(|i| [(i % 251) as u8; 4]).collect();
        let grey: Vec<f32> = (0..96 * 96).map(|i| (i % 251) as f32).collect();
        let a = detector.detect_rgba(&rgba).unwrap().to_vec();
        let b = detector.detect_grey(&grey).unwrap();
        assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-2), "{a:?} {b:?}");
    }

    #[test]
    fn rejects_crops_of_another_size_and_lives_on() {
        let mut detector = detector("compact", Normalisation::Standard);
        for n in [0, 1, 96 * 96 - 1, 96 * 96 + 1] {
            let error = detector.detect_grey(&vec![0.; n]).unwrap_err().to_string();
            assert!(error.contains("expected 96 x 96 = 9216 grey pixels") && error.contains(&n.to_string()), "{error}");
            assert!(detector.detect_rgba(&vec![0; n]).is_err());
        }
        assert!(detector.detect_grey(&[0.; 96 * 96]).unwrap().iter().all(|v| v.is_finite()));
    }
}
