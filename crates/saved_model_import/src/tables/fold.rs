//! Operators on constants that initialisations use: `tf.range` for the values of a list of keys, and casts.

use base::tensor::{DataType, Tensor as Elements};
use bytes::Bytes;
use proto::tensorflow::NodeDef;

use crate::op::Op;
use crate::value::int_constant;

/// The largest result of `Range`.
const MAX_RANGE: i64 = 1 << 24;

/// The output of a node whose inputs are constants; `None` if it is not computed here.
pub(super) fn fold(node: &NodeDef, inputs: &[Elements]) -> Option<Elements> {
    let op = Op { node, inputs: &[] };
    match (node.op.as_str(), inputs) {
        ("Const", _) => op.attr_tensor("value").ok(),
        ("Cast", [x]) => cast(x, op.attr_dtype("DstT").ok()?),
        ("Range", [start, limit, delta]) => range(start, limit, delta),
        ("Size", [x]) => int_constant(out_type(&op), &[], &[i64::try_from(x.len()).ok()?]),
        ("Shape", [x]) => {
            let sizes: Option<Vec<i64>> =
                x.shape().iter().map(|&it| i64::try_from(it).ok()).collect();
            int_constant(out_type(&op), &[x.shape().len()], &sizes?)
        }
        ("Reshape", [x, sizes]) => reshape(x, &ints(sizes)?),
        ("ExpandDims", [x, axis]) => {
            let [axis] = ints(axis)?[..] else { return None };
            let mut shape = x.shape().to_vec();
            let rank = i64::try_from(shape.len()).ok()?;
            let axis = if axis < 0 { axis + rank + 1 } else { axis };
            let axis = usize::try_from(axis).ok().filter(|&it| it <= shape.len())?;
            shape.insert(axis, 1);
            x.reshaped(&shape)
        }
        ("Squeeze", [x]) => {
            let shape: Vec<usize> = x.shape().iter().copied().filter(|&it| it != 1).collect();
            let all = op.attr_ints("squeeze_dims").is_empty();
            all.then(|| x.reshaped(&shape))?
        }
        ("AddV2" | "Add", [x, y]) => binary(x, y, i64::checked_add),
        ("Sub", [x, y]) => binary(x, y, i64::checked_sub),
        ("StringJoin", parts) => joined(parts, op.attr_text("separator").as_bytes()),
        _ => None,
    }
}

fn out_type(op: &Op<'_>) -> DataType {
    op.attr_dtype("out_type").unwrap_or(DataType::Int32)
}

fn ints(x: &Elements) -> Option<Vec<i64>> {
    match x.dtype() {
        DataType::Int64 => x.as_slice::<i64>().map(<[_]>::to_vec),
        DataType::Int32 => x
            .as_slice::<i32>()
            .map(|it| it.iter().map(|&it| i64::from(it)).collect()),
        _ => None,
    }
}

fn cast(x: &Elements, dtype: DataType) -> Option<Elements> {
    match dtype == x.dtype() {
        true => Some(x.clone()),
        false => int_constant(dtype, x.shape(), &ints(x)?),
    }
}

fn range(start: &Elements, limit: &Elements, delta: &Elements) -> Option<Elements> {
    let dtype = start.dtype();
    let only = |x: &Elements| match ints(x)?[..] {
        [only] => Some(only),
        _ => None,
    };
    let (start, limit, delta) = (only(start)?, only(limit)?, only(delta)?);
    if delta <= 0 || limit.checked_sub(start)?.checked_div(delta)? > MAX_RANGE {
        return None;
    }
    let step = usize::try_from(delta).ok()?;
    let numbers: Vec<i64> = (start..limit).step_by(step).collect();
    int_constant(dtype, &[numbers.len()], &numbers)
}

fn reshape(x: &Elements, sizes: &[i64]) -> Option<Elements> {
    let mut known = sizes.iter().filter(|it| **it >= 0);
    let product = known.try_fold(1i64, |product, it| product.checked_mul(*it))?;
    let rest = i64::try_from(x.len()).ok()?.checked_div(product);
    let size = |&it: &i64| match it {
        -1 => usize::try_from(rest?).ok(),
        it => usize::try_from(it).ok(),
    };
    let shape: Option<Vec<usize>> = sizes.iter().map(size).collect();
    x.reshaped(&shape?)
}

fn binary(x: &Elements, y: &Elements, compute: fn(i64, i64) -> Option<i64>) -> Option<Elements> {
    let (one, two) = (ints(x)?, ints(y)?);
    let shape = if two.len() == 1 { x.shape() } else { y.shape() };
    if one.len() != two.len() && one.len() != 1 && two.len() != 1 {
        return None;
    }
    let at = |it: &[i64], index: usize| it.get(if it.len() == 1 { 0 } else { index }).copied();
    let results =
        (0..one.len().max(two.len())).map(|index| compute(at(&one, index)?, at(&two, index)?));
    int_constant(x.dtype(), shape, &results.collect::<Option<Vec<_>>>()?)
}

/// Scalars, joined: how a path is made from a folder and a name.
fn joined(parts: &[Elements], separator: &[u8]) -> Option<Elements> {
    let parts: Option<Vec<&[u8]>> = parts
        .iter()
        .map(|it| match it.strings()? {
            [only] if it.shape().is_empty() => Some(&only[..]),
            _ => None,
        })
        .collect();
    let joined = parts?.join(separator);
    Elements::from_strings(&[], vec![Bytes::from(joined)])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn longs(values: &[i64]) -> Elements {
        Elements::from_vec(&[values.len()], values.to_vec()).unwrap()
    }

    fn scalar(value: i64) -> Elements {
        Elements::from_vec(&[], vec![value]).unwrap()
    }

    fn run(op: &str, inputs: &[Elements]) -> Option<Vec<i64>> {
        let node = NodeDef {
            op: op.to_owned(),
            ..NodeDef::default()
        };
        ints(&fold(&node, inputs)?)
    }

    #[test]
    fn numbers_of_keys_are_computed() {
        let of = |limit, delta| run("Range", &[scalar(0), scalar(limit), scalar(delta)]);
        assert_eq!(of(4, 1), Some(vec![0, 1, 2, 3]));
        assert_eq!(of(4, 3), Some(vec![0, 3]));
        assert_eq!(of(4, 0), None);
        assert_eq!(of(i64::MAX, 1), None);
        assert_eq!(run("Size", &[longs(&[7, 8])]), Some(vec![2]));
        let (two, one) = (longs(&[1, 2]), scalar(1));
        assert_eq!(run("AddV2", &[two.clone(), one.clone()]), Some(vec![2, 3]));
        assert_eq!(run("Sub", &[one, two]), Some(vec![0, -1]));
    }

    #[test]
    fn shapes_are_changed() {
        let shape = |it: Option<Elements>| it.map(|it| it.shape().to_vec());
        let x = longs(&[1, 2, 3, 4]);
        assert_eq!(shape(reshape(&x, &[2, -1])), Some(vec![2, 2]));
        assert_eq!(shape(reshape(&x, &[3, -1])), None);
        assert_eq!(shape(reshape(&x, &[0, -1])), None);
    }
}
