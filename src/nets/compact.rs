//! `compact`, the shipped keypoint net: a residual trunk, a top-down pathway to 24 x 24, and one heatmap per keypoint, whose
//! expected place is the keypoint (DSNT, Nibali et al. 2018).

use super::layers::{mean_pool, soft_argmax, Conv, Dense, Mode};
use super::pyramid::{pointwise, TopDown, Trunk};
use super::{Architecture, Forward, Output, OutputKind};
use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;
use serde::{Deserialize, Serialize};

/// Sizes of `compact`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CompactConfig {
    /// Channels of the four stages, each at half the size of the one before.
    pub channels: [usize; 4],
    /// Residual blocks of each stage; a single number in a file is that of all stages after the first.
    #[serde(deserialize_with = "super::pyramid::blocks")]
    pub blocks: [usize; 4],
    /// Channels of the top-down pathway.
    pub head: usize,
    /// Whether the net also gives each keypoint's confidence.
    #[serde(default)]
    pub confidence: bool,
    /// See [`Architecture::reach`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reach: Vec<f32>,
}

impl Architecture for CompactConfig {
    fn presets() -> Vec<(&'static str, Self)> {
        let reach = vec![];
        vec![("compact", Self { channels: [16, 32, 64, 104], blocks: [0, 1, 2, 1], head: 32, confidence: true, reach })]
    }

    fn output(&self) -> OutputKind {
        OutputKind::Heatmaps
    }

    fn build(&self, keypoints: usize, vb: VarBuilder) -> Result<Box<dyn Forward>> {
        let Self { channels, blocks, head, confidence, reach } = self.clone();
        if !reach.is_empty() && (reach.len() != keypoints || !reach.iter().all(|r| (1. ..=4.).contains(r))) {
            candle_core::bail!("reach: expected {keypoints} numbers from 1 to 4, found {reach:?}");
        }
        Ok(Box::new(Compact {
            trunk: Trunk::new(channels, blocks, &vb)?,
            top_down: TopDown::new(channels, head, &vb)?,
            heatmaps: pointwise(head, keypoints, vb.pp("heatmaps"))?,
            reach,
            presence: Dense::new(channels[3], 1 + usize::from(confidence) * keypoints, false, vb.pp("presence"))?,
        }))
    }

    fn reach(&self) -> &[f32] {
        &self.reach
    }

    fn reach_mut(&mut self) -> Option<&mut Vec<f32>> {
        Some(&mut self.reach)
    }
}

struct Compact {
    trunk: Trunk,
    top_down: TopDown,
    heatmaps: Conv,
    reach: Vec<f32>,
    presence: Dense,
}

impl Forward for Compact {
    /// Pictures (B, 96, 96, 1) -> places (B, K, 3) and logits (B, 1 or 1 + K).
    fn forward_t(&self, pictures: &Tensor, mode: &Mode) -> Result<Output> {
        let stages = self.trunk.forward_t(pictures, mode)?;
        let heatmaps = self.heatmaps.forward_t(&self.top_down.forward_t(&stages, mode)?, mode)?;
        let logits = self.presence.forward_t(&mean_pool(&stages[3], "mean", mode)?, mode)?;
        let places = soft_argmax(&heatmaps, &self.reach, "keypoints", mode)?;
        Ok(Output::Heatmaps { places, logits })
    }
}
