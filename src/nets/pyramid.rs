//! The parts that `compact` and the finder share: stages of stride 2 with residual blocks (He et al. 2016), and a top-down
//! pathway from 6 x 6 to 24 x 24 (Lin et al. 2017).

use super::layers::{Conv, ConvConfig, Mode};
use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;
use serde::{Deserialize, Deserializer};

/// Residual blocks of each stage, from four numbers or from one, which is that of all stages after the first.
pub(super) fn blocks<'de, D: Deserializer<'de>>(from: D) -> std::result::Result<[usize; 4], D::Error> {
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

/// A convolution with batch norm.
fn conv(inputs: usize, outputs: usize, kernel: usize, stride: usize, vb: VarBuilder) -> Result<Conv> {
    let config = ConvConfig { kernel, stride, padding: kernel / 2, norm: true, relu: true };
    Conv::new(inputs, outputs, config, vb)
}

/// A linear layer at each place.
pub(super) fn pointwise(inputs: usize, outputs: usize, vb: VarBuilder) -> Result<Conv> {
    Conv::new(inputs, outputs, ConvConfig { kernel: 1, stride: 1, padding: 0, norm: false, relu: false }, vb)
}

/// Two convolutions, plus the input.
struct Block {
    conv1: Conv,
    conv2: Conv,
}

impl Block {
    fn new(channels: usize, vb: VarBuilder) -> Result<Self> {
        let conv1 = conv(channels, channels, 3, 1, vb.pp("conv1"))?;
        let conv2 = conv(channels, channels, 3, 1, vb.pp("conv2"))?;
        Ok(Self { conv1, conv2 })
    }

    fn forward_t(&self, x: &Tensor, mode: &Mode) -> Result<Tensor> {
        self.conv2.add(&self.conv1.forward_t(x, mode)?, x, mode)
    }
}

/// Halves the size, then applies residual blocks.
struct Stage {
    down: Conv,
    blocks: Vec<Block>,
}

impl Stage {
    fn new(inputs: usize, channels: usize, blocks: usize, vb: VarBuilder) -> Result<Self> {
        let down = conv(inputs, channels, 3, 2, vb.pp("down"))?;
        let blocks = (1..=blocks).map(|b| Block::new(channels, vb.pp(format!("block{b}")))).collect::<Result<_>>()?;
        Ok(Self { down, blocks })
    }

    fn forward_t(&self, x: &Tensor, mode: &Mode) -> Result<Tensor> {
        let x = self.down.forward_t(x, mode)?;
        self.blocks.iter().try_fold(x, |x, block| block.forward_t(&x, mode))
    }
}

/// The trunk: four stages.
pub(super) struct Trunk(Vec<Stage>);

impl Trunk {
    pub(super) fn new(channels: [usize; 4], blocks: [usize; 4], vb: &VarBuilder) -> Result<Self> {
        let inputs = [1, channels[0], channels[1], channels[2]];
        let stage = |i: usize| Stage::new(inputs[i], channels[i], blocks[i], vb.pp(format!("stage{}", i + 1)));
        Ok(Self((0..4).map(stage).collect::<Result<_>>()?))
    }

    /// (B, 96, 96, 1) -> the stages' outputs, at 48 x 48, 24 x 24, 12 x 12 and 6 x 6.
    pub(super) fn forward_t(&self, pictures: &Tensor, mode: &Mode) -> Result<[Tensor; 4]> {
        let one = self.0[0].forward_t(pictures, mode)?;
        let two = self.0[1].forward_t(&one, mode)?;
        let three = self.0[2].forward_t(&two, mode)?;
        let four = self.0[3].forward_t(&three, mode)?;
        Ok([one, two, three, four])
    }
}

/// The pathway back up: the upsampled output of each stage is added to that of the stage below it.
pub(super) struct TopDown {
    lateral4: Conv,
    lateral3: Conv,
    smooth3: Conv,
    lateral2: Conv,
    smooth2: Conv,
}

impl TopDown {
    pub(super) fn new(channels: [usize; 4], head: usize, vb: &VarBuilder) -> Result<Self> {
        let lateral = |stage: usize| conv(channels[stage - 1], head, 1, 1, vb.pp(format!("lateral{stage}")));
        let smooth = |stage: usize| conv(head, head, 3, 1, vb.pp(format!("smooth{stage}")));
        Ok(Self {
            lateral4: lateral(4)?,
            lateral3: lateral(3)?,
            smooth3: smooth(3)?,
            lateral2: lateral(2)?,
            smooth2: smooth(2)?,
        })
    }

    /// The stages' outputs -> (B, 24, 24, head).
    pub(super) fn forward_t(&self, [_, two, three, four]: &[Tensor; 4], mode: &Mode) -> Result<Tensor> {
        let y = self.lateral4.forward_t(four, mode)?;
        let y = self.smooth3.forward_t(&self.lateral3.add_upsampled(three, &y, mode)?, mode)?;
        self.smooth2.forward_t(&self.lateral2.add_upsampled(two, &y, mode)?, mode)
    }
}
