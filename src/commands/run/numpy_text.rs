//! Prints a tensor as NumPy's `str` prints an array, which is how `saved_model_cli run` prints answers.
//!
//! Source of the rules: NumPy's `arrayprint.py` with its default options (8 digits, 75 columns, more than 1000
//! elements in short).

use std::fmt::Write;

use base::tensor::{DataType, Tensor};
use half::{bf16, f16};

const LINE_WIDTH: usize = 75;
const PRECISION: usize = 8;
/// Larger arrays are printed in short.
const THRESHOLD: usize = 1000;
/// The number of elements at each end of an axis that is printed in short.
const EDGE_ITEMS: usize = 3;

/// The text of a tensor.
pub(super) fn text(tensor: &Tensor) -> String {
    let shape = tensor.shape();
    if tensor.is_empty() {
        return "[]".to_owned();
    }
    let printed = Printed {
        shape,
        in_short: tensor.len() > THRESHOLD,
    };
    let shown = printed.shown();
    let words = words(tensor, &shown);
    if shape.is_empty() {
        return words.into_iter().next().unwrap_or_default();
    }
    let mut words = words.into_iter();
    printed.list(0, " ", LINE_WIDTH, &mut words)
}

/// The layout of an array.
struct Printed<'a> {
    shape: &'a [usize],
    in_short: bool,
}

impl Printed<'_> {
    fn is_cut(&self, axis: usize) -> bool {
        self.in_short && self.shape[axis] > 2 * EDGE_ITEMS
    }

    /// The indices of the elements that are shown, in order.
    fn shown(&self) -> Vec<usize> {
        let mut indices = vec![0];
        for (axis, &size) in self.shape.iter().enumerate() {
            let along: Vec<usize> = match self.is_cut(axis) {
                true => (0..EDGE_ITEMS).chain(size - EDGE_ITEMS..size).collect(),
                false => (0..size).collect(),
            };
            let next = indices
                .iter()
                .flat_map(|index| along.iter().map(move |it| index * size + it));
            indices = next.collect();
        }
        indices
    }

    fn list(
        &self,
        axis: usize,
        indent: &str,
        width: usize,
        words: &mut impl Iterator<Item = String>,
    ) -> String {
        let size = self.shape[axis];
        let (count, cut) = match self.is_cut(axis) {
            true => (2 * EDGE_ITEMS, Some(EDGE_ITEMS)),
            false => (size, None),
        };
        let mut text = String::new();
        if axis + 1 == self.shape.len() {
            let mut line = indent.to_owned();
            for item in 0..count {
                if cut == Some(item) {
                    extend(&mut text, &mut line, "...", width - 1, indent);
                    line.push(' ');
                }
                let word = words.next().unwrap_or_default();
                extend(&mut text, &mut line, &word, width - 1, indent);
                if item + 1 < count {
                    line.push(' ');
                }
            }
            text += &line;
        } else {
            let separator = "\n".repeat(self.shape.len() - axis - 1);
            let inner = format!("{indent} ");
            for item in 0..count {
                if cut == Some(item) {
                    text += &format!("{indent}...{separator}");
                }
                text += indent;
                text += &self.list(axis + 1, &inner, width - 1, words);
                if item + 1 < count {
                    text += &separator;
                }
            }
        }
        format!("[{}]", &text[indent.len()..])
    }
}

/// Adds a word to the line, or to a new one if the line becomes too long.
fn extend(text: &mut String, line: &mut String, word: &str, width: usize, indent: &str) {
    if line.len() + word.len() > width && line.len() > indent.len() {
        *text += line.trim_end();
        text.push('\n');
        indent.clone_into(line);
    }
    line.push_str(word);
}

/// The elements as words of the same width.
fn words(tensor: &Tensor, shown: &[usize]) -> Vec<String> {
    let is_scalar = tensor.shape().is_empty();
    if let Some(strings) = tensor.strings() {
        return shown.iter().map(|&it| quoted(&strings[it])).collect();
    }
    match tensor.dtype() {
        DataType::Bool => {
            let bytes = tensor.bytes().map_or(&[][..], |it| &it[..]);
            let word = |it: &usize| match (bytes[*it] != 0, is_scalar) {
                (true, true) => "True".to_owned(),
                (true, false) => " True".to_owned(),
                (false, _) => "False".to_owned(),
            };
            shown.iter().map(word).collect()
        }
        DataType::Float => floats(picked::<f32>(tensor, shown), is_scalar),
        DataType::Double => floats(picked::<f64>(tensor, shown), is_scalar),
        DataType::Half => floats(picked::<f16>(tensor, shown), is_scalar),
        DataType::BFloat16 => floats(picked::<bf16>(tensor, shown), is_scalar),
        DataType::Int8 => integers(&picked::<i8>(tensor, shown)),
        DataType::Int16 => integers(&picked::<i16>(tensor, shown)),
        DataType::Int32 => integers(&picked::<i32>(tensor, shown)),
        DataType::Int64 => integers(&picked::<i64>(tensor, shown)),
        DataType::UInt8 => integers(&picked::<u8>(tensor, shown)),
        DataType::UInt16 => integers(&picked::<u16>(tensor, shown)),
        DataType::UInt32 => integers(&picked::<u32>(tensor, shown)),
        DataType::UInt64 => integers(&picked::<u64>(tensor, shown)),
        other => vec![format!("<{other}>"); shown.len()],
    }
}

fn picked<T: base::tensor::Element>(tensor: &Tensor, shown: &[usize]) -> Vec<T> {
    let elements = tensor.as_slice::<T>().unwrap_or_default();
    shown.iter().map(|&it| elements[it]).collect()
}

fn integers<T: ToString>(elements: &[T]) -> Vec<String> {
    let texts: Vec<String> = elements.iter().map(ToString::to_string).collect();
    let width = texts.iter().map(String::len).max().unwrap_or(0);
    texts.iter().map(|it| format!("{it:>width$}")).collect()
}

/// A byte string as Python writes it.
fn quoted(bytes: &[u8]) -> String {
    let quote = match bytes.contains(&b'\'') && !bytes.contains(&b'"') {
        true => '"',
        false => '\'',
    };
    let mut text = format!("b{quote}");
    for &byte in bytes {
        let _ = match byte {
            b'\\' => write!(text, "\\\\"),
            b'\n' => write!(text, "\\n"),
            b'\r' => write!(text, "\\r"),
            b'\t' => write!(text, "\\t"),
            _ if char::from(byte) == quote => write!(text, "\\{quote}"),
            b' '..=b'~' => write!(text, "{}", char::from(byte)),
            _ => write!(text, "\\x{byte:02x}"),
        };
    }
    text.push(quote);
    text
}

/// A floating-point number that prints the fewest digits that identify it among those of its type.
trait Float: Copy {
    fn wide(self) -> f64;
    /// As `d.ddde-d`.
    fn shortest(self) -> String;
}

impl Float for f32 {
    fn wide(self) -> f64 {
        self.into()
    }
    fn shortest(self) -> String {
        format!("{self:e}")
    }
}

impl Float for f64 {
    fn wide(self) -> f64 {
        self
    }
    fn shortest(self) -> String {
        format!("{self:e}")
    }
}

impl Float for f16 {
    fn wide(self) -> f64 {
        self.to_f64()
    }
    fn shortest(self) -> String {
        shortest_of(self.to_f64(), |it| f16::from_f64(it) == self)
    }
}

impl Float for bf16 {
    fn wide(self) -> f64 {
        self.to_f64()
    }
    fn shortest(self) -> String {
        shortest_of(self.to_f64(), |it| bf16::from_f64(it) == self)
    }
}

fn shortest_of(value: f64, is_same: impl Fn(f64) -> bool) -> String {
    let texts = (0..17).map(|digits| format!("{value:.digits$e}"));
    let mut texts = texts.filter(|it| it.parse().is_ok_and(&is_same));
    texts.next().unwrap_or_else(|| format!("{value:e}"))
}

fn floats<T: Float>(elements: Vec<T>, is_scalar: bool) -> Vec<String> {
    if is_scalar {
        return elements.into_iter().map(scalar).collect();
    }
    let finite: Vec<T> = elements
        .iter()
        .copied()
        .filter(|it| it.wide().is_finite())
        .collect();
    let sizes = finite
        .iter()
        .map(|it| it.wide().abs())
        .filter(|it| *it > 0.0);
    let (min, max) = sizes.fold((f64::INFINITY, 0.0f64), |(min, max), it| {
        (min.min(it), max.max(it))
    });
    let in_exponents = max >= 1e8 || (max > 0.0 && (min < 1e-4 || max / min > 1000.0));
    let digits = |it: &T| match in_exponents {
        true => scientific(*it),
        false => positional(*it),
    };
    let parts: Vec<(String, String, String)> = finite.iter().map(digits).collect();
    let longest = |of: fn(&(String, String, String)) -> usize| parts.iter().map(of).max();
    let mut left = longest(|it| it.0.len()).unwrap_or(0);
    let fraction = longest(|it| it.1.len()).unwrap_or(0);
    let exponent = longest(|it| it.2.len()).unwrap_or(0);
    let right = fraction + exponent;
    for it in elements.iter().filter(|it| !it.wide().is_finite()) {
        left = left.max(not_finite(it.wide()).len().saturating_sub(right + 1));
    }
    let mut parts = parts.into_iter();
    let word = |it: T| match it.wide().is_finite() {
        false => format!("{:>1$}", not_finite(it.wide()), left + 1 + right),
        true => {
            let (whole, digits, power) = parts.next().unwrap_or_default();
            match in_exponents {
                true => format!("{whole:>left$}.{digits:0<fraction$}{power}"),
                false => format!("{whole:>left$}.{digits:<fraction$}"),
            }
        }
    };
    elements.into_iter().map(word).collect()
}

fn not_finite(value: f64) -> &'static str {
    match () {
        () if value.is_nan() => "nan",
        () if value > 0.0 => "inf",
        () => "-inf",
    }
}

/// A number alone.
fn scalar<T: Float>(value: T) -> String {
    let wide = value.wide();
    if !wide.is_finite() {
        return not_finite(wide).to_owned();
    }
    let shortest = value.shortest();
    if wide != 0.0 && !(1e-4..1e16).contains(&wide.abs()) {
        let (digits, power) = shortest.split_once('e').unwrap_or((&shortest, "0"));
        return format!("{digits}{}", exponent(power));
    }
    let text = plain(&shortest);
    match text.contains('.') {
        true => text,
        false => text + ".0",
    }
}

/// `e-05` for `-5`.
fn exponent(power: &str) -> String {
    let (sign, digits) = match power.strip_prefix('-') {
        Some(digits) => ('-', digits),
        None => ('+', power),
    };
    format!("e{sign}{digits:0>2}")
}

/// `0.00012` for `1.2e-4`.
fn plain(shortest: &str) -> String {
    let (sign, unsigned) = match shortest.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", shortest),
    };
    let (mantissa, power) = unsigned.split_once('e').unwrap_or((unsigned, "0"));
    let power: i32 = power.parse().unwrap_or(0);
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let point = 1 + power;
    let text = match usize::try_from(point) {
        Ok(point) if point >= digits.len() => format!("{digits:0<point$}"),
        Ok(point) if point > 0 => format!("{}.{}", &digits[..point], &digits[point..]),
        _ => {
            let zeros = usize::try_from(point.unsigned_abs()).unwrap_or(0);
            format!("0.{}{digits}", "0".repeat(zeros))
        }
    };
    format!("{sign}{text}")
}

/// The part before the point, and up to eight digits behind it.
fn positional<T: Float>(value: T) -> (String, String, String) {
    let text = plain(&value.shortest());
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    if fraction.len() <= PRECISION {
        return (whole.to_owned(), fraction.to_owned(), String::new());
    }
    let rounded = format!("{:.PRECISION$}", value.wide());
    let (whole, fraction) = rounded.split_once('.').unwrap_or((&rounded, ""));
    let fraction = fraction.trim_end_matches('0');
    (whole.to_owned(), fraction.to_owned(), String::new())
}

/// The digit before the point, up to eight digits behind it, and the exponent.
fn scientific<T: Float>(value: T) -> (String, String, String) {
    let shortest = value.shortest();
    let parts = |text: &str| {
        let (mantissa, power) = text.split_once('e').unwrap_or((text, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let fraction = fraction.trim_end_matches('0');
        (whole.to_owned(), fraction.to_owned(), exponent(power))
    };
    let short = parts(&shortest);
    match short.1.len() > PRECISION {
        true => parts(&format!("{:.PRECISION$e}", value.wide())),
        false => short,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The expected texts are those of NumPy 2.
    #[track_caller]
    fn check<T: base::tensor::Element>(shape: &[usize], elements: Vec<T>, expected: &str) {
        assert_eq!(text(&Tensor::from_vec(shape, elements).unwrap()), expected);
    }

    #[test]
    fn floats_have_one_width() {
        check(&[3], vec![0.5f32, 1.0, 2.25], "[0.5  1.   2.25]");
        check(&[2], vec![1f32 / 3.0, 2.0 / 3.0], "[0.33333334 0.6666667 ]");
        check(
            &[3],
            vec![f64::NAN, 1.5, f64::NEG_INFINITY],
            "[ nan  1.5 -inf]",
        );
        check(&[1], vec![f16::from_f32(0.1)], "[0.1]");
        check(&[2], vec![1f64 / 7.0, 2.0 / 7.0], "[0.14285714 0.28571429]");
    }

    #[test]
    fn wide_ranges_have_exponents() {
        let elements = vec![1e-5f32, 2500.0, -3.0, 0.0];
        check(
            &[2, 2],
            elements,
            "[[ 1.0e-05  2.5e+03]\n [-3.0e+00  0.0e+00]]",
        );
        check(&[2], vec![1e9f64, 1.0], "[1.e+09 1.e+00]");
        check(
            &[2],
            vec![16_777_216.5f64, 0.001],
            "[1.67772165e+07 1.00000000e-03]",
        );
    }

    #[test]
    fn scalars_stand_alone() {
        check(&[], vec![0.1f32], "0.1");
        check(&[], vec![1e-5f32], "1e-05");
        check(&[], vec![3e20f32], "3e+20");
        check(&[], vec![123_456_789.125f64], "123456789.125");
        check(&[], vec![2.0f32], "2.0");
        check(&[], vec![-7i64], "-7");
    }

    #[test]
    fn integers_strings_and_booleans() {
        check(&[3], vec![1i32, 22, -333], "[   1   22 -333]");
        check(&[0, 3], Vec::<f32>::new(), "[]");
        let strings =
            Tensor::from_strings(&[1, 2], vec!["a".into(), vec![b'x', b'\n', 255].into()]);
        assert_eq!(text(&strings.unwrap()), "[[b'a' b'x\\n\\xff']]");
        let bools = Tensor::from_bytes(DataType::Bool, &[2], vec![1, 0].into()).unwrap();
        assert_eq!(text(&bools), "[ True False]");
    }

    #[test]
    fn long_rows_are_wrapped_and_large_arrays_cut() {
        let elements: Vec<i32> = (0..30).collect();
        let expected = "[ 0  1  2  3  4  5  6  7  8  9 10 11 12 13 14 15 16 17 18 19 20 21 22 23\n \
                        24 25 26 27 28 29]";
        check(&[30], elements, expected);
        let elements: Vec<i32> = (0..1200).collect();
        let expected = "[[   0    1    2 ...  397  398  399]\n [ 400  401  402 ...  797  798  799]\n \
                        [ 800  801  802 ... 1197 1198 1199]]";
        check(&[3, 400], elements, expected);
    }
}
