//! `TensorProto`, and the `PredictRequest` around it.

use bytes::Bytes;
use prost::Message;

use base::tensor::Tensor;
use codec::tensor_proto::{Encoder, ExpansionBudget, Form, MAX_EXPANSION, decode};
use proto::tensorflow::TensorProto;
use proto::tensorflow::serving::PredictRequest;
use wire::tfs::predict::{PredictCall, first_values};

/// Larger tensors are not encoded again, to save the fuzzer's time.
const MAX_ENCODED: usize = 1 << 16;

/// Reads the bytes as either message.
pub fn check(data: &[u8]) {
    let message = Bytes::copy_from_slice(data);
    check_tensor(&message);
    check_request(&message);
}

fn decoded(message: &Bytes) -> Option<Tensor> {
    decode(message, &mut ExpansionBudget::default())
}

/// Memory is bounded; both encodings of a tensor survive a round trip; protobuf's own reading agrees.
fn check_tensor(message: &Bytes) {
    let tensor = decoded(message);
    if let Some(tensor) = &tensor {
        let bytes = tensor.len() * tensor.dtype().size().unwrap_or(size_of::<Bytes>());
        let bound = MAX_EXPANSION.max(message.len() * 16);
        assert!(bytes <= bound, "{bytes} bytes of {}", message.len());
        if tensor.len() <= MAX_ENCODED {
            check_encodings(tensor);
        }
    }
    if let Ok(proto) = TensorProto::decode(message.clone()) {
        let canonical = Bytes::from(proto.encode_to_vec());
        assert_eq!(decoded(&canonical), tensor, "protobuf reads another tensor");
    }
}

fn check_encodings(tensor: &Tensor) {
    for form in [Form::TypedField, Form::TensorContent] {
        let encoder = Encoder::new(tensor, form);
        let mut encoded = Vec::new();
        encoder.write(&mut encoded);
        assert_eq!(encoded.len(), encoder.encoded_len(), "{form:?}");
        let again = decoded(&encoded.into());
        assert_eq!(again.as_ref(), Some(tensor), "{form:?}");
    }
}

/// A request that protobuf reads is read here, with the same inputs and the same model, and no part
/// refers to memory outside of it.
fn check_request(message: &Bytes) {
    let values = first_values(message);
    assert!(values <= Some(message.len()), "values behind the end");
    let call = PredictCall::decode(message);
    let Ok(request) = PredictRequest::decode(message.clone()) else {
        return;
    };
    let call = call.unwrap_or_else(|error| panic!("protobuf reads it: {error}"));
    assert_eq!(values, None, "all of it is here");
    assert!(request.inputs.keys().eq(call.inputs.keys()));
    assert_eq!(request.output_filter, call.output_filter);
    match (request.model_spec, call.spec()) {
        (None, Err(_)) => {}
        (Some(model), Ok((spec, signature_name))) => {
            assert_eq!(model.name, spec.name);
            assert_eq!(model.signature_name, signature_name);
        }
        (model, _) => panic!("protobuf reads another model: {model:?}"),
    }
}
