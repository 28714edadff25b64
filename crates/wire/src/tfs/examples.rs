//! `tensorflow.serving.Input`: examples, kept in their serialized form.
//!
//! Not here: the content of an example (`codec::example`).

use bytes::Bytes;

use super::well_formed;
use base::error::{Result, ServingError};
use codec::proto_wire::Malformed;
use proto::tensorflow::serving::internal::{
    SerializedExampleList, SerializedExampleListWithContext, SerializedInput,
    serialized_input::Kind,
};
use serving::inference::Examples;

/// The examples of a request; none if it has no input.
pub fn from_proto(input: Option<SerializedInput>) -> Examples {
    match input.and_then(|input| input.kind) {
        None => Examples::default(),
        Some(Kind::ExampleList(list)) => Examples {
            examples: list.examples,
            context: None,
        },
        Some(Kind::ExampleListWithContext(list)) => Examples {
            examples: list.examples,
            context: Some(list.context).filter(|context| !context.is_empty()),
        },
    }
}

/// Checks that all examples are well-formed messages.
///
/// # Errors
///
/// `INTERNAL`, as in gRPC for a request that it cannot parse.
pub fn check(input: &Option<SerializedInput>) -> Result<()> {
    let check = |example: &Bytes| well_formed::check(example, &well_formed::EXAMPLE, None);
    serialized(input).try_for_each(check).map_err(|Malformed| {
        ServingError::internal("failed to decode the request: an Example is not a message")
    })
}

/// The length of all examples together.
pub fn bytes(input: &Option<SerializedInput>) -> usize {
    serialized(input).map(Bytes::len).sum()
}

/// The examples and their context.
fn serialized(input: &Option<SerializedInput>) -> impl Iterator<Item = &Bytes> {
    let (examples, context) = match input.as_ref().and_then(|input| input.kind.as_ref()) {
        None => (None, None),
        Some(Kind::ExampleList(list)) => (Some(&list.examples), None),
        Some(Kind::ExampleListWithContext(list)) => (Some(&list.examples), Some(&list.context)),
    };
    examples.into_iter().flatten().chain(context)
}

/// The examples as a message.
pub(super) fn to_proto(examples: Examples) -> SerializedInput {
    let Examples { examples, context } = examples;
    let kind = match context {
        None => Kind::ExampleList(SerializedExampleList { examples }),
        Some(context) => {
            Kind::ExampleListWithContext(SerializedExampleListWithContext { examples, context })
        }
    };
    SerializedInput { kind: Some(kind) }
}
