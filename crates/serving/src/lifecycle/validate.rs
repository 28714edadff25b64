//! The checks of a new model configuration that depend only on the configurations
//! (`model_servers/server_core.cc`). The caller decides their order.
//!
//! Not here: labels (`serving::lifecycle::labels`), reading the file (`config`).

#![expect(deprecated, reason = "configurations still use `model_type`")]

use std::collections::{HashMap, HashSet};

use base::error::{Result, ServingError};
use proto::tensorflow::serving::model_server_config::Config;
use proto::tensorflow::serving::{ModelConfig, ModelType};
use storage::local::{is_absolute_or_uri, local_path};

/// The platform that `model_type` used to name.
const TENSORFLOW_PLATFORM: &str = "tensorflow";
/// Platforms that this server runs itself.
const KNOWN_PLATFORMS: [&str; 2] = [TENSORFLOW_PLATFORM, "onnx"];

/// Checks whether one configuration is allowed to follow another.
///
/// # Errors
///
/// `FAILED_PRECONDITION` for changes other than from one list to another.
pub(super) fn check_transition(old: Option<&Config>, new: Option<&Config>) -> Result<()> {
    let are_lists = matches!(
        (old, new),
        (
            Some(Config::ModelConfigList(_)),
            Some(Config::ModelConfigList(_))
        )
    );
    if old.is_none() || are_lists || old == new {
        return Ok(());
    }
    Err(ServingError::failed_precondition(
        "Cannot transition to requested config. It is only legal to transition from one \
         ModelConfigList to another.",
    ))
}

/// Checks names and base paths (`ValidateModelConfigList`).
///
/// # Errors
///
/// `INVALID_ARGUMENT` for duplicate names and for relative base paths; `UNIMPLEMENTED` for storage
/// that this server cannot read.
pub(super) fn check_names_and_paths(models: &[ModelConfig]) -> Result<()> {
    let mut names = HashSet::new();
    for model in models {
        if !names.insert(model.name.as_str()) {
            return Err(ServingError::invalid_argument(format!(
                "Illegal to list model {} multiple times in config list",
                model.name
            )));
        }
    }
    for model in models {
        if !is_absolute_or_uri(&model.base_path) {
            return Err(ServingError::invalid_argument(format!(
                "Expected model {} to have an absolute path or URI; got base_path()={}",
                model.name, model.base_path
            )));
        }
    }
    for model in models {
        local_path(&model.base_path)?;
    }
    Ok(())
}

/// Checks that models which stay keep their platform (`ValidateNoModelsChangePlatforms`).
///
/// # Errors
///
/// `INVALID_ARGUMENT` for a change, and for an old or new model without a platform. So if a
/// configuration fails for that reason, no other can follow it, as in TensorFlow Serving.
pub(super) fn check_platforms_kept(old: &[ModelConfig], new: &[ModelConfig]) -> Result<()> {
    let mut old_platforms = HashMap::new();
    for model in old {
        old_platforms.insert(model.name.as_str(), platform(model)?);
    }
    for model in new {
        let Some(old_platform) = old_platforms.get(model.name.as_str()) else {
            continue;
        };
        let new_platform = platform(model)?;
        if new_platform != *old_platform {
            return Err(ServingError::invalid_argument(format!(
                "Illegal to change a model's platform. For model {} platform was {old_platform} \
                 and new platform requested is {new_platform}",
                model.name
            )));
        }
    }
    Ok(())
}

/// Checks that this server knows the platform of every model.
///
/// # Errors
///
/// `INVALID_ARGUMENT` for any other platform.
pub(super) fn check_platforms_known(models: &[ModelConfig]) -> Result<()> {
    for model in models {
        let platform = platform(model)?;
        if !KNOWN_PLATFORMS.contains(&platform) {
            return Err(ServingError::invalid_argument(format!(
                "Model {} requests unsupported platform {platform}",
                model.name
            )));
        }
    }
    Ok(())
}

/// The platform that a model's configuration names (`GetPlatform`).
fn platform(model: &ModelConfig) -> Result<&str> {
    const OLD: &str = "ModelServerConfig::model_type (deprecated)";
    const NEW: &str = "ModelServerConfig::model_platform";
    let has_type = model.model_type != ModelType::Unspecified as i32;
    let name = &model.name;
    let problem = match (has_type, model.model_platform.as_str()) {
        (false, "") => format!("Illegal setting neither {OLD} nor {NEW}, model name is {name}"),
        (false, platform) => return Ok(platform),
        (true, "") if model.model_type == ModelType::Tensorflow as i32 => {
            return Ok(TENSORFLOW_PLATFORM);
        }
        (true, "") => format!(
            "ModelServerConfig::model_type choice {} not supported.",
            model.model_type
        ),
        (true, _) => format!("Illegal setting both {OLD} and {NEW}, model name is {name}"),
    };
    Err(ServingError::invalid_argument(problem))
}
