//! `tensorflow.serving.ModelSpec`: the model, version and signature that a message names.
//!
//! Not here: finding the servable, and refusing empty names (`servable`).

use base::error::{Result, ServingError};
use base::id::{ModelSpec, ServableId, VersionChoice};
use proto::tensorflow::serving as pb;

/// Splits the message into the model's spec and the signature's name; the name is empty if the client left
/// it out.
///
/// # Errors
///
/// `INVALID_ARGUMENT` if the message is absent, with the text of `server_core.cc` and the RPCs.
pub fn from_proto(spec: Option<pb::ModelSpec>) -> Result<(ModelSpec, String)> {
    spec.map(split)
        .ok_or_else(|| ServingError::invalid_argument("Missing ModelSpec"))
}

/// Like [`from_proto`] for calls that treat an absent message as an empty one (`MultiInference`).
pub fn from_proto_or_default(spec: Option<pb::ModelSpec>) -> (ModelSpec, String) {
    split(spec.unwrap_or_default())
}

/// The message that names the servable which answered. The version is always set, a label never; an empty
/// `signature_name` leaves the field out, as in metadata.
pub fn to_proto(servable: &ServableId, signature_name: impl Into<String>) -> pb::ModelSpec {
    pb::ModelSpec {
        name: servable.name.to_string(),
        version_choice: Some(pb::model_spec::VersionChoice::Version(servable.version)),
        signature_name: signature_name.into(),
    }
}

fn split(spec: pb::ModelSpec) -> (ModelSpec, String) {
    // A version wrapper without a value means version 0, and an empty label is a label: only the absent
    // oneof means the latest version.
    let version = spec.version_choice.map(|choice| match choice {
        pb::model_spec::VersionChoice::Version(version) => VersionChoice::Version(version),
        pb::model_spec::VersionChoice::VersionLabel(label) => VersionChoice::Label(label),
    });
    let model = ModelSpec {
        name: spec.name,
        version,
    };
    (model, spec.signature_name)
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use base::error::Code;

    /// Decodes wire bytes, to include the defaults of the generated message.
    fn decode(bytes: &[u8]) -> (ModelSpec, String) {
        from_proto(Some(pb::ModelSpec::decode(bytes).unwrap())).unwrap()
    }

    #[test]
    fn absent_message_is_missing_model_spec() {
        // grpc/018_predict_no_spec of the recorded exchanges.
        let error = from_proto(None).unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument);
        assert_eq!(error.to_string(), "Missing ModelSpec");
    }

    #[test]
    fn absent_choice_means_latest() {
        let (spec, signature) = decode(b"\x0a\x01m\x1a\x01s");
        assert_eq!((spec.name.as_str(), spec.version), ("m", None));
        assert_eq!(signature, "s");
    }

    #[test]
    fn empty_version_wrapper_is_version_zero() {
        let (spec, signature) = decode(b"\x0a\x01m\x12\x00");
        assert_eq!(spec.version, Some(VersionChoice::Version(0)));
        assert_eq!(signature, "");
    }

    #[test]
    fn empty_label_is_a_label() {
        let (spec, _) = decode(b"\x0a\x01m\x22\x00");
        assert_eq!(spec.version, Some(VersionChoice::Label(String::new())));
    }

    #[test]
    fn answer_names_version_not_label() {
        let spec = to_proto(&ServableId::new("m", 0), "serving_default");
        assert_eq!(
            spec.encode_to_vec(),
            b"\x0a\x01m\x12\x00\x1a\x0fserving_default"
        );
    }
}
