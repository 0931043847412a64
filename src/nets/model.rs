//! A net in training: its [`Graph`] with candle variables, run with gradients.

use super::graph::{Graph, Init, Node, Op};
use crate::error::{Error, Result};
use crate::ops;
use candle_core::{Device, Tensor, Var};
use rand::Rng;
use rand_chacha::ChaCha8Rng;

/// How much of a batch's statistics goes into the running ones.
const NORM_MOMENTUM: f32 = 0.1;

/// A net and its variables.
pub struct Model {
    /// The steps.
    pub graph: Graph,
    /// The variables, in the order of [`Graph::parameters`].
    pub vars: Vec<(super::graph::Parameter, Var)>,
    index: std::collections::HashMap<String, usize>,
}

/// What a net says of a batch.
pub struct Output {
    /// (B, K, 3) from heatmaps or (B, 1, 2 K) from a regression net.
    pub keypoints: Tensor,
    /// Logits (B, 1) of "this is a face", or (B, 1 + K) with those of "keypoint k is right" after it.
    pub presence: Option<Tensor>,
}

impl Model {
    /// Fresh weights from the seeded generator.
    ///
    /// # Errors
    /// Only from the tensor library.
    pub fn new(graph: Graph, rng: &mut ChaCha8Rng) -> Result<Self> {
        Self::with(graph, |p| {
            let n = p.shape.iter().product();
            Ok(match p.init {
                Init::Constant(c) => vec![c; n],
                Init::Uniform(bound) => (0..n).map(|_| rng.random_range(-bound..bound)).collect(),
            })
        })
    }

    /// Weights from elsewhere, by parameter.
    ///
    /// # Errors
    /// Those of `values`, and values that do not fit the shape.
    pub fn with(graph: Graph, mut values: impl FnMut(&super::graph::Parameter) -> Result<Vec<f32>>) -> Result<Self> {
        let mut vars = Vec::new();
        let mut index = std::collections::HashMap::new();
        for p in graph.parameters() {
            let tensor = Tensor::from_vec(values(&p)?, p.shape.as_slice(), &Device::Cpu)?;
            index.insert(p.name.clone(), vars.len());
            vars.push((p, Var::from_tensor(&tensor)?));
        }
        Ok(Self { graph, vars, index })
    }

    /// Takes over every weight of equal name and shape; the others (an output layer of another size) stay as they are.
    /// Batch norm, which a weights file has folded away, starts as one that changes nothing but adds the bias; see
    /// [`Model::settle`]. Returns how many it took.
    ///
    /// # Errors
    /// A file with no weight in common.
    pub fn init_from(&self, weights: &crate::weights::Weights) -> Result<usize> {
        let mut taken = 0;
        let set = |var: &Var, values: Vec<f32>| {
            Ok::<_, Error>(var.set(&Tensor::from_vec(values, var.shape(), &Device::Cpu)?)?)
        };
        for (p, var) in self.vars.iter().filter(|(p, _)| weights.shape(&p.name) == Some(&p.shape)) {
            set(var, weights.tensor(&p.name)?)?;
            taken += 1;
            let Some(layer) = p.name.strip_suffix(".weight") else { continue };
            if self.index.contains_key(&format!("{layer}.norm.bias")) {
                let bias = weights.tensor(&format!("{layer}.bias"))?;
                set(self.var(layer, "norm.running_var"), vec![1. - ops::NORM_EPSILON; bias.len()])?;
                set(self.var(layer, "norm.bias"), bias)?;
            }
        }
        if taken == 0 {
            let net = &weights.meta.net;
            return Err(Error::Config(format!("cannot start from weights of '{net}': no layer in common")));
        }
        Ok(taken)
    }

    /// Gives each batch norm the mean and the variance that it has on these pictures (B, 96, 96, 1), and the scale and shift
    /// that leave the net's answers as they were: what [`Model::init_from`] took over can then be trained on, where batch
    /// statistics would otherwise change every layer at the first step.
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn settle(&self, pictures: &Tensor) -> Result<()> {
        let mut seen = Vec::new();
        self.walk(pictures, &mut |node, x, stride, padding| {
            let weight = self.var(node, "weight").as_tensor();
            let zero = self.var(node, "norm.bias").as_tensor().zeros_like()?;
            let y = ops::conv2d(x, weight, &zero, stride, padding, false)?;
            let ones = zero.ones_like()?;
            let (_, mean, var) = ops::batch_norm(&y, &ones, &zero, false)?;
            seen.push((node.to_string(), mean, var));
            Ok(())
        })?;
        for (node, mean, var) in seen {
            let (scale, shift) = self.scale_shift(&node)?;
            let (scale, shift): (Vec<f32>, Vec<f32>) = (scale.to_vec1()?, shift.to_vec1()?);
            let deviation = var.iter().map(|v| (v + ops::NORM_EPSILON).sqrt());
            let gamma: Vec<f32> = scale.iter().zip(deviation).map(|(s, d)| s * d).collect();
            let beta: Vec<f32> = shift.iter().zip(&scale).zip(&mean).map(|((b, s), m)| b + s * m).collect();
            for (suffix, values) in
                [("norm.weight", gamma), ("norm.bias", beta), ("norm.running_mean", mean), ("norm.running_var", var)]
            {
                let v = self.var(&node, suffix);
                v.set(&Tensor::from_vec(values, v.shape(), &Device::Cpu)?)?;
            }
        }
        Ok(())
    }

    pub(super) fn var(&self, node: &str, suffix: &str) -> &Var {
        &self.vars[self.index[&format!("{node}.{suffix}")]].1
    }

    /// Where a step's variable stands in `vars`.
    pub(super) fn index(&self, node: &Node, suffix: &str) -> usize {
        self.index[&format!("{}.{suffix}", node.name)]
    }

    /// The values of a step's variable of one dimension.
    pub(super) fn values(&self, node: &Node, suffix: &str) -> Result<Vec<f32>> {
        Ok(self.var(&node.name, suffix).as_tensor().to_vec1()?)
    }

    /// Pictures (B, 96, 96, 1) -> keypoints, as after training: batch norm by its running statistics, no dropout.
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn forward(&self, pictures: &Tensor) -> Result<Output> {
        self.walk(pictures, &mut |_, _, _, _| Ok(()))
    }

    /// [`Model::forward`], which shows each convolution with batch norm (name, input, stride, padding) before it runs.
    fn walk(
        &self,
        pictures: &Tensor,
        show: &mut dyn FnMut(&str, &Tensor, usize, usize) -> Result<()>,
    ) -> Result<Output> {
        let mut done: Vec<Option<Tensor>> = vec![None; self.graph.nodes.len()];
        for (i, node) in self.graph.nodes.iter().enumerate() {
            let input = |n: usize| done[node.inputs[n]].as_ref().expect("inputs come first");
            let y = match node.op {
                Op::Input => pictures.clone(),
                Op::Conv { stride, padding, norm, relu, .. } => {
                    let weight = self.var(&node.name, "weight").as_tensor();
                    if norm {
                        show(&node.name, input(0), stride, padding)?;
                    }
                    if !norm {
                        ops::conv2d(input(0), weight, self.var(&node.name, "bias"), stride, padding, relu)?
                    } else {
                        let (weight, bias) = self.folded(&node.name)?;
                        ops::conv2d(input(0), &weight, &bias, stride, padding, relu)?
                    }
                }
                Op::MaxPool { size } => ops::max_pool(input(0), size)?,
                Op::Dense { relu, units } => {
                    let x = input(0).flatten_from(1)?;
                    let y = ops::dense(&x, self.var(&node.name, "weight"), self.var(&node.name, "bias"), relu)?;
                    y.reshape(((), 1, 1, units))?
                }
                Op::Dropout { .. } => input(0).clone(),
                Op::Add { relu } => ops::add(input(0), input(1), relu)?,
                Op::Upsample => ops::upsample(input(0))?,
                Op::MeanPool => {
                    let (b, h, w, c) = input(0).dims4()?;
                    input(0).reshape((b, h * w, c))?.mean(1)?.reshape((b, 1, 1, c))?
                }
                Op::SoftArgmax => ops::soft_argmax(input(0))?,
            };
            done[i] = Some(y);
        }
        let take = |i: usize| done[i].clone().ok_or_else(|| Error::Config("net without output".into()));
        let presence = self.graph.presence.map(|i| Ok::<_, Error>(take(i)?.flatten_from(1)?)).transpose()?;
        Ok(Output { keypoints: take(self.graph.keypoints)?, presence })
    }

    pub(crate) fn move_running(&self, node: &str, suffix: &str, batch: Vec<f32>) -> Result<()> {
        let var = self.var(node, suffix);
        let old = var.as_tensor().to_vec1::<f32>()?;
        let new: Vec<f32> = old.iter().zip(batch).map(|(o, b)| o + NORM_MOMENTUM * (b - o)).collect();
        Ok(var.set(&Tensor::from_vec(new, var.shape(), &Device::Cpu)?)?)
    }

    /// What a batch norm multiplies with and adds, by its running statistics.
    fn scale_shift(&self, node: &str) -> Result<(Tensor, Tensor)> {
        let values = |suffix: &str| self.var(node, suffix).as_tensor().detach();
        let scale = (values("norm.weight") / (values("norm.running_var") + f64::from(ops::NORM_EPSILON))?.sqrt()?)?;
        let shift = (values("norm.bias") - (values("norm.running_mean") * &scale)?)?;
        Ok((scale, shift))
    }

    /// Weight and bias of a convolution with its batch norm folded in.
    fn folded(&self, node: &str) -> Result<(Tensor, Tensor)> {
        let (scale, bias) = self.scale_shift(node)?;
        let weight = self.var(node, "weight").as_tensor().detach().broadcast_mul(&scale.reshape(((), 1, 1, 1))?)?;
        Ok((weight, bias))
    }

    /// The weights of [`Graph::folded`], by name, as they go into a weights file.
    ///
    /// # Errors
    /// Only from the tensor library.
    pub fn export(&self) -> Result<Vec<(String, Tensor)>> {
        let mut out = Vec::new();
        for node in &self.graph.nodes {
            let (weight, bias) = match node.op {
                Op::Conv { norm: true, .. } => self.folded(&node.name)?,
                Op::Conv { .. } | Op::Dense { .. } => (
                    self.var(&node.name, "weight").as_tensor().detach(),
                    self.var(&node.name, "bias").as_tensor().detach(),
                ),
                _ => continue,
            };
            out.push((format!("{}.weight", node.name), weight));
            out.push((format!("{}.bias", node.name), bias));
        }
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nets::NetConfig;
    use crate::schema::Schema;
    use rand::SeedableRng;

    #[test]
    fn weights_taken_over_and_settled_give_the_same_answers_in_training_too() {
        let weights = crate::weights::tests::random("compact", Schema::kaggle());
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let model = Model::new(NetConfig::by_name("compact").unwrap().graph(15).unwrap(), &mut rng).unwrap();
        let pixels: Vec<f32> = (0..4 * 96 * 96).map(|_| rng.random_range(-2f32..2.)).collect();
        let pictures = Tensor::from_vec(pixels, (4, 96, 96, 1), &Device::Cpu).unwrap();
        let answers = |output: Output| output.keypoints.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let fresh = answers(model.forward(&pictures).unwrap());
        model.init_from(&weights).unwrap();
        let near = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-3);
        let taken = answers(model.forward(&pictures).unwrap());
        assert!(!near(&fresh, &taken));
        model.settle(&pictures).unwrap();
        assert!(near(&taken, &answers(model.forward(&pictures).unwrap())));
        // With the batch's own statistics, on the same batch.
        assert!(near(&taken, &answers(crate::nets::tape::Tape::new(&model, &pictures, &mut rng).unwrap().output())));
    }
}
