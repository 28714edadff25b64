//! Reading and editing ONNX files.
//!
//! Edits are made once, at load, on the protobuf, so that the backend optimises them away. Clones of a model
//! share the bytes of its weights: only nodes are copied.
//!
//! Not here: the meaning of aliases (`signature`), which files are allowed (`mapper::version_dir`), running
//! graphs (`runtime`).

mod batch_norm;
mod constant;
mod decode_limits;
mod domains;
mod dynamic_shapes;
mod edit;
mod expansion;
mod external;
mod guard;
mod half_to_float;
mod integer_division;
mod interface;
mod io_transforms;
mod kernel_attributes;
mod kernel_limits;
mod known;
mod layout;
mod merge;
mod model;
mod optional;
mod output_types;
mod parse;
mod parse_example;
mod pooling_window;
mod prune;
mod rank_paths;
mod reshape;
mod rewrite;
mod sequence_lengths;
mod sequences;
mod shape_dependence;
mod specialise;
mod stored;
mod strings;
mod text;
mod traverse;
mod undo;
mod visit;
mod weights;
mod window_proof;
mod zip_map;

use self::domains::{is_onnx_domain, is_op, node, opset_of};

pub use self::constant::from_tensor as initializer;
pub use self::edit::Edit;
pub use self::interface::elem_type;
pub use self::io_transforms::Transform;
pub use self::model::{OnnxModel, Sequence};
pub use self::parse_example::{DenseKey, ParseExample, RaggedKey, SparseKey};
pub use self::stored::StoredModel;
pub use self::zip_map::ClassLabels;
