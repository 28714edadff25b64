//! The JSON of the REST API: converts requests to tensors and examples, and results to text.
//!
//! Counterpart of `util/json_tensor.cc`: grammar, typing of numbers, error texts and the layout of answers
//! are those of TensorFlow Serving to the byte. A predict body is read in one pass from its bytes into the
//! tensors' buffers (`fast`). A body that this pass does not accept, valid or not, goes to `exact`, which
//! first checks the whole body as TensorFlow Serving's parser would, and then finds the same error that
//! TensorFlow Serving reports.
//!
//! Nothing here recurses over a body, builds a tree of it, or needs more memory than a small multiple of
//! it. Not here: URLs, HTTP status codes, signatures (`api`, `serving::inference`).

mod column;
mod document;
mod exact;
mod examples;
mod fast;
mod fill;
mod nesting;
mod predict;
mod predict_body;
mod reader;
mod sizes;

mod encode;
mod metadata;
mod proto_json;
mod results;
mod status;

pub use self::encode::encode_predict;
pub use self::examples::{ExamplesBody, decode_examples};
pub use self::metadata::encode_model_metadata;
pub use self::predict::decode_predict;
pub use self::predict_body::{Format, InputSpec, PredictBody, no_inputs, signature_not_found};
pub use self::results::{encode_classifications, encode_regressions, error_body};
pub use self::status::{ModelStatus, VersionStatus, encode_model_list, encode_model_status};
pub use codec::json::depth::is_deeper_than;

#[cfg(any(test, fuzzing, feature = "testing"))]
pub use self::predict::decode_by_both_readers;

#[cfg(test)]
mod tests;
