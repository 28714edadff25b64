//! The checks that TensorFlow's session makes by tensor name before it runs anything
//! (`RewriteGraphForExecution` in `subgraph.cc`, `FunctionCallFrame::SetArgs` in `function.cc`).
//!
//! Not here: the checks by alias, which come first (`signature`).

use base::error::{Result, ServingError};
use base::tensor::DataType;

/// A tensor that a request feeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FedTensor<'a> {
    /// `TensorInfo.name`.
    pub name: &'a str,
    /// The dtype that the signature declares.
    pub declared: DataType,
    /// The dtype that the request has.
    pub sent: DataType,
}

/// Checks the feeds and fetches of one run.
///
/// Feeds and fetches are sorted by name, and the error names the first wrong one. `Expects arg[N]` counts
/// the feeds in that order.
///
/// # Errors
///
/// `INVALID_ARGUMENT`, in this order, for a tensor that is fed twice, for one that is both fed and fetched,
/// and for a wrong dtype.
pub fn check_run<'a>(
    mut fed: Vec<FedTensor<'a>>,
    fetched: impl IntoIterator<Item = &'a str>,
) -> Result<()> {
    fed.sort_unstable();
    // Tensors of several parts do not have a name.
    let is_twice =
        |pair: &&[FedTensor<'_>]| pair[0].name == pair[1].name && !pair[0].name.is_empty();
    if let Some(twice) = fed.windows(2).find(is_twice) {
        return Err(fed_twice(twice[0].name));
    }
    let is_fed =
        |name: &&str| !name.is_empty() && fed.binary_search_by(|it| it.name.cmp(name)).is_ok();
    if let Some(name) = fetched.into_iter().filter(is_fed).min() {
        return Err(ServingError::invalid_argument(format!(
            "{name} is both fed and fetched."
        )));
    }
    let mut fed = fed.iter().enumerate();
    match fed.find(|(_, it)| it.declared != it.sent) {
        None => Ok(()),
        Some((index, it)) => Err(ServingError::invalid_argument(format!(
            "Expects arg[{index}] to be {} but {} is provided",
            it.declared, it.sent
        ))),
    }
}

/// The error of a tensor that two inputs feed.
pub(super) fn fed_twice(name: &str) -> ServingError {
    ServingError::invalid_argument(format!("Endpoint \"{name}\" fed more than once."))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLOAT: DataType = DataType::Float;
    const INT64: DataType = DataType::Int64;

    #[track_caller]
    fn check(fed: &[(&str, DataType, DataType)], fetched: &[&str], expected: &str) {
        let fed = fed.iter().map(|&(name, declared, sent)| FedTensor {
            name,
            declared,
            sent,
        });
        let result = check_run(fed.collect(), fetched.iter().copied());
        let text = result.err().map_or_else(String::new, |it| it.to_string());
        assert_eq!(text, expected);
    }

    // Recorded: `s0/i10:0` comes before `s0/i1:0`.
    #[test]
    fn position_counts_tensors_by_name() {
        let fed = [
            ("s0/i1:0", FLOAT, INT64),
            ("s0/i0:0", FLOAT, FLOAT),
            ("s0/i10:0", FLOAT, FLOAT),
        ];
        check(
            &fed,
            &[],
            "Expects arg[2] to be float but int64 is provided",
        );
    }

    #[test]
    fn first_wrong_tensor_is_named() {
        let fed = [("b", FLOAT, INT64), ("a", INT64, DataType::Int4)];
        check(&fed, &[], "Expects arg[0] to be int64 but int4 is provided");
    }

    // The graph is pruned before the values are checked.
    #[test]
    fn names_are_checked_before_dtypes() {
        let fed = [("b", FLOAT, INT64), ("a", FLOAT, FLOAT)];
        check(&fed, &["y", "b", "a"], "a is both fed and fetched.");
        let fed = [
            ("b", FLOAT, INT64),
            ("a", FLOAT, FLOAT),
            ("b", FLOAT, FLOAT),
        ];
        check(&fed, &["a"], "Endpoint \"b\" fed more than once.");
    }

    #[test]
    fn right_run_passes() {
        check(&[("a", FLOAT, FLOAT), ("b", INT64, INT64)], &["y"], "");
        check(&[], &["c"], "");
    }
}
