//! Which backend runs the graphs of this process (`--backend`).
//!
//! Not here: the backends themselves (`ort`, `tract`).

use std::path::PathBuf;
use std::sync::Arc;

use super::Backend;
#[cfg(feature = "onnxruntime")]
use super::ort::{OnnxRuntime, OnnxRuntimeOptions};
#[cfg(feature = "tract")]
use super::tract::{self, Tract, TractOptions};
use base::error::Result;
#[cfg(not(all(feature = "onnxruntime", feature = "tract")))]
use base::error::ServingError;

/// A backend, or the rule for choosing one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BackendChoice {
    /// ONNX Runtime if its library is found, else tract. A build with only one of them uses that one.
    #[default]
    Auto,
    /// ONNX Runtime.
    OnnxRuntime,
    /// tract.
    Tract,
}

impl BackendChoice {
    /// The names of all choices.
    pub const NAMES: &str = "auto, onnxruntime, tract";

    /// By the flag's value.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "auto" => Some(Self::Auto),
            "onnxruntime" => Some(Self::OnnxRuntime),
            "tract" => Some(Self::Tract),
            _ => None,
        }
    }
}

/// The backend, and how much of the machine it is allowed to use.
#[derive(Clone, Debug, Default)]
pub struct BackendOptions {
    /// The backend.
    pub choice: BackendChoice,
    /// ONNX Runtime's shared library; `None` to look for it.
    pub onnxruntime_library: Option<PathBuf>,
    /// Threads that work on one operator; 0: the number of CPUs available to the process.
    pub intra_op_threads: usize,
    /// Above 1, independent operators of one graph run in parallel on this many threads, if the backend
    /// supports it.
    pub inter_op_threads: usize,
    /// Whether ONNX Runtime's idle threads spin for a while before they sleep.
    pub onnxruntime_spinning: bool,
    /// Whether ONNX Runtime makes no second session of small models for runs on one thread, because runs
    /// never ask for one (`--learn_run_placement=false`).
    pub onnxruntime_pool_only: bool,
}

impl BackendOptions {
    /// Makes the backend ready.
    ///
    /// # Errors
    ///
    /// The backend's errors; `INVALID_ARGUMENT` if this build does not have the backend. If ONNX
    /// Runtime cannot be opened, `Auto` falls back to tract, unless its library was named.
    pub fn open(&self) -> Result<Arc<dyn Backend>> {
        match self.choice {
            BackendChoice::OnnxRuntime => self.onnxruntime(),
            BackendChoice::Tract => self.tract(),
            BackendChoice::Auto if cfg!(feature = "onnxruntime") => self.found(),
            BackendChoice::Auto => self.tract(),
        }
    }

    fn found(&self) -> Result<Arc<dyn Backend>> {
        let error = match self.onnxruntime() {
            Ok(backend) => return Ok(backend),
            Err(error) => error,
        };
        if self.onnxruntime_library.is_some() || !cfg!(feature = "tract") {
            return Err(error);
        }
        let backend = self.tract()?;
        tracing::warn!(
            searched = self.searched(),
            "models run in tract, which has fewer operators: {error}"
        );
        Ok(backend)
    }

    /// The lines of `--version` about the libraries.
    pub fn versions(&self) -> String {
        let lines: &[String] = &[
            #[cfg(feature = "onnxruntime")]
            {
                let version = self.onnxruntime_options().version();
                let version = version.unwrap_or_else(|| "not found".to_owned());
                format!("ONNX Runtime Library: {version}\n")
            },
            #[cfg(feature = "tract")]
            format!("tract: {}\n", tract::VERSION),
        ];
        lines.concat()
    }
}

#[cfg(feature = "onnxruntime")]
impl BackendOptions {
    fn onnxruntime_options(&self) -> OnnxRuntimeOptions {
        OnnxRuntimeOptions {
            library: self.onnxruntime_library.clone(),
            intra_op_threads: self.intra_op_threads,
            inter_op_threads: self.inter_op_threads,
            spinning: self.onnxruntime_spinning,
            pool_only: self.onnxruntime_pool_only,
        }
    }

    fn onnxruntime(&self) -> Result<Arc<dyn Backend>> {
        Ok(Arc::new(OnnxRuntime::open(&self.onnxruntime_options())?))
    }

    /// The places where the library was looked for.
    fn searched(&self) -> String {
        let searched = OnnxRuntimeOptions::searched();
        let searched = searched.iter().map(|place| place.display().to_string());
        searched.collect::<Vec<_>>().join(", ")
    }
}

#[cfg(not(feature = "onnxruntime"))]
impl BackendOptions {
    fn onnxruntime(&self) -> Result<Arc<dyn Backend>> {
        Err(not_built("onnxruntime"))
    }

    fn searched(&self) -> String {
        String::new()
    }
}

#[cfg(feature = "tract")]
impl BackendOptions {
    fn tract(&self) -> Result<Arc<dyn Backend>> {
        let options = TractOptions {
            threads: self.intra_op_threads,
        };
        Ok(Arc::new(Tract::open(&options)?))
    }
}

#[cfg(not(feature = "tract"))]
impl BackendOptions {
    fn tract(&self) -> Result<Arc<dyn Backend>> {
        Err(not_built("tract"))
    }
}

#[cfg(not(all(feature = "onnxruntime", feature = "tract")))]
fn not_built(feature: &str) -> ServingError {
    ServingError::invalid_argument(format!(
        "this program was built without the backend {feature}, a feature of that name"
    ))
}
