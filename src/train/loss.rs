//! The losses of training, and the tensors that a batch becomes for them.

use super::finder;
use crate::data::augment::Batch;
use crate::error::{Error, Result};
use crate::nets::{NetConfig, Output, HEATMAP_CELL, SIDE};
use crate::picture::Normalisation;
use candle_core::{DType, Tensor};
use serde::{Deserialize, Serialize};

/// The loss of the keypoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Loss {
    /// Mean squared error in the tutorial's units ((p - 48) / 48).
    Mse,
    /// Smooth L1 in pixels: quadratic below one pixel (Girshick 2015).
    SmoothL1,
    /// Negative log-likelihood of the error in pixels under a Laplace distribution as wide as the keypoint's own heatmap, for
    /// nets with heatmaps: a keypoint that the net sees sharply counts for more, and each heatmap learns its own uncertainty
    /// (Kendall and Gal 2017; the spread is not a separate output but that of the heatmap).
    Laplace,
}

/// A batch as tensors: pictures (B, 96, 96, 1) normalised, targets (B, K, 2) in the net's units with 0 where missing, mask
/// (B, K, 2) with the weight of each coordinate in the loss, 0 where missing, presence (B, 1), unit (B, 1) of the error in the net's units.
pub(super) struct Tensors {
    pub(super) pictures: Tensor,
    pub(super) targets: Tensor,
    pub(super) mask: Tensor,
    pub(super) presence: Tensor,
    pub(super) unit: Tensor,
    /// The finder's targets, instead of keypoints.
    pub(super) boxes: Option<Tensor>,
}

impl Tensors {
    pub(super) fn new(mut batch: Batch, keypoints: usize, normalisation: Normalisation, offset: f32) -> Result<Self> {
        let b = batch.presence.len();
        let boxes = finder::targets(&batch.boxes)?;
        let (keypoints, unit) = if boxes.is_some() { (0, vec![0.; b]) } else { (keypoints, batch.unit) };
        batch.pixels.chunks_exact_mut(SIDE * SIDE).for_each(|p| normalisation.apply(p));
        let half = SIDE as f32 / 2.;
        let targets = batch.points.iter().map(|p| if p.is_finite() { (p - offset) / half } else { 0. }).collect();
        let weights = batch.weights.iter().flat_map(|w| [w; 2]);
        let mask: Vec<f32> =
            batch.points.iter().zip(weights).map(|(p, w)| if p.is_finite() { *w } else { 0. }).collect();
        let device = &candle_core::Device::Cpu;
        Ok(Self {
            pictures: Tensor::from_vec(batch.pixels, (b, SIDE, SIDE, 1), device)?,
            targets: Tensor::from_vec::<_, f32>(targets, (b, keypoints, 2), device)?,
            mask: Tensor::from_vec(mask, (b, keypoints, 2), device)?,
            presence: Tensor::from_vec(batch.presence, (b, 1), device)?,
            unit: (Tensor::from_vec(unit, (b, 1), device)? / f64::from(half))?,
            boxes,
        })
    }
}

/// Keypoints (B, K, 2) in the net's units; `None` for a finder.
pub(super) fn places(output: &Output, keypoints: usize) -> Result<Option<Tensor>> {
    Ok(match output {
        Output::Heatmaps { places, .. } => Some(places.narrow(2, 0, 2)?.contiguous()?),
        Output::Points(points) => Some(points.reshape(((), keypoints, 2))?),
        Output::Boxes(_) => None,
    })
}

/// Weights of the presence and confidence losses, relative to the keypoint loss.
const PRESENCE_WEIGHT: f64 = 1.;
const CONFIDENCE_WEIGHT: f64 = 0.4;

/// The smallest scale of [`Loss::Laplace`], in pixels: smaller errors are those of the labels. With 0.2, a few sharp but wrong points
/// outweigh all others: 2.24 % instead of 1.89 % after four epochs (`docs/experiments.md`).
const SHARPEST: f64 = 0.6;

/// The variance of a heatmap that does not count as uncertainty, in squared cells, per axis. A point between the centres of two cells
/// needs weight on both, which is a variance of up to 0.25; a heatmap that moves smoothly with its point is a Gaussian of three
/// quarters of a cell. If this variance were charged, points would stick to the centres of cells.
const FREE_SPREAD: f64 = 0.6;

/// A keypoint is right if its error is at most this share of the unit (see [`Batch::unit`]).
pub const RIGHT: f64 = 0.05;

/// Binary cross-entropy of logits: max(z, 0) - z y + log(1 + exp(-|z|)).
fn entropy(logits: &Tensor, y: &Tensor) -> Result<Tensor> {
    let soft = ((logits.abs()?.neg()?.exp()? + 1.)?).log()?;
    Ok(((logits.relu()? - (logits * y)?)? + soft)?)
}

pub(super) fn loss(output: &Output, batch: &Tensors, kind: Loss, net: &NetConfig) -> Result<Tensor> {
    let keypoints = batch.targets.dim(1)?;
    let places = match (output, places(output, keypoints)?, &batch.boxes) {
        (Output::Boxes(boxes), _, Some(targets)) => return finder::loss(boxes, targets),
        (_, Some(places), None) => places,
        _ => return Err(Error::Config("a finder is trained on scenes, other nets on crops".into())),
    };
    let count = batch.mask.sum_all()?.to_scalar::<f32>()?.max(1.);
    let known = batch.mask.gt(0f32)?.to_dtype(DType::F32)?;
    let error = ((places - &batch.targets)? * &known)?;
    let each = match kind {
        Loss::Mse => error.sqr()?,
        Loss::SmoothL1 => {
            let pixels = (error.abs()? * (SIDE as f64 / 2.))?;
            let near = pixels.minimum(1f32)?;
            (&near * (pixels - (&near * 0.5)?)?)?
        }
        Loss::Laplace => {
            let Output::Heatmaps { places, .. } = output else {
                return Err(Error::Config("the loss laplace needs a net with heatmaps".into()));
            };
            let half = SIDE as f64 / 2.;
            // The variance is of x plus that of y; a Laplace distribution has twice the square of its scale, on each axis.
            let variance = (places.narrow(2, 2, 1)? * (half * half))?;
            let free = (0..keypoints).map(|k| 2. * FREE_SPREAD as f32 * (HEATMAP_CELL * net.reach(k)).powi(2));
            let free = Tensor::from_vec(free.collect::<Vec<_>>(), (1, keypoints, 1), variance.device())?;
            let doubt = (variance.broadcast_sub(&free)?.relu()? / 4.)?;
            let scale = (doubt + SHARPEST * SHARPEST)?.sqrt()?;
            let pixels = (error.abs()? * half)?;
            pixels.broadcast_div(&scale)?.broadcast_add(&scale.log()?)?
        }
    };
    let mut total = ((each * &batch.mask)?.sum_all()? / f64::from(count))?;
    if let (Output::Heatmaps { logits, .. }, true) = (output, kind != Loss::Mse) {
        let presence = entropy(&logits.narrow(1, 0, 1)?, &batch.presence)?.mean_all()?;
        total = (total + (presence * PRESENCE_WEIGHT)?)?;
        if logits.dim(1)? == 1 + keypoints {
            // Target of a keypoint's confidence: whether this prediction is within RIGHT of its label.
            let squares = error.detach().sqr()?.sum(2)?;
            let right = squares.broadcast_le(&(batch.unit.sqr()? * (RIGHT * RIGHT))?)?.to_dtype(DType::F32)?;
            let known = known.narrow(2, 0, 1)?.squeeze(2)?;
            let points = known.sum_all()?.to_scalar::<f32>()?.max(1.);
            let said = (entropy(&logits.narrow(1, 1, keypoints)?, &right)? * known)?.sum_all()?;
            total = (total + (said * (CONFIDENCE_WEIGHT / f64::from(points)))?)?;
        }
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One face of two keypoints, the second of them unknown, and the outputs of a net with heatmaps: the known point is 2.4 px too
    /// far right, and its variance is 8 px^2 above what is free.
    fn a_face_by_hand() -> (Output, Tensors) {
        let tensor =
            |values: &[f32], shape: &[usize]| Tensor::from_slice(values, shape, &candle_core::Device::Cpu).unwrap();
        let free = 2. * (FREE_SPREAD as f32) * HEATMAP_CELL * HEATMAP_CELL;
        let variance = (free + 8.) / (48. * 48.);
        let output = Output::Heatmaps {
            places: tensor(&[0.1, -0.05, variance, 0.7, 0.7, 0.5], &[1, 2, 3]),
            logits: tensor(&[2., 1., 3.], &[1, 3]),
        };
        let batch = Tensors {
            pictures: tensor(&[0.], &[1, 1, 1, 1]),
            targets: tensor(&[0.05, -0.05, 0., 0.], &[1, 2, 2]),
            mask: tensor(&[1., 1., 0., 0.], &[1, 2, 2]),
            presence: tensor(&[1.], &[1, 1]),
            unit: tensor(&[40. / 48.], &[1, 1]),
            boxes: None,
        };
        (output, batch)
    }

    #[test]
    fn losses_by_hand() {
        let (output, mut batch) = a_face_by_hand();
        let net = NetConfig::by_name("compact").unwrap();
        let value = |batch: &Tensors, kind| loss(&output, batch, kind, &net).unwrap().to_scalar::<f32>().unwrap();
        let near = |got: f32, by_hand: f32| assert!((got - by_hand).abs() < 2e-5, "{got}, by hand {by_hand}");
        // Presence: logit 2 of a face, log(1 + exp(-2)) = 0.126928. Confidence: 2.4 px are more than 5 % of 40 px, so logit 1 is
        // wrong, 1 + log(1 + exp(-1)) = 1.313262; the unknown point does not count.
        let said = 0.126928 + 0.4 * 1.313262;
        near(value(&batch, Loss::Mse), 0.05 * 0.05 / 2.);
        near(value(&batch, Loss::SmoothL1), (2.4 - 0.5) / 2. + said);
        // Scale sqrt(8 / 4 + 0.36) = 1.536229, its logarithm 0.429331; x 2.4 / 1.536229 + 0.429331, y 0.429331.
        near(value(&batch, Loss::Laplace), (1.991598 + 0.429331) / 2. + said);
        // With a unit of 50 px the error is less than 5 %, so logit 1 is right, log(1 + exp(-1)) = 0.313262.
        batch.unit = (batch.unit * 1.25).unwrap();
        near(value(&batch, Loss::Laplace), (1.991598 + 0.429331) / 2. + 0.126928 + 0.4 * 0.313262);
        // A heatmap that reaches twice as far has cells twice as wide, so all of this variance is free: scale 0.6, its logarithm
        // -0.510826, on both axes.
        let mut far = NetConfig::by_name("compact").unwrap();
        far.reach_to(&[2., 1.]);
        let wide = loss(&output, &batch, Loss::Laplace, &far).unwrap().to_scalar::<f32>().unwrap();
        near(wide, (2.4 / 0.6 - 2. * 0.510826) / 2. + 0.126928 + 0.4 * 0.313262);
        // A label of less weight counts less.
        batch.mask = (batch.mask * 0.3).unwrap();
        near(value(&batch, Loss::Mse), 0.3 * 0.05 * 0.05);
    }
}
