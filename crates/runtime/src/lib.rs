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
pub mod placement;
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
use self::placement::GraphThreads;
pub use self::weights::{Weight, WeightSharing};

/// A library that executes ONNX graphs.
pub trait Backend: Send + Sync {
    /// The library's name, for logs and errors.
    fn name(&self) -> &'static str;

    /// The library's version, as the library reports it.
    fn version(&self) -> String;

    /// How to fix a model that this backend refused with `error`, if that is known: sentences without
    /// the last full stop. `producer` is the program that made the file, as the file states it.
    fn advice(&self, error: &ServingError, producer: &str) -> Option<String>;

    /// Whether kernels can abort the process on ranks, sizes or values that they do not expect, so that
    /// a model has to be checked before it is loaded.
    fn may_end_the_process(&self) -> bool {
        false
    }

    /// Makes a graph ready to run. Can take seconds and all cores; called on a loading thread.
    ///
    /// # Errors
    ///
    /// `INVALID_ARGUMENT` with the reason if this backend cannot run the model; `UNIMPLEMENTED` with
    /// the operator's name if an operator has no kernel.
    fn load(&self, source: GraphSource) -> Result<Arc<dyn Graph>>;
}

/// Returns the memory that backends keep for runs, and that no run uses, to the system. Meant for
/// pauses: the next runs allocate their memory again.
pub fn release_unused() {
    #[cfg(feature = "onnxruntime")]
    self::ort::release_unused();
}

/// An ONNX model in memory, ready for [`Backend::load`].
pub struct GraphSource {
    /// Where the model came from, for errors and logs.
    pub origin: String,
    /// The serialized `ModelProto`.
    pub model: Bytes,
    /// The data of the initializers whose data is not in `model`.
    pub weights: Vec<Weight>,
    /// Which weights the graph shares with others; `None` if it shares none.
    pub sharing: Option<WeightSharing>,
    /// The shapes that were declared for inputs (-1: any size), by name, if `model` no longer states
    /// them. Requests can have other shapes.
    pub declared_shapes: HashMap<String, Vec<i64>>,
    /// See [`Graph::work_follows_shapes`].
    pub work_follows_shapes: bool,
}

/// A graph that is ready to run.
///
/// Contract for implementations: `run` can be called from any number of threads at a time, and a failed
/// run leaves the graph usable. Dropping a graph waits for nothing: the owner has to make sure that no
/// run is in flight.
pub trait Graph: Send + Sync {
    /// The inputs that every run needs, in this order.
    fn inputs(&self) -> &[ValueInfo];

    /// The outputs that a run can return.
    fn outputs(&self) -> &[ValueInfo];

    /// Whether runs on inputs of the same shapes take about the same time, whichever values they have.
    fn work_follows_shapes(&self) -> bool;

    /// The threads on which runs can happen.
    fn threads(&self) -> GraphThreads;

    /// Runs the graph on `inputs` (in the order of [`inputs`](Self::inputs), of their dtypes) and
    /// returns the outputs with the given indices into [`outputs`](Self::outputs), in that order.
    ///
    /// The graph's kernels check the shapes.
    ///
    /// # Errors
    ///
    /// `INVALID_ARGUMENT` if a kernel refuses dtypes, ranks or sizes; `CANCELLED` once `control` was
    /// terminated; `INTERNAL` for everything else.
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
    /// The element type; `None` if it is not a tensor (a sequence or a map).
    pub dtype: Option<DataType>,
    /// The declared shape, -1 for a dimension of any size; `None` if the rank is unknown.
    pub shape: Option<Vec<i64>>,
}

/// How a run is made, and the means to stop it from outside. Each run has one, shared with every party
/// that might stop it.
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
    /// Ends the run in flight, or else the next one, as soon as its backend notices.
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

    /// Asks for the next run to happen on the calling thread alone, if the backend supports that, or on its
    /// pool, as without a call.
    pub fn keep_to_one_thread(&self, is_kept: bool) {
        self.keep_to_one_thread.store(is_kept, Ordering::Relaxed);
    }

    /// Whether the run is to happen on the calling thread alone.
    pub fn is_kept_to_one_thread(&self) -> bool {
        self.keep_to_one_thread.load(Ordering::Relaxed)
    }

    /// For backends: registers how to stop the run that begins now. The registration ends with the
    /// returned guard, which has to be dropped before anything that `stop` uses.
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
