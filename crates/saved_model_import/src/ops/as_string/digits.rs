//! Texts with known lengths, and digits of integers.

use base::tensor::{DataType, Tensor as Elements};

use super::Result;
use crate::builder::Builder;
use crate::refusal::Refusal;
use crate::value::Tensor;

/// The largest power of ten in int64.
pub(super) const MAX_POWER: u32 = 18;

/// Texts and their lengths.
#[derive(Clone)]
pub(super) struct Piece {
    pub(super) text: Tensor,
    pub(super) len: Tensor,
}

impl Piece {
    /// The same text for all.
    pub(super) fn fixed(b: &mut Builder, text: &str) -> Result<Self> {
        let len = i64::try_from(text.len()).unwrap_or(i64::MAX);
        Ok(Self {
            text: b.string(text)?,
            len: b.i64(len),
        })
    }

    /// One text or the other.
    pub(super) fn either(b: &mut Builder, is_one: &Tensor, one: &str, two: &str) -> Result<Self> {
        let (one, two) = (Self::fixed(b, one)?, Self::fixed(b, two)?);
        Self::choose(b, is_one, &one, &two)
    }

    pub(super) fn choose(b: &mut Builder, is_one: &Tensor, one: &Self, two: &Self) -> Result<Self> {
        Ok(Self {
            text: b.choose(is_one, &one.text, &two.text)?,
            len: b.choose(is_one, &one.len, &two.len)?,
        })
    }

    /// One after the other.
    pub(super) fn then(&self, b: &mut Builder, next: &Self) -> Result<Self> {
        Ok(Self {
            text: b.string_concat(&self.text, &next.text)?,
            len: b.binary("Add", &self.len, &next.len)?,
        })
    }

    /// The digits of integers that are not negative.
    pub(super) fn digits(b: &mut Builder, x: &Tensor) -> Result<Self> {
        let downward = b.unary("Neg", x)?;
        Ok(Self {
            text: b.cast(x, DataType::String)?,
            len: count_downward(b, &downward)?,
        })
    }

    /// The digits with zeros before them up to a width, which is at most `most`. Nothing if it is 0.
    pub(super) fn filled(b: &mut Builder, x: &Tensor, width: &Tensor, most: i64) -> Result<Self> {
        let digits = Self::digits(b, x)?;
        let zero = b.i64(0);
        let missing = b.binary("Sub", width, &digits.len)?;
        let missing = b.binary("Max", &missing, &zero)?;
        let zeros = repeated(b, "0", most)?;
        let zeros = b.gather(&zeros, &missing, 0)?;
        let text = b.string_concat(&zeros, &digits.text)?;
        let is_any = b.compare("Greater", width, &zero)?;
        let nothing = b.string("")?;
        Ok(Self {
            text: b.choose(&is_any, &text, &nothing)?,
            len: width.clone(),
        })
    }
}

/// The number of digits of integers below or at zero. The smallest has no opposite.
pub(super) fn count_downward(b: &mut Builder, x: &Tensor) -> Result<Tensor> {
    let limits: Vec<i64> = (1..=MAX_POWER).map(|it| -10i64.pow(it)).collect();
    let limits = b.i64s(&limits);
    let x = b.unsqueeze(x, &[-1])?;
    let is_beyond = b.compare("LessOrEqual", &x, &limits)?;
    let is_beyond = b.cast(&is_beyond, DataType::Int64)?;
    let more = b.reduce("ReduceSum", &is_beyond, Some(&[-1]), false)?;
    let one = b.i64(1);
    b.binary("Add", &more, &one)
}

/// A character repeated 0 to `most` times: a table of texts.
pub(super) fn repeated(b: &mut Builder, character: &str, most: i64) -> Result<Tensor> {
    let most = usize::try_from(most).unwrap_or(0);
    let texts: Vec<String> = (0..=most).map(|it| character.repeat(it)).collect();
    b.texts(&texts)
}

/// 10 to the power of the elements, which are from 0 to 18.
pub(super) fn power_of_ten(b: &mut Builder, exponent: &Tensor) -> Result<Tensor> {
    let powers: Vec<i64> = (0..=MAX_POWER).map(|it| 10i64.pow(it)).collect();
    let powers = b.i64s(&powers);
    b.gather(&powers, exponent, 0)
}

/// A table of doubles.
pub(super) fn doubles(values: Vec<f64>) -> Result<Tensor> {
    let elements = Elements::from_vec(&[values.len()], values);
    elements
        .map(Tensor::constant)
        .ok_or_else(|| Refusal::new("has no table"))
}
