//! Conversions between dtypes.

use base::tensor::DataType::{self, *};

use super::Table;
use crate::builder::Builder;
use crate::op::{Op, Translated, one};
use crate::ops::Rule::Pure;
use crate::refusal::Refusal;

pub(super) const TABLE: Table = &[("Bitcast", Pure(bitcast)), ("Cast", Pure(cast))];

fn cast(b: &mut Builder, op: &Op<'_>) -> Translated {
    let x = op.input(0)?;
    let to = op.attr_dtype("DstT")?;
    if op.attr_flag("Truncate") && x.dtype != to && matches!(to, Half | BFloat16) {
        return Err(Refusal::new("cuts off digits instead of rounding"));
    }
    if matches!(x.dtype, String | Resource | Variant) || matches!(to, String | Resource | Variant) {
        return Err(Refusal::new(format!("converts {} to {to}", x.dtype)));
    }
    one(b.cast(x, to)?)
}

/// The dtype of integers of the same width, by whether it has a sign.
fn same_width(one: DataType, two: DataType) -> bool {
    let pairs = [
        (Int8, UInt8),
        (Int16, UInt16),
        (Int32, UInt32),
        (Int64, UInt64),
    ];
    one == two || pairs.contains(&(one, two)) || pairs.contains(&(two, one))
}

/// The same bits as another dtype: between integers of the same width that is a conversion.
fn bitcast(b: &mut Builder, op: &Op<'_>) -> Translated {
    let x = op.input(0)?;
    let to = op.attr_dtype("type")?;
    if !same_width(x.dtype, to) {
        return Err(Refusal::new(format!(
            "takes the bits of {} as {to}",
            x.dtype
        )));
    }
    one(b.cast(x, to)?)
}
