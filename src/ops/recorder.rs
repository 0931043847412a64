//! A training pass: the ops of a forward pass as they were applied, and their backward pass.
//!
//! Each op is a candle `CustomOp` with its `bwd`, and the backward pass does what candle's autograd would do: it asks the ops, in
//! reverse, for the gradients of their arguments. For every gradient candle 0.11 makes zeros, a sum and new memory; here the first
//! gradient is kept as it is, and memory is reused. That saves a third of a step of `compact`. candle's autograd runs from the loss
//! to the net's outputs; from there on, this module takes over.

use super::buffer;
use candle_core::{CpuStorage, CustomOp1, CustomOp2, CustomOp3, InplaceOp1, Layout, Result, Tensor, TensorId};
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

/// An op as it was applied.
struct Step {
    op: AnyOp,
    y: Tensor,
}

enum AnyOp {
    One(Box<dyn CustomOp1>, Tensor),
    Two(Box<dyn CustomOp2>, [Tensor; 2]),
    Three(Box<dyn CustomOp3>, [Tensor; 3]),
}

/// Gradients by tensor.
pub type Gradients = HashMap<TensorId, Tensor>;

/// Applies ops and keeps what their backward passes need.
#[derive(Default)]
pub struct Recorder(RefCell<Vec<Step>>);

impl Recorder {
    /// Applies an op to a tensor.
    ///
    /// # Errors
    /// The errors of the op.
    pub fn apply1(&self, op: impl CustomOp1 + 'static, x: &Tensor) -> Result<Tensor> {
        let y = x.apply_op1_no_bwd(&op)?;
        Ok(self.record(AnyOp::One(Box::new(op), x.clone()), y))
    }

    /// Applies an op to two tensors.
    ///
    /// # Errors
    /// The errors of the op.
    pub fn apply2(&self, op: impl CustomOp2 + 'static, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        let y = a.apply_op2_no_bwd(b, &op)?;
        Ok(self.record(AnyOp::Two(Box::new(op), [a.clone(), b.clone()]), y))
    }

    /// Applies an op to three tensors.
    ///
    /// # Errors
    /// The errors of the op.
    pub fn apply3(&self, op: impl CustomOp3 + 'static, a: &Tensor, b: &Tensor, c: &Tensor) -> Result<Tensor> {
        let y = a.apply_op3_no_bwd(b, c, &op)?;
        Ok(self.record(AnyOp::Three(Box::new(op), [a.clone(), b.clone(), c.clone()]), y))
    }

    fn record(&self, op: AnyOp, y: Tensor) -> Tensor {
        self.0.borrow_mut().push(Step { op, y: y.clone() });
        y
    }

    /// Whether a tensor is the output of a recorded op, so that its gradient is passed on.
    pub fn made(&self, x: &Tensor) -> bool {
        self.0.borrow().iter().any(|step| step.y.id() == x.id())
    }

    /// The gradients of all arguments that no op has made, given those of results: (result, gradient). Outputs of ops must
    /// not be used afterwards, since their memory is taken for the next pass.
    ///
    /// # Errors
    /// The errors of the ops.
    pub fn backward(self, results: Vec<(Tensor, Tensor)>) -> Result<Gradients> {
        let mut gradients: HashMap<TensorId, Rc<Tensor>> = HashMap::new();
        for (y, dy) in results {
            gradients.insert(y.id(), Rc::new(dy));
        }
        let mut steps = self.0.into_inner();
        while let Some(Step { op, y }) = steps.pop() {
            if let Some(dy) = gradients.remove(&y.id()) {
                let found: Vec<(TensorId, Option<Tensor>)> = match &op {
                    AnyOp::One(op, x) => vec![(x.id(), op.bwd(x, &y, &dy)?)],
                    AnyOp::Two(op, [a, b]) => {
                        let (da, db) = op.bwd(a, b, &y, &dy)?;
                        vec![(a.id(), da), (b.id(), db)]
                    }
                    AnyOp::Three(op, [a, b, c]) => {
                        let (da, db, dc) = op.bwd(a, b, c, &y, &dy)?;
                        vec![(a.id(), da), (b.id(), db), (c.id(), dc)]
                    }
                };
                // One tensor may be the gradient of two arguments, or be `dy` itself: it is shared, not copied.
                let mut shared = vec![dy];
                for (argument, gradient) in found.into_iter().filter_map(|(id, g)| Some((id, g?))) {
                    let known = shared.iter().find(|s| s.id() == gradient.id()).cloned();
                    let gradient = known.unwrap_or_else(|| Rc::new(gradient));
                    shared.push(gradient.clone());
                    let sum = match gradients.remove(&argument) {
                        None => gradient,
                        Some(other) => {
                            let sum = add(&other, &gradient)?;
                            shared.push(other);
                            Rc::new(sum)
                        }
                    };
                    gradients.insert(argument, sum);
                }
                while let Some(gradient) = shared.pop() {
                    if let Ok(gradient) = Rc::try_unwrap(gradient) {
                        reuse(&gradient)?;
                    }
                }
            }
            drop(op);
            reuse(&y)?;
        }
        buffer::trim();
        Ok(gradients.into_iter().map(|(id, gradient)| (id, Rc::unwrap_or_clone(gradient))).collect())
    }
}

fn add(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    super::tensor(super::read(a, |a| super::read(b, |b| Ok(super::zip_map(a, b, |a, b| a + b))))?, a)
}

/// Passes the memory of a tensor that nobody will read any more on to the next pass.
///
/// # Errors
/// A tensor on another device than the CPU.
pub fn reuse(tensor: &Tensor) -> Result<()> {
    /// Takes the values out of a tensor.
    struct Take;

    impl InplaceOp1 for Take {
        fn name(&self) -> &'static str {
            "face96-take"
        }

        fn cpu_fwd(&self, storage: &mut CpuStorage, _: &Layout) -> Result<()> {
            if let CpuStorage::F32(values) = storage {
                buffer::give(std::mem::take(values));
            }
            Ok(())
        }
    }

    tensor.inplace_op1(&Take)
}
