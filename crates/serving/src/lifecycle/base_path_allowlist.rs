//! The folders in which base paths of a reload over the network are allowed
//! (`--model_base_path_allowlist`).
//!
//! Not here: configurations from an operator's file, which are not restricted.

use std::ffi::OsString;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use super::patience::within;
use base::error::{Code, Result, ServingError};
use proto::tensorflow::serving::model_server_config::Config;
use proto::tensorflow::serving::{ModelConfig, ModelServerConfig};
use storage::local::local_path;

/// The time limit for following the links of a base path.
const PATIENCE: Duration = Duration::from_secs(5);

/// Folders with links followed. Empty allows any folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BasePathAllowlist(Vec<PathBuf>);

impl BasePathAllowlist {
    /// The folders of a comma-separated list. They have to exist.
    ///
    /// # Errors
    ///
    /// `INVALID_ARGUMENT` for a folder that does not exist or is not absolute.
    pub fn try_new(folders: &str) -> Result<Self> {
        let folders = folders.split(',').filter(|folder| !folder.is_empty());
        let folders = folders.map(|folder| {
            let path = Path::new(folder);
            let canonical = path.is_absolute().then(|| path.canonicalize());
            canonical.and_then(io::Result::ok).ok_or_else(|| {
                ServingError::invalid_argument(format!(
                    "--model_base_path_allowlist: {folder} is not the absolute path of a folder"
                ))
            })
        });
        folders.collect::<Result<_>>().map(Self)
    }

    /// Checks every base path of a configuration.
    ///
    /// # Errors
    ///
    /// `PERMISSION_DENIED` for a base path outside of all folders, links followed; `UNAVAILABLE` if
    /// the file system does not answer.
    pub fn check(&self, config: &ModelServerConfig) -> Result<()> {
        let Some(Config::ModelConfigList(list)) = &config.config else {
            return Ok(());
        };
        if self.0.is_empty() {
            return Ok(());
        }
        for model in &list.config {
            let path = local_path(&model.base_path).ok();
            let real = match path {
                // Following links can hang together with the file system they lead to.
                Some(path) => within(PATIENCE, &describe(model), move || real_path(&path))?,
                None => None,
            };
            let is_allowed =
                real.is_some_and(|real| self.0.iter().any(|folder| real.starts_with(folder)));
            if !is_allowed {
                return Err(ServingError::new(
                    Code::PermissionDenied,
                    format!(
                        "model {}: base path {} is outside --model_base_path_allowlist",
                        model.name, model.base_path
                    ),
                ));
            }
        }
        Ok(())
    }
}

fn describe(model: &ModelConfig) -> String {
    format!("the base path {} of model {}", model.base_path, model.name)
}

/// An absolute path with all links followed. The part that does not exist yet is appended as it is,
/// so it must not contain `..`.
fn real_path(path: &Path) -> Option<PathBuf> {
    if !path.is_absolute() {
        return None;
    }
    let mut existing = path.to_owned();
    let mut missing: Vec<OsString> = Vec::new();
    loop {
        match existing.canonicalize() {
            Ok(mut real) => {
                real.extend(missing.iter().rev());
                return Some(real);
            }
            // The target of a dangling link can appear later, so such a path is refused.
            Err(_) if existing.symlink_metadata().is_ok() => return None,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                match existing.components().next_back()? {
                    Component::Normal(name) => missing.push(name.to_owned()),
                    _ => return None,
                }
                existing.pop();
            }
            Err(_) => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;
    use proto::tensorflow::serving::ModelConfigList;

    fn config(base_path: &str) -> ModelServerConfig {
        let model = ModelConfig {
            name: "m".to_owned(),
            base_path: base_path.to_owned(),
            ..ModelConfig::default()
        };
        ModelServerConfig {
            config: Some(Config::ModelConfigList(ModelConfigList {
                config: vec![model],
            })),
        }
    }

    /// `allowed/`, `allowed/model/`, `allowedly/`, `elsewhere/`, and links between them.
    fn folders() -> (tempfile::TempDir, String) {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        for name in ["allowed/model", "allowedly", "elsewhere/model"] {
            fs::create_dir_all(root.join(name)).unwrap();
        }
        symlink(root.join("elsewhere"), root.join("allowed/out")).unwrap();
        symlink(root.join("nowhere"), root.join("allowed/dangling")).unwrap();
        symlink(root.join("allowed"), root.join("in")).unwrap();
        let root = root.display().to_string();
        (folder, root)
    }

    #[test]
    fn base_paths_within_a_folder_are_allowed() {
        let (_folder, root) = folders();
        let list = BasePathAllowlist::try_new(&format!("{root}/in,{root}/allowedly")).unwrap();
        for path in [
            "allowed",
            "allowed/model",
            "allowed//model/",
            "allowed/./model",
            "allowed/model/../model",
            "allowed/not/yet/there",
            "in/model",
            "elsewhere/../allowed/model",
            "allowedly/x",
        ] {
            list.check(&config(&format!("{root}/{path}"))).expect(path);
        }
        list.check(&config(&format!("file://{root}/allowed/model")))
            .unwrap();
    }

    #[test]
    fn base_paths_outside_are_denied() {
        let (_folder, root) = folders();
        let list = BasePathAllowlist::try_new(&format!("{root}/allowed")).unwrap();
        for path in [
            "elsewhere/model",
            "allowedly",
            "allowed/../elsewhere",
            "allowed/out",
            "allowed/out/model",
            "allowed/out/not/there",
            "allowed/dangling",
            "allowed/dangling/model",
            "allowed/not/../../../elsewhere",
            "allowed/not/../there",
            "",
        ] {
            let error = list
                .check(&config(&format!("{root}/{path}")))
                .expect_err(path);
            assert_eq!(error.code(), Code::PermissionDenied, "{path}");
        }
        for path in ["", "allowed", "gs://bucket/allowed", "/", "../allowed"] {
            assert!(list.check(&config(path)).is_err(), "{path}");
        }
    }

    #[test]
    fn no_list_allows_everything() {
        BasePathAllowlist::try_new("")
            .and_then(|list| list.check(&config("/anywhere")))
            .unwrap();
    }

    #[test]
    fn folders_have_to_be_there() {
        for folders in ["/nonexistent", "relative", "/tmp,/nonexistent"] {
            let error = BasePathAllowlist::try_new(folders).expect_err(folders);
            assert_eq!(error.code(), Code::InvalidArgument);
        }
    }
}
