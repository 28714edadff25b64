//! Replays recorded predict exchanges through the codec, with the models computed by hand.

use super::exchanges::{EXCHANGES, Exchange};
use super::text;
use crate::tfs::json::{
    InputSpec, decode_predict, encode_predict, error_body, signature_not_found,
};
use base::error::{Code, Result};
use base::tensor::{DataType, NamedTensors, Tensor};

/// The models of the recordings, as far as these tests need them.
#[derive(Clone, Copy)]
pub(super) enum Model {
    /// `y = x / 2 + 2`, on floats.
    HalfPlusTwo,
    /// `y = x`, on elements of this type.
    Identity(DataType),
    /// Inputs `a` and `b`, both float; only its errors were recorded.
    Pair,
}

impl Model {
    fn inputs(self, signature: &str) -> Result<Vec<InputSpec>> {
        if signature == "nope" {
            return Err(signature_not_found(signature));
        }
        let (aliases, dtype): (&[&str], _) = match self {
            Self::HalfPlusTwo => (&["x"], DataType::Float),
            Self::Identity(dtype) => (&["x"], dtype),
            Self::Pair => (&["a", "b"], DataType::Float),
        };
        let specs = aliases.iter().map(|&alias| InputSpec {
            alias: alias.to_owned(),
            is_optional: false,
            dtype,
            kept: Vec::new(),
        });
        Ok(specs.collect())
    }

    fn run(self, mut inputs: NamedTensors) -> Tensor {
        let x = inputs.remove("x").unwrap();
        let Self::HalfPlusTwo = self else { return x };
        let y = x.as_slice::<f32>().unwrap().iter().map(|x| x * 0.5 + 2.0);
        Tensor::from_vec(x.shape(), y.collect()).unwrap()
    }

    fn answer(self, body: &[u8]) -> Result<Vec<u8>> {
        let request = decode_predict(body, |signature| self.inputs(signature))?;
        let y = self.run(request.inputs);
        encode_predict(&[("y".to_owned(), y)], request.format)
    }
}

#[test]
fn recorded_exchanges_are_answered_to_the_byte() {
    for &(name, model, body, status, expected) in EXCHANGES {
        let (code, answer) = match model.answer(body) {
            Ok(answer) => (200, answer),
            Err(error) => {
                let status = match error.code() {
                    Code::InvalidArgument => 400,
                    Code::Unimplemented => 501,
                    other => panic!("{name}: {other}"),
                };
                (status, error_body(&error.to_string()))
            }
        };
        assert_eq!(
            String::from_utf8_lossy(&answer),
            String::from_utf8_lossy(expected),
            "{name}"
        );
        assert_eq!(answer, expected, "{name}");
        assert_eq!(code, status, "{name}");
    }
}

#[test]
fn recorded_nesting_of_two_thousand_is_refused() {
    // Recorded: body_deep.
    let body = format!(
        r#"{{"instances": {}1.0{}}}"#,
        "[".repeat(2000),
        "]".repeat(2000)
    );
    let error = Model::HalfPlusTwo.answer(body.as_bytes()).unwrap_err();
    assert_eq!(error.to_string(), "tensor parsing error: x");
}

#[test]
fn recorded_outputs_of_several_tensors_are_laid_out() {
    // Recorded: multi_row, bytes_out_instances; members sorted here.
    let float = |values: &[f32]| Tensor::from_vec(&[2, 2], values.to_vec()).unwrap();
    let outputs = [
        ("prod".to_owned(), float(&[3.0, 8.0, 35.0, 48.0])),
        ("sum".to_owned(), float(&[4.0, 6.0, 12.0, 14.0])),
    ];
    let answer = encode_predict(&outputs, crate::tfs::json::Format::Row).unwrap();
    assert_eq!(
        text(answer),
        "{\n    \"predictions\": [\n        {\n            \"prod\": [3.0, 8.0],\n            \
         \"sum\": [4.0, 6.0]\n        },\n        {\n            \"prod\": [35.0, 48.0],\n            \
         \"sum\": [12.0, 14.0]\n        }\n    ]\n}"
    );
}

#[test]
fn exchange_table_is_not_empty() {
    let count = |wanted: fn(&Exchange) -> bool| EXCHANGES.iter().filter(|one| wanted(one)).count();
    assert!(count(|one| one.3 == 200) > 50);
    assert!(count(|one| one.3 != 200) > 50);
}
