//! The nets, chosen by name: the tutorial's `net1` to `net7`, the shipped `compact`, and the finder.
//!
//! A net is a struct of [`layers`] with a forward pass that reads from top to bottom: (B, 96, 96, 1) in, an [`Output`] out.

pub mod compact;
pub mod finder;
pub mod layers;
#[cfg(feature = "native")]
pub mod model;
mod pyramid;
pub mod trace;
pub mod tutorial;
pub mod vars;

use crate::error::{Error, Result};
pub use crate::picture::SIDE;
use candle_core::Tensor;
use candle_nn::VarBuilder;
use compact::{Compact, CompactConfig};
use finder::FinderNet;
pub use finder::{FINDER_SIZE, FINDER_VALUES};
use layers::Mode;
use serde::{Deserialize, Serialize};
use tutorial::{Mlp, Tutorial};

/// Side of the guide square, as a share of a frame's short side. The square is centred in the frame: a face is expected there
/// before anything else is known. The page draws it.
pub const GUIDE_SHARE: f32 = 0.6;

/// Cells of a heatmap's side.
pub const HEATMAP_SIDE: usize = 24;

/// Side of a heatmap's cell in pixels of the crop.
pub const HEATMAP_CELL: f32 = (SIDE / HEATMAP_SIDE) as f32;

/// Which net, and its sizes. Stored in the weights file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum NetConfig {
    /// The tutorial's net1: one hidden layer.
    Mlp {
        /// Units of the hidden layer.
        hidden: usize,
    },
    /// The tutorial's net2 and its successors.
    Tutorial {
        /// Units of the two hidden dense layers.
        dense: [usize; 2],
        /// Dropout after each of the three pools and after the first dense layer; zero for none.
        dropout: [f32; 4],
    },
    /// A residual trunk with heatmaps at 24 x 24.
    Compact {
        /// Channels of the four stages, each at half the size of the one before.
        channels: [usize; 4],
        /// Residual blocks of each stage; a single number in a file is that of all stages after the first.
        #[serde(deserialize_with = "blocks")]
        blocks: [usize; 4],
        /// Channels of the top-down pathway.
        head: usize,
        /// Whether the net also gives each keypoint's confidence.
        #[serde(default)]
        confidence: bool,
        /// How far each keypoint may lie from the crop's middle, in half sides of the crop: see [`crate::ops::heatmap::SoftArgmax`].
        /// Empty for 1 each, the crop's edge.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        reach: Vec<f32>,
    },
    /// The same trunk on a whole frame: at each of 24 x 24 places the logit of "the centre of a face is here", its offset,
    /// size and roll (CenterNet, Zhou et al. 2019).
    Finder {
        /// Channels of the four stages.
        channels: [usize; 4],
        /// Residual blocks of each stage.
        blocks: [usize; 4],
        /// Channels of the top-down pathway.
        head: usize,
    },
}

fn blocks<'de, D: serde::Deserializer<'de>>(from: D) -> std::result::Result<[usize; 4], D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Blocks {
        AfterTheFirst(usize),
        Each([usize; 4]),
    }
    Ok(match Blocks::deserialize(from)? {
        Blocks::AfterTheFirst(n) => [0, n, n, n],
        Blocks::Each(blocks) => blocks,
    })
}

impl NetConfig {
    /// The net of this name with its usual sizes.
    ///
    /// # Errors
    /// A name that is not one of [`NetConfig::NAMES`].
    pub fn by_name(name: &str) -> Result<Self> {
        let tutorial = |dense, dropout| Self::Tutorial { dense, dropout };
        Ok(match name {
            "net1" => Self::Mlp { hidden: 100 },
            "net2" | "net3" | "net4" | "net5" => tutorial([500, 500], [0.; 4]),
            "net6" => tutorial([500, 500], [0.1, 0.2, 0.3, 0.5]),
            "net7" => tutorial([1000, 1000], [0.1, 0.2, 0.3, 0.5]),
            "compact" => {
                let (channels, blocks) = ([16, 32, 64, 104], [0, 1, 2, 1]);
                Self::Compact { channels, blocks, head: 32, confidence: true, reach: vec![] }
            }
            "finder" => Self::Finder { channels: [16, 16, 32, 40], blocks: [0, 2, 1, 1], head: 24 },
            _ => {
                return Err(Error::Config(format!("no net '{name}': expected one of {}", Self::NAMES.join(", "))));
            }
        })
    }

    /// Whether the net finds faces in a frame instead of keypoints in a crop.
    pub fn finds(&self) -> bool {
        matches!(self, Self::Finder { .. })
    }

    /// Whether the keypoints come from heatmaps.
    pub fn has_heatmaps(&self) -> bool {
        matches!(self, Self::Compact { .. })
    }

    /// Sets how far each keypoint may lie from the crop's middle, in half sides. Does nothing if that is already set, or if the net has no
    /// heatmaps and so no edges that limit its keypoints.
    pub fn reach_to(&mut self, far: &[f32]) {
        if let Self::Compact { reach, .. } = self {
            if reach.is_empty() && far.iter().any(|r| *r > 1.) {
                *reach = far.to_vec();
            }
        }
    }

    /// How far keypoint `k` may lie from the crop's middle, in half sides.
    pub fn reach(&self, k: usize) -> f32 {
        match self {
            Self::Compact { reach, .. } => reach.get(k).copied().unwrap_or(1.),
            _ => 1.,
        }
    }

    /// Every name that [`NetConfig::by_name`] knows.
    pub const NAMES: [&'static str; 9] = ["net1", "net2", "net3", "net4", "net5", "net6", "net7", "compact", "finder"];

    /// The pixel of the crop that a net's unit 0 stands for (1 unit is 48 pixels): the crop's middle for heatmaps, and pixel 48
    /// for the tutorial's nets, by its convention (p - 48) / 48.
    pub fn unit_offset(&self) -> f32 {
        if self.has_heatmaps() {
            (SIDE as f32 - 1.) / 2.
        } else {
            SIDE as f32 / 2.
        }
    }
}

/// A net's outputs for one batch.
pub enum Output {
    /// From a net with heatmaps.
    Heatmaps {
        /// (B, K, 3): x and y, with the crop's edges at -1 and 1, and the heatmap's variance (of x plus of y).
        places: Tensor,
        /// (B, 1): the logit of "this is a face"; or (B, 1 + K), followed by the logits of "keypoint k is right".
        logits: Tensor,
    },
    /// From a regression net, in the tutorial's units: (B, 2 K).
    Points(Tensor),
    /// From a finder: (B, H, W, [`FINDER_VALUES`]).
    Boxes(Tensor),
}

/// A net.
pub enum Net {
    /// See [`NetConfig::Mlp`].
    Mlp(Mlp),
    /// See [`NetConfig::Tutorial`].
    Tutorial(Tutorial),
    /// See [`NetConfig::Compact`].
    Compact(Compact),
    /// See [`NetConfig::Finder`].
    Finder(FinderNet),
}

impl Net {
    /// A net for `keypoints` points, with the variables of `vb`.
    ///
    /// # Errors
    /// Variables that are missing or of the wrong shape.
    pub fn new(config: &NetConfig, keypoints: usize, vb: VarBuilder) -> candle_core::Result<Self> {
        Ok(match config.clone() {
            NetConfig::Mlp { hidden } => Self::Mlp(Mlp::new(hidden, keypoints, vb)?),
            NetConfig::Tutorial { dense, dropout } => Self::Tutorial(Tutorial::new(dense, dropout, keypoints, vb)?),
            NetConfig::Compact { channels, blocks, head, confidence, reach } => {
                if !reach.is_empty() && (reach.len() != keypoints || !reach.iter().all(|r| (1. ..=4.).contains(r))) {
                    candle_core::bail!("reach: expected {keypoints} numbers from 1 to 4, found {reach:?}");
                }
                let config = CompactConfig { channels, blocks, head, confidence, reach };
                Self::Compact(Compact::new(&config, keypoints, vb)?)
            }
            NetConfig::Finder { channels, blocks, head } => Self::Finder(FinderNet::new(channels, blocks, head, vb)?),
        })
    }

    /// Pictures (B, 96, 96, 1), normalised, on the device of the variables.
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn forward_t(&self, pictures: &Tensor, mode: &Mode) -> candle_core::Result<Output> {
        #[cfg(any(feature = "native", feature = "bench-candle"))]
        if matches!(mode, Mode::Candle(_)) {
            // candle's own ops take (B, C, H, W).
            let output = self.run(&pictures.permute((0, 3, 1, 2))?.contiguous()?, mode)?;
            return match output {
                Output::Boxes(boxes) => Ok(Output::Boxes(boxes.permute((0, 2, 3, 1))?.contiguous()?)),
                other => Ok(other),
            };
        }
        self.run(pictures, mode)
    }

    fn run(&self, pictures: &Tensor, mode: &Mode) -> candle_core::Result<Output> {
        match self {
            Self::Mlp(net) => net.forward_t(pictures, mode),
            Self::Tutorial(net) => net.forward_t(pictures, mode),
            Self::Compact(net) => net.forward_t(pictures, mode),
            Self::Finder(net) => net.forward_t(pictures, mode),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    fn numbered(k: usize) -> crate::schema::Schema {
        crate::schema::Schema::from_names(&(0..k).map(|i| format!("point_{i}")).collect::<Vec<_>>()).unwrap()
    }

    fn names(net: &str, keypoints: usize) -> Vec<vars::Parameter> {
        let config = NetConfig::by_name(net).unwrap();
        vars::parameters(true, |vb| Net::new(&config, keypoints, vb)).unwrap()
    }

    #[test]
    fn net2_has_the_tutorials_weights() {
        let weights: usize = names("net2", 15).iter().map(|p| p.shape.iter().product::<usize>()).sum();
        // 320 + 8,256 + 32,896 + 7,744,500 + 250,500 + 15,030, from the tutorial's layers.
        assert_eq!(weights, 8_051_502);
    }

    /// Weights files in use depend on these.
    #[test]
    fn the_names_of_weights_stay() {
        let of = |net| names(net, 15).into_iter().map(|p| p.name).collect::<Vec<_>>().join(" ");
        let both = |names: &[&str]| names.iter().map(|n| format!("{n}.weight {n}.bias")).collect::<Vec<_>>().join(" ");
        assert_eq!(of("net1"), both(&["hidden", "output"]));
        assert_eq!(of("net2"), both(&["conv1", "conv2", "conv3", "hidden4", "hidden5", "output"]));
        let pyramid = ["lateral4", "lateral3", "smooth3", "lateral2", "smooth2"];
        let compact = [
            "stage1.down",
            "stage2.down",
            "stage2.block1.conv1",
            "stage2.block1.conv2",
            "stage3.down",
            "stage3.block1.conv1",
            "stage3.block1.conv2",
            "stage3.block2.conv1",
            "stage3.block2.conv2",
            "stage4.down",
            "stage4.block1.conv1",
            "stage4.block1.conv2",
        ];
        assert_eq!(of("compact"), both(&[&compact[..], &pyramid, &["heatmaps", "presence"]].concat()));
        assert!(of("finder").ends_with(&both(&[&pyramid[..], &["boxes"]].concat())));
    }

    #[test]
    fn compact_gives_a_place_a_keypoint_for_any_count() {
        for k in [1, 4, 15, 68] {
            let weights = crate::weights::tests::random("compact", numbered(k));
            let net = weights.net().unwrap();
            let picture = Tensor::zeros((1, SIDE, SIDE, 1), candle_core::DType::F32, &Device::Cpu).unwrap();
            let Output::Heatmaps { places, logits } = net.forward_t(&picture, &Mode::Infer).unwrap() else {
                panic!("compact has heatmaps")
            };
            assert_eq!((places.dims(), logits.dims()), (&[1, k, 3][..], &[1, 1 + k][..]));
        }
    }

    #[test]
    fn an_unknown_name_is_answered_with_the_known_ones() {
        let error = NetConfig::by_name("net8").unwrap_err().to_string();
        assert!(error.contains("'net8'") && error.contains("compact"), "{error}");
    }
}
