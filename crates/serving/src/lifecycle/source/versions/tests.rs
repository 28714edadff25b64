//! Names and policies, against Abseil's `SimpleAtoi` and
//! `file_system_storage_path_source_test.cc`, whose cases are named in comments.

use proptest::prelude::*;

use super::*;
use proto::tensorflow::serving::file_system_storage_path_source_config::servable_version_policy::{
    All, Latest, Specific,
};

fn aspired(policy: &VersionPolicy, children: &[&str]) -> Vec<(i64, String)> {
    let children = children.iter().map(|&name| name.to_owned()).collect();
    aspired_children("m", policy, children)
}

#[track_caller]
fn check(policy: VersionPolicy, children: &[&str], expected: &[(i64, &str)]) {
    let aspired = aspired(&policy, children);
    let aspired: Vec<_> = aspired
        .iter()
        .map(|(v, name)| (*v, name.as_str()))
        .collect();
    assert_eq!(aspired, expected);
}

#[test]
fn version_names_parse_as_simple_atoi_does() {
    let good = [
        ("0", 0),
        ("1", 1),
        ("00000123", 123),
        ("+5", 5),
        (" 7", 7),
        ("7\t", 7),
        ("\x0b8\n", 8),
        ("-0", 0),
        // Observed in TensorFlow Serving 2.20: such a directory is served.
        ("-3", -3),
        (" -007 ", -7),
        ("-9223372036854775808", i64::MIN),
        // ParseTimestampedVersion
        ("20170111173521", 20_170_111_173_521),
        ("9223372036854775807", i64::MAX),
    ];
    for (name, version) in good {
        assert_eq!(parse_version(name), Some(version), "{name:?}");
    }
    let bad = [
        "",
        " ",
        "+",
        "-",
        "+-1",
        "--1",
        "1.0",
        "1e3",
        "0x10",
        "12a",
        "2.denied",
        "1_000",
        "- 1",
        "1 2",
        "9223372036854775808",
        "99999999999999999999",
        "\u{a0}1",
        "١",
        "-9223372036854775809",
        "--3",
        "-+3",
    ];
    for name in bad {
        assert_eq!(parse_version(name), None, "{name:?}");
    }
}

proptest! {
    #[test]
    fn every_number_is_a_version_however_padded(
        version in 0..=i64::MAX, zeros in 0..30_usize, sign in "[+]?", blanks in "[ \t\r\n]{0,3}",
    ) {
        let name = format!("{blanks}{sign}{}{version}{blanks}", "0".repeat(zeros));
        prop_assert_eq!(parse_version(&name), Some(version));
    }

    #[test]
    fn any_name_follows_the_rule(name in r"[ \t+\-0-9a-z._]{0,8}") {
        let is_version = |name: &str| {
            let name = name.trim_matches([' ', '\t']);
            let digits = name.strip_prefix(['+', '-']).unwrap_or(name);
            !digits.is_empty() && digits.chars().all(|c| c.is_ascii_digit())
        };
        prop_assert_eq!(parse_version(&name).is_some(), is_version(&name));
    }

    #[test]
    fn arbitrary_names_never_panic(name in any::<String>()) {
        let _ = parse_version(&name);
    }
}

// MultipleVersions
#[test]
fn latest_version_is_the_highest_number() {
    check(
        VersionPolicy::Latest(1),
        &["non_numerical_child", "42", "17"],
        &[(42, "42")],
    );
}

// MultipleVersionsAtTheSameTime
#[test]
fn all_versions_are_all_numbers() {
    check(
        VersionPolicy::All,
        &["non_numerical_child", "17", "42"],
        &[(42, "42"), (17, "17")],
    );
}

// NLatestVersions
#[test]
fn latest_n_versions_come_highest_first() {
    let children = ["42", "33", "30", "21", "17"];
    let expected = [(42, "42"), (33, "33"), (30, "30")];
    check(VersionPolicy::Latest(3), &children, &expected);
    check(VersionPolicy::Latest(9), &["1"], &[(1, "1")]);
}

// SpecificVersions, SpecificVersionsLeadingZeros, SpecificVersionsEmpty
#[test]
fn specific_versions_are_those_that_exist() {
    let specific = |versions: &[i64]| VersionPolicy::Specific(versions.to_vec());
    check(
        specific(&[17, 30]),
        &["non_numerical_child", "42", "33", "30", "21", "17"],
        &[(30, "30"), (17, "17")],
    );
    check(
        specific(&[17, 30, 17, 99]),
        &["00017", "30"],
        &[(30, "30"), (17, "00017")],
    );
    check(specific(&[]), &["1"], &[]);
}

// DuplicateVersions; which name wins is lifecycle.md 2.1
#[test]
fn one_name_wins_for_each_number() {
    let children = ["001", "1", "0001", "2"];
    check(VersionPolicy::Latest(2), &children, &[(2, "2"), (1, "1")]);
    check(VersionPolicy::Specific(vec![1]), &children, &[(1, "1")]);
    check(VersionPolicy::All, &children, &[(2, "2"), (1, "0001")]);
}

// ServableVersionDirRenamed
#[test]
fn renamed_directories_are_withdrawn() {
    check(
        VersionPolicy::All,
        &["1", "2.denied", "3", "5.denied"],
        &[(3, "3"), (1, "1")],
    );
}

// DefaultVersionPolicy, DefaultNumLatestVersions
#[test]
fn policy_defaults_to_the_latest_version() {
    let from = |choice| {
        VersionPolicy::from_config(Some(&ServableVersionPolicy {
            policy_choice: choice,
        }))
    };
    assert_eq!(VersionPolicy::from_config(None), VersionPolicy::Latest(1));
    assert_eq!(from(None), VersionPolicy::Latest(1));
    let latest = |num_versions| Some(PolicyChoice::Latest(Latest { num_versions }));
    assert_eq!(from(latest(0)), VersionPolicy::Latest(1));
    assert_eq!(from(latest(4)), VersionPolicy::Latest(4));
    assert_eq!(from(Some(PolicyChoice::All(All {}))), VersionPolicy::All);
    let specific = Specific { versions: vec![3] };
    assert_eq!(
        from(Some(PolicyChoice::Specific(specific))),
        VersionPolicy::Specific(vec![3])
    );
}
