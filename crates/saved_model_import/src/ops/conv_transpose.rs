//! Transposed convolutions: TensorFlow has them as the gradient of a convolution by its input.
//!
//! Not here: convolutions (`conv`), windows and padding (`spatial`).

use base::tensor::DataType;

use super::Table;
use super::conv::{kernel_order, multiply, window};
use super::spatial::{Layout, Padding, Window, halves, pad, same_totals};
use super::windows::range;
use crate::builder::Builder;
use crate::op::{Op, Translated, one};
use crate::ops::Rule::Pure;
use crate::refusal::Refusal;
use crate::value::{Shape, Tensor};

type Result<T> = std::result::Result<T, Refusal>;

pub(super) const TABLE: Table = &[
    ("Conv2DBackpropInput", Pure(|b, op| transposed(b, op, 2))),
    ("Conv3DBackpropInputV2", Pure(|b, op| transposed(b, op, 3))),
];

/// A transposed convolution. Vectors are of int64, with one element for each spatial dimension.
struct Transposed {
    layout: Layout,
    window: Window,
    /// In the order of ONNX: the channels of the input, those of a group of the result, spatial.
    kernel: Tensor,
    groups: i64,
    /// The sizes of the result.
    sizes: Tensor,
    /// How many elements the convolution puts before its input.
    starts: Tensor,
}

fn transposed(b: &mut Builder, op: &Op<'_>, spatial: usize) -> Translated {
    let layout = Layout::of(op, spatial)?;
    let kernel = layout.ranked(op.input(1)?)?;
    let y = layout.ranked(op.input(2)?)?;
    let window = window(b, op, layout, &kernel)?;
    let padding = Padding::of(op, layout)?;
    let kernel = b.transpose(&kernel, &kernel_order(spatial))?;
    let target = b.cast(op.input(0)?, DataType::Int64)?;
    let sizes = sizes_of(b, &target, layout, op)?;
    let (groups, sizes) = match groups(&target, &kernel, layout, op)? {
        Some(groups) => (groups, sizes),
        None => (1, ungrouped(b, &target, &kernel, layout, &sizes)?),
    };
    let first = layout.to_first(b, &y)?;
    let (starts, sizes) = placed(b, &window, &padding, &first, sizes)?;
    let work = Transposed {
        layout,
        window,
        kernel,
        groups,
        sizes,
        starts,
    };
    match y.dtype {
        DataType::Float => one(work.run(b, &first)?),
        DataType::Half | DataType::BFloat16 => {
            let wide = b.cast(&first, DataType::Float)?;
            let kernel = b.cast(&work.kernel, DataType::Float)?;
            let result = Transposed { kernel, ..work }.run(b, &wide)?;
            one(b.cast(&result, y.dtype)?)
        }
        DataType::Double | DataType::Int32 => one(work.multiply(b, &y)?),
        other => Err(Refusal::new(format!("is not run for {other}"))),
    }
}

/// The spatial sizes of the result: the input has them alone, or those of all dimensions.
fn sizes_of(b: &mut Builder, target: &Tensor, layout: Layout, op: &Op<'_>) -> Result<Tensor> {
    let count = layout.spatial as i64;
    let first = layout.first_spatial() as i64;
    let known = target
        .shape
        .dim(0)
        .or(target.elements().map(|it| it.len() as i64));
    let sizes = match known {
        Some(length) if length == count => target.clone(),
        Some(length) if length == count + 2 => {
            b.slice(target, &[0], &[first], &[first + count], &[1])?
        }
        // Both forms have the spatial sizes together, from the start or in the middle.
        _ => return Err(Refusal::new("has a number of sizes that is not known")),
    };
    let sizes = sizes.with_shape(Shape::dims([Some(count)]));
    if sizes.ints().is_some() {
        return Ok(sizes);
    }
    let noted = op.noted_shape(0);
    let noted = (0..count).map(|it| noted.dim(first + it)).collect();
    Ok(match sizes.elements() {
        Some(_) => sizes,
        None => sizes.with_elements(noted),
    })
}

/// The groups of the convolution: the channels of the result divided by those of the kernel. `None` if they are
/// not known.
fn groups(target: &Tensor, kernel: &Tensor, layout: Layout, op: &Op<'_>) -> Result<Option<i64>> {
    let place = layout.channels();
    if target.shape.dim(0) == Some(layout.spatial as i64) {
        // The result has the channels of the kernel.
        return Ok(Some(1));
    }
    let given = target.elements().and_then(|it| *it.get(place)?);
    let all = given.or(op.noted_shape(0).dim(place as i64));
    match (all, kernel.shape.dim(1)) {
        (Some(all), Some(group)) if group > 0 && all > 0 && all % group == 0 => {
            Ok(Some(all / group))
        }
        (Some(all), Some(group)) => Err(Refusal::new(format!(
            "has {all} channels in groups of {group}"
        ))),
        _ => Ok(None),
    }
}

/// The sizes of the result of one group; the model fails for channels of several groups, as TensorFlow's kernel
/// does on a CPU.
fn ungrouped(
    b: &mut Builder,
    target: &Tensor,
    kernel: &Tensor,
    layout: Layout,
    sizes: &Tensor,
) -> Result<Tensor> {
    let place = layout.channels() as i64;
    let all = b.slice(target, &[0], &[place], &[place + 1], &[1])?;
    let group = b.size_at(kernel, 1)?;
    let is_one = b.compare("Equal", &all, &group)?;
    b.require(sizes, &is_one)
}

/// The elements that the convolution puts before its input, and the sizes; the model fails for sizes that the
/// convolution does not turn into those of `y`, whose channels are in front.
fn placed(
    b: &mut Builder,
    window: &Window,
    padding: &Padding,
    y: &Tensor,
    sizes: Tensor,
) -> Result<(Tensor, Tensor)> {
    let count = window.strides.len();
    let reaches = window.reaches(b)?;
    let strides = b.i64s(&window.strides);
    let one = b.i64s(&[1]);
    let (starts, totals) = match padding {
        Padding::Same => {
            let totals = same_totals(b, &sizes, &reaches, &window.strides)?;
            let both = halves(b, &totals)?;
            let starts = b.slice(&both, &[0], &[0], &[count as i64], &[1])?;
            (starts, None)
        }
        Padding::Valid => {
            let zeros = b.i64s(&vec![0; count]);
            (zeros.clone(), Some(zeros))
        }
        Padding::Explicit(pads) => {
            let starts: Vec<i64> = pads.iter().map(|it| it.0).collect();
            let totals: Vec<i64> = pads.iter().map(|it| it.0 + it.1).collect();
            (b.i64s(&starts), Some(b.i64s(&totals)))
        }
    };
    let room = match totals {
        None => b.binary("Sub", &sizes, &one)?,
        Some(totals) => {
            let room = b.binary("Add", &sizes, &totals)?;
            b.binary("Sub", &room, &reaches)?
        }
    };
    let expected = b.binary("Div", &room, &strides)?;
    let expected = b.binary("Add", &expected, &one)?;
    let all = b.shape_of(y)?;
    let given = b.slice(&all, &[0], &[2], &[count as i64 + 2], &[1])?;
    match (expected.ints(), given.ints()) {
        (Some(expected), Some(given)) if expected == given => Ok((starts, sizes)),
        (Some(expected), Some(given)) => Err(Refusal::new(format!(
            "has an input of the sizes {given:?} instead of {expected:?}"
        ))),
        _ => {
            let is_equal = b.compare("Equal", &expected, &given)?;
            Ok((starts, b.require(&sizes, &is_equal)?))
        }
    }
}

impl Transposed {
    fn run(&self, b: &mut Builder, y: &Tensor) -> Result<Tensor> {
        let count = self.layout.spatial;
        let channels = self.kernel.shape.dim(1).map(|it| it * self.groups);
        // Without padding the result has all elements that the windows reach.
        let all = b.shape_of(y)?;
        let given = b.slice(&all, &[0], &[2], &[count as i64 + 2], &[1])?;
        let last = b.binary("Sub", &given, &b.i64s(&[1]))?;
        let last = b.binary("Mul", &last, &b.i64s(&self.window.strides))?;
        let reaches = self.window.reaches(b)?;
        let full = b.binary("Add", &last, &reaches)?;
        // As many as that are too many at the end; a negative number lacks.
        let behind = b.binary("Sub", &full, &self.starts)?;
        let behind = b.binary("Sub", &behind, &self.sizes)?;
        let known = self.starts.ints().zip(behind.ints());
        let dims = |sizes: Vec<Option<i64>>| {
            Shape::dims([y.shape.dim(0), channels].into_iter().chain(sizes))
        };
        let node = b
            .op("ConvTranspose", &[y, &self.kernel])
            .ints("strides", &self.window.strides)
            .ints("dilations", &self.window.dilations)
            .int("group", self.groups);
        let result = match known {
            Some((starts, behind)) => {
                let pads: Vec<i64> = starts
                    .into_iter()
                    .chain(behind.iter().map(|&it| it.max(0)))
                    .collect();
                let lacking: Vec<i64> = behind.iter().map(|&it| (-it).max(0)).collect();
                let sizes = self.sizes.elements().map(<[_]>::to_vec);
                let shape = dims(sizes.unwrap_or_else(|| vec![None; count]));
                node.ints("pads", &pads)
                    .ints("output_padding", &lacking)
                    .one(y.dtype, shape)?
            }
            None => {
                let whole = node.one(y.dtype, dims(vec![None; count]))?;
                let lacking = b.binary("Sub", &b.i64s(&[0]), &behind)?;
                let lacking = b.binary("Max", &lacking, &b.i64s(&[0]))?;
                let pads = b.concat(&[&b.i64s(&vec![0; count]), &lacking], 0)?;
                let whole = pad(b, &whole, 2, &pads, 0.0)?;
                let ends = b.binary("Add", &self.starts, &self.sizes)?;
                let axes: Vec<i64> = (2..count as i64 + 2).collect();
                let sizes = self.sizes.elements().map(<[_]>::to_vec);
                let shape = dims(sizes.unwrap_or_else(|| vec![None; count]));
                let axes = b.i64s(&axes);
                b.op("Slice", &[&whole, &self.starts, &ends, &axes])
                    .one(y.dtype, shape)?
            }
        };
        self.layout.returned_from_first(b, &result)
    }

    /// As a product of matrices, for the dtypes for which ONNX Runtime has no kernel: each place of the result
    /// takes the elements of `y` whose windows reach it.
    fn multiply(&self, b: &mut Builder, y: &Tensor) -> Result<Tensor> {
        if self.groups != 1 {
            return Err(Refusal::new(format!(
                "is not run for groups of {}",
                y.dtype
            )));
        }
        let mut elements = self.layout.to_last(b, y)?;
        for index in 0..self.layout.spatial {
            elements = self.reached(b, &elements, index)?;
        }
        let spatial = self.layout.spatial as i64;
        let order: Vec<i64> = [1, 0].into_iter().chain(2..spatial + 2).collect();
        let kernel = b.transpose(&self.kernel, &order)?;
        let result = multiply(b, &elements, &kernel, 1, self.layout.spatial)?;
        self.layout.returned_from_last(b, &result)
    }

    /// Replaces a spatial dimension with the places of the result and the offsets within a window: zeros where
    /// no window begins.
    fn reached(&self, b: &mut Builder, y: &Tensor, index: usize) -> Result<Tensor> {
        let place = index as i64;
        let axis = 1 + 2 * place;
        let size = self.window.sizes.elements().and_then(|it| *it.get(index)?);
        let size = size
            .filter(|it| (1..=1 << 16).contains(it))
            .ok_or_else(|| Refusal::new("has a window of unknown size"))?;
        let offsets: Vec<i64> = (0..size)
            .map(|it| it * self.window.dilations[index])
            .collect();
        let at = |b: &mut Builder, x: &Tensor| b.slice(x, &[0], &[place], &[place + 1], &[1]);
        let (length, start) = (at(b, &self.sizes)?, at(b, &self.starts)?);
        let all = b.shape_of(y)?;
        let given = b.slice(&all, &[0], &[axis], &[axis + 1], &[1])?;
        let rows = range(b, &length)?;
        let rows = b.binary("Add", &rows, &start)?;
        let rows = b.unsqueeze(&rows, &[1])?;
        let begin = b.binary("Sub", &rows, &b.i64s(&offsets))?;
        let stride = b.i64s(&[self.window.strides[index]]);
        let window = b.binary("Div", &begin, &stride)?;
        let back = b.binary("Mul", &window, &stride)?;
        let zero = b.i64s(&[0]);
        let mut reaches = b.compare("Equal", &back, &begin)?;
        for condition in [
            b.compare("GreaterOrEqual", &begin, &zero)?,
            b.compare("Less", &window, &given)?,
        ] {
            let shape = reaches.shape.clone();
            reaches = b
                .op("And", &[&reaches, &condition])
                .one(DataType::Bool, shape)?;
        }
        let window = b.choose(&reaches, &window, &zero)?;
        let elements = b.gather(y, &window, axis)?;
        let behind: Vec<i64> = (2..2 + self.layout.spatial as i64 - place).collect();
        let reaches = b.unsqueeze(&reaches, &behind)?;
        let nothing = b.scalar(y.dtype, 0.0)?;
        b.choose(&reaches, &elements, &nothing)
    }
}
