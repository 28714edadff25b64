//! Which versions labels can be assigned to (`ServerCore::UpdateModelVersionLabelMap`).
//!
//! Not here: resolving a label (`serving::lifecycle::lookup`).

use std::collections::BTreeMap;

use super::lookup::Labels;
use super::state_monitor::StateMonitor;
use base::error::{Result, ServingError};
use proto::tensorflow::serving::ModelConfig;

/// No version is available before the first configuration is applied.
const AT_START: &str = ". No version is when the server starts: start it with \
                        --allow_version_labels_for_unavailable_models, or assign labels by a later \
                        configuration";

/// The labels that a configuration assigns.
///
/// A label can be assigned only to a version that is available now. With `allow_unavailable` this
/// applies only to labels that are currently assigned to another version.
///
/// # Errors
///
/// `FAILED_PRECONDITION` for a version that is not available, in TensorFlow Serving's words. At start-up,
/// when no version can be available, it also names the flag.
pub(crate) fn assign_labels(
    models: &[ModelConfig],
    current: &Labels,
    states: &StateMonitor,
    allow_unavailable: bool,
    is_start: bool,
) -> Result<Labels> {
    let mut labels = Labels::new();
    for model in models {
        let current = current.get(&model.name);
        let mut assigned = BTreeMap::new();
        for (label, &version) in &model.version_labels {
            let so_far = current.and_then(|it| it.get(label));
            let is_moved = so_far.is_some_and(|&so_far| so_far != version);
            let may_be_unavailable = allow_unavailable && !is_moved;
            if !may_be_unavailable && !states.is_available(&model.name, version) {
                let way_out = match is_start {
                    true => AT_START,
                    false => "",
                };
                return Err(ServingError::failed_precondition(format!(
                    "Request to assign label to version {version} of model {}, which is not \
                     currently available for inference{way_out}",
                    model.name
                )));
            }
            assigned.insert(label.clone(), version);
        }
        if !assigned.is_empty() {
            labels.insert(model.name.clone(), assigned);
        }
    }
    Ok(labels)
}
