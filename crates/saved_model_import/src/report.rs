//! The parts of a signature that cannot be imported, in words.

use std::fmt;

use crate::translation::RefusedNode;

/// How many nodes an error lists.
const MAX_LISTED: usize = 50;

/// A signature that cannot be imported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The signature's name.
    pub signature: String,
    /// The missing parts; not empty.
    pub missing: Vec<Missing>,
}

/// A reason that keeps a signature from being imported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Missing {
    /// An operator that is not supported, and one of its nodes.
    Operator {
        /// TensorFlow's name.
        op: String,
        /// The node's name.
        node: String,
    },
    /// A supported operator that is not supported as it is used here.
    Use {
        /// TensorFlow's name.
        op: String,
        /// The node's name.
        node: String,
        /// In words that follow the operator's name.
        reason: String,
    },
    /// Something else, in a sentence.
    Other(String),
}

impl From<RefusedNode> for Missing {
    fn from(refused: RefusedNode) -> Self {
        let RefusedNode { op, node, reason } = refused;
        match reason {
            Some(reason) => Self::Use { op, node, reason },
            None => Self::Operator { op, node },
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let operators: Vec<String> = self
            .missing
            .iter()
            .filter_map(|it| match it {
                Missing::Operator { op, node } => Some(format!("{op} (node {node})")),
                _ => None,
            })
            .collect();
        let mut sentences = Vec::new();
        if !operators.is_empty() {
            sentences.push(format!(
                "needs TensorFlow's {}, which this server does not run; see \
                 docs/importing.md#unsupported-operators",
                listed(&operators)
            ));
        }
        let others: Vec<String> = self
            .missing
            .iter()
            .filter_map(|it| match it {
                Missing::Use { op, node, reason } => {
                    Some(format!("TensorFlow's {op} (node {node}) {reason}"))
                }
                Missing::Other(sentence) => Some(sentence.clone()),
                Missing::Operator { .. } => None,
            })
            .collect();
        if !others.is_empty() {
            sentences.push(format!("cannot be imported: {}", listed(&others)));
        }
        write!(
            f,
            "signature '{}' {}",
            self.signature,
            sentences.join("; it ")
        )
    }
}

fn listed(items: &[String]) -> String {
    match items {
        [] => String::new(),
        [only] => only.clone(),
        _ if items.len() > MAX_LISTED => format!(
            "{} and {} more",
            items[..MAX_LISTED].join(", "),
            items.len() - MAX_LISTED
        ),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}
