//! Where the steps of a run are computed: by our kernels on the CPU, or by candle's ops on a device of candle's.

use super::{loss, Config, Tensors};
use crate::error::{Error, Result};
use crate::nets::model::{Model, Output};
use crate::nets::{candle, graph::Op, tape::Tape};
use candle_core::{Tensor, Var};
use rand_chacha::ChaCha8Rng;

/// Where the steps are computed.
#[derive(Clone, Debug)]
pub enum Device {
    /// Our kernels, on the CPU.
    Cpu,
    /// candle's ops.
    Candle(candle_core::Device),
}

/// A loss and the gradients of it, in the order of the model's variables; none for those that are not trained.
type Slope = (f64, Vec<Option<Tensor>>);

impl std::str::FromStr for Device {
    type Err = Error;

    /// `cpu`, `candle` (candle's ops on the CPU), `cuda`, `metal`, or the last two with a number: `cuda:1`.
    fn from_str(name: &str) -> Result<Self> {
        let (kind, number) = match name.split_once(':') {
            None => (name, Some(0)),
            Some((kind, number)) => (kind, number.parse().ok()),
        };
        let found = match (kind, number) {
            _ if name == "cpu" => return Ok(Self::Cpu),
            _ if name == "candle" => Ok(candle_core::Device::Cpu),
            ("cuda", Some(number)) => candle_core::Device::new_cuda(number),
            ("metal", Some(number)) => candle_core::Device::new_metal(number),
            _ => {
                let what = "expected cpu, candle, cuda or metal, or a numbered one such as cuda:1";
                return Err(Error::Config(format!("no device '{name}': {what}")));
            }
        };
        let bad =
            |e| format!("device '{name}': {e}; face96 needs to be built with --features {kind}, and the device there");
        found.map(Self::Candle).map_err(|e| Error::Config(bad(e)))
    }
}

impl Device {
    /// The loss of a batch and its gradients. Moves the running statistics of batch norm; the weights stay.
    pub(super) fn slope(&self, config: &Config, model: &Model, batch: &Tensors, rng: &mut ChaCha8Rng) -> Result<Slope> {
        match self {
            Self::Cpu => {
                let tape = Tape::new(model, &batch.pictures, rng)?;
                let loss = loss(&tape.output(), batch, config.loss)?;
                Ok((f64::from(loss.to_scalar::<f32>()?), tape.backward(&loss)?))
            }
            Self::Candle(device) => by_candle(device, config, model, batch, rng),
        }
    }
}

/// The weights go to the device with each step and their gradients come back, a few megabytes: optimizer, average and
/// checkpoints are the same as on the CPU.
fn by_candle(
    device: &candle_core::Device,
    config: &Config,
    model: &Model,
    batch: &Tensors,
    rng: &mut ChaCha8Rng,
) -> Result<Slope> {
    let graph = &model.graph;
    let there = |(_, var): &(_, Var)| Var::from_tensor(&var.as_tensor().to_device(device)?);
    let vars: Vec<Var> = model.vars.iter().map(there).collect::<candle_core::Result<_>>()?;
    let pictures = batch.pictures.permute((0, 3, 1, 2))?.contiguous()?.to_device(device)?;
    let mut training = candle::Training { rng, moments: vec![] };
    let all = candle::forward(graph, &pictures, Some(&mut training), |name| {
        let at = model.vars.iter().position(|(p, _)| p.name == name).expect("a weight of the graph");
        Ok(vars[at].as_tensor().clone())
    })?;
    for (node, mean, variance) in training.moments {
        model.move_running(&node, "norm.running_mean", mean.to_vec1()?)?;
        model.move_running(&node, "norm.running_var", variance.to_vec1()?)?;
    }
    let keypoints = &all[graph.keypoints];
    let keypoints = match graph.nodes[graph.keypoints].op {
        Op::SoftArgmax => keypoints.squeeze(2)?.permute((0, 2, 1))?,
        _ if graph.keypoints_are_boxes() => keypoints.permute((0, 2, 3, 1))?,
        _ => keypoints.permute((0, 2, 3, 1))?.flatten_from(1)?,
    };
    // The loss is a few thousand numbers, and its targets are here.
    let here = |t: Tensor| t.contiguous()?.to_device(&candle_core::Device::Cpu);
    let presence = graph.presence.map(|i| here(all[i].flatten_from(1)?)).transpose()?;
    let loss = loss(&Output { keypoints: here(keypoints)?, presence }, batch, config.loss)?;
    let found = loss.backward()?;
    let gradient = |((p, _), var): (&(crate::nets::graph::Parameter, Var), &Var)| {
        let gradient = found.get(var.as_tensor()).filter(|_| p.trained);
        gradient.map(|g| Ok(g.to_device(&candle_core::Device::Cpu)?.contiguous()?)).transpose()
    };
    let gradients = model.vars.iter().zip(&vars).map(gradient).collect::<Result<_>>()?;
    Ok((f64::from(loss.to_scalar::<f32>()?), gradients))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{augment::Augment, load, Options};
    use crate::nets::unit_offset;
    use crate::train::{batch_maker, checkpoint::State, rng};
    use rand::Rng;

    #[test]
    fn candles_ops_give_our_kernels_gradients_and_running_statistics() {
        let data = load("synthetic:4", Options::default()).unwrap();
        for net in ["net1", "net2", "net6", "compact", "finder"] {
            let config = Config::preset(net).unwrap();
            let slope = |device: &str| {
                let model = State::new(&config, data.schema.len()).unwrap().model;
                let mut rng = rng(7, 0, 1);
                let batch = batch_maker(&config)(&data, &[0, 1, 2], &Augment::NONE, &mut rng);
                let offset = unit_offset(&model.graph);
                let mut batch = Tensors::new(batch, data.schema.len(), config.normalisation, offset).unwrap();
                // Noise: even areas, which drawn faces have, make many sums that are nearly 0 at once, where rounding
                // decides what a ReLU lets through.
                let noise: Vec<f32> = (0..batch.pictures.elem_count()).map(|_| rng.random_range(-2f32..2.)).collect();
                batch.pictures = Tensor::from_vec(noise, batch.pictures.shape(), &candle_core::Device::Cpu).unwrap();
                let device: Device = device.parse().unwrap();
                let (loss, gradients) = device.slope(&config, &model, &batch, &mut rng).unwrap();
                (loss, gradients, model)
            };
            let (ours, theirs) = (slope("cpu"), slope("candle"));
            assert!((ours.0 - theirs.0).abs() <= 1e-4 * theirs.0, "{net}: {} and {}", ours.0, theirs.0);
            let flat = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            for (i, (parameter, var)) in ours.2.vars.iter().enumerate() {
                let (ours, theirs) = if parameter.trained {
                    (flat(ours.1[i].as_ref().unwrap()), flat(theirs.1[i].as_ref().unwrap()))
                } else {
                    assert!(ours.1[i].is_none() && theirs.1[i].is_none(), "{net}: {}", parameter.name);
                    (flat(var), flat(&theirs.2.vars[i].1))
                };
                let largest = theirs.iter().fold(1e-3f32, |m, v| m.max(v.abs()));
                for (at, (a, b)) in ours.iter().zip(&theirs).enumerate() {
                    assert!((a - b).abs() <= 1e-2 * largest, "{net}: {}[{at}]: {a}, candle has {b}", parameter.name);
                }
            }
        }
    }

    #[test]
    fn a_device_that_is_not_there_is_named() {
        let error = |name: &str| name.parse::<Device>().unwrap_err().to_string();
        for name in ["tpu", "cuda:x", "cpu:1", ""] {
            assert!(error(name).contains(&format!("no device '{name}': expected cpu, candle")), "{}", error(name));
        }
        #[cfg(not(feature = "cuda"))]
        assert!(error("cuda:1").contains("device 'cuda:1'") && error("cuda:1").contains("--features cuda"));
        #[cfg(not(feature = "metal"))]
        assert!(error("metal").contains("--features metal"), "{}", error("metal"));
    }
}
