//! TensorFlow's operators: one function for each, or for a group that differs by a name.
//!
//! A function gets a node with its translated inputs, adds ONNX nodes, and returns the outputs. It refuses what
//! it cannot prove to be right.

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
mod control;
mod conv;
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

use crate::builder::Builder;
use crate::op::{Op, Translated};
use crate::refusal::Refusal;
use crate::translation::Translation;

/// How an operator is translated.
#[derive(Clone, Copy)]
pub(crate) enum Rule {
    /// From its inputs and attributes alone.
    Pure(fn(&mut Builder, &Op<'_>) -> Translated),
    /// With variables, tables or functions.
    Whole(fn(&mut Translation<'_>, &Op<'_>) -> Translated),
}

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

pub(crate) use self::complex::is_complex;

/// The rule for an operator that reads or makes complex numbers.
pub(crate) fn complex_rule(op: &str) -> Result<Rule, Refusal> {
    complex::rule(op).ok_or_else(|| Refusal::new("is not run for complex numbers"))
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
