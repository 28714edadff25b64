//! `GetModelMetadataRequest` and `GetModelMetadataResponse`.

use prost::Message;

use super::model_spec;
use base::error::Result;
use base::id::ModelSpec;
use proto::tensorflow::serving as pb;
use serving::inference::{ModelMetadata, SIGNATURE_DEF_FIELD};

/// The type of the metadata inside its `Any`.
const TYPE_URL: &str = "type.googleapis.com/tensorflow.serving.SignatureDefMap";

/// The model spec, and the requested fields.
///
/// # Errors
///
/// `INVALID_ARGUMENT` if the request has no model spec.
pub fn from_proto(request: pb::GetModelMetadataRequest) -> Result<(ModelSpec, Vec<String>)> {
    let (spec, _) = model_spec::from_proto(request.model_spec)?;
    Ok((spec, request.metadata_field))
}

/// The response as a message; its model spec names no signature.
pub fn to_proto(metadata: ModelMetadata) -> pb::GetModelMetadataResponse {
    let signature_defs = pb::SignatureDefMap {
        signature_def: metadata.signature_defs,
    };
    let any = prost_types::Any {
        type_url: TYPE_URL.to_owned(),
        value: signature_defs.encode_to_vec(),
    };
    pb::GetModelMetadataResponse {
        model_spec: Some(model_spec::to_proto(&metadata.servable, "")),
        metadata: [(SIGNATURE_DEF_FIELD.to_owned(), any)].into(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;

    use super::*;
    use base::id::ServableId;
    use proto::tensorflow::{SignatureDef, TensorInfo, tensor_info::Encoding};

    fn decode<M: Message + Default>(message: &str) -> M {
        M::decode(STANDARD.decode(message).unwrap().as_slice()).unwrap()
    }

    /// Recorded exchange grpc_metadata_metadata_half_plus_three.
    #[test]
    fn request_and_response_are_the_recorded_ones() {
        let request = decode("ChEKD2hhbGZfcGx1c190aHJlZRINc2lnbmF0dXJlX2RlZg==");
        let (spec, fields) = from_proto(request).unwrap();
        assert_eq!(spec.name, "half_plus_three");
        assert_eq!(fields, ["signature_def"]);

        let float = |alias: &str, name: &str| {
            let info = TensorInfo {
                encoding: Some(Encoding::Name(name.to_owned())),
                dtype: 1,
                tensor_shape: None,
            };
            BTreeMap::from([(alias.to_owned(), info)])
        };
        let signature = |method_name: &str, inputs, outputs| SignatureDef {
            inputs,
            outputs,
            method_name: method_name.to_owned(),
            ..SignatureDef::default()
        };
        let predict = signature(
            "tensorflow/serving/predict",
            float("x", "x:0"),
            float("y", "y:0"),
        );
        let regress = signature(
            "tensorflow/serving/regress",
            float("inputs", "tf_example:0"),
            float("outputs", "Identity:0"),
        );
        let response = to_proto(ModelMetadata {
            servable: ServableId::new("half_plus_three", 123),
            signature_defs: [
                ("serving_default".to_owned(), predict),
                ("tensorflow/serving/regress".to_owned(), regress),
            ]
            .into(),
        });
        let recorded = "ChUKD2hhbGZfcGx1c190aHJlZRICCHsSjQIKDXNpZ25hdHVyZV9kZWYS+wEKNnR5cGUuZ29v\
                        Z2xlYXBpcy5jb20vdGVuc29yZmxvdy5zZXJ2aW5nLlNpZ25hdHVyZURlZk1hcBLAAQpLCg9z\
                        ZXJ2aW5nX2RlZmF1bHQSOAoMCgF4EgcKA3g6MBABEgwKAXkSBwoDeTowEAEaGnRlbnNvcmZs\
                        b3cvc2VydmluZy9wcmVkaWN0CnEKGnRlbnNvcmZsb3cvc2VydmluZy9yZWdyZXNzElMKGgoG\
                        aW5wdXRzEhAKDHRmX2V4YW1wbGU6MBABEhkKB291dHB1dHMSDgoKSWRlbnRpdHk6MBABGhp0\
                        ZW5zb3JmbG93L3NlcnZpbmcvcmVncmVzcw==";
        assert_eq!(response, decode(recorded));
    }
}
