//! What `make bench` times: training steps of one net on one batch, by our own ops or by candle's; and the same task as
//! a file for other runtimes (`tools/bench/training.py`).

use super::optim::Optimizer;
use super::{checkpoint::State, rng, step, Config, Device, Tensors};
use crate::data::augment::{Augment, Batch};
use crate::data::{load, Options};
use crate::error::{Error, Result};
use crate::nets::trace::Graph;
use std::time::{Duration, Instant};

/// The progress of the run at which the steps are taken: the middle of the schedules.
const AT: f32 = 0.5;

/// A net with its first weights and a batch of faces drawn by the program.
pub struct Task {
    config: Config,
    state: State,
    batch: Tensors,
}

/// What a benchmark measured.
#[derive(serde::Serialize)]
pub struct Steps {
    /// Samples per step.
    pub batch: usize,
    /// Losses of the first three steps: any runtime that trains the same net in the same way gets the same.
    pub losses: Vec<f64>,
    /// Seconds of every step but the first.
    pub seconds: Vec<f64>,
}

impl Task {
    /// The task of a preset, identical each time.
    ///
    /// # Errors
    /// An unknown preset.
    pub fn new(preset: &str) -> Result<Self> {
        let config = Config::preset(preset)?;
        let data = load(&format!("synthetic:{}", config.batch), Options::default())?;
        let state = State::new(&config, data.schema.len())?;
        let indices: Vec<usize> = (0..config.batch).collect();
        let batch = Batch::make(&data, &indices, &Augment::NONE, &mut rng(config.seed, 0, 1));
        let offset = config.net.unit_offset();
        let batch = Tensors::new(batch, data.schema.len(), config.normalisation, offset)?;
        Ok(Self { config, state, batch })
    }

    /// The preset.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The net and its first weights.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The task as a safetensors file: the weights by name, `batch.pictures` (B, 96, 96, 1), `batch.targets` and
    /// `batch.mask` (B, K, 2), `batch.presence` and `batch.unit` (B, 1), all f32; the metadata `task` holds the graph, the loss and the
    /// optimizer with its current rates.
    ///
    /// # Errors
    /// Only errors of candle itself.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let lr = self.config.optimizer.learning_rate(AT);
        let optimizer = match self.config.optimizer {
            Optimizer::Nesterov { momentum: [a, b], .. } => {
                serde_json::json!({ "kind": "nesterov", "lr": lr, "momentum": a + (b - a) * AT })
            }
            Optimizer::AdamW { weight_decay, .. } => {
                serde_json::json!({ "kind": "adam_w", "lr": lr, "weight_decay": weight_decay })
            }
            Optimizer::Muon { weight_decay, .. } => {
                serde_json::json!({ "kind": "muon", "lr": lr, "weight_decay": weight_decay })
            }
        };
        let task = serde_json::json!({
            "batch": self.config.batch,
            "graph": self.graph()?,
            "loss": self.config.loss,
            "optimizer": optimizer,
        });
        let b = &self.batch;
        let batch = [
            ("pictures", &b.pictures),
            ("targets", &b.targets),
            ("mask", &b.mask),
            ("presence", &b.presence),
            ("unit", &b.unit),
        ];
        let weights = self.state.model.vars.iter().map(|(p, var)| (p.name.clone(), var.as_tensor()));
        let tensors = batch.into_iter().map(|(name, tensor)| (format!("batch.{name}"), tensor)).chain(weights);
        let metadata = [("task".to_string(), task.to_string())].into();
        safetensors::serialize(tensors, Some(metadata)).map_err(|e| Error::Config(e.to_string()))
    }

    /// The net's steps as in training: batch norms are not folded.
    fn graph(&self) -> Result<Graph> {
        let mut graph = Graph::of(&self.state.model.inference()?)?;
        for node in &mut graph.nodes {
            let norm = format!("{}.norm.weight", node.name);
            node.op.set_norm(self.state.model.vars.iter().any(|(p, _)| p.name == norm));
        }
        Ok(graph)
    }

    /// Takes steps for `seconds`, but at least three.
    ///
    /// # Errors
    /// Only errors of candle itself.
    pub fn run(mut self, device: &Device, seconds: f64) -> Result<Steps> {
        let (mut steps, mut end) = (Steps { batch: self.config.batch, losses: vec![], seconds: vec![] }, None);
        let mut rng = rng(self.config.seed, 0, 2);
        // The first step pays for memory that the others reuse.
        while steps.seconds.len() < 2 || end.is_some_and(|end| Instant::now() < end) {
            let start = Instant::now();
            let value = step(device, &self.config, &mut self.state, &self.batch, &mut rng, AT)?;
            if steps.losses.len() < 3 {
                steps.losses.push(value);
            }
            match end {
                None => end = Some(Instant::now() + Duration::from_secs_f64(seconds)),
                Some(_) => steps.seconds.push(start.elapsed().as_secs_f64()),
            }
        }
        Ok(steps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Tensor;

    #[test]
    fn candle_and_we_take_the_same_steps() {
        // One net with batch norm, one with pools, one with dropout.
        for net in ["compact", "net2", "net6"] {
            let run = |device: &str| {
                let mut task = Task::new(net).unwrap();
                let few = |t: &Tensor| t.narrow(0, 0, 4).unwrap();
                let b = &task.batch;
                task.batch = Tensors {
                    pictures: few(&b.pictures),
                    targets: few(&b.targets),
                    mask: few(&b.mask),
                    presence: few(&b.presence),
                    unit: few(&b.unit),
                    boxes: None,
                };
                task.run(&device.parse().unwrap(), 0.).unwrap().losses
            };
            let (ours, theirs) = (run("cpu"), run("candle"));
            for (a, b) in ours.iter().zip(&theirs) {
                assert!((a - b).abs() < 1e-3 * b.abs(), "{net}: {ours:?}, candle has {theirs:?}");
            }
        }
    }
}
