//! The URL grammar of the REST API (`http_rest_api_util.cc`, `http_rest_api_handler.cc`).
//!
//! TensorFlow Serving matches two regular expressions, case-insensitively, on the undecoded path with its
//! query; the code here implements those expressions.

use base::error::{Result, ServingError};
use base::id::{ModelSpec, VersionChoice};

/// The kind of a request, from its URL.
#[derive(Clone, Debug, PartialEq)]
pub enum Route {
    /// `:predict` of a model.
    Predict(ModelSpec),
    /// `:classify` of a model.
    Classify(ModelSpec),
    /// `:regress` of a model.
    Regress(ModelSpec),
    /// Metadata of a model.
    Metadata(ModelSpec),
    /// States of a model's versions.
    Status(ModelSpec),
    /// `GET /v1/models`: states of all models. An error in TensorFlow Serving.
    Models,
}

impl Route {
    /// The model's name, decoded.
    pub(super) fn model(&self) -> &str {
        match self {
            Self::Predict(spec)
            | Self::Classify(spec)
            | Self::Regress(spec)
            | Self::Metadata(spec)
            | Self::Status(spec) => &spec.name,
            Self::Models => "",
        }
    }
}

/// Whether a path (with its query) belongs to the REST API: `(?i)/v1/.*`.
pub fn is_api_path(path: &str) -> bool {
    strip_prefix_ignore_case(path, "/v1/").is_some()
}

/// Finds the route of a request. `path` includes the query, undecoded.
///
/// # Errors
///
/// `INVALID_ARGUMENT` with TensorFlow Serving's text, except for a version beyond int64, where TensorFlow
/// Serving answers without a body.
pub fn route(method: &str, path: &str) -> Result<Route> {
    let matched = match method {
        "POST" => match_post(path),
        "GET" => match_get(path),
        _ => None,
    };
    let Some(matched) = matched else {
        return Err(malformed(method, path));
    };
    let name = matched.name.map(unescape).unwrap_or_default();
    let version = match (matched.version, matched.label) {
        (Some(digits), _) => Some(VersionChoice::Version(version(digits)?)),
        (None, Some(label)) => Some(VersionChoice::Label(unescape(label))),
        (None, None) => None,
    };
    let spec = ModelSpec { name, version };
    // The expressions ignore case, but the verbs are compared exactly: the verb of a POST has to be right,
    // a GET falls back to the status.
    match (method, matched.verb) {
        ("POST", Some("predict")) => Ok(Route::Predict(spec)),
        ("POST", Some("classify")) => Ok(Route::Classify(spec)),
        ("POST", Some("regress")) => Ok(Route::Regress(spec)),
        ("POST", _) => Err(malformed(method, path)),
        (_, Some("metadata")) => Ok(Route::Metadata(spec)),
        _ if spec.name.is_empty() && spec.version.is_none() => Ok(Route::Models),
        _ if spec.name.is_empty() => Err(missing_name()),
        _ => Ok(Route::Status(spec)),
    }
}

/// Also TensorFlow Serving's answer to [`Route::Models`].
pub(super) fn missing_name() -> ServingError {
    ServingError::invalid_argument("Missing model name in request.")
}

fn malformed(method: &str, path: &str) -> ServingError {
    ServingError::invalid_argument(format!("Malformed request: {method} {path}"))
}

fn version(digits: &str) -> Result<i64> {
    // The text that TensorFlow Serving logs.
    digits.parse().map_err(|_| {
        ServingError::invalid_argument(format!("Failed to convert version: {digits} to numeric."))
    })
}

/// The groups of both expressions.
#[derive(Default)]
struct Matched<'a> {
    name: Option<&'a str>,
    version: Option<&'a str>,
    label: Option<&'a str>,
    verb: Option<&'a str>,
}

/// `/v1/models/([^/:]+)(?:(?:/versions/(\d+))|(?:/labels/([^/:]+)))?:(classify|regress|predict)`
fn match_post(path: &str) -> Option<Matched<'_>> {
    let rest = strip_prefix_ignore_case(path, "/v1/models/")?;
    let (name, rest) = take_segment(rest)?;
    let (version, label, rest) = take_version_choice(rest);
    let verb = rest.strip_prefix(':')?;
    let known = ["classify", "regress", "predict"];
    known
        .iter()
        .any(|it| it.eq_ignore_ascii_case(verb))
        .then_some(Matched {
            name: Some(name),
            version,
            label,
            verb: Some(verb),
        })
}

/// `/v1/models(?:/([^/:]+))?(?:(?:/versions/(\d+))|(?:/labels/([^/:]+)))?(?:\/(metadata))?`
fn match_get(path: &str) -> Option<Matched<'_>> {
    let rest = strip_prefix_ignore_case(path, "/v1/models")?;
    // The name is matched if the rest can still match after it, otherwise it is left out.
    let with_name = rest
        .strip_prefix('/')
        .and_then(take_segment)
        .and_then(|(name, rest)| {
            Some(Matched {
                name: Some(name),
                ..match_get_tail(rest)?
            })
        });
    with_name.or_else(|| match_get_tail(rest))
}

fn match_get_tail(rest: &str) -> Option<Matched<'_>> {
    let (version, label, rest) = take_version_choice(rest);
    let verb = match rest.strip_prefix('/') {
        None if rest.is_empty() => None,
        Some(verb) if verb.eq_ignore_ascii_case("metadata") => Some(verb),
        _ => return None,
    };
    Some(Matched {
        name: None,
        version,
        label,
        verb,
    })
}

/// `(?:(?:/versions/(\d+))|(?:/labels/([^/:]+)))?`, greedy; the rest comes last.
fn take_version_choice(rest: &str) -> (Option<&str>, Option<&str>, &str) {
    if let Some(digits) = strip_prefix_ignore_case(rest, "/versions/") {
        let end = digits
            .find(|it: char| !it.is_ascii_digit())
            .unwrap_or(digits.len());
        if end > 0 {
            return (Some(&digits[..end]), None, &digits[end..]);
        }
    }
    if let Some((label, rest)) = strip_prefix_ignore_case(rest, "/labels/").and_then(take_segment) {
        return (None, Some(label), rest);
    }
    (None, None, rest)
}

/// `([^/:]+)`
fn take_segment(rest: &str) -> Option<(&str, &str)> {
    let end = rest.find(['/', ':']).unwrap_or(rest.len());
    (end > 0).then(|| rest.split_at(end))
}

fn strip_prefix_ignore_case<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let (head, tail) = text.split_at_checked(prefix.len())?;
    head.eq_ignore_ascii_case(prefix).then_some(tail)
}

/// Percent-decoding as in libcurl: only `%XX` is decoded, the rest stays. A result that is not UTF-8 is the
/// name of no model.
fn unescape(text: &str) -> String {
    if !text.contains('%') {
        return text.to_owned();
    }
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut index = 0;
    while index < bytes.len() {
        let hex = |at: usize| {
            bytes
                .get(at)
                .and_then(|&digit| (digit as char).to_digit(16))
        };
        match (bytes[index], hex(index + 1), hex(index + 2)) {
            (b'%', Some(high), Some(low)) => {
                decoded.push((high * 16 + low) as u8);
                index += 3;
            }
            (byte, ..) => {
                decoded.push(byte);
                index += 1;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(name: &str) -> ModelSpec {
        ModelSpec {
            name: name.to_owned(),
            version: None,
        }
    }

    fn version(name: &str, number: i64) -> ModelSpec {
        ModelSpec {
            version: Some(VersionChoice::Version(number)),
            ..spec(name)
        }
    }

    fn label(name: &str, label: &str) -> ModelSpec {
        ModelSpec {
            version: Some(VersionChoice::Label(label.to_owned())),
            ..spec(name)
        }
    }

    // The table of rest.md, section 2, and http_rest_api_util_test.cc.
    #[test]
    fn urls_have_the_original_routes() {
        let cases = [
            ("POST", "/v1/models/m:predict", Route::Predict(spec("m"))),
            (
                "POST",
                "/v1/models/m/versions/007:classify",
                Route::Classify(version("m", 7)),
            ),
            (
                "POST",
                "/v1/models/m/labels/x%2Fy:regress",
                Route::Regress(label("m", "x/y")),
            ),
            (
                "POST",
                "/V1/Models/a%3Ab:predict",
                Route::Predict(spec("a:b")),
            ),
            (
                "POST",
                "/v1/models/a+b%zz:predict",
                Route::Predict(spec("a+b%zz")),
            ),
            ("GET", "/V1/Models/m", Route::Status(spec("m"))),
            ("GET", "/v1/models/m?x=1", Route::Status(spec("m?x=1"))),
            ("GET", "/v1/models/m/METADATA", Route::Status(spec("m"))),
            ("GET", "/v1/models/m/metadata", Route::Metadata(spec("m"))),
            (
                "GET",
                "/v1/models/metadata",
                Route::Status(spec("metadata")),
            ),
            (
                "GET",
                "/v1/models/m/versions/1/metadata",
                Route::Metadata(version("m", 1)),
            ),
            (
                "GET",
                "/v1/models/m/labels/l/metadata",
                Route::Metadata(label("m", "l")),
            ),
            (
                "GET",
                "/v1/models/m/labels/l",
                Route::Status(label("m", "l")),
            ),
        ];
        for (method, path, expected) in cases {
            assert_eq!(route(method, path).unwrap(), expected, "{method} {path}");
        }
    }

    #[test]
    fn other_urls_are_malformed() {
        let cases = [
            ("POST", "/v1/models/m:PREDICT"),
            ("POST", "/v1/models/m:predict?x=1"),
            ("POST", "/v1/models/m/metadata"),
            ("POST", "/v1/models/m/versions/1/labels/x:predict"),
            ("POST", "/v1/models/m/versions/HELLO:regress"),
            ("POST", "/v1/models/:predict"),
            ("GET", "/v1/models/"),
            ("GET", "/v1/models/m:predict"),
            ("GET", "/v1/foo"),
            ("DELETE", "/v1/models/m"),
        ];
        for (method, path) in cases {
            let error = route(method, path).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("Malformed request: {method} {path}")
            );
        }
    }

    #[test]
    fn a_missing_name_is_told() {
        assert_eq!(route("GET", "/v1/models").unwrap(), Route::Models);
        for path in ["/v1/models/versions/1", "/v1/models/labels/x"] {
            let error = route("GET", path).unwrap_err();
            assert_eq!(error.to_string(), "Missing model name in request.");
        }
    }

    // The recorded answer is 400 without a body; the text is the one that TensorFlow Serving logs.
    #[test]
    fn a_version_beyond_int64_is_told() {
        let path = "/v1/models/m/versions/18446744073709551615:predict";
        assert_eq!(
            route("POST", path).unwrap_err().to_string(),
            "Failed to convert version: 18446744073709551615 to numeric."
        );
    }

    #[test]
    fn names_that_are_not_utf8_name_nothing() {
        let route = route("GET", "/v1/models/a%FFb").unwrap();
        assert_eq!(route, Route::Status(spec("a\u{fffd}b")));
    }
}
