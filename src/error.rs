//! One error type for the library; every message names what was expected and what came.

use std::path::{Path, PathBuf};

/// The errors of the library. Any bad input from a user gives one of these, never a panic.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be read or written.
    #[error("{path}: {reason}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The reason. Not called `source`, which would print it a second time in a chain of errors.
        reason: std::io::Error,
    },
    /// A file of labelled faces that does not match its format.
    #[error("{0}")]
    Data(String),
    /// A keypoint schema that contradicts itself, or two that differ.
    #[error("keypoint schema: {0}")]
    Schema(String),
    /// A weights file that is truncated, foreign, or does not fit its own net.
    #[error("weights: {0}")]
    Weights(String),
    /// A net or a setting that does not exist or does not fit.
    #[error("{0}")]
    Config(String),
    /// An input buffer of the wrong size.
    #[error("input: {0}")]
    Input(String),
    /// An error in candle.
    #[cfg(any(feature = "native", feature = "wasm"))]
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

/// The library's result type.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Wraps an input/output error with the file it happened on.
    pub fn io(path: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.as_ref().to_path_buf();
        move |reason| Error::Io { path, reason }
    }
}
