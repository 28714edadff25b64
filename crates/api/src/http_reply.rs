//! Responses of the HTTP ports: documents, errors as JSON, and the HTML pages of errors outside the API.
//!
//! Not here: the content (`tfs::rest`, `admin`).

use bytes::Bytes;
use http::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE,
};
use http::{Method, Response, StatusCode};

use base::error::{Code, ServingError};
use wire::tfs::json;

/// The media type of JSON documents.
pub(crate) const JSON: &str = "application/json";

/// The authentication schemes that a 401 response offers (RFC 9110, section 11.6.1).
const CHALLENGES: [&str; 2] = [
    "Bearer realm=\"onnx_model_server\"",
    "Basic realm=\"onnx_model_server\", charset=\"UTF-8\"",
];

/// Whether a page answers this method.
pub(crate) fn is_read(method: &Method) -> bool {
    method == Method::GET || method == Method::HEAD
}

/// A response with this body.
pub(crate) fn response(
    status: StatusCode,
    content_type: &'static str,
    body: Bytes,
) -> Response<Bytes> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let content_type = HeaderValue::from_static(content_type);
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

/// The response to a request that failed: JSON, and the headers that tell clients how to go on.
pub(crate) fn error_response(error: &ServingError) -> Response<Bytes> {
    let body = json::error_body(&error.to_string()).into();
    let mut response = response(http_status(error.code()), JSON, body);
    if matches!(error, ServingError::Overloaded { .. }) {
        let seconds = HeaderValue::from_static("1");
        response.headers_mut().insert(RETRY_AFTER, seconds);
    }
    if error.code() == Code::Unauthenticated {
        for challenge in CHALLENGES {
            let challenge = HeaderValue::from_static(challenge);
            response.headers_mut().append(WWW_AUTHENTICATE, challenge);
        }
    }
    response
}

/// The HTML page of an error such as 404.
pub(crate) fn html_page(status: StatusCode) -> Response<Bytes> {
    let reason = status.canonical_reason().unwrap_or_default();
    let page = format!(
        "<HTML><HEAD>\n<TITLE>{} {reason}</TITLE>\n</HEAD><BODY>\n<H1>{reason}</H1>\n\
         </BODY></HTML>\n",
        status.as_u16()
    );
    let mut response = response(status, "text/html", page.into());
    let close = HeaderValue::from_static("close");
    response.headers_mut().insert(CONNECTION, close);
    response
}

/// Turns a response into the answer to `HEAD`: the headers stay, including `Content-Length`.
pub(crate) fn drop_body(response: &mut Response<Bytes>) {
    let body = std::mem::take(response.body_mut());
    let length = HeaderValue::from(body.len());
    response.headers_mut().insert(CONTENT_LENGTH, length);
}

/// The HTTP status of a canonical code (`model_servers/http_server.cc`).
pub(crate) fn http_status(code: Code) -> StatusCode {
    let status = match code {
        Code::Ok => 200,
        Code::Cancelled => 499,
        Code::InvalidArgument | Code::OutOfRange | Code::FailedPrecondition => 400,
        Code::DeadlineExceeded => 504,
        Code::NotFound => 404,
        Code::AlreadyExists | Code::Aborted => 409,
        Code::PermissionDenied => 403,
        Code::ResourceExhausted => 429,
        Code::Unimplemented => 501,
        Code::Unavailable => 503,
        Code::Unauthenticated => 401,
        Code::Unknown | Code::Internal | Code::DataLoss => 500,
    };
    StatusCode::from_u16(status).expect("three digits")
}
