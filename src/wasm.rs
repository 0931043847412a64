//! The browser's boundary: converts, checks and hands on to [`crate::infer`] and [`crate::synthetic`]. Whatever is
//! wrong with what JavaScript hands in becomes an `Error` there; the module never traps.

use crate::ops::wasm as kernels;
use crate::schema::Schema;
use crate::weights::Weights;
use crate::{infer, synthetic};
use serde::Serialize;
use wasm_bindgen::prelude::*;

/// The largest side of a synthetic frame, in pixels.
const MAX_SIDE: u32 = 4096;

fn js_error(error: crate::error::Error) -> JsError {
    JsError::new(&error.to_string())
}

/// What JavaScript is told about a net.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Info<'a> {
    net: &'a str,
    version: &'a str,
    input_size: usize,
    presence: bool,
    schema: &'a Schema,
}

/// Finds the keypoints in a crop of a face. The owner calls `free()` when it is done with it.
#[wasm_bindgen]
pub struct Detector {
    detector: infer::Detector,
    info: JsValue,
}

#[wasm_bindgen]
impl Detector {
    /// From the bytes of a weights file.
    ///
    /// # Errors
    /// A file that is truncated, foreign, or does not fit its own net.
    #[wasm_bindgen(constructor)]
    pub fn new(weights: &[u8]) -> Result<Detector, JsError> {
        let weights = Weights::from_bytes(weights).map_err(js_error)?;
        let mut detector = infer::Detector::new(&weights).map_err(js_error)?;
        let meta = &weights.meta;
        let info = Info {
            net: &meta.net,
            version: &meta.crate_version,
            input_size: meta.side,
            presence: !detector.plan().presence().is_empty(),
            schema: &meta.schema,
        };
        let info = serde_wasm_bindgen::to_value(&info)?;
        Ok(Self { detector, info })
    }

    /// `{ net, version, inputSize, presence, schema: { keypoints, swap, edges } }`: the net's name, the version of
    /// face96 that wrote the weights, the side of the crop in pixels, whether the net tells faces from other things.
    #[wasm_bindgen(unchecked_return_type = "{ net: string; version: string; inputSize: number; presence: boolean; \
                                            schema: { keypoints: string[]; swap: number[]; edges: [number, number][] } }")]
    pub fn info(&self) -> JsValue {
        self.info.clone()
    }

    /// Keypoints of a crop of `inputSize` x `inputSize` RGBA pixels:
    /// `[presence, x0, y0, confidence0, x1, y1, confidence1, ...]`, x and y in pixels of the crop (see
    /// [`infer::Detector::detect_grey`]).
    ///
    /// # Errors
    /// A buffer of another length.
    pub fn detect(
        &mut self,
        #[wasm_bindgen(unchecked_param_type = "Uint8Array | Uint8ClampedArray")] rgba: &[u8],
    ) -> Result<js_sys::Float32Array, JsError> {
        // Copied out at once: a view of wasm's memory would dangle as soon as that grows.
        self.detector.detect_rgba(rgba).map(js_sys::Float32Array::from).map_err(js_error)
    }

    /// Runs the net alone `times` times on its last input: for benchmarks, which would otherwise time the boundary too.
    pub fn forward(&mut self, times: u32) {
        (0..times).for_each(|_| self.detector.plan().run());
    }
}

/// Runs 48 multiply-adds a step on registers alone: the limit that a benchmark compares the net with.
#[wasm_bindgen(js_name = multiplyAdds)]
pub fn multiply_adds(steps: u32) -> f32 {
    kernels::multiply_adds(steps as usize)
}

/// A drawn, animated face in frames of one size: the page's picture when there is no camera. The owner calls `free()`.
#[wasm_bindgen]
pub struct SyntheticFace {
    face: synthetic::SyntheticFace,
    width: usize,
    height: usize,
    /// The frame that was asked for last: its picture, keypoints and box are asked for one after the other.
    last: Option<(f64, synthetic::Scene)>,
}

#[wasm_bindgen]
impl SyntheticFace {
    /// The face of a seed (a whole number), drawn in frames of `width` x `height` pixels.
    ///
    /// # Errors
    /// A seed that is not a finite number, a side that is not in 1 to 4096.
    #[wasm_bindgen(constructor)]
    pub fn new(seed: f64, width: f64, height: f64) -> Result<SyntheticFace, JsError> {
        if !seed.is_finite() {
            return Err(JsError::new(&format!("seed: expected a number, found {seed}")));
        }
        let side = |name: &str, side: f64| {
            if side.fract() == 0. && (1. ..=f64::from(MAX_SIDE)).contains(&side) {
                return Ok(side as usize);
            }
            Err(JsError::new(&format!("{name}: expected a whole number in 1 to {MAX_SIDE}, found {side}")))
        };
        let (width, height) = (side("width", width)?, side("height", height)?);
        Ok(Self { face: synthetic::SyntheticFace::new(seed as i64 as u64), width, height, last: None })
    }

    /// The frame at a time: `4 * width * height` opaque RGBA bytes.
    ///
    /// # Errors
    /// A time that is not a finite number.
    pub fn draw(&mut self, seconds: f64) -> Result<js_sys::Uint8Array, JsError> {
        let scene = self.scene(seconds)?;
        Ok(js_sys::Uint8Array::from(scene.rgba.as_slice()))
    }

    /// Where the keypoints are in that frame, in pixels: `[x0, y0, x1, y1, ...]`.
    ///
    /// # Errors
    /// A time that is not a finite number.
    pub fn keypoints(&mut self, seconds: f64) -> Result<js_sys::Float32Array, JsError> {
        let scene = self.scene(seconds)?;
        Ok(js_sys::Float32Array::from(scene.keypoints.as_flattened()))
    }

    /// The box of the face in that frame: `[x, y, size, roll]`, the middle and the side in pixels, the roll in radians.
    ///
    /// # Errors
    /// A time that is not a finite number.
    #[wasm_bindgen(js_name = box)]
    pub fn crop_box(&mut self, seconds: f64) -> Result<js_sys::Float32Array, JsError> {
        let crop = self.scene(seconds)?.crop;
        Ok(js_sys::Float32Array::from([crop.x, crop.y, crop.size, crop.roll].as_slice()))
    }

    fn scene(&mut self, seconds: f64) -> Result<&synthetic::Scene, JsError> {
        if !seconds.is_finite() {
            return Err(JsError::new(&format!("seconds: expected a number, found {seconds}")));
        }
        if self.last.as_ref().is_none_or(|(at, _)| *at != seconds) {
            self.last = Some((seconds, self.face.animate(self.width, self.height, seconds)));
        }
        Ok(&self.last.as_ref().expect("just drawn").1)
    }
}
