//! Tests the codec with the specification's examples and with recorded exchanges.

mod agreement;
mod answers;
mod examples;
mod exchanges;
mod recorded;
mod requests;
mod syntax;

use super::{InputSpec, PredictBody, decode_by_both_readers, decode_predict};
use base::error::{Result, ServingError};
use base::tensor::DataType;

/// Inputs of a signature, by alias.
type Inputs<'a> = &'a [(&'a str, DataType)];

const X_FLOAT: Inputs<'_> = &[("x", DataType::Float)];

fn specs(inputs: Inputs<'_>) -> Vec<InputSpec> {
    let specs = inputs.iter().map(|&(alias, dtype)| InputSpec {
        alias: alias.to_owned(),
        is_optional: false,
        dtype,
        kept: Vec::new(),
    });
    specs.collect()
}

fn decode(inputs: Inputs<'_>, body: impl AsRef<[u8]>) -> Result<PredictBody> {
    decode_predict(body.as_ref(), |_| Ok(specs(inputs)))
}

/// Decodes with each reader alone; `None` if the fast one gives up.
fn decode_both(
    inputs: Inputs<'_>,
    body: &[u8],
) -> (Option<PredictBody>, Result<PredictBody, ServingError>) {
    decode_by_both_readers(body, |_| Ok(specs(inputs)))
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}
