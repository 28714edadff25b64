//! Results of `:classify` and `:regress`, and errors, as JSON (`json_tensor.cc`).

use base::error::{Result, ServingError};
use codec::json::float_text::write_f32;
use codec::json::string;
use codec::json::writer::{Lists, close_object, new_line, open_object, write_list};

/// Encodes the classes (label and score) of every example.
///
/// # Errors
///
/// `INVALID_ARGUMENT` without any examples.
pub fn encode_classifications<'a, E, C>(examples: E) -> Result<Vec<u8>>
where
    E: IntoIterator<Item = C>,
    C: IntoIterator<Item = (&'a [u8], f32)>,
{
    let mut out = Vec::new();
    open_object("results", 0, &mut out);
    out.push(b'[');
    let mut any = false;
    for classes in examples {
        if any {
            out.extend_from_slice(b", ");
        }
        any = true;
        write_list(
            classes,
            Lists::SingleLine,
            2,
            &mut out,
            |(label, score), out| {
                out.push(b'[');
                string::write(label, out);
                out.extend_from_slice(b", ");
                write_f32(score, out);
                out.push(b']');
            },
        );
    }
    if !any {
        return Err(ServingError::invalid_argument(
            "Cannot convert empty ClassificationResults to JSON",
        ));
    }
    // Only the outermost list ends as if it had one element per line.
    new_line(1, &mut out);
    out.push(b']');
    close_object(0, &mut out);
    Ok(out)
}

/// Encodes the value of every example.
///
/// # Errors
///
/// `INVALID_ARGUMENT` without any values.
pub fn encode_regressions(values: &[f32]) -> Result<Vec<u8>> {
    if values.is_empty() {
        return Err(ServingError::invalid_argument(
            "Cannot convert empty RegressionResults to JSON",
        ));
    }
    let mut out = Vec::new();
    open_object("results", 0, &mut out);
    write_list(values, Lists::SingleLine, 1, &mut out, |&value, out| {
        write_f32(value, out);
    });
    close_object(0, &mut out);
    Ok(out)
}

/// The longest message of an error answer, in bytes before escaping. A message quotes text from the client,
/// such as names of inputs, which can be as long as the request.
const MAX_MESSAGE_BYTES: usize = 128 << 10;

/// The body of an error answer. A message longer than 128 KiB is cut.
pub fn error_body(message: &str) -> Vec<u8> {
    let shown = &message[..message.floor_char_boundary(MAX_MESSAGE_BYTES)];
    let mut out = Vec::with_capacity(shown.len() + 32);
    open_object("error", 0, &mut out);
    string::write(shown.as_bytes(), &mut out);
    close_object(0, &mut out);
    out
}
