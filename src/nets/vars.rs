//! Where a net's variables come from: backends of candle's `VarBuilder`. A weights file provides those of its net, with batch
//! norm folded; training creates them from its seed or takes those of a checkpoint, and keeps them; and [`parameters`] only lists
//! which ones there are.

use crate::weights::Weights;
use candle_core::{bail, DType, Device, Result, Shape, Tensor};
use candle_nn::var_builder::SimpleBackend;
use candle_nn::{Init, VarBuilder};
use std::sync::Mutex;

/// A variable of a net: its name, shape and initial value.
#[derive(Clone, Debug)]
pub struct Parameter {
    /// Path in the weights file.
    pub name: String,
    /// Shape.
    pub shape: Vec<usize>,
    /// Initial value.
    pub init: Init,
}

impl Parameter {
    /// Whether it is trained: false for batch norm's running statistics.
    pub fn trained(&self) -> bool {
        !(self.name.ends_with(".running_mean") || self.name.ends_with(".running_var"))
    }
}

/// A builder over a weights file.
pub fn of_weights(weights: &Weights) -> VarBuilder<'_> {
    VarBuilder::from_backend(Box::new(WeightsFile(weights)), DType::F32, Device::Cpu)
}

struct WeightsFile<'a>(&'a Weights);

impl SimpleBackend for WeightsFile<'_> {
    fn get(&self, shape: Shape, name: &str, _: Init, _: DType, device: &Device) -> Result<Tensor> {
        let found = self.get_unchecked(name, DType::F32, device)?;
        if *found.shape() != shape {
            bail!("tensor '{name}': expected shape {:?}, found {:?}", shape.dims(), found.dims());
        }
        Ok(found)
    }

    fn get_unchecked(&self, name: &str, _: DType, device: &Device) -> Result<Tensor> {
        let Some((shape, values)) = self.0.tensor(name) else { bail!("tensor '{name}' is missing") };
        Tensor::from_slice(values, shape, device)
    }

    fn contains_tensor(&self, name: &str) -> bool {
        self.0.tensor(name).is_some()
    }
}

/// The parameters that `build` asks its builder for, in order; with batch norms `folded`, as in a weights file.
///
/// # Errors
/// The errors of `build`.
pub fn parameters<T>(folded: bool, build: impl FnOnce(VarBuilder) -> Result<T>) -> Result<Vec<Parameter>> {
    let asked = Mutex::new(Vec::new());
    let backend = Asked { folded, asked: &asked };
    build(VarBuilder::from_backend(Box::new(backend), DType::F32, Device::Cpu))?;
    Ok(asked.into_inner().unwrap_or_else(|e| e.into_inner()))
}

struct Asked<'a> {
    folded: bool,
    asked: &'a Mutex<Vec<Parameter>>,
}

impl SimpleBackend for Asked<'_> {
    /// One zero, broadcast to the shape, so that nothing is allocated.
    fn get(&self, shape: Shape, name: &str, init: Init, dtype: DType, device: &Device) -> Result<Tensor> {
        let parameter = Parameter { name: name.into(), shape: shape.dims().to_vec(), init };
        self.asked.lock().unwrap_or_else(|e| e.into_inner()).push(parameter);
        Tensor::zeros((), dtype, device)?.broadcast_as(shape)
    }

    fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> Result<Tensor> {
        bail!("tensor '{name}': its shape is not known")
    }

    fn contains_tensor(&self, _: &str) -> bool {
        !self.folded
    }
}
