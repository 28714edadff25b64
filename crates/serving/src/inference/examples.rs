//! Converts the examples of a `Classify`, `Regress` or `MultiInference` into the one tensor that such
//! a signature takes.
//!
//! Not here: the contents of an example (`codec::example`).

use std::collections::BTreeMap;
use std::time::Instant;

use bytes::Bytes;

use crate::servable::{Expansion, ExpansionBudget};
use base::error::{Code, Result, ServingError};
use base::tensor::Tensor;
use mapper::signature::{RequestInputs, RequestTensor};

/// The alias of the input that takes the examples (`kClassifyInputs`, `kRegressInputs`).
pub(super) const INPUTS: &str = "inputs";

/// The context is repeated for every example. All copies together are limited to this much memory,
/// or to [`EXPANSION`] times the request if that is more.
const MAX_BYTES: usize = 64 << 20;
const EXPANSION: usize = 16;

/// A request to classify or to regress, for a servable that is already resolved.
#[derive(Clone, Debug)]
pub struct ExamplesRequest {
    /// Empty for `serving_default`.
    pub signature_name: String,
    /// The examples to classify or to regress.
    pub examples: Examples,
    /// When the client stops waiting.
    pub deadline: Option<Instant>,
}

/// Serialized `tensorflow.Example` messages, not parsed. Counterpart of
/// `tensorflow.serving.Input`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Examples {
    /// One for each result.
    pub examples: Vec<Bytes>,
    /// Features that all examples share. An example's own feature takes precedence.
    pub context: Option<Bytes>,
}

impl Examples {
    /// The string tensor `[n]` for the graph's input, under its alias. An example with context is the
    /// concatenation of both, which is how protobuf merges messages.
    ///
    /// # Errors
    ///
    /// `INVALID_ARGUMENT` if the request has no examples (`InputToSerializedExampleTensor`, `util.cc`);
    /// `RESOURCE_EXHAUSTED` if repeating the context needs too much memory, for this request or for
    /// all requests together.
    pub(super) fn to_inputs<'a>(
        &self,
        budget: &'a ExpansionBudget,
    ) -> Result<(RequestInputs, Expansion<'a>)> {
        if self.examples.is_empty() {
            return Err(ServingError::invalid_argument("Input is empty."));
        }
        let (serialized, expansion) = match &self.context {
            Some(context) if !context.is_empty() => self.with_context(context, budget)?,
            _ => (self.examples.clone(), budget.hold(0)?),
        };
        let tensor = Tensor::from_strings(&[self.examples.len()], serialized)
            .ok_or_else(|| ServingError::internal("as many strings as examples are needed"))?;
        let inputs = BTreeMap::from([(INPUTS.to_owned(), RequestTensor::Valid(tensor))]);
        Ok((inputs, expansion))
    }

    /// Repeats the context within a limit: a small request can ask for a long context and many examples.
    fn with_context<'a>(
        &self,
        context: &Bytes,
        budget: &'a ExpansionBudget,
    ) -> Result<(Vec<Bytes>, Expansion<'a>)> {
        let own: usize = self.examples.iter().map(Bytes::len).sum();
        let repeated = context.len().saturating_mul(self.examples.len());
        let request = own.saturating_add(context.len());
        let max_bytes = MAX_BYTES.max(request.saturating_mul(EXPANSION));
        if own.saturating_add(repeated) > max_bytes {
            return Err(ServingError::new(
                Code::ResourceExhausted,
                format!("the examples with their context take more than {max_bytes} bytes"),
            ));
        }
        let expansion = budget.hold(own.saturating_add(repeated))?;
        let joined = |example: &Bytes| [context.as_ref(), example.as_ref()].concat().into();
        Ok((self.examples.iter().map(joined).collect(), expansion))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn context_in_front_of_too_many_examples_is_refused() {
        let examples = Examples {
            examples: vec![Bytes::new(); 1 << 16],
            context: Some(Bytes::from(vec![0; 1 << 15])),
        };
        let budget = ExpansionBudget::unbounded();
        let error = examples.to_inputs(&budget).unwrap_err();
        assert_eq!(error.code(), Code::ResourceExhausted);
    }
}
