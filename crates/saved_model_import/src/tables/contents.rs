//! Filling a table with keys and values.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use base::tensor::{DataType, Tensor as Elements};
use bytes::Bytes;

use super::{Contents, State, Table};

/// Rows that a table is filled with.
#[derive(Clone)]
pub(super) struct Rows {
    pub(super) keys: Elements,
    pub(super) values: Elements,
}

impl Table {
    /// Fills the table as `LookupTableImport` and the `InitializeTable` operators do: a mutable table loses its
    /// rows; any other is filled once, and counts its rows when it is filled again.
    ///
    /// # Errors
    ///
    /// In words that follow the table's name.
    pub(super) fn import(&mut self, rows: Rows, from_file: bool) -> Result<(), String> {
        let rows = self.checked(rows)?;
        if self.is_mutable {
            self.state = State::Filled(self.unique(&rows)?);
            return Ok(());
        }
        if let State::Filled(contents) = &self.state {
            return match from_file || contents.keys.len() == rows.keys.len() {
                true => Ok(()),
                false => Err("is initialised twice, with different data".to_owned()),
            };
        }
        if rows.keys.is_empty() {
            return Err("is initialised without keys".to_owned());
        }
        self.state = State::Filled(self.unique(&rows)?);
        Ok(())
    }

    /// Adds rows, as `LookupTableInsert` does.
    pub(super) fn insert(&mut self, rows: Rows) -> Result<(), String> {
        let rows = self.checked(rows)?;
        let all = match &self.state {
            State::Filled(contents) => Rows {
                keys: joined(&contents.keys, &rows.keys)?,
                values: joined(&contents.values, &rows.values)?,
            },
            State::Untouched => rows,
            State::Unknown(_) => return Ok(()),
        };
        self.state = State::Filled(self.unique(&all)?);
        Ok(())
    }

    /// The table is filled in a way that is not followed.
    pub(super) fn forget(&mut self, why: &str) {
        self.state = State::Unknown(why.to_owned());
    }

    /// The rows with keys as a vector, of this table's dtypes and shapes.
    fn checked(&self, rows: Rows) -> Result<Rows, String> {
        let Rows { keys, values } = rows;
        if (keys.dtype(), values.dtype()) != (self.key_dtype, self.value_dtype) {
            return Err(format!(
                "is initialised with {} -> {}, and has {} -> {}",
                keys.dtype(),
                values.dtype(),
                self.key_dtype,
                self.value_dtype
            ));
        }
        let mut shape = keys.shape().to_vec();
        shape.extend(&self.value_shape);
        if values.shape() != shape {
            return Err(format!(
                "is initialised with keys of shape {:?} and values of shape {:?}",
                keys.shape(),
                values.shape()
            ));
        }
        let count = keys.len();
        let mut rows = vec![count];
        rows.extend(&self.value_shape);
        let flat = keys.reshaped(&[count]).zip(values.reshaped(&rows));
        let (keys, values) = flat.ok_or("is too large")?;
        Ok(Rows { keys, values })
    }

    /// Leaves out keys that occur again. In a mutable table the last value counts; in others all have to be
    /// the same.
    fn unique(&self, rows: &Rows) -> Result<Contents, String> {
        let count = rows.keys.len();
        let keys = (0..count).map(|row| key(&rows.keys, row));
        let keys: Vec<&[u8]> = keys
            .collect::<Option<_>>()
            .ok_or("has keys of this dtype")?;
        let mut places: HashMap<&[u8], usize> = HashMap::with_capacity(count);
        let mut kept: Vec<usize> = Vec::with_capacity(count);
        for (row, key) in keys.into_iter().enumerate() {
            match places.entry(key) {
                Entry::Vacant(entry) => {
                    entry.insert(kept.len());
                    kept.push(row);
                }
                Entry::Occupied(entry) if self.is_mutable => kept[*entry.get()] = row,
                Entry::Occupied(entry) => {
                    let width = values_of_a_key(&self.value_shape);
                    if !same_row(&rows.values, kept[*entry.get()], row, width) {
                        return Err("is initialised with two values for one key".to_owned());
                    }
                }
            }
        }
        let width = values_of_a_key(&self.value_shape);
        let taken = if kept.len() == count {
            Some((rows.keys.clone(), rows.values.clone()))
        } else {
            let mut shape = vec![kept.len()];
            let keys = taken(&rows.keys, &kept, 1, &shape);
            shape.extend(&self.value_shape);
            keys.zip(taken(&rows.values, &kept, width, &shape))
        };
        let (keys, values) = taken.ok_or("has elements of this dtype")?;
        Ok(Contents { keys, values })
    }
}

fn values_of_a_key(shape: &[usize]) -> usize {
    shape.iter().product()
}

/// The bytes of a key: those of the string or of the number.
fn key(keys: &Elements, row: usize) -> Option<&[u8]> {
    match keys.strings() {
        Some(strings) => strings.get(row).map(|it| &it[..]),
        None => plain(keys, row, 1),
    }
}

/// The bytes of a row of `width` elements.
fn plain(elements: &Elements, row: usize, width: usize) -> Option<&[u8]> {
    let size = elements.dtype().size()?.checked_mul(width)?;
    let start = row.checked_mul(size)?;
    elements.bytes()?.get(start..start.checked_add(size)?)
}

/// Whether two rows are equal. NaN equals nothing, not even itself.
fn same_row(elements: &Elements, one: usize, two: usize, width: usize) -> bool {
    if let Some(strings) = elements.strings() {
        let row = |row: usize| strings.get(row * width..(row + 1) * width);
        return row(one) == row(two);
    }
    let nan = match elements.dtype() {
        DataType::Float => element::<f32>(elements, one).is_some_and(f32::is_nan),
        DataType::Double => element::<f64>(elements, one).is_some_and(f64::is_nan),
        _ => false,
    };
    !nan && plain(elements, one, width) == plain(elements, two, width)
}

fn element<T: base::tensor::Element + Copy>(elements: &Elements, index: usize) -> Option<T> {
    elements.as_slice::<T>()?.get(index).copied()
}

/// Rows of `width` elements, by their numbers.
fn taken(elements: &Elements, rows: &[usize], width: usize, shape: &[usize]) -> Option<Elements> {
    if let Some(strings) = elements.strings() {
        let mut all: Vec<Bytes> = Vec::with_capacity(rows.len() * width);
        for &row in rows {
            all.extend_from_slice(strings.get(row * width..(row + 1) * width)?);
        }
        return Elements::from_strings(shape, all);
    }
    let mut all = Vec::new();
    for &row in rows {
        all.extend_from_slice(plain(elements, row, width)?);
    }
    Elements::from_bytes(elements.dtype(), shape, all.into())
}

/// Two tensors, one after the other along the first axis.
fn joined(one: &Elements, two: &Elements) -> Result<Elements, String> {
    let mut shape = one.shape().to_vec();
    if let (Some(first), Some(more)) = (shape.first_mut(), two.shape().first()) {
        *first += more;
    }
    let joined = match (one.strings(), two.strings()) {
        (Some(one), Some(two)) => Elements::from_strings(&shape, [one, two].concat()),
        _ => one.bytes().zip(two.bytes()).and_then(|(first, second)| {
            let bytes = [&first[..], &second[..]].concat();
            Elements::from_bytes(one.dtype(), &shape, bytes.into())
        }),
    };
    joined.ok_or_else(|| "has elements of this dtype".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(is_mutable: bool) -> Table {
        Table {
            is_mutable,
            key_dtype: DataType::Int64,
            value_dtype: DataType::Int32,
            value_shape: Vec::new(),
            state: State::Untouched,
        }
    }

    fn rows(keys: &[i64], values: &[i32]) -> Rows {
        Rows {
            keys: Elements::from_vec(&[keys.len()], keys.to_vec()).unwrap(),
            values: Elements::from_vec(&[values.len()], values.to_vec()).unwrap(),
        }
    }

    fn contents(table: &Table) -> (Vec<i64>, Vec<i32>) {
        let contents = table.contents().unwrap().unwrap();
        (
            contents.keys.as_slice::<i64>().unwrap().to_vec(),
            contents.values.as_slice::<i32>().unwrap().to_vec(),
        )
    }

    /// As `HashTable` in TensorFlow's `lookup_table_op.h`.
    #[test]
    fn a_table_is_filled_once_and_refuses_two_values_of_a_key() {
        let mut table = table(false);
        assert!(table.contents().is_err());
        assert!(table.import(rows(&[1, 1], &[5, 6]), false).is_err());
        table.import(rows(&[1, 2, 1], &[5, 6, 5]), false).unwrap();
        assert_eq!(contents(&table), (vec![1, 2], vec![5, 6]));
        table.import(rows(&[3, 4], &[0, 0]), false).unwrap();
        assert_eq!(contents(&table), (vec![1, 2], vec![5, 6]));
        assert!(table.import(rows(&[3], &[0]), false).is_err());
    }

    #[test]
    fn a_mutable_table_keeps_the_last_value() {
        let mut table = table(true);
        assert!(table.contents().unwrap().is_none());
        table.import(rows(&[1, 2, 1], &[5, 6, 7]), false).unwrap();
        assert_eq!(contents(&table), (vec![1, 2], vec![7, 6]));
        table.insert(rows(&[2, 3], &[8, 9])).unwrap();
        assert_eq!(contents(&table), (vec![1, 2, 3], vec![7, 8, 9]));
        table.import(rows(&[4], &[1]), false).unwrap();
        assert_eq!(contents(&table), (vec![4], vec![1]));
    }

    #[test]
    fn rows_have_to_fit_the_table() {
        let mut table = table(false);
        assert!(table.import(rows(&[1, 2], &[5]), false).is_err());
        let texts = Elements::from_strings(&[1], vec![Bytes::from_static(b"a")]).unwrap();
        let values = Elements::from_vec(&[1], vec![1i32]).unwrap();
        let rows = Rows {
            keys: texts,
            values,
        };
        assert!(table.import(rows, false).is_err());
    }
}
