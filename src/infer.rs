//! Inference on one picture, shared by the browser and the command line.
//!
//! In: a grey or RGBA crop of 96 x 96. Out: presence, and for each keypoint its place in pixels of the crop and its
//! confidence; or, from a finder, boxes of faces.

use crate::error::{Error, Result};
use crate::geometry::CropBox;
use crate::nets::layers::Mode;
use crate::nets::{Net, Output, FINDER_SIZE, FINDER_VALUES, SIDE};
use crate::picture::{grey_from_rgba, Normalisation};
use crate::weights::{Calibration, Weights};
use candle_core::{Device, Tensor};

/// The heatmap variance, in units of half the crop's side squared, at which a keypoint's confidence is 1/2 for a net without a
/// confidence output: a standard deviation of a tenth of the side (about 10 pixels) along both axes.
const HALF_CONFIDENCE: f32 = 2. * 0.2 * 0.2;

fn sigmoid(logit: f32) -> f32 {
    1. / (1. + (-logit).exp())
}

/// A net with its preprocessing, for one picture at a time.
struct Runner {
    net: Net,
    normalisation: Normalisation,
    /// The picture, (96, 96) normalised grey values.
    input: Vec<f32>,
}

impl Runner {
    /// Packs the weights for this processor, by a forward pass on an empty picture.
    fn new(weights: &Weights) -> Result<(Self, Output)> {
        let net = weights.net()?;
        let runner = Self { net, normalisation: weights.meta.normalisation, input: vec![0.; SIDE * SIDE] };
        let output = runner.run(&Mode::Infer)?;
        Ok((runner, output))
    }

    fn run(&self, mode: &Mode) -> Result<Output> {
        let picture = Tensor::from_slice(&self.input, (1, SIDE, SIDE, 1), &Device::Cpu)?;
        Ok(self.net.forward_t(&picture, mode)?)
    }

    /// Sets the picture: grey values from 0 to 255.
    fn take_grey(&mut self, grey: &[f32]) -> Result<()> {
        if grey.len() != self.input.len() {
            let expected = self.input.len();
            return Err(Error::Input(format!(
                "expected {SIDE} x {SIDE} = {expected} grey pixels, found {}",
                grey.len()
            )));
        }
        self.input.copy_from_slice(grey);
        self.normalisation.apply(&mut self.input);
        Ok(())
    }
}

fn values(tensor: &Tensor) -> Result<Vec<f32>> {
    Ok(tensor.flatten_all()?.to_vec1()?)
}

/// A net with its weights, its preprocessing and its result in pixels.
pub struct Detector {
    runner: Runner,
    calibration: Calibration,
    /// Number of logits of the net: 0, 1 (presence), or 1 + K (presence and the confidence of each keypoint).
    logits: usize,
    result: Vec<f32>,
}

impl Detector {
    /// Builds the net and packs its weights.
    ///
    /// # Errors
    /// Weights that do not fit their own net, or that are a finder's.
    pub fn new(weights: &Weights) -> Result<Self> {
        let (runner, output) = Runner::new(weights)?;
        let logits = match output {
            Output::Heatmaps { logits, .. } => logits.elem_count(),
            Output::Points(_) => 0,
            Output::Boxes(_) => {
                let net = &weights.meta.net;
                return Err(Error::Weights(format!("expected a net that gives keypoints, found the finder '{net}'")));
            }
        };
        let calibration = weights.meta.calibration.unwrap_or_default();
        Ok(Self { runner, calibration, logits, result: vec![0.; 1 + 3 * weights.meta.schema.len()] })
    }

    /// Whether the net has a presence output.
    pub fn has_presence(&self) -> bool {
        self.logits > 0
    }

    /// Whether the net has a confidence output for each keypoint.
    pub fn has_confidences(&self) -> bool {
        self.logits > 1
    }

    /// Keypoints of a crop of 96 x 96 grey values in 0 to 255: `[presence, x0, y0, confidence0, x1, y1, confidence1, ...]`.
    ///
    /// Presence is in 0 to 1, and 1 for a net that has no such output. x and y are pixels of the crop, the centre of
    /// its first pixel at (0, 0). Confidence is in 0 to 1: the net's own estimate that the keypoint is right, or else a measure of how
    /// narrow its heatmap is; for a regression net, which has neither, the presence again.
    ///
    /// # Errors
    /// A buffer of the wrong length.
    pub fn detect_grey(&mut self, grey: &[f32]) -> Result<&[f32]> {
        self.runner.take_grey(grey)?;
        self.detect()
    }

    /// The same for 96 x 96 RGBA pixels, `4 * 96 * 96` bytes. Alpha is ignored.
    ///
    /// # Errors
    /// A buffer of the wrong length.
    pub fn detect_rgba(&mut self, rgba: &[u8]) -> Result<&[f32]> {
        grey_from_rgba(rgba, &mut self.runner.input)?;
        self.runner.normalisation.apply(&mut self.runner.input);
        self.detect()
    }

    /// Runs the forward pass on the last input again, without pre- and post-processing: for benchmarks and traces.
    ///
    /// # Errors
    /// Only errors of candle itself.
    pub fn forward(&self, mode: &Mode) -> Result<Output> {
        self.runner.run(mode)
    }

    fn detect(&mut self) -> Result<&[f32]> {
        let half = SIDE as f32 / 2.;
        match self.runner.run(&Mode::Infer)? {
            Output::Heatmaps { places, logits } => {
                let (places, logits) = (values(&places)?, values(&logits)?);
                self.result[0] = sigmoid(logits[0]);
                let middle = (SIDE as f32 - 1.) / 2.;
                let points = self.result[1..].chunks_exact_mut(3).zip(places.chunks_exact(3));
                // The net's -1 and 1 are the crop's edges, half a pixel outside the centres of its first and last pixels.
                for (k, (out, p)) in points.enumerate() {
                    let said = logits.get(1 + k).map(|logit| self.calibration.confidence(*logit));
                    let confidence = said.unwrap_or(1. / (1. + p[2] / HALF_CONFIDENCE));
                    out.copy_from_slice(&[p[0] * half + middle, p[1] * half + middle, confidence]);
                }
            }
            Output::Points(points) | Output::Boxes(points) => {
                self.result[0] = 1.;
                // The tutorial's convention: (p - 48) / 48.
                let points = values(&points)?;
                for (out, p) in self.result[1..].chunks_exact_mut(3).zip(points.chunks_exact(2)) {
                    out.copy_from_slice(&[p[0] * half + half, p[1] * half + half, 1.]);
                }
            }
        }
        Ok(&self.result)
    }
}

/// A face that a [`Finder`] found, in pixels of the 96 x 96 frame.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Found {
    /// Score, 0 to 1.
    pub score: f32,
    /// Centre, x.
    pub x: f32,
    /// Centre, y.
    pub y: f32,
    /// Side of the box.
    pub size: f32,
    /// Radians, clockwise on the screen.
    pub roll: f32,
}

impl Found {
    /// The face's box.
    pub fn square(&self) -> CropBox {
        CropBox { x: self.x, y: self.y, size: self.size, roll: self.roll }
    }
}

/// Largest number of faces that a finder returns.
pub const MOST_FOUND: usize = 8;

/// Intersection over union above which two boxes are the same face.
const SAME_BOX: f32 = 0.3;

/// Faces in a finder's output of `side` x `side` places of `stride` values, in pixels of a frame of `pixels` x `pixels`: the
/// places whose score is at least `least` and the highest among their neighbours, best first, without overlaps.
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

/// The net that finds faces in a whole frame, letterboxed to 96 x 96: scaled so that its longest side fits, centred,
/// the rest black.
pub struct Finder {
    runner: Runner,
    /// Places along a side of the output.
    side: usize,
    /// Lowest score of a face; [`FOUND_SCORE`] unless changed.
    pub least_score: f32,
    found: Vec<Found>,
}

/// Default of [`Finder::least_score`]: the lowest of 0.3 to 0.7 that gives no false face on the validation people and pictures
/// (`face96 eval` on a finder prints all of them).
pub const FOUND_SCORE: f32 = 0.5;

impl Finder {
    /// Builds the net and packs its weights.
    ///
    /// # Errors
    /// Weights of another net.
    pub fn new(weights: &Weights) -> Result<Self> {
        let (runner, output) = Runner::new(weights)?;
        let Output::Boxes(boxes) = output else {
            return Err(Error::Weights(format!("expected a finder, found net '{}'", weights.meta.net)));
        };
        let (_, side, _, _) = boxes.dims4()?;
        Ok(Self { runner, side, least_score: FOUND_SCORE, found: Vec::with_capacity(side * side) })
    }

    /// Faces in a letterboxed frame of 96 x 96 grey values in 0 to 255, at most 8, best first.
    ///
    /// # Errors
    /// A buffer of the wrong length.
    pub fn find_grey(&mut self, grey: &[f32]) -> Result<&[Found]> {
        self.runner.take_grey(grey)?;
        if let Output::Boxes(boxes) = self.runner.run(&Mode::Infer)? {
            decode(&values(&boxes)?, self.side, FINDER_VALUES, SIDE, self.least_score, &mut self.found);
        }
        Ok(&self.found)
    }
}

#[cfg(all(test, feature = "native"))]
mod tests {
    use super::*;
    use crate::nets::{compact::CompactConfig, NetConfig};
    use crate::schema::Schema;
    use candle_core::{DType, Var};
    use candle_nn::VarBuilder;

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
                    // Half of what a track needs to survive.
                    let presence = net.detect_grey(&crop).unwrap()[0];
                    assert!(presence < 0.15, "{presence} for grey {level}, {slope} a row");
                }
            }
        }
    }

    /// A net with random weights, batch norm folded, twice: one to be packed, one for candle's own ops.
    fn twice(config: &NetConfig, keypoints: usize) -> [Net; 2] {
        let mut seed = 7;
        let parameters = crate::nets::vars::parameters(true, |vb| Net::new(config, keypoints, vb)).unwrap();
        let tensors: std::collections::HashMap<String, Tensor> = parameters
            .into_iter()
            .map(|p| {
                let scale = if let candle_nn::Init::Uniform { up, .. } = p.init { up as f32 } else { 0.1 };
                let values = noise(&mut seed, p.shape.iter().product(), scale);
                let var = Var::from_tensor(&Tensor::from_vec(values, p.shape, &Device::Cpu).unwrap()).unwrap();
                (p.name, var.into_inner())
            })
            .collect();
        let net = || {
            let vb = VarBuilder::from_tensors(tensors.clone(), DType::F32, &Device::Cpu);
            Net::new(config, keypoints, vb).unwrap()
        };
        [net(), net()]
    }

    /// All outputs of a net, one value after the other.
    fn all(output: Output) -> Vec<f32> {
        match output {
            Output::Heatmaps { places, logits } => [values(&places).unwrap(), values(&logits).unwrap()].concat(),
            Output::Points(points) => values(&points).unwrap(),
            Output::Boxes(boxes) => values(&boxes).unwrap(),
        }
    }

    #[test]
    fn every_net_agrees_with_candles_own_ops() {
        let mut nets: Vec<_> = crate::nets::tests::distinct().map(|(name, net)| (name.to_string(), net, 15)).collect();
        let odd = NetConfig::Compact(CompactConfig {
            channels: [5, 9, 18, 30],
            blocks: [1, 2, 2, 2],
            head: 7,
            confidence: true,
            reach: vec![1., 1.5, 1., 2.],
        });
        nets.push(("compact of odd sizes".into(), odd, 4));
        for (name, config, keypoints) in nets {
            let [ours, theirs] = twice(&config, keypoints);
            // One picture, then several at once, for which the first pass has laid out nothing.
            for (seed, batch) in [(1, 1), (2, 3), (3, 1)] {
                let pixels = noise(&mut { seed }, batch * SIDE * SIDE, 1.5);
                let pictures = Tensor::from_vec(pixels, (batch, SIDE, SIDE, 1), &Device::Cpu).unwrap();
                let found = all(ours.forward_t(&pictures, &Mode::Infer).unwrap());
                let expected = all(theirs.forward_t(&pictures, &Mode::Candle(None)).unwrap());
                assert_eq!(found.len(), expected.len(), "{name}");
                // To 1e-4 of the largest value: the 16-bit weights of a dense layer make an error that scales with the terms of the sum,
                // not with the sum.
                let largest = expected.iter().fold(1f32, |m, v| m.max(v.abs()));
                for (i, (a, b)) in found.iter().zip(&expected).enumerate() {
                    assert!((a - b).abs() <= 1e-4 * largest, "{name}: [{i}] is {a}, candle has {b}");
                }
                assert_eq!(all(ours.forward_t(&pictures, &Mode::Infer).unwrap()), found, "{name} repeats itself");
            }
        }
    }

    #[test]
    fn a_net_laid_out_for_inference_cannot_be_trained() {
        let [net, _] = twice(&NetConfig::by_name("compact").unwrap(), 15);
        let picture = Tensor::zeros((1, SIDE, SIDE, 1), DType::F32, &Device::Cpu).unwrap();
        net.forward_t(&picture, &Mode::Infer).unwrap();
        let error = net.forward_t(&picture, &Mode::Candle(None)).err().unwrap().to_string();
        assert!(error.contains("stage1.down") && error.contains("laid out for inference"), "{error}");
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

    fn detector(name: &str, normalisation: Normalisation) -> Detector {
        let mut weights = crate::weights::tests::random(name, Schema::kaggle());
        weights.meta.normalisation = normalisation;
        Detector::new(&weights).unwrap()
    }

    #[test]
    fn results_are_pixels_of_the_crop() {
        let grey: Vec<f32> = noise(&mut 9, 96 * 96, 100.).iter().map(|v| v + 120.).collect();
        let mut heat = detector("compact", Normalisation::Standard);
        let result = heat.detect_grey(&grey).unwrap().to_vec();
        assert_eq!(result.len(), 1 + 3 * 15);
        let Output::Heatmaps { places, logits } = heat.forward(&Mode::Infer).unwrap() else { panic!("has heatmaps") };
        assert!((result[0] - 1. / (1. + (-values(&logits).unwrap()[0]).exp())).abs() < 1e-6);
        for (out, raw) in result[1..].chunks(3).zip(values(&places).unwrap().chunks(3)) {
            assert_eq!(out[..2], [raw[0] * 48. + 47.5, raw[1] * 48. + 47.5]);
            assert!((0. ..=1.).contains(&out[2]));
        }
        let mut regression = detector("net2", Normalisation::Unit);
        let result = regression.detect_grey(&grey).unwrap().to_vec();
        let Output::Points(points) = regression.forward(&Mode::Infer).unwrap() else { panic!("has points") };
        for (out, raw) in result[1..].chunks(3).zip(values(&points).unwrap().chunks(2)) {
            assert_eq!(out, [raw[0] * 48. + 48., raw[1] * 48. + 48., 1.]);
        }
        assert_eq!(result[0], 1.);
    }

    #[test]
    fn a_finder_is_no_keypoint_net_and_a_keypoint_net_no_finder() {
        let of = |net| crate::weights::tests::random(net, Schema::kaggle());
        assert!(Detector::new(&of("finder")).err().unwrap().to_string().contains("the finder 'finder'"));
        assert!(Finder::new(&of("compact")).err().unwrap().to_string().contains("found net 'compact'"));
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
