//! A graph that is fast for its declared ranks and also runs other ranks.
//!
//! TensorFlow accepts any rank that its kernels accept: `[1.0, 2.0, 5.0]` for an input of shape (-1, 1).
//! ONNX Runtime enforces declared ranks and needs them to optimise. So the graph is loaded with its ranks,
//! and once more without them when the first request with other ranks arrives. The model is kept until
//! then, and the two graphs share its weights.
//!
//! If an input reaches a kernel that might not check ranks, it keeps its rank in both graphs: for it, ONNX
//! Runtime refuses requests of other ranks (`onnx`'s `rank_paths`).

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::filled::FilledGraph;
use base::allocator::release_freed;
use base::error::{Code, Result, ServingError};
use base::tensor::Tensor;
use onnx::OnnxModel;
use runtime::placement::GraphThreads;
use runtime::{Backend, Graph, RunControl, ValueInfo, WeightSharing};

/// Larger models are not kept for a second load; they are loaded without ranks right away.
const MAX_KEPT_BYTES: usize = 512 << 20;

/// Loads `model`. Requests can have other ranks than the declared ones of the inputs in `ranked`. `sharing`
/// has the weights that the model shares with graphs of other signatures.
///
/// # Errors
///
/// Those of [`Backend::load`]; `UNIMPLEMENTED` for a model that could end the process in spite of all
/// checks.
pub(super) fn load(
    backend: &Arc<dyn Backend>,
    model: &OnnxModel,
    ranked: HashSet<String>,
    sharing: Option<WeightSharing>,
) -> Result<Arc<dyn Graph>> {
    let quantizes = backend.may_end_the_process() && model.quantizes();
    let graph = load_any(backend, model, ranked, sharing)?;
    Ok(match quantizes {
        true => Arc::new(FilledGraph(graph)),
        false => graph,
    })
}

fn load_any(
    backend: &Arc<dyn Backend>,
    model: &OnnxModel,
    ranked: HashSet<String>,
    sharing: Option<WeightSharing>,
) -> Result<Arc<dyn Graph>> {
    let mut model = model.clone();
    let mut kept = HashSet::new();
    if backend.may_end_the_process() {
        kept = model.inputs_to_keep_ranked();
        kept.retain(|name| ranked.contains(name));
        kept.extend(model.inputs_of_untried_operators()?);
        model.guard_kernels(&kept)?;
    }
    let mut relaxed = model.clone();
    relaxed.relax_shapes(&kept);
    // If an operator refuses all other ranks anyway, one graph is enough.
    let is_strict = ranked
        .iter()
        .all(|name| kept.contains(name) || model.fixes_rank_of(name));
    if ranked.is_empty() || (!is_strict && model.weight_bytes() > MAX_KEPT_BYTES) {
        return backend.load(relaxed.into_source(sharing)?);
    }
    let mut with_ranks = model.clone();
    with_ranks.relax_shapes(&ranked);
    if is_strict {
        return backend.load(with_ranks.into_source(sharing)?);
    }
    let names = model.shareable_weights().into_keys().map(str::to_owned);
    let names: HashSet<String> = names.collect();
    let sharing = match sharing {
        Some(sharing) => sharing.with_names(names),
        None => WeightSharing::new(names),
    };
    let graph = backend.load(with_ranks.into_source(Some(sharing.clone()))?)?;
    let ranks: HashMap<String, usize> = model
        .inputs()
        .into_iter()
        .filter(|input| ranked.contains(&input.name))
        .filter_map(|input| Some((input.name, input.shape?.len())))
        .collect();
    let inputs = graph.inputs().iter();
    let ranks = inputs
        .map(|input| ranks.get(&input.name).copied())
        .collect();
    Ok(Arc::new(RankedGraph {
        ranked: graph,
        ranks,
        backend: Arc::clone(backend),
        source: Mutex::new(Some((relaxed, sharing))),
        relaxed: OnceLock::new(),
    }))
}

struct RankedGraph {
    ranked: Arc<dyn Graph>,
    /// The ranks of the inputs; `None` for any.
    ranks: Vec<Option<usize>>,
    backend: Arc<dyn Backend>,
    /// The source of `relaxed`, taken when it is loaded. The lock is held only briefly.
    source: Mutex<Option<(OnnxModel, WeightSharing)>>,
    /// The graph without ranks, or the error of loading it.
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
        let taken = source.take();
        drop(source);
        let (model, sharing) =
            taken.ok_or_else(|| ServingError::internal("the graph was taken already"))?;
        tracing::debug!(
            model = model.origin(),
            "the first request of other ranks than declared"
        );
        let graph = self.backend.load(model.into_source(Some(sharing))?)?;
        release_freed();
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

    fn work_follows_shapes(&self) -> bool {
        self.ranked.work_follows_shapes()
    }

    fn threads(&self) -> GraphThreads {
        self.ranked.threads()
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
