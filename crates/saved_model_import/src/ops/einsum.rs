//! `Einsum`: sums of products with named axes.
//!
//! A plain product becomes a `MatMul` between transposed and reshaped inputs, which ONNX Runtime runs fastest; other
//! equations are left to ONNX's `Einsum`.

mod equation;

use self::equation::{Label, Labels, broken, has_twice, hidden, labels};
use super::Table;
use super::product::multiply;
use crate::builder::Builder;
use crate::op::{Op, Translated, one};
use crate::ops::Rule::Pure;
use crate::refusal::Refusal;
use crate::value::{Shape, Tensor};

type Result<T> = std::result::Result<T, Refusal>;

pub(super) const TABLE: Table = &[("Einsum", Pure(einsum))];

/// The longest equation that is read.
const MAX_LENGTH: usize = 1024;

/// A tensor whose axes have names.
#[derive(Clone)]
struct Side {
    tensor: Tensor,
    labels: Labels,
}

impl Side {
    fn has(&self, label: Label) -> bool {
        self.labels.contains(&label)
    }

    fn dim(&self, label: Label) -> Option<i64> {
        let index = self.labels.iter().position(|it| *it == label)?;
        self.tensor.shape.dim(i64::try_from(index).ok()?)
    }

    /// The tensor with its axes in this order.
    fn ordered(&self, b: &mut Builder, order: &[Label]) -> Result<Tensor> {
        let places = order.iter().map(|label| {
            let place = self.labels.iter().position(|it| it == label);
            place.and_then(|it| i64::try_from(it).ok())
        });
        let places = places.collect::<Option<Vec<i64>>>();
        b.transpose(&self.tensor, &places.ok_or_else(broken)?)
    }
}

fn einsum(b: &mut Builder, op: &Op<'_>) -> Translated {
    let equation = op.attr_text("equation");
    if equation.len() > MAX_LENGTH {
        return Err(Refusal::new("has an equation that is too long"));
    }
    let (from, to) = equation.split_once("->").ok_or_else(broken)?;
    let texts: Vec<&str> = from.split(',').collect();
    if texts.len() != op.len() || op.len() > 2 {
        return Err(broken());
    }
    let mut sides = Vec::new();
    let mut most = Some(0);
    for (index, text) in texts.iter().enumerate() {
        let tensor = op.input(index)?;
        let count = hidden(text, tensor.rank())?;
        most = most.zip(count).map(|(most, count)| most.max(count));
        let Some(labels) = labels(text, count)? else {
            return one(native(b, op, equation)?);
        };
        let rank = labels.len();
        let tensor = tensor.clone().with_shape(Shape::of_rank(rank));
        sides.push(Side { tensor, labels });
    }
    let Some(output) = labels(to, most)? else {
        return one(native(b, op, equation)?);
    };
    let known = |label: &Label| sides.iter().any(|it| it.has(*label));
    if !output.iter().all(known) || hides_broadcast(&sides, &output) {
        return Err(broken());
    }
    if has_twice(&output) {
        return Err(Refusal::new("writes a diagonal"));
    }
    if sides.iter().any(|it| has_twice(&it.labels)) {
        let result = native(b, op, equation)?;
        return one(result.with_shape(Shape::of_rank(output.len())));
    }
    one(match &sides[..] {
        [only] => alone(b, only, &output)?,
        [left, right] => product(b, left, right, &output)?,
        _ => return Err(broken()),
    })
}

/// TensorFlow refuses to drop the axes of `...`.
fn hides_broadcast(sides: &[Side], output: &Labels) -> bool {
    let mut all = sides.iter().flat_map(|it| &it.labels);
    all.any(|it| matches!(it, Label::Broadcast(_)) && !output.contains(it))
}

/// ONNX's own operator.
fn native(b: &mut Builder, op: &Op<'_>, equation: &str) -> Result<Tensor> {
    let inputs = op.inputs(0..op.len())?;
    let dtype = op.input(0)?.dtype;
    let mut wide = Vec::new();
    for input in inputs {
        wide.push(b.widened("Einsum", input)?);
    }
    let compute = wide.first().map_or(dtype, |it| it.dtype);
    let inputs: Vec<&Tensor> = wide.iter().collect();
    let result = b
        .op("Einsum", &inputs)
        .text("equation", equation)
        .one(compute, Shape::unknown())?;
    b.cast(&result, dtype)
}

/// Adds up the axes that `keep` refuses.
fn summed(b: &mut Builder, side: &Side, keep: impl Fn(Label) -> bool) -> Result<Side> {
    let places = side.labels.iter().enumerate();
    let places = places.filter(|(_, label)| !keep(**label));
    let axes: Vec<i64> = places
        .filter_map(|(index, _)| i64::try_from(index).ok())
        .collect();
    if axes.is_empty() {
        return Ok(side.clone());
    }
    let dtype = side.tensor.dtype;
    let wide = b.widened("ReduceSum", &side.tensor)?;
    let sum = b.reduce("ReduceSum", &wide, Some(&axes), false)?;
    let labels = side.labels.iter().copied();
    Ok(Side {
        tensor: b.cast(&sum, dtype)?,
        labels: labels.filter(|it| keep(*it)).collect(),
    })
}

fn alone(b: &mut Builder, side: &Side, output: &Labels) -> Result<Tensor> {
    let side = summed(b, side, |it| output.contains(&it))?;
    side.ordered(b, output)
}

fn product(b: &mut Builder, left: &Side, right: &Side, output: &Labels) -> Result<Tensor> {
    let left = summed(b, left, |it| output.contains(&it) || right.has(it))?;
    let right = summed(b, right, |it| output.contains(&it) || left.has(it))?;
    let is_summed = |it: &Label| right.has(*it) && !output.contains(it);
    let summed: Labels = left.labels.iter().copied().filter(is_summed).collect();
    if summed.is_empty() {
        return outer_product(b, &left, &right, output);
    }
    // The side whose own axes come first in the result is the left one, so that the result needs no transpose.
    let own = |one: &Side, two: &Side| output.iter().position(|it| one.has(*it) && !two.has(*it));
    let is_swapped = match (own(&left, &right), own(&right, &left)) {
        (Some(first), Some(second)) => second < first,
        (None, Some(_)) => false,
        _ => false,
    };
    match is_swapped {
        true => matrix_product(b, &right, &left, &summed, output),
        false => matrix_product(b, &left, &right, &summed, output),
    }
}

/// Without axes to add up, the inputs are multiplied with broadcasting.
fn outer_product(b: &mut Builder, left: &Side, right: &Side, output: &Labels) -> Result<Tensor> {
    let mut spread = Vec::new();
    for side in [left, right] {
        let order: Labels = output.iter().copied().filter(|it| side.has(*it)).collect();
        let ordered = side.ordered(b, &order)?;
        let missing = output.iter().enumerate().filter(|(_, it)| !side.has(**it));
        let missing: Vec<i64> = missing
            .filter_map(|(index, _)| i64::try_from(index).ok())
            .collect();
        spread.push(match missing.is_empty() {
            true => ordered,
            false => b.unsqueeze(&ordered, &missing)?,
        });
    }
    match &spread[..] {
        [left, right] => b.binary_any("Mul", left, right),
        _ => Err(broken()),
    }
}

/// The axes of a product by their place in the inputs and the result.
struct Roles<'a> {
    /// In both inputs and the result.
    shared: Labels,
    /// In both inputs only.
    summed: &'a Labels,
    /// In the left input and the result.
    rows: Labels,
    /// In the right input and the result.
    columns: Labels,
}

fn matrix_product(
    b: &mut Builder,
    left: &Side,
    right: &Side,
    summed: &Labels,
    output: &Labels,
) -> Result<Tensor> {
    let of = |keep: &dyn Fn(Label) -> bool| -> Labels {
        output.iter().copied().filter(|it| keep(*it)).collect()
    };
    let roles = Roles {
        shared: of(&|it| left.has(it) && right.has(it)),
        summed,
        rows: of(&|it| left.has(it) && !right.has(it)),
        columns: of(&|it| !left.has(it) && right.has(it)),
    };
    // Rows stay apart where the right input has no other axes: it is broadcast over them.
    let joins_rows = match roles.rows.len() {
        0 => true,
        1 => false,
        _ => !roles.shared.is_empty(),
    };
    let order = [&roles.shared[..], &roles.rows, roles.summed].concat();
    let one_ = left.ordered(b, &order)?;
    let groups = [
        singles(&roles.shared),
        if joins_rows {
            vec![roles.rows.clone()]
        } else {
            singles(&roles.rows)
        },
        vec![roles.summed.clone()],
    ];
    let one_ = grouped(b, one_, left, &groups.concat())?;
    let order = [&roles.shared[..], roles.summed, &roles.columns].concat();
    let two = right.ordered(b, &order)?;
    let groups = [
        singles(&roles.shared),
        vec![roles.summed.clone(), roles.columns.clone()],
    ];
    let two = grouped(b, two, right, &groups.concat())?;
    let product = multiply(b, &one_, &two)?;
    let result = taken_apart(b, product, left, right, &roles, joins_rows)?;
    let labels = [&roles.shared[..], &roles.rows, &roles.columns].concat();
    Side {
        tensor: result,
        labels,
    }
    .ordered(b, output)
}

fn singles(labels: &Labels) -> Vec<Labels> {
    labels.iter().map(|it| vec![*it]).collect()
}

/// Joins the axes of each group. A group without axes has a size of 1.
fn grouped(b: &mut Builder, x: Tensor, side: &Side, groups: &[Labels]) -> Result<Tensor> {
    if groups.iter().all(|it| it.len() == 1) {
        return Ok(x);
    }
    let size = |group: &Labels| {
        let mut dims = group.iter().map(|it| side.dim(*it));
        dims.try_fold(1i64, |all, dim| all.checked_mul(dim?))
    };
    let sizes: Vec<Option<i64>> = groups.iter().map(size).collect();
    if let Some(copied) = copying(groups, &sizes) {
        let target = b.i64s(&copied);
        let reshaped = b.op("Reshape", &[&x, &target]);
        return reshaped.one(x.dtype, Shape::dims(sizes));
    }
    let all = b.shape_of(&x)?;
    let mut parts = Vec::new();
    let mut start = 0i64;
    for group in groups {
        let end = start + i64::try_from(group.len()).unwrap_or(0);
        parts.push(match group.len() {
            0 => b.i64s(&[1]),
            1 => b.slice(&all, &[0], &[start], &[end], &[1])?,
            _ => {
                let dims = b.slice(&all, &[0], &[start], &[end], &[1])?;
                b.reduce("ReduceProd", &dims, None, true)?
            }
        });
        start = end;
    }
    let parts: Vec<&Tensor> = parts.iter().collect();
    let target = b.concat(&parts, 0)?;
    Ok(b.reshape_to(&x, &target)?.with_shape(Shape::dims(sizes)))
}

/// The sizes of a `Reshape` where 0 copies a size: a size that is not known has to be at the same place before and
/// after, and no known one can be 0.
fn copying(groups: &[Labels], sizes: &[Option<i64>]) -> Option<Vec<i64>> {
    let mut is_aligned = true;
    let mut copied = Vec::new();
    for (group, size) in groups.iter().zip(sizes) {
        copied.push(match size {
            Some(1..) => (*size)?,
            None if is_aligned && group.len() == 1 => 0,
            _ => return None,
        });
        is_aligned &= group.len() == 1;
    }
    Some(copied)
}

/// Splits the rows and columns of a product into the axes that they were made of.
fn taken_apart(
    b: &mut Builder,
    product: Tensor,
    left: &Side,
    right: &Side,
    roles: &Roles<'_>,
    joins_rows: bool,
) -> Result<Tensor> {
    if !joins_rows && roles.columns.len() == 1 {
        return Ok(product);
    }
    let dims =
        |side: &Side, labels: &Labels| labels.iter().map(|it| side.dim(*it)).collect::<Vec<_>>();
    let shared = roles.shared.len();
    let kept = if joins_rows {
        shared
    } else {
        shared + roles.rows.len()
    };
    let rows = dims(left, &roles.rows);
    let columns = dims(right, &roles.columns);
    let mut split: Vec<Option<i64>> = Vec::new();
    if joins_rows {
        split.extend(&rows);
    }
    split.extend(&columns);
    let shape: Vec<Option<i64>> = {
        let known = (0..kept).map(|it| product.shape.dim(it as i64));
        known.chain(split.iter().copied()).collect()
    };
    let known: Option<Vec<i64>> = split.iter().map(|it| it.filter(|&it| it > 0)).collect();
    if let Some(known) = known {
        let target: Vec<i64> = std::iter::repeat_n(0, kept).chain(known).collect();
        let target = b.i64s(&target);
        return b
            .op("Reshape", &[&product, &target])
            .one(product.dtype, Shape::dims(shape));
    }
    let sizes = b.shape_of(&product)?;
    let head = b.slice(&sizes, &[0], &[0], &[kept as i64], &[1])?;
    let mut parts = vec![head];
    if joins_rows {
        parts.push(sizes_of(b, left, &roles.rows)?);
    }
    parts.push(sizes_of(b, right, &roles.columns)?);
    let parts: Vec<&Tensor> = parts
        .iter()
        .filter(|it| it.shape.dim(0) != Some(0))
        .collect();
    let target = match parts.is_empty() {
        true => b.i64s(&[]),
        false => b.concat(&parts, 0)?,
    };
    Ok(b.reshape_to(&product, &target)?
        .with_shape(Shape::dims(shape)))
}

/// The sizes of these axes, a vector.
fn sizes_of(b: &mut Builder, side: &Side, labels: &Labels) -> Result<Tensor> {
    let places = labels.iter().map(|label| {
        let place = side.labels.iter().position(|it| it == label);
        place.and_then(|it| i64::try_from(it).ok())
    });
    let places = places.collect::<Option<Vec<i64>>>().ok_or_else(broken)?;
    if places.is_empty() {
        return Ok(b.i64s(&[]));
    }
    let all = b.shape_of(&side.tensor)?;
    let places = b.i64s(&places);
    b.gather(&all, &places, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_copied_only_at_the_same_place() {
        let group = |it: &[u8]| it.iter().map(|&it| Label::Letter(it)).collect::<Labels>();
        let joined = [group(b"a"), group(b"bc")];
        assert_eq!(copying(&joined, &[None, Some(6)]), Some(vec![0, 6]));
        assert_eq!(copying(&joined, &[None, None]), None);
        assert_eq!(copying(&joined, &[None, Some(0)]), None);
        let joined = [group(b"bc"), group(b"a")];
        assert_eq!(copying(&joined, &[Some(6), None]), None);
    }
}
