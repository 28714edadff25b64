//! Finds graphs that accept only one number of rows, or whose defaults have rows of their own, so that
//! they are not batched.
//!
//! A number that a model declares proves little: most kernels accept any, and the loader drops declared
//! sizes. The graph is therefore run on zeros.
//!
//! Not here: graphs without declared sizes; their batches fail and are then run one by one
//! (`batching`).

use std::collections::BTreeSet;

use base::tensor::{Tensor, element_count};
use mapper::signature::{Input, RequestInputs, RequestTensor, Signature};
use runtime::{Graph, RunControl};

/// The maximum number of elements of an input.
const MAX_ELEMENTS: usize = 1 << 24;
/// The maximum number of sizes to try for dimensions without a declared size.
const MAX_SIZES: usize = 8;

/// Returns the number of rows that `signature` declares if `graph` answers requests with this number
/// of rows but not with twice as many. Runs the graph up to two times.
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

/// Whether the number of rows in the outputs of `graph` depends on more than the request's rows: the default
/// of an input can have rows of its own, which are then added to each request's or to a whole batch.
/// Runs the graph a few times.
pub(super) fn defaults_have_rows(signature: &Signature, graph: &dyn Graph) -> bool {
    let with_default = signature.inputs.iter().filter(|it| it.graph_has_default);
    let defaults: Vec<Option<&Tensor>> = with_default.map(|it| it.default.as_ref()).collect();
    if defaults.is_empty() {
        return false;
    }
    let sizes = defaults.iter().flatten().flat_map(|it| it.shape());
    let sizes: BTreeSet<usize> = sizes.copied().collect();
    // A number of rows that is not a size of any default.
    let many = (2..).find(|rows| !sizes.contains(rows)).unwrap_or(2);
    let has_size = |it: &Option<&Tensor>| it.is_none_or(|it| it.len() != 1);
    let may_have_rows = defaults.iter().any(has_size);
    let sizes = sizes.into_iter().filter(|&size| size > 1);
    for free in std::iter::once(1).chain(sizes.take(MAX_SIZES)) {
        let asked = [1, many].map(|rows| answer(signature, graph, rows, free));
        if asked.contains(&TrialResult::Other) {
            return true;
        }
        if asked == [TrialResult::Rows, TrialResult::Rows] {
            return false;
        }
    }
    may_have_rows
}

/// The size of dimension 0, if all inputs declare the same.
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

/// Sizes that are not fixed are negative.
fn declared_shape(signature: &Signature, alias: &str) -> Option<Vec<i64>> {
    let info = signature.definition.inputs.get(alias)?;
    let shape = info.tensor_shape.as_ref()?;
    let is_known = !shape.unknown_rank;
    is_known.then(|| shape.dim.iter().map(|dim| dim.size).collect())
}

/// The result of running a graph on a number of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TrialResult {
    /// All outputs have as many rows as the inputs.
    Rows,
    /// Some outputs have another number of rows.
    Other,
    /// The run failed, or was not possible.
    Nothing,
}

/// Whether all outputs of the graph have `rows` rows if it is fed with `rows` rows of zeros.
fn answers(signature: &Signature, graph: &dyn Graph, rows: usize) -> bool {
    answer(signature, graph, rows, 1) == TrialResult::Rows
}

/// `free` is used as the size of dimensions without a declared size.
fn answer(signature: &Signature, graph: &dyn Graph, rows: usize, free: usize) -> TrialResult {
    let Some(inputs) = zeros(signature, rows, free) else {
        return TrialResult::Nothing;
    };
    let Ok(call) = signature.bind(inputs, &signature.answerable_outputs()) else {
        return TrialResult::Nothing;
    };
    let Ok(outputs) = graph.run(&call.feeds, &call.fetches, &RunControl::default()) else {
        return TrialResult::Nothing;
    };
    let mut outputs = outputs.iter();
    if outputs.all(|output| output.shape().first() == Some(&rows)) {
        TrialResult::Rows
    } else {
        TrialResult::Other
    }
}

fn zeros(signature: &Signature, rows: usize, free: usize) -> Option<RequestInputs> {
    let zeros = |alias: &String, dtype| {
        let sizes = declared_shape(signature, alias)?;
        let sizes = sizes.iter().skip(1);
        let sizes = sizes.map(|&size| usize::try_from(size).unwrap_or(free));
        let shape: Vec<usize> = std::iter::once(rows).chain(sizes).collect();
        element_count(&shape).filter(|&count| count <= MAX_ELEMENTS)?;
        let tensor = Tensor::zeros(dtype, &shape)?;
        Some((alias.clone(), RequestTensor::Valid(tensor)))
    };
    needed(signature)
        .map(|input| zeros(&input.alias, input.dtype))
        .collect()
}
