//! The values that a tensor of numbers stands for: strings that were cast, or constants.
//!
//! Not here: how they move through a graph (`follow`, `nested`).

use std::rc::Rc;

use crate::constant::to_tensor;
use base::tensor::Tensor;
use proto::onnx::{NodeProto, TensorProto, tensor_proto::DataType as OnnxType};

/// Longer constants are skipped.
const MAX_NUMBERS: usize = 1 << 16;

/// The values that the numbers in a tensor stand for.
#[derive(Clone)]
pub(super) enum Source {
    /// The strings in a tensor of this name, certain to be strings if `is_sure`.
    Strings { name: String, is_sure: bool },
    /// Constants, as int32.
    Numbers(Rc<Tensor>),
}

/// The integers of a constant.
pub(super) fn numbers_of(tensor: &TensorProto) -> Option<Source> {
    let mut sizes = tensor.dims.iter();
    let count = sizes.try_fold(1_usize, |count, &size| {
        count.checked_mul(usize::try_from(size).ok()?)
    });
    let is_integer = [OnnxType::Int32 as i32, OnnxType::Int64 as i32].contains(&tensor.data_type());
    if !is_integer || count.is_none_or(|count| count > MAX_NUMBERS) {
        return None;
    }
    let tensor = to_tensor(tensor)?;
    if tensor.as_slice::<i32>().is_some() {
        return Some(Source::Numbers(Rc::new(tensor)));
    }
    narrow(tensor.shape(), tensor.as_slice::<i64>()?)
}

pub(super) fn narrow(shape: &[usize], values: &[i64]) -> Option<Source> {
    let values = values.iter().map(|&it| i32::try_from(it).ok());
    let values: Vec<i32> = values.collect::<Option<_>>()?;
    Tensor::from_vec(shape, values).map(|it| Source::Numbers(Rc::new(it)))
}

pub(super) fn numbers_of_constant(constant: &NodeProto) -> Option<Source> {
    let attribute = constant.attribute.first()?;
    if !attribute.ref_attr_name().is_empty() {
        return None;
    }
    match attribute.name() {
        "value" => numbers_of(attribute.t.as_ref()?),
        "value_int" => narrow(&[], &[attribute.i()]),
        "value_ints" if attribute.ints.len() <= MAX_NUMBERS => {
            narrow(&[attribute.ints.len()], &attribute.ints)
        }
        _ => None,
    }
}
