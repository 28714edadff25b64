//! TensorFlow's operators: one function for each, or for a group that differs by a name.
//!
//! A function gets a node with its translated inputs, adds ONNX nodes, and returns the outputs. It refuses a node if
//! it cannot prove its translation to be right.

mod activation;
mod arg;
mod array;
mod as_string;
mod binary;
mod blocks;
mod boxes;
mod cast;
mod class_boxes;
mod compare;
mod complex;
mod compress;
mod control;
mod conv;
mod conv_transpose;
mod crop;
mod cumulative;
mod diagonal;
mod einsum;
mod error_function;
mod example;
mod fill;
mod gather;
mod image;
mod integer;
mod join;
pub(crate) mod list;
mod norm;
mod pad;
mod places;
mod pool;
mod product;
mod quantize;
mod random;
mod reduce;
mod resample;
mod scatter;
mod scored_boxes;
mod segment;
mod select;
mod set;
mod signal;
mod slice;
mod soft_boxes;
mod spatial;
mod special;
mod strided;
mod string;
mod table;
mod top_k;
mod unary;
mod windows;

use crate::op::Op;
use crate::refusal::Refusal;

pub(crate) use crate::translation::Rule;

/// The rows of one module.
type Table = &'static [(&'static str, Rule)];

/// All tables.
const TABLES: &[Table] = &[
    crate::structure::TABLE,
    activation::TABLE,
    arg::TABLE,
    array::TABLE,
    as_string::TABLE,
    binary::TABLE,
    blocks::TABLE,
    boxes::TABLE,
    cast::TABLE,
    class_boxes::TABLE,
    compare::TABLE,
    complex::TABLE,
    control::TABLE,
    conv::TABLE,
    conv_transpose::TABLE,
    cumulative::TABLE,
    crop::TABLE,
    diagonal::TABLE,
    einsum::TABLE,
    error_function::TABLE,
    example::TABLE,
    fill::TABLE,
    gather::TABLE,
    image::TABLE,
    integer::TABLE,
    join::TABLE,
    list::TABLE,
    norm::TABLE,
    pad::TABLE,
    places::TABLE,
    pool::TABLE,
    product::TABLE,
    quantize::TABLE,
    random::TABLE,
    reduce::TABLE,
    scatter::TABLE,
    segment::TABLE,
    select::TABLE,
    set::TABLE,
    signal::TABLE,
    slice::TABLE,
    special::TABLE,
    strided::TABLE,
    string::TABLE,
    table::TABLE,
    top_k::TABLE,
    unary::TABLE,
];

/// The rule for an operator; `None` if it is not supported.
pub(crate) fn rule(op: &str) -> Option<Rule> {
    let mut rows = TABLES.iter().flat_map(|it| it.iter());
    rows.find(|(name, _)| *name == op).map(|(_, rule)| *rule)
}

/// The rule for a node; `None` if its operator is not supported.
///
/// # Errors
///
/// A refusal if it reads or makes complex numbers, and its operator is not run for them.
pub(crate) fn rule_of(op: &Op<'_>) -> Result<Option<Rule>, Refusal> {
    if !complex::is_complex(op) {
        return Ok(rule(&op.node.op));
    }
    let rule = complex::rule(&op.node.op, signal::TABLE);
    let rule = rule.ok_or_else(|| Refusal::new("is not run for complex numbers"))?;
    Ok(Some(rule))
}

/// The names of all supported operators, sorted.
pub(crate) fn names() -> Vec<&'static str> {
    let mut names: Vec<_> = TABLES
        .iter()
        .flat_map(|it| it.iter())
        .map(|row| row.0)
        .collect();
    names.sort_unstable();
    names
}
