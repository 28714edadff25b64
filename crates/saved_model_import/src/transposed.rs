//! Transposing constants while a model is imported, so that the runtime has nothing left to do.
//!
//! Not here: the node that transposes a tensor that is not constant (`builder::common`).

use std::cell::RefCell;
use std::collections::HashMap;

use base::tensor::{DataType, Tensor as Elements};

/// Blocks of this many elements in each direction stay in the first cache.
const BLOCK: usize = 16;

/// Where the elements of a constant are, and how they are read.
type Key = (usize, usize, DataType, Vec<usize>, Vec<usize>);

/// The transposed constants of all signatures: a weight that several nodes read is transposed once, and shared.
#[derive(Default)]
pub(crate) struct Transposed {
    /// With each result the constant that it was made of, so that no address is used twice.
    known: RefCell<HashMap<Key, (Elements, Elements)>>,
}

impl Transposed {
    /// The constant with its dimensions in another order; `None` for strings, and if `order` does not fit.
    pub(crate) fn get(&self, x: &Elements, order: &[usize]) -> Option<Elements> {
        let bytes = x.bytes()?;
        let place = (bytes.as_ptr() as usize, bytes.len());
        let key = (
            place.0,
            place.1,
            x.dtype(),
            x.shape().to_vec(),
            order.to_vec(),
        );
        if let Some((_, known)) = self.known.borrow().get(&key) {
            return Some(known.clone());
        }
        let result = transposed(x, order)?;
        let entry = (x.clone(), result.clone());
        self.known.borrow_mut().insert(key, entry);
        Some(result)
    }
}

/// The elements with their dimensions in another order: dimension `i` of the result is `order[i]` of `x`.
fn transposed(x: &Elements, order: &[usize]) -> Option<Elements> {
    let bytes = x.bytes()?;
    let width = x.dtype().size()?;
    let rank = x.shape().len();
    let is_order = order.len() == rank && (0..rank).all(|axis| order.contains(&axis));
    if !is_order {
        return None;
    }
    let shape: Vec<usize> = order.iter().map(|&axis| x.shape()[axis]).collect();
    if x.is_empty() {
        return x.reshaped(&shape);
    }
    let plan = Plan::new(x.shape(), order);
    let result = match width {
        1 => plan.run::<1>(bytes),
        2 => plan.run::<2>(bytes),
        4 => plan.run::<4>(bytes),
        8 => plan.run::<8>(bytes),
        16 => plan.run::<16>(bytes),
        _ => return None,
    };
    Elements::from_bytes(x.dtype(), &shape, result.into())
}

/// A transposition without the dimensions that stay together or have one element.
struct Plan {
    /// The dimensions of the result, the outermost first.
    axes: Vec<Axis>,
}

#[derive(Clone, Copy)]
struct Axis {
    size: usize,
    /// From one element to the next, in elements, in the input and in the result.
    input: usize,
    output: usize,
}

impl Plan {
    fn new(shape: &[usize], order: &[usize]) -> Self {
        let mut strides = vec![1; shape.len()];
        for axis in (1..shape.len()).rev() {
            strides[axis - 1] = strides[axis] * shape[axis];
        }
        let mut axes: Vec<Axis> = Vec::new();
        for &axis in order.iter().filter(|&&axis| shape[axis] != 1) {
            let (size, input) = (shape[axis], strides[axis]);
            match axes.last_mut() {
                // The next dimension of the input follows: both are one.
                Some(last) if last.input == size * input => {
                    last.size *= size;
                    last.input = input;
                }
                _ => axes.push(Axis {
                    size,
                    input,
                    output: 0,
                }),
            }
        }
        let mut stride = 1;
        for axis in axes.iter_mut().rev() {
            axis.output = stride;
            stride *= axis.size;
        }
        Self { axes }
    }

    /// The transposed bytes of elements of `N` bytes.
    fn run<const N: usize>(&self, input: &[u8]) -> Vec<u8> {
        let mut output = vec![0u8; input.len()];
        let (source, _) = input.as_chunks::<N>();
        let (target, _) = output.as_chunks_mut::<N>();
        let mut outer = self.axes.clone();
        // The dimension whose elements lie next to each other in the result, and the one in the input.
        let written = outer.pop();
        let read = outer
            .iter()
            .position(|it| it.input == 1)
            .map(|it| outer.remove(it));
        for_each(&outer, &mut |from, to| match (written, read) {
            (Some(written), Some(read)) => block(
                &source[from..],
                &mut target[to..],
                written.size,
                read.size,
                written.input,
                read.output,
            ),
            (Some(run), None) => {
                target[to..to + run.size].copy_from_slice(&source[from..from + run.size]);
            }
            (None, _) => target[to] = source[from],
        });
        output
    }
}

/// Transposes a matrix: `target[column * output + row] = source[row * input + column]`, by blocks.
fn block<const N: usize>(
    source: &[[u8; N]],
    target: &mut [[u8; N]],
    rows: usize,
    columns: usize,
    input: usize,
    output: usize,
) {
    for first_row in (0..rows).step_by(BLOCK) {
        let last_row = (first_row + BLOCK).min(rows);
        for first_column in (0..columns).step_by(BLOCK) {
            for column in first_column..(first_column + BLOCK).min(columns) {
                let line = &mut target[column * output + first_row..column * output + last_row];
                for (row, place) in line.iter_mut().enumerate() {
                    *place = source[(first_row + row) * input + column];
                }
            }
        }
    }
}

/// Calls `act` with the offset in the input and in the result of each combination of indices.
fn for_each(axes: &[Axis], act: &mut impl FnMut(usize, usize)) {
    fn walk(axes: &[Axis], from: usize, to: usize, act: &mut impl FnMut(usize, usize)) {
        match axes {
            [] => act(from, to),
            [axis, inner @ ..] => {
                for index in 0..axis.size {
                    walk(
                        inner,
                        from + index * axis.input,
                        to + index * axis.output,
                        act,
                    );
                }
            }
        }
    }
    walk(axes, 0, 0, act);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Element by element, from the definition.
    fn naive(x: &[i32], shape: &[usize], order: &[usize]) -> Vec<i32> {
        let stride = |axis: usize| shape[axis + 1..].iter().product::<usize>();
        let result: Vec<usize> = order.iter().map(|&it| shape[it]).collect();
        (0..x.len())
            .map(|place| {
                let mut rest = place;
                let mut from = 0;
                for (axis, &size) in result.iter().enumerate().rev() {
                    from += rest % size * stride(order[axis]);
                    rest /= size;
                }
                x[from]
            })
            .collect()
    }

    #[test]
    fn transpositions_move_each_element_where_the_definition_says() {
        let cases: &[(&[usize], &[usize])] = &[
            (&[3, 3, 20, 35], &[3, 2, 0, 1]),
            (&[1, 1, 20, 35], &[3, 2, 0, 1]),
            (&[3, 3, 7, 2], &[2, 3, 0, 1]),
            (&[17, 33], &[1, 0]),
            (&[2, 3, 4], &[1, 0, 2]),
            (&[2, 3, 4], &[0, 1, 2]),
            (&[1, 1], &[1, 0]),
            (&[5], &[0]),
            (&[], &[]),
        ];
        for (shape, order) in cases {
            let count: usize = shape.iter().product();
            let values: Vec<i32> = (0..count as i32).collect();
            let x = Elements::from_vec(shape, values.clone()).unwrap();
            let result = transposed(&x, order).unwrap();
            let sizes: Vec<usize> = order.iter().map(|&it| shape[it]).collect();
            assert_eq!(result.shape(), sizes);
            let expected = naive(&values, shape, order);
            assert_eq!(
                result.as_slice::<i32>().unwrap(),
                expected,
                "{shape:?} {order:?}"
            );
        }
    }

    #[test]
    fn other_widths_and_empty_constants_are_transposed() {
        let x = Elements::from_vec(&[2, 3], vec![1u8, 2, 3, 4, 5, 6]).unwrap();
        let result = transposed(&x, &[1, 0]).unwrap();
        assert_eq!(result.as_slice::<u8>().unwrap(), [1, 4, 2, 5, 3, 6]);
        let x = Elements::from_vec(&[2, 0], Vec::<f64>::new()).unwrap();
        assert_eq!(transposed(&x, &[1, 0]).unwrap().shape(), [0, 2]);
        assert!(transposed(&x, &[0, 0]).is_none());
    }

    #[test]
    fn a_constant_is_transposed_once() {
        let cache = Transposed::default();
        let x = Elements::from_vec(&[2, 300], vec![1f32; 600]).unwrap();
        let address = |it: Elements| it.bytes().unwrap().as_ptr();
        let first = address(cache.get(&x, &[1, 0]).unwrap());
        assert_eq!(address(cache.get(&x.clone(), &[1, 0]).unwrap()), first);
    }
}
