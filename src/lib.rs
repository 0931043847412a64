//! A convolutional net that finds keypoints in a face: trained natively, run in any web page.
//!
//! ```text
//! camera -> JS: crop + downscale to 96x96 -> wasm: grey, normalise -> CNN -> keypoints + confidence -> JS: draw
//! labelled faces -> augment -> batches -> candle training loop -> checkpoint -> weights file (static asset)
//! ```
//!
//! Feature `native` (default) adds the trainer and the command line, feature `wasm` the browser boundary; schema,
//! preprocessing, nets, inference and weights file are compiled for both.
//!
//! ```
//! use face96::{infer::Detector, synthetic, weights::Weights};
//!
//! let weights = Weights::read("pkg/weights/compact.safetensors".as_ref())?;
//! let (crop, labels) = synthetic::sample(7, 96);
//! let grey: Vec<f32> = crop.pixels.iter().map(|p| f32::from(*p)).collect();
//! // Presence, then x, y in pixels of the crop and confidence of each keypoint.
//! let mut net = Detector::new(&weights)?;
//! let found = net.detect_grey(&grey)?;
//! assert!(found[0] > 0.5);
//! assert!((found[1] - labels[0][0]).hypot(found[2] - labels[0][1]) < 3.);
//! # Ok::<(), face96::error::Error>(())
//! ```

#![deny(missing_docs)]

#[cfg(feature = "bench-candle")]
pub mod bench_candle;
#[cfg(feature = "native")]
pub mod data;
pub mod error;
#[cfg(any(feature = "native", feature = "wasm"))]
pub mod expression;
pub mod geometry;
#[cfg(any(feature = "native", feature = "wasm"))]
pub mod infer;
#[cfg(any(feature = "native", feature = "wasm"))]
pub mod nets;
#[cfg(feature = "native")]
pub mod onnx;
#[cfg(any(feature = "native", feature = "wasm"))]
pub mod ops;
pub mod picture;
pub mod schema;
pub mod synthetic;
#[cfg(any(feature = "native", feature = "wasm"))]
pub mod track;
#[cfg(feature = "native")]
pub mod train;
#[cfg(feature = "wasm")]
pub mod wasm;
#[cfg(any(feature = "native", feature = "wasm"))]
pub mod weights;

pub use error::{Error, Result};
