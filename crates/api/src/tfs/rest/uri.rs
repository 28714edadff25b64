//! Checks whether the target of a request is a URI. TensorFlow Serving parses targets by RFC 3986
//! (`evhttp_uri_parse`) and answers invalid ones with an HTML page, before it looks for a handler.
//!
//! Not here: the meaning of a path (`route`).

/// Whether path, query and fragment contain only characters that RFC 3986 allows.
pub(super) fn is_conforming(target: &str) -> bool {
    let (rest, fragment) = target.split_once('#').unwrap_or((target, ""));
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    holds_only(path, b"/") && holds_only(query, b"/?") && holds_only(fragment, b"/?")
}

/// Whether a part contains only the characters of a path segment, escapes and those in `more`.
fn holds_only(part: &str, more: &[u8]) -> bool {
    let mut bytes = part.bytes();
    while let Some(byte) = bytes.next() {
        let is_allowed = match byte {
            b'%' => {
                let digits = [bytes.next(), bytes.next()];
                digits
                    .iter()
                    .all(|digit| digit.is_some_and(|it| it.is_ascii_hexdigit()))
            }
            _ => {
                byte.is_ascii_alphanumeric()
                    || b"-._~!$&'()*+,;=:@".contains(&byte)
                    || more.contains(&byte)
            }
        };
        if !is_allowed {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_3986_decides() {
        for target in [
            "",
            "*",
            "/v1/models/m:predict",
            "/v1/models/a-b._~!$&'()*+,;=:@%2f%C3%bc",
            "/v1/models/m?a=/b?c",
            "/v1/models/m#f/g?h",
        ] {
            assert!(is_conforming(target), "{target}");
        }
        for target in [
            "/v1/models/ü",
            "/v1/models/a|b",
            "/v1/models/a[0]",
            "/v1/models/a\"b",
            "/v1/models/a{b}",
            "/v1/models/a^b",
            "/v1/models/a\\b",
            "/v1/models/a%",
            "/v1/models/a%2",
            "/v1/models/a%zz",
            "/v1/models/a?|",
            "/v1/models/a#b#c",
        ] {
            assert!(!is_conforming(target), "{target}");
        }
    }
}
