//! Common operators as methods. They keep track of shapes, and of the elements of small tensors of integers:
//! a tensor that is known completely becomes a constant, without a node.

use base::tensor::{DataType, Tensor as Elements};
use half::{bf16, f16};

use super::{Builder, NewNode};
use crate::refusal::Refusal;
use crate::value::{MAX_ELEMENTS, Shape, Tensor};

type Result<T> = std::result::Result<T, Refusal>;

impl NewNode<'_> {
    /// Adds the node, which has one output, unless all elements of that are known.
    pub(crate) fn one_known(
        self,
        dtype: DataType,
        shape: Shape,
        known: Option<Vec<Option<i64>>>,
    ) -> Result<Tensor> {
        match Tensor::folded(dtype, &shape, known.as_deref()) {
            Some(folded) => Ok(folded),
            None => Ok(self.one(dtype, shape)?.with_known(known)),
        }
    }
}

impl Builder {
    /// A vector of int64.
    pub(crate) fn i64s(&self, values: &[i64]) -> Tensor {
        let elements = Elements::from_vec(&[values.len()], values.to_vec());
        Tensor::constant(elements.expect("the shape fits"))
    }

    /// An int64 scalar.
    pub(crate) fn i64(&self, value: i64) -> Tensor {
        Tensor::constant(Elements::from_vec(&[], vec![value]).expect("the shape fits"))
    }

    /// A scalar of a numeric dtype, or of bool (other than 0).
    pub(crate) fn scalar(&self, dtype: DataType, value: f64) -> Result<Tensor> {
        #[allow(clippy::cast_possible_truncation)]
        let int = value as i64;
        let elements = match dtype {
            #[allow(clippy::cast_possible_truncation)]
            DataType::Float => Elements::from_vec(&[], vec![value as f32]),
            DataType::Double => Elements::from_vec(&[], vec![value]),
            DataType::Half => Elements::from_vec(&[], vec![f16::from_f64(value)]),
            DataType::BFloat16 => Elements::from_vec(&[], vec![bf16::from_f64(value)]),
            DataType::Bool => Elements::from_bytes(dtype, &[], vec![u8::from(value != 0.0)].into()),
            _ => crate::value::int_constant(dtype, &[], &[int]),
        };
        let elements = elements.ok_or_else(|| Refusal::new(format!("is not run for {dtype}")))?;
        Ok(Tensor::constant(elements))
    }

    /// A node with one input, of whose dtype and shape its output is.
    pub(crate) fn unary(&mut self, op_type: &str, x: &Tensor) -> Result<Tensor> {
        self.op(op_type, &[x]).same()
    }

    /// A node with two inputs that are broadcast; the output has the dtype of the first.
    pub(crate) fn binary(&mut self, op_type: &str, x: &Tensor, y: &Tensor) -> Result<Tensor> {
        let shape = x.shape.broadcast(&y.shape);
        let known = fold_binary(op_type, x, y, &shape);
        self.op(op_type, &[x, y]).one_known(x.dtype, shape, known)
    }

    /// A comparison of two inputs that are broadcast.
    pub(crate) fn compare(&mut self, op_type: &str, x: &Tensor, y: &Tensor) -> Result<Tensor> {
        let shape = x.shape.broadcast(&y.shape);
        self.op(op_type, &[x, y]).one(DataType::Bool, shape)
    }

    /// `x` where the condition is true, else `y`.
    pub(crate) fn choose(&mut self, condition: &Tensor, x: &Tensor, y: &Tensor) -> Result<Tensor> {
        let shape = x.shape.broadcast(&y.shape).broadcast(&condition.shape);
        self.op("Where", &[condition, x, y]).one(x.dtype, shape)
    }

    /// The tensor with another dtype, by ONNX's `Cast`.
    pub(crate) fn cast(&mut self, x: &Tensor, dtype: DataType) -> Result<Tensor> {
        if x.dtype == dtype {
            return Ok(x.clone());
        }
        let elem_type = onnx::elem_type(dtype)
            .ok_or_else(|| Refusal::new(format!("is not run for {dtype}")))?;
        let known = x.elements().map(<[_]>::to_vec).filter(|_| is_wide(dtype));
        self.op("Cast", &[x])
            .int("to", elem_type.into())
            .one_known(dtype, x.shape.clone(), known)
    }

    /// The sizes of a tensor, a vector of int64.
    pub(crate) fn shape_of(&mut self, x: &Tensor) -> Result<Tensor> {
        let rank = x.rank();
        let shape = Shape::dims([rank.and_then(|it| i64::try_from(it).ok())]);
        let known = x.shape.0.clone();
        self.op("Shape", &[x])
            .one_known(DataType::Int64, shape, known)
    }

    /// The tensor with its dimensions in another order.
    pub(crate) fn transpose(&mut self, x: &Tensor, order: &[i64]) -> Result<Tensor> {
        if order.iter().copied().eq(0..order.len() as i64) {
            return Ok(x.clone());
        }
        if let Some(constant) = x.as_constant()
            && let Some(places) = order
                .iter()
                .map(|&it| usize::try_from(it).ok())
                .collect::<Option<Vec<_>>>()
            && let Some(transposed) = self.transposed.get(constant, &places)
        {
            return Ok(x.replaced(transposed));
        }
        if let Ok(name) = x.name()
            && let Some((inner, first)) = self.transposes.get(name)
            && let both = order
                .iter()
                .map(|&it| first.get(usize::try_from(it).ok()?).copied())
            && both.eq((0..first.len() as i64).map(Some))
        {
            // Back to where it came from.
            return Ok(inner.clone());
        }
        let dims = order.iter().map(|&axis| x.shape.dim(axis));
        let shape = Shape::dims(dims);
        let result = self
            .op("Transpose", &[x])
            .ints("perm", order)
            .one(x.dtype, shape)?;
        if let Ok(name) = result.name() {
            let entry = (x.clone(), order.to_vec());
            self.transposes.insert(name.clone(), entry);
        }
        Ok(result)
    }

    /// Inserts dimensions of size 1. The axes count in the result, and can be negative if the rank is known.
    pub(crate) fn unsqueeze(&mut self, x: &Tensor, axes: &[i64]) -> Result<Tensor> {
        if axes.is_empty() {
            return Ok(x.clone());
        }
        let shape = x.shape.0.as_ref().map(|dims| {
            let rank = dims.len() + axes.len();
            let places: Vec<usize> = axes.iter().map(|&it| from_start(it, rank)).collect();
            let mut left = dims.iter().copied();
            (0..rank)
                .map(|index| {
                    if places.contains(&index) {
                        Some(1)
                    } else {
                        left.next().flatten()
                    }
                })
                .collect()
        });
        let shape = Shape(shape);
        if let Some(constant) = x.as_constant()
            && let Some(sizes) = shape.sizes()
            && let Some(reshaped) = constant.reshaped(&sizes)
        {
            return Ok(Tensor::constant(reshaped));
        }
        let known = x.elements().map(<[_]>::to_vec);
        let axes = self.i64s(axes);
        self.op("Unsqueeze", &[x, &axes])
            .one_known(x.dtype, shape, known)
    }

    /// Removes dimensions of size 1.
    pub(crate) fn squeeze(&mut self, x: &Tensor, axes: &[i64]) -> Result<Tensor> {
        let shape = x.shape.0.as_ref().map(|dims| {
            let places: Vec<usize> = axes.iter().map(|&it| from_start(it, dims.len())).collect();
            let dims = dims.iter().copied().enumerate();
            dims.filter(|(index, _)| !places.contains(index))
                .map(|(_, dim)| dim)
                .collect()
        });
        let shape = Shape(shape);
        if let Some(constant) = x.as_constant()
            && let Some(sizes) = shape.sizes()
            && let Some(reshaped) = constant.reshaped(&sizes)
        {
            return Ok(Tensor::constant(reshaped));
        }
        let known = x.elements().map(<[_]>::to_vec);
        let axes = self.i64s(axes);
        self.op("Squeeze", &[x, &axes])
            .one_known(x.dtype, shape, known)
    }

    /// Joins tensors along an axis. Negative axes count from the end.
    pub(crate) fn concat(&mut self, parts: &[&Tensor], axis: i64) -> Result<Tensor> {
        let first = parts
            .first()
            .ok_or_else(|| Refusal::new("joins no tensors"))?;
        if parts.len() == 1 {
            return Ok((*first).clone());
        }
        let dtype = first.dtype;
        let mut shape = Shape::unknown();
        for part in parts {
            let mut dims = part.shape.clone();
            if let (Some(dims), Some(axis)) = (&mut dims.0, axis_of(axis, part.rank())) {
                dims[axis] = None;
            }
            shape = shape.merged(&dims);
        }
        let joined = parts
            .iter()
            .try_fold(0i64, |sum, it| sum.checked_add(it.shape.dim(axis)?));
        let place = axis_of(axis, shape.rank());
        if let (Some(dims), Some(axis)) = (&mut shape.0, place) {
            dims[axis] = joined;
        }
        let mut known = Some(Vec::new());
        if shape.rank() == Some(1) {
            for part in parts {
                // A part of known length without known elements.
                let unknown = || {
                    let len = usize::try_from(part.shape.dim(0)?).ok()?;
                    (len <= MAX_ELEMENTS && is_int(dtype)).then(|| vec![None; len])
                };
                let elements = part.elements().map(<[_]>::to_vec).or_else(unknown);
                known = known.zip(elements).map(|(mut known, elements)| {
                    known.extend(elements);
                    known
                });
            }
        } else {
            known = None;
        }
        self.op("Concat", parts)
            .int("axis", axis)
            .one_known(dtype, shape, known)
    }

    /// The elements from `starts` to `ends` along `axes`, `steps` apart: ONNX's `Slice` with constants.
    pub(crate) fn slice(
        &mut self,
        x: &Tensor,
        axes: &[i64],
        starts: &[i64],
        ends: &[i64],
        steps: &[i64],
    ) -> Result<Tensor> {
        let mut shape = x.shape.clone();
        if let Some(dims) = &mut shape.0 {
            for (index, &axis) in axes.iter().enumerate() {
                if let Some(axis) = axis_of(axis, Some(dims.len())) {
                    dims[axis] = dims[axis]
                        .map(|size| sliced(size, starts[index], ends[index], steps[index]));
                }
            }
        }
        let known = match (x.elements(), x.rank(), axes) {
            (Some(elements), Some(1), [_]) => {
                let size = elements.len() as i64;
                let (first, count) = slice_range(size, starts[0], ends[0], steps[0]);
                let indices = (0..count).map(|it| first + it * steps[0]);
                Some(indices.map(|it| elements[it as usize]).collect::<Vec<_>>())
            }
            _ => None,
        };
        let lists = [starts, ends, axes, steps].map(|it| self.i64s(it));
        self.op("Slice", &[x, &lists[0], &lists[1], &lists[2], &lists[3]])
            .one_known(x.dtype, shape, known)
    }

    /// The tensor repeated to the sizes in a vector of int64, as far as its own are 1.
    pub(crate) fn expand(&mut self, x: &Tensor, sizes: &Tensor) -> Result<Tensor> {
        let target = match sizes.elements() {
            Some(sizes) => Shape::dims(sizes.iter().copied()),
            None => match sizes.shape.dim(0).and_then(|it| usize::try_from(it).ok()) {
                Some(rank) => Shape::of_rank(rank),
                None => Shape::unknown(),
            },
        };
        let shape = x.shape.broadcast(&target);
        self.op("Expand", &[x, sizes]).one(x.dtype, shape)
    }

    /// A reduction over constant axes; over all of them with `None`. `op_type` is one that takes its axes as
    /// an input: all `Reduce*` since opset 18.
    pub(crate) fn reduce(
        &mut self,
        op_type: &str,
        x: &Tensor,
        axes: Option<&[i64]>,
        keep: bool,
    ) -> Result<Tensor> {
        let shape = match (&x.shape.0, axes) {
            (_, None) if !keep => Shape::scalar(),
            (Some(dims), _) => {
                let all: Vec<i64> = (0..dims.len() as i64).collect();
                let places: Vec<usize> = axes
                    .unwrap_or(&all)
                    .iter()
                    .map(|&it| from_start(it, dims.len()))
                    .collect();
                let dims = dims.iter().copied().enumerate();
                Shape(Some(
                    dims.filter_map(|(index, dim)| match (places.contains(&index), keep) {
                        (true, true) => Some(Some(1)),
                        (true, false) => None,
                        (false, _) => Some(dim),
                    })
                    .collect(),
                ))
            }
            _ => Shape::unknown(),
        };
        let axes = axes.map_or_else(Tensor::absent, |it| self.i64s(it));
        self.op(op_type, &[x, &axes])
            .int("keepdims", keep.into())
            .one(x.dtype, shape)
    }
}

/// Counts a negative axis from the end. An axis outside of the rank is left to ONNX Runtime to refuse.
pub(crate) fn from_start(axis: i64, rank: usize) -> usize {
    axis_of(axis, Some(rank)).unwrap_or(usize::MAX)
}

/// The axis from the start; `None` if it is outside of the rank, or the rank is not known.
pub(crate) fn axis_of(axis: i64, rank: Option<usize>) -> Option<usize> {
    let rank = rank?;
    let axis = if axis < 0 {
        axis.checked_add(i64::try_from(rank).ok()?)?
    } else {
        axis
    };
    usize::try_from(axis).ok().filter(|&it| it < rank)
}

fn is_int(dtype: DataType) -> bool {
    crate::value::int_constant(dtype, &[0], &[]).is_some()
}

/// Whether a known int64 of a sensible shape fits.
fn is_wide(dtype: DataType) -> bool {
    matches!(dtype, DataType::Int32 | DataType::Int64)
}

/// The index of the first element, and the number of elements, of a slice as ONNX defines it.
fn slice_range(size: i64, start: i64, end: i64, step: i64) -> (i64, i64) {
    let clamp = |it: i64, low: i64, high: i64| {
        let it = if it < 0 { it.saturating_add(size) } else { it };
        it.clamp(low, high)
    };
    if step > 0 {
        let (start, end) = (clamp(start, 0, size), clamp(end, 0, size));
        (start, ((end - start).max(0) + step - 1) / step)
    } else if step < 0 {
        let (start, end) = (clamp(start, 0, size - 1), clamp(end, -1, size - 1));
        (start, ((start - end).max(0) - step - 1) / -step)
    } else {
        (0, 0)
    }
}

fn sliced(size: i64, start: i64, end: i64, step: i64) -> i64 {
    slice_range(size, start, end, step).1
}

/// The elements of a result if both inputs are small tensors of integers.
fn fold_binary(op_type: &str, x: &Tensor, y: &Tensor, shape: &Shape) -> Option<Vec<Option<i64>>> {
    let (one, two) = (x.elements()?, y.elements()?);
    let len = one.len().max(two.len());
    let is_simple = |it: &[Option<i64>]| it.len() == 1 || it.len() == len;
    if !is_simple(one) || !is_simple(two) || shape.rank()? > 1 {
        return None;
    }
    let at = |it: &[Option<i64>], index: usize| if it.len() == 1 { it[0] } else { it[index] };
    let compute = |one: i64, two: i64| match op_type {
        "Add" => one.checked_add(two),
        "Sub" => one.checked_sub(two),
        "Mul" => one.checked_mul(two),
        "Max" => Some(one.max(two)),
        "Min" => Some(one.min(two)),
        // Towards zero, as ONNX.
        "Div" if two != 0 => one.checked_div(two),
        _ => None,
    };
    let is_known = matches!(op_type, "Add" | "Sub" | "Mul" | "Max" | "Min" | "Div");
    is_known.then(|| {
        (0..len)
            .map(|index| compute(at(one, index)?, at(two, index)?))
            .collect()
    })
}
