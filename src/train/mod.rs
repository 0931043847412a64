//! Training: batch, forward, loss, step, log, validate, save.
//!
//! A run folder holds `config.toml`, `metrics.csv`, `curves.svg`, `samples.png`, `last.ckpt` and `best.ckpt` (weights,
//! their running average and the optimizer's state) and `best.safetensors` (the weights file of the best epoch). Every file is
//! written under a temporary name, then renamed. Randomness depends only on the seed, the epoch and the batch's number, so a
//! resumed run continues with the numbers of an uninterrupted one.

pub mod bench;
pub mod checkpoint;
mod device;
pub mod events;
mod finder;
mod loss;
pub mod metrics;
pub mod optim;
pub mod report;
pub mod settings;

use crate::data::augment::{Augment, Batch};
use crate::data::{Content, Dataset, Face, Split};
use crate::error::{Error, Result};
use crate::nets::layers::Mode;
use crate::nets::{Net, NetConfig, Output, OutputKind, SIDE};
use crate::ops::recorder::reuse;
use crate::picture::Normalisation;
use crate::weights::{Metadata, Weights};
use candle_core::Tensor;
use checkpoint::State;
pub use device::Device;
use loss::{places, Tensors};
pub use loss::{Loss, RIGHT};
use metrics::Score;
use optim::Optimizer;
use rand::{seq::SliceRandom, Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

/// Everything that determines what a run computes; stored in the run folder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Name of the preset.
    pub preset: String,
    /// Path of the data.
    pub data: String,
    /// Whether to leave out rows with a missing keypoint.
    pub complete_rows: bool,
    /// Whether to leave out bad rows.
    pub skip_bad_rows: bool,
    /// Whether to keep the 68 points of `.pts` files.
    pub all_68: bool,
    /// Keypoints that trade places in a mirror image, as `LEFT=RIGHT`, instead of the pairs from the file or the names.
    pub pairs: Vec<String>,
    /// The keypoints of a specialist, trained on all rows that have them; empty for all keypoints.
    pub keypoints: Vec<String>,
    /// Weights file to start from; empty for weights from the seed.
    pub init: String,
    /// Seed of weights, order and augmentation.
    pub seed: u64,
    /// Maximal number of passes over the data. 0, for specialists only: 10^7 divided by the number of faces, the tutorial's rule.
    pub epochs: usize,
    /// Epochs without improvement after which the run ends; 0 for never.
    pub patience: usize,
    /// Seconds after which no further epoch starts; 0 for no limit.
    #[serde(deserialize_with = "number")]
    pub seconds: f64,
    /// Where the steps are computed, see [`Device`].
    pub device: String,
    /// Samples per step.
    pub batch: usize,
    /// How many times an epoch shows each face.
    pub repeats: usize,
    /// Weight of each source, a folder of the data by its name: how many times as often its faces are shown; 1 for sources not named.
    pub weights: std::collections::BTreeMap<String, f32>,
    /// The loss of the keypoints.
    pub loss: Loss,
    /// How grey values are normalised.
    pub normalisation: Normalisation,
    /// Decay of the running average of the weights that is validated and exported; 0 for the weights themselves.
    pub average: f32,
    /// The net.
    pub net: NetConfig,
    /// The optimizer and its schedule.
    pub optimizer: Optimizer,
    /// The augmentation.
    pub augment: Augment,
    /// The keypoints of each specialist, by its name. Empty for a single net.
    pub groups: std::collections::BTreeMap<String, Vec<String>>,
    /// What the data contained when the run began.
    pub content: Content,
}

impl Config {
    /// The settings of a preset: a net of [`NetConfig::presets`], and how nets of its kind are trained.
    ///
    /// # Errors
    /// An unknown name.
    pub fn preset(name: &str) -> Result<Self> {
        let net = NetConfig::by_name(name)?;
        let base = Self {
            preset: name.into(),
            data: "synthetic".into(),
            complete_rows: false,
            skip_bad_rows: false,
            all_68: false,
            pairs: vec![],
            keypoints: vec![],
            init: String::new(),
            seed: 42,
            epochs: 24,
            patience: 0,
            seconds: 0.,
            device: "cpu".into(),
            batch: 64,
            repeats: 1,
            weights: Default::default(),
            loss: Loss::Laplace,
            normalisation: Normalisation::Standard,
            average: 0.999,
            net,
            optimizer: Optimizer::Muon { lr: 3e-3, weight_decay: 0.02, warmup: 0.05 },
            augment: Augment::default(),
            groups: Default::default(),
            content: Content::default(),
        };
        match base.net.output() {
            OutputKind::Heatmaps => return Ok(base),
            OutputKind::Boxes => {
                // Scenes have their own geometry; small faces need every pixel, so scenes are blurred less often.
                let augment = Augment { edge: 0., occlusion: 0.05, blur: 0.05, ..base.augment };
                let optimizer = Optimizer::AdamW { lr: 3e-3, weight_decay: 0.02, warmup: 0.05 };
                return Ok(Self { epochs: 150, loss: Loss::SmoothL1, average: 0.995, optimizer, augment, ..base });
            }
            OutputKind::Points => {}
        }
        // The tutorial's table: epochs, whether rate and momentum change, whether half of a batch is mirrored.
        let (epochs, moves, flip) = match name {
            "net1" => (400, false, false),
            "net2" => (1000, false, false),
            "net3" => (3000, false, true),
            "net4" => (1000, true, false),
            "net6" => (3000, true, true),
            "net7" => (10000, true, true),
            // Any other net that regresses its points is trained like net5.
            _ => (2000, true, true),
        };
        let optimizer = if moves {
            Optimizer::Nesterov { lr: [0.03, 0.0001], momentum: [0.9, 0.999] }
        } else {
            Optimizer::Nesterov { lr: [0.01, 0.01], momentum: [0.9, 0.9] }
        };
        Ok(Self {
            epochs,
            batch: 128,
            loss: Loss::Mse,
            normalisation: Normalisation::Unit,
            average: 0.,
            optimizer,
            augment: if flip { Augment::FLIP } else { Augment::NONE },
            ..base
        })
    }

    /// How to read the data.
    ///
    /// # Errors
    /// A pair that is not `LEFT=RIGHT`.
    pub fn options(&self) -> Result<crate::data::Options> {
        let pair = |pair: &String| {
            let both = pair.split_once('=').map(|(a, b)| (a.trim().to_string(), b.trim().to_string()));
            both.ok_or_else(|| Error::Config(format!("pairs: expected LEFT=RIGHT, found '{pair}'")))
        };
        Ok(crate::data::Options {
            // A specialist's rows need only its own keypoints.
            complete_rows: self.complete_rows && self.keypoints.is_empty(),
            skip_bad_rows: self.skip_bad_rows,
            all_68: self.all_68,
            pairs: self.pairs.iter().map(pair).collect::<Result<_>>()?,
            scenes: self.net.finds(),
        })
    }

    /// Changes batch and repeats so that an epoch of few faces has `LEAST_STEPS` steps; returns whether they changed. With one step per
    /// epoch, the usual number of epochs ends long before a net has learned anything.
    pub fn suit(&mut self, faces: usize) -> bool {
        // The tutorial's nets keep its batches and its thousands of epochs.
        if faces == 0 || faces >= LEAST_STEPS * self.batch || matches!(self.optimizer, Optimizer::Nesterov { .. }) {
            return false;
        }
        self.repeats = (LEAST_STEPS * LEAST_BATCH).div_ceil(faces);
        // Batches of equal size, so that the last is not left with a face or two.
        self.batch = (self.repeats * faces).div_ceil(LEAST_STEPS);
        true
    }

    /// The reason why a run with these epochs is over; `None` if it goes on.
    pub fn end(&self, history: &[Epoch]) -> Option<End> {
        let last = history.last()?;
        let best = best_epoch(history, self.loss).map_or(0, |e| e.epoch);
        if history.len() >= self.epochs {
            Some(End::Epochs)
        } else if self.patience > 0 && last.epoch - best >= self.patience {
            Some(End::Patience)
        } else if self.seconds > 0. && last.seconds >= self.seconds {
            Some(End::Time)
        } else {
            None
        }
    }
}

/// Steps per epoch with few faces, and the smallest batch then: batch norms need some faces. On 40 drawn faces, 60
/// epochs of one step leave an error of 14 % of the eye distance, epochs of eight steps 4 % (`docs/experiments.md`).
const LEAST_STEPS: usize = 8;
const LEAST_BATCH: usize = 16;

/// The tutorial's rule for specialists: 10^7 divided by the number of faces they train and validate on, because groups with few
/// faces need more epochs.
pub fn specialist_epochs(faces: usize) -> usize {
    (10_000_000 / faces.max(1)).max(1)
}

/// Why a run is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// All epochs are done.
    Epochs,
    /// No improvement for [`Config::patience`] epochs.
    Patience,
    /// [`Config::seconds`] have passed.
    Time,
}

/// The epoch with the lowest error, the first of equals; a run exports its weights. The error is the one that the loss
/// stands for: the RMSE, or the NME, which is not decided by a few faces that are far off (a finder's, above all).
pub fn best_epoch(history: &[Epoch], loss: Loss) -> Option<&Epoch> {
    let error = |e: &Epoch| if loss == Loss::Mse { e.valid_rmse_px } else { e.valid_nme_pct };
    history.iter().min_by(|a, b| error(a).total_cmp(&error(b)))
}

/// The generator of one batch, or of an epoch's order: each has a stream of its own.
fn rng(seed: u64, epoch: usize, batch: usize) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(((epoch as u64 + 1) << 32) | batch as u64);
    rng
}

/// The faces of an epoch, in order: each appears as often as its weight and the run's weights and repeats say, on average.
fn epoch_order(config: &Config, data: &Dataset, train: &[usize], rng: &mut ChaCha8Rng) -> Vec<usize> {
    let of_source = |face: &crate::data::Face| config.weights.get(&face.source).copied().unwrap_or(1.);
    let wanted = |i: usize| data.faces[i].weight * of_source(&data.faces[i]) * config.repeats as f32;
    let times = |rng: &mut ChaCha8Rng, i: usize| (wanted(i) + rng.random::<f32>()).floor() as usize;
    let mut order: Vec<usize> = train.iter().flat_map(|&i| std::iter::repeat_n(i, times(rng, i))).collect();
    order.shuffle(rng);
    order
}

/// One line of `metrics.csv`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Epoch {
    /// Counted from 1.
    pub epoch: usize,
    /// Mean loss of the batches.
    #[serde(deserialize_with = "number")]
    pub train_loss: f64,
    /// RMSE of a coordinate on the validation people, in pixels of the crop.
    #[serde(deserialize_with = "number")]
    pub valid_rmse_px: f64,
    /// NME on the validation people: mean error by the distance of the outer eye corners, percent.
    #[serde(deserialize_with = "number")]
    pub valid_nme_pct: f64,
    /// Learning rate at the epoch's end.
    pub learning_rate: f32,
    /// Rate of training alone.
    #[serde(deserialize_with = "number")]
    pub samples_per_second: f64,
    /// Time since the run began, without pauses.
    #[serde(deserialize_with = "number")]
    pub seconds: f64,
    /// Share of the training time in which the step waited for its batch; 0 in runs of older versions.
    #[serde(default, deserialize_with = "number")]
    pub waiting: f64,
}

/// What limits a run's speed: see [`Epoch::waiting`]. That includes the wait for an epoch's first batch, so a small share is ignored.
pub fn bound(waiting: f64) -> &'static str {
    if waiting > 0.1 {
        "making batches"
    } else {
        "the step"
    }
}

/// JSON writes NaN and infinity as null; such a value must not make a file unreadable.
fn number<'de, D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<f64, D::Error> {
    Ok(Option::<f64>::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

/// Receives the progress of a run.
pub trait Progress: Sync {
    /// A step is done: epoch from 0, steps done of all; then, for the epoch so far, the loss, samples a second and the share of time in
    /// which steps waited for their batches.
    fn step(&self, epoch: usize, done: usize, of: usize, loss: f64, rate: f64, waiting: f64);
    /// An epoch is done.
    fn epoch(&self, epoch: &Epoch, best: bool);
    /// Whether the run shall stop after the epoch's last saved state.
    fn stopped(&self) -> bool {
        false
    }
}

/// One step: forward, loss, backward, update; `at` is the progress of the run from 0 to 1. Returns the loss; if it is not
/// finite, the weights stay unchanged.
fn step(
    device: &Device,
    config: &Config,
    state: &mut State,
    batch: &Tensors,
    rng: &mut ChaCha8Rng,
    at: f32,
) -> Result<f64> {
    let (loss, gradients) = device.gradients(config, &state.model, batch, rng)?;
    if loss.is_finite() {
        update(config, state, &gradients, at)?;
    }
    Ok(loss)
}

/// Moves the weights along their gradients, which come in the order of the model's variables.
fn update(config: &Config, state: &mut State, gradients: &[Option<Tensor>], at: f32) -> Result<()> {
    state.step += 1;
    for (((_, var), moments), gradient) in state.model.vars.iter().zip(&mut state.moments).zip(gradients) {
        if let Some(gradient) = gradient {
            config.optimizer.update(var, gradient, moments, state.step, at)?;
            reuse(gradient)?;
        }
    }
    Ok(())
}

/// The function that makes a run's batches: scenes for the finder, crops for the others.
fn batch_maker(config: &Config) -> fn(&Dataset, &[usize], &Augment, &mut ChaCha8Rng) -> Batch {
    if config.net.finds() {
        Batch::scenes
    } else {
        Batch::make
    }
}

/// Maximal number of samples on which batch norms settle when a run starts from a weights file.
const SETTLE: usize = 512;

fn no_keypoint(pictures: usize, what: &str) -> String {
    match pictures {
        1 => format!("expected labelled keypoints, but the only picture to {what} has none"),
        n => format!("expected labelled keypoints, but none of the {n} pictures to {what} has a keypoint"),
    }
}

/// The faces to train on and those to validate on.
///
/// # Errors
/// A split without a picture or without a labelled keypoint, and what to do about it.
pub fn splits(config: &Config, data: &Dataset) -> Result<[Vec<usize>; 2]> {
    let bad = |what: String| Err(Error::Data(format!("{}: {what}", config.data)));
    let sides = [(Split::Train, "train", "train on"), (Split::Val, "val", "validate")];
    let [train, valid] = sides.map(|(split, ..)| data.split(split, config.seed));
    for (indices, (side, split, what)) in [&train, &valid].into_iter().zip(sides) {
        let faces: Vec<&Face> = indices.iter().map(|i| &data.faces[*i]).filter(|f| f.is_face()).collect();
        let unlabelled = data.unlabelled.iter().filter(|s| **s == Some(side)).count();
        if faces.is_empty() && unlabelled > 0 {
            return bad(no_keypoint(unlabelled, what));
        }
        if faces.is_empty() && data.faces.iter().all(|f| f.split.is_some()) {
            return bad(format!(
                "expected rows with split '{split}' to {what}, found none; without the column 'split', a fifth of the subjects validate"
            ));
        }
        if faces.is_empty() {
            let subjects: std::collections::BTreeSet<&str> = data.faces.iter().map(|f| f.subject.as_str()).collect();
            return bad(format!("expected faces of two subjects or more, some to {what}, found {}", subjects.len()));
        }
        if faces.iter().all(|f| f.points.iter().flatten().all(|v| !v.is_finite())) {
            return bad(no_keypoint(faces.len(), what));
        }
    }
    Ok([train, valid])
}

/// Trains from `state` on (a fresh one or a loaded checkpoint) and calls `save` after each epoch with its score and whether it
/// is the best so far. Returns false if the run was stopped.
///
/// # Errors
/// An empty split, a loss that is not finite, and those of `save`.
pub fn run(
    config: &Config,
    data: &Dataset,
    state: &mut State,
    progress: &dyn Progress,
    mut save: impl FnMut(&State, &Score, bool) -> Result<()>,
) -> Result<bool> {
    let [train, valid] = splits(config, data)?;
    let device: Device = config.device.parse()?;
    let keypoints = data.schema.len();
    if state.step == 0 && !config.init.is_empty() {
        let some: Vec<usize> = train.iter().step_by(train.len().div_ceil(SETTLE)).copied().collect();
        let make = batch_maker(config);
        let batch = make(data, &some, &config.augment, &mut rng(config.seed, usize::MAX >> 34, 1));
        state.settle(&Tensors::new(batch, keypoints, config.normalisation, config.net.unit_offset())?.pictures)?;
    }
    while config.end(&state.history).is_none() {
        let epoch = state.history.len();
        let order = epoch_order(config, data, &train, &mut rng(config.seed, epoch, 0));
        let batches: Vec<&[usize]> = order.chunks(config.batch).collect();
        let steps = batches.len();
        let (offset, start) = (config.net.unit_offset(), std::time::Instant::now());
        let mut total = 0f64;
        let (mut seen, mut waited) = (0, 0f64);
        // Batches are made in parallel with the steps, at most two ahead.
        let (send, receive) = std::sync::mpsc::sync_channel(2);
        let finished = std::thread::scope(|scope| -> Result<bool> {
            let batches = &batches;
            scope.spawn(move || {
                for (i, indices) in batches.iter().enumerate() {
                    let mut rng = rng(config.seed, epoch, i + 1);
                    let make = batch_maker(config);
                    let batch = make(data, indices, &config.augment, &mut rng);
                    if send.send((batch, rng)).is_err() {
                        return;
                    }
                }
            });
            // Moved into this closure, so that an error drops it and the thread above ends.
            let receive = receive;
            for i in 0..steps {
                let asked = std::time::Instant::now();
                let Ok((batch, mut rng)) = receive.recv() else { break };
                waited += asked.elapsed().as_secs_f64();
                let batch = Tensors::new(batch, keypoints, config.normalisation, offset)?;
                let at = (epoch as f32 + i as f32 / steps as f32) / config.epochs as f32;
                // The tutorial updates its schedules once an epoch, from the first value to the last.
                let at = match config.optimizer {
                    Optimizer::Nesterov { .. } => epoch as f32 / (config.epochs.max(2) - 1) as f32,
                    Optimizer::AdamW { .. } | Optimizer::Muon { .. } => at,
                };
                let value = step(&device, config, state, &batch, &mut rng, at)?;
                if !value.is_finite() {
                    return Err(Error::Config(format!(
                        "epoch {}: the loss is {value}; lower the learning rate",
                        epoch + 1
                    )));
                }
                state.move_average(config.average)?;
                total += value;
                seen += batch.presence.dim(0)?;
                let seconds = start.elapsed().as_secs_f64();
                progress.step(epoch, i + 1, steps, total / (i + 1) as f64, seen as f64 / seconds, waited / seconds);
                if progress.stopped() {
                    return Ok(false);
                }
            }
            Ok(true)
        })?;
        if !finished {
            return Ok(false);
        }
        let trained = start.elapsed().as_secs_f64();
        let score = validate(&state.averaged(config.average)?.inference()?, config, data, &valid)?;
        let line = Epoch {
            epoch: epoch + 1,
            train_loss: total / steps as f64,
            valid_rmse_px: score.rmse_px,
            valid_nme_pct: score.nme_pct,
            learning_rate: config.optimizer.learning_rate((epoch + 1) as f32 / config.epochs as f32),
            samples_per_second: seen as f64 / trained,
            seconds: state.history.last().map_or(0., |e| e.seconds) + start.elapsed().as_secs_f64(),
            waiting: waited / trained,
        };
        state.history.push(line.clone());
        let best = best_epoch(&state.history, config.loss).is_some_and(|e| e.epoch == line.epoch);
        save(state, &score, best)?;
        progress.epoch(&line, best);
    }
    Ok(true)
}

/// The error of a net on the faces at `indices`, without augmentation.
///
/// # Errors
/// Only errors of candle itself.
pub fn validate(net: &Net, config: &Config, data: &Dataset, indices: &[usize]) -> Result<Score> {
    let faces: Vec<_> = indices.iter().map(|i| &data.faces[*i]).filter(|f| f.is_face()).collect();
    let mut predicted = Vec::new();
    for faces in faces.chunks(64) {
        predicted.extend(predict(net, config, faces)?);
    }
    Ok(Score::new(&data.schema, faces.iter().map(|f| f.points.as_slice()).zip(predicted.iter().map(Vec::as_slice))))
}

/// The keypoints of a batch of faces, in pixels of the crop.
///
/// # Errors
/// Only errors of candle itself.
pub fn predict(net: &Net, config: &Config, faces: &[&crate::data::Face]) -> Result<Vec<Vec<[f32; 2]>>> {
    use rayon::prelude::*;
    let crops: Vec<Vec<f32>> = faces
        .par_iter()
        .map(|f| {
            let mut crop = f.crop();
            config.normalisation.apply(&mut crop);
            crop
        })
        .collect();
    let pictures = Tensor::from_vec(crops.concat(), (faces.len(), SIDE, SIDE, 1), &candle_core::Device::Cpu)?;
    let output = net.forward_t(&pictures, &Mode::Infer)?;
    if let Output::Boxes(boxes) = &output {
        return finder::corners(boxes);
    }
    let keypoints = faces[0].points.len();
    let (half, offset) = (SIDE as f32 / 2., config.net.unit_offset());
    let Some(places) = places(&output, keypoints)? else { return Ok(vec![]) };
    let places: Vec<f32> = places.flatten_all()?.to_vec1()?;
    Ok(places
        .chunks_exact(2 * keypoints)
        .map(|row| row.chunks_exact(2).map(|p| [p[0] * half + offset, p[1] * half + offset]).collect())
        .collect())
}

/// The weights file of a run's averaged weights.
///
/// # Errors
/// Only errors of candle itself.
pub fn export(
    config: &Config,
    data: &str,
    schema: &crate::schema::Schema,
    mean_shape: Option<Vec<[f32; 2]>>,
    state: &State,
) -> Result<Weights> {
    let tensors = state.averaged(config.average)?.export()?;
    let tensors = tensors.into_iter().map(|(name, tensor)| {
        let shape = tensor.dims().to_vec();
        Ok((name, shape, tensor.flatten_all()?.to_vec1::<f32>()?))
    });
    let training = serde_json::json!({
        "data": data,
        "seed": config.seed,
        "epochs": state.history.len(),
        "valid": state.history.last(),
    });
    let meta = Metadata {
        net: config.preset.clone(),
        config: config.net.clone(),
        schema: schema.clone(),
        side: SIDE,
        normalisation: config.normalisation,
        crate_version: env!("CARGO_PKG_VERSION").into(),
        training,
        mean_shape,
        calibration: None,
    };
    Weights::new(meta, tensors.collect::<Result<Vec<_>>>()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{load, Options};
    use crate::nets::compact::CompactConfig;

    struct Quiet;

    impl Progress for Quiet {
        fn step(&self, _: usize, _: usize, _: usize, _: f64, _: f64, _: f64) {}
        fn epoch(&self, _: &Epoch, _: bool) {}
    }

    fn small(epochs: usize) -> (Config, Dataset) {
        let mut config = Config::preset("compact").unwrap();
        config.net = NetConfig::Compact(CompactConfig {
            channels: [4, 8, 8, 8],
            blocks: [0, 1, 1, 1],
            head: 8,
            confidence: true,
            reach: vec![],
        });
        (config.epochs, config.batch, config.average) = (epochs, 8, 0.9);
        (config, load("synthetic:20", Options::default()).unwrap())
    }

    #[test]
    fn the_same_seed_gives_the_same_numbers_and_a_resumed_run_goes_on_to_them() {
        let (config, data) = small(3);
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("last.ckpt");
        let mut whole = State::new(&config, data.schema.len()).unwrap();
        let saved =
            |state: &State, _: &Score, _| if state.history.len() == 1 { state.save(&file, &config) } else { Ok(()) };
        run(&config, &data, &mut whole, &Quiet, saved).unwrap();
        let mut resumed = State::load(&file, &config, data.schema.len()).unwrap();
        run(&config, &data, &mut resumed, &Quiet, |_, _, _| Ok(())).unwrap();
        let numbers = |s: &State| s.history.iter().map(|e| (e.train_loss, e.valid_rmse_px)).collect::<Vec<_>>();
        assert_eq!(numbers(&whole), numbers(&resumed));
        let mut again = State::new(&config, data.schema.len()).unwrap();
        run(&config, &data, &mut again, &Quiet, |_, _, _| Ok(())).unwrap();
        assert_eq!(numbers(&whole), numbers(&again));
    }

    #[test]
    fn a_run_ends_by_epochs_patience_or_time() {
        let (mut config, _) = small(5);
        let history = |rmse: &[f64]| {
            let epoch = |(i, valid_rmse_px): (usize, &f64)| Epoch {
                epoch: i + 1,
                train_loss: 0.,
                valid_rmse_px: *valid_rmse_px,
                valid_nme_pct: *valid_rmse_px,
                learning_rate: 0.,
                samples_per_second: 0.,
                waiting: 0.,
                seconds: 10. * (i + 1) as f64,
            };
            rmse.iter().enumerate().map(epoch).collect::<Vec<_>>()
        };
        assert_eq!(config.end(&[]), None);
        assert_eq!(config.end(&history(&[3., 2., 2., 2.5])), None);
        assert_eq!(config.end(&history(&[5., 4., 3., 2., 1.])), Some(End::Epochs));
        config.patience = 2;
        // Epoch 2 is the best (the first of equals), so epoch 4 is the second one without improvement.
        assert_eq!(config.end(&history(&[3., 2., 2.])), None);
        assert_eq!(config.end(&history(&[3., 2., 2., 2.5])), Some(End::Patience));
        (config.patience, config.seconds) = (0, 20.);
        assert_eq!(config.end(&history(&[3.])), None);
        assert_eq!(config.end(&history(&[3., 2.])), Some(End::Time));
    }

    #[test]
    fn a_history_with_a_value_that_is_no_number_is_read_back() {
        let (config, data) = small(1);
        let mut state = State::new(&config, data.schema.len()).unwrap();
        run(&config, &data, &mut state, &Quiet, |_, _, _| Ok(())).unwrap();
        state.history[0].valid_nme_pct = f64::NAN;
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("last.ckpt");
        state.save(&file, &config).unwrap();
        for history in [State::history(&file).unwrap(), State::load(&file, &config, 15).unwrap().history] {
            assert!(history[0].valid_nme_pct.is_nan() && history[0].train_loss == state.history[0].train_loss);
        }
    }

    #[test]
    fn a_side_without_faces_or_labels_is_told_before_the_first_epoch() {
        let (config, data) = small(1);
        let error = |change: &dyn Fn(usize, &mut Face)| {
            let mut data = data.clone();
            data.faces.iter_mut().enumerate().for_each(|(i, f)| change(i, f));
            splits(&config, &data).unwrap_err().to_string()
        };
        let text = error(&|_, f| f.split = Some(Split::Train));
        assert!(text.contains("expected rows with split 'val' to validate, found none"), "{text}");
        let text = error(&|_, f| (f.split, f.subject) = (None, "one".into()));
        assert!(text.contains("faces of two subjects or more"), "{text}");
        let text = error(&|i, f| {
            if i >= 16 {
                f.points.fill([f32::NAN; 2])
            }
        });
        assert!(text.contains("none of the 4 pictures to validate has a keypoint"), "{text}");
        let text = error(&|i, f| {
            if i < 16 {
                f.points.fill([f32::NAN; 2])
            }
        });
        assert!(text.contains("none of the 16 pictures to train on has a keypoint"), "{text}");
    }

    #[test]
    fn few_faces_get_eight_steps_an_epoch_and_many_are_trained_as_ever() {
        let suited = |preset: &str, faces: usize| {
            let mut config = Config::preset(preset).unwrap();
            let changed = config.suit(faces);
            (changed, config.batch, config.repeats)
        };
        assert_eq!(suited("compact", 40), (true, 20, 4));
        assert_eq!(suited("compact", 1), (true, 16, 128));
        assert_eq!(suited("compact", 127), (true, 32, 2));
        assert_eq!(suited("compact", 400), (true, 50, 1));
        assert_eq!(suited("compact", 511), (true, 64, 1));
        for (preset, faces) in [("compact", 512), ("compact", 30_000), ("finder", 600), ("net2", 40), ("compact", 0)] {
            let config = Config::preset(preset).unwrap();
            assert_eq!(suited(preset, faces), (false, config.batch, 1), "{preset} {faces}");
        }
        let (mut config, mut data) = small(1);
        let train = data.split(Split::Train, 42);
        data.faces[train[0]].source = "other".into();
        let order = |config: &Config| epoch_order(config, &data, &train, &mut rng(42, 0, 0));
        let often = |config: &Config| {
            train.iter().map(|i| order(config).iter().filter(|j| *j == i).count()).collect::<Vec<_>>()
        };
        assert!(often(&config).iter().all(|n| *n == 1));
        config.repeats = 3;
        assert!(often(&config).iter().all(|n| *n == 3));
        config.weights.insert("other".into(), 2.);
        assert_eq!((often(&config)[0], often(&config)[1]), (6, 3));
    }

    #[test]
    fn specialists_with_few_faces_take_more_epochs() {
        // Kaggle's file has 7,049 nose tips, and 2,260 mouths with all three points of the tutorial's group.
        assert_eq!((specialist_epochs(7049), specialist_epochs(2260)), (1418, 4424));
    }

    #[test]
    fn overfits_a_few_faces() {
        let (mut config, data) = small(150);
        config.augment = Augment::NONE;
        config.optimizer = Optimizer::AdamW { lr: 1e-2, weight_decay: 0., warmup: 0.1 };
        let mut state = State::new(&config, data.schema.len()).unwrap();
        run(&config, &data, &mut state, &Quiet, |_, _, _| Ok(())).unwrap();
        let last = state.history.last().unwrap().train_loss;
        // A scale of 1 px and errors of that mean size would give 1.
        assert!(last < 0.8, "a likelihood of {last} on the 16 faces trained on");
    }
}
