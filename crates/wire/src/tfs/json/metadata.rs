//! The model metadata document (`http_rest_api_util.cc`): two printed messages joined into one.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use prost::{Message, Name};
use prost_reflect::{DescriptorPool, DynamicMessage};

use super::proto_json::{Layout, write_message};
use base::error::{Result, ServingError};
use proto::SERVED_DESCRIPTORS;
use proto::tensorflow::SignatureDef;
use proto::tensorflow::serving::model_spec::VersionChoice;
use proto::tensorflow::serving::{ModelSpec, SignatureDefMap};

static DESCRIPTORS: LazyLock<Option<DescriptorPool>> =
    LazyLock::new(|| DescriptorPool::decode(SERVED_DESCRIPTORS).ok());

/// Encodes the metadata of one version of a model: its name, its number, and its signatures by name.
///
/// # Errors
///
/// `INTERNAL` if the messages' descriptors cannot be read, or a signature nests too deep.
pub fn encode_model_metadata(
    name: &str,
    version: i64,
    signatures: BTreeMap<String, SignatureDef>,
) -> Result<Vec<u8>> {
    let spec = ModelSpec {
        name: name.to_owned(),
        version_choice: Some(VersionChoice::Version(version)),
        ..ModelSpec::default()
    };
    let signatures = SignatureDefMap {
        signature_def: signatures,
    };
    let mut out = b"{\n\"model_spec\":".to_vec();
    write(&spec, &mut out)?;
    out.extend_from_slice(b"\n,\n\"metadata\": {\"signature_def\": ");
    write(&signatures, &mut out)?;
    out.extend_from_slice(b"\n}\n}\n");
    Ok(out)
}

fn write<M: Message + Name>(message: &M, out: &mut Vec<u8>) -> Result<()> {
    let failed = |reason: &dyn std::fmt::Display| {
        ServingError::internal(format!("cannot print {}: {reason}", M::full_name()))
    };
    let descriptor = DESCRIPTORS
        .as_ref()
        .and_then(|pool| pool.get_message_by_name(&M::full_name()))
        .ok_or_else(|| failed(&"no descriptor"))?;
    let mut dynamic = DynamicMessage::new(descriptor);
    dynamic
        .transcode_from(message)
        .map_err(|error| failed(&error))?;
    write_message(&dynamic, Layout::new(0), out);
    Ok(())
}
