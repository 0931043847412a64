//! The browser's boundary: converts, checks and passes on to [`crate::infer`], [`crate::track`] and [`crate::synthetic`].
//! Anything wrong in the arguments from JavaScript becomes an `Error` there; the module never traps.

use crate::geometry::CropBox;
use crate::nets::layers::Mode;
use crate::nets::SIDE;
use crate::picture::grey_from_rgba;
use crate::schema::Schema;
use crate::weights::{Metadata, Weights};
use crate::{infer, synthetic, track};
use serde::Serialize;
use wasm_bindgen::prelude::*;

/// The largest side of a synthetic frame, in pixels.
const MAX_SIDE: u32 = 4096;

fn js_error(error: crate::error::Error) -> JsError {
    JsError::new(&error.to_string())
}

/// Only our own bugs panic. The message goes to the console, because JavaScript learns no reason from the trap that follows.
fn tell_panics() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        std::panic::set_hook(Box::new(|info| web_sys::console::error_1(&info.to_string().into())));
    });
}

/// The properties of a net, for JavaScript.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Info<'a> {
    net: &'a str,
    version: &'a str,
    input_size: usize,
    presence: bool,
    schema: &'a Schema,
}

/// The nets: one finds keypoints in a crop of a face, the other finds faces in a frame. The owner calls `free()` at the end.
#[wasm_bindgen]
pub struct Detector {
    detector: infer::Detector,
    finder: Option<infer::Finder>,
    meta: Metadata,
    presence: bool,
    info: JsValue,
}

#[wasm_bindgen]
impl Detector {
    /// Builds the nets from the bytes of a weights file.
    ///
    /// # Errors
    /// A file that is truncated, foreign, or does not fit its own net.
    #[wasm_bindgen(constructor)]
    pub fn new(weights: &[u8]) -> Result<Detector, JsError> {
        tell_panics();
        let weights = Weights::from_bytes(weights).map_err(js_error)?;
        let detector = infer::Detector::new(&weights).map_err(js_error)?;
        let meta = weights.meta;
        let presence = detector.has_presence();
        let info = Info {
            net: &meta.net,
            version: &meta.crate_version,
            input_size: meta.side,
            presence,
            schema: &meta.schema,
        };
        let info = serde_wasm_bindgen::to_value(&info)?;
        Ok(Self { detector, finder: None, meta, presence, info })
    }

    /// Adds the net that finds faces, from the bytes of its weights file. Trackers created afterwards use it.
    ///
    /// # Errors
    /// A file that is truncated, foreign, or not a finder's.
    #[wasm_bindgen(js_name = addFinder)]
    pub fn add_finder(&mut self, weights: &[u8]) -> Result<(), JsError> {
        let weights = Weights::from_bytes(weights).map_err(js_error)?;
        self.finder = Some(infer::Finder::new(&weights).map_err(js_error)?);
        Ok(())
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
    /// A buffer of the wrong length.
    pub fn detect(
        &mut self,
        #[wasm_bindgen(unchecked_param_type = "Uint8Array | Uint8ClampedArray")] rgba: &[u8],
    ) -> Result<js_sys::Float32Array, JsError> {
        // Copied at once, because a view of wasm's memory would dangle as soon as the memory grows.
        self.detector.detect_rgba(rgba).map(js_sys::Float32Array::from).map_err(js_error)
    }

    /// Runs the net alone `times` times on its last input: for benchmarks, which would otherwise time the boundary too.
    ///
    /// # Errors
    /// Only errors of candle itself.
    pub fn forward(&self, times: u32) -> Result<(), JsError> {
        for _ in 0..times {
            self.detector.forward(&Mode::Infer).map_err(js_error)?;
        }
        Ok(())
    }
}

/// Tracks the faces of one stream of frames (see [`track::Tracker`]). For each frame call `begin`, `still` or `boxed`; while the
/// result is a crop, pass it in by `takeLuma` or `takeImage` and call `look`; then read `faces`. The owner calls `free()`.
///
/// A crop is `[x, y, size, roll, finder]`: centre and side in pixels of the frame, roll in radians, 1 if it is for the finder.
#[wasm_bindgen]
pub struct Tracker {
    tracker: track::Tracker,
    finder: bool,
    grey: Vec<f32>,
    cells: Vec<f32>,
}

#[wasm_bindgen]
impl Tracker {
    /// A tracker for the nets of a detector, with the settings of `configure`.
    #[wasm_bindgen(constructor)]
    pub fn new(
        detector: &Detector,
        max_faces: u32,
        min_score: f32,
        min_cutoff: f32,
        beta: f32,
        d_cutoff: f32,
    ) -> Tracker {
        let finder = detector.finder.is_some();
        let settings = settings(finder, max_faces, min_score, min_cutoff, beta, d_cutoff);
        let tracker = track::Tracker::new(&detector.meta, detector.presence, settings);
        Self { tracker, finder, grey: vec![0.; SIDE * SIDE], cells: Vec::new() }
    }

    /// Sets the largest number of faces, the presence score that a new face needs, and the smoothing, which a `minCutoff` of 0 turns
    /// off.
    pub fn configure(&mut self, max_faces: u32, min_score: f32, min_cutoff: f32, beta: f32, d_cutoff: f32) {
        self.tracker.configure(settings(self.finder, max_faces, min_score, min_cutoff, beta, d_cutoff));
    }

    /// Begins a frame of the stream; returns the first crop to take.
    pub fn begin(&mut self, width: f32, height: f32, seconds: f64) -> Option<js_sys::Float32Array> {
        self.start(width, height, track::Frame::Stream { seconds })
    }

    /// Begins a single picture; tracks stay unchanged.
    pub fn still(&mut self, width: f32, height: f32) -> Option<js_sys::Float32Array> {
        self.start(width, height, track::Frame::Still)
    }

    /// Begins a picture whose face is known; tracks stay unchanged.
    pub fn boxed(&mut self, x: f32, y: f32, size: f32, roll: f32) -> Option<js_sys::Float32Array> {
        self.start(0., 0., track::Frame::Boxed(CropBox { x, y, size, roll }))
    }

    /// Takes the wanted crop from the luma plane of the frame: `height` rows of `width` bytes, `stride` apart.
    ///
    /// # Errors
    /// A plane with fewer bytes; a call when no crop is wanted.
    #[wasm_bindgen(js_name = takeLuma)]
    pub fn take_luma(
        &mut self,
        luma: &[u8],
        width: usize,
        height: usize,
        stride: usize,
        full_range: bool,
    ) -> Result<(), JsError> {
        let luma = track::Luma::new(luma, width, height, stride, full_range).map_err(js_error)?;
        match self.tracker.wanted() {
            Some(track::Want::Find(crop) | track::Want::Keypoints(crop)) => {
                luma.crop(&crop, &mut self.cells, &mut self.grey);
                Ok(())
            }
            None => Err(JsError::new("takeLuma: no crop is needed")),
        }
    }

    /// Takes the wanted crop as a picture of `inputSize` x `inputSize` pixels.
    ///
    /// # Errors
    /// A picture of another size; a call when no crop is wanted.
    #[wasm_bindgen(js_name = takeImage)]
    pub fn take_image(&mut self, image: &web_sys::ImageData) -> Result<(), JsError> {
        if self.tracker.wanted().is_none() {
            return Err(JsError::new("takeImage: no crop is needed"));
        }
        grey_from_rgba(&image.data(), &mut self.grey).map_err(js_error)
    }

    /// The latest crop: `inputSize` x `inputSize` grey bytes.
    pub fn crop(&self) -> js_sys::Uint8Array {
        let bytes: Vec<u8> = self.grey.iter().map(|grey| (grey + 0.5) as u8).collect();
        js_sys::Uint8Array::from(bytes.as_slice())
    }

    /// Runs on the latest crop the net that it is for; returns the next crop to take, or `undefined` when the frame is done.
    ///
    /// # Errors
    /// A call when no crop is wanted.
    pub fn look(&mut self, detector: &mut Detector) -> Result<Option<js_sys::Float32Array>, JsError> {
        match (self.tracker.wanted(), &mut detector.finder) {
            (Some(track::Want::Keypoints(_)), _) => {
                self.tracker.seen(detector.detector.detect_grey(&self.grey).map_err(js_error)?);
            }
            (Some(track::Want::Find(_)), Some(finder)) => {
                self.tracker.found(finder.find_grey(&self.grey).map_err(js_error)?);
            }
            _ => return Err(JsError::new("look: no crop is needed")),
        }
        Ok(self.wanted())
    }

    /// The faces of the frame: `[track, score, x, y, size, roll, yaw, pitch, head roll, mouth, head x, head y, face width, events,
    /// left eye, its confidence, right eye, ..., x0, y0, confidence0, x1, ...]` for each (see [`track::Tracker::faces`]).
    pub fn faces(&self) -> js_sys::Float32Array {
        js_sys::Float32Array::from(self.tracker.faces())
    }

    /// Takes the faces' expressions now and in the next seconds as their rest.
    pub fn recalibrate(&mut self) {
        self.tracker.recalibrate();
    }

    /// Drops every track.
    pub fn reset(&mut self) {
        self.tracker.reset();
    }

    fn start(&mut self, width: f32, height: f32, frame: track::Frame) -> Option<js_sys::Float32Array> {
        self.tracker.begin(width, height, frame);
        self.wanted()
    }

    fn wanted(&self) -> Option<js_sys::Float32Array> {
        let (crop, finder) = match self.tracker.wanted()? {
            track::Want::Find(crop) => (crop, 1.),
            track::Want::Keypoints(crop) => (crop, 0.),
        };
        Some(js_sys::Float32Array::from([crop.x, crop.y, crop.size, crop.roll, finder].as_slice()))
    }
}

fn settings(
    finder: bool,
    max_faces: u32,
    min_score: f32,
    min_cutoff: f32,
    beta: f32,
    d_cutoff: f32,
) -> track::Settings {
    let smoothing = (min_cutoff > 0.).then_some(track::Smoothing { min_cutoff, beta, d_cutoff });
    track::Settings { max_faces: max_faces as usize, min_score, smoothing, finder }
}

/// Runs `steps` steps of multiply-adds on registers alone, and returns how many multiply-adds it executed: the limit with which a
/// benchmark compares the net.
#[wasm_bindgen(js_name = multiplyAdds)]
pub fn multiply_adds(steps: u32) -> u32 {
    crate::ops::multiply_adds(steps as usize) as u32
}

/// A drawn, animated face in frames of one size: the page's picture if there is no camera. The owner calls `free()`.
#[wasm_bindgen]
pub struct SyntheticFace {
    face: synthetic::SyntheticFace,
    width: usize,
    height: usize,
    /// The latest frame, because its picture, keypoints and box are read one after the other.
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

    /// The keypoints in that frame, in pixels: `[x0, y0, x1, y1, ...]`.
    ///
    /// # Errors
    /// A time that is not a finite number.
    pub fn keypoints(&mut self, seconds: f64) -> Result<js_sys::Float32Array, JsError> {
        let scene = self.scene(seconds)?;
        Ok(js_sys::Float32Array::from(scene.keypoints.as_flattened()))
    }

    /// The face's box in that frame: `[x, y, size, roll]`, with centre and side in pixels, roll in radians.
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
