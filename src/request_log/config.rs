//! `LoggingConfig`: checked, and in the form that logging uses.

use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use base::error::{Result, ServingError};
use proto::tensorflow::serving::{LoggingConfig, SamplingConfig};

/// The only `LogCollectorConfig.type` there is.
const FILE_TYPE: &str = "file";

/// How one model is logged.
#[derive(Clone, Debug)]
pub(super) struct ModelLogging {
    /// Shared by all models with this prefix: the files stay open while there are references to it.
    pub(super) prefix: Arc<PathBuf>,
    /// Invariant: the rate is a number from 0 to 1.
    pub(super) sampling: Arc<SamplingConfig>,
}

impl ModelLogging {
    /// Checks a configuration. `custom_logging_config` has no meaning here, nor do the rates of single
    /// tasks, because this server has no tasks.
    ///
    /// # Errors
    ///
    /// `NOT_FOUND` with the text of `core/log_collector.cc` for another type than `file`;
    /// `INVALID_ARGUMENT` for a prefix that is not an absolute path or is outside the allowed folders
    /// (if they are restricted), and for a sampling rate outside of 0 to 1.
    pub(super) fn try_new(config: &LoggingConfig, allowed_folders: &[PathBuf]) -> Result<Self> {
        let collector = config.log_collector_config.clone().unwrap_or_default();
        if collector.r#type != FILE_TYPE {
            return Err(ServingError::not_found(format!(
                "Cannot find LogCollector::Factory for type: {}",
                collector.r#type
            )));
        }
        let sampling = config.sampling_config.clone().unwrap_or_default();
        if !(0.0..=1.0).contains(&sampling.sampling_rate) {
            return Err(ServingError::invalid_argument(format!(
                "sampling_rate has to be between 0 and 1. Was: {}",
                sampling.sampling_rate
            )));
        }
        let prefix = PathBuf::from(collector.filename_prefix);
        check_prefix(&prefix, allowed_folders)?;
        Ok(Self {
            prefix: Arc::new(prefix),
            sampling: Arc::new(sampling),
        })
    }

    /// The same, but with the files of one of the others if that has the same prefix.
    pub(super) fn sharing_files_with<'a>(self, mut others: impl Iterator<Item = &'a Self>) -> Self {
        let prefix = others.find(|other| other.prefix == self.prefix);
        let prefix = prefix.map(|other| Arc::clone(&other.prefix));
        Self {
            prefix: prefix.unwrap_or(self.prefix),
            ..self
        }
    }

    pub(super) fn sampling_rate(&self) -> f64 {
        self.sampling.sampling_rate
    }
}

fn check_prefix(prefix: &Path, allowed_folders: &[PathBuf]) -> Result<()> {
    let refused = |reason: &str| {
        let prefix = prefix.display();
        ServingError::invalid_argument(format!("filename_prefix '{prefix}' {reason}"))
    };
    let is_plain = |it| matches!(it, Component::RootDir | Component::Normal(_));
    if !prefix.is_absolute() || !prefix.components().all(is_plain) {
        return Err(refused("has to be an absolute path without '..'"));
    }
    let is_name =
        prefix.file_name().is_some() && !prefix.as_os_str().as_encoded_bytes().ends_with(b"/");
    if !is_name {
        return Err(refused("has to end with the beginning of a file name"));
    }
    let folder = prefix.parent().unwrap_or(prefix);
    if !allowed_folders.is_empty() && !allowed_folders.iter().any(|it| folder.starts_with(it)) {
        return Err(refused("is outside of --request_log_path_allowlist"));
    }
    Ok(())
}
