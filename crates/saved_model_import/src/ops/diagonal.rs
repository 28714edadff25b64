//! Matrices and their diagonals.
//!
//! The diagonals between two (`k`, counted upwards from the main one) stand in rows of the same length, from the
//! uppermost down. A diagonal that is shorter is padded at one end (`align`). Source: the definition of
//! `MatrixDiagPartV3` (`tensorflow/core/ops/array_ops.cc`).

use base::tensor::DataType;

use super::Table;
use crate::builder::Builder;
use crate::op::{Op, Translated, one};
use crate::ops::Rule::Pure;
use crate::refusal::Refusal;
use crate::value::Tensor;

pub(super) const TABLE: Table = &[
    ("BatchMatrixBandPart", Pure(band_part)),
    ("BatchMatrixDiag", Pure(diag)),
    ("BatchMatrixDiagPart", Pure(diag_part)),
    ("BatchMatrixSetDiag", Pure(set_diag)),
    ("Diag", Pure(tensor_diag)),
    ("DiagPart", Pure(tensor_diag_part)),
    ("MatrixBandPart", Pure(band_part)),
    ("MatrixDiag", Pure(diag)),
    ("MatrixDiagPart", Pure(diag_part)),
    ("MatrixDiagPartV2", Pure(diag_part)),
    ("MatrixDiagPartV3", Pure(diag_part)),
    ("MatrixDiagV2", Pure(diag)),
    ("MatrixDiagV3", Pure(diag)),
    ("MatrixSetDiag", Pure(set_diag)),
    ("MatrixSetDiagV2", Pure(set_diag)),
    ("MatrixSetDiagV3", Pure(set_diag)),
];

/// Which diagonals, and at which end the short ones are padded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Band {
    lower: i64,
    upper: i64,
    /// Whether diagonals above the main one stand at the right end.
    upper_right: bool,
    /// Whether diagonals below the main one stand at the right end.
    lower_right: bool,
}

impl Band {
    /// The band of a node; the first version of each operator has the main diagonal alone.
    fn of(op: &Op<'_>, input: usize) -> Result<Self, Refusal> {
        let is_first = !op.node.op.ends_with("V2") && !op.node.op.ends_with("V3");
        let known = match is_first {
            true => vec![0],
            false => op.ints(input, "range of diagonals")?,
        };
        let (lower, upper) = match known.as_slice() {
            [only] => (*only, *only),
            [lower, upper] if lower <= upper => (*lower, *upper),
            _ => return Err(Refusal::new("has a damaged range of diagonals")),
        };
        let align = match (op.node.op.ends_with("V3"), op.attr_text("align")) {
            (true, "") => "RIGHT_LEFT",
            (true, align) => align,
            (false, _) => "LEFT_LEFT",
        };
        let sides = align.split_once('_');
        let (above, below) = sides.ok_or_else(|| Refusal::new("has an unknown alignment"))?;
        let limit = i64::from(i32::MAX);
        if !(-limit..=limit).contains(&lower) || !(-limit..=limit).contains(&upper) {
            return Err(Refusal::new("has diagonals that are out of range"));
        }
        Ok(Self {
            lower,
            upper,
            upper_right: above == "RIGHT",
            lower_right: below == "RIGHT",
        })
    }

    fn count(self) -> i64 {
        self.upper - self.lower + 1
    }

    /// The length of the longest diagonal of a matrix.
    fn longest(self, b: &mut Builder, rows: &Tensor, columns: &Tensor) -> Result<Tensor, Refusal> {
        let below = b.i64(self.upper.min(0));
        let above = b.i64(self.lower.max(0));
        let rows = b.binary("Add", rows, &below)?;
        let columns = b.binary("Sub", columns, &above)?;
        b.binary("Min", &rows, &columns)
    }

    /// Where the first element of each of these diagonals stands in its row.
    fn offsets(self, b: &mut Builder, diagonals: &Tensor, size: &Size) -> Result<Tensor, Refusal> {
        let zero = b.i64(0);
        let below = b.binary("Min", diagonals, &zero)?;
        let above = b.binary("Max", diagonals, &zero)?;
        let rows = b.binary("Add", &size.rows, &below)?;
        let columns = b.binary("Sub", &size.columns, &above)?;
        let length = b.binary("Min", &rows, &columns)?;
        let missing = b.binary("Sub", &size.longest, &length)?;
        // The main diagonal is the longest, if it is among them; else all are on one side of it.
        let is_above = b.compare("Less", &zero, diagonals)?;
        let side = |flag: bool| if flag { missing.clone() } else { zero.clone() };
        let (above, below) = (side(self.upper_right), side(self.lower_right));
        let offsets = b.choose(&is_above, &above, &below)?;
        let is_main = b.compare("Equal", diagonals, &zero)?;
        b.choose(&is_main, &zero, &offsets)
    }
}

/// The sizes of a matrix and of its longest diagonal in the band, each a vector of one.
struct Size {
    rows: Tensor,
    columns: Tensor,
    longest: Tensor,
}

/// For each place of a matrix, whether it is in the band, and its place in the rows of diagonals.
fn places_in_band(b: &mut Builder, band: Band, size: &Size) -> Result<[Tensor; 2], Refusal> {
    let rows = b.count_up(&size.rows)?;
    let rows = b.unsqueeze(&rows, &[1])?;
    let columns = b.count_up(&size.columns)?;
    let diagonals = b.binary("Sub", &columns, &rows)?;
    let (lower, upper) = (b.i64(band.lower), b.i64(band.upper));
    let is_below = b.compare("Less", &diagonals, &lower)?;
    let is_above = b.compare("Less", &upper, &diagonals)?;
    let shape = is_below.shape.clone();
    let outside = b
        .op("Or", &[&is_below, &is_above])
        .one(DataType::Bool, shape)?;
    let inside = b.unary("Not", &outside)?;
    let row = b.binary("Sub", &upper, &diagonals)?;
    let along = b.binary("Min", &rows, &columns)?;
    let offset = band.offsets(b, &diagonals, size)?;
    let along = b.binary("Add", &along, &offset)?;
    let place = b.binary("Mul", &row, &size.longest)?;
    let place = b.binary("Add", &place, &along)?;
    let zero = b.i64(0);
    let place = b.choose(&inside, &place, &zero)?;
    Ok([inside, place])
}

/// The values of the diagonals at the places of a matrix: those outside of the band are any.
fn spread(
    b: &mut Builder,
    diagonals: &Tensor,
    band: Band,
    places: &Tensor,
) -> Result<Tensor, Refusal> {
    let flat = match band.count() {
        1 => diagonals.clone(),
        count => {
            let outer = outer_sizes(b, diagonals)?;
            let count = b.i64s(&[count]);
            let inner = b.size_at(diagonals, -1)?;
            let inner = b.binary("Mul", &inner, &count)?;
            let sizes = b.concat(&[&outer, &inner], 0)?;
            b.reshape_to(diagonals, &sizes)?
        }
    };
    b.gather(&flat, places, -1)
}

/// The sizes of a batch of matrices.
fn outer_sizes(b: &mut Builder, x: &Tensor) -> Result<Tensor, Refusal> {
    let sizes = b.shape_of(x)?;
    b.slice(&sizes, &[0], &[0], &[-2], &[1])
}

fn diag(b: &mut Builder, op: &Op<'_>) -> Translated {
    let diagonals = op.input(0)?;
    let band = Band::of(op, 1)?;
    let is_first = op.len() == 1;
    let longest = b.size_at(diagonals, -1)?;
    if band.count() > 1 && diagonals.shape.dim(-2).is_some_and(|it| it != band.count()) {
        return Err(Refusal::new(
            "has another number of diagonals than its range",
        ));
    }
    let size = match is_first {
        true => Size {
            rows: longest.clone(),
            columns: longest.clone(),
            longest,
        },
        false => given_size(b, op, band, longest)?,
    };
    let [inside, places] = places_in_band(b, band, &size)?;
    let spread = spread(b, diagonals, band, &places)?;
    let padding = match is_first {
        true => b.zero(diagonals.dtype)?,
        false => op.input(4)?.clone(),
    };
    one(b.choose_any(&inside, &spread, &padding)?)
}

/// The size of a matrix with these diagonals; -1 is the smallest that fits.
fn given_size(b: &mut Builder, op: &Op<'_>, band: Band, longest: Tensor) -> Result<Size, Refusal> {
    let below = b.i64(-band.upper.min(0));
    let above = b.i64(band.lower.max(0));
    let least_rows = b.binary("Add", &longest, &below)?;
    let least_columns = b.binary("Add", &longest, &above)?;
    let rows = op.int(2, "number of rows")?;
    let columns = op.int(3, "number of columns")?;
    let (rows, columns) = match (rows, columns) {
        (-1, -1) => {
            let size = b.binary("Max", &least_rows, &least_columns)?;
            (size.clone(), size)
        }
        (-1, columns) => (least_rows.clone(), b.i64s(&[columns])),
        (rows, -1) => (b.i64s(&[rows]), least_columns.clone()),
        (rows, columns) => (b.i64s(&[rows]), b.i64s(&[columns])),
    };
    // TensorFlow refuses a size that these diagonals do not fit.
    let fitting = band.longest(b, &rows, &columns)?;
    let longest = match (fitting.int(), longest.int()) {
        (Some(fitting), Some(longest)) if fitting != longest => {
            return Err(Refusal::new("has diagonals that do not fit its size"));
        }
        (Some(_), Some(_)) => longest,
        _ => {
            let same = b.compare("Equal", &fitting, &longest)?;
            let other = b.unary("Not", &same)?;
            b.guarded(&longest, &other)?
        }
    };
    Ok(Size {
        rows,
        columns,
        longest,
    })
}

fn matrix_size(b: &mut Builder, x: &Tensor, band: Band) -> Result<Size, Refusal> {
    let rows = b.size_at(x, -2)?;
    let columns = b.size_at(x, -1)?;
    let mut longest = band.longest(b, &rows, &columns)?;
    // TensorFlow refuses diagonals beyond the corners of the matrix.
    let bounds = [-band.lower, band.upper];
    for (bound, size) in bounds.into_iter().zip([&rows, &columns]) {
        if bound <= 0 || size.int().is_some_and(|it| bound < it) {
            continue;
        }
        let bound = b.i64(bound);
        let inside = b.compare("Less", &bound, size)?;
        let bad = b.unary("Not", &inside)?;
        longest = b.guarded(&longest, &bad)?;
    }
    Ok(Size {
        rows,
        columns,
        longest,
    })
}

fn set_diag(b: &mut Builder, op: &Op<'_>) -> Translated {
    let (x, diagonals) = (op.input(0)?, op.input(1)?);
    let band = Band::of(op, 2)?;
    let mut size = matrix_size(b, x, band)?;
    let given = b.size_at(diagonals, -1)?;
    if given.int().is_none() || given.int() != size.longest.int() {
        let same = b.compare("Equal", &given, &size.longest)?;
        let other = b.unary("Not", &same)?;
        size.longest = b.guarded(&size.longest, &other)?;
    }
    let [inside, places] = places_in_band(b, band, &size)?;
    let spread = spread(b, diagonals, band, &places)?;
    let set = b.choose_any(&inside, &spread, x)?;
    one(set.with_shape(x.shape.clone()))
}

fn diag_part(b: &mut Builder, op: &Op<'_>) -> Translated {
    let x = op.input(0)?;
    let band = Band::of(op, 1)?;
    let size = matrix_size(b, x, band)?;
    // The diagonals, a row for each, and the places along them.
    let diagonals: Vec<i64> = match band.count() {
        count if count > 4096 => return Err(Refusal::new("has too many diagonals")),
        _ => (band.lower..=band.upper).rev().collect(),
    };
    let diagonals = b.i64s(&diagonals);
    let diagonals = match band.count() {
        1 => diagonals,
        _ => b.unsqueeze(&diagonals, &[1])?,
    };
    let along = b.count_up(&size.longest)?;
    let offset = band.offsets(b, &diagonals, &size)?;
    let along = b.binary("Sub", &along, &offset)?;
    let zero = b.i64(0);
    let above = b.binary("Max", &diagonals, &zero)?;
    let below = b.binary("Min", &diagonals, &zero)?;
    let row = b.binary("Sub", &along, &below)?;
    let column = b.binary("Add", &along, &above)?;
    let is_before = b.compare("Less", &along, &zero)?;
    let has_row = b.compare("Less", &row, &size.rows)?;
    let has_column = b.compare("Less", &column, &size.columns)?;
    let shape = has_row.shape.clone();
    let is_after = b
        .op("And", &[&has_row, &has_column])
        .one(DataType::Bool, shape.clone())?;
    let is_after = b.unary("Not", &is_after)?;
    let outside = b
        .op("Or", &[&is_before, &is_after])
        .one(DataType::Bool, shape)?;
    let places = b.binary("Mul", &row, &size.columns)?;
    let places = b.binary("Add", &places, &column)?;
    let places = b.choose(&outside, &zero, &places)?;
    let outer = outer_sizes(b, x)?;
    let area = b.binary("Mul", &size.rows, &size.columns)?;
    let sizes = b.concat(&[&outer, &area], 0)?;
    let flat = b.reshape_to(x, &sizes)?;
    let gathered = b.gather(&flat, &places, -1)?;
    if band.count() == 1 {
        return one(gathered);
    }
    let padding = match op.len() {
        1 => b.zero(x.dtype)?,
        _ => op.input(2)?.clone(),
    };
    let inside = b.unary("Not", &outside)?;
    one(b.choose_any(&inside, &gathered, &padding)?)
}

/// All elements outside of a band around the main diagonal become 0; a negative width is the whole side.
fn band_part(b: &mut Builder, op: &Op<'_>) -> Translated {
    let x = op.input(0)?;
    let rows = b.size_at(x, -2)?;
    let columns = b.size_at(x, -1)?;
    let down = b.count_up(&rows)?;
    let down = b.unsqueeze(&down, &[1])?;
    let across = b.count_up(&columns)?;
    let below = b.binary("Sub", &down, &across)?;
    let above = b.binary("Sub", &across, &down)?;
    let mut outside: Option<Tensor> = None;
    for (input, distance, size) in [(1, below, rows), (2, above, columns)] {
        let width = b.cast(op.input(input)?, DataType::Int64)?;
        if width.int().is_some_and(|it| it < 0) {
            continue;
        }
        let width = band_width(b, width, &size)?;
        let mut is_outside = b.compare("Less", &width, &distance)?;
        if width.int().is_none() {
            let zero = b.i64(0);
            let is_whole = b.compare("Less", &width, &zero)?;
            let is_half = b.unary("Not", &is_whole)?;
            let shape = is_outside.shape.clone();
            is_outside = b
                .op("And", &[&is_outside, &is_half])
                .one(DataType::Bool, shape)?;
        }
        outside = Some(match outside {
            None => is_outside,
            Some(other) => {
                let shape = is_outside.shape.clone();
                b.op("Or", &[&is_outside, &other])
                    .one(DataType::Bool, shape)?
            }
        });
    }
    let Some(outside) = outside else {
        return one(x.clone());
    };
    let inside = b.unary("Not", &outside)?;
    let zero = b.zero(x.dtype)?;
    let band = b.choose_any(&inside, x, &zero)?;
    one(band.with_shape(x.shape.clone()))
}

/// A width as a scalar; TensorFlow refuses one that is larger than the matrix.
fn band_width(b: &mut Builder, width: Tensor, size: &Tensor) -> Result<Tensor, Refusal> {
    let width = b.as_scalar(&width)?;
    match (width.int(), size.int()) {
        (Some(0), _) => Ok(width),
        (Some(width), Some(size)) if width > size => {
            Err(Refusal::new("has a band that is wider than its input"))
        }
        (Some(_), Some(_)) => Ok(width),
        _ => {
            let bad = b.compare("Less", size, &width)?;
            b.guarded(&width, &bad)
        }
    }
}

/// The elements of a tensor on the diagonal of one with its axes twice.
fn tensor_diag(b: &mut Builder, op: &Op<'_>) -> Translated {
    let x = op.input(0)?;
    let flat = b.as_vector(x)?;
    let count = b.size_at(&flat, 0)?;
    let columns = b.count_up(&count)?;
    let rows = b.unsqueeze(&columns, &[1])?;
    let is_main = b.compare("Equal", &rows, &columns)?;
    let zero = b.zero(x.dtype)?;
    let matrix = b.choose_any(&is_main, &flat, &zero)?;
    let sizes = b.shape_of(x)?;
    let sizes = b.concat(&[&sizes, &sizes], 0)?;
    one(b.reshape_to(&matrix, &sizes)?)
}

fn tensor_diag_part(b: &mut Builder, op: &Op<'_>) -> Translated {
    let x = op.input(0)?;
    let rank = x.known_rank("takes the diagonal of a tensor")?;
    let sizes = b.sizes_in(x, 0, Some(rank / 2))?;
    let count = b.reduce("ReduceProd", &sizes, Some(&[0]), true)?;
    let square = b.concat(&[&count, &count], 0)?;
    let matrix = b.reshape_to(x, &square)?;
    let flat = b.as_vector(&matrix)?;
    let next = b.i64(1);
    let step = b.binary("Add", &count, &next)?;
    let places = b.count_up(&count)?;
    let places = b.binary("Mul", &places, &step)?;
    let diagonal = b.gather(&flat, &places, 0)?;
    one(b.reshape_to(&diagonal, &sizes)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_band_counts_its_diagonals() {
        let band = Band {
            lower: -1,
            upper: 2,
            upper_right: true,
            lower_right: false,
        };
        assert_eq!(band.count(), 4);
        let mut b = Builder::new();
        let (rows, columns) = (b.i64s(&[3]), b.i64s(&[4]));
        let longest = band.longest(&mut b, &rows, &columns).unwrap();
        assert_eq!(longest.ints(), Some(vec![3]));
    }
}
