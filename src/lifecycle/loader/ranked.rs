//! A graph that is fast for the ranks it was declared with and runs the others too.
//!
//! TensorFlow runs whatever its kernels take: `[1.0, 2.0, 5.0]` for an input of shape (-1, 1). ONNX
//! Runtime enforces declared ranks and needs them to optimise. So the graph is loaded with its
//! ranks, and once more without, when the first request of other ranks comes.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::error::{Code, Result, ServingError};
use crate::onnx::OnnxModel;
use crate::runtime::{Backend, Graph, RunControl, ValueInfo};
use crate::tensor::Tensor;

/// Larger models are not kept for a second load; they are loaded without ranks at once.
const MAX_KEPT_BYTES: usize = 512 << 20;

/// Loads `model`. Requests may have other ranks than those of the inputs in `ranked`.
///
/// # Errors
///
/// Those of [`Backend::load`].
pub(super) fn load(
    backend: &Arc<dyn Backend>,
    model: &OnnxModel,
    ranked: HashSet<String>,
) -> Result<Arc<dyn Graph>> {
    let mut relaxed = model.clone();
    relaxed.relax_shapes(&HashSet::new());
    // Where an operator refuses all other ranks anyway, one graph is enough.
    let is_strict = ranked.iter().all(|name| model.fixes_rank_of(name));
    if ranked.is_empty() || (!is_strict && model.size_in_bytes() > MAX_KEPT_BYTES) {
        return backend.load(relaxed.into_source()?);
    }
    let ranks: HashMap<String, usize> = model
        .inputs()
        .into_iter()
        .filter(|input| ranked.contains(&input.name))
        .filter_map(|input| Some((input.name, input.shape?.len())))
        .collect();
    let mut with_ranks = model.clone();
    with_ranks.relax_shapes(&ranked);
    let graph = backend.load(with_ranks.into_source()?)?;
    if is_strict {
        return Ok(graph);
    }
    let inputs = graph.inputs().iter();
    let ranks = inputs
        .map(|input| ranks.get(&input.name).copied())
        .collect();
    Ok(Arc::new(RankedGraph {
        ranked: graph,
        ranks,
        backend: Arc::clone(backend),
        source: Mutex::new(Some(relaxed)),
        relaxed: OnceLock::new(),
    }))
}

struct RankedGraph {
    ranked: Arc<dyn Graph>,
    /// Of the inputs; `None` for any.
    ranks: Vec<Option<usize>>,
    backend: Arc<dyn Backend>,
    /// What `relaxed` is loaded from; taken then. Held for an instant.
    source: Mutex<Option<OnnxModel>>,
    /// Without ranks, or why it could not be loaded.
    relaxed: OnceLock<Result<Arc<dyn Graph>, (Code, String)>>,
}

impl RankedGraph {
    fn relaxed(&self) -> Result<&dyn Graph> {
        let loaded = self.relaxed.get_or_init(|| {
            self.load_relaxed()
                .map_err(|error| (error.code(), error.to_string()))
        });
        match loaded {
            Ok(graph) => Ok(graph.as_ref()),
            Err((code, message)) => Err(ServingError::new(*code, message)),
        }
    }

    fn load_relaxed(&self) -> Result<Arc<dyn Graph>> {
        let mut source = self.source.lock().unwrap_or_else(PoisonError::into_inner);
        let model = source.take();
        drop(source);
        let model = model.ok_or_else(|| ServingError::internal("the graph was taken already"))?;
        tracing::debug!(
            model = model.origin(),
            "the first request of other ranks than declared"
        );
        let graph = self.backend.load(model.into_source()?)?;
        let names = |graph: &dyn Graph| -> Vec<String> {
            let values = graph.inputs().iter().chain(graph.outputs());
            values.map(|it| it.name.clone()).collect()
        };
        if names(graph.as_ref()) != names(self.ranked.as_ref()) {
            return Err(ServingError::internal("the graph without ranks is another"));
        }
        Ok(graph)
    }
}

impl Graph for RankedGraph {
    fn inputs(&self) -> &[ValueInfo] {
        self.ranked.inputs()
    }

    fn outputs(&self) -> &[ValueInfo] {
        self.ranked.outputs()
    }

    fn run(
        &self,
        inputs: &[Tensor],
        outputs: &[usize],
        control: &RunControl,
    ) -> Result<Vec<Tensor>> {
        let mut ranks = inputs.iter().zip(&self.ranks);
        let as_declared =
            ranks.all(|(input, rank)| rank.is_none_or(|rank| rank == input.shape().len()));
        if as_declared {
            self.ranked.run(inputs, outputs, control)
        } else {
            self.relaxed()?.run(inputs, outputs, control)
        }
    }
}
