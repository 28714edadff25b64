//! Finds the graphs that take one number of rows only, so that batching leaves them alone.
//!
//! That a model declares a number says little: most kernels take any, and the loader drops declared
//! sizes. So the graph is asked, with zeros.
//!
//! Not here: graphs whose sizes nobody declared; their batches fail and are run one by one
//! (`batching`).

use crate::runtime::{Graph, RunControl};
use crate::signature::{Input, RequestInputs, RequestTensor, Signature};
use crate::tensor::{Tensor, element_count};

/// No input is made larger than this.
const MAX_ELEMENTS: usize = 1 << 24;

/// The number of rows that `signature` declares, where `graph` answers requests of so many rows
/// and none of twice as many. Runs the graph up to two times.
pub(super) fn fixed_rows(signature: &Signature, graph: &dyn Graph) -> Option<usize> {
    let Some(rows) = declared_rows(signature) else {
        tracing::debug!(
            signature = signature.name,
            "not asked for a fixed number of rows: its inputs declare none"
        );
        return None;
    };
    let is_fixed = answers(signature, graph, rows) && !answers(signature, graph, rows * 2);
    is_fixed.then_some(rows)
}

/// The size of dimension 0, where all inputs declare the same.
fn declared_rows(signature: &Signature) -> Option<usize> {
    let mut declared = needed(signature).map(|input| {
        let shape = declared_shape(signature, &input.alias)?;
        shape.first().copied().filter(|&rows| rows > 0)
    });
    let first = declared.next()??;
    let is_same = declared.all(|rows| rows == Some(first));
    let first = usize::try_from(first).ok()?;
    (is_same && first <= MAX_ELEMENTS).then_some(first)
}

/// The inputs that have to be fed.
fn needed(signature: &Signature) -> impl Iterator<Item = &Input> {
    let inputs = signature.inputs.iter();
    inputs.filter(|input| !input.graph_has_default)
}

/// Negative where a size is not fixed.
fn declared_shape(signature: &Signature, alias: &str) -> Option<Vec<i64>> {
    let info = signature.definition.inputs.get(alias)?;
    let shape = info.tensor_shape.as_ref()?;
    let is_known = !shape.unknown_rank;
    is_known.then(|| shape.dim.iter().map(|dim| dim.size).collect())
}

/// Whether the graph makes so many rows of outputs out of so many rows of zeros.
fn answers(signature: &Signature, graph: &dyn Graph, rows: usize) -> bool {
    let Some(inputs) = zeros(signature, rows) else {
        return false;
    };
    let Ok(call) = signature.bind(inputs, &signature.answerable_outputs()) else {
        return false;
    };
    let outputs = graph.run(&call.feeds, &call.fetches, &RunControl::default());
    outputs.is_ok_and(|outputs| {
        let mut outputs = outputs.iter();
        outputs.all(|output| output.shape().first() == Some(&rows))
    })
}

fn zeros(signature: &Signature, rows: usize) -> Option<RequestInputs> {
    let zeros = |alias: &String, dtype| {
        let sizes = declared_shape(signature, alias)?;
        let sizes = sizes.iter().skip(1);
        let sizes = sizes.map(|&size| usize::try_from(size).unwrap_or(1));
        let shape: Vec<usize> = std::iter::once(rows).chain(sizes).collect();
        element_count(&shape).filter(|&count| count <= MAX_ELEMENTS)?;
        let tensor = Tensor::zeros(dtype, &shape)?;
        Some((alias.clone(), RequestTensor::Valid(tensor)))
    };
    needed(signature)
        .map(|input| zeros(&input.alias, input.dtype))
        .collect()
}
