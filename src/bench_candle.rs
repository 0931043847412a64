//! For `make bench` in the browser: a net by candle's own ops, to compare ours with, and a profile of ours. Built by
//! `tools/bench` alone, never part of the package.

use crate::infer::Plan;
use crate::nets::{candle, graph::Graph, graph::Op, unit_offset, SIDE};
use crate::weights::Weights;
use candle_core::{Device, Result, Tensor};
use std::collections::HashMap;
use wasm_bindgen::prelude::*;

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_namespace = performance)]
    fn now() -> f64;
}

/// Where a frame of ours goes: `[name, milliseconds, multiply-adds made]` of each step as JSON, the median of `frames`.
///
/// # Errors
/// A file that does not fit its own net.
#[wasm_bindgen]
pub fn profile(bytes: &[u8], frames: usize) -> std::result::Result<String, JsError> {
    let weights = Weights::from_bytes(bytes).map_err(js_error)?;
    let graph = weights.graph().map_err(js_error)?;
    let mut plan = Plan::new(&graph, |name| weights.tensor(name)).map_err(js_error)?;
    let mut steps: Vec<(String, Vec<f64>, u64)> = vec![];
    for frame in 0..frames.max(1) {
        let (mut i, mut last) = (0, now());
        plan.run_steps(|name, multiply_adds| {
            let time = now();
            if frame == 0 {
                steps.push((name.into(), vec![], multiply_adds));
            }
            steps[i].1.push(time - last);
            (i, last) = (i + 1, now());
        });
    }
    let median = |mut times: Vec<f64>| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    };
    let rows: Vec<_> = steps.into_iter().map(|(name, times, n)| (name, median(times), n)).collect();
    serde_json::to_string(&rows).map_err(js_error)
}

/// A net and its weights as candle's tensors.
#[wasm_bindgen]
pub struct CandleNet {
    graph: Graph,
    tensors: HashMap<String, Tensor>,
}

fn js_error(error: impl std::fmt::Display) -> JsError {
    JsError::new(&error.to_string())
}

#[wasm_bindgen]
impl CandleNet {
    /// From the bytes of a weights file.
    ///
    /// # Errors
    /// A file that does not fit its own net.
    #[wasm_bindgen(constructor)]
    pub fn new(bytes: &[u8]) -> std::result::Result<CandleNet, JsError> {
        let weights = Weights::from_bytes(bytes).map_err(js_error)?;
        let graph = weights.graph().map_err(js_error)?;
        let mut tensors = HashMap::new();
        for p in graph.parameters() {
            let values = weights.tensor(&p.name).map_err(js_error)?;
            tensors.insert(p.name, Tensor::from_vec(values, p.shape, &Device::Cpu).map_err(js_error)?);
        }
        Ok(Self { graph, tensors })
    }

    /// Keypoints `[x0, y0, x1, y1, ...]` in pixels of the crop from its 96 x 96 normalised values.
    ///
    /// # Errors
    /// A buffer of another length.
    pub fn run(&self, input: &[f32]) -> std::result::Result<js_sys::Float32Array, JsError> {
        let points = self.points(input).map_err(js_error)?;
        Ok(js_sys::Float32Array::from(points.as_slice()))
    }
}

impl CandleNet {
    fn points(&self, input: &[f32]) -> Result<Vec<f32>> {
        let picture = Tensor::from_slice(input, (1, 1, SIDE, SIDE), &Device::Cpu)?;
        let all = candle::forward(&self.graph, &picture, None, |name| Ok(self.tensors[name].clone()))?;
        let keypoints = &all[self.graph.keypoints];
        let places = match self.graph.nodes[self.graph.keypoints].op {
            Op::SoftArgmax => keypoints.narrow(1, 0, 2)?.permute((0, 3, 1, 2))?,
            _ => keypoints.clone(),
        };
        let (half, offset) = (SIDE as f32 / 2., unit_offset(&self.graph));
        Ok(places.flatten_all()?.to_vec1::<f32>()?.into_iter().map(|v| v * half + offset).collect())
    }
}
