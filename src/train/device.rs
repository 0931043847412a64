//! Where the steps of a run are computed: by our kernels on the CPU, or by candle's ops on one of candle's devices.

use super::loss::{loss, Tensors};
use super::Config;
use crate::error::{Error, Result};
use crate::nets::layers::{Mode, Training};
use crate::nets::model::Model;
use crate::nets::{Net, Output};
use crate::ops::recorder::Gradients;
use candle_core::{DType, Tensor, Var};
use candle_nn::VarBuilder;
use rand_chacha::ChaCha8Rng;

/// Where the steps are computed.
#[derive(Clone, Debug)]
pub enum Device {
    /// Our kernels, on the CPU.
    Cpu,
    /// candle's ops.
    Candle(candle_core::Device),
}

/// A loss and its gradients, in the order of the model's variables; `None` for variables that are not trained.
type LossGradients = (f64, Vec<Option<Tensor>>);

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
    /// The loss of a batch and its gradients. Updates the running statistics of batch norm; the weights stay unchanged.
    pub(super) fn gradients(
        &self,
        config: &Config,
        model: &Model,
        batch: &Tensors,
        rng: &mut ChaCha8Rng,
    ) -> Result<LossGradients> {
        match self {
            Self::Cpu => by_our_ops(config, model, batch, rng),
            Self::Candle(device) => by_candle(device, config, model, batch, rng),
        }
    }
}

/// candle's autograd runs from the loss to the net's outputs; from there on our recorder takes over.
fn by_our_ops(config: &Config, model: &Model, batch: &Tensors, rng: &mut ChaCha8Rng) -> Result<LossGradients> {
    let training = Training::new(rng.clone());
    let output = model.net.forward_t(&batch.pictures, &Mode::Train(&training))?;
    // The loss is computed from leaves of candle's graph; each leaf belongs to an output of the pass.
    let leaf = |t: &Tensor| Ok::<_, Error>((t.clone(), Var::from_tensor(t)?.into_inner()));
    let (output, leaves) = match output {
        Output::Heatmaps { places, logits } => {
            let (places, logits) = (leaf(&places)?, leaf(&logits)?);
            (Output::Heatmaps { places: places.1.clone(), logits: logits.1.clone() }, vec![places, logits])
        }
        Output::Points(points) => {
            let points = leaf(&points)?;
            (Output::Points(points.1.clone()), vec![points])
        }
        Output::Boxes(boxes) => {
            let boxes = leaf(&boxes)?;
            (Output::Boxes(boxes.1.clone()), vec![boxes])
        }
    };
    let loss = loss(&output, batch, config.loss, &config.net)?;
    let outer = loss.backward()?;
    let results = leaves.into_iter().filter_map(|(result, leaf)| Some((result, outer.get(&leaf)?.clone())));
    let found = training.recorder.backward(results.collect())?;
    model.move_running(training.moments.into_inner())?;
    *rng = training.rng.into_inner();
    Ok((f64::from(loss.to_scalar::<f32>()?), in_order(model, found)))
}

/// Gradients in the order of the model's variables.
fn in_order(model: &Model, mut found: Gradients) -> Vec<Option<Tensor>> {
    model.vars.iter().map(|(_, var)| found.remove(&var.as_tensor().id())).collect()
}

/// The weights go to the device with each step and their gradients come back, a few megabytes: so optimizer, average and
/// checkpoints are the same as on the CPU.
fn by_candle(
    device: &candle_core::Device,
    config: &Config,
    model: &Model,
    batch: &Tensors,
    rng: &mut ChaCha8Rng,
) -> Result<LossGradients> {
    let there = model.vars.iter().map(|(p, var)| {
        let var = Var::from_tensor(&var.as_tensor().to_device(device)?)?;
        Ok((p.name.clone(), var.into_inner()))
    });
    let there = there.collect::<Result<std::collections::HashMap<_, _>>>()?;
    let net = Net::new(&model.config, model.keypoints, VarBuilder::from_tensors(there.clone(), DType::F32, device))?;
    let training = Training::new(rng.clone());
    let output = net.forward_t(&batch.pictures.to_device(device)?, &Mode::Candle(Some(&training)))?;
    // The loss involves only a few thousand numbers, and its targets are on the CPU.
    let here = |t: Tensor| t.contiguous()?.to_device(&candle_core::Device::Cpu);
    let output = match output {
        Output::Heatmaps { places, logits } => Output::Heatmaps { places: here(places)?, logits: here(logits)? },
        Output::Points(points) => Output::Points(here(points)?),
        Output::Boxes(boxes) => Output::Boxes(here(boxes)?),
    };
    let loss = loss(&output, batch, config.loss, &config.net)?;
    let found = loss.backward()?;
    model.move_running(training.moments.into_inner())?;
    *rng = training.rng.into_inner();
    let gradient = |(p, _): &(crate::nets::vars::Parameter, Var)| {
        let gradient = found.get(&there[&p.name]).filter(|_| p.trained());
        gradient.map(|g| Ok(g.to_device(&candle_core::Device::Cpu)?.contiguous()?)).transpose()
    };
    let gradients = model.vars.iter().map(gradient).collect::<Result<_>>()?;
    Ok((f64::from(loss.to_scalar::<f32>()?), gradients))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{augment::Augment, load, Options};
    use crate::train::{batch_maker, checkpoint::State, rng};
    use rand::Rng;

    #[test]
    fn candles_ops_give_our_kernels_gradients_and_running_statistics() {
        let data = load("synthetic:4", Options::default()).unwrap();
        for net in crate::nets::tests::distinct().map(|(name, _)| name).chain(["compact with reach"]) {
            let mut config = Config::preset(net.split(' ').next().unwrap()).unwrap();
            if net.ends_with("reach") {
                config.net.reach_to(&std::array::from_fn::<_, 15, _>(|k| 1. + 0.1 * k as f32));
            }
            let gradients = |device: &str| {
                let model = State::new(&config, data.schema.len()).unwrap().model;
                let mut rng = rng(7, 0, 1);
                let batch = batch_maker(&config)(&data, &[0, 1, 2], &Augment::NONE, &mut rng);
                let offset = config.net.unit_offset();
                let mut batch = Tensors::new(batch, data.schema.len(), config.normalisation, offset).unwrap();
                // Noise, because the even areas of drawn faces make many sums nearly 0 at once, where rounding
                // decides what a ReLU lets through.
                let noise: Vec<f32> = (0..batch.pictures.elem_count()).map(|_| rng.random_range(-2f32..2.)).collect();
                batch.pictures = Tensor::from_vec(noise, batch.pictures.shape(), &candle_core::Device::Cpu).unwrap();
                let device: Device = device.parse().unwrap();
                let (loss, gradients) = device.gradients(&config, &model, &batch, &mut rng).unwrap();
                (loss, gradients, model)
            };
            let (ours, theirs) = (gradients("cpu"), gradients("candle"));
            assert!((ours.0 - theirs.0).abs() <= 1e-4 * theirs.0.abs(), "{net}: {} and {}", ours.0, theirs.0);
            let flat = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            for (i, (parameter, var)) in ours.2.vars.iter().enumerate() {
                let (a, b) = if parameter.trained() {
                    (flat(ours.1[i].as_ref().unwrap()), flat(theirs.1[i].as_ref().unwrap()))
                } else {
                    assert!(ours.1[i].is_none() && theirs.1[i].is_none(), "{net}: {}", parameter.name);
                    (flat(var), flat(&theirs.2.vars[i].1))
                };
                // Per tensor, relative to the tensor's own norm, so that a wrong factor in a small gradient shows too.
                let norm = |v: &[f32]| v.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
                let apart: Vec<f32> = a.iter().zip(&b).map(|(a, b)| a - b).collect();
                let (apart, norm) = (norm(&apart), norm(&b));
                // A heatmap's bias changes nothing, so its gradient is zero except for rounding.
                assert!(apart <= 1e-2 * norm.max(1e-5), "{net}: {}: apart by {apart} of {norm}", parameter.name);
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
