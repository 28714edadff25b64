//! A graph for tests that records its feeds, and blocks or fails on demand.

use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use base::error::{Code, Result, ServingError};
use base::tensor::Tensor;
use runtime::placement::GraphThreads;
use runtime::{Graph, RunControl, ValueInfo};

type Compute = dyn Fn(&[Tensor], usize) -> Result<Tensor> + Send + Sync;

/// Computes its outputs with a function of the feeds and the output's index.
pub(super) struct FakeGraph {
    inputs: Vec<ValueInfo>,
    outputs: Vec<ValueInfo>,
    compute: Box<Compute>,
    gate: Arc<Gate>,
    work_follows_shapes: bool,
}

/// The state that tests and runs share.
#[derive(Default)]
pub(super) struct Gate {
    state: Mutex<GateState>,
    changed: Condvar,
}

#[derive(Default)]
struct GateState {
    /// Whether runs are blocked at their start.
    is_held: bool,
    is_terminated: bool,
    runs: Vec<Run>,
}

/// The arguments of one run.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Run {
    pub(super) feeds: Vec<Tensor>,
    pub(super) fetches: Vec<usize>,
}

impl FakeGraph {
    pub(super) fn new(
        inputs: usize,
        outputs: usize,
        compute: impl Fn(&[Tensor], usize) -> Result<Tensor> + Send + Sync + 'static,
    ) -> Self {
        Self {
            inputs: (0..inputs).map(|index| value("in", index)).collect(),
            outputs: (0..outputs).map(|index| value("out", index)).collect(),
            compute: Box::new(compute),
            gate: Arc::default(),
            // A blocked run would block the caller.
            work_follows_shapes: false,
        }
    }

    /// TF Serving's example model, y = x / 2 + 2; output 1 is y = x / 2 + 3.
    pub(super) fn half_plus_two() -> Self {
        Self::new(1, 2, |feeds, output| Ok(half_plus(&feeds[0], output)))
    }

    /// The same graph with a declared shape for input 0.
    pub(super) fn declare_input(mut self, shape: Option<Vec<i64>>) -> Self {
        self.inputs[0].shape = shape;
        self
    }

    /// Allows runs on the caller's thread.
    pub(super) fn work_follows_shapes(mut self) -> Self {
        self.work_follows_shapes = true;
        self
    }

    pub(super) fn gate(&self) -> Arc<Gate> {
        Arc::clone(&self.gate)
    }
}

/// x / 2 + 2 + `plus`, element by element.
pub(super) fn half_plus(x: &Tensor, plus: usize) -> Tensor {
    let elements = x.as_slice::<f32>().unwrap();
    let elements = elements.iter().map(|it| it / 2.0 + 2.0 + plus as f32);
    Tensor::from_vec(x.shape(), elements.collect()).unwrap()
}

impl Gate {
    /// Blocks all runs from now on.
    pub(super) fn hold(&self) {
        self.state.lock().unwrap().is_held = true;
    }

    /// Unblocks all runs.
    pub(super) fn release(&self) {
        self.state.lock().unwrap().is_held = false;
        self.changed.notify_all();
    }

    /// The runs that have begun.
    pub(super) fn runs(&self) -> Vec<Run> {
        self.state.lock().unwrap().runs.clone()
    }

    /// Dimension 0 of the first feed of every run.
    pub(super) fn sizes(&self) -> Vec<usize> {
        self.runs()
            .iter()
            .map(|run| run.feeds[0].shape()[0])
            .collect()
    }

    /// Waits until this many runs have begun.
    pub(super) fn wait_for_runs(&self, count: usize) {
        self.wait_for(|state| state.runs.len() >= count);
    }

    /// Waits until a run was stopped.
    pub(super) fn wait_for_stop(&self) {
        self.wait_for(|state| state.is_terminated);
    }

    pub(super) fn is_terminated(&self) -> bool {
        self.state.lock().unwrap().is_terminated
    }

    fn wait_for(&self, condition: impl Fn(&GateState) -> bool) {
        let state = self.state.lock().unwrap();
        let (_state, timeout) = self
            .changed
            .wait_timeout_while(state, Duration::from_secs(30), |it| !condition(it))
            .unwrap();
        assert!(!timeout.timed_out(), "waited in vain");
    }

    /// Returns whether the run is allowed to continue.
    fn pass(self: &Arc<Self>, run: Run, control: &RunControl) -> bool {
        let gate = Arc::clone(self);
        let _registration = control.on_terminate(move || {
            gate.state.lock().unwrap().is_terminated = true;
            gate.changed.notify_all();
        });
        let mut state = self.state.lock().unwrap();
        state.runs.push(run);
        self.changed.notify_all();
        let state = self
            .changed
            .wait_while(state, |it| it.is_held && !it.is_terminated)
            .unwrap();
        !state.is_terminated
    }
}

impl Graph for FakeGraph {
    fn inputs(&self) -> &[ValueInfo] {
        &self.inputs
    }

    fn outputs(&self) -> &[ValueInfo] {
        &self.outputs
    }

    fn work_follows_shapes(&self) -> bool {
        self.work_follows_shapes
    }

    fn threads(&self) -> GraphThreads {
        GraphThreads::CALLER
    }

    fn run(
        &self,
        inputs: &[Tensor],
        outputs: &[usize],
        control: &RunControl,
    ) -> Result<Vec<Tensor>> {
        let run = Run {
            feeds: inputs.to_vec(),
            fetches: outputs.to_vec(),
        };
        if !self.gate.pass(run, control) {
            return Err(ServingError::new(Code::Cancelled, "stopped"));
        }
        let outputs = outputs.iter();
        outputs.map(|&it| (self.compute)(inputs, it)).collect()
    }
}

fn value(kind: &str, index: usize) -> ValueInfo {
    ValueInfo {
        name: format!("{kind}{index}"),
        dtype: None,
        shape: None,
    }
}
