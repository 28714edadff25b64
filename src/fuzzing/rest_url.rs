//! URLs of the REST API. The first byte chooses the method, the rest is the path with its query.

use std::fmt::Write;

use api::tfs::rest::{Route, is_api_path, route};
use base::id::{ModelSpec, VersionChoice};

/// Finds the route of a URL, and the same one from its canonical form.
pub fn check(data: &[u8]) {
    let Some((&selector, path)) = data.split_first() else {
        return;
    };
    // hyper passes on nothing else.
    let Ok(path) = std::str::from_utf8(path) else {
        return;
    };
    let method = ["GET", "POST", "PUT"][usize::from(selector) % 3];
    match route(method, path) {
        Ok(found) => {
            assert!(is_api_path(path), "a route outside of the API");
            let canonical = canonical(&found);
            let again = route(method, &canonical);
            let again = again.unwrap_or_else(|error| panic!("{canonical}: {error}"));
            assert_eq!(again, found, "{canonical}");
        }
        Err(error) => assert!(!error.to_string().is_empty(), "an error without a text"),
    }
}

/// A URL with this route: every special character escaped.
fn canonical(route: &Route) -> String {
    match route {
        Route::Predict(spec) => format!("{}:predict", model_path(spec)),
        Route::Classify(spec) => format!("{}:classify", model_path(spec)),
        Route::Regress(spec) => format!("{}:regress", model_path(spec)),
        Route::Metadata(spec) => format!("{}/metadata", model_path(spec)),
        Route::Status(spec) => model_path(spec),
        Route::Models => "/v1/models".to_owned(),
    }
}

fn model_path(spec: &ModelSpec) -> String {
    let mut path = "/v1/models".to_owned();
    if !spec.name.is_empty() {
        path.push('/');
        path.push_str(&escaped(&spec.name));
    }
    match &spec.version {
        None => path,
        Some(VersionChoice::Version(version)) => format!("{path}/versions/{version}"),
        Some(VersionChoice::Label(label)) => format!("{path}/labels/{}", escaped(label)),
    }
}

fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() {
            escaped.push(char::from(byte));
        } else {
            write!(escaped, "%{byte:02X}").expect("writing into a string cannot fail");
        }
    }
    escaped
}
