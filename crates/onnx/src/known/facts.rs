//! The facts that can be known about one tensor.

use crate::constant::to_tensor;
use proto::onnx::{TensorProto, tensor_proto::DataType as OnnxType};

pub(crate) const INT32: i32 = OnnxType::Int32 as i32;
pub(crate) const INT64: i32 = OnnxType::Int64 as i32;
pub(crate) const STRING: i32 = OnnxType::String as i32;

/// The known facts about one tensor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Facts {
    /// The element type; for a sequence, that of its tensors.
    pub(crate) elem: Elem,
    /// It is a sequence of tensors.
    pub(crate) is_sequence: bool,
    pub(crate) rank: Option<usize>,
    /// The number of elements of a constant vector.
    pub(crate) len: Option<usize>,
    /// It is a constant, and -1 is not in it.
    pub(crate) is_never_minus_one: bool,
    /// The value of a constant that is a single integer.
    pub(crate) single: Option<i64>,
    /// It has elements in every run.
    pub(crate) is_filled: bool,
    /// It is the value of an initializer or of a `Constant`.
    pub(super) is_constant: bool,
    /// A tensor of the main graph, by a hash of its name, that has elements in exactly the same runs.
    pub(crate) emptied_with: Option<u64>,
    /// Its second size is not 0 in any run.
    pub(crate) has_channels: bool,
    /// Its sizes might be known at load, regardless of the request.
    pub(crate) has_sizes: bool,
    /// Which replacement kernel the backend chooses around it.
    pub(crate) origin: Origin,
}

/// The origins of tensors for which the backend chooses other kernels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum Origin {
    #[default]
    Any,
    /// A product of integers, to be scaled to floats.
    IntegerProduct,
    /// Dequantized by a scale or a zero point that is not constant.
    FreelyDequantized,
}

/// An element type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum Elem {
    /// Any type at all.
    #[default]
    Unknown,
    /// A type that is neither int32 nor int64.
    Other,
    /// This ONNX type.
    Is(i32),
}

impl Facts {
    pub(super) fn of_type(elem: i32) -> Self {
        Self {
            elem: Elem::Is(elem),
            ..Self::default()
        }
    }

    /// The facts that hold for both.
    pub(super) fn common(self, other: Self) -> Self {
        let same = |one, other| if one == other { one } else { None };
        Self {
            elem: self.elem.common(other.elem),
            is_sequence: self.is_sequence || other.is_sequence,
            single: self.single.filter(|_| self.single == other.single),
            rank: same(self.rank, other.rank),
            len: same(self.len, other.len),
            is_never_minus_one: self.is_never_minus_one && other.is_never_minus_one,
            is_filled: self.is_filled && other.is_filled,
            emptied_with: if self.emptied_with == other.emptied_with {
                self.emptied_with
            } else {
                None
            },
            has_channels: self.has_channels && other.has_channels,
            is_constant: self.is_constant && other.is_constant,
            has_sizes: self.has_sizes || other.has_sizes,
            origin: if self.origin == other.origin {
                self.origin
            } else {
                Origin::Any
            },
        }
    }

    pub(super) fn of_tensor(tensor: &TensorProto) -> Self {
        let len = match tensor.dims.as_slice() {
            &[len] => usize::try_from(len).ok(),
            _ => None,
        };
        Self {
            elem: Elem::Is(tensor.data_type()),
            is_sequence: false,
            single: single(tensor),
            rank: Some(tensor.dims.len()),
            len,
            is_never_minus_one: is_never_minus_one(tensor),
            is_filled: !tensor.dims.contains(&0),
            is_constant: true,
            has_sizes: true,
            ..Self::default()
        }
    }
}

impl Elem {
    /// Whether it can be a type whose division can end the process.
    pub(crate) fn may_be_wide_integer(self) -> bool {
        matches!(self, Self::Unknown | Self::Is(INT32 | INT64))
    }

    pub(super) fn common(self, other: Self) -> Self {
        if self == other {
            return self;
        }
        match self.may_be_wide_integer() || other.may_be_wide_integer() {
            true => Self::Unknown,
            false => Self::Other,
        }
    }
}

fn single(tensor: &TensorProto) -> Option<i64> {
    if ![INT32, INT64].contains(&tensor.data_type()) || tensor.dims.iter().any(|dim| *dim != 1) {
        return None;
    }
    let value = to_tensor(tensor)?;
    let wide = value.as_slice::<i64>().and_then(<[_]>::first).copied();
    let narrow = value.as_slice::<i32>().and_then(<[_]>::first);
    wide.or(narrow.map(|&it| it.into()))
}

fn is_never_minus_one(tensor: &TensorProto) -> bool {
    if ![INT32, INT64].contains(&tensor.data_type()) {
        return false;
    }
    let Some(values) = to_tensor(tensor) else {
        return false;
    };
    let wide = values.as_slice::<i64>().map(|it| it.contains(&-1));
    let narrow = values.as_slice::<i32>().map(|it| it.contains(&-1));
    wide.or(narrow) == Some(false)
}
