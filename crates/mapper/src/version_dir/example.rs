//! The body of a valid request to a version, for the command `example`.
//!
//! Not here: how it is made up (`signature::sample`).

use std::collections::BTreeSet;
use std::path::Path;

use super::SavedModelOptions;
use super::prepared::Prepared;
use super::show::check_tag_set;
use crate::signature::DEFAULT_SIGNATURE_NAME;
use base::error::{Result, ServingError};

/// The body of a valid REST request to a signature of the version in `directory`. Without a name it is
/// `serving_default`, or the only one.
///
/// # Errors
///
/// The errors of a load, except those that only a backend reports; `NOT_FOUND` for a signature that does not exist;
/// `INVALID_ARGUMENT` if no request can be made up.
pub fn example(directory: &Path, tags: &[String], signature: Option<&str>) -> Result<String> {
    check_tag_set(directory, tags)?;
    let options = SavedModelOptions {
        tags: tags.to_vec(),
        partial: true,
    };
    let prepared = Prepared::read(directory, &options, &BTreeSet::new())?;
    let signatures = &prepared.signatures;
    let wanted = signature.unwrap_or(DEFAULT_SIGNATURE_NAME);
    let found = signatures.iter().find(|it| it.name() == wanted);
    let only = match (signature, signatures.as_slice()) {
        (None, [only]) => Some(only),
        _ => None,
    };
    let found = found.or(only).ok_or_else(|| {
        let names: Vec<&str> = signatures.iter().map(|it| it.name()).collect();
        ServingError::not_found(format!(
            "the model has no signature '{wanted}'. It has {}",
            names.join(", ")
        ))
    })?;
    found.sample_body()
}
