//! The inputs of TensorFlow's parse nodes, `ParseExample` and `ParseExampleV2`. A node has the same inputs
//! in a TensorFlow graph and in an ONNX file in which a converter left it.
//!
//! Not here: reading nodes and constants (`onnx`, `mapper::signature`).

use base::tensor::Tensor;

const PARSE_EXAMPLE_V2: &str = "ParseExampleV2";

/// The types of parse nodes.
pub const PARSE_OPS: [&str; 2] = ["ParseExample", PARSE_EXAMPLE_V2];

/// Which features a parse node reads, in the node's order.
#[derive(Clone, Debug, PartialEq)]
pub struct ParseKeys {
    /// The keys of the sparse features.
    pub sparse: Vec<String>,
    /// The keys of the dense features.
    pub dense: Vec<String>,
    /// The keys of the ragged features.
    pub ragged: Vec<String>,
    /// The number of inputs before the defaults of the dense features.
    pub inputs_before_defaults: usize,
}

impl ParseKeys {
    /// The keys of a node of type `op`. `constant` returns the value of an input if it is a constant, and
    /// `count` the attribute of that name.
    ///
    /// `ParseExample` takes each key as an input of its own, `ParseExampleV2` one vector for each kind of
    /// feature. Returns `None` if a key is not a constant, or inputs are missing.
    pub fn read(
        op: &str,
        inputs: &[String],
        constant: impl Fn(&str) -> Option<Tensor>,
        count: impl Fn(&str) -> Option<usize>,
    ) -> Option<Self> {
        let keys = |input: &str| -> Option<Vec<String>> {
            let tensor = constant(input)?;
            let text = |key: &bytes::Bytes| String::from_utf8(key.to_vec()).ok();
            tensor.strings()?.iter().map(text).collect()
        };
        if takes_scalar(op) {
            let [_, _, sparse, dense, ragged, ..] = inputs else {
                return None;
            };
            return Some(Self {
                sparse: keys(sparse)?,
                dense: keys(dense)?,
                ragged: keys(ragged)?,
                inputs_before_defaults: 5,
            });
        }
        let (sparse, dense) = (count("Nsparse")?, count("Ndense")?);
        let inputs_before_defaults = sparse.checked_add(dense)?.checked_add(2)?;
        let names = inputs.get(2..inputs_before_defaults)?;
        let one = |name: &String| keys(name)?.into_iter().next();
        let mut sparse_keys = names.iter().map(one).collect::<Option<Vec<String>>>()?;
        let dense_keys = sparse_keys.split_off(sparse);
        Some(Self {
            sparse: sparse_keys,
            dense: dense_keys,
            ragged: Vec::new(),
            inputs_before_defaults,
        })
    }
}

/// Whether a parse node of type `op` also takes one example as a scalar.
pub fn takes_scalar(op: &str) -> bool {
    op == PARSE_EXAMPLE_V2
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    /// The input `a,b` is a constant vector of `a` and `b`; `?` is not a constant.
    fn constant(input: &str) -> Option<Tensor> {
        let keys: Vec<Bytes> = input.split(',').map(|it| it.to_owned().into()).collect();
        let keys: Vec<Bytes> = keys.into_iter().filter(|it| !it.is_empty()).collect();
        (input != "?").then(|| Tensor::from_strings(&[keys.len()], keys))?
    }

    fn read(op: &str, inputs: &[&str], counts: [usize; 2]) -> Option<ParseKeys> {
        let inputs: Vec<String> = inputs.iter().map(|&it| it.to_owned()).collect();
        ParseKeys::read(op, &inputs, constant, |name| match name {
            "Nsparse" => Some(counts[0]),
            "Ndense" => Some(counts[1]),
            _ => None,
        })
    }

    fn keys<const S: usize, const D: usize, const R: usize>(
        sparse: [&str; S],
        dense: [&str; D],
        ragged: [&str; R],
        inputs_before_defaults: usize,
    ) -> Option<ParseKeys> {
        Some(ParseKeys {
            sparse: sparse.map(str::to_owned).to_vec(),
            dense: dense.map(str::to_owned).to_vec(),
            ragged: ragged.map(str::to_owned).to_vec(),
            inputs_before_defaults,
        })
    }

    /// The inputs as `parsing_ops.cc` declares them.
    #[test]
    fn keys_are_inputs_of_their_own_or_vectors() {
        let inputs = ["serialized", "names", "s", "t", "d", "default"];
        assert_eq!(
            read("ParseExample", &inputs, [2, 1]),
            keys(["s", "t"], ["d"], [], 5)
        );
        let inputs = ["serialized", "names", "s,t", "d", "r", "default"];
        assert_eq!(
            read("ParseExampleV2", &inputs, [0, 0]),
            keys(["s", "t"], ["d"], ["r"], 5)
        );
        let inputs = ["serialized", "names", "", "", ""];
        assert_eq!(read("ParseExampleV2", &inputs, [0, 0]), keys([], [], [], 5));
    }

    #[test]
    fn keys_have_to_be_there_and_constant() {
        let inputs = ["serialized", "names", "s", "?"];
        assert_eq!(read("ParseExample", &inputs, [1, 1]), None);
        assert_eq!(read("ParseExample", &inputs, [2, 1]), None);
        assert_eq!(read("ParseExample", &inputs, [usize::MAX, 1]), None);
        assert_eq!(read("ParseExampleV2", &inputs, [0, 0]), None);
        let inputs = ["serialized", "names", "s", "d", "?"];
        assert_eq!(read("ParseExampleV2", &inputs, [0, 0]), None);
    }
}
