//! The error function, and its distance from 1.

use base::tensor::DataType;

use super::Table;
use crate::builder::Builder;
use crate::op::{Op, Translated, one};
use crate::ops::Rule::Pure;
use crate::refusal::Refusal;
use crate::value::Tensor;

type Result<T> = std::result::Result<T, Refusal>;

pub(super) const TABLE: Table = &[("Erf", Pure(erf)), ("Erfc", Pure(erfc))];

/// With `t = 2 / (2 + z)`, `erfc(z) = t * exp(P(2t - 1) - z²)` for `z` from 0. The polynomials `P`, the lowest
/// power first, were fitted at Chebyshev nodes to `erfc` computed with 80 digits; relative to the result, this
/// one is exact to 3e-6.
const TAIL: [f64; 8] = [
    -0.671_792_447_566_986_1,
    0.672_630_488_872_528_1,
    0.047_291_129_827_499_39,
    -0.046_718_448_400_497_437,
    -0.009_613_882_750_272_75,
    0.008_140_632_884_714_272,
    0.001_360_746_449_790_895,
    -0.001_297_828_974_202_275_3,
];

/// Exact to 1e-13.
const TAIL_OF_DOUBLE: [f64; 23] = [
    -0.671_794_084_056_690_7,
    0.672_643_223_977_840_2,
    0.047_343_306_841_463_75,
    -0.046_895_610_246_106_36,
    -0.009_872_689_345_701_18,
    0.008_824_938_936_236_704,
    0.001_758_933_165_839_86,
    -0.002_345_817_015_740_436_8,
    -0.000_146_242_958_079_412_23,
    0.000_673_708_814_620_255_2,
    -9.375_822_331_847_417e-5,
    -0.000_174_424_982_226_639_7,
    7.148_896_251_862_88e-5,
    3.206_325_666_837_983_6e-5,
    -3.040_917_681_573_773_7e-5,
    -4.030_383_706_776_774_5e-7,
    8.938_444_580_053_329e-6,
    -2.355_800_916_120_643e-6,
    -1.702_356_712_485_198e-6,
    8.562_928_996_980_19e-7,
    1.553_744_368_720_799_7e-7,
    -1.184_525_899_589_061_7e-7,
    1.586_158_759_891_968_9e-9,
];

/// `erf(x) = x * Q(2x² - 1)` up to 1, fitted in the same way; exact to 2e-15.
const BODY_OF_DOUBLE: [f64; 13] = [
    0.965_468_738_669_867_6,
    -0.140_536_089_022_716_2,
    0.019_852_496_688_977_29,
    -0.002_285_485_561_127_315,
    0.000_217_517_156_138_213_87,
    -1.753_716_965_191_554e-5,
    1.223_382_265_713_723_9e-6,
    -7.511_501_642_909_48e-8,
    4.116_781_582_297_335e-9,
    -2.043_503_144_477_654_1e-10,
    8.256_506_589_532_364e-12,
    -3.552_713_678_800_501e-14,
    3.268_496_584_496_461e-13,
];

fn erf(b: &mut Builder, op: &Op<'_>) -> Translated {
    let x = op.input(0)?;
    if x.dtype != DataType::Double {
        return one(b.unary_any("Erf", x)?);
    }
    let unit = b.scalar_for(x, 1.0)?;
    let square = b.binary("Mul", x, x)?;
    let place = b.binary("Add", &square, &square)?;
    let place = b.binary("Sub", &place, &unit)?;
    let body = polynomial(b, &BODY_OF_DOUBLE, &place)?;
    let body = b.binary("Mul", x, &body)?;
    let size = b.unary("Abs", x)?;
    let tail = tail(b, &size, &TAIL_OF_DOUBLE)?;
    let tail = b.binary("Sub", &unit, &tail)?;
    let sign = b.unary("Sign", x)?;
    let tail = b.binary("Mul", &tail, &sign)?;
    let is_small = b.compare("Less", &size, &unit)?;
    one(b.choose(&is_small, &body, &tail)?)
}

/// `1 - erf(x)` has nothing left from 4 on, where the result is small but not 0.
fn erfc(b: &mut Builder, op: &Op<'_>) -> Translated {
    let x = op.input(0)?;
    let (compute, coefficients) = match x.dtype {
        DataType::Double => (DataType::Double, &TAIL_OF_DOUBLE[..]),
        _ => (DataType::Float, &TAIL[..]),
    };
    let wide = b.cast(x, compute)?;
    let size = b.unary("Abs", &wide)?;
    let right = tail(b, &size, coefficients)?;
    let (zero, two) = (b.scalar(compute, 0.0)?, b.scalar(compute, 2.0)?);
    let left = b.binary("Sub", &two, &right)?;
    let is_left = b.compare("Less", &wide, &zero)?;
    let result = b.choose(&is_left, &left, &right)?;
    one(b.cast(&result, x.dtype)?)
}

/// `erfc` of numbers from 0.
fn tail(b: &mut Builder, z: &Tensor, coefficients: &[f64]) -> Result<Tensor> {
    let (unit, two) = (b.scalar_for(z, 1.0)?, b.scalar_for(z, 2.0)?);
    let sum = b.binary("Add", z, &two)?;
    let t = b.binary("Div", &two, &sum)?;
    let place = b.binary("Add", &t, &t)?;
    let place = b.binary("Sub", &place, &unit)?;
    let power = polynomial(b, coefficients, &place)?;
    let square = b.binary("Mul", z, z)?;
    let power = b.binary("Sub", &power, &square)?;
    let power = b.unary("Exp", &power)?;
    b.binary("Mul", &t, &power)
}

/// By Horner's method.
fn polynomial(b: &mut Builder, coefficients: &[f64], x: &Tensor) -> Result<Tensor> {
    let mut sum = b.scalar_for(x, 0.0)?;
    for (index, &coefficient) in coefficients.iter().rev().enumerate() {
        let coefficient = b.scalar_for(x, coefficient)?;
        sum = match index {
            0 => coefficient,
            _ => {
                let product = b.binary("Mul", x, &sum)?;
                b.binary("Add", &product, &coefficient)?
            }
        };
    }
    Ok(sum)
}
