//! If a backend refuses a file only because of an edit, finds that edit and loads the file without it.
//!
//! Not here: the edits (`onnx`). Edits that keep requests from ending the process are never left out:
//! without them, the file is not served.

use std::collections::BTreeSet;
use std::path::Path;

use base::error::{Result, ServingError};
use onnx::Edit;

/// Loads without one of `edits`, or without all of them. `error` is the error of the load with all edits;
/// `load` loads without the given ones.
///
/// # Errors
///
/// `error`, if the edits are not the cause.
pub(super) fn load<T>(
    directory: &Path,
    edits: &BTreeSet<Edit>,
    error: ServingError,
    load: &dyn Fn(&BTreeSet<Edit>) -> Result<T>,
) -> Result<T> {
    if edits.is_empty() {
        return Err(error);
    }
    match load(edits) {
        Err(_) => return Err(error),
        Ok(loaded) if edits.len() == 1 => {
            log(directory, edits, &error);
            return Ok(loaded);
        }
        // There might not be enough memory for two copies of a model.
        Ok(loaded) => drop(loaded),
    }
    for edit in edits {
        let one = BTreeSet::from([*edit]);
        if let Ok(loaded) = load(&one) {
            log(directory, &one, &error);
            return Ok(loaded);
        }
    }
    let loaded = load(edits)?;
    log(directory, edits, &error);
    Ok(loaded)
}

fn log(directory: &Path, edits: &BTreeSet<Edit>, error: &ServingError) {
    let names: Vec<String> = edits.iter().map(Edit::to_string).collect();
    tracing::warn!(
        directory = %directory.display(),
        "the backend refuses the model with this edit of its graph, which is left out: {}: {}",
        names.join(", "),
        error.report()
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The edits that are left out for a backend that refuses the `refused` ones; `Err` if it refuses the
    /// graph anyway.
    fn left_out(edits: &[Edit], refused: &[Edit]) -> Result<Vec<Edit>> {
        let edits: BTreeSet<Edit> = edits.iter().copied().collect();
        let error = ServingError::internal("refused");
        let load = |without: &BTreeSet<Edit>| {
            let mut made = edits.difference(without);
            match made.any(|edit| refused.contains(edit)) {
                true => Err(ServingError::internal("refused once more")),
                false => Ok(without.iter().copied().collect()),
            }
        };
        super::load(Path::new("1"), &edits, error, &load)
    }

    #[test]
    fn the_one_that_is_to_blame_is_left_out_alone() {
        let edits = [Edit::Transposes, Edit::BatchNorms, Edit::Divisions];
        let one = [Edit::BatchNorms];
        assert_eq!(left_out(&edits, &one).unwrap(), one);
        assert_eq!(left_out(&one, &one).unwrap(), one);
    }

    #[test]
    fn all_are_left_out_where_several_are_to_blame() {
        let edits = [Edit::Transposes, Edit::BatchNorms, Edit::Divisions];
        assert_eq!(left_out(&edits, &edits[1..]).unwrap(), edits);
    }

    #[test]
    fn edits_that_are_not_to_blame_stay() {
        let none = left_out(&[], &[]).unwrap_err();
        assert_eq!(none.to_string(), "refused");
        let refused = |_: &BTreeSet<Edit>| Err::<(), _>(ServingError::internal("once more"));
        let edits = BTreeSet::from([Edit::Divisions]);
        let error = ServingError::internal("refused");
        let error = super::load(Path::new("1"), &edits, error, &refused).unwrap_err();
        assert_eq!(error.to_string(), "refused");
    }
}
