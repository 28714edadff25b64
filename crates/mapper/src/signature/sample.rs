//! Requests that are made up from a signature: their shapes, and the body of one for REST.
//!
//! Not here: running them (`warmup`, `check`), reading bodies (`wire`).

use prost::Message;

use super::example_input::ExampleInput;
use super::mapping::{Input, Signature};
use super::matching::known_shape;
use super::{CLASSIFY_METHOD_NAME, DEFAULT_SIGNATURE_NAME, REGRESS_METHOD_NAME};
use base::error::{Result, ServingError};
use base::tensor::{DataType, element_count};
use codec::json::{base64, string};
use proto::tensorflow::{
    BytesList, Example, Feature, Features, FloatList, Int64List, feature::Kind,
};

/// Larger inputs are not written out.
const MAX_ELEMENTS: usize = 1 << 22;

impl Signature {
    /// The declared shape of an input, with 1 for each unknown size; `None` if its rank is unknown.
    pub fn sample_shape(&self, alias: &str) -> Option<Vec<usize>> {
        let shape = known_shape(self.definition.inputs.get(alias)?)?;
        let sizes = shape.into_iter();
        Some(
            sizes
                .map(|size| usize::try_from(size).unwrap_or(1))
                .collect(),
        )
    }

    /// The body of a valid REST request: zeros, empty strings and examples with all features. Inputs come row by
    /// row (`instances`) if all inputs and outputs have rows, else column by column (`inputs`).
    ///
    /// # Errors
    ///
    /// `INVALID_ARGUMENT` for an input of unknown rank, of a dtype that JSON cannot express, or too large.
    pub fn sample_body(&self) -> Result<String> {
        let mut body = String::from("{");
        if self.name != DEFAULT_SIGNATURE_NAME {
            body += &format!("\"signature_name\": {}, ", quoted(&self.name));
        }
        let takes_examples = [CLASSIFY_METHOD_NAME, REGRESS_METHOD_NAME];
        if takes_examples.contains(&self.method_name.as_str())
            && let Some(example) = self.examples.first()
        {
            body += &format!("\"examples\": [{}]}}\n", json_example(example));
            return Ok(body);
        }
        let sent: Vec<(usize, &Input)> = self.inputs.iter().enumerate().collect();
        let sent = sent
            .into_iter()
            .filter(|(_, it)| !it.graph_has_default && !it.is_optional);
        let sent: Vec<Sent<'_>> = sent
            .map(|(index, input)| self.sent(index, input))
            .collect::<Result<_>>()?;
        let answered = self.definition.outputs.values();
        // Parsed examples can come back in any number of rows.
        let by_row = !sent.is_empty()
            && self.examples.is_empty()
            && sent.iter().all(|it| it.has_rows)
            && answered.map(known_shape).all(is_of_rows);
        let values = sent.iter().map(|it| {
            let shape = if by_row {
                &it.shape[1..]
            } else {
                &it.shape[..]
            };
            (it.alias, nested(shape, &it.element))
        });
        let values: Vec<(&str, String)> = values.collect();
        let object = || {
            let members = values.iter();
            let members = members.map(|(alias, value)| format!("{}: {value}", quoted(alias)));
            format!("{{{}}}", members.collect::<Vec<_>>().join(", "))
        };
        body += &match (by_row, values.as_slice()) {
            (true, [(_, only)]) => format!("\"instances\": [{only}]}}\n"),
            (true, _) => format!("\"instances\": [{}]}}\n", object()),
            (false, _) => format!("\"inputs\": {}}}\n", object()),
        };
        Ok(body)
    }

    fn sent<'a>(&'a self, index: usize, input: &'a Input) -> Result<Sent<'a>> {
        let refused = |what: &str| {
            let text = format!(
                "signature '{}': its input '{}' {what}",
                self.name, input.alias
            );
            ServingError::invalid_argument(text)
        };
        let alias = input.alias.as_str();
        if let Some(example) = self.examples.iter().find(|it| it.input == index) {
            return Ok(Sent {
                alias,
                shape: vec![1],
                has_rows: true,
                element: json_bytes(&serialized_example(example)),
            });
        }
        let shape = self
            .sample_shape(alias)
            .ok_or_else(|| refused("has an unknown rank, so its shape would be a guess"))?;
        if element_count(&shape).is_none_or(|count| count > MAX_ELEMENTS) {
            return Err(refused("is too large to be written out"));
        }
        let declared = self.definition.inputs.get(alias).and_then(known_shape);
        let has_rows = is_of_rows(declared);
        let element = zero(input.dtype).ok_or_else(|| {
            refused(&format!(
                "is of dtype {}, which JSON requests cannot have",
                input.dtype
            ))
        })?;
        Ok(Sent {
            alias,
            shape,
            has_rows,
            element: element.to_owned(),
        })
    }
}

/// An input of a made-up request.
struct Sent<'a> {
    alias: &'a str,
    shape: Vec<usize>,
    /// Whether the first axis is one of any size.
    has_rows: bool,
    /// Each element, as JSON.
    element: String,
}

/// Whether the first axis of a declared shape is one of any size.
fn is_of_rows(shape: Option<Vec<i64>>) -> bool {
    shape.is_some_and(|it| it.first().is_some_and(|&size| size < 0))
}

/// A zero of a dtype that TensorFlow Serving reads from JSON.
fn zero(dtype: DataType) -> Option<&'static str> {
    Some(match dtype {
        DataType::Float | DataType::Double => "0.0",
        DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::UInt8
        | DataType::UInt32
        | DataType::UInt64 => "0",
        DataType::Bool => "false",
        DataType::String => "\"\"",
        _ => return None,
    })
}

/// Lists nested as `shape` says.
fn nested(shape: &[usize], element: &str) -> String {
    let Some((&size, rest)) = shape.split_first() else {
        return element.to_owned();
    };
    let inner = nested(rest, element);
    format!("[{}]", vec![inner.as_str(); size].join(", "))
}

fn quoted(text: &str) -> String {
    let mut out = Vec::new();
    string::write(text.as_bytes(), &mut out);
    String::from_utf8_lossy(&out).into_owned()
}

fn json_bytes(bytes: &[u8]) -> String {
    let mut out = Vec::new();
    base64::encode(bytes, &mut out);
    format!("{{\"b64\": \"{}\"}}", String::from_utf8_lossy(&out))
}

/// An example as Classify and Regress take it.
fn json_example(input: &ExampleInput) -> String {
    let features = input.spec.features().map(|(key, dtype, count)| {
        let element = zero(dtype).unwrap_or("\"\"");
        let value = match count {
            1 => element.to_owned(),
            _ => nested(&[count], element),
        };
        format!("{}: {value}", quoted(key))
    });
    format!("{{{}}}", features.collect::<Vec<_>>().join(", "))
}

/// The same example as Predict takes it.
fn serialized_example(input: &ExampleInput) -> Vec<u8> {
    let features = input.spec.features().map(|(key, dtype, count)| {
        let kind = match dtype {
            DataType::Float => Kind::FloatList(FloatList {
                value: vec![0.0; count],
            }),
            DataType::Int64 => Kind::Int64List(Int64List {
                value: vec![0; count],
            }),
            _ => Kind::BytesList(BytesList {
                value: vec![Default::default(); count],
            }),
        };
        (key.to_owned(), Feature { kind: Some(kind) })
    });
    let features = Features {
        feature: features.collect(),
    };
    let example = Example {
        features: Some(features),
    };
    example.encode_to_vec()
}
