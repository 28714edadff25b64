//! The values that the outputs of TensorFlow's nodes have during a translation.
//!
//! Not here: tensors (`tensor`), lists (`list`).

use std::rc::Rc;

use crate::list::List;

pub(crate) use crate::tensor::{Constant, MAX_ELEMENTS, Shape, Tensor, int_constant};

/// The value of an output of a TensorFlow node.
#[derive(Clone)]
pub(crate) enum Value {
    /// A tensor.
    Tensor(Tensor),
    /// The handle of a variable, by the name that is unique in the model.
    Variable(Rc<str>),
    /// A variable of TensorFlow 1, which its readers read as a tensor, by its name.
    Reference(Rc<str>),
    /// The handle of a lookup table, by the name that is unique in the model.
    Table(Rc<str>),
    /// A TensorList.
    List(List),
    /// The output of a node that was refused, or of one that has no value.
    Nothing,
}
