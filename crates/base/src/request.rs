//! The inputs of a request, decoded from either protocol and not yet checked against a signature.
//!
//! Not here: decoding them (`wire`), matching them with a signature (`mapper::signature`).

use std::collections::BTreeMap;

use crate::tensor::{DataType, Tensor};

/// The inputs of a request, by alias.
pub type RequestInputs = BTreeMap<String, RequestTensor>;

/// An input as the client sent it. TensorFlow Serving makes other checks first, so a decoding error is
/// reported only after these.
#[derive(Clone, Debug)]
pub enum RequestTensor {
    /// A tensor.
    Valid(Tensor),
    /// The dtype and shape of a tensor whose dtype TensorFlow has and this server does not serve.
    Unserved(DataType, Vec<usize>),
    /// Bytes that do not decode to a tensor.
    Malformed,
}
