//! Compares an answer with the recorded one, by the rules that come with the recordings.

use tonic::Code;

use super::case::{GrpcExpect, RestExpect};
use crate::support::grpc::GrpcReply;
use crate::support::http::HttpReply;
use crate::support::json::Json;
use crate::support::proto::{self, Comparison};

/// The difference between a REST answer and the recorded one.
pub(crate) fn check_rest(expect: &RestExpect, reply: &HttpReply) -> Result<(), String> {
    if !expect.statuses.contains(&reply.status.into()) {
        let (expected, status) = (&expect.statuses, reply.status);
        return Err(format!(
            "status {status}, not {expected:?}: {}",
            reply.text()
        ));
    }
    check_headers(expect, reply)?;
    check_body(expect, &reply.body)?;
    for part in &expect.body_contains {
        if !reply.text().contains(part) {
            return Err(format!("no {part:?} in {:?}", reply.text()));
        }
    }
    Ok(())
}

fn check_headers(expect: &RestExpect, reply: &HttpReply) -> Result<(), String> {
    for (name, expected) in &expect.headers_subset {
        let lower = name.to_ascii_lowercase();
        let mut actual = reply.header(&lower);
        if lower == "content-type" {
            // A charset can follow.
            actual = actual.and_then(|it| it.split(';').next()).map(str::trim);
        }
        if actual != Some(expected) {
            return Err(format!(
                "header {name}: expected {expected:?}, got {actual:?}"
            ));
        }
    }
    for name in &expect.headers_absent {
        if let Some(value) = reply.header(&name.to_ascii_lowercase()) {
            return Err(format!("header {name}: {value} must not be sent"));
        }
    }
    Ok(())
}

fn check_body(expect: &RestExpect, body: &[u8]) -> Result<(), String> {
    match expect.compare.as_str() {
        "bytes" if expect.body == body => Ok(()),
        "bytes" => Err(format!(
            "expected {}, got {}",
            shown(&expect.body),
            shown(body)
        )),
        "json" => {
            let (expected, actual) = (Json::parse(&expect.body)?, Json::parse(body)?);
            expected.check(&actual, expect.tolerance)?;
            if expect.is_layout_lines && sorted_lines(&expect.body) != sorted_lines(body) {
                let (expected, body) = (shown(&expect.body), shown(body));
                return Err(format!("layout: expected {expected}, got {body}"));
            }
            Ok(())
        }
        "status_only" => Ok(()),
        other => Err(format!("no comparison {other:?}")),
    }
}

fn sorted_lines(body: &[u8]) -> Vec<&[u8]> {
    let lines = body.split(|&byte| byte == b'\n');
    let mut lines: Vec<&[u8]> = lines
        .map(|line| line.strip_suffix(b",").unwrap_or(line))
        .collect();
    lines.sort_unstable();
    lines
}

/// The text, shortened if it is long.
fn shown(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let cut: String = text.chars().take(600).collect();
    if cut.len() < text.len() {
        format!("{cut:?}... ({} bytes)", body.len())
    } else {
        format!("{cut:?}")
    }
}

/// The difference between a gRPC answer and the recorded one.
pub(crate) fn check_grpc(
    method: &str,
    expect: &GrpcExpect,
    reply: &GrpcReply,
) -> Result<(), String> {
    let code = code_name(reply.code);
    if !expect.codes.iter().any(|expected| expected == code) {
        let expected = &expect.codes;
        return Err(format!(
            "code {code}, not {expected:?}: {:?}",
            reply.details
        ));
    }
    let fine = match expect.details_compare.as_str() {
        "exact" => reply.details == expect.details,
        "ignore" => true,
        other => other
            .strip_prefix("contains:")
            .is_some_and(|part| reply.details.contains(part)),
    };
    if !fine {
        let (expected, actual) = (&expect.details, &reply.details);
        return Err(format!("details: expected {expected:?}, got {actual:?}"));
    }
    let Some(expected) = expect.message.as_ref().filter(|_| reply.code == Code::Ok) else {
        return Ok(());
    };
    let descriptor = proto::response_type(method).ok_or(format!("no method {method}"))?;
    let comparison = Comparison {
        tolerance: expect.tolerance,
        ignored_fields: &expect.ignored_fields,
    };
    comparison.check_bytes(descriptor, expected, &reply.message)
}

/// The code's name in `error_codes.proto`.
pub(crate) fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
