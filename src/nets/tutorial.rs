//! The nets of Daniel Nouri's tutorial: one hidden layer (`net1`), and `net2` with its successors.

use super::layers::{Conv, ConvConfig, Dense, Dropout, Mode};
use super::{Output, SIDE};
use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;

/// `net1`: one hidden layer.
pub struct Mlp {
    hidden: Dense,
    output: Dense,
}

impl Mlp {
    /// A net for `keypoints` points, with the variables of `vb` and `hidden` units.
    ///
    /// # Errors
    /// Variables that are missing or of the wrong shape.
    pub fn new(hidden: usize, keypoints: usize, vb: VarBuilder) -> Result<Self> {
        Ok(Self {
            hidden: Dense::new(SIDE * SIDE, hidden, true, vb.pp("hidden"))?,
            output: Dense::new(hidden, 2 * keypoints, false, vb.pp("output"))?,
        })
    }

    /// Pictures (B, 96, 96, 1) -> points (B, 2 K).
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn forward_t(&self, pictures: &Tensor, mode: &Mode) -> Result<Output> {
        Ok(Output::Points(self.output.forward_t(&self.hidden.forward_t(pictures, mode)?, mode)?))
    }
}

/// `net2` to `net7`: three valid convolutions of 32, 64 and 128 channels, each pooled by 2, two dense layers and a linear
/// output.
pub struct Tutorial {
    convs: [Conv; 3],
    hidden4: Dense,
    hidden5: Dense,
    output: Dense,
    dropout: [Dropout; 4],
}

impl Tutorial {
    /// A net for `keypoints` points, with the variables of `vb`, `dense` units in the two hidden dense layers, and `dropout` after
    /// each of the three pools and after the first dense layer.
    ///
    /// # Errors
    /// Variables that are missing or of the wrong shape.
    pub fn new(dense: [usize; 2], dropout: [f32; 4], keypoints: usize, vb: VarBuilder) -> Result<Self> {
        let conv = |n: usize, inputs, outputs, kernel| {
            let config = ConvConfig { kernel, stride: 1, padding: 0, norm: false, relu: true };
            Conv::new(inputs, outputs, config, vb.pp(format!("conv{n}")))
        };
        Ok(Self {
            // 96 -> 94 -> 47 -> 46 -> 23 -> 22 -> 11.
            convs: [conv(1, 1, 32, 3)?, conv(2, 32, 64, 2)?, conv(3, 64, 128, 2)?],
            hidden4: Dense::new(11 * 11 * 128, dense[0], true, vb.pp("hidden4"))?,
            hidden5: Dense::new(dense[0], dense[1], true, vb.pp("hidden5"))?,
            output: Dense::new(dense[1], 2 * keypoints, false, vb.pp("output"))?,
            dropout: dropout.map(Dropout),
        })
    }

    /// Pictures (B, 96, 96, 1) -> points (B, 2 K).
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn forward_t(&self, pictures: &Tensor, mode: &Mode) -> Result<Output> {
        let mut x = pictures.clone();
        for (conv, dropout) in self.convs.iter().zip(&self.dropout) {
            x = dropout.forward_t(conv.pooled(&x, mode)?, mode)?;
        }
        x = self.dropout[3].forward_t(self.hidden4.forward_t(&x, mode)?, mode)?;
        x = self.hidden5.forward_t(&x, mode)?;
        Ok(Output::Points(self.output.forward_t(&x, mode)?))
    }
}
