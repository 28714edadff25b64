//! Text-format files that flags name. The first byte chooses the file, the rest is its text.

use std::sync::LazyLock;

use prost::{Message, Name};
use prost_reflect::{DescriptorPool, DynamicMessage};

use super::version;
use crate::config::{tls_config, version_batching_options};
use api::access::auth::Auth;
use codec::proto_text;
use mapper::version_dir::VersionDirectory;
use net::tls::Tls;
use proto::SERVED_DESCRIPTORS;
use proto::onnx_model_server::{AuthConfig, SignatureMap};
use proto::tensorflow::serving::{BatchingParameters, ModelServerConfig, MonitoringConfig};
use serving::batching::QueueLimits;
use serving::lifecycle::BasePathAllowlist;

static DESCRIPTORS: LazyLock<DescriptorPool> =
    LazyLock::new(|| DescriptorPool::decode(SERVED_DESCRIPTORS).expect("build.rs wrote these"));

/// Parses a text as one of the files, and passes the message to the code that uses it.
pub fn check(data: &[u8]) {
    let Some((&selector, text)) = data.split_first() else {
        return;
    };
    match selector % 7 {
        0 => {
            if let Some(config) = parsed::<ModelServerConfig>(text) {
                let allowlist = BasePathAllowlist::try_new("/").expect("it is there");
                let _ = allowlist.check(&config);
            }
        }
        1 => {
            if parsed::<BatchingParameters>(text).is_some() {
                let directory = version::with_file("batching_params.pbtxt", text);
                let options = version_batching_options(&directory, |name, max_bytes| {
                    VersionDirectory::open(&directory)?.read_small(name, max_bytes)
                });
                let options = options.expect("it is right");
                let _ = options.map(|options| QueueLimits::try_new(&options));
            }
        }
        2 => drop(parsed::<MonitoringConfig>(text)),
        3 => drop(parsed(text).map(|config| Tls::try_new(&tls_config(config)))),
        4 => drop(parsed::<AuthConfig>(text).map(|config| Auth::try_new(&config))),
        5 => drop(parsed::<SignatureMap>(text)),
        _ => drop(proto_text::parse_described("tensorflow.ConfigProto", text)),
    }
}

/// A parsed message, written as text by another library, parses to the same message.
fn parsed<M: Message + Name + Default>(text: &[u8]) -> Option<M> {
    let message: M = match proto_text::parse(text) {
        Ok(message) => message,
        Err(error) => {
            assert!(error.to_string().starts_with("Error parsing text-format"));
            return None;
        }
    };
    let bytes = message.encode_to_vec();
    let descriptor = DESCRIPTORS.get_message_by_name(&M::full_name());
    let descriptor = descriptor.expect("the type is compiled in");
    let dynamic = DynamicMessage::decode(descriptor, bytes.as_slice()).expect("of that type");
    let written = dynamic.to_text_format();
    let again: M =
        proto_text::parse(written.as_bytes()).unwrap_or_else(|error| panic!("{error}: {written}"));
    assert_eq!(again.encode_to_vec(), bytes, "{written}");
    Some(message)
}
