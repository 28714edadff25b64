//! Moving blocks of elements between space, batch and depth: a reshape, a transpose and a reshape.

use base::tensor::DataType;

use super::Table;
use super::pad::{padded, paddings};
use crate::builder::Builder;
use crate::op::{Op, Translated, one};
use crate::ops::Rule::Pure;
use crate::refusal::Refusal;
use crate::value::{Shape, Tensor};

pub(super) const TABLE: Table = &[
    ("BatchToSpace", Pure(batch_to_space)),
    ("BatchToSpaceND", Pure(batch_to_space_nd)),
    ("DepthToSpace", Pure(depth_to_space)),
    ("SpaceToBatch", Pure(space_to_batch)),
    ("SpaceToBatchND", Pure(space_to_batch_nd)),
    ("SpaceToDepth", Pure(space_to_depth)),
];

fn batch_to_space_nd(b: &mut Builder, op: &Op<'_>) -> Translated {
    let block = b.cast(op.input(1)?, DataType::Int64)?;
    one(to_space(b, op.input(0)?, &block, op.input(2)?)?)
}

fn batch_to_space(b: &mut Builder, op: &Op<'_>) -> Translated {
    let size = block_size(op)?;
    let block = b.i64s(&[size, size]);
    one(to_space(b, op.input(0)?, &block, op.input(1)?)?)
}

fn space_to_batch_nd(b: &mut Builder, op: &Op<'_>) -> Translated {
    let block = b.cast(op.input(1)?, DataType::Int64)?;
    one(to_batch(b, op.input(0)?, &block, op.input(2)?)?)
}

fn space_to_batch(b: &mut Builder, op: &Op<'_>) -> Translated {
    let size = block_size(op)?;
    let block = b.i64s(&[size, size]);
    one(to_batch(b, op.input(0)?, &block, op.input(1)?)?)
}

fn block_size(op: &Op<'_>) -> Result<i64, Refusal> {
    let size = op.attr_int("block_size").filter(|it| *it > 0);
    size.ok_or_else(|| Refusal::new("has no size of blocks"))
}

/// The number of dimensions of space, which is all that has to be known of the blocks.
fn space(block: &Tensor, bounds: &Tensor) -> Result<usize, Refusal> {
    let known = block.shape.dim(0).or(bounds.shape.dim(0));
    let known = known.and_then(|it| usize::try_from(it).ok());
    known
        .filter(|it| *it <= 8)
        .ok_or_else(|| Refusal::new("has blocks of unknown rank"))
}

/// The sizes of `x` as far as space goes, and behind it.
fn parts(b: &mut Builder, x: &Tensor, space: usize) -> Result<[Tensor; 3], Refusal> {
    Ok([
        b.sizes_in(x, 0, Some(1))?,
        b.sizes_in(x, 1, Some(space + 1))?,
        b.sizes_in(x, space + 1, None)?,
    ])
}

fn to_batch(
    b: &mut Builder,
    x: &Tensor,
    block: &Tensor,
    bounds: &Tensor,
) -> Result<Tensor, Refusal> {
    let space = space(block, bounds)?;
    let bounds = paddings(b, bounds)?;
    let x = pad_space(b, x, &bounds, space)?;
    let [batch, sizes, rest] = parts(b, &x, space)?;
    // A size that is not a multiple makes the reshape fail.
    let outer = b.binary("Div", &sizes, block)?;
    let mut split = vec![batch.clone()];
    for index in 0..index(space) {
        for list in [&outer, block] {
            let place = b.i64s(&[index]);
            split.push(b.gather(list, &place, 0)?);
        }
    }
    split.push(product(b, &rest)?);
    let split = b.concat(&split.iter().collect::<Vec<_>>(), 0)?;
    let split = b.reshape_to(&x, &split)?;
    let mut order: Vec<i64> = (0..index(space)).map(|it| 2 * it + 2).collect();
    order.push(0);
    order.extend((0..index(space)).map(|it| 2 * it + 1));
    order.push(2 * index(space) + 1);
    let moved = b.transpose(&split, &order)?;
    let blocks = product(b, block)?;
    let batch = b.binary("Mul", &batch, &blocks)?;
    let sizes = b.concat(&[&batch, &outer, &rest], 0)?;
    let shape = rank_of(&x);
    Ok(b.reshape_to(&moved, &sizes)?.with_shape(shape))
}

fn to_space(
    b: &mut Builder,
    x: &Tensor,
    block: &Tensor,
    bounds: &Tensor,
) -> Result<Tensor, Refusal> {
    let space = space(block, bounds)?;
    let crops = paddings(b, bounds)?;
    let [batch, sizes, rest] = parts(b, x, space)?;
    let blocks = product(b, block)?;
    let batch = b.binary("Div", &batch, &blocks)?;
    let flat_rest = product(b, &rest)?;
    let split = b.concat(&[block, &batch, &sizes, &flat_rest], 0)?;
    let split = b.reshape_to(x, &split)?;
    let count = index(space);
    let mut order = vec![count];
    for axis in 0..count {
        order.extend([count + 1 + axis, axis]);
    }
    order.push(2 * count + 1);
    let moved = b.transpose(&split, &order)?;
    let inner = b.binary("Mul", &sizes, block)?;
    let sizes = b.concat(&[&batch, &inner, &rest], 0)?;
    let whole = b.reshape_to(&moved, &sizes)?.with_shape(rank_of(x));
    if crops.ints().is_some_and(|it| it.iter().all(|&it| it == 0)) {
        return Ok(whole);
    }
    cropped(b, &whole, &crops, &inner, count)
}

/// Removes elements at both ends along each axis of space, of which enough have to be there.
fn cropped(
    b: &mut Builder,
    x: &Tensor,
    crops: &Tensor,
    sizes: &Tensor,
    count: i64,
) -> Result<Tensor, Refusal> {
    let axes: Vec<i64> = (1..=count).collect();
    if let (Some(crops), Some(sizes)) = (crops.ints(), sizes.ints()) {
        let starts: Vec<i64> = crops.iter().step_by(2).copied().collect();
        let ends = crops.iter().skip(1).step_by(2).zip(&sizes);
        let ends: Vec<i64> = ends
            .map(|(crop, size)| size.saturating_sub(*crop))
            .collect();
        if starts.len() != sizes.len() || starts.iter().zip(&ends).any(|(from, to)| to < from) {
            return Err(Refusal::new("removes more elements than there are"));
        }
        return b.slice(x, &axes, &starts, &ends, &vec![1; axes.len()]);
    }
    let turned = b.transpose(crops, &[1, 0])?;
    let mut rows = Vec::new();
    for row in [0, 1] {
        rows.push(match crops.ints() {
            Some(known) => {
                let row = known.into_iter().skip(row).step_by(2);
                b.i64s(&row.collect::<Vec<_>>())
            }
            None => {
                let row = b.i64(index(row));
                b.gather(&turned, &row, 0)?
            }
        });
    }
    let [starts, after] = rows.as_slice() else {
        return Err(Refusal::new("needs two lists"));
    };
    let ends = b.binary("Sub", sizes, after)?;
    let bad = b.compare("Less", &ends, starts)?;
    let ends = b.guarded(&ends, &bad)?;
    let axes = b.i64s(&axes);
    let shape = match &x.shape.0 {
        Some(dims) => {
            let space = usize::try_from(count).unwrap_or(0);
            let dims = dims.iter().enumerate();
            Shape::dims(dims.map(|(axis, dim)| dim.filter(|_| axis == 0 || axis > space)))
        }
        None => Shape::unknown(),
    };
    b.op("Slice", &[x, starts, &ends, &axes])
        .one(x.dtype, shape)
}

/// Pads the axes of space: with no padding before them and behind them.
fn pad_space(
    b: &mut Builder,
    x: &Tensor,
    bounds: &Tensor,
    space: usize,
) -> Result<Tensor, Refusal> {
    if bounds.ints().is_some_and(|it| it.iter().all(|&it| it == 0)) {
        return Ok(x.clone());
    }
    let value = b.zero(x.dtype)?;
    let rows = |count: i64| -> Option<Tensor> {
        let zeros = usize::try_from(count.checked_mul(2)?).ok()?;
        let zeros = base::tensor::Tensor::zeros(DataType::Int64, &[zeros / 2, 2])?;
        Some(Tensor::constant(zeros))
    };
    let behind = match x.rank() {
        Some(rank) => index(rank).checked_sub(1 + index(space)).and_then(rows),
        None => {
            let rank = b.rank_of(x)?;
            let used = b.i64(1 + index(space));
            let count = b.binary("Sub", &rank, &used)?;
            let count = b.as_vector(&count)?;
            let two = b.i64s(&[2]);
            let sizes = b.concat(&[&count, &two], 0)?;
            let zero = b.i64(0);
            Some(b.expand(&zero, &sizes)?)
        }
    };
    let outside = || Refusal::new("has blocks of a higher rank than its input");
    let behind = behind.ok_or_else(outside)?;
    let before = rows(1).ok_or_else(outside)?;
    let whole = match (bounds.ints(), x.rank()) {
        (Some(known), Some(rank)) => {
            let mut whole = vec![0, 0];
            whole.extend(known);
            whole.resize(2 * rank, 0);
            let whole = b.i64s(&whole);
            b.reshape(&whole, &[-1, 2])?
        }
        _ => b.concat(&[&before, bounds, &behind], 0)?,
    };
    padded(b, x, &whole, &value)
}

fn index(value: usize) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn rank_of(x: &Tensor) -> Shape {
    x.rank().map_or_else(Shape::unknown, Shape::of_rank)
}

/// The product of a vector of sizes, as a vector of one.
fn product(b: &mut Builder, sizes: &Tensor) -> Result<Tensor, Refusal> {
    match known_product(b, sizes) {
        Some(known) => Ok(known),
        None => b.reduce("ReduceProd", sizes, Some(&[0]), true),
    }
}

fn known_product(b: &Builder, sizes: &Tensor) -> Option<Tensor> {
    let sizes = sizes.ints()?;
    let product = sizes
        .iter()
        .try_fold(1i64, |product, &it| product.checked_mul(it));
    product.map(|it| b.i64s(&[it]))
}

/// The sizes of an image and the number of its channels, each a vector of one.
struct Image {
    batch: Tensor,
    height: Tensor,
    width: Tensor,
    depth: Tensor,
    is_first: bool,
}

fn image(b: &mut Builder, x: &Tensor, op: &Op<'_>) -> Result<Image, Refusal> {
    let is_first = match op.attr_text("data_format") {
        "" | "NHWC" => false,
        "NCHW" => true,
        other => return Err(Refusal::new(format!("has the data format {other}"))),
    };
    let axes = if is_first { [0, 2, 3, 1] } else { [0, 1, 2, 3] };
    let [batch, height, width, depth] = axes;
    Ok(Image {
        batch: b.size_at(x, batch)?,
        height: b.size_at(x, height)?,
        width: b.size_at(x, width)?,
        depth: b.size_at(x, depth)?,
        is_first,
    })
}

/// Reshaped, transposed, and reshaped.
fn moved(
    b: &mut Builder,
    x: &Tensor,
    split: &[&Tensor],
    order: &[i64],
    joined: &[&Tensor],
) -> Result<Tensor, Refusal> {
    let split = b.concat(split, 0)?;
    let split = b.reshape_to(x, &split)?;
    let moved = b.transpose(&split, order)?;
    let joined = b.concat(joined, 0)?;
    b.reshape_to(&moved, &joined)
}

fn depth_to_space(b: &mut Builder, op: &Op<'_>) -> Translated {
    let x = op.input(0)?;
    let size = block_size(op)?;
    let Image {
        batch,
        height,
        width,
        depth,
        is_first,
    } = image(b, x, op)?;
    let area = size.checked_mul(size).map(|it| b.i64s(&[it]));
    let area = area.ok_or_else(|| Refusal::new("has too large blocks"))?;
    let size = b.i64s(&[size]);
    let depth = b.binary("Div", &depth, &area)?;
    let tall = b.binary("Mul", &height, &size)?;
    let wide = b.binary("Mul", &width, &size)?;
    one(match is_first {
        true => moved(
            b,
            x,
            &[&batch, &size, &size, &depth, &height, &width],
            &[0, 3, 4, 1, 5, 2],
            &[&batch, &depth, &tall, &wide],
        )?,
        false => moved(
            b,
            x,
            &[&batch, &height, &width, &size, &size, &depth],
            &[0, 1, 3, 2, 4, 5],
            &[&batch, &tall, &wide, &depth],
        )?,
    })
}

fn space_to_depth(b: &mut Builder, op: &Op<'_>) -> Translated {
    let x = op.input(0)?;
    let size = block_size(op)?;
    let Image {
        batch,
        height,
        width,
        depth,
        is_first,
    } = image(b, x, op)?;
    let area = size.checked_mul(size).map(|it| b.i64s(&[it]));
    let area = area.ok_or_else(|| Refusal::new("has too large blocks"))?;
    let size = b.i64s(&[size]);
    let deep = b.binary("Mul", &depth, &area)?;
    let height = b.binary("Div", &height, &size)?;
    let width = b.binary("Div", &width, &size)?;
    one(match is_first {
        true => moved(
            b,
            x,
            &[&batch, &depth, &height, &size, &width, &size],
            &[0, 3, 5, 1, 2, 4],
            &[&batch, &deep, &height, &width],
        )?,
        false => moved(
            b,
            x,
            &[&batch, &height, &size, &width, &size, &depth],
            &[0, 1, 3, 2, 4, 5],
            &[&batch, &height, &width, &deep],
        )?,
    })
}
