//! The order of loads and unloads that keeps a model available
//! (`core/availability_preserving_policy.cc`).
//!
//! Pure functions. Not here: performing the actions (`serving::lifecycle::manager`).

/// The state of a version, as far as the policy needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Not loaded yet.
    New,
    /// Being loaded.
    Loading,
    /// Serving.
    Ready,
    /// Serving, and its files have changed since it was loaded.
    Changed,
    /// Being unloaded.
    Unloading,
    /// Failed to load.
    Failed,
}

/// One managed version of a model.
#[derive(Clone, Copy, Debug)]
pub(crate) struct VersionStanding {
    pub(crate) version: i64,
    pub(crate) standing: Standing,
    pub(crate) is_aspired: bool,
}

/// The next action for a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Load this version.
    Load(i64),
    /// Load this version, which serves, again from its current files.
    LoadAgain(i64),
    /// Unload this version.
    Unload(i64),
}

/// The next action for a model: an old version is unloaded once a wanted one serves, one old version
/// stays while no wanted one does, and the highest wanted version is loaded first. A version that
/// already serves is loaded again only if there is nothing else to load.
pub(crate) fn next_action(versions: &[VersionStanding]) -> Option<Action> {
    let serves = |it: &VersionStanding| matches!(it.standing, Standing::Ready | Standing::Changed);
    let aspired = || versions.iter().filter(|it| it.is_aspired);
    let highest = |standing| {
        let versions = aspired().filter(move |it| it.standing == standing);
        versions.map(|it| it.version).max()
    };
    let unwanted = || {
        let unwanted = versions.iter().filter(|it| !it.is_aspired && serves(it));
        unwanted.map(|it| it.version)
    };

    let nothing_aspired = aspired().next().is_none();
    let aspired_serves = aspired().any(serves);
    if (nothing_aspired || aspired_serves || unwanted().count() > 1)
        && let Some(lowest) = unwanted().min()
    {
        return Some(Action::Unload(lowest));
    }
    let again = || highest(Standing::Changed).map(Action::LoadAgain);
    highest(Standing::New).map(Action::Load).or_else(again)
}

#[cfg(test)]
mod tests {
    use super::Standing::{Changed, Failed, Loading, New, Ready, Unloading};
    use super::*;

    /// Each version has its standing and whether it is aspired.
    #[track_caller]
    fn check(versions: &[(i64, Standing, bool)], action: Option<Action>) {
        let versions: Vec<_> = versions
            .iter()
            .map(|&(version, standing, is_aspired)| VersionStanding {
                version,
                standing,
                is_aspired,
            })
            .collect();
        assert_eq!(next_action(&versions), action);
    }

    // The cases of `core/availability_preserving_policy_test.cc`, by their names there. Its
    // "disabled" is a version that is gone, which is not managed here.

    #[test]
    fn loads_new_aspired() {
        check(
            &[
                (1, Unloading, false),
                (2, Failed, false),
                (3, Ready, true),
                (4, New, true),
                (5, New, true),
            ],
            Some(Action::Load(5)),
        );
    }

    #[test]
    fn unloads_non_aspired_first() {
        check(
            &[(3, Ready, false), (4, Ready, true), (5, New, true)],
            Some(Action::Unload(3)),
        );
    }

    #[test]
    fn unloads_first_non_aspired_when_no_aspired() {
        check(&[(2, Ready, false)], Some(Action::Unload(2)));
    }

    #[test]
    fn returns_no_action_when_none() {
        check(
            &[
                (1, Ready, true),
                (2, Failed, true),
                (3, Loading, true),
                (4, Unloading, false),
            ],
            None,
        );
    }

    #[test]
    fn does_not_unload_when_other_not_ready() {
        check(&[(1, Ready, false), (2, Loading, true)], None);
    }

    #[test]
    fn does_not_unload_when_other_in_error() {
        check(&[(1, Ready, false), (2, Failed, true)], None);
    }

    #[test]
    fn unload_if_other_ready_even_if_loading() {
        check(
            &[(1, Ready, false), (2, Loading, true), (3, Ready, true)],
            Some(Action::Unload(1)),
        );
    }

    #[test]
    fn unload_if_other_ready_even_if_error() {
        check(
            &[(1, Ready, false), (2, Failed, true), (3, Ready, true)],
            Some(Action::Unload(1)),
        );
    }

    #[test]
    fn unload_if_no_aspired_versions_ready() {
        check(
            &[
                (2, Ready, false),
                (1, Ready, false),
                (3, Failed, true),
                (4, Loading, true),
            ],
            Some(Action::Unload(1)),
        );
    }

    // `core/aspired_version_policy_test.cc`.
    #[test]
    fn highest_aspired_new_loads_first() {
        check(&[(1, New, true), (10, New, false)], Some(Action::Load(1)));
        check(&[(10, New, false)], None);
    }

    #[test]
    fn changed_version_serves_and_is_loaded_last() {
        check(
            &[(1, Ready, false), (2, Changed, true)],
            Some(Action::Unload(1)),
        );
        check(&[(1, New, true), (2, Changed, true)], Some(Action::Load(1)));
        check(
            &[(1, Changed, true), (2, Changed, true), (3, Loading, true)],
            Some(Action::LoadAgain(2)),
        );
        check(&[(1, Changed, false), (2, Failed, true)], None);
    }
}
