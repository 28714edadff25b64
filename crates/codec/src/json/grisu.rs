//! Doubles as RapidJSON 1.1.0 prints them in messages: the Grisu2 method of Florian Loitsch.
//!
//! The text reads back as the same double but is not always the shortest or nearest, and messages
//! have to match byte by byte: 18446744073709551616 is `18446744073709553000.0`. The method is
//! therefore followed exactly, including the point where that library gives up rounding.
//!
//! Not here: numbers in responses (`float_text`).

/// A positive number `significand × 2^exponent`.
#[derive(Clone, Copy)]
struct Scaled {
    significand: u64,
    exponent: i32,
}

impl Scaled {
    /// The value of a positive, finite double.
    fn of(value: f64) -> Self {
        let bits = value.to_bits();
        let fraction = bits & ((1 << 52) - 1);
        match (bits >> 52) as i32 & 0x7FF {
            0 => Self::new(fraction, -1074),
            biased => Self::new(fraction | 1 << 52, biased - 1075),
        }
    }

    fn new(significand: u64, exponent: i32) -> Self {
        Self {
            significand,
            exponent,
        }
    }

    /// The same number with the highest bit set.
    fn normalized(self) -> Self {
        let shift = self.significand.leading_zeros();
        Self::new(self.significand << shift, self.exponent - shift as i32)
    }

    /// The product, rounded to 64 bits.
    fn times(self, other: Self) -> Self {
        let product = u128::from(self.significand) * u128::from(other.significand);
        let rounded = (product + (1 << 63)) >> 64;
        Self::new(rounded as u64, self.exponent + other.exponent + 64)
    }

    /// Half way to the next double and half way to the previous one, with equal exponents.
    fn boundaries(self) -> (Self, Self) {
        let above = Self::new((self.significand << 1) + 1, self.exponent - 1).normalized();
        let below = if self.significand == 1 << 52 {
            Self::new((self.significand << 2) - 1, self.exponent - 2)
        } else {
            Self::new((self.significand << 1) - 1, self.exponent - 1)
        };
        let shift = below.exponent - above.exponent;
        let below = Self::new(below.significand << shift, above.exponent);
        (below, above)
    }
}

/// A power of ten that scales a number with binary exponent `exponent` until its integer part has
/// at most 32 bits, and the decimal exponent for the resulting digits.
fn cached_power(exponent: i32) -> (Scaled, i32) {
    let steps = (f64::from(-61 - exponent) * 0.301_029_995_663_981_14 + 347.0).ceil() as i32;
    let index = (steps >> 3) + 1;
    let power = -348 + index * 8;
    // floor(power × log2(10)) - 63
    let exponent = ((power * 217_706) >> 16) - 63;
    let significand = usize::try_from(index)
        .ok()
        .and_then(|index| POWERS.get(index))
        .copied()
        .unwrap_or_default();
    (Scaled::new(significand, exponent), -power)
}

/// The digits of a positive, finite double and the power of ten of the last one.
fn digits(value: f64) -> (Vec<u8>, i32) {
    let exact = Scaled::of(value);
    let (below, above) = exact.boundaries();
    let (power, decimal) = cached_power(above.exponent);
    let middle = exact.normalized().times(power);
    let high = above.times(power).significand - 1;
    let low = below.times(power).significand + 1;
    let room = Room {
        delta: high - low,
        distance: high - middle.significand,
    };
    // This position of the point leaves at most nine digits in the integer part of `high`.
    let point = (-middle.exponent) as u32;
    let (digits, kappa) = generate(high, point, room);
    (digits, decimal + kappa)
}

/// How far the digits can stay below the upper boundary, and how far the number itself is below it.
#[derive(Clone, Copy)]
struct Room {
    delta: u64,
    distance: u64,
}

/// Digits of `high`, which has `point` bits after the point, until the rest no longer matters.
fn generate(high: u64, point: u32, room: Room) -> (Vec<u8>, i32) {
    let one = 1u64 << point;
    let mut digits = Vec::with_capacity(20);
    let (mut integer, fraction) = (high >> point, high & (one - 1));
    for kappa in (0..9).rev() {
        let unit = 10u64.pow(kappa);
        push_digit(&mut digits, integer / unit);
        integer %= unit;
        let rest = (integer << point) + fraction;
        if !digits.is_empty() && rest <= room.delta {
            round(&mut digits, room, rest, unit << point);
            return (digits, kappa as i32);
        }
    }
    let mut rest = fraction;
    let mut delta = room.delta;
    let mut kappa: i32 = 0;
    loop {
        rest *= 10;
        delta = delta.wrapping_mul(10);
        push_digit(&mut digits, rest >> point);
        rest &= one - 1;
        kappa -= 1;
        if rest < delta {
            // Beyond eight digits of fraction the library stops rounding.
            let factor = match kappa {
                -8..0 => 10u64.pow(kappa.unsigned_abs()),
                _ => 0,
            };
            let distance = room.distance.wrapping_mul(factor);
            round(&mut digits, Room { delta, distance }, rest, one);
            return (digits, kappa);
        }
    }
}

fn push_digit(digits: &mut Vec<u8>, digit: u64) {
    if digit != 0 || !digits.is_empty() {
        digits.push(b'0' + digit as u8);
    }
}

/// Lowers the last digit while that brings the text closer to the number.
fn round(digits: &mut [u8], room: Room, rest: u64, unit: u64) {
    let Room { delta, distance } = room;
    let Some(last) = digits.last_mut() else {
        return;
    };
    let mut rest = rest;
    while rest < distance
        && delta - rest >= unit
        && (rest + unit < distance || distance - rest > rest + unit - distance)
    {
        *last -= 1;
        rest += unit;
    }
}

/// Appends a finite double: `1.0`, `100.0`, `1e30`, `1.5e-7`.
pub(super) fn write(value: f64, out: &mut Vec<u8>) {
    if value.is_sign_negative() {
        out.push(b'-');
    }
    if value == 0.0 {
        out.extend_from_slice(b"0.0");
        return;
    }
    let (digits, power) = digits(value.abs());
    let count = digits.len() as i32;
    // The number of digits before the point.
    let before = count + power;
    match before {
        _ if power >= 0 && before <= 21 => {
            out.extend_from_slice(&digits);
            out.resize(out.len() + power as usize, b'0');
            out.extend_from_slice(b".0");
        }
        1..=21 => {
            let (integer, fraction) = digits.split_at(before as usize);
            out.extend_from_slice(integer);
            out.push(b'.');
            out.extend_from_slice(fraction);
        }
        -5..=0 => {
            out.extend_from_slice(b"0.");
            out.resize(out.len() + before.unsigned_abs() as usize, b'0');
            out.extend_from_slice(&digits);
        }
        _ => {
            let (first, fraction) = digits.split_at(1);
            out.extend_from_slice(first);
            if !fraction.is_empty() {
                out.push(b'.');
                out.extend_from_slice(fraction);
            }
            out.extend_from_slice(format!("e{}", before - 1).as_bytes());
        }
    }
}

/// The highest 64 bits, rounded, of every eighth power of ten from 10^-348 to 10^340.
#[rustfmt::skip]
const POWERS: [u64; 87] = [
    0xFA8F_D5A0_081C_0288, 0xBAAE_E17F_A23E_BF76, 0x8B16_FB20_3055_AC76, 0xCF42_894A_5DCE_35EA,
    0x9A6B_B0AA_5565_3B2D, 0xE61A_CF03_3D1A_45DF, 0xAB70_FE17_C79A_C6CA, 0xFF77_B1FC_BEBC_DC4F,
    0xBE56_91EF_416B_D60C, 0x8DD0_1FAD_907F_FC3C, 0xD351_5C28_3155_9A83, 0x9D71_AC8F_ADA6_C9B5,
    0xEA9C_2277_23EE_8BCB, 0xAECC_4991_4078_536D, 0x823C_1279_5DB6_CE57, 0xC210_9436_4DFB_5637,
    0x9096_EA6F_3848_984F, 0xD774_85CB_2582_3AC7, 0xA086_CFCD_97BF_97F4, 0xEF34_0A98_172A_ACE5,
    0xB238_67FB_2A35_B28E, 0x84C8_D4DF_D2C6_3F3B, 0xC5DD_4427_1AD3_CDBA, 0x936B_9FCE_BB25_C996,
    0xDBAC_6C24_7D62_A584, 0xA3AB_6658_0D5F_DAF6, 0xF3E2_F893_DEC3_F126, 0xB5B5_ADA8_AAFF_80B8,
    0x8762_5F05_6C7C_4A8B, 0xC9BC_FF60_34C1_3053, 0x964E_858C_91BA_2655, 0xDFF9_7724_7029_7EBD,
    0xA6DF_BD9F_B8E5_B88F, 0xF8A9_5FCF_8874_7D94, 0xB944_7093_8FA8_9BCF, 0x8A08_F0F8_BF0F_156B,
    0xCDB0_2555_6531_31B6, 0x993F_E2C6_D07B_7FAC, 0xE45C_10C4_2A2B_3B06, 0xAA24_2499_6973_92D3,
    0xFD87_B5F2_8300_CA0E, 0xBCE5_0864_9211_1AEB, 0x8CBC_CC09_6F50_88CC, 0xD1B7_1758_E219_652C,
    0x9C40_0000_0000_0000, 0xE8D4_A510_0000_0000, 0xAD78_EBC5_AC62_0000, 0x813F_3978_F894_0984,
    0xC097_CE7B_C907_15B3, 0x8F7E_32CE_7BEA_5C70, 0xD5D2_38A4_ABE9_8068, 0x9F4F_2726_179A_2245,
    0xED63_A231_D4C4_FB27, 0xB0DE_6538_8CC8_ADA8, 0x83C7_088E_1AAB_65DB, 0xC45D_1DF9_4271_1D9A,
    0x924D_692C_A61B_E758, 0xDA01_EE64_1A70_8DEA, 0xA26D_A399_9AEF_774A, 0xF209_787B_B47D_6B85,
    0xB454_E4A1_79DD_1877, 0x865B_8692_5B9B_C5C2, 0xC835_53C5_C896_5D3D, 0x952A_B45C_FA97_A0B3,
    0xDE46_9FBD_99A0_5FE3, 0xA59B_C234_DB39_8C25, 0xF6C6_9A72_A398_9F5C, 0xB7DC_BF53_54E9_BECE,
    0x88FC_F317_F222_41E2, 0xCC20_CE9B_D35C_78A5, 0x9816_5AF3_7B21_53DF, 0xE2A0_B5DC_971F_303A,
    0xA8D9_D153_5CE3_B396, 0xFB9B_7CD9_A4A7_443C, 0xBB76_4C4C_A7A4_4410, 0x8BAB_8EEF_B640_9C1A,
    0xD01F_EF10_A657_842C, 0x9B10_A4E5_E991_3129, 0xE710_9BFB_A19C_0C9D, 0xAC28_20D9_623B_F429,
    0x8044_4B5E_7AA7_CF85, 0xBF21_E440_03AC_DD2D, 0x8E67_9C2F_5E44_FF8F, 0xD433_179D_9C8C_B841,
    0x9E19_DB92_B4E3_1BA9, 0xEB96_BF6E_BADF_77D9, 0xAF87_023B_9BF0_EE6B,
];

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: f64) -> String {
        let mut out = Vec::new();
        write(value, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn write_gives_the_recorded_texts() {
        // From the recorded answers, and spec section 3.1.
        let cases = [
            (18446744073709551616.0, "18446744073709553000.0"),
            (1.0, "1.0"),
            (100.0, "100.0"),
            (1e30, "1e30"),
            (1.5, "1.5"),
            (-0.0, "-0.0"),
        ];
        for (value, expected) in cases {
            assert_eq!(text(value), expected);
        }
    }

    #[test]
    fn write_reads_back_as_the_same_double() {
        let mut bits: u64 = 0x9E37_79B9_7F4A_7C15;
        for _ in 0..200_000 {
            bits ^= bits << 13;
            bits ^= bits >> 7;
            bits ^= bits << 17;
            let value = f64::from_bits(bits);
            if value.is_finite() {
                assert_eq!(text(value).parse::<f64>().unwrap(), value);
            }
        }
        for value in [
            5e-324,
            f64::MIN_POSITIVE,
            f64::MAX,
            0.1,
            123.456,
            1e-7,
            1e21,
            1e22,
        ] {
            assert_eq!(text(value).parse::<f64>().unwrap(), value);
        }
    }
}
