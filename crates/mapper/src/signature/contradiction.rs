//! Inputs whose shapes are not those that the model declares.
//!
//! They are not refused: as in TensorFlow the graph decides, and many take more than they declare. Where a
//! kernel refuses one, its error is about a tensor deep in the graph, so this is added.

use super::{RequestInputs, RequestTensor, Signature};

/// An input and the shape that was declared for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contradiction {
    alias: String,
    sent: Vec<usize>,
    /// -1: any size.
    declared: Vec<i64>,
}

impl Signature {
    /// The inputs whose rank, or whose size where one is fixed, is not the declared one.
    pub fn contradictions(&self, inputs: &RequestInputs) -> Vec<Contradiction> {
        let mut found = Vec::new();
        for (alias, input) in inputs {
            let RequestTensor::Valid(tensor) = input else {
                continue;
            };
            let info = self.definition.inputs.get(alias);
            let shape = info.and_then(|it| it.tensor_shape.as_ref());
            let Some(shape) = shape.filter(|it| !it.unknown_rank) else {
                continue;
            };
            let sent = tensor.shape();
            let mut sizes = shape.dim.iter().zip(sent);
            let fits = sizes.all(|(dim, &sent)| {
                usize::try_from(dim.size).map_or(true, |declared| declared == sent)
            });
            if sent.len() != shape.dim.len() || !fits {
                found.push(Contradiction {
                    alias: alias.clone(),
                    sent: sent.to_vec(),
                    declared: shape.dim.iter().map(|it| it.size).collect(),
                });
            }
        }
        found
    }
}

impl std::fmt::Display for Contradiction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            alias,
            sent,
            declared,
        } = self;
        write!(
            f,
            "Input '{alias}' has the shape {}, the model declares {}",
            list(sent),
            list(declared)
        )
    }
}

/// Sizes as a list, which stays short: the client chooses how many there are.
fn list<T: ToString>(sizes: &[T]) -> String {
    const MAX_SHOWN: usize = 32;
    let mut shown: Vec<String> = sizes.iter().take(MAX_SHOWN).map(T::to_string).collect();
    if sizes.len() > MAX_SHOWN {
        shown.push("…".to_owned());
    }
    format!("[{}]", shown.join(","))
}
