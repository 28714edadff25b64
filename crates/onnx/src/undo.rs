//! The inverse of a transform: the tensor that a client must send so that the graph gets a given one.
//!
//! Not here: the transform itself, as nodes (`io_transforms`).

use bytes::Bytes;

use super::Transform;
use base::tensor::{DataType, Element, Tensor};

impl Transform {
    /// The tensor that a client would send for the graph to get `tensor`; `None` if it is not known exactly.
    pub fn undone(&self, tensor: &Tensor) -> Option<Tensor> {
        let converted = match self.dtype {
            Some(dtype) => converted(tensor, dtype)?,
            None => tensor.clone(),
        };
        match (self.transpose.is_empty(), self.reshape.is_empty()) {
            // The tensor already has the shape after the reshape, and keeps it.
            (true, _) => Some(converted),
            (false, true) => untransposed(&converted, &self.transpose),
            // The shape between the two is not known.
            (false, false) => None,
        }
    }
}

/// The same numbers as another type.
fn converted(tensor: &Tensor, dtype: DataType) -> Option<Tensor> {
    let numbers = numbers(tensor)?;
    let shape = tensor.shape();
    let is_same = |other: &Tensor| self::numbers(other).is_some_and(|it| it == numbers);
    let made = match dtype {
        DataType::Float => make(shape, &numbers, |it| it as f32),
        DataType::Double => make(shape, &numbers, |it| it),
        DataType::Int8 => make(shape, &numbers, |it| it as i8),
        DataType::Int16 => make(shape, &numbers, |it| it as i16),
        DataType::Int32 => make(shape, &numbers, |it| it as i32),
        DataType::Int64 => make(shape, &numbers, |it| it as i64),
        DataType::UInt8 => make(shape, &numbers, |it| it as u8),
        DataType::UInt16 => make(shape, &numbers, |it| it as u16),
        DataType::UInt32 => make(shape, &numbers, |it| it as u32),
        _ => None,
    };
    // A float default converted to double and back is the same; a double default might not fit into float.
    made.filter(is_same)
}

fn make<T: Element>(shape: &[usize], numbers: &[f64], as_element: fn(f64) -> T) -> Option<Tensor> {
    Tensor::from_vec(shape, numbers.iter().map(|&it| as_element(it)).collect())
}

/// The elements, if a double holds them exactly.
fn numbers(tensor: &Tensor) -> Option<Vec<f64>> {
    fn wide<T: Element + Into<f64>>(tensor: &Tensor) -> Option<Vec<f64>> {
        Some(
            tensor
                .as_slice::<T>()?
                .iter()
                .map(|&it| it.into())
                .collect(),
        )
    }
    match tensor.dtype() {
        DataType::Float => wide::<f32>(tensor),
        DataType::Double => wide::<f64>(tensor),
        DataType::Int8 => wide::<i8>(tensor),
        DataType::Int16 => wide::<i16>(tensor),
        DataType::Int32 => wide::<i32>(tensor),
        DataType::UInt8 => wide::<u8>(tensor),
        DataType::UInt16 => wide::<u16>(tensor),
        DataType::UInt32 => wide::<u32>(tensor),
        DataType::Int64 => {
            let numbers = tensor.as_slice::<i64>()?.iter();
            let exact = |&it: &i64| i32::try_from(it).ok().map(f64::from);
            numbers.map(exact).collect()
        }
        _ => None,
    }
}

/// The tensor that becomes `tensor` when its axes are permuted by `axes`.
fn untransposed(tensor: &Tensor, axes: &[i64]) -> Option<Tensor> {
    let (to, rank) = (tensor.shape(), tensor.shape().len());
    let axes = axes.iter().map(|&it| usize::try_from(it).ok());
    let axes: Vec<usize> = axes.collect::<Option<_>>()?;
    let mut from = vec![None; rank];
    if axes.len() != rank {
        return None;
    }
    for (&axis, &size) in axes.iter().zip(to) {
        *from.get_mut(axis)? = Some(size);
    }
    let from: Vec<usize> = from.into_iter().collect::<Option<_>>()?;
    let (size, bytes) = (tensor.dtype().size()?, tensor.bytes()?);
    let mut strides = vec![1; rank];
    for axis in (1..rank).rev() {
        strides[axis - 1] = strides[axis] * to[axis];
    }
    // The distance in `tensor` between neighbours along each axis of the result.
    let mut steps = vec![0; rank];
    for (index, &axis) in axes.iter().enumerate() {
        steps[axis] = strides[index];
    }
    let mut result = Vec::with_capacity(bytes.len());
    for number in 0..tensor.len() {
        let (mut rest, mut place) = (number, 0);
        for axis in (0..rank).rev() {
            place += rest % from[axis] * steps[axis];
            rest /= from[axis];
        }
        result.extend_from_slice(bytes.get(place * size..(place + 1) * size)?);
    }
    Tensor::from_bytes(tensor.dtype(), &from, Bytes::from(result))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transposed_tensor_comes_back() {
        // NumPy: arange(6).reshape(2, 3).T
        let graph = Tensor::from_vec(&[3, 2], vec![0_i32, 3, 1, 4, 2, 5]).unwrap();
        let transform = Transform {
            transpose: vec![1, 0],
            ..Transform::default()
        };
        let client = Tensor::from_vec(&[2, 3], vec![0_i32, 1, 2, 3, 4, 5]).unwrap();
        assert_eq!(transform.undone(&graph).unwrap(), client);
    }

    #[test]
    fn numbers_are_converted_only_if_they_stay() {
        let transform = |dtype| Transform {
            dtype: Some(dtype),
            ..Transform::default()
        };
        let halves = Tensor::from_vec(&[1], vec![0.5_f32]).unwrap();
        let doubles = Tensor::from_vec(&[1], vec![0.5_f64]).unwrap();
        assert_eq!(transform(DataType::Double).undone(&halves), Some(doubles));
        assert_eq!(transform(DataType::Int64).undone(&halves), None);
    }
}
