//! Running graphs: the traits that a backend implements, and the backends.
//!
//! A backend knows ONNX files and tensors. It does not know signatures, models or clients: see
//! `signature` for names, `servable` for versions.

#[cfg(feature = "onnxruntime")]
pub mod ort;
#[cfg(feature = "tract")]
pub mod tract;

mod choice;
mod direct;
mod executor;
mod priority;
mod run_threads;
mod short_runs;
mod weights;

#[cfg(test)]
mod contract;

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use base::error::{Result, ServingError};
use base::tensor::{DataType, Tensor};

pub use self::choice::{BackendChoice, BackendOptions};
pub use self::direct::DirectExecutor;
pub use self::executor::{Executed, Execution, Executor, RunTimes};
pub use self::short_runs::{Kind, ShortRuns, UnderWay};
pub use self::weights::{Weight, WeightSharing};

/// A library that executes ONNX graphs.
pub trait Backend: Send + Sync {
    /// The library's name, for logs and errors.
    fn name(&self) -> &'static str;

    /// The library's version, as it states it itself.
    fn version(&self) -> String;

    /// What can be done about a model that this backend refused with `error`, where that is known:
    /// sentences without the last full stop. `producer` is the program that made the file, as the file
    /// states it.
    fn advice(&self, error: &ServingError, producer: &str) -> Option<String>;

    /// Whether kernels may end the process on ranks, sizes or values that they do not expect, so that a
    /// model needs checks in front of them before it is loaded.
    fn may_end_the_process(&self) -> bool {
        false
    }

    /// Makes a graph ready to run. May take seconds and all cores; called on a loading thread.
    ///
    /// # Errors
    ///
    /// `INVALID_ARGUMENT` where the bytes are not a model this backend can run, with the reason;
    /// `UNIMPLEMENTED` where an operator has no kernel, naming it.
    fn load(&self, source: GraphSource) -> Result<Arc<dyn Graph>>;
}

/// Gives the memory back to the system that backends keep for runs and no run uses. For pauses: the next
/// runs fetch their memory again.
pub fn release_unused() {
    #[cfg(feature = "onnxruntime")]
    self::ort::release_unused();
}

/// An ONNX model in memory, ready for [`Backend::load`].
pub struct GraphSource {
    /// Where it came from, for errors and logs.
    pub origin: String,
    /// The serialized `ModelProto`.
    pub model: Bytes,
    /// The data of those initializers that `model` has without.
    pub weights: Vec<Weight>,
    /// What the graph has in common with others; `None` where there are no others.
    pub sharing: Option<WeightSharing>,
    /// The shapes that were declared for inputs (-1: any size), by name, where `model` does not say
    /// them any more. Requests may have others.
    pub declared_shapes: HashMap<String, Vec<i64>>,
    /// See [`Graph::work_follows_shapes`].
    pub work_follows_shapes: bool,
}

/// A graph that is ready to run.
///
/// Contract for implementations: `run` may be called from any number of threads at a time, and a
/// failed run leaves the graph usable. Dropping waits for nothing: whoever drops it has made sure
/// that no run is under way.
pub trait Graph: Send + Sync {
    /// The inputs that every run has to be given, in this order.
    fn inputs(&self) -> &[ValueInfo];

    /// What a run can return.
    fn outputs(&self) -> &[ValueInfo];

    /// Whether runs on inputs of the same shapes take about the same time, whatever is in them.
    fn work_follows_shapes(&self) -> bool;

    /// Runs the graph on `inputs` (in the order of [`inputs`](Self::inputs), of their dtypes) and
    /// returns the outputs with the given indices into [`outputs`](Self::outputs), in that order.
    ///
    /// Shapes are the graph's business: they are checked by its kernels.
    ///
    /// # Errors
    ///
    /// `INVALID_ARGUMENT` where a kernel refuses dtypes, ranks or sizes; `CANCELLED` once `control`
    /// was terminated; `INTERNAL` for everything else.
    fn run(
        &self,
        inputs: &[Tensor],
        outputs: &[usize],
        control: &RunControl,
    ) -> Result<Vec<Tensor>>;
}

/// Name and declared type of a graph's input or output.
#[derive(Clone, Debug, PartialEq)]
pub struct ValueInfo {
    /// The graph's name for it.
    pub name: String,
    /// The element type; `None` where it is no tensor (a sequence or a map).
    pub dtype: Option<DataType>,
    /// The declared shape, -1 for a dimension of any size; `None` where the rank is not known.
    pub shape: Option<Vec<i64>>,
}

/// How a run is made, and the means to stop it from outside: one is made for each run and shared with
/// whoever may lose patience.
#[derive(Default)]
pub struct RunControl {
    /// Guards the moment between a run's start and `terminate`; held for a few instructions.
    state: Mutex<ControlState>,
    keep_to_one_thread: AtomicBool,
}

#[derive(Default)]
struct ControlState {
    terminated: bool,
    stop: Option<Box<dyn Fn() + Send>>,
}

impl RunControl {
    /// Ends the run that is under way, or the next, as soon as its backend notices.
    pub fn terminate(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.terminated = true;
        if let Some(stop) = &state.stop {
            stop();
        }
    }

    /// Whether [`terminate`](Self::terminate) was called.
    pub fn is_terminated(&self) -> bool {
        self.state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .terminated
    }

    /// Asks for a run on the calling thread alone, from the backends that have a choice.
    pub fn keep_to_one_thread(&self) {
        self.keep_to_one_thread.store(true, Ordering::Relaxed);
    }

    /// Whether [`keep_to_one_thread`](Self::keep_to_one_thread) was called.
    pub fn is_kept_to_one_thread(&self) -> bool {
        self.keep_to_one_thread.load(Ordering::Relaxed)
    }

    /// For backends: registers how to stop the run that begins now. The registration ends with
    /// the returned guard, which has to be dropped before what `stop` touches.
    pub fn on_terminate(&self, stop: impl Fn() + Send + 'static) -> Registration<'_> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.terminated {
            stop();
        }
        state.stop = Some(Box::new(stop));
        Registration(self)
    }
}

impl fmt::Debug for RunControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunControl")
            .field("terminated", &self.is_terminated())
            .finish()
    }
}

/// Ends a registration of [`RunControl::on_terminate`] when dropped.
#[must_use]
#[derive(Debug)]
pub struct Registration<'a>(&'a RunControl);

impl Drop for Registration<'_> {
    fn drop(&mut self) {
        self.0
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .stop = None;
    }
}
