//! For `make bench` in the browser: a net on candle's own ops, to compare with ours, and a profile of ours. Only
//! `tools/bench` builds it; it is never part of the package.

use crate::infer::Detector;
use crate::nets::layers::Mode;
use crate::nets::{Net, NetConfig, Output, SIDE};
use crate::weights::Weights;
use candle_core::{Device, Result, Tensor};
use std::cell::RefCell;
use wasm_bindgen::prelude::*;

fn js_error(error: impl std::fmt::Display) -> JsError {
    JsError::new(&error.to_string())
}

/// The profile of a frame with our kernels, over `frames` frames: `[name, milliseconds, multiply-adds]` of each layer as JSON.
///
/// # Errors
/// A file that does not fit its own net; an environment without `performance`.
#[wasm_bindgen]
pub fn profile(bytes: &[u8], frames: usize) -> std::result::Result<String, JsError> {
    let clock = js_sys::global().unchecked_into::<web_sys::WorkerGlobalScope>().performance();
    let clock = clock.ok_or_else(|| JsError::new("no clock here"))?;
    let detector = Detector::new(&Weights::from_bytes(bytes).map_err(js_error)?).map_err(js_error)?;
    let layers: RefCell<Vec<(String, Vec<f64>, usize)>> = RefCell::default();
    for frame in 0..frames.max(1) {
        let (at, last) = (RefCell::new(0), RefCell::new(clock.now()));
        let watch = |call: &crate::nets::trace::Call| {
            let time = clock.now();
            let mut layers = layers.borrow_mut();
            if frame == 0 {
                layers.push((call.name.into(), vec![], call.multiply_adds));
            }
            layers[*at.borrow()].1.push(time - *last.borrow());
            *at.borrow_mut() += 1;
            *last.borrow_mut() = clock.now();
        };
        detector.forward(&Mode::Watch(&watch)).map_err(js_error)?;
    }
    let typical = |mut times: Vec<f64>| {
        times.sort_by(f64::total_cmp);
        // The mean of the faster half, because a median would be a multiple of the clock's own steps.
        let half = times.len().div_ceil(2);
        times[..half].iter().sum::<f64>() / half as f64
    };
    let rows: Vec<_> = layers.into_inner().into_iter().map(|(name, times, n)| (name, typical(times), n)).collect();
    serde_json::to_string(&rows).map_err(js_error)
}

/// A net on candle's own ops.
#[wasm_bindgen]
pub struct CandleNet {
    net: Net,
    config: NetConfig,
}

#[wasm_bindgen]
impl CandleNet {
    /// Builds the net from the bytes of a weights file.
    ///
    /// # Errors
    /// A file that does not fit its own net.
    #[wasm_bindgen(constructor)]
    pub fn new(bytes: &[u8]) -> std::result::Result<CandleNet, JsError> {
        let weights = Weights::from_bytes(bytes).map_err(js_error)?;
        Ok(Self { net: weights.net().map_err(js_error)?, config: weights.meta.config })
    }

    /// Keypoints `[x0, y0, x1, y1, ...]` in pixels of the crop from its 96 x 96 normalised values.
    ///
    /// # Errors
    /// A buffer of the wrong length.
    pub fn run(&self, input: &[f32]) -> std::result::Result<js_sys::Float32Array, JsError> {
        let points = self.points(input).map_err(js_error)?;
        Ok(js_sys::Float32Array::from(points.as_slice()))
    }
}

impl CandleNet {
    fn points(&self, input: &[f32]) -> Result<Vec<f32>> {
        let picture = Tensor::from_slice(input, (1, SIDE, SIDE, 1), &Device::Cpu)?;
        let places = match self.net.forward_t(&picture, &Mode::Candle(None))? {
            Output::Heatmaps { places, .. } => places.narrow(2, 0, 2)?,
            Output::Points(points) | Output::Boxes(points) => points,
        };
        let (half, offset) = (SIDE as f32 / 2., self.config.unit_offset());
        Ok(places.flatten_all()?.to_vec1::<f32>()?.into_iter().map(|v| v * half + offset).collect())
    }
}
