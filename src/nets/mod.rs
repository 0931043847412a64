//! The nets, chosen by name: see `nets!` for the kinds.
//!
//! A net is a struct of [`layers`] with a [`Forward`] pass that reads from top to bottom: (B, 96, 96, 1) in, an [`Output`] out.

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
pub use finder::{FINDER_SIZE, FINDER_VALUES};
use layers::Mode;
use serde::{Deserialize, Serialize};

/// Cells of a heatmap's side.
pub const HEATMAP_SIDE: usize = 24;

/// Side of a heatmap's cell in pixels of the crop.
pub const HEATMAP_CELL: f32 = (SIDE / HEATMAP_SIDE) as f32;

/// A kind of net, by its sizes, which the weights file and a run's settings hold.
pub trait Architecture {
    /// The nets of this kind that have a name, with their usual sizes.
    fn presets() -> Vec<(&'static str, Self)>
    where
        Self: Sized;

    /// What the net gives.
    fn output(&self) -> OutputKind;

    /// A net for `keypoints` points, with the variables of `vb`.
    ///
    /// # Errors
    /// Variables that are missing or of the wrong shape, and sizes that make no net.
    fn build(&self, keypoints: usize, vb: VarBuilder) -> candle_core::Result<Box<dyn Forward>>;

    /// How far each keypoint may lie from the crop's middle, in half sides (see [`crate::ops::heatmap::SoftArgmax`]). Empty for 1 each, the
    /// crop's edge.
    fn reach(&self) -> &[f32] {
        &[]
    }

    /// [`Architecture::reach`], to set it; `None` if the net has no edges that limit its keypoints.
    fn reach_mut(&mut self) -> Option<&mut Vec<f32>> {
        None
    }
}

/// A net's layers.
pub trait Forward: Send + Sync {
    /// Pictures (B, 96, 96, 1), normalised, on the device of the variables.
    ///
    /// # Errors
    /// Shapes that do not fit.
    fn forward_t(&self, pictures: &Tensor, mode: &Mode) -> candle_core::Result<Output>;
}

/// The kinds of net. A net of another kind is one file, which implements [`Architecture`] and [`Forward`], and one line here.
macro_rules! nets {
    ($($(#[doc = $doc:literal])* $kind:ident($config:path),)*) => {
        /// Which net, and its sizes. Stored in the weights file.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "kind", rename_all = "snake_case")]
        pub enum NetConfig {
            $($(#[doc = $doc])* $kind($config),)*
        }

        impl NetConfig {
            /// Every net that has a name, with its usual sizes.
            pub fn presets() -> Vec<(&'static str, Self)> {
                let mut all = vec![];
                $(all.extend(<$config>::presets().into_iter().map(|(name, config)| (name, Self::$kind(config))));)*
                all
            }

            fn architecture(&self) -> &dyn Architecture {
                match self {
                    $(Self::$kind(config) => config,)*
                }
            }

            fn architecture_mut(&mut self) -> &mut dyn Architecture {
                match self {
                    $(Self::$kind(config) => config,)*
                }
            }
        }
    };
}

nets! {
    /// The tutorial's net1: one hidden layer.
    Mlp(tutorial::MlpConfig),
    /// The tutorial's net2 and its successors.
    Tutorial(tutorial::TutorialConfig),
    /// A residual trunk with heatmaps at 24 x 24.
    Compact(compact::CompactConfig),
    /// The trunk of compact on a whole frame.
    Finder(finder::FinderConfig),
}

impl NetConfig {
    /// The net of this name with its usual sizes.
    ///
    /// # Errors
    /// A name that no net has.
    pub fn by_name(name: &str) -> Result<Self> {
        let presets = Self::presets();
        match presets.iter().find(|(known, _)| *known == name) {
            Some((_, config)) => Ok(config.clone()),
            None => {
                let names: Vec<_> = presets.iter().map(|(name, _)| *name).collect();
                Err(Error::Config(format!("no net '{name}': expected one of {}", names.join(", "))))
            }
        }
    }

    /// What the net gives.
    pub fn output(&self) -> OutputKind {
        self.architecture().output()
    }

    /// Whether the net finds faces in a frame instead of keypoints in a crop.
    pub fn finds(&self) -> bool {
        self.output() == OutputKind::Boxes
    }

    /// Whether the keypoints come from heatmaps.
    pub fn has_heatmaps(&self) -> bool {
        self.output() == OutputKind::Heatmaps
    }

    /// Sets how far each keypoint may lie from the crop's middle, in half sides. Does nothing if that is already set, or if the net has no
    /// heatmaps and so no edges that limit its keypoints.
    pub fn reach_to(&mut self, far: &[f32]) {
        if let Some(reach) = self.architecture_mut().reach_mut() {
            if reach.is_empty() && far.iter().any(|r| *r > 1.) {
                *reach = far.to_vec();
            }
        }
    }

    /// How far keypoint `k` may lie from the crop's middle, in half sides.
    pub fn reach(&self, k: usize) -> f32 {
        self.architecture().reach().get(k).copied().unwrap_or(1.)
    }

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

/// Which of the variants of [`Output`] a net gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputKind {
    /// See [`Output::Heatmaps`].
    Heatmaps,
    /// See [`Output::Points`].
    Points,
    /// See [`Output::Boxes`].
    Boxes,
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
pub struct Net(Box<dyn Forward>);

impl Net {
    /// A net for `keypoints` points, with the variables of `vb`.
    ///
    /// # Errors
    /// Variables that are missing or of the wrong shape, and sizes that make no net.
    pub fn new(config: &NetConfig, keypoints: usize, vb: VarBuilder) -> candle_core::Result<Self> {
        Ok(Self(config.architecture().build(keypoints, vb)?))
    }

    /// Pictures (B, 96, 96, 1), normalised, on the device of the variables.
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn forward_t(&self, pictures: &Tensor, mode: &Mode) -> candle_core::Result<Output> {
        #[cfg(any(feature = "native", feature = "bench-candle"))]
        if matches!(mode, Mode::Candle(_)) {
            // candle's own ops take (B, C, H, W).
            let output = self.0.forward_t(&pictures.permute((0, 3, 1, 2))?.contiguous()?, mode)?;
            return match output {
                Output::Boxes(boxes) => Ok(Output::Boxes(boxes.permute((0, 2, 3, 1))?.contiguous()?)),
                other => Ok(other),
            };
        }
        self.0.forward_t(pictures, mode)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use candle_core::Device;

    /// The nets that have a name, without those whose layers are another's: net3 to net5 are net2, net7 is a wider net6.
    pub fn distinct() -> impl Iterator<Item = (&'static str, NetConfig)> {
        NetConfig::presets().into_iter().filter(|(name, _)| !["net3", "net4", "net5", "net7"].contains(name))
    }

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
