//! Formats a `SignatureDef` as text, for errors about it.
//!
//! The layout is that of protobuf's debug text; entries of maps are sorted. Fields that no signature of a
//! served model has (sparse and composite encodings, the type info of defaults) are left out: the text is
//! for people and is not parsed.

use std::fmt::{Result, Write};

use proto::tensorflow::{
    DataType, SignatureDef, TensorInfo, TensorShapeProto, tensor_info::Encoding,
};

/// The definition in text form, ending with a newline.
pub fn definition_text(definition: &SignatureDef) -> String {
    let mut text = String::new();
    write_definition(&mut text, definition).expect("writing into a string cannot fail");
    text
}

fn write_definition(text: &mut String, definition: &SignatureDef) -> Result {
    for (field, tensors) in [
        ("inputs", &definition.inputs),
        ("outputs", &definition.outputs),
    ] {
        for (alias, info) in tensors {
            writeln!(text, "{field} {{\n  key: {}\n  value {{", quoted(alias))?;
            write_tensor_info(text, info)?;
            writeln!(text, "  }}\n}}")?;
        }
    }
    if !definition.method_name.is_empty() {
        writeln!(text, "method_name: {}", quoted(&definition.method_name))?;
    }
    Ok(())
}

fn write_tensor_info(text: &mut String, info: &TensorInfo) -> Result {
    if let Some(Encoding::Name(name)) = &info.encoding {
        writeln!(text, "    name: {}", quoted(name))?;
    }
    match DataType::try_from(info.dtype) {
        Ok(DataType::DtInvalid) => {}
        Ok(dtype) => writeln!(text, "    dtype: {}", dtype.as_str_name())?,
        Err(_) => writeln!(text, "    dtype: {}", info.dtype)?,
    }
    match &info.tensor_shape {
        Some(shape) => write_shape(text, shape),
        None => Ok(()),
    }
}

fn write_shape(text: &mut String, shape: &TensorShapeProto) -> Result {
    writeln!(text, "    tensor_shape {{")?;
    for dim in &shape.dim {
        writeln!(text, "      dim {{")?;
        if dim.size != 0 {
            writeln!(text, "        size: {}", dim.size)?;
        }
        if !dim.name.is_empty() {
            writeln!(text, "        name: {}", quoted(&dim.name))?;
        }
        writeln!(text, "      }}")?;
    }
    if shape.unknown_rank {
        writeln!(text, "      unknown_rank: true")?;
    }
    writeln!(text, "    }}")
}

/// In quotes, with the escapes of Abseil's `CEscape`: bytes that are not printable ASCII in octal.
fn quoted(value: &str) -> String {
    let mut quoted = String::from("\"");
    for byte in value.bytes() {
        match byte {
            b'\n' | b'\r' | b'\t' | b'"' | b'\'' | b'\\' | b' '..=b'~' => {
                quoted.extend(std::ascii::escape_default(byte).map(char::from));
            }
            _ => write!(quoted, "\\{byte:03o}").expect("writing into a string cannot fail"),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::tensorflow::tensor_shape_proto::Dim;

    /// `grpc/080_cls_no_out` of the recorded exchanges, without the marker that protobuf puts in front to
    /// prevent parsing.
    #[test]
    fn text_is_laid_out_as_protobuf_does() {
        let dim = |size| Dim {
            size,
            ..Dim::default()
        };
        let info = |name: &str, dtype: DataType, dim| TensorInfo {
            encoding: Some(Encoding::Name(name.to_owned())),
            dtype: dtype as i32,
            tensor_shape: Some(TensorShapeProto {
                dim,
                unknown_rank: false,
            }),
        };
        let example = info("input_example_tensor:0", DataType::DtString, vec![dim(-1)]);
        let foo = info("x:0", DataType::DtFloat, vec![dim(-1), dim(1)]);
        let definition = SignatureDef {
            inputs: [("inputs".to_owned(), example)].into(),
            outputs: [("foo".to_owned(), foo)].into(),
            method_name: "tensorflow/serving/classify".to_owned(),
            ..SignatureDef::default()
        };
        assert_eq!(
            definition_text(&definition),
            "inputs {\n  key: \"inputs\"\n  value {\n    name: \"input_example_tensor:0\"\n    \
             dtype: DT_STRING\n    tensor_shape {\n      dim {\n        size: -1\n      }\n    \
             }\n  }\n}\noutputs {\n  key: \"foo\"\n  value {\n    name: \"x:0\"\n    dtype: \
             DT_FLOAT\n    tensor_shape {\n      dim {\n        size: -1\n      }\n      dim {\n        \
             size: 1\n      }\n    }\n  }\n}\nmethod_name: \"tensorflow/serving/classify\"\n"
        );
    }

    #[test]
    fn names_are_escaped() {
        // From Python's text_format.MessageToString(message, as_utf8=False).
        assert_eq!(
            quoted("a\"b'\\\n\r\t\u{e9}\u{1}1\u{7f}"),
            r#""a\"b\'\\\n\r\t\303\251\0011\177""#
        );
    }
}
