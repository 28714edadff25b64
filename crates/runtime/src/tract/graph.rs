//! One loaded graph, run by any number of threads at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tract_onnx::prelude::{TValue, TVec, TypedSimplePlan};
use tract_onnx::tract_core::plan;
use tract_onnx::tract_hir::internal::format_err;

use super::catch_panic::catch_panic;
use super::load::{Planner, invalid};
use super::plans::{PlanKey, Plans};
use super::value::{from_tract, to_tract};
use crate::placement::GraphThreads;
use crate::{Graph, RunControl, ValueInfo};
use base::error::{Code, Result, ServingError};
use base::tensor::Tensor;

/// A model, and the plans made of it so far.
pub(super) struct TractGraph {
    planner: Planner,
    plans: Plans,
    work_follows_shapes: bool,
    threads: usize,
}

impl TractGraph {
    /// `weight_bytes` are those of the model, `threads` those of the executor.
    pub(super) fn new(
        planner: Planner,
        weight_bytes: usize,
        work_follows_shapes: bool,
        threads: usize,
    ) -> Self {
        Self {
            planner,
            plans: Plans::new(weight_bytes),
            work_follows_shapes,
            threads,
        }
    }

    fn run_plan(
        &self,
        inputs: &[Tensor],
        outputs: &[usize],
        stopped: &AtomicBool,
    ) -> Result<Vec<Tensor>> {
        let mut distinct = outputs.to_vec();
        distinct.sort_unstable();
        distinct.dedup();
        let key = PlanKey {
            shapes: inputs.iter().map(|it| it.shape().to_vec()).collect(),
            outputs: distinct.clone(),
        };
        let plan = self.plans.get(key, |key| self.planner.plan(key))?;
        let inputs = inputs
            .iter()
            .map(to_tract)
            .collect::<Result<TVec<TValue>>>()?;
        let values = execute(&plan, inputs, stopped)?;
        let tensors = values.into_iter().map(from_tract);
        let tensors = tensors.collect::<Result<Vec<Tensor>>>()?;
        let position = |index| distinct.binary_search(index).ok();
        let fetched = outputs.iter().map(|index| tensors.get(position(index)?));
        fetched
            .map(|tensor| tensor.cloned())
            .collect::<Option<_>>()
            .ok_or_else(|| ServingError::internal("the plan returns other outputs"))
    }
}

/// Runs a plan, operator by operator, until it is done or stopped.
fn execute(
    plan: &Arc<TypedSimplePlan>,
    inputs: TVec<TValue>,
    stopped: &AtomicBool,
) -> Result<TVec<TValue>> {
    let is_stopped = || stopped.load(Ordering::Relaxed);
    let run = plan.spawn().and_then(|mut state| {
        state.run_plan_with_eval(inputs, |context, state, node, inputs| {
            if is_stopped() {
                return Err(format_err!("stopped"));
            }
            plan::eval(context, state, node, inputs)
        })
    });
    run.map_err(|error| match is_stopped() {
        true => cancelled(),
        false => invalid(error),
    })
}

fn cancelled() -> ServingError {
    ServingError::new(Code::Cancelled, "the run was stopped")
}

impl Graph for TractGraph {
    fn inputs(&self) -> &[ValueInfo] {
        &self.planner.inputs
    }

    fn outputs(&self) -> &[ValueInfo] {
        &self.planner.outputs
    }

    fn work_follows_shapes(&self) -> bool {
        self.work_follows_shapes
    }

    fn threads(&self) -> GraphThreads {
        GraphThreads {
            pool: self.threads,
            can_keep_to_one: false,
        }
    }

    /// A run can be stopped between two operators, but not while its plan is made.
    fn run(
        &self,
        inputs: &[Tensor],
        outputs: &[usize],
        control: &RunControl,
    ) -> Result<Vec<Tensor>> {
        if inputs.len() != self.planner.inputs.len() {
            return Err(ServingError::internal(
                "a run needs one tensor for each graph input",
            ));
        }
        let stopped = Arc::new(AtomicBool::new(false));
        let registration = {
            let stopped = Arc::clone(&stopped);
            control.on_terminate(move || stopped.store(true, Ordering::Relaxed))
        };
        if stopped.load(Ordering::Relaxed) {
            return Err(cancelled());
        }
        let fetched = catch_panic(|| self.run_plan(inputs, outputs, &stopped));
        drop(registration);
        fetched
    }
}
