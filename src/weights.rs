//! The weights file: safetensors in f32, f16 or int8, with metadata that names the net, the keypoints it predicts and
//! how its input is prepared. Native code and the browser both read it through this module.
//!
//! In int8, a tensor of two or more dimensions is stored as `NAME` (I8) and `NAME.scale` (F32, one per entry of the first
//! dimension): the values are their products. The others stay f16.
//!
//! Metadata keys: `format` ("face96"), `format_version`, `net`, `config`, `schema`, `side`, `normalisation` and
//! `training` (the last five in JSON), `crate_version`; and, in JSON too, where known: `mean_shape`, `calibration`.

use crate::error::{Error, Result};
use crate::nets::{vars, Net, NetConfig};
use crate::picture::Normalisation;
use crate::schema::Schema;
use half::f16;
use safetensors::{tensor::TensorView, Dtype, SafeTensors};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::ops::Range;

/// The version of the file format that this crate writes and reads.
pub const FORMAT_VERSION: u32 = 1;

/// A weights file's metadata.
#[derive(Clone, Debug, PartialEq)]
pub struct Metadata {
    /// Name of the net, as given to `train`.
    pub net: String,
    /// Its sizes.
    pub config: NetConfig,
    /// The keypoints.
    pub schema: Schema,
    /// Side of the square input, pixels.
    pub side: usize,
    /// How grey values are normalised.
    pub normalisation: Normalisation,
    /// Version of the crate that wrote the file.
    pub crate_version: String,
    /// Data, settings and figures of the training.
    pub training: serde_json::Value,
    /// The mean place of each keypoint in the training crops, in pixels of the crop: a track places its next crop by it.
    pub mean_shape: Option<Vec<[f32; 2]>>,
    /// How a net's confidences become calibrated probabilities.
    pub calibration: Option<Calibration>,
}

/// Turns a keypoint's logit into the probability that it is right: within 5 % of the distance of the outer eye corners
/// (Platt 1999, fitted on the validation people).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// Factor on the logit.
    pub scale: f32,
    /// Added to the scaled logit.
    pub shift: f32,
}

impl Default for Calibration {
    fn default() -> Self {
        Self { scale: 1., shift: 0. }
    }
}

impl Calibration {
    /// The probability for a logit.
    pub fn confidence(&self, logit: f32) -> f32 {
        1. / (1. + (-(self.scale * logit + self.shift)).exp())
    }

    /// The calibrated value of an uncalibrated probability.
    pub fn of(&self, probability: f32) -> f32 {
        let p = probability.clamp(1e-6, 1. - 1e-6);
        self.confidence((p / (1. - p)).ln())
    }
}

/// A net's weights, batch norm folded, with what is needed to run them.
#[derive(Clone, Debug)]
pub struct Weights {
    /// The file's metadata.
    pub meta: Metadata,
    tensors: HashMap<String, (Vec<usize>, Vec<f32>)>,
}

/// How numbers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// 4 bytes.
    F32,
    /// 2 bytes: the error is far below that of the keypoints.
    F16,
    /// 1 byte, with one scale per output channel: 127 steps on each side of zero.
    I8,
    /// As `I8`, but with 31 steps: the file is as long, and compresses to three quarters of the size.
    I6,
}

impl Precision {
    /// The number of steps between zero and the largest weight of an output channel; `None` for floats.
    fn steps(self) -> Option<f32> {
        match self {
            Self::F32 | Self::F16 => None,
            Self::I8 => Some(127.),
            Self::I6 => Some(31.),
        }
    }
}

/// Suffix of a tensor's name for its int8 scales.
const SCALE: &str = ".scale";

impl Weights {
    /// Joins metadata and tensors of the folded net: name, shape, values.
    ///
    /// # Errors
    /// As for [`Weights::from_bytes`].
    pub fn new(meta: Metadata, tensors: impl IntoIterator<Item = (String, Vec<usize>, Vec<f32>)>) -> Result<Self> {
        let tensors = tensors.into_iter().map(|(name, shape, values)| (name, (shape, values))).collect();
        let weights = Self { meta, tensors };
        weights.check()?;
        Ok(weights)
    }

    /// Reads a file's bytes.
    ///
    /// # Errors
    /// [`Error::Weights`] with what was expected and what came: not safetensors, truncated, another format or version, an
    /// unknown net, a tensor that is missing, left over or of the wrong shape.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let bad = |what: String| Error::Weights(what);
        let unreadable = |e| bad(format!("{} bytes are no complete safetensors file ({e})", bytes.len()));
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(unreadable)?;
        let strings = header.metadata().clone().unwrap_or_default();
        let text =
            |key: &str| strings.get(key).map(String::as_str).ok_or_else(|| bad(format!("metadata '{key}' is missing")));
        match strings.get("format").map(String::as_str) {
            Some("face96") => {}
            other => return Err(bad(format!("expected metadata format 'face96', found {other:?}: not a face96 file"))),
        }
        let version = text("format_version")?;
        if version != FORMAT_VERSION.to_string() {
            return Err(bad(format!("expected format version {FORMAT_VERSION}, found {version}")));
        }
        fn json<T: serde::de::DeserializeOwned>(key: &str, text: &str) -> Result<T> {
            serde_json::from_str(text).map_err(|e| Error::Weights(format!("metadata '{key}' = {text}: {e}")))
        }
        let meta = Metadata {
            net: text("net")?.into(),
            config: json("config", text("config")?)?,
            schema: json("schema", text("schema")?)?,
            side: json("side", text("side")?)?,
            normalisation: json("normalisation", text("normalisation")?)?,
            crate_version: text("crate_version")?.into(),
            training: json("training", text("training")?)?,
            mean_shape: strings.get("mean_shape").map(|text| json("mean_shape", text)).transpose()?,
            calibration: strings.get("calibration").map(|text| json("calibration", text)).transpose()?,
        };
        let file = SafeTensors::deserialize(bytes).map_err(unreadable)?;
        let mut tensors = HashMap::new();
        for (name, view) in file.tensors() {
            let values: Vec<f32> = match view.dtype() {
                Dtype::F32 if name.ends_with(SCALE) => continue,
                Dtype::F32 => floats(view.data()),
                Dtype::F16 => view.data().chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
                Dtype::I8 => {
                    let scales = file.tensor(&format!("{name}{SCALE}"));
                    let scales = scales.map_err(|_| bad(format!("tensor '{name}{SCALE}' is missing")))?;
                    let rows = view.shape().first().copied().unwrap_or(0);
                    if scales.dtype() != Dtype::F32 || scales.shape() != [rows] {
                        let (dtype, shape) = (scales.dtype(), scales.shape());
                        return Err(bad(format!(
                            "tensor '{name}{SCALE}': expected F32 [{rows}], found {dtype:?} {shape:?}"
                        )));
                    }
                    let row = view.data().len() / rows.max(1);
                    let scales = floats(scales.data()).into_iter().flat_map(|s| std::iter::repeat_n(s, row));
                    view.data().iter().zip(scales).map(|(b, s)| f32::from(*b as i8) * s).collect()
                }
                other => return Err(bad(format!("tensor '{name}': expected F16, F32 or I8, found {other:?}"))),
            };
            if let Some(at) = values.iter().position(|v| !v.is_finite()) {
                return Err(bad(format!("tensor '{name}': value {at} is {}", values[at])));
            }
            tensors.insert(name, (view.shape().to_vec(), values));
        }
        let weights = Self { meta, tensors };
        weights.check()?;
        Ok(weights)
    }

    /// Reads a file.
    ///
    /// # Errors
    /// As for [`Weights::from_bytes`], naming the file.
    #[cfg(feature = "native")]
    pub fn read(path: &std::path::Path) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(Error::io(path))?;
        Self::from_bytes(&bytes).map_err(|e| Error::Config(format!("{}: {e}", path.display())))
    }

    /// Checks the schema and every tensor against the net.
    fn check(&self) -> Result<()> {
        self.meta.schema.validate()?;
        if let Some(shape) = &self.meta.mean_shape {
            if shape.len() != self.meta.schema.len() || !shape.iter().flatten().all(|v| v.is_finite()) {
                return Err(Error::Weights(format!(
                    "metadata 'mean_shape': expected {} finite places, found {shape:?}",
                    self.meta.schema.len()
                )));
            }
        }
        if let Some(c) = self.meta.calibration.filter(|c| !(c.scale.is_finite() && c.shift.is_finite())) {
            return Err(Error::Weights(format!("metadata 'calibration': expected finite numbers, found {c:?}")));
        }
        if self.meta.side != crate::nets::SIDE {
            let side = crate::nets::SIDE;
            return Err(Error::Weights(format!("expected an input of {side} x {side}, found side {}", self.meta.side)));
        }
        let (config, keypoints) = (&self.meta.config, self.meta.schema.len());
        let expected = vars::parameters(true, |vb| Net::new(config, keypoints, vb))?;
        for p in &expected {
            match self.tensors.get(&p.name) {
                None => return Err(Error::Weights(format!("tensor '{}' {:?} is missing", p.name, p.shape))),
                Some((shape, _)) if *shape != p.shape => {
                    return Err(Error::Weights(format!(
                        "tensor '{}': expected shape {:?}, found {shape:?}",
                        p.name, p.shape
                    )));
                }
                _ => {}
            }
        }
        match self.tensors.keys().find(|name| expected.iter().all(|p| p.name != **name)) {
            Some(name) => Err(Error::Weights(format!("tensor '{name}' does not belong to net '{}'", self.meta.net))),
            None => Ok(()),
        }
    }

    /// The net with these weights.
    ///
    /// # Errors
    /// Sizes in the metadata that do not fit together.
    pub fn net(&self) -> Result<Net> {
        let net = Net::new(&self.meta.config, self.meta.schema.len(), vars::of_weights(self));
        net.map_err(|e| Error::Weights(e.to_string()))
    }

    /// The shape and the values of a tensor, if the file has it.
    pub fn tensor(&self, name: &str) -> Option<(&[usize], &[f32])> {
        self.tensors.get(name).map(|(shape, values)| (shape.as_slice(), values.as_slice()))
    }

    /// The file's bytes.
    ///
    /// # Errors
    /// Only if the metadata cannot be written as JSON.
    pub fn to_bytes(&self, precision: Precision) -> Result<Vec<u8>> {
        fn json<T: serde::Serialize>(value: &T) -> Result<String> {
            serde_json::to_string(value).map_err(|e| Error::Weights(e.to_string()))
        }
        let meta = &self.meta;
        let mut strings = HashMap::from([
            ("format".to_string(), "face96".to_string()),
            ("format_version".into(), FORMAT_VERSION.to_string()),
            ("net".into(), meta.net.clone()),
            ("config".into(), json(&meta.config)?),
            ("schema".into(), json(&meta.schema)?),
            ("side".into(), json(&meta.side)?),
            ("normalisation".into(), json(&meta.normalisation)?),
            ("crate_version".into(), meta.crate_version.clone()),
            ("training".into(), json(&meta.training)?),
        ]);
        if let Some(shape) = &meta.mean_shape {
            strings.insert("mean_shape".into(), json(shape)?);
        }
        if let Some(calibration) = &meta.calibration {
            strings.insert("calibration".into(), json(calibration)?);
        }
        let mut data: Vec<(String, Dtype, Vec<usize>, Vec<u8>)> = Vec::new();
        for (name, (shape, values)) in &self.tensors {
            let mut add = |name: String, dtype, shape: &[usize], bytes| data.push((name, dtype, shape.to_vec(), bytes));
            match (precision, precision.steps()) {
                (Precision::F32, _) => {
                    add(name.clone(), Dtype::F32, shape, values.iter().flat_map(|v| v.to_le_bytes()).collect())
                }
                (_, Some(steps)) if shape.len() > 1 => {
                    let (row, kernel) = (values.len() / shape[0], shape[2..].iter().product());
                    let mut scales = Vec::new();
                    let mut bytes = Vec::new();
                    for row in values.chunks(row) {
                        let largest = row.iter().fold(0f32, |m, v| m.max(v.abs())).max(f32::MIN_POSITIVE);
                        let scale = largest / steps;
                        scales.extend(scale.to_le_bytes());
                        bytes.extend(quantised(row, scale, kernel, steps).iter().map(|&step| step as i8 as u8));
                    }
                    add(name.clone(), Dtype::I8, shape, bytes);
                    add(format!("{name}{SCALE}"), Dtype::F32, &shape[..1], scales);
                }
                _ => {
                    let bytes = values.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect();
                    add(name.clone(), Dtype::F16, shape, bytes);
                }
            }
        }
        let views: Vec<(&String, TensorView)> = data
            .iter()
            .map(|(name, dtype, shape, bytes)| Ok((name, TensorView::new(*dtype, shape.clone(), bytes)?)))
            .collect::<std::result::Result<_, safetensors::SafeTensorError>>()
            .map_err(|e| Error::Weights(e.to_string()))?;
        safetensors::serialize(views, Some(strings)).map_err(|e| Error::Weights(e.to_string()))
    }
}

/// The weights of an output channel as multiples of `scale`. Each weight goes to one of its two neighbouring steps, chosen so that the sum
/// of each kernel (the `kernel` weights of one input channel) and the sum of the whole channel keep their values as well as they can. The
/// maps that a convolution reads are smooth and, after a ReLU, positive, so errors of one sign would add up. After SQuant (Guo et al. 2022).
fn quantised(row: &[f32], scale: f32, kernel: usize, steps: f32) -> Vec<f32> {
    let exact: Vec<f32> = row.iter().map(|v| v / scale).collect();
    let mut whole: Vec<f32> = exact.iter().map(|v| v.round()).collect();
    let error = |whole: &[f32], kernel: Range<usize>| kernel.map(|i| whole[i] - exact[i]).sum::<f32>();
    // Rounds `count` weights of a kernel the other way: those with the largest errors of this sign.
    let flip = |whole: &mut [f32], kernel: Range<usize>, sign: f32, count: usize| {
        let mut order: Vec<(usize, f32)> = kernel.map(|i| (i, (whole[i] - exact[i]) * sign)).collect();
        order.retain(|&(i, error)| error > 0. && (whole[i] - sign).abs() <= steps);
        order.sort_by(|a, b| b.1.total_cmp(&a.1));
        order.iter().take(count).for_each(|&(i, _)| whole[i] -= sign);
    };
    let mut kernels: Vec<(Range<usize>, f32)> = Vec::new();
    for start in (0..row.len()).step_by(kernel) {
        let places = start..start + kernel;
        let sum = error(&whole, places.clone());
        flip(&mut whole, places.clone(), sum.signum(), sum.abs().round() as usize);
        kernels.push((places.clone(), error(&whole, places)));
    }
    // At most one more weight of each kernel, beginning with the kernels that gain most by it.
    let total: f32 = kernels.iter().map(|(_, error)| error).sum();
    kernels.sort_by(|(_, a), (_, b)| (b * total.signum()).total_cmp(&(a * total.signum())));
    for (places, _) in kernels.into_iter().take(total.abs().round() as usize) {
        flip(&mut whole, places, total.signum(), 1);
    }
    whole
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Small seeded weights of any net, for tests.
    pub(crate) fn random(net: &str, schema: Schema) -> Weights {
        let config = NetConfig::by_name(net).unwrap();
        let mut state = 1u32;
        let mut next = || {
            state = state.wrapping_mul(1664525).wrapping_add(1013904223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.
        };
        let parameters = vars::parameters(true, |vb| Net::new(&config, schema.len(), vb)).unwrap();
        let tensors: Vec<_> = parameters
            .into_iter()
            .map(|p| {
                let bound = match p.init {
                    candle_nn::Init::Uniform { up, .. } => up as f32,
                    _ => 0.1,
                };
                let n = p.shape.iter().product();
                (p.name, p.shape, (0..n).map(|_| bound * next()).collect::<Vec<f32>>())
            })
            .collect();
        let normalisation = Normalisation::Standard;
        let (training, crate_version) = (serde_json::Value::Null, "0".to_string());
        let meta = Metadata {
            net: net.into(),
            config,
            schema,
            side: 96,
            normalisation,
            crate_version,
            training,
            mean_shape: None,
            calibration: None,
        };
        Weights::new(meta, tensors).unwrap()
    }

    #[test]
    fn a_file_comes_back_as_it_was() {
        let weights = random("compact", Schema::kaggle());
        let back = Weights::from_bytes(&weights.to_bytes(Precision::F32).unwrap()).unwrap();
        assert_eq!(back.meta, weights.meta);
        assert_eq!(back.tensor("heatmaps.weight").unwrap(), weights.tensor("heatmaps.weight").unwrap());
        let half = Weights::from_bytes(&weights.to_bytes(Precision::F16).unwrap()).unwrap();
        let of = |w: &Weights| w.tensor("stage1.down.weight").unwrap().1.to_vec();
        let (a, b) = (of(&half), of(&weights));
        assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() <= 1e-3 * b.abs() + 1e-6));
    }

    #[test]
    fn int8_and_int6_keep_each_value_within_a_step_and_the_sum_of_a_row_within_half_a_step() {
        let weights = random("compact", Schema::kaggle());
        let of = |w: &Weights| w.tensor("smooth2.weight").unwrap().1.to_vec();
        for (precision, steps) in [(Precision::I8, 127.), (Precision::I6, 31.)] {
            let bytes = weights.to_bytes(precision).unwrap();
            assert!(bytes.len() < weights.to_bytes(Precision::F16).unwrap().len() * 11 / 20);
            let (a, b) = (of(&Weights::from_bytes(&bytes).unwrap()), of(&weights));
            for (a, b) in a.chunks(32 * 9).zip(b.chunks(32 * 9)) {
                let step = b.iter().fold(0f32, |m, v| m.max(v.abs())) / steps;
                assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() <= 1.001 * step));
                for (a, b) in a.chunks(9).zip(b.chunks(9)) {
                    let sum: f32 = a.iter().zip(b).map(|(a, b)| a - b).sum();
                    assert!(sum.abs() <= 1.501 * step, "{sum} of steps of {step}");
                }
                let sum: f32 = a.iter().zip(b).map(|(a, b)| a - b).sum();
                assert!(sum.abs() <= 0.51 * step, "{sum} of steps of {step}");
                assert!(a.iter().all(|a| (a / step - (a / step).round()).abs() < 1e-3));
            }
        }
        let bytes = weights.to_bytes(Precision::I8).unwrap();
        let cut = Weights::from_bytes(&bytes[..bytes.len() - 1]).unwrap_err().to_string();
        assert!(cut.contains("safetensors"), "{cut}");
    }

    #[test]
    fn a_file_cut_anywhere_is_an_error_and_never_a_panic() {
        let bytes = random("compact", Schema::from_names(&["nose"]).unwrap()).to_bytes(Precision::F16).unwrap();
        for n in (0..2000).chain((2000..bytes.len()).step_by(9973)).chain([bytes.len() - 1]) {
            let error = Weights::from_bytes(&bytes[..n]).unwrap_err().to_string();
            assert!(error.contains("safetensors"), "{n}: {error}");
        }
    }

    #[test]
    fn foreign_files_are_named_as_such() {
        let data = 1f32.to_le_bytes();
        let view = TensorView::new(Dtype::F32, vec![1], &data).unwrap();
        let bytes = safetensors::serialize([("a", view)], None).unwrap();
        assert!(Weights::from_bytes(&bytes).unwrap_err().to_string().contains("not a face96 file"));
        assert!(Weights::from_bytes(b"<!DOCTYPE html>").is_err());
    }

    #[test]
    fn a_tensor_of_another_shape_names_both() {
        let weights = random("compact", Schema::kaggle());
        let mut other = weights.clone();
        other.meta.schema = Schema::from_names(&["nose"]).unwrap();
        let error = Weights::from_bytes(&other.to_bytes(Precision::F16).unwrap()).unwrap_err().to_string();
        assert!(error.contains("'heatmaps.weight': expected shape [1, 32, 1, 1], found [15, 32, 1, 1]"), "{error}");
    }
}
