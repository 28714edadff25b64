//! The model status document (`get_model_status_impl.cc`, printed by protobuf's JSON printer).

use super::proto_json::{Layout, write_string};
use crate::error::Code;

/// One version in the status of a model. Counterpart of `tensorflow.serving.ModelVersionStatus`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionStatus {
    /// The version number.
    pub version: i64,
    /// The name of its state in `ModelVersionStatus.State`: `AVAILABLE`.
    pub state: &'static str,
    /// `OK`, or why the version could not be loaded.
    pub error_code: Code,
    /// What the loader said.
    pub error_message: String,
}

/// Encodes the status of a model's versions, in the order given: the original's is descending.
pub fn encode_model_status(versions: &[VersionStatus]) -> Vec<u8> {
    let mut out = b"{\n \"model_version_status\": [".to_vec();
    for (index, version) in versions.iter().enumerate() {
        let layout = Layout::new(2);
        layout.separate(index, &mut out);
        let VersionStatus {
            version,
            state,
            error_code,
            error_message,
        } = version;
        let head = format!(
            "{{\n   \"version\": \"{version}\",\n   \"state\": \"{state}\",\n   \"status\": {{\n    \
             \"error_code\": \"{error_code}\",\n    \"error_message\": "
        );
        out.extend_from_slice(head.as_bytes());
        write_string(error_message, &mut out);
        out.extend_from_slice(b"\n   }\n  }");
    }
    if !versions.is_empty() {
        out.extend_from_slice(b"\n ");
    }
    out.extend_from_slice(b"]\n}\n");
    out
}
