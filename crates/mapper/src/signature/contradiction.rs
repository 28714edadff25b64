//! Finds inputs whose shapes differ from those that the model declares.
//!
//! Such inputs are not refused. As in TensorFlow, the graph decides, and many graphs accept more than they
//! declare. If a kernel refuses one, its error is about a tensor deep inside the graph, so the server adds
//! this text.

use super::{FeatureTensor, Feed, RequestInputs, RequestTensor, Signature};
use base::tensor::Tensor;

/// An input, or a feature of the examples in one, with the shape that was sent and the shape that was
/// declared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contradiction {
    alias: String,
    /// The key of the feature, if the input takes examples.
    feature: Option<String>,
    sent: Vec<usize>,
    /// -1: any size.
    declared: Vec<i64>,
    declared_by: DeclaredBy,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DeclaredBy {
    Signature,
    Graph,
}

impl Signature {
    /// The inputs whose rank differs from the declared one, or whose size differs in a dimension of fixed
    /// size.
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
            let declared = || shape.dim.iter().map(|it| it.size);
            if !fits(sent, declared()) {
                found.push(Contradiction {
                    alias: alias.clone(),
                    feature: None,
                    sent: sent.to_vec(),
                    declared: declared().collect(),
                    declared_by: DeclaredBy::Signature,
                });
            }
        }
        found
    }

    /// The same for the tensors that feed the graph, compared with the shapes that the graph itself
    /// declares: a signature can declare less, and does not declare features.
    pub fn graph_contradictions(&self, feeds: &[Tensor]) -> Vec<Contradiction> {
        let mut found = Vec::new();
        for ((feed, tensor), declared) in self.feeds.iter().zip(feeds).zip(&self.declared_shapes) {
            let declared = declared.as_ref();
            let Some(declared) = declared.filter(|it| !fits(tensor.shape(), it.iter().copied()))
            else {
                continue;
            };
            let (index, feature) = match *feed {
                Feed::Input(index) => (index, None),
                Feed::Feature(example, FeatureTensor::Dense(dense)) => {
                    let example = &self.examples[example];
                    let key = example.spec.dense_key(dense).map(str::to_owned);
                    (example.input, key)
                }
                // Sparse and ragged features do not have a shape of their own.
                Feed::Feature(..) => continue,
            };
            found.push(Contradiction {
                alias: self.inputs[index].alias.clone(),
                feature,
                sent: tensor.shape().to_vec(),
                declared: declared.clone(),
                declared_by: DeclaredBy::Graph,
            });
        }
        found
    }
}

/// Whether a shape has the declared rank, and the declared size in each dimension that has one.
fn fits(sent: &[usize], declared: impl ExactSizeIterator<Item = i64>) -> bool {
    sent.len() == declared.len()
        && sent
            .iter()
            .zip(declared)
            .all(|(&sent, declared)| usize::try_from(declared).map_or(true, |it| it == sent))
}

impl Contradiction {
    /// Whether both are about the same input.
    pub fn is_of_input_of(&self, other: &Self) -> bool {
        self.alias == other.alias && self.feature == other.feature
    }
}

impl std::fmt::Display for Contradiction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.feature {
            Some(feature) => write!(f, "Feature '{feature}' of input '{}'", self.alias)?,
            None => write!(f, "Input '{}'", self.alias)?,
        }
        let declared_by = match self.declared_by {
            DeclaredBy::Signature => "model",
            DeclaredBy::Graph => "graph",
        };
        write!(
            f,
            " has the shape {}, the {declared_by} declares {}",
            list(&self.sent),
            list(&self.declared)
        )
    }
}

/// Formats sizes as a list. The list is cut because the client decides how many sizes there are.
fn list<T: ToString>(sizes: &[T]) -> String {
    const MAX_SHOWN: usize = 32;
    let mut shown: Vec<String> = sizes.iter().take(MAX_SHOWN).map(T::to_string).collect();
    if sizes.len() > MAX_SHOWN {
        shown.push("…".to_owned());
    }
    format!("[{}]", shown.join(","))
}
