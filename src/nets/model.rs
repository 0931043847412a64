//! A net in training: its layers and their variables.

use super::layers::{self, Mode};
use super::vars::{self, Parameter};
use super::{Net, NetConfig};
use crate::error::{Error, Result};
use crate::ops::NORM_EPSILON;
use candle_core::{DType, Device, Tensor, Var};
use candle_nn::{Init, VarBuilder};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use std::collections::HashMap;

/// Weight of a batch's statistics in the running ones.
const NORM_MOMENTUM: f32 = 0.1;

/// A net and its variables.
pub struct Model {
    /// Which net, and its sizes.
    pub config: NetConfig,
    /// Number of keypoints.
    pub keypoints: usize,
    /// The layers, on these variables.
    pub net: Net,
    /// The variables, in the order in which the layers ask for them.
    pub vars: Vec<(Parameter, Var)>,
    index: HashMap<String, usize>,
}

impl Model {
    /// A net with fresh weights from the seeded generator.
    ///
    /// # Errors
    /// Only errors of candle itself.
    pub fn new(config: &NetConfig, keypoints: usize, rng: &mut ChaCha8Rng) -> Result<Self> {
        Self::with(config, keypoints, |p| {
            let n = p.shape.iter().product();
            match p.init {
                Init::Const(c) => Ok(vec![c as f32; n]),
                Init::Uniform { lo, up } => Ok((0..n).map(|_| rng.random_range(lo as f32..up as f32)).collect()),
                other => Err(Error::Config(format!("{}: no such initial values here: {other:?}", p.name))),
            }
        })
    }

    /// A net with given weights: `values` is asked for each parameter.
    ///
    /// # Errors
    /// The errors of `values`, and values that do not fit the shape.
    pub fn with(
        config: &NetConfig,
        keypoints: usize,
        mut values: impl FnMut(&Parameter) -> Result<Vec<f32>>,
    ) -> Result<Self> {
        let (mut vars, mut index, mut tensors) = (Vec::new(), HashMap::new(), HashMap::new());
        for p in vars::parameters(false, |vb| Net::new(config, keypoints, vb))? {
            let var = Var::from_tensor(&Tensor::from_vec(values(&p)?, p.shape.as_slice(), &Device::Cpu)?)?;
            index.insert(p.name.clone(), vars.len());
            tensors.insert(p.name.clone(), var.as_tensor().clone());
            vars.push((p, var));
        }
        let net = Net::new(config, keypoints, VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu))?;
        Ok(Self { config: config.clone(), keypoints, net, vars, index })
    }

    /// Takes over every weight of equal name and shape; the others (an output layer of another size) stay unchanged.
    /// Batch norm, which a weights file has folded away, starts as an identity that only adds the bias; see
    /// [`Model::settle`]. Returns how many weights it took.
    ///
    /// # Errors
    /// A file with no weight in common.
    pub fn init_from(&self, weights: &crate::weights::Weights) -> Result<usize> {
        let mut taken = 0;
        for (p, var) in &self.vars {
            let Some((_, values)) = weights.tensor(&p.name).filter(|(shape, _)| *shape == p.shape) else { continue };
            layers::set(var, values.to_vec())?;
            taken += 1;
            let Some(layer) = p.name.strip_suffix(".weight") else { continue };
            let bias = weights.tensor(&format!("{layer}.bias"));
            if let (Some(beta), Some((_, bias))) = (self.var(layer, "norm.bias"), bias) {
                layers::set(beta, bias.to_vec())?;
                if let Some(variance) = self.var(layer, "norm.running_var") {
                    layers::set(variance, vec![1. - NORM_EPSILON; bias.len()])?;
                }
            }
        }
        if taken == 0 {
            let net = &weights.meta.net;
            return Err(Error::Config(format!("cannot start from weights of '{net}': no layer in common")));
        }
        Ok(taken)
    }

    /// Gives each batch norm the mean and the variance that it meets on these pictures (B, 96, 96, 1), and the scale and shift
    /// that leave the net's outputs unchanged. Training can then go on from what [`Model::init_from`] took over; otherwise, batch
    /// statistics would change every layer at the first step.
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn settle(&self, pictures: &Tensor) -> Result<()> {
        self.net.forward_t(pictures, &Mode::Settle)?;
        Ok(())
    }

    fn var(&self, layer: &str, suffix: &str) -> Option<&Var> {
        self.index.get(&format!("{layer}.{suffix}")).map(|at| &self.vars[*at].1)
    }

    /// Moves the running statistics of batch norms towards a batch's: (layer, mean, biased variance).
    ///
    /// # Errors
    /// Only errors of candle itself.
    pub fn move_running(&self, moments: Vec<layers::BatchMoments>) -> Result<()> {
        for (layer, mean, variance) in moments {
            for (suffix, batch) in [("norm.running_mean", mean), ("norm.running_var", variance)] {
                let Some(var) = self.var(&layer, suffix) else { continue };
                let old = var.to_vec1::<f32>()?;
                let new = old.iter().zip(batch).map(|(old, new)| old + NORM_MOMENTUM * (new - old));
                layers::set(var, new.collect())?;
            }
        }
        Ok(())
    }

    /// The weights for inference as a weights file stores them: by name, with batch norm folded.
    ///
    /// # Errors
    /// Only errors of candle itself.
    pub fn export(&self) -> Result<Vec<(String, Tensor)>> {
        let mut out = Vec::new();
        for (p, var) in self.vars.iter().filter(|(p, _)| !p.name.contains(".norm.")) {
            let layer = p.name.rsplit_once('.').map_or("", |(layer, _)| layer);
            let norm = |suffix: &str| self.var(layer, &format!("norm.{suffix}")).map(|v| v.as_detached_tensor());
            let all = (norm("weight"), norm("bias"), norm("running_mean"), norm("running_var"));
            let (Some(gamma), Some(beta), Some(mean), Some(variance)) = all else {
                out.push((p.name.clone(), var.as_detached_tensor()));
                continue;
            };
            let scale = (gamma / (variance + f64::from(NORM_EPSILON))?.sqrt()?)?;
            let weight = var.as_detached_tensor().broadcast_mul(&scale.reshape(((), 1, 1, 1))?)?;
            out.push((p.name.clone(), weight));
            out.push((format!("{layer}.bias"), (beta - (mean * scale)?)?));
        }
        Ok(out)
    }

    /// The net for inference: batch norm uses its running statistics, and there is no dropout.
    ///
    /// # Errors
    /// Only errors of candle itself.
    pub fn inference(&self) -> Result<Net> {
        let vb = VarBuilder::from_tensors(self.export()?.into_iter().collect(), DType::F32, &Device::Cpu);
        Ok(Net::new(&self.config, self.keypoints, vb)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nets::{layers::Training, Output};
    use crate::schema::Schema;
    use rand::SeedableRng;

    #[test]
    fn weights_taken_over_and_settled_give_the_same_answers_in_training_too() {
        let weights = crate::weights::tests::random("compact", Schema::kaggle());
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let model = Model::new(&NetConfig::by_name("compact").unwrap(), 15, &mut rng).unwrap();
        let pixels: Vec<f32> = (0..4 * 96 * 96).map(|_| rng.random_range(-2f32..2.)).collect();
        let pictures = Tensor::from_vec(pixels, (4, 96, 96, 1), &Device::Cpu).unwrap();
        let answers = |output: Output| match output {
            Output::Heatmaps { places, .. } => places.flatten_all().unwrap().to_vec1::<f32>().unwrap(),
            _ => unreachable!("compact has heatmaps"),
        };
        let inferred = |model: &Model| answers(model.inference().unwrap().forward_t(&pictures, &Mode::Infer).unwrap());
        let fresh = inferred(&model);
        model.init_from(&weights).unwrap();
        let near = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-3);
        let taken = inferred(&model);
        assert!(!near(&fresh, &taken));
        model.settle(&pictures).unwrap();
        assert!(near(&taken, &inferred(&model)));
        // With the batch's own statistics, on the same batch.
        let training = Training::new(rng);
        assert!(near(&taken, &answers(model.net.forward_t(&pictures, &Mode::Train(&training)).unwrap())));
    }
}
