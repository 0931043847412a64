//! The nets, chosen by name: the tutorial's `net1` to `net7` and `compact`, the one that is shipped.
//!
//! A net is a [`Graph`]: (B, 96, 96, 1) in, keypoints and perhaps a presence logit out.

#[cfg(any(feature = "native", feature = "bench-candle"))]
pub mod candle;
pub mod graph;
#[cfg(feature = "native")]
pub mod model;
#[cfg(feature = "native")]
pub mod tape;

use crate::error::{Error, Result};
use graph::{Graph, Op};
use serde::{Deserialize, Serialize};

/// Side of the square grey input of every net, in pixels.
pub const SIDE: usize = 96;

/// The guide square, where a face is expected before anything is known of it: this share of a frame's short side, in the
/// frame's middle. The page draws it.
pub const GUIDE_SHARE: f32 = 0.6;

/// Which net, and its sizes. Stored in the weights file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum NetConfig {
    /// The tutorial's net1: one hidden layer.
    Mlp {
        /// Units of the hidden layer.
        hidden: usize,
    },
    /// The tutorial's net2 and its followers.
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
        /// Residual blocks of each stage; in a file, one number is that of all stages after the first.
        #[serde(deserialize_with = "blocks")]
        blocks: [usize; 4],
        /// Channels of the top-down pathway.
        head: usize,
        /// Whether it says of each keypoint how likely it is right.
        #[serde(default)]
        confidence: bool,
    },
    /// The same trunk on a whole frame: at each of 24 x 24 places the logit of "the middle of a face is here", its offset,
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
                Self::Compact { channels: [16, 32, 64, 104], blocks: [0, 1, 2, 1], head: 32, confidence: true }
            }
            "finder" => Self::Finder { channels: [16, 16, 32, 40], blocks: [0, 2, 1, 1], head: 24 },
            _ => {
                return Err(Error::Config(format!("no net '{name}': expected one of {}", Self::NAMES.join(", "))));
            }
        })
    }

    /// Whether it finds faces in a frame instead of keypoints in a crop.
    pub fn finds(&self) -> bool {
        matches!(self, Self::Finder { .. })
    }

    /// Whether its keypoints come from heatmaps.
    pub fn has_heatmaps(&self) -> bool {
        matches!(self, Self::Compact { .. })
    }

    /// Every name that [`NetConfig::by_name`] knows.
    pub const NAMES: [&'static str; 9] = ["net1", "net2", "net3", "net4", "net5", "net6", "net7", "compact", "finder"];

    /// The net for `keypoints` points.
    ///
    /// # Errors
    /// Sizes that do not fit together.
    pub fn graph(&self, keypoints: usize) -> Result<Graph> {
        match self {
            Self::Mlp { hidden } => mlp(*hidden, keypoints),
            Self::Tutorial { dense, dropout } => tutorial(*dense, *dropout, keypoints),
            Self::Compact { channels, blocks, head, confidence } => {
                compact(*channels, *blocks, *head, *confidence, keypoints)
            }
            Self::Finder { channels, blocks, head } => finder(*channels, *blocks, *head),
        }
    }
}

/// The pixel of the crop that a net's unit 0 stands for (1 unit is 48 pixels): the crop's middle for heatmaps, 48 by the
/// tutorial's convention, (p - 48) / 48, for its own nets.
pub fn unit_offset(graph: &Graph) -> f32 {
    match graph.nodes[graph.keypoints].op {
        Op::SoftArgmax => (SIDE as f32 - 1.) / 2.,
        _ => SIDE as f32 / 2.,
    }
}

fn mlp(hidden: usize, keypoints: usize) -> Result<Graph> {
    let mut net = Graph::new((SIDE, SIDE, 1));
    let x = net.push("hidden", Op::Dense { units: hidden, relu: true }, &[0])?;
    net.keypoints = net.push("output", Op::Dense { units: 2 * keypoints, relu: false }, &[x])?;
    Ok(net)
}

/// Three valid convolutions of 32, 64 and 128 channels, each pooled by 2, two dense layers and a linear output.
fn tutorial(dense: [usize; 2], dropout: [f32; 4], keypoints: usize) -> Result<Graph> {
    let mut net = Graph::new((SIDE, SIDE, 1));
    let mut x = 0;
    for (i, (channels, kernel)) in [(32, 3), (64, 2), (128, 2)].into_iter().enumerate() {
        let n = i + 1;
        let conv = Op::Conv { kernel, stride: 1, padding: 0, channels, norm: false, relu: true };
        x = net.push(&format!("conv{n}"), conv, &[x])?;
        x = net.push(&format!("pool{n}"), Op::MaxPool { size: 2 }, &[x])?;
        if dropout[i] > 0. {
            x = net.push(&format!("dropout{n}"), Op::Dropout { rate: dropout[i] }, &[x])?;
        }
    }
    x = net.push("hidden4", Op::Dense { units: dense[0], relu: true }, &[x])?;
    if dropout[3] > 0. {
        x = net.push("dropout4", Op::Dropout { rate: dropout[3] }, &[x])?;
    }
    x = net.push("hidden5", Op::Dense { units: dense[1], relu: true }, &[x])?;
    net.keypoints = net.push("output", Op::Dense { units: 2 * keypoints, relu: false }, &[x])?;
    Ok(net)
}

/// Stages of stride 2 with residual blocks (He et al. 2016), a top-down pathway from 6 x 6 to 24 x 24 (Lin et al. 2017),
/// one heatmap a keypoint whose expected place is the keypoint (DSNT, Nibali et al. 2018).
fn compact(channels: [usize; 4], blocks: [usize; 4], head: usize, confidence: bool, keypoints: usize) -> Result<Graph> {
    let (mut net, y, last) = pyramid(channels, blocks, head)?;
    let heatmaps = net.push("heatmaps", pointwise(keypoints), &[y])?;
    net.keypoints = net.push("keypoints", Op::SoftArgmax, &[heatmaps])?;
    let mean = net.push("mean", Op::MeanPool, &[last])?;
    let units = if confidence { 1 + keypoints } else { 1 };
    net.presence = Some(net.push("presence", Op::Dense { units, relu: false }, &[mean])?);
    Ok(net)
}

/// Values of a finder's place: the logit, the offset of the middle in x and y (in places), the logarithm of the size over
/// [`FINDER_SIZE`], the roll in radians.
pub const FINDER_VALUES: usize = 5;

/// The size that a finder gives for 0, in pixels of the frame.
pub const FINDER_SIZE: f32 = 24.;

fn finder(channels: [usize; 4], blocks: [usize; 4], head: usize) -> Result<Graph> {
    let (mut net, y, _) = pyramid(channels, blocks, head)?;
    net.keypoints = net.push("boxes", pointwise(FINDER_VALUES), &[y])?;
    Ok(net)
}

/// A linear layer at each place.
fn pointwise(channels: usize) -> Op {
    Op::Conv { kernel: 1, stride: 1, padding: 0, channels, norm: false, relu: false }
}

/// The trunk and the top-down pathway: the net so far, its step at 24 x 24, and the last stage's.
fn pyramid(channels: [usize; 4], blocks: [usize; 4], head: usize) -> Result<(Graph, usize, usize)> {
    let mut net = Graph::new((SIDE, SIDE, 1));
    let conv =
        |kernel, stride, channels, relu| Op::Conv { kernel, stride, padding: kernel / 2, channels, norm: true, relu };
    let (mut x, mut stages) = (0, Vec::new());
    for (i, (&c, blocks)) in channels.iter().zip(blocks).enumerate() {
        x = net.push(&format!("stage{}.down", i + 1), conv(3, 2, c, true), &[x])?;
        for b in 0..blocks {
            let name = format!("stage{}.block{}", i + 1, b + 1);
            let y = net.push(&format!("{name}.conv1"), conv(3, 1, c, true), &[x])?;
            let y = net.push(&format!("{name}.conv2"), conv(3, 1, c, false), &[y])?;
            x = net.push(&format!("{name}.add"), Op::Add { relu: true }, &[y, x])?;
        }
        stages.push(x);
    }
    let mut y = net.push("lateral4", conv(1, 1, head, true), &[stages[3]])?;
    for stage in [3, 2] {
        let up = net.push(&format!("up{stage}"), Op::Upsample, &[y])?;
        let side = net.push(&format!("lateral{stage}"), conv(1, 1, head, false), &[stages[stage - 1]])?;
        let sum = net.push(&format!("merge{stage}"), Op::Add { relu: true }, &[side, up])?;
        y = net.push(&format!("smooth{stage}"), conv(3, 1, head, true), &[sum])?;
    }
    Ok((net, y, stages[3]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn net2_has_the_tutorials_shapes_and_weights() {
        let net = NetConfig::by_name("net2").unwrap().graph(15).unwrap();
        let shapes: Vec<_> = net.nodes.iter().map(|n| n.shape).collect();
        assert_eq!(
            shapes[1..7],
            [(94, 94, 32), (47, 47, 32), (46, 46, 64), (23, 23, 64), (22, 22, 128), (11, 11, 128)]
        );
        let weights: usize = net.parameters().iter().map(|p| p.shape.iter().product::<usize>()).sum();
        // 320 + 8,256 + 32,896 + 7,744,500 + 250,500 + 15,030, by the tutorial's layers.
        assert_eq!(weights, 8_051_502);
    }

    #[test]
    fn compact_gives_a_heatmap_a_keypoint_for_any_count() {
        for k in [1, 4, 15, 68] {
            let net = NetConfig::by_name("compact").unwrap().graph(k).unwrap();
            assert_eq!(net.nodes[net.keypoints].shape, (1, k, 3));
            assert_eq!(net.nodes[net.nodes[net.keypoints].inputs[0]].shape, (24, 24, k));
        }
    }

    #[test]
    fn an_unknown_name_is_answered_with_the_known_ones() {
        let error = NetConfig::by_name("net8").unwrap_err().to_string();
        assert!(error.contains("'net8'") && error.contains("compact"), "{error}");
    }
}
