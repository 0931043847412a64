//! A convolutional net that finds keypoints in a face: trained natively, run in any web page.
//!
//! ```text
//! camera -> JS: crop + downscale to 96x96 -> wasm: grey, normalise -> CNN -> keypoints + confidence -> JS: draw
//! labelled faces -> augment -> batches -> candle training loop -> checkpoint -> weights file (static asset)
//! ```
//!
//! Feature `native` (default) has the trainer and the command line, feature `wasm` the browser boundary; the schema,
//! preprocessing, nets, inference and weights file are compiled for both.

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
