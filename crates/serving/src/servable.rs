//! One loaded version of a model, and how a request finds it.
//!
//! Not here: which versions are loaded and when (`lifecycle`), the meaning of a call (`inference`).

mod expansion;
mod handle;

use base::vocabulary::ManagerState;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use base::error::{Code, Result, ServingError};
use base::id::{ModelSpec, ServableId};
use base::tensor::Tensor;
use mapper::signature::{
    Contradiction, DEFAULT_SIGNATURE_NAME, RequestInputs, Signature, SignatureDef,
};
use mapper::version_dir::MappedSignature;
use runtime::placement::Placements;
use runtime::{DirectExecutor, Executor, RunTimes};

pub use self::expansion::{Expansion, ExpansionBudget};
pub use self::handle::ServableHandle;

/// One loaded version: its signatures and the graphs that compute them.
pub struct Servable {
    /// Model and version.
    pub id: ServableId,
    signatures: BTreeMap<String, Callable>,
    /// Signatures that clients see in the metadata but cannot call, such as TensorFlow 2's
    /// `__saved_model_init_op`.
    metadata_only: BTreeMap<String, SignatureDef>,
}

/// A signature and its executor.
struct Callable {
    signature: Signature,
    executor: Arc<dyn Executor>,
    /// For requests that send an input for which the graph has a default: the same signature in the terms
    /// of another graph, which takes such inputs. These requests are never batched, because those inputs
    /// can be without rows.
    with_optional: Option<(Signature, Arc<dyn Executor>)>,
}

impl Servable {
    /// A servable with these signatures, each with its graph. `placements` is shared by all servables of a
    /// server.
    pub fn new(
        id: ServableId,
        signatures: impl IntoIterator<Item = MappedSignature>,
        metadata_only: BTreeMap<String, SignatureDef>,
        placements: &Arc<Placements>,
    ) -> Self {
        let executor = |graph| -> Arc<dyn Executor> {
            let placements = Arc::clone(placements);
            Arc::new(DirectExecutor::new(graph, &id.name, placements))
        };
        let signatures = signatures
            .into_iter()
            .map(|it| {
                let with_optional = it.with_optional;
                let callable = Callable {
                    executor: executor(it.graph),
                    with_optional: with_optional.map(|(other, graph)| (other, executor(graph))),
                    signature: it.signature,
                };
                (callable.signature.name.clone(), callable)
            })
            .collect();
        Self {
            id,
            signatures,
            metadata_only,
        }
    }

    /// The same servable with other executors: `wrap` gets each signature and its current executor.
    #[must_use]
    pub fn map_executors(
        mut self,
        wrap: impl Fn(&Signature, Arc<dyn Executor>) -> Arc<dyn Executor>,
    ) -> Self {
        for callable in self.signatures.values_mut() {
            callable.executor = wrap(&callable.signature, Arc::clone(&callable.executor));
        }
        self
    }

    /// The signature that a request names; an empty name means `serving_default`.
    ///
    /// # Errors
    ///
    /// [`ServingError::SignatureNotFound`] with the effective name.
    pub fn signature(&self, name: &str) -> Result<&Signature> {
        self.callable(name).map(|it| &it.signature)
    }

    fn callable(&self, name: &str) -> Result<&Callable> {
        let name = if name.is_empty() {
            DEFAULT_SIGNATURE_NAME
        } else {
            name
        };
        match self.signatures.get(name) {
            Some(callable) => Ok(callable),
            None => Err(ServingError::SignatureNotFound {
                name: name.to_owned(),
            }),
        }
    }

    /// Every signature that can be called, by name.
    pub fn signatures(&self) -> impl Iterator<Item = &Signature> {
        self.signatures.values().map(|it| &it.signature)
    }

    /// The signatures that clients see as the model's metadata, by name.
    pub fn definitions(&self) -> BTreeMap<String, SignatureDef> {
        let callable = self
            .signatures()
            .map(|it| (it.name.clone(), it.definition.clone()));
        self.metadata_only
            .clone()
            .into_iter()
            .chain(callable)
            .collect()
    }

    /// Runs one signature, outside of the async workers. Outputs are named and sorted by alias. The
    /// times are those of the graph's run, or `None` if no run was needed.
    ///
    /// # Errors
    ///
    /// Those of [`Signature::bind`], [`Executor::check_inputs`], [`ExpansionBudget::hold`] and
    /// [`Executor::execute`].
    pub async fn run(
        &self,
        signature_name: &str,
        inputs: RequestInputs,
        output_filter: &[String],
        deadline: Option<Instant>,
        budget: &ExpansionBudget,
    ) -> Result<(Vec<(String, Tensor)>, Option<RunTimes>)> {
        let callable = self.callable(signature_name)?;
        let (signature, executor) = match &callable.with_optional {
            Some((signature, executor)) if signature.replaces_defaults(&inputs) => {
                (signature, executor)
            }
            _ => (&callable.signature, &callable.executor),
        };
        let contradictions = signature.contradictions(&inputs);
        let call = signature.name_call(inputs, output_filter)?;
        executor.check_inputs(&mut call.input_shapes())?;
        let mut call = call.bind()?;
        let _expansion = budget.hold(call.expanded_bytes)?;
        let (fetched, times) = if call.fetches.is_empty() {
            (Vec::new(), None)
        } else {
            let feeds = std::mem::take(&mut call.feeds);
            let of_graph = signature.graph_contradictions(&feeds);
            let run = executor.execute(feeds, call.fetches.clone(), deadline);
            let executed = run
                .await
                .map_err(|error| explained(error, contradictions, of_graph))?;
            (executed.outputs, Some(executed.times))
        };
        Ok((signature.unbind(call, fetched)?, times))
    }
}

/// Adds to the error of a run the inputs that could have caused it, because a kernel names a tensor deep in
/// the graph. If the signature allows an input, it is compared with the graph's declared shape.
fn explained(
    error: ServingError,
    mut contradictions: Vec<Contradiction>,
    of_graph: Vec<Contradiction>,
) -> ServingError {
    let ServingError::Kernel { mut reason } = error else {
        return error;
    };
    let is_said = |it: &Contradiction| contradictions.iter().any(|said| said.is_of_input_of(it));
    let more: Vec<Contradiction> = of_graph.into_iter().filter(|it| !is_said(it)).collect();
    contradictions.extend(more);
    for contradiction in contradictions {
        reason.truncate(reason.trim_end().trim_end_matches('.').len());
        reason.push_str(&format!(". {contradiction}"));
    }
    ServingError::Kernel { reason }
}

/// Finds servables for requests, and states for clients. Implemented by `lifecycle`.
pub trait ServableLookup: Send + Sync {
    /// The servable that answers for `spec`. Takes no lock.
    ///
    /// # Errors
    ///
    /// `INVALID_ARGUMENT` for an empty name or an unknown label;
    /// [`ServingError::ServableNotFound`] if no available version fits.
    fn servable_handle(&self, spec: &ModelSpec) -> Result<ServableHandle>;

    /// Every version of a model that this process has ever tracked, in descending order.
    fn states(&self, model: &str) -> Vec<ServableState>;

    /// The names of all models that have [`states`](Self::states), sorted.
    fn models(&self) -> Vec<Arc<str>>;
}

/// The last state that the manager gave a version, and its status.
#[derive(Clone, Debug, PartialEq)]
pub struct ServableState {
    /// The version.
    pub id: ServableId,
    /// Its state.
    pub state: ManagerState,
    /// [`Code::Ok`], or why it ended.
    pub code: Code,
    /// Empty if `code` is OK.
    pub message: String,
}
