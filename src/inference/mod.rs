//! What the calls mean. Both transports come here, so that a rule lives once.
//!
//! A call is two steps over one servable handle: [`InferenceService::resolve`], then one of the
//! methods below. REST needs the signature between the two to decode numbers; a version switch
//! can never fall in between.
//!
//! Not here: wire formats (`wire`), sockets and status numbers (`transport`).

mod predict;

use std::sync::Arc;

use crate::error::{Result, ServingError};
use crate::id::{ModelSpec, VersionChoice};
use crate::servable::{ServableHandle, ServableLookup, ServableState};

pub use self::predict::{PredictRequest, PredictResponse};

/// The calls that clients can make, independent of transport.
#[derive(Clone)]
pub struct InferenceService {
    servables: Arc<dyn ServableLookup>,
}

impl InferenceService {
    /// A service over these servables.
    pub fn new(servables: Arc<dyn ServableLookup>) -> Self {
        Self { servables }
    }

    /// The servable that answers for `spec`.
    ///
    /// # Errors
    ///
    /// As [`ServableLookup::servable_handle`].
    pub fn resolve(&self, spec: &ModelSpec) -> Result<ServableHandle> {
        self.servables.servable_handle(spec)
    }

    /// The states of all versions, or of the one that `spec` names by number, in descending order.
    /// A label is ignored, as in the original (`get_model_status_impl.cc`).
    ///
    /// # Errors
    ///
    /// `NOT_FOUND` where there is none.
    pub fn model_status(&self, spec: &ModelSpec) -> Result<Vec<ServableState>> {
        let model = &spec.name;
        let mut states = self.servables.states(model);
        let version = match spec.version {
            Some(VersionChoice::Version(version)) => Some(version),
            _ => None,
        };
        if let Some(version) = version {
            states.retain(|state| state.id.version == version);
        }
        if states.is_empty() {
            return Err(ServingError::not_found(match version {
                Some(version) => format!("Could not find version {version} of model {model}"),
                None => format!("Could not find any versions of model {model}"),
            }));
        }
        Ok(states)
    }
}
