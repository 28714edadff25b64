//! Numbers as text, in the formats of C's `printf` that TensorFlow's AsString uses.
//!
//! ONNX's `Cast` writes integers as TensorFlow does. Everything else is computed: the sign, the digits of
//! floats, and the padding.

mod decimal;
mod digits;
mod large;
mod powers;

use base::tensor::DataType;

use self::digits::Piece;
use super::Table;
use crate::builder::Builder;
use crate::op::{Op, Translated, one};
use crate::ops::Rule::Pure;
use crate::refusal::Refusal;
use crate::value::Tensor;

pub(super) const TABLE: Table = &[("AsString", Pure(as_string))];

type Result<T> = std::result::Result<T, Refusal>;

/// The largest width: a table has padding for each length.
const MAX_WIDTH: i64 = 256;

/// The attributes of a node.
struct Format {
    notation: Notation,
    /// The number of digits; `None` for C's default of 6.
    precision: Option<u32>,
    /// 0 if there is no padding.
    width: i64,
    flag: Flag,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Notation {
    /// C's `f`.
    Fixed,
    /// C's `e`.
    Scientific,
    /// C's `g`.
    Shortest,
}

/// The fill is a flag of C's format.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flag {
    None,
    Zero,
    Left,
    Plus,
    Space,
    Alternate,
}

impl Format {
    fn of(op: &Op<'_>) -> Result<Self> {
        let (scientific, shortest) = (op.attr_flag("scientific"), op.attr_flag("shortest"));
        let notation = match (scientific, shortest) {
            (true, true) => return Err(Refusal::new("is both scientific and shortest")),
            (true, false) => Notation::Scientific,
            (false, true) => Notation::Shortest,
            (false, false) => Notation::Fixed,
        };
        let flag = match op.attr_text("fill") {
            "" => Flag::None,
            "0" => Flag::Zero,
            "-" => Flag::Left,
            "+" => Flag::Plus,
            " " => Flag::Space,
            "#" => Flag::Alternate,
            other => return Err(Refusal::new(format!("has the fill '{other}'"))),
        };
        let width = op.attr_int("width").unwrap_or(-1).max(0);
        if width > MAX_WIDTH {
            return Err(Refusal::new(format!("has a width above {MAX_WIDTH}")));
        }
        let precision = op.attr_int("precision").filter(|&it| it >= 0);
        Ok(Self {
            notation,
            precision: precision.map(|it| u32::try_from(it).unwrap_or(u32::MAX)),
            width,
            flag,
        })
    }

    /// The text before numbers that are not negative.
    fn plus(&self) -> &'static str {
        match self.flag {
            Flag::Plus => "+",
            Flag::Space => " ",
            _ => "",
        }
    }
}

fn as_string(b: &mut Builder, op: &Op<'_>) -> Translated {
    let x = op.input(0)?;
    let format = Format::of(op)?;
    let is_float = matches!(
        x.dtype,
        DataType::Float | DataType::Double | DataType::Half | DataType::BFloat16
    );
    let has_notation = format.precision.is_some() || format.notation != Notation::Fixed;
    match x.dtype {
        _ if is_float => one(float(b, &format, x)?),
        DataType::String => one(padded_text(&format, x)?),
        _ if has_notation => Err(Refusal::new(format!(
            "has a precision or notation for {}",
            x.dtype
        ))),
        DataType::Bool => {
            let (yes, no) = (b.string("true")?, b.string("false")?);
            one(b.choose(x, &yes, &no)?)
        }
        DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::UInt8
        | DataType::UInt16
        | DataType::UInt32
        | DataType::UInt64 => one(integer(b, &format, x)?),
        other => Err(Refusal::new(format!("is not run for {other}"))),
    }
}

/// Text is only padded; without a width it stays.
fn padded_text(format: &Format, x: &Tensor) -> Result<Tensor> {
    match (format.width, format.precision) {
        (0, None) => Ok(x.clone()),
        _ => Err(Refusal::new("has a width or precision for strings")),
    }
}

fn integer(b: &mut Builder, format: &Format, x: &Tensor) -> Result<Tensor> {
    let is_signed = matches!(
        x.dtype,
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64
    );
    let plus = if is_signed { format.plus() } else { "" };
    if format.width == 0 && plus.is_empty() {
        return b.cast(x, DataType::String);
    }
    // Numbers from 2^63 have 19 or 20 digits.
    if x.dtype == DataType::UInt64 && format.width > 19 {
        return Err(Refusal::new("has a width above 19 for uint64"));
    }
    let wide = b.cast(x, DataType::Int64)?;
    let zero = b.i64(0);
    let below = b.compare("Less", &wide, &zero)?;
    let opposite = b.unary("Neg", &wide)?;
    // The smallest number is its own opposite in int64, and the right one in uint64.
    let magnitude = match is_signed {
        true => {
            let magnitude = b.choose(&below, &opposite, &wide)?;
            b.cast(&magnitude, DataType::UInt64)?
        }
        false => x.clone(),
    };
    let downward = b.choose(&below, &wide, &opposite)?;
    let len = digits::count_downward(b, &downward)?;
    let most = b.i64(19);
    let len = match is_signed {
        true => len,
        false => b.choose(&below, &most, &len)?,
    };
    let body = Piece {
        text: b.cast(&magnitude, DataType::String)?,
        len,
    };
    let sign = match is_signed {
        true => Piece::either(b, &below, "-", plus)?,
        false => Piece::fixed(b, "")?,
    };
    padded(b, format, &sign, &body, None)
}

fn float(b: &mut Builder, format: &Format, x: &Tensor) -> Result<Tensor> {
    let is_short = x.dtype != DataType::Double;
    let x = b.cast(x, DataType::Double)?;
    let (zero, unit) = (
        b.scalar(DataType::Double, 0.0)?,
        b.scalar(DataType::Double, 1.0)?,
    );
    let below = b.compare("Less", &x, &zero)?;
    // Only the reciprocal tells -0 from 0.
    let reciprocal = b.binary("Div", &unit, &x)?;
    let before = b.compare("Less", &reciprocal, &zero)?;
    let negative = b.compare("Or", &below, &before)?;
    let is_nan = b.test("IsNaN", &x)?;
    let is_infinite = b.test("IsInf", &x)?;
    let is_other = b.compare("Or", &is_nan, &is_infinite)?;
    let magnitude = b.unary("Abs", &x)?;
    // TensorFlow's kernels read numbers below the normal ones as 0.
    let smallest = match is_short {
        true => f32::MIN_POSITIVE.into(),
        false => f64::MIN_POSITIVE,
    };
    let smallest = b.scalar(DataType::Double, smallest)?;
    let is_tiny = b.compare("Less", &magnitude, &smallest)?;
    let is_zero = b.compare("Or", &is_other, &is_tiny)?;
    let magnitude = b.choose(&is_zero, &zero, &magnitude)?;
    let body = match format.notation {
        Notation::Fixed => decimal::fixed(b, format, &magnitude, is_short)?,
        Notation::Scientific => decimal::scientific(b, format, &magnitude)?,
        Notation::Shortest => decimal::shortest(b, format, &magnitude)?,
    };
    let other = Piece::either(b, &is_nan, "nan", "inf")?;
    let body = Piece::choose(b, &is_other, &other, &body)?;
    let sign = Piece::either(b, &negative, "-", format.plus())?;
    padded(b, format, &sign, &body, Some(&is_other))
}

/// Sign and digits, filled to the width. `is_other` are infinities and NaN, which are not filled with zeros.
fn padded(
    b: &mut Builder,
    format: &Format,
    sign: &Piece,
    body: &Piece,
    is_other: Option<&Tensor>,
) -> Result<Tensor> {
    if format.width == 0 {
        return b.string_concat(&sign.text, &body.text);
    }
    let width = b.i64(format.width);
    let left = b.binary("Sub", &width, &sign.len)?;
    let left = b.binary("Sub", &left, &body.len)?;
    let zero = b.i64(0);
    let left = b.binary("Max", &left, &zero)?;
    let signed = b.string_concat(&sign.text, &body.text)?;
    let spaces = digits::repeated(b, " ", format.width)?;
    let spaces = b.gather(&spaces, &left, 0)?;
    if format.flag == Flag::Left {
        return b.string_concat(&signed, &spaces);
    }
    let right = b.string_concat(&spaces, &signed)?;
    if format.flag != Flag::Zero {
        return Ok(right);
    }
    let zeros = digits::repeated(b, "0", format.width)?;
    let zeros = b.gather(&zeros, &left, 0)?;
    let filled = b.string_concat(&sign.text, &zeros)?;
    let filled = b.string_concat(&filled, &body.text)?;
    match is_other {
        Some(is_other) => b.choose(is_other, &right, &filled),
        None => Ok(filled),
    }
}
