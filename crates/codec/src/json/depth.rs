//! Measures how deep a JSON text nests, for callers that want a limit. The readers need none: they
//! do not recurse, and a level needs less memory than its two bytes in the body.

/// Whether lists and objects nest deeper than `max`. Looks only at brackets outside strings, and
/// leaves text that is not JSON to the readers.
pub fn is_deeper_than(text: &[u8], max: usize) -> bool {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in text {
        if in_string {
            in_string = escaped || *byte != b'"';
            escaped = !escaped && *byte == b'\\';
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'[' | b'{' => {
                depth += 1;
                if depth > max {
                    return true;
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_outside_strings_count() {
        for (text, depth) in [
            ("1", 0),
            ("[]", 1),
            (r#"{"a": [[1], [2]], "b": {}}"#, 3),
            (r#"["[[[[", "\"[[[", "\\", [1]]"#, 2),
            ("]]][", 1),
        ] {
            assert!(!is_deeper_than(text.as_bytes(), depth), "{text}");
            assert!(
                depth == 0 || is_deeper_than(text.as_bytes(), depth - 1),
                "{text}"
            );
        }
    }
}
