//! tract, in pure Rust: for systems without ONNX Runtime.
//!
//! `support` refuses operators that tract does not support, `adapt` rewrites nodes that tract reads too
//! narrowly, `fit` refuses sizes that tract does not check, `load` makes a graph from a model, `plans`
//! caches plans for the shapes of requests, `graph` runs them, `value` converts tensors, and `catch_panic`
//! catches tract's panics.

mod adapt;
mod catch_panic;
mod fit;
mod graph;
mod load;
mod plans;
mod support;
mod value;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use tract_onnx::prelude::RunOptions;
use tract_onnx::prelude::multithread::Executor;

use self::catch_panic::catch_panic;
use self::graph::TractGraph;
use self::load::Planner;
use super::{Backend, Graph, GraphSource};
use base::error::{Result, ServingError};

/// The release of tract that this crate asks for in `Cargo.toml`; tract does not state its own.
pub const VERSION: &str = "0.23";

/// How much of the machine tract is allowed to use.
#[derive(Clone, Debug, Default)]
pub struct TractOptions {
    /// Threads that work on one operator; 0: the number of CPUs available to the process. Operators run
    /// one after the other.
    pub threads: usize,
}

/// The backend tract.
pub struct Tract {
    options: RunOptions,
    threads: usize,
}

impl Tract {
    /// Starts the threads that all graphs of this backend share.
    ///
    /// # Errors
    ///
    /// `INTERNAL` if the threads cannot be started.
    pub fn open(options: &TractOptions) -> Result<Self> {
        let (threads, threads_from) = match options.threads {
            // The smaller of the control group's quota (v1 and v2) and the affinity mask.
            0 => {
                let usable = std::thread::available_parallelism();
                (usable.map_or(1, usize::from), "CPU quota and affinity")
            }
            threads => (threads, "flags"),
        };
        let executor = match threads {
            1 => Executor::SingleThread,
            // Panics if threads cannot be started.
            _ => catch_panic(|| Ok(Executor::multithread_with_name(threads, "tract")))?,
        };
        tracing::info!(version = VERSION, threads, threads_from, "tract is ready");
        let options = RunOptions {
            executor: Some(executor),
            ..RunOptions::default()
        };
        Ok(Self { options, threads })
    }
}

impl Backend for Tract {
    fn name(&self) -> &'static str {
        "tract"
    }

    fn version(&self) -> String {
        VERSION.to_owned()
    }

    fn advice(&self, _: &ServingError, _: &str) -> Option<String> {
        Some("ONNX Runtime has operators and dtypes that tract has not (--backend)".to_owned())
    }

    fn load(&self, source: GraphSource) -> Result<Arc<dyn Graph>> {
        let weights = source.weights.iter().map(|weight| weight.data.len());
        let weight_bytes = source.model.len() + weights.sum::<usize>();
        let work_follows_shapes = source.work_follows_shapes;
        let planner = catch_panic(|| Planner::try_new(source, self.options.clone()))?;
        let graph = TractGraph::new(planner, weight_bytes, work_follows_shapes, self.threads);
        Ok(Arc::new(graph))
    }
}
