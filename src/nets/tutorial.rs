//! The nets of Daniel Nouri's tutorial: one hidden layer (`net1`), and `net2` with its successors.

use super::layers::{Conv, ConvConfig, Dense, Dropout, Mode};
use super::{Architecture, Forward, Output, OutputKind, SIDE};
use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;
use serde::{Deserialize, Serialize};

/// Sizes of `net1`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MlpConfig {
    /// Units of the hidden layer.
    pub hidden: usize,
}

impl Architecture for MlpConfig {
    fn presets() -> Vec<(&'static str, Self)> {
        vec![("net1", Self { hidden: 100 })]
    }

    fn output(&self) -> OutputKind {
        OutputKind::Points
    }

    fn build(&self, keypoints: usize, vb: VarBuilder) -> Result<Box<dyn Forward>> {
        Ok(Box::new(Mlp {
            hidden: Dense::new(SIDE * SIDE, self.hidden, true, vb.pp("hidden"))?,
            output: Dense::new(self.hidden, 2 * keypoints, false, vb.pp("output"))?,
        }))
    }
}

/// One hidden layer.
struct Mlp {
    hidden: Dense,
    output: Dense,
}

impl Forward for Mlp {
    /// Pictures (B, 96, 96, 1) -> points (B, 2 K).
    fn forward_t(&self, pictures: &Tensor, mode: &Mode) -> Result<Output> {
        Ok(Output::Points(self.output.forward_t(&self.hidden.forward_t(pictures, mode)?, mode)?))
    }
}

/// Sizes of `net2` to `net7`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TutorialConfig {
    /// Units of the two hidden dense layers.
    pub dense: [usize; 2],
    /// Dropout after each of the three pools and after the first dense layer; zero for none.
    pub dropout: [f32; 4],
}

impl Architecture for TutorialConfig {
    fn presets() -> Vec<(&'static str, Self)> {
        let plain = |name| (name, Self { dense: [500; 2], dropout: [0.; 4] });
        let dropout = |name, units| (name, Self { dense: [units; 2], dropout: [0.1, 0.2, 0.3, 0.5] });
        vec![plain("net2"), plain("net3"), plain("net4"), plain("net5"), dropout("net6", 500), dropout("net7", 1000)]
    }

    fn output(&self) -> OutputKind {
        OutputKind::Points
    }

    fn build(&self, keypoints: usize, vb: VarBuilder) -> Result<Box<dyn Forward>> {
        let conv = |n: usize, inputs, outputs, kernel| {
            let config = ConvConfig { kernel, stride: 1, padding: 0, norm: false, relu: true };
            Conv::new(inputs, outputs, config, vb.pp(format!("conv{n}")))
        };
        let [hidden4, hidden5] = self.dense;
        Ok(Box::new(Tutorial {
            // 96 -> 94 -> 47 -> 46 -> 23 -> 22 -> 11.
            convs: [conv(1, 1, 32, 3)?, conv(2, 32, 64, 2)?, conv(3, 64, 128, 2)?],
            hidden4: Dense::new(11 * 11 * 128, hidden4, true, vb.pp("hidden4"))?,
            hidden5: Dense::new(hidden4, hidden5, true, vb.pp("hidden5"))?,
            output: Dense::new(hidden5, 2 * keypoints, false, vb.pp("output"))?,
            dropout: self.dropout.map(Dropout),
        }))
    }
}

/// `net2` to `net7`: three valid convolutions of 32, 64 and 128 channels, each pooled by 2, two dense layers and a linear
/// output.
struct Tutorial {
    convs: [Conv; 3],
    hidden4: Dense,
    hidden5: Dense,
    output: Dense,
    dropout: [Dropout; 4],
}

impl Forward for Tutorial {
    /// Pictures (B, 96, 96, 1) -> points (B, 2 K).
    fn forward_t(&self, pictures: &Tensor, mode: &Mode) -> Result<Output> {
        let mut x = pictures.clone();
        for (conv, dropout) in self.convs.iter().zip(&self.dropout) {
            x = dropout.forward_t(conv.pooled(&x, mode)?, mode)?;
        }
        x = self.dropout[3].forward_t(self.hidden4.forward_t(&x, mode)?, mode)?;
        x = self.hidden5.forward_t(&x, mode)?;
        Ok(Output::Points(self.output.forward_t(&x, mode)?))
    }
}
