//! Which children of a base path are versions, and which of them a policy aspires.
//!
//! Pure functions. Not here: listing directories (`source::storage`), when to look (`source`).

use std::collections::BTreeMap;

use tracing::warn;

use proto::tensorflow::serving::file_system_storage_path_source_config::ServableVersionPolicy;
use proto::tensorflow::serving::file_system_storage_path_source_config::servable_version_policy::PolicyChoice;

/// Which versions of a model to serve (`ServableVersionPolicy`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VersionPolicy {
    /// The `n` highest; never 0.
    Latest(usize),
    /// All versions.
    All,
    /// These versions, if they exist.
    Specific(Vec<i64>),
}

impl VersionPolicy {
    /// The policy of a configuration. Without one, it is the latest version; so it is for `latest {}`
    /// and for a number of 0.
    pub fn from_config(config: Option<&ServableVersionPolicy>) -> Self {
        match config.and_then(|config| config.policy_choice.as_ref()) {
            None => Self::Latest(1),
            Some(PolicyChoice::Latest(latest)) => Self::Latest(latest.num_versions.max(1) as usize),
            Some(PolicyChoice::All(_)) => Self::All,
            Some(PolicyChoice::Specific(specific)) => Self::Specific(specific.versions.clone()),
        }
    }
}

/// The version number in a child's name, as Abseil's `SimpleAtoi` reads an int64: the whole name,
/// base 10, with an optional sign, leading zeros and ASCII blanks around it. A negative number is
/// also a version.
pub(crate) fn parse_version(name: &str) -> Option<i64> {
    let digits = name.trim_matches(|c: char| c.is_ascii_whitespace() || c == '\x0b');
    let (negative, digits) = match digits.as_bytes().first()? {
        b'-' => (true, &digits[1..]),
        b'+' => (false, &digits[1..]),
        _ => (false, digits),
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    // The smallest number has no positive counterpart.
    let number: i128 = digits.parse().ok()?;
    i64::try_from(if negative { -number } else { number }).ok()
}

/// The aspired children of `model`'s base path: version and name, highest version first.
pub(crate) fn aspired_children(
    model: &str,
    policy: &VersionPolicy,
    mut children: Vec<String>,
) -> Vec<(i64, String)> {
    // For names with the same number, byte order decides.
    children.sort();
    let keep_last = *policy != VersionPolicy::All;
    let versions = name_by_version(children, keep_last);
    match policy {
        VersionPolicy::All => versions.into_iter().rev().collect(),
        VersionPolicy::Latest(count) => versions.into_iter().rev().take(*count).collect(),
        VersionPolicy::Specific(wanted) => specific(model, wanted, versions),
    }
}

/// If several names have the same number: with `keep_last` the last one wins, as in TensorFlow
/// Serving for the latest and specific policies; otherwise the first one.
fn name_by_version(sorted: Vec<String>, keep_last: bool) -> BTreeMap<i64, String> {
    let mut versions: BTreeMap<i64, String> = BTreeMap::new();
    for name in sorted {
        let Some(version) = parse_version(&name) else {
            continue;
        };
        match versions.get_mut(&version) {
            None => {
                versions.insert(version, name);
            }
            Some(kept) => {
                let ignored = if keep_last {
                    std::mem::replace(kept, name)
                } else {
                    name
                };
                warn!(
                    "Duplicate version directories detected. Version {version} will be loaded \
                     from {kept}, {ignored} will be ignored."
                );
            }
        }
    }
    versions
}

fn specific(
    model: &str,
    wanted: &[i64],
    mut versions: BTreeMap<i64, String>,
) -> Vec<(i64, String)> {
    if wanted.is_empty() {
        warn!("No specific versions requested for servable {model}.");
    }
    let mut found = BTreeMap::new();
    for version in wanted {
        if let Some(name) = versions.remove(version) {
            found.insert(*version, name);
        } else if !found.contains_key(version) {
            warn!(
                "Version {version} of servable {model}, which was requested to be served as a \
                 'specific' version in the servable's version policy, was not found in the file \
                 system"
            );
        }
    }
    found.into_iter().rev().collect()
}

#[cfg(test)]
mod tests;
