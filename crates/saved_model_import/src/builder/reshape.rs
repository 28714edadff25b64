//! Reshapes, as far as possible by sizes that are constants.
//!
//! A size that is computed is often a size of the tensor itself. Written as 0, which copies it, or as -1, it makes
//! the whole vector a constant, and the nodes that computed it fall away.

use base::tensor::DataType;

use super::Builder;
use crate::refusal::Refusal;
use crate::value::{Shape, Tensor};

type Result<T> = std::result::Result<T, Refusal>;

/// How many nodes a computed size is followed through.
const MAX_STEPS: usize = 16;

impl Builder {
    /// The tensor with these sizes, of which one can be -1. A size of 0 is 0.
    pub(crate) fn reshape(&mut self, x: &Tensor, sizes: &[i64]) -> Result<Tensor> {
        let sizes = self.i64s(sizes);
        self.reshape_to(x, &sizes)
    }

    /// The tensor with the sizes in a vector of int64.
    pub(crate) fn reshape_to(&mut self, x: &Tensor, sizes: &Tensor) -> Result<Tensor> {
        let mut shape = match sizes.elements() {
            Some(sizes) => Shape::dims(sizes.iter().map(|it| it.filter(|&it| it >= 0))),
            None => match sizes.shape.dim(0).and_then(|it| usize::try_from(it).ok()) {
                Some(rank) => Shape::of_rank(rank),
                None => Shape::unknown(),
            },
        };
        complete(&mut shape, x.shape.count(), sizes.elements());
        let known = x.elements().map(<[_]>::to_vec);
        if let Some(constant) = x.as_constant()
            && let Some(sizes) = shape.sizes()
            && let Some(reshaped) = constant.reshaped(&sizes)
        {
            return Ok(Tensor::constant(reshaped));
        }
        let copied = self.copied_sizes(x, sizes);
        let node = match &copied {
            Some(copied) => self.op("Reshape", &[x, &self.i64s(copied)]),
            None => {
                let node = self.op("Reshape", &[x, sizes]);
                // An element that is not known could be 0.
                let has_unknown = sizes
                    .elements()
                    .is_none_or(|it| it.iter().any(|it| it.is_none_or(|it| it == 0)));
                match has_unknown {
                    true => node.int("allowzero", 1),
                    false => node,
                }
            }
        };
        node.one_known(x.dtype, shape, known)
    }

    /// The sizes of a reshape of `x` as constants: 0 where the size at this place is copied, or -1 for one from
    /// another place. `None` where that is not proven to be the same.
    fn copied_sizes(&self, x: &Tensor, sizes: &Tensor) -> Option<Vec<i64>> {
        let elements = sizes.elements()?;
        if elements.contains(&Some(0)) || !elements.contains(&None) {
            return None;
        }
        let mut written = Vec::new();
        let mut axes = Vec::new();
        for (place, size) in elements.iter().enumerate() {
            if let Some(size) = size {
                written.push(*size);
                continue;
            }
            let axis = self.axis_of_size(x, sizes, place)?;
            written.push(if axis == place { 0 } else { -1 });
            axes.push((place, axis));
        }
        let is_same = match axes.as_slice() {
            [(_, axis)] if written.contains(&-1) && !written.contains(&0) => {
                has_same_count(&x.shape, elements, *axis)
            }
            // An empty tensor does not determine -1.
            axes => axes.iter().all(|(place, axis)| place == axis),
        };
        is_same.then_some(written)
    }

    /// The axis of `x` whose size is an element of a vector or scalar, if the nodes that compute it show this.
    fn axis_of_size(&self, x: &Tensor, sizes: &Tensor, place: usize) -> Option<usize> {
        let (mut tensor, mut place) = (sizes, place);
        for _ in 0..MAX_STEPS {
            let made = self.made(tensor)?;
            let source = made.inputs.first()?;
            match made.op_type.as_str() {
                "Shape" => {
                    let is_own = source.name().ok() == x.name().ok() && made.int("start").is_none();
                    return Some(place).filter(|_| is_own);
                }
                "Cast" if is_size(source.dtype) && is_size(tensor.dtype) => {}
                "Identity" => {}
                // A scalar becomes a vector of one element, or the other way round.
                "Unsqueeze" | "Squeeze" | "Reshape" => {
                    if place != 0 || source.shape.count() != Some(1) {
                        return None;
                    }
                }
                "Concat" => {
                    let (part, within) = part_of(&made.inputs, place)?;
                    place = within;
                    tensor = part;
                    continue;
                }
                "Gather" => {
                    let index = *made.inputs.get(1)?.ints()?.get(place)?;
                    let size = source.shape.dim(0)?;
                    let index = if index < 0 { index + size } else { index };
                    place = usize::try_from(index).ok()?;
                }
                "Slice" => {
                    let start = made.inputs.get(1)?.int()?;
                    let has_steps = made.inputs.get(4).is_some_and(|it| it.int() != Some(1));
                    if start < 0 || has_steps {
                        return None;
                    }
                    place = place.checked_add(usize::try_from(start).ok()?)?;
                }
                _ => return None,
            }
            tensor = source;
        }
        None
    }
}

/// The input of a `Concat` of vectors that has an element of the result, and the element's place in it.
fn part_of(inputs: &[Tensor], mut place: usize) -> Option<(&Tensor, usize)> {
    for part in inputs {
        let size = usize::try_from(part.shape.dim(0)?).ok()?;
        if place < size {
            return Some((part, place));
        }
        place -= size;
    }
    None
}

/// Whether the sizes that are known, without the axis that is copied, have the same product, other than 0.
fn has_same_count(shape: &Shape, sizes: &[Option<i64>], copied: usize) -> bool {
    let Some(dims) = &shape.0 else {
        return false;
    };
    let mut kept = dims.iter().enumerate().filter(|(axis, _)| *axis != copied);
    let kept = kept.try_fold(1i64, |product, (_, dim)| product.checked_mul((*dim)?));
    let mut written = sizes.iter().flatten();
    let written = written.try_fold(1i64, |product, &size| product.checked_mul(size));
    kept.is_some_and(|it| it > 0) && kept == written
}

fn is_size(dtype: DataType) -> bool {
    matches!(dtype, DataType::Int32 | DataType::Int64)
}

/// Finds the one size that is -1.
fn complete(shape: &mut Shape, count: Option<i64>, sizes: Option<&[Option<i64>]>) {
    let (Some(dims), Some(count), Some(sizes)) = (&mut shape.0, count, sizes) else {
        return;
    };
    let [place] = sizes
        .iter()
        .enumerate()
        .filter(|(_, it)| **it == Some(-1))
        .map(|(index, _)| index)
        .collect::<Vec<_>>()[..]
    else {
        return;
    };
    let others = dims.iter().enumerate().filter(|(index, _)| *index != place);
    let product = others
        .map(|(_, dim)| *dim)
        .try_fold(1i64, |product, dim| product.checked_mul(dim?));
    if let Some(product) = product.filter(|&it| it > 0 && count % it == 0) {
        dims[place] = Some(count / product);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sizes of a reshape of [?, 8] in which `None` is the first size of `of`.
    fn copied(of: usize, sizes: &[Option<i64>]) -> Option<Vec<i64>> {
        let mut b = Builder::new();
        let inputs = ["x", "y"].map(|name| {
            let shape = Shape::dims([None, Some(8)]);
            b.input(name, DataType::Float, shape).unwrap()
        });
        let shape = b.shape_of(&inputs[of]).unwrap();
        let shape = b.cast(&shape, DataType::Int32).unwrap();
        let first = b.gather(&shape, &b.i64(0), 0).unwrap();
        let first = b.reshape(&first, &[1]).unwrap();
        let first = b.cast(&first, DataType::Int64).unwrap();
        let parts: Vec<Tensor> = sizes
            .iter()
            .map(|it| it.map_or_else(|| first.clone(), |it| b.i64s(&[it])))
            .collect();
        let parts: Vec<&Tensor> = parts.iter().collect();
        let sizes = b.concat(&parts, 0).unwrap();
        b.copied_sizes(&inputs[0], &sizes)
    }

    #[test]
    fn a_size_of_the_tensor_is_copied() {
        assert_eq!(copied(0, &[None, Some(1), Some(8)]), Some(vec![0, 1, 8]));
        assert_eq!(copied(0, &[None, Some(-1), Some(2)]), Some(vec![0, -1, 2]));
        assert_eq!(copied(0, &[Some(8), None]), Some(vec![8, -1]));
    }

    #[test]
    fn other_sizes_stay_computed() {
        // The size of another tensor.
        assert_eq!(copied(1, &[None, Some(8)]), None);
        // Another count: TensorFlow refuses it unless the tensor is empty.
        assert_eq!(copied(0, &[Some(4), None]), None);
        assert_eq!(copied(0, &[Some(-1), None]), None);
        assert_eq!(copied(0, &[Some(0), None]), None);
    }
}
