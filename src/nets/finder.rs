//! The net that finds faces in a whole frame: `compact`'s trunk, and at each of 24 x 24 places the logit of "the centre of a
//! face is here", its offset, size and roll (CenterNet, Zhou, Wang and Krähenbühl 2019).

use super::layers::{Conv, Mode};
use super::pyramid::{pointwise, TopDown, Trunk};
use super::Output;
use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;

/// Values of a place: the logit, the offset of the centre in x and y (in places), the logarithm of the size over
/// [`FINDER_SIZE`], the roll in radians.
pub const FINDER_VALUES: usize = 5;

/// The size that a finder's output of 0 stands for, in pixels of the frame.
pub const FINDER_SIZE: f32 = 24.;

/// The net.
pub struct FinderNet {
    trunk: Trunk,
    top_down: TopDown,
    boxes: Conv,
}

impl FinderNet {
    /// A net with the variables of `vb`, channels and residual blocks of the four stages, and channels of the top-down pathway.
    ///
    /// # Errors
    /// Variables that are missing or of the wrong shape.
    pub fn new(channels: [usize; 4], blocks: [usize; 4], head: usize, vb: VarBuilder) -> Result<Self> {
        Ok(Self {
            trunk: Trunk::new(channels, blocks, &vb)?,
            top_down: TopDown::new(channels, head, &vb)?,
            boxes: pointwise(head, FINDER_VALUES, vb.pp("boxes"))?,
        })
    }

    /// Frames (B, 96, 96, 1) -> (B, 24, 24, [`FINDER_VALUES`]).
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn forward_t(&self, frames: &Tensor, mode: &Mode) -> Result<Output> {
        let y = self.top_down.forward_t(&self.trunk.forward_t(frames, mode)?, mode)?;
        Ok(Output::Boxes(self.boxes.forward_t(&y, mode)?))
    }
}
