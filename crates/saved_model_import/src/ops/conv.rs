//! Convolutions.
//!
//! Not here: transposed ones (`conv_transpose`), windows and padding (`spatial`).

use base::tensor::DataType;

use super::Table;
use super::spatial::{Layout, Padding, Pads, Window, pad};
use super::windows::windows;
use crate::builder::Builder;
use crate::op::{Op, Translated, one};
use crate::ops::Rule::Pure;
use crate::refusal::Refusal;
use crate::value::{Shape, Tensor};

type Result<T> = std::result::Result<T, Refusal>;

pub(super) const TABLE: Table = &[
    ("Conv2D", Pure(|b, op| dense(b, op, 2))),
    ("Conv3D", Pure(|b, op| dense(b, op, 3))),
    ("DepthwiseConv2dNative", Pure(depthwise)),
];

/// A convolution whose kernel is in ONNX's order: output channels, input channels of a group, spatial.
struct Conv {
    layout: Layout,
    window: Window,
    padding: Padding,
    kernel: Tensor,
    groups: i64,
}

/// The kernel is `[spatial..., input channels of a group, output channels]`.
fn dense(b: &mut Builder, op: &Op<'_>, spatial: usize) -> Translated {
    let layout = Layout::of(op, spatial)?;
    let x = layout.ranked(op.input(0)?)?;
    let kernel = layout.ranked(op.input(1)?)?;
    let window = window(b, op, layout, &kernel)?;
    let padding = Padding::of(op, layout)?;
    let mut kernel = b.transpose(&kernel, &kernel_order(spatial))?;
    let channels = x.shape.dim(layout.channels() as i64);
    let groups = match (channels, kernel.shape.dim(1)) {
        (Some(all), Some(group)) if group > 0 && all % group == 0 => all / group,
        (Some(all), Some(group)) => {
            return Err(Refusal::new(format!(
                "has {all} channels in groups of {group}"
            )));
        }
        _ => {
            kernel = ungrouped(b, &kernel, &x, layout)?;
            1
        }
    };
    Conv {
        layout,
        window,
        padding,
        kernel,
        groups,
    }
    .apply(b, &x)
}

/// The kernel is `[height, width, channels, multiplier]`.
fn depthwise(b: &mut Builder, op: &Op<'_>) -> Translated {
    let layout = Layout::of(op, 2)?;
    let x = layout.ranked(op.input(0)?)?;
    let kernel = layout.ranked(op.input(1)?)?;
    let window = window(b, op, layout, &kernel)?;
    let padding = Padding::of(op, layout)?;
    let channels = x.shape.dim(layout.channels() as i64);
    let groups = channels
        .or(kernel.shape.dim(2))
        .filter(|&it| it > 0)
        .ok_or_else(|| Refusal::new("has an unknown number of channels"))?;
    let kernel = b.transpose(&kernel, &[2, 3, 0, 1])?;
    let sizes = b.shape_of(&kernel)?;
    let sizes = b.slice(&sizes, &[0], &[2], &[4], &[1])?;
    let front = match kernel.shape.dim(1) {
        Some(multiplier) => groups.checked_mul(multiplier).unwrap_or(-1),
        None => -1,
    };
    let sizes = b.concat(&[&b.i64s(&[front, 1]), &sizes], 0)?;
    let kernel = b.reshape_to(&kernel, &sizes)?;
    Conv {
        layout,
        window,
        padding,
        kernel,
        groups,
    }
    .apply(b, &x)
}

/// The order that turns `[spatial..., input, output]` into `[output, input, spatial...]`.
pub(super) fn kernel_order(spatial: usize) -> Vec<i64> {
    let spatial = spatial as i64;
    [spatial + 1, spatial]
        .into_iter()
        .chain(0..spatial)
        .collect()
}

/// The window of a convolution: the spatial dimensions of a kernel, which has them first.
pub(super) fn window(
    b: &mut Builder,
    op: &Op<'_>,
    layout: Layout,
    kernel: &Tensor,
) -> Result<Window> {
    let sizes = b.shape_of(kernel)?;
    let sizes = b.slice(&sizes, &[0], &[0], &[layout.spatial as i64], &[1])?;
    let strides = op.attr_ints("strides");
    // A depthwise convolution has strides for all dimensions too.
    let strides = layout.spatial(strides, "strides")?;
    let dilations = layout.spatial(op.attr_ints("dilations"), "dilations")?;
    Ok(Window {
        sizes,
        strides,
        dilations,
    })
}

/// A kernel for all channels at the same time, for an input whose number of channels is not known: those of
/// other groups count nothing.
fn ungrouped(b: &mut Builder, kernel: &Tensor, x: &Tensor, layout: Layout) -> Result<Tensor> {
    let one = b.i64s(&[1]);
    let at = |b: &mut Builder, of: &Tensor, axis: i64| {
        let sizes = b.shape_of(of)?;
        b.slice(&sizes, &[0], &[axis], &[axis + 1], &[1])
    };
    let all = at(b, x, layout.channels() as i64)?;
    let outputs = at(b, kernel, 0)?;
    let group = at(b, kernel, 1)?;
    let groups = b.binary("Div", &all, &group)?;
    let per_group = b.binary("Div", &outputs, &groups)?;
    let whole = b.binary("Mul", &per_group, &groups)?;
    let is_whole = b.compare("Equal", &whole, &outputs)?;
    let outputs = b.require(&outputs, &is_whole)?;
    let ones = b.i64s(&vec![1; layout.spatial]);
    let repeats = b.concat(&[&one, &groups, &ones], 0)?;
    let mut shape = kernel.shape.clone();
    if let Some(dims) = &mut shape.0 {
        dims[1] = None;
    }
    let tiled = b.op("Tile", &[kernel, &repeats]).one(kernel.dtype, shape)?;
    let rows = super::windows::range(b, &outputs)?;
    let rows = b.binary("Div", &rows, &per_group)?;
    let rows = b.unsqueeze(&rows, &[1])?;
    let columns = b.binary("Mul", &groups, &group)?;
    let columns = super::windows::range(b, &columns)?;
    let columns = b.binary("Div", &columns, &group)?;
    let own = b.compare("Equal", &rows, &columns)?;
    let axes: Vec<i64> = (2..layout.rank() as i64).collect();
    let own = b.unsqueeze(&own, &axes)?;
    let zero = b.scalar(kernel.dtype, 0.0)?;
    b.choose(&own, &tiled, &zero)
}

impl Conv {
    fn apply(self, b: &mut Builder, x: &Tensor) -> Translated {
        match x.dtype {
            DataType::Float => one(self.run(b, x)?),
            DataType::Half | DataType::BFloat16 => {
                let wide = b.cast(x, DataType::Float)?;
                let kernel = b.cast(&self.kernel, DataType::Float)?;
                let result = Self { kernel, ..self }.run(b, &wide)?;
                one(b.cast(&result, x.dtype)?)
            }
            DataType::Double | DataType::Int32 => one(self.multiply(b, x)?),
            other => Err(Refusal::new(format!("is not run for {other}"))),
        }
    }

    fn run(&self, b: &mut Builder, x: &Tensor) -> Result<Tensor> {
        let mut x = self.layout.to_first(b, x)?;
        let mut pads = self.window.pads(b, &x, 2, &self.padding)?;
        if let Pads::Computed(computed) = &pads {
            x = pad(b, &x, 2, computed, 0.0)?;
            pads = Pads::Fixed(vec![0; 2 * self.layout.spatial]);
        }
        let shape = self.window.result(&x, &pads, self.kernel.shape.dim(0));
        let mut node = b
            .op("Conv", &[&x, &self.kernel])
            .ints("strides", &self.window.strides)
            .ints("dilations", &self.window.dilations)
            .int("group", self.groups);
        if let Some(sizes) = self.window.sizes.ints() {
            node = node.ints("kernel_shape", &sizes);
        }
        node = match &pads {
            Pads::Same => node.text("auto_pad", "SAME_UPPER"),
            Pads::Fixed(pads) => node.ints("pads", pads),
            Pads::Computed(_) => node,
        };
        let result = node.one(x.dtype, shape)?;
        self.layout.returned_from_first(b, &result)
    }

    /// As a product of matrices, for the dtypes for which ONNX Runtime has no convolution.
    fn multiply(&self, b: &mut Builder, x: &Tensor) -> Result<Tensor> {
        let x = self.layout.to_last(b, x)?;
        let patches = windows(b, &x, &self.window, &self.padding, 0.0)?;
        let result = multiply(b, &patches, &self.kernel, self.groups, self.layout.spatial)?;
        self.layout.returned_from_last(b, &result)
    }
}

/// The sums over all windows `[batch, place, offset, ..., channels]` of their products with a kernel in ONNX's
/// order: `[batch, place, ..., channels]`.
pub(super) fn multiply(
    b: &mut Builder,
    patches: &Tensor,
    kernel: &Tensor,
    groups: i64,
    spatial: usize,
) -> Result<Tensor> {
    let sizes = b.shape_of(patches)?;
    let places: Vec<i64> = (0..spatial as i64).map(|it| 1 + 2 * it).collect();
    let offsets: Vec<i64> = places.iter().map(|it| it + 1).collect();
    let channels = 1 + 2 * spatial as i64;
    let outer: Vec<i64> = [0].into_iter().chain(places.iter().copied()).collect();
    let outer = b.gather(&sizes, &b.i64s(&outer), 0)?;
    // [batch, places..., channels, offsets...], then one row for each group: [rows, groups, channels * offsets].
    let order: Vec<i64> = [0]
        .into_iter()
        .chain(places)
        .chain([channels])
        .chain(offsets)
        .collect();
    let patches = b.transpose(patches, &order)?;
    let kernel_sizes = b.shape_of(kernel)?;
    let inner = b.slice(&kernel_sizes, &[0], &[1], &[i64::MAX], &[1])?;
    let inner = b
        .op("ReduceProd", &[&inner])
        .int("keepdims", 1)
        .one(DataType::Int64, Shape::fixed(&[1]))?;
    let outputs = b.slice(&kernel_sizes, &[0], &[0], &[1], &[1])?;
    let count = b.i64s(&[groups]);
    let rows = b
        .op("ReduceProd", &[&outer])
        .int("keepdims", 1)
        .one(DataType::Int64, Shape::fixed(&[1]))?;
    let sizes = b.concat(&[&rows, &count, &inner], 0)?;
    let patches = b.reshape_to(&patches, &sizes)?;
    let patches = b.transpose(&patches, &[1, 0, 2])?;
    let group = b.binary("Div", &outputs, &count)?;
    let sizes = b.concat(&[&count, &group, &inner], 0)?;
    let kernel = b.reshape_to(kernel, &sizes)?;
    let kernel = b.transpose(&kernel, &[0, 2, 1])?;
    let shape = Shape::dims([Some(groups), None, None]);
    let product = b
        .op("MatMul", &[&patches, &kernel])
        .one(patches.dtype, shape)?;
    let product = b.transpose(&product, &[1, 0, 2])?;
    let sizes = b.concat(&[&outer, &outputs], 0)?;
    b.reshape_to(&product, &sizes)
}
