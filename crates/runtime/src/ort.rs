//! ONNX Runtime, through the crate `ort` and, where that is too narrow, the C API below it.
//!
//! All `unsafe` code of this crate that concerns ONNX Runtime is in this folder: `graph` (running),
//! `value` (tensors), `weights` and `arena` (resources that sessions share), `status` (errors).

mod advice;
mod arena;
mod graph;
mod library;
mod status;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod value;
mod weights;

use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use ort::environment::{Environment, GlobalThreadPoolOptions};
use ort::logging::LogLevel;
use ort::session::Session;

use self::graph::OrtGraph;
use self::status::load_error;
use self::weights::SharedWeights;
use super::placement::CONSTANTS;
use super::{Backend, Graph, GraphSource};
use base::error::{Result, ServingError};

/// Where the library is, and how many threads it uses.
#[derive(Clone, Debug, Default)]
pub struct OnnxRuntimeOptions {
    /// The shared library. `None`: `ORT_DYLIB_PATH`, then next to the executable, in its `lib` and
    /// `../lib`, in `.onnxruntime/lib` of a folder above, then the system's search path.
    pub library: Option<PathBuf>,
    /// Threads that work on one operator; 0: the number of CPUs available to the process.
    pub intra_op_threads: usize,
    /// Above 1, independent operators of one graph run in parallel on this many threads.
    pub inter_op_threads: usize,
    /// Whether idle threads spin for a while before they sleep.
    pub spinning: bool,
    /// Whether no model gets a second session for runs on one thread.
    pub pool_only: bool,
}

impl OnnxRuntimeOptions {
    /// The version of the library that would be loaded, without using it; `None` if there is none.
    pub fn version(&self) -> Option<String> {
        library::version(&self.library())
    }

    /// The places where a library that is not named is looked for, in this order.
    pub fn searched() -> Vec<PathBuf> {
        library::places()
    }

    fn library(&self) -> PathBuf {
        self.library.clone().unwrap_or_else(library::find)
    }
}

/// The process-wide environment. ONNX Runtime allows one; the first caller configures it.
static ENVIRONMENT: OnceLock<Environment> = OnceLock::new();

/// Frees the memory that runs have left unused. Waits for no run; the next runs have to allocate their
/// memory again.
pub(super) fn release_unused() {
    let Some(environment) = ENVIRONMENT.get() else {
        return;
    };
    let released = arena::release_unused(|model| {
        Session::builder(environment)?
            .with_env_allocators()?
            .with_independent_thread_pool()?
            .with_intra_threads(1)?
            .commit_from_memory(model)
    });
    if let Err(error) = released {
        tracing::warn!(
            error = error.message(),
            "ONNX Runtime keeps memory that no run uses"
        );
    }
}

/// The ONNX Runtime backend.
pub struct OnnxRuntime {
    environment: &'static Environment,
    version: String,
    parallel_execution: bool,
    /// How many threads work on one operator.
    pool_threads: usize,
    pool_only: bool,
}

impl OnnxRuntime {
    /// Loads the library and makes the environment. If this process already has an environment, that
    /// one is used and its options stay.
    ///
    /// # Errors
    ///
    /// `NOT_FOUND` with the path if no library is found or it cannot be loaded.
    pub fn open(options: &OnnxRuntimeOptions) -> Result<Self> {
        // Two environments at the same time, even for a moment, would share ONNX Runtime's one and free
        // its logger twice.
        static OPENING: Mutex<()> = Mutex::new(());
        let _opening = OPENING.lock().unwrap_or_else(PoisonError::into_inner);
        let environment = match ENVIRONMENT.get() {
            Some(environment) => environment,
            None => {
                let environment = make_environment(options)?;
                ENVIRONMENT.get_or_init(|| environment)
            }
        };
        Ok(Self {
            environment,
            version: options.version().unwrap_or_default(),
            parallel_execution: options.inter_op_threads > 1,
            pool_threads: intra_op_threads(options).0,
            pool_only: options.pool_only,
        })
    }
}

impl Backend for OnnxRuntime {
    fn name(&self) -> &'static str {
        "ONNX Runtime"
    }

    fn version(&self) -> String {
        self.version.clone()
    }

    fn advice(&self, error: &ServingError, producer: &str) -> Option<String> {
        advice::advice(&error.to_string(), producer)
    }

    fn may_end_the_process(&self) -> bool {
        true
    }

    fn load(&self, source: GraphSource) -> Result<Arc<dyn Graph>> {
        let session = self.session(&source, Threads::OfThePool)?;
        // The second session is for short runs, and for times when every thread has a run of its own.
        let is_small = weight_bytes(&source) <= CONSTANTS.max_bytes_of_two_sessions;
        let on_one_thread = match self.pool_threads > 1 && is_small && !self.pool_only {
            true => Some(self.session(&source, Threads::Caller)?),
            false => None,
        };
        let graph = OrtGraph::new(session, on_one_thread, self.pool_threads, &source)?;
        Ok(Arc::new(graph))
    }
}

/// Which threads run an operator.
#[derive(PartialEq)]
enum Threads {
    OfThePool,
    Caller,
}

impl OnnxRuntime {
    fn session(&self, source: &GraphSource, threads: Threads) -> Result<(Session, SharedWeights)> {
        let failed = |error: ort::Error| load_error(&source.origin, error);
        let builder = Session::builder(self.environment)
            .and_then(|builder| {
                let is_parallel = self.parallel_execution && threads == Threads::OfThePool;
                Ok(builder.with_parallel_execution(is_parallel)?)
            })
            // Every failure comes back as an error. If it were logged as well, a client could fill the
            // disk with requests that kernels refuse.
            .and_then(|builder| Ok(builder.with_log_level(LogLevel::Fatal)?))
            .and_then(|builder| Ok(builder.with_env_allocators()?))
            .and_then(|builder| Ok(builder.with_device_allocated_initializers()?))
            .and_then(|builder| match threads {
                Threads::OfThePool => Ok(builder),
                Threads::Caller => {
                    let builder = builder.with_independent_thread_pool()?;
                    Ok(builder.with_intra_threads(1)?)
                }
            })
            .map_err(failed)?;
        let (mut builder, weights) = weights::hand_over(builder, source)
            .map_err(|failure| failure.into_load_error(&source.origin))?;
        // The crate `ort` panics on inputs and outputs whose sizes are negative.
        let commit = AssertUnwindSafe(|| builder.commit_from_memory(&source.model));
        let session = std::panic::catch_unwind(commit).map_err(|_| {
            ServingError::invalid_argument(format!(
                "{} has an input or output of a size that cannot be",
                source.origin
            ))
        })?;
        let session = session.map_err(failed)?;
        Ok((session, weights))
    }
}

fn weight_bytes(source: &GraphSource) -> usize {
    let outside = source.weights.iter().map(|weight| weight.data.len());
    source.model.len() + outside.sum::<usize>()
}

fn make_environment(options: &OnnxRuntimeOptions) -> Result<Environment> {
    let library = options.library();
    library::check(&library).map_err(|reason| ServingError::not_found(not_loaded(&reason)))?;
    let builder = ort::init_from(&library)
        .map_err(|error| ServingError::not_found(not_loaded(&error)).caused_by(error))?;
    let (threads, threads_from) = intra_op_threads(options);
    let build = || {
        let pool = GlobalThreadPoolOptions::default()
            .with_intra_threads(threads)?
            .with_inter_threads(options.inter_op_threads.max(1))?
            .with_spin_control(options.spinning)?;
        builder
            .with_telemetry(false)
            .with_global_thread_pool(pool)
            .with_logger(Arc::new(log))
            .build()
    };
    let environment =
        build().map_err(|error| ServingError::internal(error.message()).caused_by(error))?;
    arena::register(&environment)
        .map_err(|failure| ServingError::internal(failure.to_string()).caused_by(failure))?;
    environment.set_log_level(LogLevel::Warning);
    tracing::info!(
        library = %library.display(),
        version = options.version(),
        intra_op_threads = threads,
        threads_from,
        inter_op_threads = options.inter_op_threads.max(1),
        spinning = options.spinning,
        "ONNX Runtime is ready"
    );
    Ok(environment)
}

/// How many threads work on one operator, and where that number comes from.
fn intra_op_threads(options: &OnnxRuntimeOptions) -> (usize, &'static str) {
    match options.intra_op_threads {
        // The smaller of the control group's quota (v1 and v2) and the affinity mask.
        0 => {
            let usable = std::thread::available_parallelism();
            (usable.map_or(1, usize::from), "CPU quota and affinity")
        }
        threads => (threads, "flags"),
    }
}

/// Advice for a library that is missing, too old or not ONNX Runtime.
fn not_loaded(error: &dyn std::fmt::Display) -> String {
    format!(
        "cannot load ONNX Runtime: {error}. Name its shared library, version 1.24 or later, with \
         --onnxruntime_library or ORT_DYLIB_PATH; `make onnxruntime` fetches one"
    )
}

/// Forwards ONNX Runtime's own messages to this process's log.
fn log(level: LogLevel, category: &str, _id: &str, location: &str, message: &str) {
    match level {
        LogLevel::Fatal | LogLevel::Error => tracing::error!(category, location, "{message}"),
        LogLevel::Warning => tracing::warn!(category, location, "{message}"),
        _ => tracing::debug!(category, location, "{message}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract;

    fn backend() -> OnnxRuntime {
        OnnxRuntime::open(&testing::options(2)).unwrap()
    }

    contract::keeps_contract!(backend(), bfloat16_passes_unchanged, strings_are_bytes);

    // The pinned wheel: tools/fetch_onnxruntime.py.
    #[test]
    fn version_is_the_librarys() {
        let version = backend().version();
        assert!(version.split('.').count() == 3, "{version}");
    }
}
