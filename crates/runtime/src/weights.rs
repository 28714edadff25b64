//! Large tensors of a model that are stored outside its protobuf, and which of them graphs share.
//!
//! Not here: which graphs share weights (`mapper::version_dir`), handing them to a library (the
//! backends).

use std::any::Any;
use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

/// An initializer of the main graph whose data is not in the protobuf.
#[derive(Clone, Debug)]
pub struct Weight {
    /// The initializer's name.
    pub name: String,
    /// The location of the data, as the protobuf states it.
    pub location: String,
    /// `onnx.TensorProto.DataType`.
    pub elem_type: i32,
    /// Sizes of its dimensions.
    pub shape: Vec<i64>,
    /// The elements, in the order of `TensorProto.raw_data`, as many as the shape says.
    pub data: Bytes,
    /// Whether a backend that can should use `data` as it is and keep it, and not make copies.
    pub in_place: bool,
}

/// Marks several graphs as sharing weights. Clones refer to the same graphs.
///
/// A backend that gets this is allowed to keep these weights in place, together with the data it
/// derives from them, once for all the graphs; otherwise it has a copy for each graph.
#[derive(Clone)]
pub struct WeightSharing {
    names: Arc<HashSet<String>>,
    derived: Arc<OnceLock<Box<dyn Any + Send + Sync>>>,
}

impl WeightSharing {
    /// The graphs share the weights of these names.
    pub fn new(names: HashSet<String>) -> Self {
        Self {
            names: Arc::new(names),
            derived: Arc::default(),
        }
    }

    /// The same graphs, which share the weights of more names.
    #[must_use]
    pub fn with_names(&self, more: HashSet<String>) -> Self {
        Self {
            names: Arc::new(self.names.union(&more).cloned().collect()),
            derived: Arc::clone(&self.derived),
        }
    }

    /// Whether the weight of this name is shared.
    pub fn contains(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    /// For backends: the data that they derive from the weights, made with the first call. `None` if
    /// another backend's data is there.
    pub fn derived<T: Any + Send + Sync>(&self, make: impl FnOnce() -> T) -> Option<&T> {
        self.derived
            .get_or_init(|| Box::new(make()))
            .downcast_ref::<T>()
    }
}

impl fmt::Debug for WeightSharing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WeightSharing")
            .field("names", &self.names.len())
            .finish_non_exhaustive()
    }
}
