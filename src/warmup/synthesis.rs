//! Makes up one request for each signature: zeros of the declared shapes.
//!
//! Not here: a version's recorded requests (`warmup::replay`).

use std::time::{Duration, Instant};

use tracing::{info, warn};

use base::tensor::{Tensor, element_count};
use mapper::signature::{Input, RequestInputs, RequestTensor, Signature};
use serving::servable::{ExpansionBudget, ServableHandle};

/// The time limit for all runs together.
const MAX_TIME: Duration = Duration::from_secs(5);
/// The largest input that is made, in elements.
const MAX_ELEMENTS: usize = 1 << 24;

/// Runs each signature once, except for those that take examples, whose features cannot be guessed. A
/// run that fails is logged and fails nothing, because the model might not accept zeros.
pub(super) async fn run_once(servable: &ServableHandle) {
    let deadline = Instant::now() + MAX_TIME;
    for signature in servable.signatures() {
        if Instant::now() >= deadline {
            return;
        }
        let Some(inputs) = zeros(signature) else {
            let (id, name) = (&servable.id, &signature.name);
            info!(%id, signature = name, "warmup skipped: no request can be made up from its inputs");
            continue;
        };
        let budget = ExpansionBudget::unbounded();
        let outputs = signature.answerable_outputs();
        let run = servable.run(&signature.name, inputs, &outputs, Some(deadline), &budget);
        if let Err(error) = run.await {
            let (id, name) = (&servable.id, &signature.name);
            let (code, report) = (error.code(), error.report());
            warn!(
                %id,
                signature = name,
                "the signature failed on a made-up warmup request (zeros of the declared shapes), \
                 requests might fail alike: {code}: {report}"
            );
        }
    }
}

/// Zeros and empty strings for all inputs except those for which the graph has a default; `None` for
/// examples and for inputs of unknown rank, which are not guessed.
fn zeros(signature: &Signature) -> Option<RequestInputs> {
    if !signature.examples.is_empty() {
        return None;
    }
    let zeros = |input: &Input| {
        let shape = signature.sample_shape(&input.alias)?;
        element_count(&shape).filter(|&count| count <= MAX_ELEMENTS)?;
        let tensor = Tensor::zeros(input.dtype, &shape)?;
        Some((input.alias.clone(), RequestTensor::Valid(tensor)))
    };
    let needed = signature.inputs.iter();
    let needed = needed.filter(|input| !input.graph_has_default);
    needed.map(zeros).collect()
}
