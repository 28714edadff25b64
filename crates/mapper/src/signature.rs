//! Maps a model's signatures onto the tensors of its ONNX graph.
//!
//! Clients name inputs and outputs by *alias*, the graph by *graph name*. This module owns that mapping: it
//! checks a request against a signature, feeds the graph's inputs in their order, and names the outputs
//! that the graph returns. It is pure: no IO, no async, no locks.
//!
//! `declare` and `overlay` make the intended signature, `renaming` and `matching` find its tensors, `mapping`
//! is the result, and `request` and `call` use it for a request.
//!
//! Not here: reading files (`mapper::version_dir`), running graphs (`runtime`), JSON and protobuf
//! forms of requests (`wire`).

mod alias_change;
mod call;
mod contradiction;
mod declaration;
mod declare;
mod default_value;
mod definition_text;
mod derive;
mod description;
mod diagnosis;
mod earlier_aliases;
mod example_input;
mod mapping;
mod matching;
mod overlay;
mod passed_through;
mod renaming;
mod request;
mod sample;
mod saved_model;
mod saved_parse;
mod session;

pub use base::request::{RequestInputs, RequestTensor};
pub use proto::tensorflow::SignatureDef;

pub use self::alias_change::{AliasChange, Aliases, EarlierAliases, Side};
pub use self::call::{BoundCall, NamedCall};
pub use self::contradiction::Contradiction;
pub use self::declaration::{
    Declaration, Interface, Layer, TensorMapping, feature_default, feature_shape, shape_proto,
    wanted,
};
pub use self::declare::declare;
pub use self::default_value::{arranged_shape, contradicts};
pub use self::definition_text::definition_text;
pub use self::derive::derive;
pub use self::description::Description;
pub use self::diagnosis::{does_not_fit, shape_text};
pub use self::example_input::{ExampleInput, FeatureTensor};
pub use self::mapping::{Classes, Feed, Input, Output, OutputSource, Signature};
pub use self::matching::{
    Matching, Rule, Tensors, Wanted, is_convertible, known_shape, tensor_name,
};
pub use self::overlay::layered;
pub use self::renaming::{Settled, Unsettled, settle};
pub use self::saved_model::SavedModel;
pub use self::saved_parse::SavedParseNode;
pub use self::session::{FedTensor, check_run};

/// The signature used when a request does not name one.
pub const DEFAULT_SIGNATURE_NAME: &str = "serving_default";

/// The file of a version directory that TensorFlow writes: graphs and their signatures.
pub const SAVED_MODEL_FILE: &str = "saved_model.pb";
/// The file of a version directory that defines its signatures.
pub const MAP_FILE: &str = "signature_map.pbtxt";
/// `method_name` of predict signatures.
pub const PREDICT_METHOD_NAME: &str = "tensorflow/serving/predict";
/// `method_name` of classify signatures.
pub const CLASSIFY_METHOD_NAME: &str = "tensorflow/serving/classify";
/// `method_name` of regress signatures.
pub const REGRESS_METHOD_NAME: &str = "tensorflow/serving/regress";
