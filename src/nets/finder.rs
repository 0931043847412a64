//! The net that finds faces in a whole frame: `compact`'s trunk, and at each of 24 x 24 places the logit of "the centre of a
//! face is here", its offset, size and roll (CenterNet, Zhou, Wang and Krähenbühl 2019).

use super::layers::{Conv, Mode};
use super::pyramid::{pointwise, TopDown, Trunk};
use super::{Architecture, Forward, Output, OutputKind};
use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;
use serde::{Deserialize, Serialize};

/// Values of a place: the logit, the offset of the centre in x and y (in places), the logarithm of the size over
/// [`FINDER_SIZE`], the roll in radians.
pub const FINDER_VALUES: usize = 5;

/// The size that a finder's output of 0 stands for, in pixels of the frame.
pub const FINDER_SIZE: f32 = 24.;

/// Sizes of the finder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FinderConfig {
    /// Channels of the four stages.
    pub channels: [usize; 4],
    /// Residual blocks of each stage.
    pub blocks: [usize; 4],
    /// Channels of the top-down pathway.
    pub head: usize,
}

impl Architecture for FinderConfig {
    fn presets() -> Vec<(&'static str, Self)> {
        vec![("finder", Self { channels: [16, 16, 32, 40], blocks: [0, 2, 1, 1], head: 24 })]
    }

    fn output(&self) -> OutputKind {
        OutputKind::Boxes
    }

    fn build(&self, _: usize, vb: VarBuilder) -> Result<Box<dyn Forward>> {
        Ok(Box::new(Finder {
            trunk: Trunk::new(self.channels, self.blocks, &vb)?,
            top_down: TopDown::new(self.channels, self.head, &vb)?,
            boxes: pointwise(self.head, FINDER_VALUES, vb.pp("boxes"))?,
        }))
    }
}

struct Finder {
    trunk: Trunk,
    top_down: TopDown,
    boxes: Conv,
}

impl Forward for Finder {
    /// Frames (B, 96, 96, 1) -> (B, 24, 24, [`FINDER_VALUES`]).
    fn forward_t(&self, frames: &Tensor, mode: &Mode) -> Result<Output> {
        let y = self.top_down.forward_t(&self.trunk.forward_t(frames, mode)?, mode)?;
        Ok(Output::Boxes(self.boxes.forward_t(&y, mode)?))
    }
}
