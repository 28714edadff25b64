//! Restates an input's default in the dtype and the axes that a map gives the input.
//!
//! Not here: the changes that a map makes to dtype and axes (`description`), defaults of the graph's own
//! file (`version_dir::bind::optional`).

use base::error::{Result, ServingError};
use base::tensor::{DataType, Tensor, element_count};
use codec::tensor_proto::message::{from_message, to_message};
use onnx::Transform;
use proto::tensorflow::TensorProto;

/// The changes to the axes of a client's tensor: a transpose, then a reshape.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Axes {
    pub(super) transpose: Vec<i64>,
    pub(super) reshape: Vec<i64>,
}

/// Restates the default of input `alias` so that the graph gets the same value. The default was given for
/// the axes `before`; the result is the tensor of type `dtype` that a client would send if its axes go
/// through `after`.
///
/// # Errors
///
/// `INVALID_ARGUMENT` if it cannot be converted to a tensor or cannot be restated exactly.
pub(super) fn restated(
    alias: &str,
    default: &TensorProto,
    dtype: DataType,
    before: &Axes,
    after: &Axes,
) -> Result<TensorProto> {
    let said = from_message(default, Some(dtype), None).map_err(|error| {
        let text = format!("the default of input '{alias}': {error}");
        ServingError::invalid_argument(text)
    })?;
    if said.dtype() == dtype && before == after {
        return Ok(default.clone());
    }
    let is_moved = before != after;
    let transform = Transform {
        transpose: if is_moved {
            after.transpose.clone()
        } else {
            Vec::new()
        },
        reshape: if is_moved {
            after.reshape.clone()
        } else {
            Vec::new()
        },
        dtype: (said.dtype() != dtype).then_some(dtype),
    };
    let graphs = if is_moved {
        arranged(&said, before)
    } else {
        Some(said.clone())
    };
    let restated = graphs.and_then(|it| transform.undone(&it));
    restated.map(|it| to_message(&it)).ok_or_else(|| {
        let why = match said.dtype() == dtype {
            true => format!(
                "has the shape {:?}, which cannot be said for the map's transpose {:?} and reshape {:?}; give \
                 the input a default in the map",
                said.shape(),
                after.transpose,
                after.reshape
            ),
            false => format!(
                "is {}, and clients send {dtype}: it cannot be said exactly as that; give the input a default \
                 of {dtype} in the map",
                said.dtype()
            ),
        };
        ServingError::invalid_argument(format!(
            "signature map: the default of input '{alias}' {why}"
        ))
    })
}

/// The tensor that the graph gets if a client sends `tensor`.
fn arranged(tensor: &Tensor, axes: &Axes) -> Option<Tensor> {
    let transposed = match axes.transpose.is_empty() {
        true => tensor.clone(),
        false => {
            let transpose = inverse(&axes.transpose)?;
            let back = Transform {
                transpose,
                ..Transform::default()
            };
            back.undone(tensor)?
        }
    };
    match axes.reshape.is_empty() {
        true => Some(transposed),
        false => transposed.reshaped(&reshaped(transposed.shape(), &axes.reshape)?),
    }
}

/// The permutation that undoes another.
fn inverse(permutation: &[i64]) -> Option<Vec<i64>> {
    let places = 0..i64::try_from(permutation.len()).ok()?;
    let place = |axis: i64| permutation.iter().position(|&it| it == axis);
    places
        .map(|axis| i64::try_from(place(axis)?).ok())
        .collect()
}

/// The shape that ONNX Reshape makes of `shape`: 0 keeps a size, one -1 is computed from the rest.
fn reshaped(shape: &[usize], sizes: &[i64]) -> Option<Vec<usize>> {
    let kept = |(axis, &size): (usize, &i64)| match size {
        0 => shape.get(axis).copied(),
        -1 => Some(1),
        size => usize::try_from(size).ok(),
    };
    let mut made: Vec<usize> = sizes.iter().enumerate().map(kept).collect::<Option<_>>()?;
    if let Some(rest) = sizes.iter().position(|&size| size == -1) {
        let others = element_count(&made)?;
        *made.get_mut(rest)? = element_count(shape)?.checked_div(others)?;
    }
    Some(made)
}

/// The shape that the graph gets if a client sends `shape`; `None` if the transpose or reshape does not
/// apply to it.
pub fn arranged_shape(shape: &[usize], transpose: &[i64], reshape: &[i64]) -> Option<Vec<usize>> {
    let transposed: Vec<usize> = match transpose.is_empty() {
        true => shape.to_vec(),
        false if transpose.len() != shape.len() => return None,
        false => {
            let size = |&axis: &i64| shape.get(usize::try_from(axis).ok()?).copied();
            transpose.iter().map(size).collect::<Option<_>>()?
        }
    };
    if reshape.is_empty() {
        return Some(transposed);
    }
    let made = reshaped(&transposed, reshape)?;
    (element_count(&made)? == element_count(&transposed)?).then_some(made)
}

/// Whether this shape contradicts the declared one. A scalar fits every shape. A declared first size of 1
/// often comes from the example that a model was traced with, so it fits every size. An unknown rank is
/// sometimes written as an empty list of dimensions, so that fits every shape, too.
pub fn contradicts(shape: &[usize], declared: &[i64]) -> bool {
    if shape.is_empty() || declared.is_empty() {
        return false;
    }
    let mut sizes = shape.iter().zip(declared).enumerate();
    let differs = |(axis, (&size, &declared)): (usize, (&usize, &i64))| {
        let is_traced = axis == 0 && declared == 1;
        !is_traced && usize::try_from(declared).is_ok_and(|declared| declared != size)
    };
    shape.len() != declared.len() || sizes.any(differs)
}
