//! The model status documents: one model's (`get_model_status_impl.cc`, printed by
//! protobuf's JSON printer), and our own list of all models in the same form.

use std::sync::Arc;

use super::proto_json::{Layout, write_string};
use base::error::Code;

/// One version in the status of a model. Counterpart of `tensorflow.serving.ModelVersionStatus`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionStatus {
    /// The version number.
    pub version: i64,
    /// The name of its state in `ModelVersionStatus.State`, for example `AVAILABLE`.
    pub state: &'static str,
    /// `OK`, or the code of the error that prevented loading.
    pub error_code: Code,
    /// The loader's message.
    pub error_message: String,
}

/// One model in the list of models.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelStatus {
    /// The model's name.
    pub name: Arc<str>,
    /// Its versions, in the order of writing.
    pub versions: Vec<VersionStatus>,
}

/// Encodes the status of a model's versions, in the given order: TensorFlow Serving's is descending.
pub fn encode_model_status(versions: &[VersionStatus]) -> Vec<u8> {
    let mut out = b"{\n \"model_version_status\": ".to_vec();
    write_versions(versions, 1, &mut out);
    out.extend_from_slice(b"\n}\n");
    out
}

/// Encodes the list of models: `{"models": [{"name": …, "versions": […]}]}`. TensorFlow Serving has none.
pub fn encode_model_list(models: &[ModelStatus]) -> Vec<u8> {
    let mut out = b"{\n \"models\": [".to_vec();
    for (index, model) in models.iter().enumerate() {
        Layout::new(2).separate(index, &mut out);
        out.extend_from_slice(b"{\n   \"name\": ");
        write_string(&model.name, &mut out);
        out.extend_from_slice(b",\n   \"versions\": ");
        write_versions(&model.versions, 3, &mut out);
        out.extend_from_slice(b"\n  }");
    }
    if !models.is_empty() {
        out.extend_from_slice(b"\n ");
    }
    out.extend_from_slice(b"]\n}\n");
    out
}

/// Writes a list whose closing bracket is indented by `depth` spaces.
fn write_versions(versions: &[VersionStatus], depth: usize, out: &mut Vec<u8>) {
    out.push(b'[');
    for (index, version) in versions.iter().enumerate() {
        Layout::new(depth + 1).separate(index, out);
        write_version(version, depth + 1, out);
    }
    if !versions.is_empty() {
        Layout::new(depth).separate(0, out);
    }
    out.push(b']');
}

fn write_version(status: &VersionStatus, depth: usize, out: &mut Vec<u8>) {
    let VersionStatus {
        version,
        state,
        error_code,
        error_message,
    } = status;
    let indent = " ".repeat(depth);
    let head = format!(
        "{{\n{indent} \"version\": \"{version}\",\n{indent} \"state\": \"{state}\",\n\
         {indent} \"status\": {{\n{indent}  \"error_code\": \"{error_code}\",\n\
         {indent}  \"error_message\": "
    );
    out.extend_from_slice(head.as_bytes());
    write_string(error_message, out);
    out.extend_from_slice(format!("\n{indent} }}\n{indent}}}").as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    // The form of one model's status (rest.md, section 7.1), indented by two more levels.
    #[test]
    fn a_list_of_models_has_the_form_of_a_status() {
        let models = [
            ModelStatus {
                name: "a".into(),
                versions: vec![VersionStatus {
                    version: 7,
                    state: "AVAILABLE",
                    error_code: Code::Ok,
                    error_message: String::new(),
                }],
            },
            ModelStatus {
                name: "b".into(),
                versions: Vec::new(),
            },
        ];
        let expected = r#"{
 "models": [
  {
   "name": "a",
   "versions": [
    {
     "version": "7",
     "state": "AVAILABLE",
     "status": {
      "error_code": "OK",
      "error_message": ""
     }
    }
   ]
  },
  {
   "name": "b",
   "versions": []
  }
 ]
}
"#;
        assert_eq!(
            String::from_utf8(encode_model_list(&models)).unwrap(),
            expected
        );
        assert_eq!(encode_model_list(&[]), b"{\n \"models\": []\n}\n");
    }
}
