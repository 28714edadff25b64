//! The report of `check`.

use super::*;

#[test]
fn check_runs_every_signature() {
    let serve = ["serve".to_owned()];
    let zoo = project().join("tests/data/zoo");
    let report = check(backend(), &zoo.join("half_plus_two/1"), &serve);
    assert!(report.passed, "{}", report.text);
    assert_eq!(report.text.lines().count(), 7, "{}", report.text);
    let report = check(backend(), &zoo.join("text_split/1"), &serve);
    assert!(!report.passed);
    assert!(
        report.text.contains("StaticRegexReplace"),
        "{}",
        report.text
    );
}
