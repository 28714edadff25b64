//! Lookup tables: ONNX's `LabelEncoder` with the contents that the model's initialisation leaves.
//!
//! Not here: those contents (`tables`).

use base::tensor::{DataType, Tensor as Elements};

use super::Table as Rows;
use crate::builder::{Builder, ML};
use crate::graph::resource_name;
use crate::op::{Op, Translated, many, one};
use crate::ops::Rule::Whole;
use crate::refusal::Refusal;
use crate::tables::{Contents, Table};
use crate::translation::Translation;
use crate::value::{Shape, Tensor, Value, int_constant};

pub(super) const TABLE: Rows = &[
    ("HashTable", Whole(handle)),
    ("HashTableV2", Whole(handle)),
    ("InitializeTable", Whole(fill)),
    ("InitializeTableFromTextFile", Whole(fill)),
    ("InitializeTableFromTextFileV2", Whole(fill)),
    ("InitializeTableV2", Whole(fill)),
    ("LookupTableExport", Whole(export)),
    ("LookupTableExportV2", Whole(export)),
    ("LookupTableFind", Whole(find)),
    ("LookupTableFindV2", Whole(find)),
    ("LookupTableImport", Whole(fill)),
    ("LookupTableImportV2", Whole(fill)),
    ("LookupTableSize", Whole(size)),
    ("LookupTableSizeV2", Whole(size)),
    ("MutableHashTable", Whole(handle)),
    ("MutableHashTableOfTensors", Whole(handle)),
    ("MutableHashTableOfTensorsV2", Whole(handle)),
    ("MutableHashTableV2", Whole(handle)),
];

type Result<T> = std::result::Result<T, Refusal>;

fn handle(_: &mut Translation<'_>, op: &Op<'_>) -> Translated {
    Ok(vec![Value::Table(resource_name(op.node))])
}

/// The table that the first input refers to.
fn table<'a>(translation: &Translation<'a>, op: &Op<'_>) -> Result<&'a Table> {
    match op.inputs.first() {
        Some(Value::Table(name)) => translation.resources().tables.get(name),
        Some(Value::Nothing) | None => Err(Refusal::of_input()),
        Some(_) => Err(Refusal::new("reads a table from another value")),
    }
}

/// A table that is filled once is filled before the first request.
fn fill(translation: &mut Translation<'_>, op: &Op<'_>) -> Translated {
    match table(translation, op)?.is_mutable {
        true => Err(Refusal::new(
            "changes a table, which a later request would read",
        )),
        false => Ok(Vec::new()),
    }
}

fn size(translation: &mut Translation<'_>, op: &Op<'_>) -> Translated {
    let count = table(translation, op)?.len()?;
    one(translation
        .builder
        .i64(i64::try_from(count).unwrap_or(i64::MAX)))
}

/// All keys and values. TensorFlow returns them in no particular order.
fn export(translation: &mut Translation<'_>, op: &Op<'_>) -> Translated {
    let table = table(translation, op)?;
    if let Some(contents) = table.contents()? {
        return many([&contents.keys, &contents.values].map(|it| Tensor::constant(it.clone())));
    }
    let mut shape = vec![0];
    let keys = Elements::zeros(table.key_dtype, &shape);
    shape.extend(&table.value_shape);
    let values = Elements::zeros(table.value_dtype, &shape);
    let (keys, values) = keys
        .zip(values)
        .ok_or_else(|| Refusal::new("reads a table of this dtype"))?;
    many([keys, values].map(Tensor::constant))
}

fn find(translation: &mut Translation<'_>, op: &Op<'_>) -> Translated {
    let table = table(translation, op)?;
    let (keys, default) = (op.input(1)?, op.input(2)?);
    let contents = table.contents()?;
    let b = &mut translation.builder;
    if (keys.dtype, default.dtype) != (table.key_dtype, table.value_dtype) {
        return Err(Refusal::new("reads a table of other dtypes"));
    }
    let default = Default::of(b, table, keys, default)?;
    let Some(contents) = contents.filter(|it| !it.keys.is_empty()) else {
        return one(default.spread(b, table, keys)?);
    };
    if let Default::One(default) = &default
        && let Some(constant) = default.as_constant()
        && table.value_shape.is_empty()
    {
        return one(encoded(b, keys, contents, constant)?);
    }
    one(chosen(b, table, keys, contents, &default)?)
}

/// The values of keys that are not in the table.
enum Default {
    /// All the same, of the shape of a value.
    One(Tensor),
    /// Each key its own.
    Each(Tensor),
}

impl Default {
    /// TensorFlow accepts a default of the shape of one value or of all results. A table that is not mutable
    /// uses the first element then (`HashTable::DoFind`).
    fn of(b: &mut Builder, table: &Table, keys: &Tensor, default: &Tensor) -> Result<Self> {
        let rank = default.known_rank("has a default")?;
        if rank == table.value_shape.len() {
            return Ok(Self::One(default.clone()));
        }
        if keys
            .rank()
            .is_some_and(|it| it + table.value_shape.len() != rank)
        {
            return Err(Refusal::new(
                "has a default of another shape than its values",
            ));
        }
        let mut sizes = b.shape_of(keys)?;
        if !table.value_shape.is_empty() {
            let row = b.i64s(&row_shape(table));
            sizes = b.concat(&[&sizes, &row], 0)?;
        }
        let same = b.reshape_to(default, &sizes)?;
        if table.is_mutable {
            return Ok(Self::Each(same));
        }
        let flat = b.reshape(&same, &[-1])?;
        let zero = b.i64(0);
        Ok(Self::One(b.gather(&flat, &zero, 0)?))
    }

    /// The default for every key.
    fn spread(&self, b: &mut Builder, table: &Table, keys: &Tensor) -> Result<Tensor> {
        match self {
            Self::Each(default) => Ok(default.clone()),
            Self::One(default) => {
                let mut sizes = b.shape_of(keys)?;
                if !table.value_shape.is_empty() {
                    let row = b.i64s(&row_shape(table));
                    sizes = b.concat(&[&sizes, &row], 0)?;
                }
                b.expand(default, &sizes)
            }
        }
    }
}

fn row_shape(table: &Table) -> Vec<i64> {
    let sizes = table.value_shape.iter();
    sizes
        .map(|&it| i64::try_from(it).unwrap_or(i64::MAX))
        .collect()
}

/// The value of each key by a single `LabelEncoder`. ONNX Runtime has none for int32 and bool, which go through
/// int64.
fn encoded(
    b: &mut Builder,
    keys: &Tensor,
    contents: &Contents,
    default: &Elements,
) -> Result<Tensor> {
    let dtype = default.dtype();
    let default = wide(default)?;
    let default = default.reshaped(&[1]);
    let default = default.ok_or_else(|| Refusal::new("has a default that is not one value"))?;
    let found = label_encoder(b, keys, &contents.keys, &wide(&contents.values)?, &default)?;
    b.cast(&found, dtype)
}

/// The value of each key by the number of its row.
fn chosen(
    b: &mut Builder,
    table: &Table,
    keys: &Tensor,
    contents: &Contents,
    default: &Default,
) -> Result<Tensor> {
    let count = contents.keys.len();
    let rows = i64::try_from(count).map(|it| (0..it).collect::<Vec<_>>());
    let rows = rows.ok().and_then(|it| Elements::from_vec(&[count], it));
    let rows = rows.ok_or_else(|| Refusal::new("reads a table that is too large"))?;
    let missing = Elements::from_vec(&[1], vec![-1i64]);
    let missing = missing.ok_or_else(|| Refusal::new("has no default"))?;
    let row = label_encoder(b, keys, &contents.keys, &rows, &missing)?;
    let zero = b.i64(0);
    let mut is_found = b.compare("GreaterOrEqual", &row, &zero)?;
    let row = b.binary("Max", &row, &zero)?;
    let values = Tensor::constant(contents.values.clone());
    let value = b.gather(&values, &row, 0)?;
    if !table.value_shape.is_empty() {
        let mut sizes = b.shape_of(&is_found)?;
        let ones = b.i64s(&vec![1; table.value_shape.len()]);
        sizes = b.concat(&[&sizes, &ones], 0)?;
        is_found = b.reshape_to(&is_found, &sizes)?;
    }
    let (Default::One(default) | Default::Each(default)) = default;
    // ONNX Runtime selects no bools.
    if value.dtype == DataType::Bool {
        let value = b.cast(&value, DataType::Int64)?;
        let default = b.cast(default, DataType::Int64)?;
        let chosen = b.choose(&is_found, &value, &default)?;
        return b.cast(&chosen, DataType::Bool);
    }
    b.choose(&is_found, &value, default)
}

fn label_encoder(
    b: &mut Builder,
    keys: &Tensor,
    known: &Elements,
    values: &Elements,
    default: &Elements,
) -> Result<Tensor> {
    let keys = match keys.dtype {
        DataType::Int32 => b.cast(keys, DataType::Int64)?,
        DataType::Int64 | DataType::String => keys.clone(),
        other => return Err(Refusal::new(format!("looks up keys of dtype {other}"))),
    };
    let shape: Shape = keys.shape.clone();
    b.op("LabelEncoder", &[&keys])
        .domain(ML)
        .elements("keys_tensor", &wide(known)?)
        .elements("values_tensor", values)
        .elements("default_tensor", default)
        .one(values.dtype(), shape)
}

/// The same numbers in a dtype that `LabelEncoder` has.
fn wide(elements: &Elements) -> Result<Elements> {
    let ints: Vec<i64> = match elements.dtype() {
        DataType::Int32 => elements
            .as_slice::<i32>()
            .map(|it| it.iter().map(|&it| it.into()).collect()),
        DataType::Bool => elements
            .bytes()
            .map(|it| it.iter().map(|&it| it.into()).collect()),
        DataType::Int64 | DataType::String | DataType::Float | DataType::Double => {
            return Ok(elements.clone());
        }
        _ => None,
    }
    .ok_or_else(|| Refusal::new(format!("reads a table with {}", elements.dtype())))?;
    int_constant(DataType::Int64, elements.shape(), &ints)
        .ok_or_else(|| Refusal::new("reads a table that is too large"))
}
