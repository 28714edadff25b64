//! The OpenAPI description of the REST API.

use bytes::Bytes;
use http::{Response, StatusCode};

use crate::http_reply::{JSON, response};

/// The path of the description, which TensorFlow Serving does not use.
pub(super) const PATH: &str = "/openapi.json";

/// An OpenAPI 3.1 document. It applies to every model, so it is the same for every server.
const DOCUMENT: &str = include_str!("openapi.json");

/// Answers with the document.
pub(super) fn document() -> Response<Bytes> {
    let document = Bytes::from_static(DOCUMENT.as_bytes());
    response(StatusCode::OK, JSON, document)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::tfs::rest::route::route;

    #[test]
    fn every_path_of_the_api_has_a_route() {
        let document: Value = serde_json::from_str(DOCUMENT).unwrap();
        assert_eq!(document["openapi"], "3.1.0");
        let mut count = 0;
        for (path, operations) in document["paths"].as_object().unwrap() {
            if !path.starts_with("/v1/") {
                continue;
            }
            let url = path
                .replace("{model}", "m")
                .replace("{version}", "1")
                .replace("{label}", "stable");
            for method in operations.as_object().unwrap().keys() {
                let method = method.to_ascii_uppercase();
                if method != "PARAMETERS" {
                    route(&method, &url).unwrap();
                    count += 1;
                }
            }
        }
        // Three verbs, the status and the metadata, each by model, version and label; and the list.
        assert_eq!(count, 16);
    }
}
