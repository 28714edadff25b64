//! Numbers or strings with a shape, before they get the dtype of an input.
//!
//! Not here: where they come from (`npy`, `literal`).

use base::error::{Result, ServingError};
use base::tensor::{DataType, Element, Tensor, shape_text};
use bytes::Bytes;
use half::{bf16, f16};

/// An array of one kind of elements.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Array {
    pub(super) shape: Vec<usize>,
    pub(super) elements: Elements,
}

/// Elements in row-major order.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Elements {
    Floats(Vec<f64>),
    Ints(Vec<i128>),
    Strings(Vec<Bytes>),
}

impl Array {
    /// A tensor of a dtype. Numbers are converted as NumPy's `astype` does.
    ///
    /// # Errors
    ///
    /// `INVALID_ARGUMENT` for strings where numbers are wanted or the reverse, and for integers that do not fit.
    pub(super) fn into_tensor(self, dtype: DataType) -> Result<Tensor> {
        let shape = self.shape;
        let tensor = match (dtype, self.elements) {
            (DataType::String, Elements::Strings(strings)) => Tensor::from_strings(&shape, strings),
            (DataType::String, _) | (_, Elements::Strings(_)) => None,
            (_, Elements::Ints(ints)) => of_ints(dtype, &shape, &ints)?,
            (_, Elements::Floats(floats)) => of_floats(dtype, &shape, &floats),
        };
        tensor.ok_or_else(|| {
            let text = format!(
                "its value of shape {} is not of dtype {dtype}",
                shape_text(&shape)
            );
            ServingError::invalid_argument(text)
        })
    }
}

fn of_ints(dtype: DataType, shape: &[usize], ints: &[i128]) -> Result<Option<Tensor>> {
    fn cast<T: Element + TryFrom<i128>>(shape: &[usize], ints: &[i128]) -> Result<Option<Tensor>> {
        let fits = |&it: &i128| {
            T::try_from(it).map_err(|_| {
                ServingError::invalid_argument(format!(
                    "{it} is out of range for dtype {}",
                    T::DTYPE
                ))
            })
        };
        let fitting = ints.iter().map(fits).collect::<Result<Vec<T>>>()?;
        Ok(Tensor::from_vec(shape, fitting))
    }
    match dtype {
        DataType::Int8 => cast::<i8>(shape, ints),
        DataType::Int16 => cast::<i16>(shape, ints),
        DataType::Int32 => cast::<i32>(shape, ints),
        DataType::Int64 => cast::<i64>(shape, ints),
        DataType::UInt8 => cast::<u8>(shape, ints),
        DataType::UInt16 => cast::<u16>(shape, ints),
        DataType::UInt32 => cast::<u32>(shape, ints),
        DataType::UInt64 => cast::<u64>(shape, ints),
        _ => {
            let floats: Vec<f64> = ints.iter().map(|&it| it as f64).collect();
            Ok(of_floats(dtype, shape, &floats))
        }
    }
}

fn of_floats(dtype: DataType, shape: &[usize], floats: &[f64]) -> Option<Tensor> {
    fn cast<T: Element>(shape: &[usize], floats: &[f64], to: fn(f64) -> T) -> Option<Tensor> {
        Tensor::from_vec(shape, floats.iter().map(|&it| to(it)).collect())
    }
    match dtype {
        DataType::Float => cast(shape, floats, |it| it as f32),
        DataType::Double => cast(shape, floats, |it| it),
        DataType::Half => cast(shape, floats, f16::from_f64),
        DataType::BFloat16 => cast(shape, floats, bf16::from_f64),
        DataType::Int8 => cast(shape, floats, |it| it as i8),
        DataType::Int16 => cast(shape, floats, |it| it as i16),
        DataType::Int32 => cast(shape, floats, |it| it as i32),
        DataType::Int64 => cast(shape, floats, |it| it as i64),
        DataType::UInt8 => cast(shape, floats, |it| it as u8),
        DataType::UInt16 => cast(shape, floats, |it| it as u16),
        DataType::UInt32 => cast(shape, floats, |it| it as u32),
        DataType::UInt64 => cast(shape, floats, |it| it as u64),
        DataType::Bool => {
            let bytes: Vec<u8> = floats.iter().map(|&it| u8::from(it != 0.0)).collect();
            Tensor::from_bytes(DataType::Bool, shape, bytes.into())
        }
        _ => None,
    }
}
