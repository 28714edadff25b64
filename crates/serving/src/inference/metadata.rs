//! `GetModelMetadata` (`servables/tensorflow/get_model_metadata_impl.cc`).

use std::collections::BTreeMap;

use super::InferenceService;
use base::error::{Result, ServingError};
use base::id::{ModelSpec, ServableId};
use mapper::signature::SignatureDef;

/// The only metadata field that is supported.
pub const SIGNATURE_DEF_FIELD: &str = "signature_def";

/// The response to a `GetModelMetadata`.
#[derive(Clone, Debug)]
pub struct ModelMetadata {
    /// The version that answered.
    pub servable: ServableId,
    /// All signatures by name, including those that cannot be called.
    pub signature_defs: BTreeMap<String, SignatureDef>,
}

impl InferenceService {
    /// The signatures of the servable that answers for `spec`, if `fields` asks for them.
    ///
    /// # Errors
    ///
    /// `INVALID_ARGUMENT` if `fields` is empty or has a name other than
    /// [`SIGNATURE_DEF_FIELD`]; then those of [`resolve`](Self::resolve).
    pub fn model_metadata(&self, spec: &ModelSpec, fields: &[String]) -> Result<ModelMetadata> {
        if fields.is_empty() {
            return Err(ServingError::invalid_argument(
                "GetModelMetadataRequest must specify at least one metadata_field",
            ));
        }
        if let Some(field) = fields.iter().find(|field| *field != SIGNATURE_DEF_FIELD) {
            return Err(ServingError::invalid_argument(format!(
                "Metadata field {field} is not supported"
            )));
        }
        let servable = self.resolve(spec)?;
        Ok(ModelMetadata {
            servable: servable.id.clone(),
            signature_defs: servable.definitions(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inference::testing::{Stub, service_of};
    use base::error::Code;

    fn half_plus_two() -> InferenceService {
        let stub = Stub::new("serving_default").output("y", None);
        let servable = Stub::servable([stub.method("tensorflow/serving/predict")]);
        service_of(&servable)
    }

    fn spec(name: &str) -> ModelSpec {
        ModelSpec {
            name: name.to_owned(),
            version: None,
        }
    }

    /// Recorded exchanges grpc/115 to grpc/118; grpc.md section 7 for the order.
    #[test]
    fn fields_are_checked_before_the_model() {
        let check = |fields: &[&str], text: &str| {
            let fields: Vec<String> = fields.iter().map(ToString::to_string).collect();
            let error = half_plus_two().model_metadata(&spec("nope"), &fields);
            let error = error.unwrap_err();
            assert_eq!(error.code(), Code::InvalidArgument);
            assert_eq!(error.to_string(), text);
        };
        check(
            &[],
            "GetModelMetadataRequest must specify at least one metadata_field",
        );
        check(&["foo"], "Metadata field foo is not supported");
        check(
            &["signature_def", "foo"],
            "Metadata field foo is not supported",
        );
    }

    #[test]
    fn unknown_model_is_not_found() {
        let fields = [SIGNATURE_DEF_FIELD.to_owned()];
        let error = half_plus_two().model_metadata(&spec("nope"), &fields);
        assert_eq!(
            error.unwrap_err().to_string(),
            "Servable not found for request: Latest(nope)"
        );
    }

    /// Recorded exchange grpc/117: naming the field twice is allowed.
    #[test]
    fn metadata_lists_all_signatures() {
        let fields = vec![SIGNATURE_DEF_FIELD.to_owned(); 2];
        let metadata = half_plus_two()
            .model_metadata(&spec("model"), &fields)
            .unwrap();
        assert_eq!(metadata.servable, ServableId::new("model", 123));
        let names: Vec<&String> = metadata.signature_defs.keys().collect();
        assert_eq!(names, ["__saved_model_init_op", "serving_default"]);
    }
}
