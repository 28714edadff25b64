//! `tensorflow.serving.Input`: examples, kept as the bytes they came in.
//!
//! Not here: what is in an example (`signature::example`).

use crate::inference::Examples;
use crate::proto::tensorflow::serving::internal::{
    SerializedExampleList, SerializedExampleListWithContext, SerializedInput,
    serialized_input::Kind,
};

/// The examples of a request; none where it has no input.
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
