//! The reference is C's own `snprintf`, in whose terms TensorFlow Serving's rule is written.

use proptest::prelude::*;

use super::*;

/// `%.{precision}g` by the C library.
fn printf(value: f64, precision: i32) -> String {
    let mut buffer = [0u8; 64];
    // SAFETY: the buffer is longer than any `%.17g`, and its length is passed.
    let length = unsafe {
        libc::snprintf(
            buffer.as_mut_ptr().cast(),
            buffer.len(),
            c"%.*g".as_ptr(),
            precision,
            value,
        )
    };
    String::from_utf8(buffer[..length as usize].to_vec()).unwrap()
}

/// Spec section 6.4, word for word.
fn expected(value: f64, digits: i32, same: impl Fn(&str) -> bool) -> String {
    if value.is_nan() {
        return "NaN".into();
    }
    if value.is_infinite() {
        return if value > 0.0 { "Infinity" } else { "-Infinity" }.into();
    }
    let mut text = printf(value, 6);
    if !same(&text) {
        text = printf(value, digits);
    }
    if !text.contains(['.', 'e']) {
        text.push_str(".0");
    }
    text
}

fn text_f32(value: f32) -> String {
    let mut out = Vec::new();
    write_f32(value, &mut out);
    String::from_utf8(out).unwrap()
}

fn text_f64(value: f64) -> String {
    let mut out = Vec::new();
    write_f64(value, &mut out);
    String::from_utf8(out).unwrap()
}

#[track_caller]
fn check_f32(value: f32) {
    let same = |text: &str| text.parse::<f32>().unwrap() == value;
    let expected = expected(value.into(), 9, same);
    assert_eq!(text_f32(value), expected, "bits {:#x}", value.to_bits());
}

#[track_caller]
fn check_f64(value: f64) {
    let same = |text: &str| text.parse::<f64>().unwrap() == value;
    let expected = expected(value, 17, same);
    assert_eq!(text_f64(value), expected, "bits {:#x}", value.to_bits());
}

#[test]
fn floats_have_the_texts_of_the_spec() {
    // Spec section 6.4.
    let floats = [
        (1.0, "1.0"),
        (0.2, "0.2"),
        (1.0 / 3.0, "0.333333343"),
        (std::f32::consts::PI, "3.14159274"),
        (999999.0, "999999.0"),
        (1000000.0, "1e+06"),
        (1234567.0, "1234567.0"),
        (16777216.0, "16777216.0"),
        (0.0001, "0.0001"),
        (1e-5, "1e-05"),
        (-0.0, "-0.0"),
        (f32::MAX, "3.40282347e+38"),
        (f32::from_bits(1), "1.4013e-45"),
        (f32::NAN, "NaN"),
        (f32::INFINITY, "Infinity"),
        (f32::NEG_INFINITY, "-Infinity"),
    ];
    for (value, text) in floats {
        assert_eq!(text_f32(value), text);
    }
    let doubles = [
        (0.1 + 0.2, "0.30000000000000004"),
        (1.0 / 3.0, "0.33333333333333331"),
        (1234567.0, "1234567.0"),
        (123456789.0, "123456789.0"),
        (1e15, "1e+15"),
        (1e22, "1e+22"),
        (5e-324, "4.94066e-324"),
        (f64::MAX, "1.7976931348623157e+308"),
        (2.5e-7, "2.5e-07"),
        (12345.678, "12345.678"),
        (123456789012345678.0, "1.2345678901234568e+17"),
    ];
    for (value, text) in doubles {
        assert_eq!(text_f64(value), text);
    }
}

#[test]
fn floats_next_to_powers_are_right() {
    for exponent in 0..=254u32 {
        for neighbour in [-2i32, -1, 0, 1, 2] {
            check_f32(f32::from_bits(
                (exponent << 23).wrapping_add_signed(neighbour) & 0x7FFF_FFFF,
            ));
        }
    }
    for exponent in 0..=2046u64 {
        for neighbour in [-2i64, -1, 0, 1, 2] {
            let bits = (exponent << 52).wrapping_add_signed(neighbour) & (u64::MAX >> 1);
            check_f64(f64::from_bits(bits));
        }
    }
    for power in -45..=38 {
        let ten: f32 = format!("1e{power}").parse().unwrap();
        for neighbour in -40i32..=40 {
            check_f32(f32::from_bits(
                ten.to_bits().saturating_add_signed(neighbour),
            ));
        }
    }
    for power in -323..=308 {
        let ten: f64 = format!("1e{power}").parse().unwrap();
        for neighbour in -40i64..=40 {
            check_f64(f64::from_bits(
                ten.to_bits().saturating_add_signed(neighbour),
            ));
        }
    }
}

#[test]
fn halves_of_the_last_digit_round_to_even() {
    // Sums of powers of two end in 5 and make ties at six, nine and seventeen digits.
    for digits in 0..=64u32 {
        for odd in (1..2000u32).step_by(2) {
            let value = f64::from(odd) / 2f64.powi(digits as i32);
            check_f64(value);
            check_f64(value + 1000.0);
            check_f64(value * 1e6);
            check_f32(value as f32);
            check_f32((value + 100_000.0) as f32);
        }
    }
    for half in 0..20_000u32 {
        check_f32(100_000.0 + half as f32 / 2.0);
        check_f64(1_000_000.0 + f64::from(half) / 4.0);
        check_f64(2f64.powi(53) + f64::from(half) * 2.0);
        check_f64((2f64.powi(60) + f64::from(half) * 512.0) * 1e3);
    }
}

#[test]
fn many_random_floats_are_right() {
    let mut bits: u64 = 0x2545_F491_4F6C_DD1D;
    for _ in 0..300_000 {
        bits ^= bits << 13;
        bits ^= bits >> 7;
        bits ^= bits << 17;
        check_f32(f32::from_bits(bits as u32));
        check_f64(f64::from_bits(bits));
        let unit = (bits >> 11) as f64 / 2f64.powi(53);
        check_f32(unit as f32);
        check_f64(unit);
        check_f64((unit * 1e6).round() / 1e5);
        check_f32((unit * 1e6) as f32);
    }
}

proptest! {
    #[test]
    fn any_float_is_right(value in any::<f32>()) {
        check_f32(value);
    }

    #[test]
    fn any_double_is_right(value in any::<f64>()) {
        check_f64(value);
    }
}
