//! `:predict` with a serialized `PredictRequest` as body. An addition to TensorFlow Serving's API.

use std::time::Instant;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::header::CONTENT_TYPE;

use super::reply::Reply;
use crate::access::CallContext;
use base::error::{Result, ServingError};
use base::id::ModelSpec;
use net::blocking::off_worker;
use serving::inference::{InferenceService, PredictRequest, PredictResponse};
use serving::monitoring::Direction;
use wire::tfs::predict::{PredictCall, PredictReply};

/// The media type of serialized messages.
pub(super) const PROTOBUF: &str = "application/x-protobuf";

/// Whether the body of a request is a serialized message.
pub(super) fn is_protobuf(headers: &HeaderMap) -> bool {
    let value = headers
        .get(CONTENT_TYPE)
        .map_or(&b""[..], |it| it.as_bytes());
    let media_type = value.split(|&byte| byte == b';').next().unwrap_or_default();
    media_type
        .trim_ascii()
        .eq_ignore_ascii_case(PROTOBUF.as_bytes())
}

/// Answers with a serialized `PredictResponse`.
pub(super) async fn predict(
    inference: &InferenceService,
    context: &mut CallContext,
    url: &ModelSpec,
    body: Bytes,
    as_tensor_content: bool,
) -> Result<Reply> {
    let size = body.len();
    let started = Instant::now();
    let call = off_worker(size, || PredictCall::decode(&body))
        .map_err(|_| ServingError::invalid_argument("the body is not a PredictRequest"))?;
    let decoding = (started, Instant::now());
    drop(body);
    let (spec, signature_name) = match call.spec() {
        Ok((message, signature_name)) => (merged(url, message)?, signature_name.to_owned()),
        // The URL names everything.
        Err(_) => (url.clone(), String::new()),
    };
    let servable = inference.resolve(&spec)?;
    context.reached(&servable, Some(&signature_name));
    let request = PredictRequest {
        signature_name,
        inputs: call.inputs,
        output_filter: call.output_filter,
        deadline: context.deadline,
    };
    let response = inference.predict(&servable, request).await?;
    let (id, signature_name) = (response.servable.clone(), response.signature_name.clone());
    let started = Instant::now();
    let answer = answer(response, as_tensor_content);
    let encoding = (started, Instant::now());
    inference.record_codec(&id, &signature_name, Direction::Decode, decoding);
    inference.record_codec(&id, &signature_name, Direction::Encode, encoding);
    Ok(answer)
}

/// Merges the model specs of the URL and the message.
fn merged(url: &ModelSpec, message: &ModelSpec) -> Result<ModelSpec> {
    if !message.name.is_empty() && message.name != url.name {
        return Err(ServingError::invalid_argument(format!(
            "the URL names model \"{}\", the PredictRequest names \"{}\"",
            url.name, message.name
        )));
    }
    if let (Some(in_url), Some(in_message)) = (&url.version, &message.version)
        && in_url != in_message
    {
        return Err(ServingError::invalid_argument(format!(
            "the URL and the PredictRequest name different versions of model \"{}\"",
            url.name
        )));
    }
    Ok(ModelSpec {
        name: url.name.clone(),
        version: url.version.clone().or_else(|| message.version.clone()),
    })
}

fn answer(response: PredictResponse, as_tensor_content: bool) -> Reply {
    let reply = PredictReply {
        response,
        as_tensor_content,
    };
    let outputs = reply.response.outputs.iter();
    let size = outputs.map(|(_, tensor)| tensor.len() * 8).sum();
    let mut body = BytesMut::new();
    off_worker(size, || reply.encode(&mut body, BytesMut::reserve));
    let response = reply.response;
    let signature = Some(response.signature_name);
    Reply::of_servable(PROTOBUF, body.freeze(), response.servable, signature)
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::error::Code;
    use base::id::VersionChoice;

    fn spec(name: &str, version: Option<i64>) -> ModelSpec {
        ModelSpec {
            name: name.to_owned(),
            version: version.map(VersionChoice::Version),
        }
    }

    #[test]
    fn url_and_message_are_merged() {
        for (url, message, expected) in [
            (spec("m", None), spec("", None), spec("m", None)),
            (spec("m", None), spec("m", Some(3)), spec("m", Some(3))),
            (spec("m", Some(3)), spec("m", None), spec("m", Some(3))),
            (spec("m", Some(3)), spec("", Some(3)), spec("m", Some(3))),
        ] {
            assert_eq!(merged(&url, &message).unwrap(), expected);
        }
    }

    #[test]
    fn contradictions_are_refused() {
        let label = ModelSpec {
            version: Some(VersionChoice::Label("stable".to_owned())),
            ..spec("m", None)
        };
        for (url, message) in [
            (spec("m", None), spec("n", None)),
            (spec("m", Some(1)), spec("m", Some(2))),
            (label, spec("m", Some(1))),
        ] {
            let error = merged(&url, &message).unwrap_err();
            assert_eq!(error.code(), Code::InvalidArgument, "{url:?} {message:?}");
        }
    }

    #[test]
    fn the_media_type_is_found_among_parameters() {
        for (value, expected) in [
            ("application/x-protobuf", true),
            ("Application/X-Protobuf ; messageType=x", true),
            ("application/json", false),
            ("application/x-protobuffer", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, value.parse().unwrap());
            assert_eq!(is_protobuf(&headers), expected, "{value}");
        }
        assert!(!is_protobuf(&HeaderMap::new()));
    }
}
