//! Translates a SavedModel to ONNX models, one for each signature, without TensorFlow.
//!
//! `import` reads the meta graph: `restore` finds the value of each variable in the `checkpoint`, `tables` the
//! contents of lookup tables, `translation` walks from each signature's outputs through the graph, and the
//! functions in `ops` translate single nodes.
//!
//! Not here: which files can be read (`mapper::version_dir`), how a signature's aliases are bound to the model
//! (`mapper::signature`), edits of the model (`onnx`).

mod builder;
mod checkpoint;
mod constants;
mod decode_limits;
mod effects;
mod files;
mod fused;
mod graph;
mod import;
mod list;
mod op;
mod ops;
mod order;
mod outputs;
mod refusal;
mod report;
mod resources;
mod restore;
mod scan;
mod signature;
mod structure;
mod tables;
mod tensor;
mod translation;
mod transposed;
mod value;
mod values;

#[cfg(any(fuzzing, feature = "testing"))]
pub use self::checkpoint::properties::{check_checkpoint, check_table};
pub use self::files::Files;
pub use self::import::{Imported, ImportedSignature, Statistics, decode, import, operators};
pub use self::report::{Missing, Refused};

/// The names of TensorFlow's operators that are supported, sorted.
pub fn supported_operators() -> Vec<&'static str> {
    ops::names()
}
