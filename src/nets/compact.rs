//! `compact`, the shipped keypoint net: a residual trunk, a top-down pathway to 24 x 24, and one heatmap per keypoint, whose
//! expected place is the keypoint (DSNT, Nibali et al. 2018).

use super::layers::{mean_pool, soft_argmax, Conv, Dense, Mode};
use super::pyramid::{pointwise, TopDown, Trunk};
use super::Output;
use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;

/// Sizes of a [`Compact`].
pub struct CompactConfig {
    /// Channels of the four stages.
    pub channels: [usize; 4],
    /// Residual blocks of each stage.
    pub blocks: [usize; 4],
    /// Channels of the top-down pathway.
    pub head: usize,
    /// Whether the net also gives each keypoint's confidence.
    pub confidence: bool,
    /// How far each keypoint may lie from the crop's middle, in half sides; empty where none lies outside of the crop.
    pub reach: Vec<f32>,
}

/// The net.
pub struct Compact {
    trunk: Trunk,
    top_down: TopDown,
    heatmaps: Conv,
    reach: Vec<f32>,
    presence: Dense,
}

impl Compact {
    /// A net for `keypoints` points, with the variables of `vb`.
    ///
    /// # Errors
    /// Variables that are missing or of the wrong shape.
    pub fn new(config: &CompactConfig, keypoints: usize, vb: VarBuilder) -> Result<Self> {
        let logits = if config.confidence { 1 + keypoints } else { 1 };
        Ok(Self {
            trunk: Trunk::new(config.channels, config.blocks, &vb)?,
            top_down: TopDown::new(config.channels, config.head, &vb)?,
            heatmaps: pointwise(config.head, keypoints, vb.pp("heatmaps"))?,
            reach: config.reach.clone(),
            presence: Dense::new(config.channels[3], logits, false, vb.pp("presence"))?,
        })
    }

    /// Pictures (B, 96, 96, 1) -> places (B, K, 3) and logits (B, 1 or 1 + K).
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn forward_t(&self, pictures: &Tensor, mode: &Mode) -> Result<Output> {
        let stages = self.trunk.forward_t(pictures, mode)?;
        let heatmaps = self.heatmaps.forward_t(&self.top_down.forward_t(&stages, mode)?, mode)?;
        let logits = self.presence.forward_t(&mean_pool(&stages[3], "mean", mode)?, mode)?;
        let places = soft_argmax(&heatmaps, &self.reach, "keypoints", mode)?;
        Ok(Output::Heatmaps { places, logits })
    }
}
