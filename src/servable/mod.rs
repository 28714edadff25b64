//! One loaded version of a model, and how a request gets hold of it.
//!
//! Not here: which versions are loaded and when (`lifecycle`), what a call means (`inference`).

mod expansion;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use crate::error::{Code, Result, ServingError};
use crate::id::{ModelSpec, ServableId};
use crate::runtime::{DirectExecutor, Executor, Graph, RunTimes};
use crate::signature::{DEFAULT_SIGNATURE_NAME, RequestInputs, Signature, SignatureDef};
use crate::tensor::Tensor;

pub use self::expansion::{Expansion, ExpansionBudget};

/// One loaded version: its signatures and the graphs that compute them.
pub struct Servable {
    /// Model and version.
    pub id: ServableId,
    signatures: BTreeMap<String, (Signature, Arc<dyn Executor>)>,
    /// Signatures that clients see in the metadata and cannot call, such as TensorFlow 2's
    /// `__saved_model_init_op`.
    metadata_only: BTreeMap<String, SignatureDef>,
}

/// Keeps a servable alive for as long as a request needs it.
pub type ServableHandle = Arc<Servable>;

impl Servable {
    /// A servable of these signatures, each with its graph.
    pub fn new(
        id: ServableId,
        signatures: impl IntoIterator<Item = (Signature, Arc<dyn Graph>)>,
        metadata_only: BTreeMap<String, SignatureDef>,
    ) -> Self {
        let signatures = signatures
            .into_iter()
            .map(|(signature, graph)| {
                let executor: Arc<dyn Executor> = Arc::new(DirectExecutor::new(graph, &id.name));
                (signature.name.clone(), (signature, executor))
            })
            .collect();
        Self {
            id,
            signatures,
            metadata_only,
        }
    }

    /// The same servable with other executors: `wrap` gets each signature and the executor it has.
    #[must_use]
    pub fn map_executors(
        mut self,
        wrap: impl Fn(&Signature, Arc<dyn Executor>) -> Arc<dyn Executor>,
    ) -> Self {
        for (signature, executor) in self.signatures.values_mut() {
            *executor = wrap(signature, Arc::clone(executor));
        }
        self
    }

    /// The signature that a request names; an empty name means `serving_default`.
    ///
    /// # Errors
    ///
    /// [`ServingError::SignatureNotFound`] with the name in effect.
    pub fn signature(&self, name: &str) -> Result<&Signature> {
        let name = if name.is_empty() {
            DEFAULT_SIGNATURE_NAME
        } else {
            name
        };
        match self.signatures.get(name) {
            Some((signature, _)) => Ok(signature),
            None => Err(ServingError::SignatureNotFound {
                name: name.to_owned(),
            }),
        }
    }

    /// Every signature that can be called, by name.
    pub fn signatures(&self) -> impl Iterator<Item = &Signature> {
        self.signatures.values().map(|(signature, _)| signature)
    }

    /// What clients see as the model's metadata, by signature name.
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

    /// Runs one signature, off the async workers. Outputs are named and sorted by alias; the times
    /// are those of the graph's run, `None` where it did not have to run.
    ///
    /// # Errors
    ///
    /// Those of [`Signature::bind`], [`ExpansionBudget::hold`] and [`Executor::execute`].
    pub async fn run(
        &self,
        signature_name: &str,
        inputs: RequestInputs,
        output_filter: &[String],
        deadline: Option<Instant>,
        budget: &ExpansionBudget,
    ) -> Result<(Vec<(String, Tensor)>, Option<RunTimes>)> {
        let signature = self.signature(signature_name)?;
        let mut call = signature.bind(inputs, output_filter)?;
        let _expansion = budget.hold(call.expanded_bytes)?;
        let (fetched, times) = if call.fetches.is_empty() {
            (Vec::new(), None)
        } else {
            let executor = &self.signatures[&signature.name].1;
            let feeds = std::mem::take(&mut call.feeds);
            let run = executor.execute(feeds, call.fetches.clone(), deadline);
            let executed = run.await?;
            (executed.outputs, Some(executed.times))
        };
        Ok((signature.unbind(call, fetched)?, times))
    }
}

/// Where requests find servables, and clients ask for states. Implemented by `lifecycle`.
pub trait ServableLookup: Send + Sync {
    /// The servable that answers for `spec`. Takes no lock.
    ///
    /// # Errors
    ///
    /// `INVALID_ARGUMENT` for an empty name or an unknown label;
    /// [`ServingError::ServableNotFound`] where no available version fits.
    fn servable_handle(&self, spec: &ModelSpec) -> Result<ServableHandle>;

    /// Every version of a model that was ever tracked in this process, in descending order.
    fn states(&self, model: &str) -> Vec<ServableState>;

    /// The names of all models that have [`states`](Self::states), sorted.
    fn models(&self) -> Vec<Arc<str>>;
}

/// What the manager last did with a version, and how that went.
#[derive(Clone, Debug, PartialEq)]
pub struct ServableState {
    /// Which version.
    pub id: ServableId,
    /// Where it stands.
    pub state: ManagerState,
    /// [`Code::Ok`], or why it ended.
    pub code: Code,
    /// Empty where `code` is OK.
    pub message: String,
}

/// The states of a version, in this order only (`ServableState::ManagerState`,
/// `core/servable_state.h`). The numbers are `ModelVersionStatus.State`'s.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(i32)]
pub enum ManagerState {
    /// Tracked, nothing done yet.
    Start = 10,
    /// Being loaded, warmup and retries included.
    Loading = 20,
    /// Serving.
    Available = 30,
    /// No new requests; those under way finish.
    Unloading = 40,
    /// Unloaded, or never came up.
    End = 50,
}

impl ManagerState {
    /// The name in `get_model_status.proto`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Start => "START",
            Self::Loading => "LOADING",
            Self::Available => "AVAILABLE",
            Self::Unloading => "UNLOADING",
            Self::End => "END",
        }
    }
}
