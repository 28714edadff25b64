//! Names of servables: those that a client asks for, and those that the server has.

use std::fmt;
use std::sync::Arc;

/// One loaded version of one model.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServableId {
    /// The model's name.
    pub name: Arc<str>,
    /// The version number.
    pub version: i64,
}

impl ServableId {
    /// The id of one version of a model.
    pub fn new(name: impl Into<Arc<str>>, version: i64) -> Self {
        Self {
            name: name.into(),
            version,
        }
    }
}

/// TensorFlow Serving's form in logs and errors: `{name: m version: 1}`.
impl fmt::Display for ServableId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{name: {} version: {}}}", self.name, self.version)
    }
}

/// A servable that a caller asks for: the newest, or one by number (`ServableRequest`,
/// `core/manager.h`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServableRequest {
    /// The largest available version.
    Latest(String),
    /// Exactly this version.
    Specific(String, i64),
}

impl fmt::Display for ServableRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Latest(name) => write!(f, "Latest({name})"),
            Self::Specific(name, version) => write!(f, "Specific({name}, {version})"),
        }
    }
}

/// The model that a client names, and how. Counterpart of `tensorflow.serving.ModelSpec`, without the
/// signature's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelSpec {
    /// The model's name; empty is an error that resolving reports.
    pub name: String,
    /// `ModelSpec.version_choice`; `None` is the largest available version.
    pub version: Option<VersionChoice>,
}

/// `ModelSpec.version_choice`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VersionChoice {
    /// Exactly this version.
    Version(i64),
    /// The version that the model's configuration gives this label.
    Label(String),
}
