//! The parts that convolutions, pools and images share: data formats, windows and padding.
//!
//! ONNX has the channels in front of the spatial dimensions; TensorFlow's graphs mostly have them last. Each
//! operator is put between two transpositions; ONNX Runtime removes those between neighbours.
//!
//! Not here: the elements of windows, written out (`windows`).

use crate::builder::Builder;
use crate::op::Op;
use crate::refusal::Refusal;
use crate::value::{Shape, Tensor};

type Result<T> = std::result::Result<T, Refusal>;

/// Where the channels of a batch of images are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    pub(super) is_first: bool,
    /// The number of spatial dimensions.
    pub(super) spatial: usize,
}

impl Layout {
    /// As the attribute `data_format` has it; the channels are last if there is none.
    pub(super) fn of(op: &Op<'_>, spatial: usize) -> Result<Self> {
        let is_first = match op.attr_text("data_format") {
            "" | "NHWC" | "NDHWC" => false,
            "NCHW" | "NCDHW" => true,
            other => return Err(Refusal::new(format!("has the data format {other}"))),
        };
        Ok(Self { is_first, spatial })
    }

    pub(super) fn rank(self) -> usize {
        self.spatial + 2
    }

    /// The place of the first spatial dimension.
    pub(super) fn first_spatial(self) -> usize {
        if self.is_first { 2 } else { 1 }
    }

    pub(super) fn channels(self) -> usize {
        if self.is_first { 1 } else { self.spatial + 1 }
    }

    /// The spatial entries of an attribute with one entry for each dimension, and the entry of the channels.
    /// That of the batch has to be 1.
    pub(super) fn split(self, entries: &[i64], name: &str) -> Result<(Vec<i64>, i64)> {
        let refuse = || Refusal::new(format!("has the {name} {entries:?}"));
        if entries.len() != self.rank() || entries.first() != Some(&1) {
            return Err(refuse());
        }
        let first = self.first_spatial();
        let spatial = entries[first..first + self.spatial].to_vec();
        if spatial.iter().any(|&it| !(1..=MAX_WINDOW).contains(&it)) {
            return Err(refuse());
        }
        Ok((spatial, entries[self.channels()]))
    }

    /// The spatial entries of an attribute that is 1 for batch and channels. All are 1 if it is missing.
    pub(super) fn spatial(self, entries: &[i64], name: &str) -> Result<Vec<i64>> {
        if entries.is_empty() {
            return Ok(vec![1; self.spatial]);
        }
        match self.split(entries, name)? {
            (spatial, 1) => Ok(spatial),
            _ => Err(Refusal::new(format!("has the {name} {entries:?}"))),
        }
    }

    /// The same tensor with the rank that the operator requires.
    pub(super) fn ranked(self, x: &Tensor) -> Result<Tensor> {
        match x.rank() {
            Some(rank) if rank != self.rank() => {
                Err(Refusal::new(format!("has an input of rank {rank}")))
            }
            _ => Ok(x.clone().with_shape(Shape::of_rank(self.rank()))),
        }
    }

    /// The tensor with the channels in front.
    pub(super) fn to_first(self, b: &mut Builder, x: &Tensor) -> Result<Tensor> {
        let x = self.ranked(x)?;
        if self.is_first {
            return Ok(x);
        }
        let spatial = 1..=self.spatial as i64;
        let order: Vec<i64> = [0, self.spatial as i64 + 1]
            .into_iter()
            .chain(spatial)
            .collect();
        b.transpose(&x, &order)
    }

    /// The tensor, whose channels are in front, as the operator gives it.
    pub(super) fn returned_from_first(self, b: &mut Builder, x: &Tensor) -> Result<Tensor> {
        match self.is_first {
            true => Ok(x.clone()),
            false => b.transpose(x, &last_order(self.spatial)),
        }
    }

    /// The tensor with the channels last.
    pub(super) fn to_last(self, b: &mut Builder, x: &Tensor) -> Result<Tensor> {
        let x = self.ranked(x)?;
        match self.is_first {
            true => b.transpose(&x, &last_order(self.spatial)),
            false => Ok(x),
        }
    }

    /// The tensor, whose channels are last, as the operator gives it.
    pub(super) fn returned_from_last(self, b: &mut Builder, x: &Tensor) -> Result<Tensor> {
        let last = Self {
            is_first: false,
            ..self
        };
        match self.is_first {
            true => last.to_first(b, x),
            false => Ok(x.clone()),
        }
    }
}

/// The order of dimensions that moves the channels from the front to the end.
fn last_order(spatial: usize) -> Vec<i64> {
    let spatial = spatial as i64;
    [0].into_iter().chain(2..spatial + 2).chain([1]).collect()
}

/// No window, stride or dilation of a model is larger; the arithmetic below cannot overflow.
const MAX_WINDOW: i64 = 1 << 30;

/// How far an input is extended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Padding {
    Valid,
    Same,
    /// The numbers of elements before and after each spatial dimension.
    Explicit(Vec<(i64, i64)>),
}

impl Padding {
    /// As the attributes `padding` and `explicit_paddings` have it.
    pub(super) fn of(op: &Op<'_>, layout: Layout) -> Result<Self> {
        match op.attr_text("padding") {
            "VALID" => Ok(Self::Valid),
            "SAME" => Ok(Self::Same),
            "EXPLICIT" => {
                let pads = op.attr_ints("explicit_paddings");
                let refuse = || Refusal::new(format!("has the explicit paddings {pads:?}"));
                if pads.len() != 2 * layout.rank()
                    || pads.iter().any(|it| !(0..=MAX_WINDOW).contains(it))
                {
                    return Err(refuse());
                }
                let pairs: Vec<_> = pads.chunks_exact(2).map(|it| (it[0], it[1])).collect();
                let first = layout.first_spatial();
                let spatial = pairs[first..first + layout.spatial].to_vec();
                if pairs[0] != (0, 0) || pairs[layout.channels()] != (0, 0) {
                    return Err(refuse());
                }
                Ok(Self::Explicit(spatial))
            }
            other => Err(Refusal::new(format!("has the padding {other}"))),
        }
    }
}

/// A window that slides over the spatial dimensions.
#[derive(Clone, Debug)]
pub(super) struct Window {
    /// The sizes, an int64 vector. They are known unless the kernel of a convolution is an input.
    pub(super) sizes: Tensor,
    pub(super) strides: Vec<i64>,
    pub(super) dilations: Vec<i64>,
}

/// The padding of one application of a window, as ONNX has it.
pub(super) enum Pads {
    /// ONNX computes it.
    Same,
    /// The starts of all dimensions, then the ends.
    Fixed(Vec<i64>),
    /// The same as a vector that is computed.
    Computed(Tensor),
}

impl Window {
    pub(super) fn new(b: &Builder, sizes: &[i64], strides: Vec<i64>, dilations: Vec<i64>) -> Self {
        Self {
            sizes: b.i64s(sizes),
            strides,
            dilations,
        }
    }

    pub(super) fn size(&self, index: usize) -> Option<i64> {
        let size = *self.sizes.elements()?.get(index)?;
        size.filter(|it| (0..=MAX_WINDOW).contains(it))
    }

    /// The size with the gaps of the dilation.
    pub(super) fn reach(&self, index: usize) -> Option<i64> {
        let gaps = (self.size(index)? - 1).checked_mul(self.dilations[index])?;
        gaps.checked_add(1)
    }

    fn is_dilated(&self) -> bool {
        self.dilations.iter().any(|&it| it != 1)
    }

    /// The padding of an input of which the spatial dimensions begin at `first`.
    pub(super) fn pads(
        &self,
        b: &mut Builder,
        x: &Tensor,
        first: usize,
        padding: &Padding,
    ) -> Result<Pads> {
        let count = self.strides.len();
        match padding {
            Padding::Valid => Ok(Pads::Fixed(vec![0; 2 * count])),
            Padding::Explicit(pads) => {
                let starts = pads.iter().map(|it| it.0);
                Ok(Pads::Fixed(
                    starts.chain(pads.iter().map(|it| it.1)).collect(),
                ))
            }
            // ONNX Runtime refuses dilations with this padding.
            Padding::Same if !self.is_dilated() => Ok(Pads::Same),
            Padding::Same => {
                let totals = self.same_totals(b, x, first)?;
                let pads = halves(b, &totals)?;
                Ok(match pads.ints() {
                    Some(pads) => Pads::Fixed(pads),
                    None => Pads::Computed(pads),
                })
            }
        }
    }

    /// The padding as a vector: the starts, then the ends.
    pub(super) fn pads_vector(
        &self,
        b: &mut Builder,
        x: &Tensor,
        first: usize,
        padding: &Padding,
    ) -> Result<Tensor> {
        match self.pads(b, x, first, padding)? {
            Pads::Fixed(pads) => Ok(b.i64s(&pads)),
            Pads::Computed(pads) => Ok(pads),
            Pads::Same => {
                let totals = self.same_totals(b, x, first)?;
                halves(b, &totals)
            }
        }
    }

    /// The reach of the window in each dimension, an int64 vector.
    pub(super) fn reaches(&self, b: &mut Builder) -> Result<Tensor> {
        let gaps = b.binary("Sub", &self.sizes, &b.i64s(&[1]))?;
        let gaps = b.binary("Mul", &gaps, &b.i64s(&self.dilations))?;
        b.binary("Add", &gaps, &b.i64s(&[1]))
    }

    /// How many elements TensorFlow adds in each dimension for SAME: as many as the last window, of those that
    /// begin a stride apart, lacks.
    fn same_totals(&self, b: &mut Builder, x: &Tensor, first: usize) -> Result<Tensor> {
        let count = self.strides.len();
        if self.strides.iter().all(|&it| it == 1)
            && let Some(totals) = (0..count)
                .map(|index| Some(self.reach(index)? - 1))
                .collect::<Option<Vec<_>>>()
        {
            // The size of the input does not matter.
            return Ok(b.i64s(&totals));
        }
        let sizes = b.shape_of(x)?;
        let (first, end) = (first as i64, (first + count) as i64);
        let sizes = b.slice(&sizes, &[0], &[first], &[end], &[1])?;
        let reaches = self.reaches(b)?;
        same_totals(b, &sizes, &reaches, &self.strides)
    }
}

/// `max((ceil(size / stride) - 1) * stride + reach - size, 0)`, for vectors.
pub(super) fn same_totals(
    b: &mut Builder,
    sizes: &Tensor,
    reaches: &Tensor,
    strides: &[i64],
) -> Result<Tensor> {
    let strides = b.i64s(strides);
    let one = b.i64s(&[1]);
    // The start of the last window: (size - 1) rounded down to a multiple of the stride.
    let last = b.binary("Sub", sizes, &one)?;
    let last = b.binary("Div", &last, &strides)?;
    let last = b.binary("Mul", &last, &strides)?;
    let end = b.binary("Add", &last, reaches)?;
    let lacking = b.binary("Sub", &end, sizes)?;
    b.binary("Max", &lacking, &b.i64s(&[0]))
}

/// The starts, half of each total, and the ends: the rest.
pub(super) fn halves(b: &mut Builder, totals: &Tensor) -> Result<Tensor> {
    let starts = b.binary("Div", totals, &b.i64s(&[2]))?;
    let ends = b.binary("Sub", totals, &starts)?;
    b.concat(&[&starts, &ends], 0)
}

/// Extends the dimensions from `first` by the elements that a vector says: the starts, then the ends.
pub(super) fn pad(
    b: &mut Builder,
    x: &Tensor,
    first: usize,
    pads: &Tensor,
    value: f64,
) -> Result<Tensor> {
    let known = pads.elements().map(<[_]>::to_vec);
    if known
        .as_ref()
        .is_some_and(|it| it.iter().all(|it| *it == Some(0)))
    {
        return Ok(x.clone());
    }
    let count = pads.shape.dim(0).unwrap_or(0) / 2;
    let axes: Vec<i64> = (first as i64..first as i64 + count).collect();
    let mut shape = x.shape.clone();
    if let Some(dims) = &mut shape.0 {
        for (index, &axis) in axes.iter().enumerate() {
            let at = |place: usize| *known.as_ref()?.get(place)?;
            if let Some(dim) = dims.get_mut(axis as usize) {
                *dim = dim
                    .zip(at(index))
                    .zip(at(index + axes.len()))
                    .and_then(|((size, start), end)| size.checked_add(start)?.checked_add(end));
            }
        }
    }
    let value = b.scalar(x.dtype, value)?;
    // All dimensions: ONNX Runtime moves transpositions through Pad as if it had no axes.
    let rank = x.known_rank("extends a tensor")?;
    let before = b.i64s(&vec![0; first]);
    let after = b.i64s(&vec![0; rank.saturating_sub(first + axes.len())]);
    let starts = b.slice(pads, &[0], &[0], &[count], &[1])?;
    let ends = b.slice(pads, &[0], &[count], &[2 * count], &[1])?;
    let pads = b.concat(&[&before, &starts, &after, &before, &ends, &after], 0)?;
    b.op("Pad", &[x, &pads, &value]).one(x.dtype, shape)
}

/// The size of a dimension after a window slid over it, if known.
pub(super) fn slid(
    size: Option<i64>,
    reach: i64,
    stride: i64,
    padding: Option<(i64, i64)>,
) -> Option<i64> {
    let size = size?;
    let Some((start, end)) = padding else {
        return Some(size.checked_add(stride - 1)? / stride);
    };
    let room = size
        .checked_add(start)?
        .checked_add(end)?
        .checked_sub(reach)?;
    (room >= 0).then(|| room / stride + 1)
}

impl Window {
    /// The shape of the result of a window that slides over `x`, whose channels are in front.
    pub(super) fn result(&self, x: &Tensor, pads: &Pads, channels: Option<i64>) -> Shape {
        let count = self.strides.len();
        let mut dims = vec![x.shape.dim(0), channels];
        for index in 0..count {
            let padding = match pads {
                Pads::Same => Some(None),
                Pads::Fixed(pads) => Some(Some((pads[index], pads[index + count]))),
                Pads::Computed(_) => None,
            };
            let size = x.shape.dim(index as i64 + 2);
            let reach = match pads {
                Pads::Same => Some(0),
                _ => self.reach(index),
            };
            dims.push(
                padding
                    .zip(reach)
                    .and_then(|(padding, reach)| slid(size, reach, self.strides[index], padding)),
            );
        }
        Shape::dims(dims)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_slides_as_often_as_it_fits() {
        // Without padding: the places at which all of the window is inside.
        assert_eq!(slid(Some(7), 3, 2, Some((0, 0))), Some(3));
        assert_eq!(slid(Some(7), 3, 2, Some((0, 1))), Some(3));
        assert_eq!(slid(Some(7), 3, 2, Some((1, 1))), Some(4));
        assert_eq!(slid(Some(2), 3, 1, Some((0, 0))), None);
        // SAME: one for each stride that begins inside.
        assert_eq!(slid(Some(7), 3, 2, None), Some(4));
        assert_eq!(slid(Some(8), 3, 2, None), Some(4));
        assert_eq!(slid(None, 3, 2, None), None);
    }

    #[test]
    fn the_padding_of_same_fills_the_last_window() {
        let mut b = Builder::new();
        // TensorFlow's own examples of `tf.nn.convolution`: 13 elements, a window of 6, a stride of 5.
        let (sizes, reaches) = (b.i64s(&[13, 4]), b.i64s(&[6, 1]));
        let totals = same_totals(&mut b, &sizes, &reaches, &[5, 2]).unwrap();
        assert_eq!(totals.ints().unwrap(), [3, 0]);
        let pads = halves(&mut b, &totals).unwrap();
        assert_eq!(pads.ints().unwrap(), [1, 0, 2, 0]);
    }

    #[test]
    fn attributes_are_split_by_the_data_format() {
        let last = Layout {
            is_first: false,
            spatial: 2,
        };
        let first = Layout {
            is_first: true,
            ..last
        };
        assert_eq!(last.spatial(&[1, 2, 3, 1], "strides").unwrap(), [2, 3]);
        assert_eq!(first.spatial(&[1, 1, 2, 3], "strides").unwrap(), [2, 3]);
        assert!(first.spatial(&[1, 2, 3, 1], "strides").is_err());
        assert!(last.spatial(&[2, 2, 3, 1], "strides").is_err());
        assert!(last.spatial(&[1, 0, 3, 1], "strides").is_err());
        assert_eq!(last.spatial(&[], "dilations").unwrap(), [1, 1]);
    }
}
