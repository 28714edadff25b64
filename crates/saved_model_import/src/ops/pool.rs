//! Pools: the largest element or the average of each window.
//!
//! Not here: windows and padding (`spatial`).

use base::tensor::DataType;

use super::Table;
use super::spatial::{Layout, Padding, Pads, Window, pad};
use super::windows::windows;
use crate::builder::Builder;
use crate::op::{Op, Translated, many, one};
use crate::ops::Rule::Pure;
use crate::refusal::Refusal;
use crate::value::{Shape, Tensor};

type Result<T> = std::result::Result<T, Refusal>;

pub(super) const TABLE: Table = &[
    ("AvgPool", Pure(|b, op| average(b, op, 2))),
    ("AvgPool3D", Pure(|b, op| average(b, op, 3))),
    ("MaxPool", Pure(|b, op| max(b, op, 2))),
    ("MaxPool3D", Pure(|b, op| max(b, op, 3))),
    ("MaxPoolV2", Pure(max_with_inputs)),
    ("MaxPoolWithArgmax", Pure(max_with_argmax)),
];

/// A pool with its attributes.
struct Pool {
    layout: Layout,
    window: Window,
    padding: Padding,
    sizes: Vec<i64>,
}

impl Pool {
    fn new(
        b: &Builder,
        op: &Op<'_>,
        spatial: usize,
        sizes: &[i64],
        strides: &[i64],
    ) -> Result<Self> {
        let layout = Layout::of(op, spatial)?;
        let sizes = layout.spatial(sizes, "window")?;
        let strides = layout.spatial(strides, "strides")?;
        let padding = Padding::of(op, layout)?;
        let window = Window::new(b, &sizes, strides, vec![1; spatial]);
        Ok(Self {
            layout,
            window,
            padding,
            sizes,
        })
    }

    /// The node and its outputs: of the dtype of the input, and of int64 if `indices` are wanted.
    fn run(
        &self,
        b: &mut Builder,
        op_type: &str,
        x: &Tensor,
        indices: bool,
    ) -> Result<Vec<Tensor>> {
        let mut x = x.clone();
        let mut pads = self.window.pads(b, &x, 2, &self.padding)?;
        if self.has_gaps() && op_type == "MaxPool" && self.padding == Padding::Same {
            // ONNX Runtime computes a negative padding here, and refuses it.
            let vector = self.window.pads_vector(b, &x, 2, &Padding::Same)?;
            x = pad(b, &x, 2, &vector, lowest(x.dtype))?;
            pads = Pads::Fixed(vec![0; 2 * self.sizes.len()]);
        }
        let x = &x;
        let shape = self.window.result(x, &pads, x.shape.dim(1));
        let mut node = b
            .op(op_type, &[x])
            .ints("kernel_shape", &self.sizes)
            .ints("strides", &self.window.strides);
        node = match &pads {
            Pads::Same => node.text("auto_pad", "SAME_UPPER"),
            Pads::Fixed(pads) => node.ints("pads", pads),
            Pads::Computed(_) => return Err(Refusal::new("has a padding that is not constant")),
        };
        let mut outputs = vec![(x.dtype, shape.clone())];
        if indices {
            outputs.push((DataType::Int64, shape));
        }
        let mut results = node.many(outputs)?;
        if self.padding != Padding::Same {
            results[0] = self.checked(b, x, &results[0])?;
        }
        Ok(results)
    }

    /// The result of the pool; the model fails for an input that is smaller than the window. ONNX Runtime
    /// answers then if it is smaller by less than a stride.
    fn checked(&self, b: &mut Builder, x: &Tensor, result: &Tensor) -> Result<Tensor> {
        let extra = match &self.padding {
            Padding::Explicit(pads) => pads.iter().map(|(start, end)| start + end).collect(),
            _ => vec![0; self.sizes.len()],
        };
        let needed = self
            .sizes
            .iter()
            .zip(extra)
            .map(|(size, extra)| size - extra);
        let needed: Vec<i64> = needed.collect();
        let is_known = |(index, needed): (usize, &i64)| {
            let size = x.shape.dim(index as i64 + 2);
            *needed <= 1 || size.is_some_and(|it| it >= *needed)
        };
        if needed.iter().enumerate().all(is_known) {
            return Ok(result.clone());
        }
        let sizes = b.op("Shape", &[x]).int("start", 2);
        let sizes = sizes.one(DataType::Int64, Shape::fixed(&[needed.len()]))?;
        let is_enough = b.compare("GreaterOrEqual", &sizes, &b.i64s(&needed))?;
        b.require(result, &is_enough)
    }

    /// Whether elements lie between the windows.
    fn has_gaps(&self) -> bool {
        let mut pairs = self.sizes.iter().zip(&self.window.strides);
        pairs.any(|(size, stride)| size < stride)
    }

    /// Whether ONNX Runtime takes the padding: it has to be smaller than the window.
    fn is_narrow(&self) -> bool {
        match &self.padding {
            Padding::Explicit(pads) => pads
                .iter()
                .zip(&self.sizes)
                .all(|((start, end), size)| start < size && end < size),
            _ => true,
        }
    }
}

/// The lowest number of a dtype; finite for floats, as TensorFlow has it.
fn lowest(dtype: DataType) -> f64 {
    match dtype {
        DataType::Double => f64::MIN,
        DataType::Int8 => f64::from(i8::MIN),
        DataType::UInt8 => 0.0,
        _ => f64::from(f32::MIN),
    }
}

fn average(b: &mut Builder, op: &Op<'_>, spatial: usize) -> Translated {
    let pool = Pool::new(
        b,
        op,
        spatial,
        op.attr_ints("ksize"),
        op.attr_ints("strides"),
    )?;
    let x = op.input(0)?;
    if !pool.is_narrow() {
        return Err(Refusal::new("has a padding that is larger than its window"));
    }
    match x.dtype {
        DataType::Float | DataType::Half | DataType::BFloat16 => {
            let wide = b.cast(x, DataType::Float)?;
            let wide = pool.layout.to_first(b, &wide)?;
            let result = pool.run(b, "AveragePool", &wide, false)?.swap_remove(0);
            let result = pool.layout.returned_from_first(b, &result)?;
            one(b.cast(&result, x.dtype)?)
        }
        DataType::Double => one(mean(b, &pool, x)?),
        other => Err(Refusal::new(format!("is not run for {other}"))),
    }
}

/// The average over all windows as sums: padding counts neither in the sum nor in the number of elements.
fn mean(b: &mut Builder, pool: &Pool, x: &Tensor) -> Result<Tensor> {
    let x = pool.layout.to_last(b, x)?;
    let axes: Vec<i64> = (1..=pool.layout.spatial as i64).map(|it| 2 * it).collect();
    let mut parts = Vec::new();
    // Of the input, and of as many ones in one batch and channel.
    let sizes = b.shape_of(&x)?;
    let spatial = b.slice(&sizes, &[0], &[1], &[pool.layout.rank() as i64 - 1], &[1])?;
    let sizes = b.concat(&[&b.i64s(&[1]), &spatial, &b.i64s(&[1])], 0)?;
    let ones = b.scalar(x.dtype, 1.0)?;
    let ones = b.expand(&ones, &sizes)?;
    for tensor in [&x, &ones] {
        let elements = windows(b, tensor, &pool.window, &pool.padding, 0.0)?;
        parts.push(b.reduce("ReduceSum", &elements, Some(&axes), false)?);
    }
    let result = b.binary("Div", &parts[0], &parts[1])?;
    pool.layout.returned_from_last(b, &result)
}

fn max(b: &mut Builder, op: &Op<'_>, spatial: usize) -> Translated {
    max_of(
        b,
        op,
        spatial,
        op.attr_ints("ksize"),
        op.attr_ints("strides"),
    )
}

fn max_with_inputs(b: &mut Builder, op: &Op<'_>) -> Translated {
    let sizes = op.ints(1, "window")?;
    let strides = op.ints(2, "stride")?;
    max_of(b, op, 2, &sizes, &strides)
}

fn max_of(
    b: &mut Builder,
    op: &Op<'_>,
    spatial: usize,
    sizes: &[i64],
    strides: &[i64],
) -> Translated {
    let x = op.input(0)?;
    let layout = Layout::of(op, spatial)?;
    if let (window, size @ 2..) = layout.split(sizes, "window")?
        && window.iter().all(|&it| it == 1)
    {
        return max_of_channels(b, x, layout, size, strides);
    }
    let pool = Pool::new(b, op, spatial, sizes, strides)?;
    if !pool.is_narrow() {
        return Err(Refusal::new("has a padding that is larger than its window"));
    }
    let between = match x.dtype {
        DataType::Int8 | DataType::UInt8 => x.dtype,
        DataType::Float | DataType::Half | DataType::BFloat16 => DataType::Float,
        DataType::Int16 | DataType::UInt16 => DataType::Float,
        DataType::Int32 | DataType::Double => DataType::Double,
        DataType::Int64 => return one(max_of_windows(b, &pool, x)?),
        other => return Err(Refusal::new(format!("is not run for {other}"))),
    };
    let wide = b.cast(x, between)?;
    let wide = without_nan(b, &wide, x.dtype)?;
    let wide = pool.layout.to_first(b, &wide)?;
    let result = pool.run(b, "MaxPool", &wide, false)?.swap_remove(0);
    let result = pool.layout.returned_from_first(b, &result)?;
    one(b.cast(&result, x.dtype)?)
}

/// TensorFlow starts each window with the lowest finite number, which neither NaN nor a lower number changes.
/// ONNX Runtime's result depends on the place of a NaN within the window.
///
/// The result of a `Relu` is taken as it is: only NaN could make a difference, and a comparison in this place
/// would separate a convolution from its pool, which ONNX Runtime computes in one layout.
fn without_nan(b: &mut Builder, x: &Tensor, of: DataType) -> Result<Tensor> {
    let is_float = matches!(
        of,
        DataType::Float | DataType::Double | DataType::Half | DataType::BFloat16
    );
    let padded = b.without_padding(x);
    if !is_float || b.origin(&padded, &["Relu", "Relu6"]).is_some() {
        return Ok(x.clone());
    }
    let lowest = b.scalar(x.dtype, lowest(x.dtype))?;
    let is_higher = b.compare("Greater", x, &lowest)?;
    b.choose(&is_higher, x, &lowest)
}

/// For integers that no float holds: the largest of each window.
fn max_of_windows(b: &mut Builder, pool: &Pool, x: &Tensor) -> Result<Tensor> {
    let x = pool.layout.to_last(b, x)?;
    let pads = pool.window.pads_vector(b, &x, 1, &pool.padding)?;
    // The lowest int64, which no f64 literal of a smaller magnitude stands for.
    #[allow(clippy::cast_precision_loss)]
    let padded = pad(b, &x, 1, &pads, i64::MIN as f64)?;
    let elements = windows(b, &padded, &pool.window, &Padding::Valid, 0.0)?;
    let axes: Vec<i64> = (1..=pool.layout.spatial as i64).map(|it| 2 * it).collect();
    let result = b.reduce("ReduceMax", &elements, Some(&axes), false)?;
    pool.layout.returned_from_last(b, &result)
}

/// The largest of each group of neighbouring channels. TensorFlow has it for channels that are last, and for
/// groups that do not overlap.
fn max_of_channels(
    b: &mut Builder,
    x: &Tensor,
    layout: Layout,
    size: i64,
    strides: &[i64],
) -> Translated {
    let (spatial, stride) = layout.split(strides, "strides")?;
    if layout.is_first || stride != size || spatial.iter().any(|&it| it != 1) {
        return Err(Refusal::new("has windows of channels that overlap"));
    }
    let x = layout.ranked(x)?;
    let sizes = b.shape_of(&x)?;
    let last = layout.rank() as i64 - 1;
    let outer = b.slice(&sizes, &[0], &[0], &[last], &[1])?;
    let channels = b.slice(&sizes, &[0], &[last], &[last + 1], &[1])?;
    let groups = b.binary("Div", &channels, &b.i64s(&[size]))?;
    // The reshape fails if the channels are not a multiple.
    let sizes = b.concat(&[&outer, &groups, &b.i64s(&[size])], 0)?;
    let split = b.reshape_to(&x, &sizes)?;
    one(b.reduce("ReduceMax", &split, Some(&[-1]), false)?)
}

/// The second output numbers the elements of an image with its channels last; of the whole batch if
/// `include_batch_in_index`. ONNX numbers those of the batch, with the channels in front.
fn max_with_argmax(b: &mut Builder, op: &Op<'_>) -> Translated {
    let pool = Pool::new(b, op, 2, op.attr_ints("ksize"), op.attr_ints("strides"))?;
    let x = op.input(0)?;
    let between = match x.dtype {
        DataType::Int8 | DataType::UInt8 | DataType::Float | DataType::Double => x.dtype,
        DataType::Int16 | DataType::UInt16 | DataType::Half | DataType::BFloat16 => DataType::Float,
        DataType::Int32 => DataType::Double,
        other => return Err(Refusal::new(format!("is not run for {other}"))),
    };
    let wide = b.cast(x, between)?;
    let first = pool.layout.to_first(b, &wide)?;
    let mut results = pool.run(b, "MaxPool", &first, true)?;
    let indices = results.swap_remove(1);
    let largest = pool.layout.returned_from_first(b, &results[0])?;
    let largest = b.cast(&largest, x.dtype)?;
    let indices = pool.layout.returned_from_first(b, &indices)?;
    let sizes = b.shape_of(&first)?;
    let size = |b: &mut Builder, axis: i64| b.slice(&sizes, &[0], &[axis], &[axis + 1], &[1]);
    let (height, width) = (size(b, 2)?, size(b, 3)?);
    let area = b.binary("Mul", &height, &width)?;
    let channels = size(b, 1)?;
    let place = b
        .op("Mod", &[&indices, &area])
        .one(DataType::Int64, indices.shape.clone())?;
    let place = b.binary("Mul", &place, &channels)?;
    let channel = super::windows::range(b, &channels)?;
    let mut index = b.binary("Add", &place, &channel)?;
    if op.attr_flag("include_batch_in_index") {
        let image = b.binary("Mul", &area, &channels)?;
        let batch = size(b, 0)?;
        let starts = super::windows::range(b, &batch)?;
        let starts = b.binary("Mul", &starts, &image)?;
        let starts = b.unsqueeze(&starts, &[1, 2, 3])?;
        index = b.binary("Add", &index, &starts)?;
    }
    let index = index.with_shape(Shape::of_rank(4));
    let dtype = op.attr_dtype("Targmax").unwrap_or(DataType::Int64);
    many([largest, b.cast(&index, dtype)?])
}
